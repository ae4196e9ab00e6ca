//! The client library for go2rtc that Home Assistant uses, in the versions it used since 2024.11.
//!
//! `python/go2rtc_probe.py` makes the calls, here is what must have come of them.

use std::{path::PathBuf, process::Stdio, time::Duration};

use integration_tests::{
    camera::{self, Camera},
    eventually,
    home_assistant::has_python_3_13,
    offer,
    server::Server,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

/// Of Home Assistant 2026.2 to 2026.11.
const NEWEST: &str = "0.4.0";

/// The client in one version; none where there is no Python for it.
struct Client {
    environment: PathBuf,
    version: &'static str,
}

impl Client {
    fn new(version: &'static str) -> Option<Self> {
        let environment = integration_tests::cache().join("go2rtc_clients");
        let client = Self {
            environment,
            version,
        };
        let name = format!("go2rtc-client {version}");
        (has_python_3_13(&client.environment, &name)
            && integration_tests::tools::has(
                &client.python().to_string_lossy(),
                &["-c", "import aiohttp, webrtc_models"],
                &format!("{name}, which integration_tests/run installs"),
            ))
        .then_some(client)
    }

    fn python(&self) -> PathBuf {
        self.environment.join("bin/python")
    }

    /// Runs one command of the probe, which must succeed without a complaint of the library.
    async fn probe(&self, server: &Server, command: &str, arguments: &[&str]) -> Value {
        let mut child = Command::new(self.python())
            .arg(integration_tests::folder().join("python/go2rtc_probe.py"))
            .args([command, &server.url("/")])
            .args(arguments)
            .env(
                "PYTHONPATH",
                self.environment.join("clients").join(self.version),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("an interpreter that was just asked for its modules starts");
        let mut input = child.stdin.take().expect("piped");
        // A command that needs no offer may have ended.
        let _ = input.write_all(offer::probe().as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.expect("the probe ends");
        assert!(
            output.status.success(),
            "{command}: {}\nthe server's log:\n{}",
            String::from_utf8_lossy(&output.stderr),
            server.log()
        );
        let seen: Value = serde_json::from_slice(&output.stdout).expect("the probe prints JSON");
        assert_eq!(seen["client"], self.version, "{seen}");
        assert_eq!(seen["complaints"], json!([]), "{seen}");
        seen
    }
}

#[tokio::test]
async fn every_client_since_2024_accepts_the_version() {
    for version in ["0.1.1", "0.2.1", "0.3.0", NEWEST] {
        let Some(client) = Client::new(version) else {
            return;
        };
        let server = Server::start().await;
        let seen = client.probe(&server, "version", &[]).await;
        let version = seen["version"].as_str().unwrap_or_default();
        let parts: Vec<u32> = version.split('.').filter_map(|p| p.parse().ok()).collect();
        // From there on Home Assistant 2026.11 asks nobody to update.
        assert!((vec![1, 9, 15]..vec![2]).contains(&parts), "{seen}");
    }
}

#[tokio::test]
async fn home_assistant_finds_all_it_needs_when_it_starts() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    let server = Server::start().await;
    let seen = client.probe(&server, "setup", &[]).await;
    let schemes = seen["schemes"].as_array().expect("a list");
    for scheme in ["rtsp", "rtsps", "rtspx", "ffmpeg"] {
        assert!(schemes.contains(&json!(scheme)), "{scheme}: {seen}");
    }
    assert!(!schemes.contains(&json!("http")), "{seen}");
    assert_eq!(seen["preload"], json!([]), "{seen}");
}

#[tokio::test]
async fn an_offer_is_answered_first_and_candidates_follow() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let seen = client
        .probe(&server, "view", &["camera.front", &camera.url()])
        .await;
    let messages = seen["messages"].as_array().expect("a list");
    let (answer, candidates) = messages.split_first().expect("a message came");
    let sdp = answer["answer"].as_str().unwrap_or_default();
    assert!(sdp.starts_with("v=0\r\n"), "{seen}");
    assert!(answer["after"].as_f64() < Some(10.0), "{seen}");
    for candidate in candidates {
        // A browser takes them for those of the first section, without `a=`.
        let text = candidate["candidate"].as_str().unwrap_or_default();
        assert!(text.starts_with("candidate:"), "{seen}");
    }
    assert!(
        !candidates.is_empty() || sdp.contains("a=candidate:"),
        "no address at all: {seen}"
    );
    assert_eq!(seen["connected"], true, "{seen}");
    assert_eq!(
        seen["streams"]["camera.front"],
        json!([
            camera.url(),
            "ffmpeg:camera.front#audio=opus#query=log_level=debug",
        ]),
    );
    // Home Assistant compares the text it sent with the text in the list.
    assert_eq!(seen["told"], json!([true, false]), "{seen}");
    assert_eq!(camera.connections(), 1, "the sound is not fetched anew");
}

#[tokio::test]
async fn a_camera_is_told_of_once_however_its_source_is_written() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    let url = camera.url();
    for (name, source) in [
        // Of the Generic Camera platform.
        ("generic_01JD", format!("ffmpeg:{url}")),
        // With an orientation.
        (
            "camera.turned",
            format!("ffmpeg:{url}#video=h264#audio=copy#rotate=90"),
        ),
        // Named after a unique id with reserved characters, quoted once by Home Assistant.
        ("onvif_00%3A11%23profile_1", url.clone()),
    ] {
        let seen = client.probe(&server, "view", &[name, &source]).await;
        assert!(seen["messages"][0]["answer"].is_string(), "{seen}");
        assert_eq!(seen["streams"][name][0], source, "{seen}");
        assert_eq!(seen["told"], json!([true, false]), "{seen}");
    }
}

#[tokio::test]
async fn a_password_is_not_listed_and_disturbs_nobody() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().digest("user", "hunter2").start().await;
    let server = Server::start().await;
    let source = camera.url_with_password();
    let seen = client
        .probe(&server, "view", &["camera.front", &source])
        .await;
    assert!(seen["messages"][0]["answer"].is_string(), "{seen}");
    assert!(!seen["streams"].to_string().contains("hunter2"), "{seen}");
    // So Home Assistant tells of it again with each viewer, to the one that is there.
    assert_eq!(seen["told"], json!([true, true]), "{seen}");
    let answered = client
        .probe(&server, "view", &["camera.front", &source])
        .await;
    assert!(answered["messages"][0]["answer"].is_string(), "{answered}");
    assert_eq!(seen["streams"], answered["streams"]);
    assert_eq!(camera.connections(), 1, "it was left for no reason");
    assert!(!server.log().contains("hunter2"), "{}", server.log());
}

#[tokio::test]
async fn an_unknown_camera_is_an_error_event() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    let server = Server::start().await;
    let seen = client.probe(&server, "unknown", &["camera.gone"]).await;
    let error = seen["messages"][0]["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("webrtc: ") && error.len() > "webrtc: ".len(),
        "{seen}"
    );
}

#[tokio::test]
async fn a_camera_is_connected_for_as_long_as_it_is_preloaded() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    let url = camera.url();
    let seen = client
        .probe(&server, "preload", &["camera.front", &url, "on"])
        .await;
    assert_eq!(seen["before"], json!([]), "{seen}");
    assert_eq!(seen["after"], json!(["camera.front"]), "{seen}");
    connected(&camera, 1).await;
    let seen = client
        .probe(&server, "preload", &["camera.front", &url, "off"])
        .await;
    assert_eq!(seen["before"], json!(["camera.front"]), "{seen}");
    assert_eq!(seen["after"], json!([]), "{seen}");
    connected(&camera, 0).await;
}

/// Waits until a camera has so many connections.
async fn connected(camera: &Camera, connections: usize) {
    let limit = Duration::from_secs(30);
    eventually("the camera is used as told", limit, || async {
        let open = camera.open_connections();
        if open == connections {
            Ok(())
        } else {
            Err(format!("{open} connections"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_is_a_whole_jpeg_of_the_size_of_the_camera() {
    let Some(client) = Client::new(NEWEST) else {
        return;
    };
    if !camera::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    let url = camera.url();
    // Home Assistant scales by itself: a smaller size is a hint.
    for (size, allowed) in [
        (&[][..], &[[1280, 720]][..]),
        (&["640", "360"], &[[1280, 720], [640, 360]]),
    ] {
        let arguments = [&["camera.front", url.as_str()], size].concat();
        let seen = client.probe(&server, "snapshot", &arguments).await;
        assert_eq!(seen["complete"], true, "{seen}");
        assert!(
            allowed.iter().any(|one| seen["size"] == json!(one)),
            "{seen}"
        );
        // Of a flat grey picture: about 5 kB.
        assert!(seen["bytes"].as_u64() > Some(8_000), "{seen}");
        assert!(seen["took"].as_f64() < Some(9.0), "{seen}");
    }
}
