//! Cameras whose pictures are sent in another order than shown, which browsers cannot play.

use std::time::Duration;

use integration_tests::{
    browser::{Browser, Report, Viewer, Watch},
    camera::Camera,
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_camera_with_b_frames_plays_without_them_and_is_told_what_to_set() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_b_frames().gop_seconds(2).with_pcmu();
    let camera = camera.start().await;
    let server = Server::start().await;
    for report in watched_twice(&camera, &server).await {
        report.frames_are_right().unwrap();
        let last = report.shown.last().and_then(|shown| shown.number);
        assert!(last.is_some_and(|number| number % 2 == 0), "{last:?}");
    }
}

#[tokio::test]
async fn b_frames_that_others_are_made_of_do_not_freeze_the_picture() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_b_frames_as_references().gop_seconds(2);
    let camera = camera.start().await;
    let server = Server::start().await;
    watched_twice(&camera, &server).await;
}

/// Plays to one viewer, then also to one who comes later and is sent the pictures since the last key frame
/// at once. Gives what both have seen.
async fn watched_twice(camera: &Camera, server: &Server) -> [Report; 2] {
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let first = page.watch(&camera.url(), Watch::video_and_audio()).await;
    let first = plays(&first).await;
    let second = page.watch(&camera.url(), Watch::video_and_audio()).await;
    let waited = second.frames_within(Duration::from_secs(8)).await;
    assert!(waited < Duration::from_millis(1_500), "{waited:?}");
    let second = plays(&second).await;
    let listed = server.get("/cameras").await.json().to_string();
    assert!(
        listed.contains("B-frames") && listed.contains("Baseline"),
        "{listed}"
    );
    assert_eq!(server.log().matches("sends B-frames").count(), 1);
    [first, second]
}

/// Every picture that is no B-frame comes, and no other.
async fn plays(viewer: &Viewer) -> Report {
    viewer.frames_within(Duration::from_secs(8)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = viewer.report().await;
    tokio::time::sleep(WINDOW).await;
    let after = viewer.report().await;
    let decoded = after.frames_decoded - before.frames_decoded;
    // One of four.
    assert!((55..80).contains(&decoded), "{}", after.summary());
    let gap = after.longest_gap_after_first_second();
    assert!(gap < Duration::from_millis(500), "{gap:?}");
    after
}
