//! Clients in Python, each a program of its own.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{LIMIT, Received, Stream, View};
use crate::server::{Reply, Server, answer_of};

/// Debian's interpreter: the one that has `GStreamer`'s bindings.
const PYTHON: &str = "/usr/bin/python3";

/// A client that writes its offer to standard output, takes the answer from standard input, and writes
/// what it got; a line of JSON each.
#[derive(Debug, Clone)]
pub struct Program {
    python: PathBuf,
    script: &'static str,
    /// More options than all have.
    options: Value,
}

/// aiortc, with pictures decoded; none where it is not installed.
///
/// # Panics
/// When it is not installed and this is CI.
#[must_use]
pub fn aiortc() -> Option<Program> {
    let python = crate::cache().join("aiortc/bin/python");
    crate::tools::has(
        &python.to_string_lossy(),
        &["-c", "import aiortc"],
        "aiortc, which integration_tests/run installs",
    )
    .then_some(Program {
        python,
        script: "aiortc_viewer.py",
        options: json!({}),
    })
}

/// `GStreamer`'s `webrtcbin`, with pictures and sound decoded; none where it is not installed.
///
/// # Panics
/// When it is not installed and this is CI.
#[must_use]
pub fn webrtcbin() -> Option<Program> {
    let script = "webrtcbin_viewer.py";
    let path = crate::folder().join("python").join(script);
    crate::tools::has(
        PYTHON,
        &["-W", "ignore", &path.to_string_lossy(), "--check"],
        "python3-gi, gir1.2-gst-plugins-bad-1.0, gstreamer1.0-nice and gstreamer1.0-libav",
    )
    .then_some(Program {
        python: PYTHON.into(),
        script,
        options: json!({}),
    })
}

/// The same, which offers H.265 and nothing else, and waits for so many pictures, whose numbers it reads.
///
/// # Panics
/// When it is not installed and this is CI.
#[must_use]
pub fn webrtcbin_with_h265(enough: u64) -> Option<Program> {
    let options = json!({ "video": "H265", "enough": enough });
    webrtcbin().map(|program| Program { options, ..program })
}

/// Has aiortc watch many cameras at once, in the dialect of `RTSPtoWebRTC`, until each has shown `enough` pictures
/// and a second of sound, for `limit` after the answer at most: what `aiortc_viewers.py` tells of each.
///
/// # Panics
/// When aiortc is not installed, fails, or takes longer than it should.
pub async fn aiortc_at_all(
    server: &Server,
    cameras: &[(&str, View)],
    block: u32,
    enough: u64,
    limit: Duration,
) -> Vec<Value> {
    let program = Program {
        script: "aiortc_viewers.py",
        ..aiortc().expect("whoever asks has seen that it is installed")
    };
    let cameras: Vec<_> = cameras
        .iter()
        .map(|(name, view)| json!([name, view.kinds()]))
        .collect();
    let mut process = program.start(&json!({
        "server": server.url(""),
        "cameras": cameras,
        "block": block,
        "enough": enough,
        "limit": limit.as_secs(),
    }));
    let mut output = BufReader::new(process.stdout.take().expect("piped")).lines();
    // Cameras have their time to answer before.
    let viewers = told_within(limit + LIMIT, &mut output, "viewers").await;
    let ended = tokio::time::timeout(LIMIT, process.wait()).await;
    assert!(ended.is_ok(), "{} does not end", program.script);
    viewers.as_array().expect("a list").clone()
}

impl Program {
    /// The same with pictures whose number is in blocks of so many pixels, 32 unless told.
    #[must_use]
    pub fn with_blocks_of(mut self, pixels: u32) -> Self {
        self.options["block"] = pixels.into();
        self
    }

    /// Offers to watch a camera, and watches as [`Self::watch`] if it is not refused.
    ///
    /// # Panics
    /// When the program fails or does not keep its time, with what it said.
    pub async fn ask(&self, server: &Server, camera: &str, view: &View) -> (Reply, Received) {
        let options = json!({ "kinds": view.kinds(), "limit": LIMIT.as_secs() });
        let mut process = self.start(&options);
        let mut input = process.stdin.take().expect("piped");
        let mut output = BufReader::new(process.stdout.take().expect("piped")).lines();
        let offer = told(&mut output, "offer").await;
        let reply = server
            .offer(camera, offer.as_str().expect("an offer is text"))
            .await;
        if reply.status != 200 {
            return (reply, Received::default());
        }
        tell(&mut input, &json!({ "answer": answer_of(&reply) })).await;
        (reply, self.received(process, output).await)
    }

    /// Watches a camera until it has enough, [`LIMIT`] at most.
    ///
    /// # Panics
    /// When the program fails or does not keep its time, with what it said.
    pub async fn watch(&self, server: &Server, camera: &str, view: &View) -> Received {
        let options = json!({ "kinds": view.kinds(), "limit": LIMIT.as_secs() });
        let mut process = self.start(&options);
        let mut input = process.stdin.take().expect("piped");
        let mut output = BufReader::new(process.stdout.take().expect("piped")).lines();
        let offer = told(&mut output, "offer").await;
        let offer = offer.as_str().expect("an offer is text");
        let answer = view.exchange(server, camera, offer).await;
        tell(&mut input, &json!({ "answer": answer })).await;
        self.received(process, output).await
    }

    /// The same as a client of go2rtc, which knows the camera by the name of its stream.
    ///
    /// # Panics
    /// When the program fails or does not keep its time, or its offer is refused.
    pub async fn watch_by_go2rtc(&self, server: &Server, stream: &str, view: &View) -> Received {
        let options = json!({ "kinds": view.kinds(), "limit": LIMIT.as_secs() });
        let mut process = self.start(&options);
        let mut input = process.stdin.take().expect("piped");
        let mut output = BufReader::new(process.stdout.take().expect("piped")).lines();
        let offer = told(&mut output, "offer").await;
        let request = server
            .http()
            .post(server.url(&format!("/api/webrtc?src={stream}")))
            .json(&json!({ "type": "offer", "sdp": offer }));
        let reply = server.send(request).await;
        assert_eq!(
            (reply.status, &*reply.content_type),
            (200, "application/json")
        );
        tell(&mut input, &json!({ "answer": reply.json()["sdp"] })).await;
        self.received(process, output).await
    }

    /// The same with the program as a player of WHEP, which deletes its session in the end. aiortc alone
    /// can do so.
    ///
    /// # Panics
    /// When the program fails or does not keep its time.
    pub async fn watch_by_whep(&self, endpoint: &str, view: &View) -> Received {
        let limit = LIMIT.as_secs();
        let options = json!({ "kinds": view.kinds(), "limit": limit, "whep": endpoint });
        let mut process = self.start(&options);
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        self.received(process, output).await
    }

    fn start(&self, options: &Value) -> Child {
        let mut options = options.clone();
        for (key, value) in self.options.as_object().expect("an object") {
            options[key] = value.clone();
        }
        Command::new(&self.python)
            .args(["-W", "ignore"])
            .arg(crate::folder().join("python").join(self.script))
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("an interpreter that was just asked for its modules starts")
    }

    async fn received(
        &self,
        mut process: Child,
        mut output: Lines<BufReader<ChildStdout>>,
    ) -> Received {
        let received = told(&mut output, "received").await;
        let ended = tokio::time::timeout(LIMIT, process.wait()).await;
        assert!(ended.is_ok(), "{} does not end", self.script);
        received_of(&received)
    }
}

async fn tell(input: &mut ChildStdin, message: &Value) {
    input
        .write_all(format!("{message}\n").as_bytes())
        .await
        .expect("the program reads");
}

/// The value of `key` in the program's next line that has it.
async fn told(output: &mut Lines<BufReader<ChildStdout>>, key: &str) -> Value {
    told_within(LIMIT * 2, output, key).await
}

async fn told_within(
    limit: Duration,
    output: &mut Lines<BufReader<ChildStdout>>,
    key: &str,
) -> Value {
    let found = async {
        while let Some(line) = output.next_line().await.expect("its output can be read") {
            let mut message: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(value) = message.get_mut(key) {
                return value.take();
            }
        }
        panic!("the program ended without {key}; it says why on standard error");
    };
    tokio::time::timeout(limit, found)
        .await
        .unwrap_or_else(|_| panic!("the program does not tell its {key}"))
}

fn received_of(value: &Value) -> Received {
    let seconds = |value: &Value| value.as_f64().map(Duration::from_secs_f64);
    let stream = |value: &Value| {
        let count = |key: &str| value[key].as_u64().unwrap_or_default();
        Stream {
            packets: count("packets"),
            missing: count("missing"),
            frames: count("frames"),
        }
    };
    Received {
        connected: seconds(&value["connected"]),
        took: seconds(&value["took"]).unwrap_or_default(),
        video: stream(&value["video"]),
        audio: stream(&value["audio"]),
        first: seconds(&value["video"]["first"]),
        tone: value["audio"]["tone"].as_f64().unwrap_or_default(),
        numbers: value["video"]["numbers"]
            .as_array()
            .map(|numbers| {
                let number = |number: &Value| number.as_u64().and_then(|n| u32::try_from(n).ok());
                numbers
                    .iter()
                    .map(|n| number(n).unwrap_or_default())
                    .collect()
            })
            .unwrap_or_default(),
    }
}
