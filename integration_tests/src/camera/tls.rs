//! [`TlsFront`]: makes a camera reachable by TLS, with a certificate that nobody vouches for.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::Camera;

/// A process that takes TLS and passes on to a camera; ended when dropped.
#[derive(Debug)]
pub struct TlsFront {
    _process: Child,
    certificate: TempDir,
    port: u16,
}

impl TlsFront {
    /// Starts before `camera`, as [`Self::before_port`].
    pub async fn before(camera: &Camera) -> Self {
        Self::before_port(camera.port()).await
    }

    /// Starts before a port of loopback, with a fresh certificate for `localhost` that it signed itself.
    ///
    /// # Panics
    /// When `openssl` or the process fails.
    pub async fn before_port(port: u16) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let (certificate, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .await
            .expect("openssl is installed");
        assert!(made.success(), "openssl made no certificate");
        let mut process = Command::new(super::PYTHON)
            .arg(crate::folder().join("tls_front.py"))
            .args([&certificate, &key])
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python is installed");
        let output = process.stdout.take().expect("it is piped");
        let line = BufReader::new(output).lines().next_line().await;
        let port = line.ok().flatten().and_then(|line| line.parse().ok());
        Self {
            _process: process,
            certificate: folder,
            port: port.expect("the front tells its port"),
        }
    }

    /// The SHA-256 of its certificate as `openssl` writes it: pairs of digits with colons between.
    ///
    /// # Panics
    /// When `openssl` fails.
    pub async fn fingerprint(&self) -> String {
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(self.certificate.path().join("cert.pem"))
            .output()
            .await
            .expect("openssl is installed");
        let text = String::from_utf8(output.stdout).expect("openssl writes text");
        let (_, digits) = text.trim().split_once('=').expect("openssl names it first");
        digits.to_owned()
    }

    /// The port that takes TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The camera's URL behind TLS, by `scheme` and `host`.
    #[must_use]
    pub fn url(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}/live", self.port)
    }
}
