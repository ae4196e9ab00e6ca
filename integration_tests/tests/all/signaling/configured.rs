//! Cameras that have a name, by Porthole's configuration, by RTSPtoWebRTC's, or built in.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use integration_tests::{
    camera::{self, Camera},
    offer,
    server::{Reply, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{assert_answers_the_probe, refusal};

/// A server with a configuration file, which lives as long as the server.
pub(crate) struct Configured {
    pub(crate) server: Server,
    _folder: TempDir,
}

impl Configured {
    pub(crate) async fn start(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file can be made in it");
        let path = file.to_str().expect("temporary folders have plain names");
        let server = Server::start_with(&["--config", path]).await;
        Self {
            server,
            _folder: folder,
        }
    }
}

/// What the page of the original sends: the name in the form counts, not the one in the path.
async fn receive(server: &Server, path: &str, name: &str) -> Reply {
    let offer = BASE64.encode(offer::probe());
    server
        .post_form(path, &[("suuid", name), ("data", &offer)])
        .await
}

/// Asserts that the reply is the bare answer in base64.
fn assert_received(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(
        reply.content_type.starts_with("text/plain"),
        "{}",
        reply.content_type
    );
    let sdp = BASE64
        .decode(&reply.body)
        .expect("nothing but standard padded base64");
    assert_answers_the_probe(&String::from_utf8(sdp).expect("SDP is UTF-8"));
}

/// The kinds of media of a named camera, as the page of the original reads them.
async fn kinds(server: &Server, name: &str) -> Value {
    let reply = server.get(&format!("/stream/codec/{name}")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

#[tokio::test]
async fn the_built_in_camera_tells_its_media_and_takes_offers() {
    let server = Server::start().await;
    let expected = json!([{ "Type": "video" }, { "Type": "audio" }]);
    assert_eq!(kinds(&server, "demo").await, expected);
    assert_received(&receive(&server, "/stream/receiver/demo", "demo").await);
}

#[tokio::test]
async fn the_name_in_the_form_decides() {
    let server = Server::start().await;
    assert_received(&receive(&server, "/stream/receiver/anything", "demo").await);
}

#[tokio::test]
async fn a_name_that_nobody_configured_is_refused_in_words() {
    let server = Server::start().await;
    let codec = server.get("/stream/codec/nobody").await;
    refusal(&codec);
    assert_eq!(codec.status, 404, "{}", codec.body);
    let received = receive(&server, "/stream/receiver/demo", "nobody").await;
    refusal(&received);
    assert_eq!(received.status, 404, "{}", received.body);
}

#[tokio::test]
async fn an_incomplete_form_is_refused_in_words() {
    let server = Server::start().await;
    let incomplete: [&[(&str, &str)]; 3] = [&[("suuid", "demo")], &[("data", "dj0w")], &[]];
    for fields in incomplete {
        let reply = server.post_form("/stream/receiver/demo", fields).await;
        refusal(&reply);
        assert!(reply.status < 500, "{} {}", reply.status, reply.body);
    }
}

#[tokio::test]
async fn a_camera_of_the_configuration_is_served_by_its_name() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let file = format!("cameras:\n  front:\n    url: {}\n", camera.url());
    let configured = Configured::start("config.yaml", &file).await;
    let expected = json!([{ "Type": "video" }, { "Type": "audio" }]);
    assert_eq!(kinds(&configured.server, "front").await, expected);
    assert_received(&receive(&configured.server, "/stream/receiver/front", "front").await);
}

#[tokio::test]
async fn the_configuration_of_the_original_is_understood() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let file = json!({
        "server": {
            "http_port": ":8083",
            "ice_servers": ["stun:stun.l.google.com:19302"],
            "ice_username": "",
            "ice_credential": "",
            "webrtc_port_min": 0,
            "webrtc_port_max": 0,
        },
        "streams": {
            "Front-1": { "on_demand": true, "disable_audio": false, "url": camera.url() },
            "silent": { "on_demand": true, "disable_audio": true, "url": camera.url(), "debug": false },
        },
    });
    let configured = Configured::start("config.json", &file.to_string()).await;
    let server = &configured.server;
    let both = json!([{ "Type": "video" }, { "Type": "audio" }]);
    assert_eq!(kinds(server, "Front-1").await, both);
    assert_eq!(kinds(server, "silent").await, json!([{ "Type": "video" }]));
    assert_received(&receive(server, "/stream/receiver/Front-1", "Front-1").await);
    let cameras = server.get("/cameras").await.json();
    let listed: Vec<_> = cameras["cameras"]
        .as_array()
        .expect("cameras are a list")
        .iter()
        .filter_map(|camera| camera["name"].as_str())
        .collect();
    for name in ["Front-1", "silent", "demo"] {
        assert!(listed.contains(&name), "{name} in {listed:?}");
    }
    let player = server.get("/stream/player/Front-1").await;
    assert_eq!(player.status, 200, "{}", player.body);
    assert!(
        player.content_type.starts_with("text/html"),
        "{}",
        player.content_type
    );
}
