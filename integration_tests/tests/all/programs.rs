//! Cameras that are programs: ffmpeg and other commands of the configuration, in a real browser, while they
//! work, hang, die and complain; and that nobody else can have one run.

mod strangers;
mod supervision;

use std::{path::Path, time::Duration};

use integration_tests::{
    browser::{Browser, Watch},
    camera::Camera,
    eventually,
    processes::{self, Process},
    server::Server,
};
use serde_json::{Value, json};

const PASSWORD: &str = "Canary7p@ss/w:0%";
/// What of it stays the same, however it is written.
const CANARY: &str = "Canary7";
/// The linger, and some time to say goodbye.
const GONE: Duration = Duration::from_secs(15);

/// A file with these settings.
fn settings(cameras: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    let text = json!({"media_listen": "127.0.0.1:0", "exec": true, "cameras": cameras});
    std::fs::write(file.path(), text.to_string()).expect("it can be written");
    file
}

async fn server(cameras: &Value) -> Server {
    let file = settings(cameras);
    Server::start_with(&["--config", &file.path().to_string_lossy()]).await
}

/// Waits until all processes of `server` have ended, and been taken leave of.
async fn all_gone(server: &Server, limit: Duration) {
    eventually("all processes have ended", limit, || async {
        let left = processes::of(server);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

fn zombies(processes: &[Process]) -> Vec<&Process> {
    processes
        .iter()
        .filter(|process| process.state == 'Z')
        .collect()
}

/// A command that publishes `clip` for ever.
fn publishing(clip: &Path) -> String {
    format!(
        "ffmpeg -v error -nostdin -re -stream_loop -1 -i '{}' -c copy -f rtsp -rtsp_transport tcp {{output}}",
        clip.display()
    )
}

#[tokio::test]
async fn pictures_that_browsers_do_not_take_are_transcoded() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let mjpeg = Camera::mjpeg()
        .small()
        .digest("ann", PASSWORD)
        .start()
        .await;
    let h265 = Camera::h265().small().with_pcmu().start().await;
    let cameras = json!({
        "mjpeg": format!("ffmpeg:{}#video=h264", mjpeg.url_with_password()),
        "h265": format!("ffmpeg:{}#video=h264#audio=copy", h265.url()),
        "plain": h265.url(),
        "again": "ffmpeg:plain#video=h264#rotate=90",
    });
    let server = server(&cameras).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    for camera in ["mjpeg", "h265"] {
        let viewer = page.watch(camera, Watch::video_and_audio()).await;
        let waited = viewer.frames_within(Duration::from_secs(12)).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let report = viewer.report().await;
        report
            .frames_are_right()
            .unwrap_or_else(|e| panic!("{camera}: {e}; {}", report.summary()));
        assert!(
            report.shown.len() > 50,
            "{camera}, {waited:?}: {}",
            report.summary()
        );
        assert_eq!(report.video_codec, "video/H264", "{camera}");
        if camera == "h265" {
            assert_eq!(report.audio_codec, "audio/PCMU");
            assert!(report.audio_packets > 100, "{}", report.summary());
        }
        assert!(zombies(&processes::of(&server)).is_empty());
        viewer.close().await;
    }
    let turned = page.watch("again", Watch::video()).await;
    turned.frames_within(Duration::from_secs(12)).await;
    let report = turned.report().await;
    assert_eq!(
        (report.width, report.height),
        (360, 640),
        "{}",
        report.summary()
    );
    turned.close().await;
    all_gone(&server, GONE).await;
    eventually("the cameras are left", GONE, || async {
        let open = mjpeg.open_connections() + h265.open_connections();
        if open == 0 {
            Ok(())
        } else {
            Err(format!("{open} connections"))
        }
    })
    .await;
    let refused = page.watch("plain", Watch::video()).await.report().await;
    if refused.status != 200 {
        let told = refused.error.unwrap_or_default();
        assert!(
            told.contains("ffmpeg:") && told.contains("#video=h264"),
            "{told}"
        );
    }
    let listed = server.get("/cameras").await.body + &server.get("/api/streams").await.body;
    for text in [listed, server.log()] {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[tokio::test]
async fn files_test_pictures_and_commands_play() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let setup = Camera::h264().small();
    let clip = setup.clip().await;
    let camera = setup.with_pcmu().start().await;
    let path = clip.display();
    let cameras = json!({
        "file": format!("ffmpeg:{path}#input=loop"),
        "smaller": format!("ffmpeg:{path}#input=loop#video=h264#width=320"),
        "virtual": "ffmpeg:virtual?video=testsrc&size=640x360&rate=25&audio=sine#video=h264#audio=opus",
        "publishes": format!("exec:{}", publishing(&clip)),
        "writes": format!("exec:ffmpeg -v error -re -stream_loop -1 -i '{path}' -c copy -f mpegts -"),
        "annexb": format!("exec:ffmpeg -v error -re -i '{path}' -c copy -f h264 -#input=annexb"),
        "echo": format!("echo:echo {}", camera.url()),
    });
    let server = server(&cameras).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    for camera in [
        "file",
        "publishes",
        "writes",
        "annexb",
        "echo",
        "smaller",
        "virtual",
    ] {
        let blocks = if camera == "smaller" { 16 } else { 32 };
        let watch = Watch::video_and_audio().blocks_of(blocks);
        let viewer = page.watch(camera, watch).await;
        viewer.frames_within(Duration::from_secs(15)).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let report = viewer.report().await;
        assert!(report.shown.len() > 50, "{camera}: {}", report.summary());
        match camera {
            "virtual" => {
                assert_eq!((report.width, report.height), (640, 360));
                let pitch = viewer.pitch().await;
                assert!((pitch - 440.0).abs() < 20.0, "{pitch}");
            }
            _ => report
                .frames_are_right()
                .unwrap_or_else(|e| panic!("{camera}: {e}; {}", report.summary())),
        }
        if camera == "smaller" {
            assert_eq!((report.width, report.height), (320, 180));
        }
        viewer.close().await;
    }
    all_gone(&server, GONE).await;
}
