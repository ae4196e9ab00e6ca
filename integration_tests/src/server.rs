//! [`Server`]: the real binary on a free port.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

/// A running Porthole, ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    base: String,
    log: Arc<Mutex<String>>,
    http: reqwest::Client,
}

/// What an HTTP request gave: status, content type, body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The `Content-Type` header, or empty.
    pub content_type: String,
    /// The body as text.
    pub body: String,
    /// From sending the request to the last byte of the reply.
    pub took: Duration,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}), status {}: {}", self.status, self.body))
    }

    /// The text of the `error` key of a JSON reply.
    ///
    /// # Panics
    /// When the reply has none, or it is not a string.
    #[must_use]
    pub fn error(&self) -> String {
        assert!(
            self.content_type.starts_with("application/json"),
            "content type {:?}, status {}: {}",
            self.content_type,
            self.status,
            self.body
        );
        self.json()["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no error text in {}", self.body))
            .to_owned()
    }
}

impl Server {
    /// Starts with defaults on a free port of loopback.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with further arguments. The binary is `PORTHOLE_BIN`, or the release build of this
    /// workspace.
    ///
    /// # Panics
    /// When it does not print its address within 10 s.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::listening("127.0.0.1:0", arguments).await
    }

    /// Ends it as [`Self::terminate`] and starts another with defaults on the same port.
    pub async fn restarted(mut self) -> Self {
        self.terminate().await;
        let address = self.base.trim_start_matches("http://").to_owned();
        Self::listening(&address, &[]).await
    }

    /// Starts with further arguments under `wrapper`, which must become the server, as `strace -D` does.
    ///
    /// # Panics
    /// As [`start_with`](Self::start_with).
    pub async fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::listening_under(wrapper, "127.0.0.1:0", arguments).await
    }

    async fn listening(address: &str, arguments: &[&str]) -> Self {
        Self::listening_under(&[], address, arguments).await
    }

    async fn listening_under(wrapper: &[&str], address: &str, arguments: &[&str]) -> Self {
        let binary = binary();
        let mut command = match wrapper {
            [] => Command::new(&binary),
            [program, others @ ..] => {
                let mut command = Command::new(program);
                command.args(others).arg(&binary);
                command
            }
        };
        let mut child = command
            .args(["--listen", address, "--log", "debug"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", binary.display()));
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("piped"), Arc::clone(&log));
        keep(child.stderr.take().expect("piped"), Arc::clone(&log));
        let base = crate::eventually(
            "the server tells its address",
            Duration::from_secs(10),
            || {
                let text = log.lock().expect("no test panics with the lock").clone();
                async move { address_in(&text).ok_or(text) }
            },
        )
        .await;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without TLS can be built");
        Self {
            child,
            base,
            log,
            http,
        }
    }

    /// An absolute URL on this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// An HTTP client that follows no redirects and waits at most 30 s.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Everything that the server printed until now, standard output and error together.
    ///
    /// # Panics
    /// When a reader of the server's output has panicked.
    #[must_use]
    pub fn log(&self) -> String {
        self.log
            .lock()
            .expect("no test panics with the lock")
            .clone()
    }

    /// The process id.
    ///
    /// # Panics
    /// When the server has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Sends a request and reads the whole reply.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let start = Instant::now();
        let response = request.send().await.expect("the server replies");
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let body = response.text().await.expect("the reply is whole");
        Reply {
            status,
            content_type,
            body,
            took: start.elapsed(),
        }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(self.url(path))).await
    }

    /// `POST path` with form fields.
    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.send(self.http.post(self.url(path)).form(fields)).await
    }

    /// The exchange that Home Assistant makes: `POST /stream` with `url` and `sdp64`.
    pub async fn offer(&self, camera: &str, sdp: &str) -> Reply {
        self.post_form(
            "/stream",
            &[("url", camera), ("sdp64", &BASE64.encode(sdp))],
        )
        .await
    }

    /// Asks the server to end as a container engine does, and tells how it ended and how long it took.
    ///
    /// # Panics
    /// When it takes longer than 20 s.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        signal(self.pid(), "TERM").await;
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("still running 20 s after SIGTERM; log:\n{}", self.log()))
            .expect("a child can be waited for");
        (status, start.elapsed())
    }
}

/// The program: `PORTHOLE_BIN`, or the release build of this workspace.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("PORTHOLE_BIN").map_or_else(
        || crate::folder().join("../target/release/porthole"),
        PathBuf::from,
    )
}

/// Sends a signal to a process that this test started.
///
/// # Panics
/// When there is no such process.
pub async fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .await
        .expect("kill is there");
    assert!(sent.success(), "no process {pid} to signal");
}

/// The SDP in the `sdp64` key of a successful reply.
///
/// # Panics
/// When the reply is an error or its base64 is not standard and padded.
#[must_use]
pub fn answer_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    let text = json["sdp64"].as_str().expect("sdp64 is a string");
    String::from_utf8(BASE64.decode(text).expect("standard padded base64")).expect("SDP is UTF-8")
}

fn keep(stream: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().expect("no test panics with the lock");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// The `http://127.0.0.1:PORT` of the line that says what to open.
fn address_in(log: &str) -> Option<String> {
    const START: &str = "http://127.0.0.1:";
    let (_, rest) = log.split_once(START)?;
    // A line that is still being written may lack digits.
    let (port, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
    (!port.is_empty()).then(|| format!("{START}{port}"))
}
