//! What begins and ends with viewers, cameras and the server itself.

use std::time::{Duration, Instant};

use futures::future::join_all;
use integration_tests::{
    browser::{Browser, Page, Viewer, Watch},
    camera::Camera,
    eventually,
    server::Server,
};

#[tokio::test]
async fn ten_viewers_share_one_connection_which_ends_after_the_last() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().start().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewers = watch_all(&page, &vec![camera.url(); 10]).await;
    assert_eq!((camera.connections(), camera.open_connections()), (1, 1));
    for viewer in &viewers {
        viewer.close().await;
    }
    let left = Instant::now();
    torn_down(&camera, Duration::from_secs(12)).await;
    assert_eq!(
        camera.connections(),
        1,
        "all viewers had left {:?} before",
        left.elapsed()
    );
}

#[tokio::test]
async fn two_spellings_of_one_address_are_one_camera() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().start().await;
    let spellings = [
        format!("RTSP://127.0.0.1:{}/live", camera.port()),
        format!("rtsp://127.0.0.1:{}/%6Cive", camera.port()),
    ];
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let urls: Vec<_> = spellings.iter().cycle().take(10).cloned().collect();
    watch_all(&page, &urls).await;
    assert_eq!((camera.connections(), camera.open_connections()), (1, 1));
}

/// Two times here; `REPEAT` says otherwise.
#[tokio::test]
async fn a_killed_camera_comes_back_to_the_same_viewers() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let times = std::env::var("REPEAT").map_or(2, |text| text.parse().expect("REPEAT is a number"));
    let mut camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page.watch(&camera.url(), Watch::video_and_audio()).await;
    viewer.frames_within(Duration::from_secs(8)).await;
    let mut waits = Vec::new();
    for _ in 0..times {
        camera.kill().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let dark = viewer.report().await;
        camera.restart().await;
        let back = Instant::now();
        viewer.new_frames_within(Duration::from_secs(10)).await;
        waits.push(back.elapsed());
        // The pictures go on, not only the first comes.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let bright = viewer.report().await;
        let shown = bright.shown.len() - dark.shown.len();
        assert!(
            shown >= 20,
            "{shown} pictures since the camera is back; {}",
            bright.summary()
        );
        assert!(
            bright.audio_packets > dark.audio_packets,
            "no sound; {}",
            bright.summary()
        );
        assert_eq!(bright.state, "connected");
    }
    assert!(
        waits.iter().all(|wait| *wait <= Duration::from_secs(3)),
        "{waits:?}"
    );
}

#[tokio::test]
async fn ending_the_server_says_goodbye_to_cameras_and_viewers() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().with_pcmu().start().await;
    let mut server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewers = watch_all(&page, &vec![camera.url(); 3]).await;
    let start = Instant::now();
    let (status, took) = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took <= Duration::from_secs(3), "it took {took:?}");
    for viewer in viewers {
        let rest = Duration::from_secs(3).saturating_sub(start.elapsed());
        eventually("a viewer's DTLS is closed", rest, || async {
            let report = viewer.report().await;
            if report.dtls_state == "closed" {
                Ok(())
            } else {
                Err(report.summary())
            }
        })
        .await;
    }
    torn_down(&camera, Duration::from_secs(1)).await;
}

/// Viewers of these addresses, all of whom see something.
async fn watch_all(page: &Page, urls: &[String]) -> Vec<Viewer> {
    let viewers = join_all(
        urls.iter()
            .map(|url| page.watch(url, Watch::video_and_audio())),
    )
    .await;
    for viewer in &viewers {
        viewer.frames_within(Duration::from_secs(10)).await;
    }
    viewers
}

async fn torn_down(camera: &Camera, limit: Duration) {
    eventually("the camera is told to stop", limit, || async {
        let requests = camera.requests();
        if camera.requested("TEARDOWN") == 1 && camera.open_connections() == 0 {
            Ok(())
        } else {
            Err(format!(
                "{} connections, {requests:?}",
                camera.open_connections()
            ))
        }
    })
    .await;
}

/// Key frames come every ten seconds here, and nobody can order one: whoever waited for the next would
/// wait for five on the average.
#[tokio::test]
async fn who_comes_later_sees_the_live_picture_at_once() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().gop_seconds(10).start().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let first = page.watch(&camera.url(), Watch::video_and_audio()).await;
    first.frames_within(Duration::from_secs(15)).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        let viewer = page.watch(&camera.url(), Watch::video_and_audio()).await;
        let wait = viewer.frames_within(Duration::from_secs(3)).await;
        assert!(
            wait < Duration::from_secs(2),
            "the first picture after {wait:?}"
        );
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let report = viewer.report().await;
        viewer.close().await;
        report.frames_are_right().expect("pictures in order");
        let gap = report.longest_gap_after_first_second();
        assert!(
            gap < Duration::from_millis(500),
            "{gap:?}: {}",
            report.summary()
        );
        let last = report.shown.last().and_then(|shown| shown.number);
        let age = camera.age_of(last.expect("the last picture is readable"));
        assert!(age < 25, "{age} pictures behind: {}", report.summary());
    }
}
