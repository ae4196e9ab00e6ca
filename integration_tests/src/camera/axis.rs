//! [`AxisProxy`]: makes a camera reachable by WebSocket, with the proxy of Axis's library.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A process that takes RTSP over WebSocket and passes on to a camera; ended when dropped.
#[derive(Debug)]
pub struct AxisProxy {
    _process: Child,
    port: u16,
}

impl AxisProxy {
    /// Starts before the camera at `port` of loopback; none where the library is not installed.
    ///
    /// # Panics
    /// When it is not installed and this is CI, or when the process fails.
    pub async fn before(port: u16) -> Option<Self> {
        let library = library();
        let asked = format!("require({:?})", library.to_string_lossy());
        let packages = "nodejs, and media-stream-library by integration_tests/run";
        if !crate::tools::has("node", &["-e", &asked], packages) {
            return None;
        }
        let mut process = Command::new("node")
            .arg(crate::folder().join("axis_proxy.cjs"))
            .arg(library)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is installed");
        let output = process.stdout.take().expect("it is piped");
        let line = BufReader::new(output).lines().next_line().await;
        let port = line.ok().flatten().and_then(|line| line.parse().ok());
        Some(Self {
            _process: process,
            port: port.expect("the proxy tells its port"),
        })
    }

    /// The port on which it does so.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the camera's stream at `path`, by way of the proxy.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let port = self.port;
        format!("ws://127.0.0.1:{port}/rtsp-over-websocket#rtsp={path}")
    }
}

fn library() -> PathBuf {
    crate::cache().join("media_stream_library/node_modules/media-stream-library")
}
