//! Whole pictures and sound, from the camera to what the browser decodes.

use std::time::Duration;

use futures::future::join_all;
use integration_tests::{
    browser::{Browser, Report, Viewer, Watch},
    camera::{Camera, Setup},
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(20);

/// A viewer of a camera, and the sound that it shall hear.
pub(super) struct Pair<'a> {
    pub(super) camera: &'a Camera,
    pub(super) viewer: Viewer,
    pub(super) sound: Option<&'a str>,
}

#[tokio::test]
async fn every_sound_that_a_browser_knows_plays_beside_the_picture_over_tcp() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    play_every_sound(Setup::tcp_only, "", Watch::video_and_audio()).await;
}

#[tokio::test]
async fn every_sound_that_a_browser_knows_plays_beside_the_picture_over_udp() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let as_home_assistant = Watch::audio_and_video().with_data_channel();
    play_every_sound(Setup::udp_only, "#transport=udp", as_home_assistant).await;
}

#[tokio::test]
async fn passwords_and_packets_of_any_size_do_not_matter() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let digest = Camera::h264()
        .with_pcmu()
        .digest("user", "p@ss/w:0%")
        .start()
        .await;
    let basic = Camera::h264().basic("user", "p@ss/w:0%").start().await;
    let oversized = Camera::h264()
        .with_pcma()
        .tcp_only()
        .packets_up_to(60_000)
        .start()
        .await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let pairs = join_all(
        [
            (&digest, Some("audio/PCMU")),
            (&basic, None),
            (&oversized, Some("audio/PCMA")),
        ]
        .map(async |(camera, sound)| {
            let url = camera.url_with_password();
            let viewer = page.watch(&url, Watch::video_and_audio()).await;
            Pair {
                camera,
                viewer,
                sound,
            }
        }),
    )
    .await;
    play(&pairs).await;
}

#[tokio::test]
async fn full_hd_with_pictures_of_60_kb_is_whole() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().full_hd().with_pcmu().start().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page.watch(&camera.url(), Watch::video_and_audio()).await;
    let after = play(&[Pair {
        camera: &camera,
        viewer,
        sound: Some("audio/PCMU"),
    }])
    .await;
    assert_eq!((after[0].width, after[0].height), (1920, 1080));
}

/// Plays four cameras at once: one silent, the others with a codec each.
async fn play_every_sound(transport: fn(Setup) -> Setup, fragment: &str, watch: Watch) {
    let cameras = [
        (transport(Camera::h264()).start().await, None),
        (
            transport(Camera::h264().with_pcmu()).start().await,
            Some("audio/PCMU"),
        ),
        (
            transport(Camera::h264().with_pcma()).start().await,
            Some("audio/PCMA"),
        ),
        (
            transport(Camera::h264().with_opus()).start().await,
            Some("audio/opus"),
        ),
    ];
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let pairs = join_all(cameras.iter().map(async |(camera, sound)| {
        let url = format!("{}{fragment}", camera.url());
        let viewer = page.watch(&url, watch.clone()).await;
        Pair {
            camera,
            viewer,
            sound: *sound,
        }
    }))
    .await;
    play(&pairs).await;
}

/// Watches for a while and finds nothing to complain about; gives what was seen at the end.
pub(super) async fn play(pairs: &[Pair<'_>]) -> Vec<Report> {
    for Pair { viewer, .. } in pairs {
        viewer.frames_within(Duration::from_secs(8)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = look(pairs).await;
    tokio::time::sleep(WINDOW).await;
    let after = look(pairs).await;
    let mut complaints = Vec::new();
    for ((pair, (before, sent_before)), (after, sent_after)) in
        pairs.iter().zip(&before).zip(&after)
    {
        for complaint in complaints_of(pair, before, after, sent_after - sent_before) {
            complaints.push(format!(
                "sound {:?}: {complaint}; {}",
                pair.sound,
                after.summary()
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    after.into_iter().map(|(report, _)| report).collect()
}

/// What each viewer has seen, and how much its camera has sent.
async fn look(pairs: &[Pair<'_>]) -> Vec<(Report, u64)> {
    join_all(
        pairs
            .iter()
            .map(async |pair| (pair.viewer.report().await, pair.camera.frames_sent())),
    )
    .await
}

fn complaints_of(pair: &Pair, before: &Report, after: &Report, sent: u64) -> Vec<String> {
    let mut complaints = Vec::new();
    let decoded = after.frames_decoded - before.frames_decoded;
    if decoded * 20 < sent * 19 {
        complaints.push(format!("{decoded} pictures decoded of {sent} sent"));
    }
    let gap = after.longest_gap_after_first_second();
    if gap > Duration::from_millis(500) {
        complaints.push(format!("frozen for {gap:?}"));
    }
    complaints.extend(after.frames_are_right().err());
    let last = after.shown.last().expect("pictures were shown");
    let age = pair.camera.age_of(last.number.unwrap_or_default());
    if age > u64::from(Camera::FPS) {
        complaints.push(format!("the last picture is {age} pictures old"));
    }
    if let Some(sound) = pair.sound {
        if after.audio_codec != sound {
            complaints.push(format!("sound comes as {:?}", after.audio_codec));
        }
        if after.audio_packets <= before.audio_packets
            || after.audio_emitted <= before.audio_emitted
        {
            complaints.push("no sound arrives".to_owned());
        }
        if after.audio_energy <= before.audio_energy {
            complaints.push("silence arrives".to_owned());
        }
    }
    complaints
}
