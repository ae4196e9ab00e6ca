//! What becomes of the picture on a long way that loses packets.
//!
//! The suite watches each for 20 s. For figures to publish, `LOSS_SECONDS=300` watches for longer and
//! asks for more:
//!
//! ```sh
//! LOSS_SECONDS=300 cargo test -p integration_tests loss:: -- --nocapture
//! ```

use std::{path::PathBuf, process::Command, time::Duration};

use integration_tests::{
    browser::{self, Browser},
    cache, camera, folder,
    network::{self, Host, Process, Server, View, Wire, isolated_for, quiet_page},
};
use serde_json::{Value, json};

/// There and back: 40 ms.
const ONE_WAY: Duration = Duration::from_millis(20);

const PICTURES_PER_SECOND: f64 = 25.0;

/// What a way may cost, as parts of the whole.
struct Limits {
    /// Of the camera's pictures, decoded.
    pictures: f64,
    /// Of the time, without a picture when there should be one.
    frozen: f64,
}

#[tokio::test]
async fn one_packet_of_twenty_is_lost() {
    let limits = if thorough() {
        Limits {
            pictures: 0.99,
            frozen: 0.02,
        }
    } else {
        Limits {
            pictures: 0.97,
            frozen: 0.04,
        }
    };
    watch("loss::one_packet_of_twenty_is_lost", 5, &limits).await;
}

#[tokio::test]
async fn one_packet_of_a_hundred_is_lost() {
    let limits = Limits {
        pictures: 0.99,
        frozen: 0.0,
    };
    watch("loss::one_packet_of_a_hundred_is_lost", 1, &limits).await;
}

async fn watch(test: &str, loss: u32, limits: &Limits) {
    if !(network::installed() && Wire::installed() && camera::installed() && browser::installed()) {
        return;
    }
    isolated_for(test, window(), async || {
        let server = Host::new("server");
        let viewer = ("lan0", "192.168.77.10/24");
        let wire = Wire::lay(viewer, (&server, "lan0", "192.168.77.20/24"), ONE_WAY, loss).await;
        Host::viewer().default_route("192.168.77.20");
        let _camera = camera_on(&server).await;
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::start().await;
        let base = format!("http://192.168.77.20:{}", Server::PORT);
        let page = quiet_page(&browser, &base).await;
        let camera = format!("rtsp://127.0.0.1:{CAMERA_PORT}/live");
        let view = View::of(&page, &camera, &json!({})).await;
        // Its three seconds are those in which the jitter buffer learns the way.
        view.moves_within(Duration::from_secs(10)).await;

        let before = view.video().await;
        tokio::time::sleep(window()).await;
        let after = view.video().await;
        let account = Account::between(&before, &after);
        let path = view.path().await;
        let figures = format!("{loss} %: {account:?}; the wire: {}", wire.account());
        network::say(&figures);

        assert_eq!(path["selected"]["local"]["protocol"], "udp", "{path}");
        assert!(account.requests > 0.0, "nothing was lost: {figures}");
        assert!(account.pictures >= limits.pictures, "pictures: {figures}");
        assert!(account.frozen <= limits.frozen, "frozen: {figures}");
    })
    .await;
}

/// What the browser tells of some time.
#[derive(Debug)]
#[expect(dead_code, reason = "all of them are printed")]
struct Account {
    seconds: f64,
    /// Decoded, as a part of what the camera sent.
    pictures: f64,
    /// Without pictures, as a part of the time.
    frozen: f64,
    freezes: f64,
    received: f64,
    megabits_per_second: f64,
    packets: f64,
    /// Never came, not even when they were asked for.
    lost: f64,
    /// Came again, in packets of a stream of their own.
    repeated: f64,
    requests: f64,
    key_frame_requests: f64,
    /// Of a picture in the jitter buffer, in milliseconds.
    waited: f64,
}

impl Account {
    fn between(before: &Value, after: &Value) -> Self {
        let more = |name: &str| {
            let at = |stat: &Value| stat[name].as_f64().unwrap_or_default();
            at(after) - at(before)
        };
        let seconds = more("timestamp") / 1000.0;
        Self {
            seconds,
            pictures: more("framesDecoded") / (seconds * PICTURES_PER_SECOND),
            frozen: more("totalFreezesDuration") / seconds,
            freezes: more("freezeCount"),
            received: more("framesReceived") / (seconds * PICTURES_PER_SECOND),
            megabits_per_second: more("bytesReceived") * 8.0 / seconds / 1e6,
            packets: more("packetsReceived"),
            lost: more("packetsLost"),
            repeated: more("retransmittedPacketsReceived"),
            requests: more("nackCount"),
            key_frame_requests: more("pliCount"),
            waited: 1000.0 * more("jitterBufferDelay") / more("jitterBufferEmittedCount"),
        }
    }
}

fn thorough() -> bool {
    window() >= Duration::from_mins(1)
}

fn window() -> Duration {
    let seconds = std::env::var("LOSS_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("LOSS_SECONDS is a number"));
    Duration::from_secs(seconds.unwrap_or(20))
}

/// Of the camera, on the server's machine.
const CAMERA_PORT: u16 = 8554;

/// A camera of 4 Mbit/s on a machine, where only programs of that machine reach it.
async fn camera_on(host: &Host) -> Process {
    let clip = clip();
    let mut command = host.command("/usr/bin/python3");
    command
        .arg(folder().join("camera.py"))
        .arg(format!("--port={CAMERA_PORT}"))
        .args(["--epoch=0", "--fps=25"])
        .arg(format!("--track=h264={}", clip.display()));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let camera = Process::start(command, folder);
    camera.listens(host, "tcp", CAMERA_PORT).await;
    camera
}

/// 1280x720 with a key frame every two seconds, as cameras come from the factory; made once.
fn clip() -> PathBuf {
    let folder = cache().join("media");
    let file = folder.join("h264-1280x720-4mbit-v1.mkv");
    if file.is_file() {
        return file;
    }
    std::fs::create_dir_all(&folder).expect("a folder in the cache can be made");
    let unfinished = folder.join(format!("{}-4mbit.mkv", std::process::id()));
    let made = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args([
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1280x720:rate=25:duration=24",
        ])
        .args(["-vf", "noise=alls=16:allf=t,format=yuv420p"])
        .args([
            "-c:v",
            "libx264",
            "-profile:v",
            "baseline",
            "-preset",
            "veryfast",
        ])
        .args(["-b:v", "4M", "-maxrate", "4M", "-bufsize", "4M"])
        .args(["-g", "50", "-keyint_min", "50", "-sc_threshold", "0"])
        .arg(&unfinished)
        .status()
        .expect("ffmpeg is installed");
    assert!(made.success(), "ffmpeg cannot make a clip");
    std::fs::rename(&unfinished, &file).expect("a file can be renamed in its folder");
    file
}
