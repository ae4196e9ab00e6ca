//! [`Firefox`]: Debian's Firefox ESR without a window, driven by W3C's
//! bidirectional `WebDriver`, JSON over a WebSocket.

use std::{ffi::OsString, process::Stdio, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::server::Server;

/// Sound plays without a click, replies of the API are no pages, and nobody is called.
const PREFERENCES: &[(&str, &str)] = &[
    ("media.autoplay.default", "0"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("devtools.jsonview.enabled", "false"),
    ("app.update.disabledForTesting", "true"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
];

/// Longest a script in a page may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running Firefox with a profile of its own and one page, ended when dropped.
#[derive(Debug)]
pub struct Firefox {
    process: Child,
    wire: Mutex<Wire>,
    page: String,
    _profile: TempDir,
}

#[derive(Debug)]
struct Wire {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
}

impl Firefox {
    /// Starts, and opens a page of a server in which the functions of `browser/viewer.js` are there as
    /// `harness`. The program is `FIREFOX`, or `firefox-esr` on the path.
    ///
    /// # Panics
    /// When it cannot be driven within 30 s.
    pub async fn viewers_of(server: &Server) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let lines: Vec<_> = PREFERENCES
            .iter()
            .map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"))
            .collect();
        std::fs::write(profile.path().join("user.js"), lines.concat())
            .expect("a file can be made in it");
        let mut process = Command::new(program())
            .args(["--headless", "--no-remote", "--remote-debugging-port=0"])
            .arg("--profile")
            .arg(profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program().display()));
        let said = BufReader::new(process.stderr.take().expect("piped"));
        let url = tokio::time::timeout(Duration::from_secs(30), address_in(said))
            .await
            .expect("Firefox listens within 30 s");
        let (socket, _) = tokio_tungstenite::connect_async(format!("{url}/session"))
            .await
            .expect("Firefox speaks BiDi");
        let mut wire = Wire { socket, last: 0 };
        wire.call("session.new", json!({ "capabilities": {} }))
            .await;
        let tree = wire.call("browsingContext.getTree", json!({})).await;
        let page = tree["contexts"][0]["context"].as_str();
        let page = page.expect("a browser has a page").to_owned();
        let address = server.url("/health");
        wire.call(
            "browsingContext.navigate",
            json!({ "context": page, "url": address, "wait": "complete" }),
        )
        .await;
        let firefox = Self {
            process,
            wire: Mutex::new(wire),
            page,
            _profile: profile,
        };
        firefox.run(include_str!("browser/viewer.js")).await;
        firefox
    }

    /// The value of an expression, of what it promises if it is a promise. It counts as a click of the
    /// user.
    ///
    /// # Panics
    /// When it throws, with what it threw, or takes longer than 20 s.
    pub async fn evaluate(&self, expression: &str) -> Value {
        // As text: BiDi has an own notation for objects.
        let outcome = self
            .run(&format!(
                "(async () => JSON.stringify(await ({expression})))()"
            ))
            .await;
        let text = outcome["result"]["value"].as_str();
        text.map_or(Value::Null, |text| {
            serde_json::from_str(text).expect("the page wrote JSON")
        })
    }

    /// Runs a script in the page, whatever its content security policy.
    async fn run(&self, script: &str) -> Value {
        let options = json!({
            "expression": script,
            "target": { "context": self.page },
            "awaitPromise": true,
            "userActivation": true,
        });
        let mut wire = self.wire.lock().await;
        let outcome = tokio::time::timeout(PATIENCE, wire.call("script.evaluate", options))
            .await
            .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {script}"));
        let thrown = &outcome["exceptionDetails"]["text"];
        assert!(thrown.is_null(), "the page threw {thrown}");
        outcome
    }
}

impl Drop for Firefox {
    /// Waits for its end, or it would write into a profile that is being removed.
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        for _ in 0..100 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Wire {
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let message = json!({ "id": self.last, "method": method, "params": parameters });
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .expect("Firefox listens");
        loop {
            let message = self.socket.next().await.expect("Firefox goes on");
            let message = message.expect("Firefox speaks WebSocket");
            let mut reply: Value =
                serde_json::from_str(message.to_text().unwrap_or_default()).unwrap_or_default();
            if reply["id"] == self.last {
                assert_eq!(reply["type"], "success", "{method}: {reply}");
                return reply["result"].take();
            }
        }
    }
}

/// Whether Firefox is there.
///
/// # Panics
/// When it is not and this is CI; elsewhere it says so.
#[must_use]
pub fn installed() -> bool {
    crate::tools::has(&program().to_string_lossy(), &["--version"], "firefox-esr")
}

fn program() -> std::path::PathBuf {
    std::env::var_os("FIREFOX")
        .unwrap_or_else(|| OsString::from("firefox-esr"))
        .into()
}

/// The address that it tells; what it says later is read and dropped, so that it never waits.
async fn address_in(said: BufReader<tokio::process::ChildStderr>) -> String {
    let mut lines = said.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, url)) = line.split_once("WebDriver BiDi listening on ") {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return url.trim().to_owned();
        }
    }
    panic!("Firefox ended");
}
