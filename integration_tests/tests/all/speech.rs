//! What is said into a browser comes out of the camera, one speaker at a time, and playing never suffers.

use std::{f64::consts::TAU, path::PathBuf, time::Duration};

use integration_tests::{
    browser::{Browser, Page, Viewer, Watch},
    camera::{Camera, Heard},
    eventually, offer,
    scripted::{self, ScriptedCamera, h264_sdp},
    server::{Server, answer_of},
};
use serde_json::Value;
use tempfile::TempDir;

/// What the microphone hears; cameras send another tone.
const SAID: f64 = 1_000.0;
const SOON: Duration = Duration::from_secs(10);

/// A browser whose microphone hears a tone, without asking anybody.
struct Speaking {
    browser: Browser,
    _sound: TempDir,
}

impl Speaking {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = tone(&folder);
        let browser = Browser::start_with(&[
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            &format!("--use-file-for-fake-audio-capture={}", file.display()),
        ])
        .await;
        Self {
            browser,
            _sound: folder,
        }
    }

    async fn viewers_of(&self, server: &Server) -> Page {
        self.browser.viewers_of(server).await
    }
}

/// Ten seconds of the tone as a WAVE file, which the browser repeats.
fn tone(folder: &TempDir) -> PathBuf {
    const RATE: u32 = 48_000;
    let samples = (0..RATE * 10).flat_map(|n| {
        let wave = (f64::from(n) / f64::from(RATE) * SAID * TAU).sin();
        #[expect(clippy::cast_possible_truncation, reason = "below 10,000")]
        let sample = (wave * 10_000.0) as i16;
        sample.to_le_bytes()
    });
    let sound: Vec<u8> = samples.collect();
    let length = u32::try_from(sound.len()).expect("a megabyte");
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((length + 36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    // Linear samples, one channel of two bytes.
    file.extend([1, 0, 1, 0]);
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(sound);
    let path = folder.path().join("tone.wav");
    std::fs::write(&path, file).expect("the file can be written");
    path
}

/// Waits until the camera has heard the tone for a second, from now on.
async fn heard(server: &Server, camera: &Camera, by: &str) {
    let before = camera.heard().len();
    eventually(&format!("speech {by}"), SOON, || async {
        let heard = camera.heard().split_off(before);
        let is_tone = |heard: &Heard| (heard.hertz - SAID).abs() < 15.0 && heard.loudest > 3_000;
        let good = heard.windows(2).any(|two| two.iter().all(is_tone));
        good.then_some(())
            .ok_or_else(|| format!("{heard:?}; log:\n{}", server.log()))
    })
    .await;
}

/// Waits until the viewers of the server have these verdicts, in any order.
async fn told(server: &Server, expected: &[Option<&str>]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    eventually(&format!("{expected:?}"), SOON, || async {
        let sessions = server.get("/sessions").await.json();
        let all = sessions["sessions"].as_array().expect("a list");
        let codes = all
            .iter()
            .map(|session| session["verdict"]["code"].as_str());
        let mut codes: Vec<_> = codes.collect();
        codes.sort_unstable();
        (codes == expected)
            .then_some(())
            .ok_or_else(|| format!("{codes:?}"))
    })
    .await;
}

async fn open_connections(camera: &Camera, expected: usize) {
    eventually("connections of the camera", SOON, || async {
        let open = camera.open_connections();
        (open == expected)
            .then_some(())
            .ok_or_else(|| open.to_string())
    })
    .await;
}

async fn watching(page: &Page, camera: &Camera, watch: Watch) -> Viewer {
    let viewer = page.watch(&camera.url(), watch).await;
    viewer.frames_within(SOON).await;
    viewer
}

/// As it is, out of Opus, and in a section of its own; the back channel is open while somebody speaks, and no
/// longer.
#[tokio::test]
async fn what_is_said_into_a_browser_comes_out_of_the_camera() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Speaking::start().await;
    let page = browser.viewers_of(&server).await;
    for (law, as_it_is) in [("pcma", "audio/PCMA"), ("pcmu", "audio/PCMU")] {
        let camera = Camera::h264().small().with_pcmu().with_back_channel(law);
        let camera = camera.start().await;
        let both_ways = ["a=sendrecv", "a=sendonly"];
        let apart = ["a=sendonly", "a=sendonly", "a=recvonly"];
        let sound = Watch::audio_and_video;
        for (watch, codec, directions) in [
            (sound().speaking(None), as_it_is, &both_ways[..]),
            (
                sound().speaking(Some("audio/opus")),
                "audio/opus",
                &both_ways,
            ),
            (sound().speaking_apart(), as_it_is, &apart),
        ] {
            let viewer = watching(&page, &camera, watch).await;
            heard(&server, &camera, &format!("as {codec} to {law}")).await;
            let report = viewer.report().await;
            assert_eq!(report.directions, directions, "{}", report.summary());
            assert_eq!(report.speech_codec, codec, "{}", report.summary());
            assert_eq!(camera.open_connections(), 2);
            // The camera's own sound goes on beside it.
            assert!(report.audio_packets > 0, "{}", report.summary());
            assert!((viewer.pitch().await - 440.0).abs() < 4.0);
            assert_eq!(viewer.report().await.frames_are_right(), Ok(()));
            viewer.close().await;
            open_connections(&camera, 1).await;
        }
        // One connection plays all the time; one asks, and each who speaks has one.
        assert_eq!(camera.connections(), 5);
        assert_eq!(camera.requested("TEARDOWN"), 3);
    }
}

#[tokio::test]
async fn a_microphone_that_is_switched_off_closes_the_back_channel() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().with_back_channel("pcma");
    let camera = camera.start().await;
    let server = Server::start().await;
    let browser = Speaking::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = watching(&page, &camera, Watch::audio_and_video().speaking(None)).await;
    heard(&server, &camera, "at first").await;
    viewer.microphone(false).await;
    open_connections(&camera, 1).await;
    viewer.new_frames_within(SOON).await;
    viewer.microphone(true).await;
    heard(&server, &camera, "again").await;
    assert_eq!(viewer.report().await.frames_are_right(), Ok(()));
    told(&server, &[None]).await;
}

#[tokio::test]
async fn a_second_speaker_is_told_to_wait_while_both_watch_on() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().with_back_channel("pcmu");
    let camera = camera.start().await;
    let server = Server::start().await;
    let browser = Speaking::start().await;
    let page = browser.viewers_of(&server).await;
    let watch = || Watch::audio_and_video().speaking(None);
    let first = watching(&page, &camera, watch()).await;
    heard(&server, &camera, "by the first").await;
    told(&server, &[None]).await;
    let second = watching(&page, &camera, watch()).await;
    told(&server, &[None, Some("speaker-busy")]).await;
    eventually("the log has it", SOON, || async {
        let log = server.log();
        let is_told = log.contains("verdict=speaker-busy");
        is_told.then_some(()).ok_or(log)
    })
    .await;
    assert_eq!(camera.open_connections(), 2);
    for viewer in [&first, &second] {
        viewer.new_frames_within(SOON).await;
    }
    heard(&server, &camera, "by the first still").await;
    first.close().await;
    heard(&server, &camera, "by the second").await;
    told(&server, &[None]).await;
    assert_eq!(second.report().await.frames_are_right(), Ok(()));
}

/// An offer that would send sound as well.
fn both_ways() -> String {
    offer::probe().replacen("a=recvonly", "a=sendrecv", 1)
}

/// The codes of the notes in a successful reply to an offer; the answer must send pictures, and take no sound.
fn notes(reply: &integration_tests::server::Reply) -> Vec<String> {
    let answer = answer_of(reply);
    assert!(answer.contains("H264/90000"), "{answer}");
    assert!(
        !answer.contains("a=sendrecv") && !answer.contains("a=recvonly"),
        "{answer}"
    );
    let body = reply.json();
    let notes = body["notes"].as_array().expect("a list");
    notes
        .iter()
        .map(|note| note.as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn a_camera_that_cannot_be_talked_to_plays_and_the_note_tells_why() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().with_pcmu().start().await;
    let server = Server::start().await;
    let browser = Speaking::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = watching(&page, &camera, Watch::audio_and_video().speaking(None)).await;
    told(&server, &[Some("no-back-channel")]).await;
    let report = viewer.report().await;
    assert_eq!(report.directions, ["a=sendonly", "a=sendonly"]);
    viewer.new_frames_within(SOON).await;
    let reply = server.offer(&camera.url(), &both_ways()).await;
    let told = notes(&reply);
    assert!(told[0].contains("no ONVIF back channel (551)"), "{told:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(viewer.report().await.frames_are_right(), Ok(()));
    // It was asked once.
    assert_eq!((camera.connections(), camera.open_connections()), (2, 1));
}

#[tokio::test]
async fn other_reasons_not_to_be_heard_are_told_and_nothing_else_breaks() {
    let server = Server::start().await;
    let described = String::from_utf8(h264_sdp()).expect("it is text");
    let aac = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/16000\r\na=sendonly\r\na=control:track9\r\n";
    let deaf = scripted::Camera::describing(format!("{described}{aac}"));
    let alone = ScriptedCamera::start_each(|connection| match connection {
        0 => scripted::Camera::describing(h264_sdp()).into(),
        // One that serves a single client hangs up.
        _ => vec![].into(),
    });
    for (camera, connections, option, part, code) in [
        (
            ScriptedCamera::start(deaf).await,
            2,
            "",
            "no G.711",
            "unsupported-speech",
        ),
        (
            alone.await,
            2,
            "",
            "closed the connection",
            "back-channel-failed",
        ),
        (
            ScriptedCamera::describing(h264_sdp()).await,
            1,
            "#backchannel=0",
            "switched off by #backchannel=0",
            "no-back-channel",
        ),
    ] {
        let camera = camera.allowing(connections);
        let url = format!("{}{option}", camera.url("/live"));
        let reply = server.offer(&url, &both_ways()).await;
        let told = notes(&reply);
        assert!(
            told.iter().any(|note| note.contains(part)),
            "{code}: {told:?}"
        );
        let sessions: Value = server.get("/sessions").await.json();
        let text = sessions.to_string();
        assert!(
            text.contains(&format!("\"code\":\"{code}\"")),
            "{code}: {text}"
        );
    }
}
