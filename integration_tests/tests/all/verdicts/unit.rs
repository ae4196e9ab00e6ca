//! No verdict without a test.

use std::fs;

use integration_tests::server::Server;

/// The tests of this folder, and those of `porthole probe`, of programs, of several sources and of
/// speech, which tell some verdicts alone.
const HERE: [&str; 7] = [
    include_str!("../verdicts.rs"),
    include_str!("watching.rs"),
    include_str!("network.rs"),
    include_str!("../probe.rs"),
    include_str!("../programs/supervision.rs"),
    include_str!("../sources.rs"),
    include_str!("../speech.rs"),
];

/// Those that only a unit test can bring about, and the file that does.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "name-server-silent",
        "NameServerSilent",
        "src/source/rtsp/connect.rs",
    ),
    (
        "track-stopped",
        "TrackStopped",
        "src/source/rtsp/diagnose.rs",
    ),
    ("packet-loss", "packet-loss", "src/probe/advice.rs"),
    ("camera-ended", "CameraEnded", "src/source/supervise.rs"),
    ("camera-closed", "CameraClosed", "src/hub/tests.rs"),
    ("slow-path", "SlowPath", "src/session/health.rs"),
    (
        "video-profile",
        "VideoProfile",
        "src/webrtc/negotiate/tests.rs",
    ),
    ("server-full", "ServerFull", "src/session.rs"),
    ("no-still", "NoStill", "src/media/still/tests.rs"),
    (
        "damaged-picture",
        "DamagedPicture",
        "src/media/still/tests.rs",
    ),
    ("late-still", "LateStill", "src/stills.rs"),
    ("internal", "Internal", "src/stills.rs"),
    (
        "request-too-slow",
        "RequestTooSlow",
        "src/signaling/encoding.rs",
    ),
    ("not-allowed", "not-allowed", "tests/rtsp_to_web.rs"),
    ("shutting-down", "ShuttingDown", "src/signaling/mod.rs"),
];

#[tokio::test]
async fn every_verdict_is_made_to_happen() {
    let server = Server::start().await;
    let known = server.get("/verdicts").await.json();
    let known = known["verdicts"].as_array().expect("a list");
    assert!(known.len() > 50, "{known:?}");
    for verdict in known {
        let code = verdict["code"].as_str().expect("a text");
        let quoted = format!("\"{code}\"");
        let is_here = HERE.iter().any(|test| test.contains(&quoted));
        let elsewhere = ELSEWHERE.iter().find(|(other, ..)| *other == code);
        let is_elsewhere = elsewhere.is_some_and(|(_, name, file)| {
            let path = integration_tests::folder().join("..").join(file);
            let text = fs::read_to_string(path).expect("the file is there");
            let tests = text.find("mod tests").map_or(&*text, |at| &text[at..]);
            tests.contains(name)
        });
        assert!(is_here || is_elsewhere, "no test makes {code} happen");
    }
}
