//! Cameras with H.265: they play where it is taken, and elsewhere it is told what to set.

use std::time::Duration;

use integration_tests::{
    browser::Browser,
    camera::{self, Camera},
    offer,
    peers::{self, Program, Received, View},
    server::Server,
    tools::Alone,
};

/// A client that offers H.265 and reads pictures, and the machine for it; none where something is missing.
async fn client(enough: u64) -> Option<(Program, Alone)> {
    let program = peers::webrtcbin_with_h265(enough)?;
    if !camera::installed() {
        return None;
    }
    Some((program, integration_tests::alone().await))
}

/// How far each picture is from the one before.
fn steps(received: &Received) -> Vec<u32> {
    let pairs = received.numbers.windows(2);
    pairs
        .map(|pair| (pair[1] + Camera::LOOP - pair[0]) % Camera::LOOP)
        .collect()
}

#[tokio::test]
async fn every_picture_of_a_camera_with_h265_is_decoded_and_shows_what_was_sent() {
    let Some((program, _machine)) = client(60).await else {
        return;
    };
    let server = Server::start().await;
    // The first sends its parameter sets in its description only, the last large pictures in parts.
    let cameras = [
        Camera::h265().with_opus(),
        Camera::h265().parameter_sets_in_band(),
        Camera::h265().full_hd().packets_up_to(60_000).tcp_only(),
    ];
    for setup in cameras {
        let camera = setup.start().await;
        let received = program.watch(&server, &camera.url(), &View::video()).await;
        let log = || format!("{received:?}\n{}", server.log());
        assert!(received.is_whole(&View::video()), "{}", log());
        assert!(steps(&received).iter().all(|step| *step == 1), "{}", log());
        let age = camera.age_of(*received.numbers.last().expect("60 of them"));
        assert!(age < 25, "{age} pictures ago: {}", log());
    }
}

#[tokio::test]
async fn who_comes_later_begins_with_the_key_frame_of_seconds_ago() {
    let Some((program, _machine)) = client(100).await else {
        return;
    };
    let server = Server::start().await;
    let camera = Camera::h265().gop_seconds(8).start().await;
    let first = program.watch(&server, &camera.url(), &View::video()).await;
    assert!(
        first.is_whole(&View::video()),
        "{first:?}\n{}",
        server.log()
    );
    let second = program.watch(&server, &camera.url(), &View::video()).await;
    assert_eq!(camera.connections(), 1);
    let waited = second.first.expect("a picture");
    assert!(waited < Duration::from_millis(1_500), "{second:?}");
    assert_eq!(second.numbers[0] % 200, 0, "{second:?}");
    assert!(steps(&second).iter().all(|step| *step == 1), "{second:?}");
}

#[tokio::test]
async fn b_frames_of_h265_are_left_out_and_it_is_told_what_to_set() {
    let Some((program, _machine)) = client(30).await else {
        return;
    };
    let server = Server::start().await;
    for setup in [
        Camera::h265().with_b_frames(),
        Camera::h265().with_b_frames_as_references(),
    ] {
        let camera = setup.gop_seconds(2).start().await;
        let received = program.watch(&server, &camera.url(), &View::video()).await;
        let steps = steps(&received);
        assert!(steps.len() >= 29, "{received:?}\n{}", server.log());
        assert!(
            steps.iter().all(|step| (1..=4).contains(step)),
            "{received:?}"
        );
        let listed = server.get("/cameras").await.json().to_string();
        assert!(listed.contains("number of B-frames to 0"), "{listed}");
    }
}

#[tokio::test]
async fn a_browser_without_h265_is_told_what_to_set_in_the_camera() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let camera = Camera::h265().with_pcmu().start().await;
    let reply = server.offer(&camera.url(), &offer::probe()).await;
    assert_eq!(reply.status, 406, "{}", reply.body);
    assert_eq!(reply.json()["verdict"]["code"], "browser-video");
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let has_h265 = page
        .evaluate(
            "RTCRtpReceiver.getCapabilities('video').codecs.some((c) => c.mimeType === 'video/H265')",
        )
        .await;
    assert_eq!(has_h265, false, "this browser needs another test");
    page.prepare().await;
    let url = camera.url();
    let watch =
        format!("harness.watch({{ camera: '{url}', sections: ['video', 'audio'], block: 32 }})");
    assert_eq!(page.evaluate(&watch).await, 0);
    let report = page.evaluate("harness.report(0)").await;
    assert_eq!(report["status"], 406, "{report}");
    let reason = report["error"].as_str().unwrap_or_default();
    for part in ["is H265", "set it to H264 in the camera", "second stream"] {
        assert!(reason.contains(part), "{reason}");
    }
}
