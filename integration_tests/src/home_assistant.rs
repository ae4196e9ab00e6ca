//! [`HomeAssistant`]: the real one, in a [`Release`].
//!
//! It runs on loopback with a configuration of its own, needs no set-up by hand and trusts whoever
//! asks. Nothing is installed while it runs: `integration_tests/run` has done so.

mod configuration;
mod release;

use std::{path::Path, process::Stdio, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;

pub use release::{Release, has_python_3_13};

/// The integration that is added in a dialog and asks for `POST /stream`.
const INTEGRATION: &str = "rtsp_to_webrtc";

/// A running Home Assistant, ended when dropped.
#[derive(Debug)]
pub struct HomeAssistant {
    release: Release,
    process: Child,
    folder: TempDir,
    base: String,
    http: reqwest::Client,
    token: String,
}

impl HomeAssistant {
    /// Starts with cameras, each a name and the URL of its stream, and with a dashboard on which each has
    /// a Picture Entity card that shows it live.
    ///
    /// # Panics
    /// When it is not ready after two minutes, with its log.
    pub async fn start(release: Release, cameras: &[(&str, &str)]) -> Self {
        Self::run(release, cameras, None).await
    }

    /// Likewise, with `go2rtc: url:` in its configuration.
    ///
    /// # Panics
    /// When it is not ready after two minutes, with its log.
    pub async fn start_with_go2rtc(url: &str, cameras: &[(&str, &str)]) -> Self {
        Self::run(Release::January2025, cameras, Some(url)).await
    }

    async fn run(release: Release, cameras: &[(&str, &str)], go2rtc: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        configuration::write(folder.path(), port, cameras, go2rtc);
        let log = std::fs::File::create(folder.path().join("output.log"))
            .expect("a file can be made in it");
        let program = release.program();
        let mut process = Command::new(&program)
            .arg("--config")
            .arg(folder.path())
            .arg("--skip-pip")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        let base = format!("http://127.0.0.1:{port}");
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client without TLS can be built");
        let limit = Duration::from_mins(2);
        let token = crate::eventually("Home Assistant lets us in", limit, || {
            let ended = process.try_wait().expect("a child can be asked for");
            assert!(
                ended.is_none(),
                "Home Assistant ended: {}",
                output(folder.path())
            );
            log_in(&http, &base)
        })
        .await;
        let home_assistant = Self {
            release,
            process,
            folder,
            base,
            http,
            token,
        };
        crate::eventually("Home Assistant runs", limit, || async {
            let config = home_assistant.get("/api/config").await;
            if config["state"] == "RUNNING" {
                Ok(())
            } else {
                Err(home_assistant.log())
            }
        })
        .await;
        home_assistant
    }

    /// The dashboard with the cameras.
    #[must_use]
    pub fn dashboard(&self) -> String {
        format!("{}/lovelace/0", self.base)
    }

    /// Everything it printed until now.
    #[must_use]
    pub fn log(&self) -> String {
        output(self.folder.path())
    }

    /// `GET path` of its API, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    /// `POST path` of its API with a JSON body, as JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body))
            .await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request
            .bearer_auth(&self.token)
            .send()
            .await
            .expect("Home Assistant replies");
        let status = response.status();
        let text = response.text().await.expect("the reply is whole");
        assert!(status.is_success(), "{status} {text}\n{}", self.log());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
    }

    /// One command of its WebSocket API: the result, or the error object if it failed.
    ///
    /// # Panics
    /// When there is no reply within 30 s.
    pub async fn command(&self, mut command: Value) -> Result<Value, Value> {
        let url = format!("{}/api/websocket", self.base.replace("http", "ws"));
        let (mut socket, _) = tokio_tungstenite::connect_async(url)
            .await
            .expect("Home Assistant has a WebSocket");
        command["id"] = json!(1);
        let conversation = async {
            while let Some(message) = socket.next().await {
                let Message::Text(text) = message.expect("the WebSocket stays open") else {
                    continue;
                };
                let mut message: Value =
                    serde_json::from_str(&text).expect("every message is JSON");
                let reply = match message["type"].as_str() {
                    Some("auth_required") => json!({ "type": "auth", "access_token": self.token }),
                    Some("auth_ok") => command.clone(),
                    Some("result") if message["success"] == true => {
                        return Ok(message["result"].take());
                    }
                    Some("result") => return Err(message["error"].take()),
                    _ => panic!("unexpected: {message}"),
                };
                socket
                    .send(Message::text(reply.to_string()))
                    .await
                    .expect("the WebSocket stays open");
            }
            panic!("Home Assistant closed the WebSocket; {}", self.log());
        };
        tokio::time::timeout(Duration::from_secs(30), conversation)
            .await
            .expect("Home Assistant replies within 30 s")
    }

    /// Adds the integration as a user does, in the dialog that asks for the server's URL, and gives what
    /// the dialog shows then.
    ///
    /// # Panics
    /// When the dialog does not ask for it.
    pub async fn add_integration(&self, server_url: &str) -> Value {
        let flows = "/api/config/config_entries/flow";
        let form = self.post(flows, &json!({ "handler": INTEGRATION })).await;
        assert_eq!(form["step_id"], "user", "{form}");
        let flow = format!("{flows}/{}", text(&form["flow_id"]));
        self.post(&flow, &json!({ "server_url": server_url })).await
    }

    /// The integration's state and the identifier of its entry.
    ///
    /// # Panics
    /// When it was not added.
    pub async fn integration(&self) -> (String, String) {
        let entry = self.entry_of(INTEGRATION).await;
        (text(&entry["state"]), text(&entry["entry_id"]))
    }

    /// The first entry of an integration, null where there is none.
    pub async fn entry_of(&self, integration: &str) -> Value {
        let path = format!("/api/config/config_entries/entry?domain={integration}");
        // Not `take`, which panics where there is none.
        self.get(&path).await[0].clone()
    }

    /// Whether the frontend is told to watch a camera over WebRTC.
    ///
    /// # Errors
    /// What it is told, if it is not.
    ///
    /// # Panics
    /// When Home Assistant does not reply.
    pub async fn offers_webrtc_of(&self, camera: &str) -> Result<(), String> {
        let camera = format!("camera.{camera}");
        let told = match self.release {
            Release::March2024 => {
                let mut state = self.get(&format!("/api/states/{camera}")).await;
                json!([state["attributes"]["frontend_stream_type"].take()])
            }
            Release::January2025 => {
                let command = json!({ "type": "camera/capabilities", "entity_id": camera });
                match self.command(command).await {
                    Ok(mut capabilities) => capabilities["frontend_stream_types"].take(),
                    Err(error) => error,
                }
            }
        };
        let kinds = told.as_array().map(Vec::as_slice).unwrap_or_default();
        if kinds.contains(&json!("web_rtc")) {
            Ok(())
        } else {
            Err(told.to_string())
        }
    }

    /// Sets the STUN server in the integration's options and gives what the dialog shows then.
    ///
    /// # Panics
    /// When the integration was not added, or the dialog does not ask for it.
    pub async fn set_stun_server(&self, stun_server: &str) -> Value {
        let (_, entry) = self.integration().await;
        let flows = "/api/config/config_entries/options/flow";
        let form = self.post(flows, &json!({ "handler": entry })).await;
        assert_eq!(form["step_id"], "init", "{form}");
        let flow = format!("{flows}/{}", text(&form["flow_id"]));
        self.post(&flow, &json!({ "stun_server": stun_server }))
            .await
    }

    /// The counters of the integration's client library, as its diagnostics show them.
    pub async fn diagnostics(&self) -> Value {
        let (_, entry) = self.integration().await;
        let mut all = self
            .get(&format!("/api/diagnostics/config_entry/{entry}"))
            .await;
        all["data"].take()
    }

    /// Asks it to end and waits, so that what it started ends too.
    ///
    /// # Panics
    /// When it takes longer than 30 s.
    pub async fn stop(mut self) {
        let pid = self.process.id().expect("Home Assistant runs");
        crate::server::signal(pid, "TERM").await;
        tokio::time::timeout(Duration::from_secs(30), self.process.wait())
            .await
            .unwrap_or_else(|_| panic!("Home Assistant still runs; {}", self.log()))
            .expect("a child can be waited for");
    }
}

async fn json_of(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let reply = request.send().await.map_err(|e| e.to_string())?;
    reply.json().await.map_err(|e| e.to_string())
}

/// Logs in as the only user, which needs no password from a trusted network, and gives a token.
async fn log_in(http: &reqwest::Client, base: &str) -> Result<String, String> {
    let flow = json!({
        "client_id": format!("{base}/"),
        "redirect_uri": format!("{base}/?auth_callback=1"),
        "handler": ["trusted_networks", null],
    });
    let flow = json_of(http.post(format!("{base}/auth/login_flow")).json(&flow)).await?;
    let code = flow["result"].as_str().ok_or_else(|| flow.to_string())?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", &format!("{base}/")),
    ];
    let token = json_of(http.post(format!("{base}/auth/token")).form(&form)).await?;
    token["access_token"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| token.to_string())
}

/// A port that is free now. Home Assistant cannot choose one itself.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}

fn output(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("output.log")).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}
