//! The dialect of go2rtc, played by what plays it: its own player, and Home Assistant's cards.

use std::time::Duration;

use futures::future::{join, join_all};
use integration_tests::{
    browser::{Browser, Report, Watch},
    camera::Camera,
    peers::{self, View, str0m_viewer},
    server::Server,
};
use serde_json::json;

/// Registers a stream, as Home Assistant does before each view.
pub(super) async fn put(server: &Server, name: &str, sources: &[&str]) {
    let mut parameters = vec![("name", name)];
    parameters.extend(sources.iter().map(|source| ("src", *source)));
    let query = url_encoded(&parameters);
    let request = server
        .http()
        .put(server.url(&format!("/api/streams?{query}")));
    let reply = server.send(request).await;
    assert_eq!((reply.status, &*reply.body), (200, ""), "{reply:?}");
}

fn url_encoded(parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                b'&' | b'=' | b'#' | b'%' | b'+' => format!("%{byte:02X}"),
                _ => char::from(byte).to_string(),
            })
            .collect()
    };
    let pairs: Vec<_> = parameters
        .iter()
        .map(|(key, value)| format!("{key}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

/// Asserts that a viewer sees the camera's pictures and hears its sound.
fn plays(report: &Report) {
    report
        .frames_are_right()
        .unwrap_or_else(|e| panic!("{e}: {}", report.summary()));
    assert_eq!(report.audio_codec, "audio/PCMU", "{}", report.summary());
    assert!(report.audio_packets > 0, "{}", report.summary());
}

#[tokio::test]
async fn a_player_that_hangs_up_once_it_has_a_picture_plays_on() {
    const WINDOW: Duration = Duration::from_mins(1);
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    // As the card of the community store asks: by URL, under a name that is made thereby.
    let query = url_encoded(&[("src", &camera.url()), ("name", "camera.x")]);
    let viewer = page
        .watch(&query, Watch::video_and_audio().as_go2rtc_player())
        .await;
    let first = viewer.frames_within(Duration::from_secs(8)).await;
    tokio::time::sleep(WINDOW).await;
    let report = viewer.report().await;
    assert!(report.hung_up, "{}", report.summary());
    plays(&report);
    let gap = report.longest_gap_after_first_second();
    assert!(
        gap < Duration::from_secs(2),
        "{gap:?} after {first:?}: {}",
        report.summary()
    );
    assert_eq!(camera.connections(), 1);
    let streams = server.get("/api/streams").await.json();
    let stream = &streams["camera.x"];
    assert_eq!(stream["producers"], json!([{ "url": camera.url() }]));
    assert_eq!(
        stream["consumers"].as_array().map(Vec::len),
        Some(1),
        "{streams}"
    );
}

#[tokio::test]
async fn home_assistant_s_card_has_picture_and_sound_over_one_connection() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let generic = format!("ffmpeg:{}", camera.url());
    let sources = [
        &generic,
        "ffmpeg:generic_1#audio=opus#query=log_level=debug",
    ];
    put(&server, "generic_1", &sources).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page
        .watch("src=generic_1", Watch::audio_and_video().as_go2rtc_client())
        .await;
    viewer.frames_within(Duration::from_secs(8)).await;
    // The next card: everything again.
    put(&server, "generic_1", &sources).await;
    let other = page
        .watch("src=generic_1", Watch::audio_and_video().as_go2rtc_client())
        .await;
    other.frames_within(Duration::from_secs(8)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for viewer in [&viewer, &other] {
        let report = viewer.report().await;
        assert!(!report.hung_up, "{}", report.summary());
        plays(&report);
    }
    assert_eq!(camera.connections(), 1, "the sound is not fetched anew");
    let refused = page
        .watch("src=camera.gone", Watch::video().as_go2rtc_client())
        .await;
    let error = refused.report().await.error.unwrap_or_default();
    assert!(error.starts_with("webrtc: stream not found"), "{error}");
}

#[tokio::test]
async fn aiortc_plays_by_an_offer_in_one_request() {
    let (Some(program), Some(_machine)) = (peers::aiortc(), super::cameras_and_browser().await)
    else {
        return;
    };
    let camera = Camera::h264().with_opus().start().await;
    let server = Server::start().await;
    put(&server, "camera.front", &[&camera.url()]).await;
    let view = View::default();
    let received = program
        .watch_by_go2rtc(&server, "camera.front", &view)
        .await;
    assert!(received.is_whole(&view), "{received:?}");
}

/// Home Assistant asks for sound first and gives our addresses to the first section, which is refused
/// here.
#[tokio::test]
async fn a_silent_camera_plays_in_home_assistant_s_card() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    put(&server, "camera.silent", &[&camera.url()]).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let watch = Watch::audio_and_video().as_go2rtc_client();
    let viewer = page.watch("src=camera.silent", watch).await;
    viewer.frames_within(Duration::from_secs(8)).await;
}

#[tokio::test]
async fn registering_a_camera_a_hundred_times_costs_its_viewers_nothing() {
    if !integration_tests::camera::installed() {
        return;
    }
    let _machine = integration_tests::alone().await;
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    let url = camera.url();
    put(&server, "camera.front", &[&url]).await;
    let view = View::video();
    let viewers = (0..5)
        .map(|_| str0m_viewer::watch(&server, "camera.front", &view, str0m_viewer::Path::Udp));
    let registering = async {
        // For as long as they watch: sixty pictures.
        for _ in 0..100 {
            put(&server, "camera.front", &[&url]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (received, ()) = join(join_all(viewers), registering).await;
    for one in received {
        assert!(one.is_whole(&view), "{one:?}");
    }
    assert_eq!(camera.connections(), 1);
    // Another URL under the name is for who comes next.
    let other = Camera::h264().start().await;
    put(&server, "camera.front", &[&other.url()]).await;
    let seen = str0m_viewer::watch(&server, "camera.front", &view, str0m_viewer::Path::Udp).await;
    assert!(seen.is_whole(&view), "{seen:?}");
    assert_eq!((camera.connections(), other.connections()), (1, 1));
}
