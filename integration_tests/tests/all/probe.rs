//! `porthole probe`: each fault of a camera is named within 15 s, and a good camera is not complained of.

use std::{fmt::Write as _, net::TcpListener, time::Duration};

use futures::{StreamExt as _, stream};
use integration_tests::{
    camera::{self, Camera},
    offer,
    probe::Probed,
    scripted::{Camera as Scripted, Carrier, Request, Scheme, ScriptedCamera, h264_sdp},
    server::Server,
};

/// What is promised.
const LIMIT: Duration = Duration::from_secs(15);
/// Cameras that are looked at side by side.
const AT_ONCE: usize = 3;

const USER: &str = "viewer";
const PASSWORD: &str = "Canary9Password";

/// A camera with one fault.
struct Fault {
    name: &'static str,
    camera: camera::Setup,
    /// What must be found, and nothing else.
    findings: &'static [&'static str],
    /// What the advice must say.
    word: &'static str,
    plays: bool,
    with_password: bool,
}

impl Fault {
    fn new(
        name: &'static str,
        camera: camera::Setup,
        findings: &'static [&'static str],
        word: &'static str,
        plays: bool,
    ) -> Self {
        Self {
            name,
            camera,
            findings,
            word,
            plays,
            with_password: false,
        }
    }
}

fn faults() -> Vec<Fault> {
    let unplayable = &["unsupported-video"];
    let silent = Camera::h264().with_aac().sound_only();
    let mut faults = vec![
        Fault::new(
            "B-frames",
            Camera::h264().with_b_frames(),
            &["b-frames"],
            "Baseline",
            true,
        ),
        Fault::new("sound only", silent, &["no-video"], "no video", true),
        Fault::new("H.265", Camera::h265(), &["browser-video"], "H264", true),
        Fault::new(
            "key frames 10 s apart",
            Camera::h264().gop_seconds(10),
            &["long-key-frame-interval"],
            "I-frame interval",
            true,
        ),
        Fault::new(
            "no sender reports",
            Camera::h264().without_sender_reports(),
            &["no-sender-reports"],
            "RTCP",
            true,
        ),
        Fault::new(
            "High 4:2:2",
            Camera::h264().with_professional_profile(),
            &["wrong-profile"],
            "4:2:0",
            false,
        ),
        Fault::new("MJPEG", Camera::mjpeg(), unplayable, "JPEG", false),
        Fault::new(
            "401, no password",
            Camera::h264().digest(USER, PASSWORD),
            &["password-missing"],
            "rtsp://user:password@",
            false,
        ),
        Fault::new(
            "UDP alone",
            Camera::h264().udp_only(),
            &["transport-refused"],
            "#transport=udp",
            true,
        ),
        Fault::new("none", Camera::h264().with_pcmu(), &[], "", true),
    ];
    let mut behind_password = Fault::new(
        "none, behind a password",
        Camera::h264().basic(USER, PASSWORD).tcp_only(),
        &[],
        "",
        true,
    );
    behind_password.with_password = true;
    faults.push(behind_password);
    faults
}

/// A row of the table, and what is wrong with it.
async fn looked_at(fault: Fault) -> (String, Option<String>) {
    let camera = fault.camera.start().await;
    let url = if fault.with_password {
        camera.url_with_password()
    } else {
        camera.url()
    };
    let probed = Probed::run(&["--json", &url]).await;
    let findings = probed.findings();
    let advice = probed.advice();
    let row = format!(
        "{:<24} {:>5.1} s  {:<4} {:<30} {advice}",
        fault.name,
        probed.took.as_secs_f64(),
        if probed.code == Some(0) {
            "plays"
        } else {
            "no"
        },
        findings.join(" "),
    );
    let is_right = findings == fault.findings
        && advice.contains(fault.word)
        && probed.code == Some(i32::from(!fault.plays))
        && probed.report()["plays"] == fault.plays
        && probed.took <= LIMIT
        && camera.open_connections() <= 1
        && !probed.out.contains(PASSWORD)
        && probed.err.is_empty();
    let wrong = format!("{row}\n{}{}", probed.out, probed.err);
    (row, (!is_right).then_some(wrong))
}

#[tokio::test]
async fn every_fault_is_named_within_15_s_and_a_good_camera_has_none() {
    if !camera::installed() {
        return;
    }
    let _machine = integration_tests::alone().await;
    let rows: Vec<_> = stream::iter(faults())
        .map(looked_at)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut table = String::new();
    for (row, _) in &rows {
        writeln!(table, "{row}").expect("a string takes all text");
    }
    integration_tests::network::say(&format!("{table}\n"));
    let wrong: Vec<_> = rows.into_iter().filter_map(|(_, wrong)| wrong).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_person_sees_what_the_camera_sends_and_that_something_is_done() {
    if !camera::installed() {
        return;
    }
    let _machine = integration_tests::alone().await;
    let camera = Camera::h264()
        .with_pcmu()
        .digest(USER, PASSWORD)
        .start()
        .await;
    let probed = Probed::run(&[&camera.url_with_password()]).await;
    assert_eq!(probed.code, Some(0), "{}{}", probed.out, probed.err);
    for part in [
        "GStreamer RTSP server",
        "Digest MD5",
        "H264 Constrained Baseline",
        "1280x720",
        "25.0 pictures/s",
        "a key frame every 1.0 s, no B-frames",
        "PCMU, 8000 Hz, 1 channel",
        "over TCP      works",
        "over UDP      works",
        "back channel  no",
        "Browsers play the picture and the sound",
    ] {
        assert!(probed.out.contains(part), "no {part:?} in:\n{}", probed.out);
    }
    assert!(probed.err.contains("watching"), "{}", probed.err);
    assert!(!format!("{}{}", probed.out, probed.err).contains(PASSWORD));
    assert_eq!(camera.requested("PLAY"), 2);
    assert_eq!(camera.requested("TEARDOWN"), 2);
}

#[tokio::test]
async fn a_camera_that_is_not_there_is_told_of_in_the_same_words_as_by_the_server() {
    let server = Server::start().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let closed = listener
        .local_addr()
        .expect("a bound socket has an address");
    drop(listener);
    for url in [
        format!("rtsp://{USER}:{PASSWORD}@{closed}/live"),
        format!("rtsp://{USER}:{PASSWORD}@no-such-host.invalid/live"),
    ] {
        let reply = server.offer(&url, &offer::probe()).await;
        let probed = Probed::run(&["--json", &url]).await;
        assert_eq!(probed.advice(), reply.error());
        assert_eq!(probed.report()["failure"], reply.error());
        assert_eq!((probed.code, probed.findings().len()), (Some(1), 1));
        assert!(!format!("{}{}", probed.out, probed.err).contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let camera = ScriptedCamera::requiring(USER, PASSWORD, Scheme::Sha256).await;
    let url = camera.url_as(USER, "Canary9Wrong", "/live");
    let probed = Probed::run(&["--json", &url]).await;
    assert_eq!(probed.findings(), ["password-refused"]);
    assert_eq!(probed.report()["authentication"][0], "Digest SHA-256");
    // Without it, and with it.
    assert_eq!(camera.requests_of("DESCRIBE").len(), 2);
    assert!(!format!("{}{}", probed.out, probed.err).contains("Canary9Wrong"));
}

/// One camera that sends us to another, whose description is not true and has a place for sound.
#[tokio::test]
async fn what_a_camera_describes_is_compared_with_what_it_sends() {
    let sdp = String::from_utf8(h264_sdp()).expect("a description is text");
    assert!(sdp.contains("profile-level-id=42E00A"), "{sdp}");
    let sdp = sdp.replace("profile-level-id=42E00A", "profile-level-id=64001f")
        + "m=audio 0 RTP/AVP 0\r\na=sendonly\r\na=control:talk\r\n";
    let camera = ScriptedCamera::start(Scripted::describing(sdp).only(Carrier::Tcp)).await;
    let moved = Scripted::describing("").redirecting(302, camera.url("/live"));
    let first = ScriptedCamera::start(moved).await;
    let url = first.url_as(USER, PASSWORD, "/live");
    let probed = Probed::run(&["--json", &url]).await;
    let (findings, report) = (probed.findings(), probed.report());
    assert!(
        findings.contains(&"wrong-profile".to_owned()),
        "{}",
        probed.out
    );
    let advice = probed.advice();
    assert!(
        advice.contains("High") && advice.contains("Constrained Baseline"),
        "{advice}"
    );
    assert_eq!(report["back_channel"], true);
    assert_eq!(report["tracks"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["redirected_to"], camera.url("/live"));
    assert_eq!(report["udp"]["result"], "fails");
    let required = |request: &Request| request.header("Require").is_some();
    assert!(camera.requests_of("DESCRIBE").iter().any(required));
    assert_eq!((first.connections(), camera.connections()), (1, 3));
}

#[tokio::test]
async fn a_camera_that_is_silent_or_half_dead_is_given_up_in_time() {
    let never = ScriptedCamera::silent().await;
    let nothing = ScriptedCamera::start(Scripted::describing(h264_sdp()).frames(0)).await;
    for (camera, code) in [(&never, "camera-timeout"), (&nothing, "no-media")] {
        let probed = Probed::run(&["--json", &camera.url_as(USER, PASSWORD, "/live")]).await;
        assert!(probed.took <= LIMIT, "{:?}: {}", probed.took, probed.out);
        assert_eq!(probed.findings(), [code], "{}", probed.out);
        assert_eq!(probed.code, Some(1));
    }
}

#[tokio::test]
async fn a_camera_cannot_write_to_the_terminal() {
    let sdp = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 \u{1b}[2J\u{9b}H999/90000\r\na=control:v\r\n";
    let camera = ScriptedCamera::start(Scripted::describing(sdp).refusing("SETUP", 500)).await;
    let probed = Probed::run(&[&camera.url_as(USER, PASSWORD, "/live")]).await;
    assert_eq!(probed.code, Some(1));
    assert!(probed.out.contains("?[2J?H999"), "{}", probed.out);
    let json = Probed::run(&["--json", &camera.url_as(USER, PASSWORD, "/live")]).await;
    assert!(json.out.contains("\\u001b[2J\\u009bH999"), "{}", json.out);
    for said in [probed.out, probed.err, json.out, json.err] {
        let obeyed = said.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(obeyed, None, "{said:?}");
    }
}

#[tokio::test]
async fn cameras_of_the_configuration_go_by_their_names_and_others_are_bad_usage() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("porthole.yaml");
    let camera =
        ScriptedCamera::start(Scripted::describing(h264_sdp()).refusing("DESCRIBE", 404)).await;
    let text = format!(
        "cameras:\n  door: \"{}\"\n",
        camera.url_as(USER, PASSWORD, "/live")
    );
    std::fs::write(&file, text).expect("a file can be written");
    let file = file.to_str().expect("the folder's name is text");
    let probed = Probed::run(&["door", "--config", file, "--json"]).await;
    assert_eq!(probed.code, Some(1), "{}", probed.err);
    assert!(probed.advice().contains("404"), "{}", probed.out);
    for arguments in [
        &["gate", "--config", file][..],
        &["door"],
        &["demo"],
        &["http://127.0.0.1/x"],
        &["admin:Canary9Password@192.0.2.1"],
        &["rtsp://h/x#transport=pigeon"],
        &["--nonsense"],
        &[],
    ] {
        let probed = Probed::run(arguments).await;
        assert_eq!(
            probed.code,
            Some(64),
            "{arguments:?}: {}{}",
            probed.out,
            probed.err
        );
        assert!(
            probed.out.is_empty() && !probed.err.is_empty(),
            "{}",
            probed.err
        );
        assert!(!probed.err.contains(PASSWORD), "{}", probed.err);
    }
}
