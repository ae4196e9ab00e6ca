//! Sound that browsers do not take is heard all the same: converted in the server, once for everybody.

use std::time::Duration;

use futures::future::join_all;
use integration_tests::{
    browser::{Browser, Viewer, Watch},
    camera::{Camera, Setup},
    offer,
    server::{Server, answer_of},
};
use serde_json::{Value, json};

/// The tone of every camera.
const TONE: f64 = 440.0;

#[tokio::test]
async fn aac_of_every_rate_is_heard_in_a_browser() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    hear_all([
        ("AAC 8000 Hz mono", Camera::h264().with_aac_of(8_000, 1)),
        ("AAC 16000 Hz mono", Camera::h264().with_aac_of(16_000, 1)),
        (
            "AAC 44100 Hz stereo",
            Camera::h264().with_aac_of(44_100, 2).tcp_only(),
        ),
        ("AAC 48000 Hz stereo", Camera::h264().with_aac()),
    ])
    .await;
}

#[tokio::test]
async fn other_sound_that_cameras_send_is_heard_in_a_browser() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    hear_all([
        ("AAC 16000 Hz mono", Camera::h264().with_latm_of(16_000, 1)),
        ("G722", Camera::h264().with_g722()),
        ("G726-32", Camera::h264().with_g726()),
        ("L16 44100 Hz mono", Camera::h264().with_l16_of(44_100)),
    ])
    .await;
}

/// Two viewers of each camera hear its tone as Opus, over one connection to the camera and without
/// another process; a while after the last one nothing is converted any more.
async fn hear_all<const N: usize>(setups: [(&str, Setup); N]) {
    let cameras =
        join_all(setups.map(async |(sound, setup)| (sound, setup.small().start().await))).await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let pairs = join_all(cameras.iter().map(async |(sound, camera)| {
        let first = page.watch(&camera.url(), Watch::video_and_audio()).await;
        let second = page.watch(&camera.url(), Watch::audio_and_video()).await;
        for viewer in [&first, &second] {
            viewer.frames_within(Duration::from_secs(8)).await;
        }
        (*sound, camera, [first, second])
    }))
    .await;
    let mut complaints = Vec::new();
    for (sound, camera, viewers) in &pairs {
        for viewer in viewers {
            if let Err(complaint) = hear(viewer).await {
                complaints.push(format!("{sound}: {complaint}"));
            }
        }
        if camera.connections() != 1 {
            complaints.push(format!("{sound}: {} connections", camera.connections()));
        }
        let expected = json!([{ "from": sound, "to": "opus", "active": true }]);
        let told = conversions(&server, &camera.url()).await;
        if told != expected {
            complaints.push(format!("{sound}: /cameras tells {told}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(children(server.pid()), 0);
    for (_, _, viewers) in &pairs {
        for viewer in viewers {
            viewer.close().await;
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (sound, camera, _) in &pairs {
        let told = conversions(&server, &camera.url()).await;
        assert!(told[0]["active"] != true, "{sound}: {told}");
    }
}

async fn hear(viewer: &Viewer) -> Result<(), String> {
    let before = viewer.report().await;
    if before.audio_codec.is_empty() {
        return Err(format!("no sound arrives; {}", before.summary()));
    }
    let pitch = viewer.pitch().await;
    let after = viewer.report().await;
    if after.audio_codec != "audio/opus" {
        return Err(format!("it comes as {:?}", after.audio_codec));
    }
    if after.audio_energy <= before.audio_energy {
        return Err(format!("silence arrives; {}", after.summary()));
    }
    if (pitch - TONE).abs() > 4.0 {
        return Err(format!("its tone has {pitch} Hz; {}", after.summary()));
    }
    Ok(())
}

/// What `GET /cameras` tells of conversions of the camera with this URL.
async fn conversions(server: &Server, url: &str) -> Value {
    let cameras = server.get("/cameras").await.json();
    let all = cameras["cameras"].as_array().expect("a list");
    let found = all.iter().find(|camera| camera["name"] == url);
    found.map_or(Value::Null, |camera| camera["conversions"].clone())
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> usize {
    let parent_of = |stat: String| {
        // The name before it can contain anything but the last parenthesis.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let processes = std::fs::read_dir("/proc").expect("Linux tells of its processes");
    let parents = processes.filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        parent_of(stat)
    });
    parents.filter(|parent| *parent == pid).count()
}

/// Home Assistant registers a camera and beside it a process that would convert its sound.
#[tokio::test]
async fn home_assistants_second_source_is_not_needed_for_sound() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_aac_of(16_000, 1).start().await;
    let server = Server::start().await;
    let converting = "ffmpeg:camera.front#audio=opus#query=log_level=debug";
    super::go2rtc::put(&server, "camera.front", &[&camera.url(), converting]).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let watch = Watch::audio_and_video().as_go2rtc_client();
    let viewer = page.watch("src=camera.front", watch).await;
    viewer.frames_within(Duration::from_secs(8)).await;
    assert_eq!(hear(&viewer).await, Ok(()));
    assert_eq!(camera.connections(), 1);
    assert_eq!(children(server.pid()), 0);
}

/// G.711 goes as it is to whoever takes it.
#[tokio::test]
async fn g711_is_converted_only_for_who_does_not_take_it() {
    if !integration_tests::camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcma().start().await;
    let server = Server::start().await;
    let reply = server.offer(&camera.url(), &offer::probe()).await;
    assert!(
        answer_of(&reply).contains("PCMA/8000"),
        "{}",
        answer_of(&reply)
    );
    let told = conversions(&server, &camera.url()).await;
    assert_eq!(told[0]["active"], false, "{told}");
    let only_opus = offer::probe()
        .replace("SAVPF 111 0 8", "SAVPF 111")
        .replace("a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n", "");
    let reply = server.offer(&camera.url(), &only_opus).await;
    let answer = answer_of(&reply);
    assert!(
        answer.contains("opus/48000/2") && !answer.contains("PCMA"),
        "{answer}"
    );
    let told = conversions(&server, &camera.url()).await;
    assert_eq!(told[0]["active"], true, "{told}");
}
