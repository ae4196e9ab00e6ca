//! Each fault has its verdict, within 10 s: in the body of the refusal or in the lists, and in the log.
//!
//! ```sh
//! cargo test -p integration_tests verdicts:: -- --nocapture
//! ```

mod network;
mod unit;
mod watching;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::future::join_all;
use integration_tests::{
    camera::{self, tls::TlsFront},
    eventually,
    network::say,
    offer,
    scripted::{Camera, Scheme, ScriptedCamera, Step, h264_sdp},
    server::{Reply, Server},
};
use serde_json::Value;

/// From the offer, or from the moment at which something broke.
const SOON: Duration = Duration::from_secs(10);

const PASSWORD: &str = "Canary5Password";

/// Begins a description with one track after it.
const SESSION: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=One\r\nt=0 0\r\na=control:*\r\n";
const H265: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:track1\r\n";
const JPEG: &str = "m=video 0 RTP/AVP 26\r\na=control:track1\r\n";
const AAC: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/16000/1\r\n\
                   a=fmtp:97 mode=AAC-hbr;config=1408;sizelength=13;indexlength=3;indexdeltalength=3\r\n\
                   a=control:track2\r\n";
const SURROUND: &str =
    "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/6\r\na=control:track2\r\n";
const PCMU: &str = "m=audio 0 RTP/AVP 0\r\na=control:track2\r\n";

/// The code in an object that has a verdict.
fn code(of: &Value) -> &str {
    of["verdict"]["code"].as_str().unwrap_or_default()
}

/// Tells whoever runs the tests how long it took to learn what was wrong.
fn tell(fault: &str, code: &str, took: Duration) {
    say(&format!(
        "{fault:<52} {code:<20} {:5.1} s",
        took.as_secs_f64()
    ));
    assert!(took <= SOON, "{fault}: {took:?}");
}

/// Asserts that a line of the log has the verdict, without anybody having asked for more than usual.
async fn is_logged(log: impl Fn() -> String, code: &str) {
    is_logged_above(" DEBUG ", log, code).await;
}

/// The same, in a line of another level than `less`.
async fn is_logged_above(less: &str, log: impl Fn() -> String, code: &str) {
    let wanted = format!("verdict={code}");
    eventually("the log has it", Duration::from_secs(3), || async {
        let log = log();
        let mut lines = log.lines().filter(|line| !line.contains(less));
        let found = lines.any(|line| line.split(' ').any(|word| word == wanted));
        assert!(!log.contains(PASSWORD), "a password in the log");
        found
            .then_some(())
            .ok_or_else(|| format!("no {wanted} in:\n{log}"))
    })
    .await;
}

/// Asserts what a refusal tells.
async fn assert_refused(server: &Server, fault: &str, reply: &Reply, expected: &str) {
    let body = reply.json();
    assert_eq!(code(&body), expected, "{fault}: {}", reply.body);
    for text in ["stage", "cause", "advice"] {
        assert!(body["verdict"][text].is_string(), "{fault}: {}", reply.body);
    }
    assert!(!reply.body.contains(PASSWORD), "{fault}: {}", reply.body);
    // What clients ask wrongly is theirs to read, not the operator's.
    let less = match body["verdict"]["stage"].as_str() {
        Some("request") => " TRACE ",
        _ => " DEBUG ",
    };
    is_logged_above(less, || server.log(), expected).await;
    tell(fault, expected, reply.took);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = listener.local_addr();
    address.expect("a bound socket has an address").port()
}

fn playing() -> Camera {
    Camera::describing(h264_sdp())
}

fn describing(tracks: &[&str]) -> Camera {
    Camera::describing(format!("{SESSION}{}", tracks.concat()))
}

async fn refusing(method: &str, status: u16) -> ScriptedCamera {
    ScriptedCamera::start(playing().refusing(method, status)).await
}

/// Faults, cameras that have them, and their verdicts.
async fn faulty() -> Vec<(&'static str, ScriptedCamera, &'static str)> {
    vec![
        (
            "401, another password",
            {
                let camera = playing().requiring("viewer", "another", Scheme::Digest);
                ScriptedCamera::start(camera).await
            },
            "password-refused",
        ),
        ("404", refusing("DESCRIBE", 404).await, "unknown-path"),
        ("453", refusing("SETUP", 453).await, "not-enough-bandwidth"),
        ("461", refusing("SETUP", 461).await, "transport-refused"),
        (
            "camera full: 503",
            refusing("PLAY", 503).await,
            "camera-full",
        ),
        ("551", refusing("DESCRIBE", 551).await, "camera-error"),
        (
            "camera full: it hangs up",
            ScriptedCamera::closing().await,
            "camera-hung-up",
        ),
        (
            "it never answers",
            ScriptedCamera::silent().await,
            "camera-timeout",
        ),
        (
            "a web server",
            ScriptedCamera::replying("HTTP/1.1 400 No\r\n\r\n").await,
            "not-rtsp",
        ),
        (
            "an answer to DESCRIBE that is too large",
            {
                let answer = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n";
                let camera = vec![Step::Listen, Step::Say(answer.into()), Step::Stall];
                ScriptedCamera::start(camera).await
            },
            "bad-answer",
        ),
        (
            "PLAY and no media",
            ScriptedCamera::start(playing().frames(0)).await,
            "no-media",
        ),
        (
            "H.265",
            ScriptedCamera::start(describing(&[H265, PCMU])).await,
            "browser-video",
        ),
        (
            "MJPEG",
            ScriptedCamera::start(describing(&[JPEG, PCMU])).await,
            "unsupported-video",
        ),
        (
            "AAC with six channels only",
            ScriptedCamera::start(describing(&[SURROUND])).await,
            "unsupported-audio",
        ),
        (
            "bad SDP of the camera",
            ScriptedCamera::describing("hello").await,
            "bad-description",
        ),
        (
            "redirect to a forbidden place",
            {
                let there = playing().redirecting(302, "rtsp://169.254.169.254/live");
                ScriptedCamera::start(there).await
            },
            "redirect-forbidden",
        ),
        (
            "redirect to another protocol",
            {
                let there = playing().redirecting(302, "file:///etc/passwd");
                ScriptedCamera::start(there).await
            },
            "redirect-lost",
        ),
    ]
}

#[tokio::test]
async fn a_camera_that_cannot_be_played_is_told_with_the_refusal() {
    let server = &Server::start().await;
    let closed = free_port();
    let cameras = faulty().await;
    let scripted = cameras
        .iter()
        .map(|(fault, camera, code)| (*fault, camera.url_as("viewer", PASSWORD, "/live"), *code));
    let mut locked = playing();
    locked = locked.requiring("viewer", PASSWORD, Scheme::Basic);
    let locked = ScriptedCamera::start(locked).await;
    let (talking, silent) = (
        ScriptedCamera::speaking("220 mail.test ready\r\n").await,
        ScriptedCamera::silent().await,
    );
    let others = [
        ("401, no password", locked.url("/live"), "password-missing"),
        (
            "closed port",
            format!("rtsp://127.0.0.1:{closed}/live"),
            "port-closed",
        ),
        (
            "DNS failure",
            "rtsp://no-such-host.invalid/live".to_owned(),
            "unknown-host",
        ),
        (
            "forbidden address",
            "rtsp://169.254.169.254/live".to_owned(),
            "forbidden-address",
        ),
        (
            "no TLS there",
            talking.url("/live").replace("rtsp:", "rtspx:"),
            "tls-failed",
        ),
        (
            "TLS without an end",
            silent.url("/live").replace("rtsp:", "rtspx:"),
            "tls-timeout",
        ),
        (
            "no URL of a camera",
            "http://127.0.0.1/video".to_owned(),
            "bad-url",
        ),
        ("no such camera", "nobody".to_owned(), "unknown-camera"),
    ];
    let others = others.into_iter();
    let offers = scripted.chain(others).map(|(fault, url, code)| async move {
        let reply = server.offer(&url, &offer::probe()).await;
        assert_refused(server, fault, &reply, code).await;
    });
    join_all(offers).await;
    let reply = server
        .offer(&cameras[2].1.url("/live"), &offer::probe())
        .await;
    let evidence = &reply.json()["verdict"]["evidence"];
    assert_eq!(*evidence, "RTSP/1.0 453 Not Enough Bandwidth");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told_with_the_refusal() {
    if !camera::installed() {
        return;
    }
    let _machine = integration_tests::alone().await;
    let camera = camera::Camera::h264().small().start().await;
    let front = TlsFront::before(&camera).await;
    let server = Server::start().await;
    let url = front.url("rtsps", "localhost");
    let reply = server.offer(&url, &offer::probe()).await;
    assert_refused(&server, "TLS failure", &reply, "tls-untrusted").await;
}

#[tokio::test]
async fn a_mistake_of_the_client_is_told_with_the_refusal() {
    let server = Server::start().await;
    let reply = server.offer("demo:", "hello").await;
    assert_refused(&server, "bad SDP of the client", &reply, "bad-offer").await;
    let reply = server.post_form("/stream", &[("url", "demo:")]).await;
    assert_refused(&server, "no offer", &reply, "bad-request").await;
    let large = "A".repeat(300_000);
    let fields = [("url", "demo:"), ("sdp64", large.as_str())];
    let reply = server.post_form("/stream", &fields).await;
    assert_refused(&server, "a large request", &reply, "request-too-large").await;
    let probe = offer::probe();
    let reply = server.offer("demo:", &probe.replace("H264/", "VP9/")).await;
    assert_refused(&server, "a browser without H.264", &reply, "browser-video").await;
    let reply = server
        .offer("demo:", &probe.replace("a=recvonly", "a=inactive"))
        .await;
    assert_refused(
        &server,
        "an offer that receives nothing",
        &reply,
        "nothing-to-play",
    )
    .await;
    let page = server.http().post(server.url("/stream"));
    let reply = server
        .send(page.header("Origin", "https://other.test"))
        .await;
    assert_refused(&server, "a page of another site", &reply, "foreign-page").await;
    let named = server.http().get(server.url("/cameras"));
    let reply = server.send(named.header("Host", "other.test")).await;
    assert_refused(
        &server,
        "another name of the server",
        &reply,
        "foreign-name",
    )
    .await;
    let gone = server.http().delete(server.url("/sessions/00000000"));
    let body = server.send(gone).await.json();
    assert_eq!(code(&body), "unknown-session", "{body}");
}

#[tokio::test]
async fn a_server_with_a_login_tells_who_has_none() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.yaml");
    std::fs::write(&file, "auth: {token: Canary5Token}\n").expect("a file can be made");
    let server = Server::start_with(&["--config", &file.to_string_lossy()]).await;
    let reply = server.offer("demo:", &offer::probe()).await;
    assert_refused(&server, "no login to the server", &reply, "server-login").await;
}

/// The dialects have forms of their own, and the verdict is the same.
#[tokio::test]
async fn every_dialect_tells_the_same_verdict() {
    let camera = refusing("DESCRIBE", 404).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.yaml");
    let settings = format!(
        "rtsp_to_web: {{}}\ncameras:\n  there: \"{}\"\n",
        camera.url("/live")
    );
    std::fs::write(&file, settings).expect("a file can be made");
    let server = Server::start_with(&["--config", &file.to_string_lossy()]).await;
    let whep = server.http().post(server.url("/whep/there"));
    let whep = whep
        .header("content-type", "application/sdp")
        .body(offer::probe());
    let offer = BASE64.encode(offer::probe());
    let fields = [("data", offer.as_str())];
    for reply in [
        server.send(whep).await,
        server.offer("there", &offer::probe()).await,
        server.post_form("/stream/receiver/there", &fields).await,
        server
            .post_form("/stream/there/channel/0/webrtc", &fields)
            .await,
    ] {
        assert_eq!(code(&reply.json()), "unknown-path", "{}", reply.body);
    }
    let plain = server.http().post(server.url("/api/webrtc?src=there"));
    let plain = server.send(plain.body(offer::probe())).await;
    assert!(
        plain.content_type.starts_with("text/plain"),
        "{}",
        plain.body
    );
    let cameras = server.get("/cameras").await.json();
    let listed = cameras["cameras"].as_array().expect("a list");
    let there = listed.iter().find(|camera| camera["name"] == "there");
    assert_eq!(there.map(code), Some("unknown-path"), "{cameras}");
}

/// Waits until a viewer of `camera` is listed with a verdict, and tells how long that took.
async fn listed(http: &reqwest::Client, base: &str, camera: &str, expected: &str) -> Duration {
    let start = Instant::now();
    eventually(expected, SOON, || async {
        let sessions = http.get(format!("{base}/sessions")).send();
        let text = sessions.await.map_err(|e| e.to_string())?.text();
        let text = text.await.map_err(|e| e.to_string())?;
        let lists: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let both = ["sessions", "ended"].map(|list| lists[list].as_array().cloned());
        let mut all = both.into_iter().flatten().flatten();
        let is_it = |session: &Value| session["camera"] == camera && code(session) == expected;
        all.any(|session| is_it(&session)).then_some(()).ok_or(text)
    })
    .await;
    start.elapsed()
}
