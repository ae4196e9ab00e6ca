//! [`Browser`]: Debian's Chromium without a window, driven over its own `DevTools` protocol.

mod devtools;
mod watch;

use std::{ffi::OsString, path::Path, process::Stdio, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::server::Server;

use devtools::Wire;

pub use devtools::ConsoleMessage;
pub use watch::{Report, Shown, Viewer, Watch};

/// Headless, private, and as awake as a browser in the foreground.
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--window-size=1280,900",
    "--remote-debugging-port=0",
];

/// A running Chromium with a profile of its own, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    wire: Arc<Wire>,
    _profile: TempDir,
}

/// A page in its own window. It stays open as long as the [`Browser`], or until [`Self::close`].
#[derive(Debug, Clone)]
pub struct Page {
    wire: Arc<Wire>,
    target: String,
    session: String,
}

impl Browser {
    /// Starts as people have it: the addresses of the machine are hidden from pages.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with addresses in offers, instead of names that only multicast DNS can resolve.
    pub async fn showing_addresses() -> Self {
        Self::start_with(&["--disable-features=WebRtcHideLocalIpsWithMdns"]).await
    }

    /// Starts with further arguments. The program is `CHROMIUM`, or `chromium` on the path.
    ///
    /// # Panics
    /// When it cannot be driven within 30 s.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let log = profile.path().join("stderr.log");
        let stderr = std::fs::File::create(&log).expect("a file can be made in it");
        let process = Command::new(program())
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(arguments)
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", program().display()));
        let address = profile.path().join("DevToolsActivePort");
        let url = crate::eventually("Chromium listens", Duration::from_secs(30), || async {
            let text = std::fs::read_to_string(&address).unwrap_or_default();
            let (port, path) = text.split_once('\n').unwrap_or_default();
            if path.is_empty() {
                return Err(std::fs::read_to_string(&log).unwrap_or_default());
            }
            Ok(format!("ws://127.0.0.1:{port}{path}"))
        })
        .await;
        Self {
            process,
            wire: Wire::connect(&url).await,
            _profile: profile,
        }
    }

    /// Opens a page and waits until it is loaded.
    pub async fn page(&self, url: &str) -> Page {
        let page = self.blank_page().await;
        page.open(url).await;
        page
    }

    /// Opens a page of a server in which [`Page::watch`] works: the origin is the server's, the script is
    /// ours.
    pub async fn viewers_of(&self, server: &Server) -> Page {
        let page = self.blank_page().await;
        page.call("Page.setBypassCSP", json!({ "enabled": true }))
            .await;
        page.open(&server.url("/health")).await;
        page
    }

    async fn blank_page(&self) -> Page {
        // A window each: the browser does not render a tab behind another one.
        let options = json!({ "url": "about:blank", "newWindow": true });
        let created = self.wire.call(None, "Target.createTarget", options).await;
        let target = text_of(&created["targetId"]);
        let options = json!({ "targetId": target, "flatten": true });
        let attached = self.wire.call(None, "Target.attachToTarget", options).await;
        let session = text_of(&attached["sessionId"]);
        let page = Page {
            wire: Arc::clone(&self.wire),
            target,
            session,
        };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page
    }
}

impl Drop for Browser {
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

impl Page {
    /// Goes to another address and waits until it is loaded.
    ///
    /// # Panics
    /// When it cannot be loaded.
    pub async fn open(&self, url: &str) {
        let went = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(went["errorText"].is_null(), "{url}: {went}");
        crate::eventually(
            &format!("{url} is loaded"),
            Duration::from_secs(20),
            || async {
                let state = self.evaluate("document.readyState").await;
                if state == "complete" {
                    Ok(())
                } else {
                    Err(state.to_string())
                }
            },
        )
        .await;
    }

    /// The value of an expression, of what it promises if it is a promise. It counts as a click of the
    /// user. When the page leads on to another one meanwhile, as one that logs in does, the expression
    /// is evaluated there.
    ///
    /// # Panics
    /// When it throws, with what it threw.
    pub async fn evaluate(&self, expression: &str) -> Value {
        let options = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let mut outcome = loop {
            let session = Some(self.session.as_str());
            match self
                .wire
                .try_call(session, "Runtime.evaluate", options.clone())
                .await
            {
                Ok(outcome) => break outcome,
                Err(refusal) if refusal.contains("navigated") => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(refusal) => panic!("Runtime.evaluate: {refusal}"),
            }
        };
        let thrown = &outcome["exceptionDetails"];
        assert!(
            thrown.is_null(),
            "the page threw {}",
            thrown["exception"]["description"]
                .as_str()
                .unwrap_or(&thrown.to_string())
        );
        outcome["result"]["value"].take()
    }

    /// Saves what the page looks like as PNG, in a folder that is made if need be.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub async fn screenshot(&self, path: &Path) {
        let taken = self.call("Page.captureScreenshot", json!({})).await;
        let png = BASE64
            .decode(text_of(&taken["data"]))
            .expect("DevTools speaks base64");
        let folder = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(path, png).expect("the file can be written");
    }

    /// Everything on the console until now, the browser's own complaints (such as of the content
    /// security policy) and uncaught exceptions too.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn console(&self) -> Vec<ConsoleMessage> {
        self.wire.console(&self.session)
    }

    /// Closes the window.
    pub async fn close(self) {
        let options = json!({ "targetId": self.target });
        self.wire.call(None, "Target.closeTarget", options).await;
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire
            .call(Some(&self.session), method, parameters)
            .await
    }
}

/// Whether Chromium is there.
///
/// # Panics
/// When it is not and this is CI; elsewhere it says so.
#[must_use]
pub fn installed() -> bool {
    crate::tools::has(&program().to_string_lossy(), &["--version"], "chromium")
}

fn program() -> std::path::PathBuf {
    std::env::var_os("CHROMIUM")
        .unwrap_or_else(|| OsString::from("chromium"))
        .into()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
