//! [`Camera`]: a live RTSP camera on `GStreamer`'s RTSP server, not on code of this project.
//!
//! ```no_run
//! # async fn example() {
//! use integration_tests::camera::Camera;
//! let camera = Camera::h264().with_pcmu().digest("user", "p@ss/w:0%").start().await;
//! println!("{}", camera.url_with_password());
//! # }
//! ```

pub mod axis;
mod clips;
mod setup;
pub mod tls;

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

pub use setup::Setup;

/// Debian's interpreter: the one that has `GStreamer`'s bindings.
const PYTHON: &str = "/usr/bin/python3";

/// A running camera, ended when dropped. Serves at most one presentation, `/live`.
///
/// It is live: 25 pictures per second whether or not anybody watches, and whoever joins gets the
/// current one. Each carries its number, see [`Camera::LOOP`].
#[derive(Debug)]
pub struct Camera {
    /// Of `camera.py`, but for those that are fields here too.
    arguments: Vec<String>,
    /// User and password.
    login: Option<(String, String)>,
    port: u16,
    /// When picture 0 was due, in Unix time.
    epoch: Duration,
    process: Option<Child>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    open: usize,
    requests: Vec<String>,
    heard: Vec<Heard>,
}

/// Half a second of speech, as it came out of a camera's loudspeaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// Its tone.
    pub hertz: f64,
    /// Its loudest sample, of 32767.
    pub loudest: u64,
}

impl Camera {
    /// Pictures until the clip starts again, which the eye does not see: the last is followed by the
    /// first. A picture's number is below this.
    pub const LOOP: u32 = clips::SECONDS * clips::FPS;

    /// Pictures per second.
    pub const FPS: u32 = clips::FPS;

    /// H.264 Baseline, 1280x720, 2 Mbit/s, a key frame each second, no sound.
    pub fn h264() -> Setup {
        Setup::new("h264")
    }

    /// H.265 Main, 1280x720, 2 Mbit/s, a key frame each second, no sound. Not every browser takes it.
    pub fn h265() -> Setup {
        Setup::new("h265")
    }

    /// Motion JPEG, which no browser takes over WebRTC.
    pub fn mjpeg() -> Setup {
        Setup::new("mjpeg")
    }

    /// One process with many cameras, each at its path and alike but for picture and sound; none at `/live`.
    /// What is counted is of all of them.
    ///
    /// # Panics
    /// When their clips cannot be made or it does not listen within 20 s.
    pub async fn many(setups: &[(String, Setup)]) -> Self {
        let mut arguments = vec![format!("--fps={}", Self::FPS)];
        for (path, setup) in setups {
            arguments.extend(["--mount".to_owned(), path.clone()]);
            arguments.extend(setup.tracks().await);
        }
        Self::switched_on(arguments, None).await
    }

    async fn switched_on(arguments: Vec<String>, login: Option<(String, String)>) -> Self {
        let mut camera = Self {
            arguments,
            login,
            port: free_port(),
            epoch: unix_time(),
            process: None,
            seen: Arc::default(),
        };
        camera.switch_on().await;
        camera
    }

    /// The URL without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at("/live")
    }

    /// The URL of the one at a path, of [`Self::many`].
    #[must_use]
    pub fn url_at(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.port)
    }

    /// The URL with user and password, percent-encoded; without a login as [`Self::url`].
    #[must_use]
    pub fn url_with_password(&self) -> String {
        let Some((user, password)) = &self.login else {
            return self.url();
        };
        let login = format!("{}:{}", percent_encoded(user), percent_encoded(password));
        format!("rtsp://{login}@127.0.0.1:{}/live", self.port)
    }

    /// The TCP port, which stays the same over a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// RTSP connections ever made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen().connections
    }

    /// RTSP connections at the moment.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.seen().open
    }

    /// The methods of all requests until now, `TEARDOWN` among them.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.seen().requests.clone()
    }

    /// What was said through its back channel until now.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.seen().heard.clone()
    }

    /// How often a method was requested.
    #[must_use]
    pub fn requested(&self, method: &str) -> usize {
        self.seen()
            .requests
            .iter()
            .filter(|seen| *seen == method)
            .count()
    }

    /// Pictures due since it was first switched on, whether or not it was on all the time.
    #[must_use]
    pub fn frames_sent(&self) -> u64 {
        let elapsed = unix_time().saturating_sub(self.epoch);
        elapsed.as_secs() * u64::from(Self::FPS)
            + u64::from(elapsed.subsec_millis() * Self::FPS / 1000)
    }

    /// How many pictures ago a number was shown, if it was less than one loop ago.
    #[must_use]
    pub fn age_of(&self, number: u32) -> u64 {
        let whole = u64::from(Self::LOOP);
        (self.frames_sent() % whole + whole - u64::from(number) % whole) % whole
    }

    /// Cuts its power: the process ends at once and says goodbye to nobody.
    ///
    /// # Panics
    /// When it is off already.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().expect("the camera is on");
        process
            .kill()
            .await
            .expect("a process that runs can be killed");
        self.seen().open = 0;
    }

    /// Switches it on again after [`Self::kill`], with the same URL, and waits until it listens.
    ///
    /// # Panics
    /// When it is on already.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the camera is on");
        self.switch_on().await;
    }

    async fn switch_on(&mut self) {
        let mut process = Command::new(PYTHON)
            .arg(crate::folder().join("camera.py"))
            .arg(format!("--port={}", self.port))
            .arg(format!("--epoch={}", self.epoch.as_nanos()))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {PYTHON}: {e}"));
        let mut events = BufReader::new(process.stdout.take().expect("piped"));
        let mut first = String::new();
        tokio::time::timeout(Duration::from_secs(20), events.read_line(&mut first))
            .await
            .expect("the camera listens within 20 s")
            .expect("the camera's output can be read");
        assert!(
            first.contains("listening"),
            "the camera did not start; it said {first:?}, and the rest on standard error"
        );
        self.process = Some(process);
        tokio::spawn(note(events, Arc::clone(&self.seen)));
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no test panics with the lock")
    }
}

/// Whether this machine has what a camera needs.
///
/// # Panics
/// When it has not and this is CI; elsewhere it says what is missing.
#[must_use]
pub fn installed() -> bool {
    let bindings = "import gi; gi.require_version('GstRtspServer', '1.0'); \
                    from gi.repository import GstRtspServer";
    crate::tools::has("ffmpeg", &["-version"], "ffmpeg")
        && crate::tools::has(
            PYTHON,
            &["-W", "ignore", "-c", bindings],
            "python3-gi and gir1.2-gst-rtsp-server-1.0",
        )
}

/// Keeps account of what the camera tells, until it is off.
async fn note(events: BufReader<ChildStdout>, seen: Arc<Mutex<Seen>>) {
    let mut lines = events.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let mut seen = seen.lock().expect("no test panics with the lock");
        match event["event"].as_str() {
            Some("connected") => {
                seen.connections += 1;
                seen.open += 1;
            }
            Some("heard") => seen.heard.push(Heard {
                hertz: event["hertz"].as_f64().unwrap_or_default(),
                loudest: event["loudest"].as_u64().unwrap_or_default(),
            }),
            Some("closed") => seen.open = seen.open.saturating_sub(1),
            Some("request") => {
                let method = event["method"].as_str().unwrap_or_default();
                seen.requests.push(method.to_owned());
            }
            _ => {}
        }
    }
}

/// A port outside the range from which the kernel takes ports for clients, so that nothing else gets
/// it while the camera is off, not even a client that tries to reach it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 100).expect("below 100");
    loop {
        let port = 20_000 + process * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later than 1970")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
