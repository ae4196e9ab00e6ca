//! What a user reads when something is wrong: which status, which words, how soon, and never a password.

use std::{net::TcpListener, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::future::join_all;
use integration_tests::{
    offer,
    scripted::{Camera, Scheme, ScriptedCamera, Step, Until, h264_sdp},
    server::{Reply, Server},
};

/// The name and password of every camera here; nothing that the server says may contain the password.
const USER: &str = "viewer";
const PASSWORD: &str = "Canary9Password";

/// Home Assistant gives up after 10 s, so its user reads nothing that comes later.
const SOON: Duration = Duration::from_millis(8_500);

/// A stream of pictures without any codec that browsers take over WebRTC.
const JPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=JPEG\r\nt=0 0\r\na=control:*\r\n\
                    m=video 0 RTP/AVP 26\r\na=control:track1\r\n";

/// Asserts what holds for every refusal, and gives its text.
async fn refusal(server: &Server, reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{}", reply.body);
    let error = reply.error();
    assert!(reply.took <= SOON, "{:?}: {error}", reply.took);
    // The log comes through a pipe, a little later than the reply.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for secret in [
        PASSWORD.to_owned(),
        BASE64.encode(format!("{USER}:{PASSWORD}")),
    ] {
        assert!(!reply.body.contains(&secret), "{error}");
        let log = server.log();
        let leak = log.lines().find(|line| line.contains(&secret));
        assert_eq!(leak, None, "a password in the log");
    }
    error
}

/// Asserts that `error` has each of `words`, in any case; `a|b` stands for either of two.
fn assert_mentions(error: &str, words: &[&str]) {
    let text = error.to_lowercase();
    for word in words {
        let found = word
            .split('|')
            .any(|word| text.contains(&word.to_lowercase()));
        assert!(found, "nothing of {word:?} in: {error}");
    }
}

/// Offers to watch `camera` with a server of its own, and checks the refusal.
async fn assert_refused(camera: &str, status: u16, words: &[&str]) {
    let server = Server::start().await;
    let reply = server.offer(camera, &offer::probe()).await;
    assert_mentions(&refusal(&server, &reply, status).await, words);
}

/// A URL on this machine, with name and password, that nobody answers.
fn closed() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    format!("rtsp://{USER}:{PASSWORD}@127.0.0.1:{port}/live")
}

fn url(camera: &ScriptedCamera) -> String {
    camera.url_as(USER, PASSWORD, "/live")
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let camera = format!("rtsp://{USER}:{PASSWORD}@no-such-host.invalid/live");
    let words = [
        "no-such-host.invalid",
        "cannot be found|not found|unknown",
        "name",
    ];
    assert_refused(&camera, 502, &words).await;
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    assert_refused(&closed(), 502, &["refused", "port"]).await;
}

#[tokio::test]
async fn a_silent_camera_did_not_answer_within_so_many_seconds() {
    let camera = ScriptedCamera::silent().await;
    assert_refused(
        &url(&camera),
        504,
        &["did not answer", " s;| s | seconds", "check"],
    )
    .await;
}

#[tokio::test]
async fn a_camera_that_thinks_too_long_did_not_answer_either() {
    let thinking = Camera::describing(JPEG).slow(Duration::from_secs(20));
    let camera = ScriptedCamera::start(thinking).await;
    assert_refused(&url(&camera), 504, &["did not answer", "check"]).await;
}

/// Each reply comes in time, all of them together do not.
#[tokio::test]
async fn a_camera_that_is_slow_at_every_step_is_given_up_in_time() {
    let slow = Camera::describing(h264_sdp()).slow(Duration::from_millis(2_500));
    let camera = ScriptedCamera::start(slow).await;
    assert_refused(&url(&camera), 504, &["did not answer|too slow|within"]).await;
}

#[tokio::test]
async fn a_camera_that_plays_nothing_is_given_up_in_time() {
    let camera = ScriptedCamera::start(Camera::describing(h264_sdp()).frames(0)).await;
    assert_refused(&url(&camera), 504, &["media|picture|video"]).await;
}

#[tokio::test]
async fn half_a_reply_is_no_reply() {
    let half = Camera::describing(h264_sdp()).until(Until::Bytes(150));
    let camera = ScriptedCamera::start(vec![half.clone(), Step::Stall]).await;
    assert_refused(&url(&camera), 504, &["did not answer", "check"]).await;
    for end in [vec![half.clone()], vec![half, Step::Reset]] {
        let camera = ScriptedCamera::start(end).await;
        assert_refused(&url(&camera), 502, &["closed the connection"]).await;
    }
}

#[tokio::test]
async fn a_camera_that_hangs_up_at_once_is_told_from_a_closed_port() {
    let camera = ScriptedCamera::closing().await;
    assert_refused(&url(&camera), 502, &["closed the connection"]).await;
}

#[tokio::test]
async fn an_http_server_is_not_rtsp() {
    let page = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\
                Connection: close\r\n\r\n<h1>No!</h1>\r\n\r";
    let camera = ScriptedCamera::replying(page).await;
    assert_refused(&url(&camera), 502, &["not RTSP", "port"]).await;
}

#[tokio::test]
async fn an_ssh_server_is_not_rtsp() {
    let camera = ScriptedCamera::speaking("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await;
    assert_refused(&url(&camera), 502, &["not RTSP", "port"]).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_by_the_camera() {
    for scheme in [Scheme::Basic, Scheme::Digest] {
        let camera = ScriptedCamera::requiring(USER, "another", scheme).await;
        let words = ["refused the user name or password", "check"];
        assert_refused(&url(&camera), 502, &words).await;
    }
}

#[tokio::test]
async fn a_missing_password_is_asked_for() {
    let camera = ScriptedCamera::requiring(USER, PASSWORD, Scheme::Digest).await;
    assert_refused(
        &camera.url("/live"),
        502,
        &["user name and password", "rtsp://"],
    )
    .await;
}

#[tokio::test]
async fn the_right_password_is_shown_to_nobody() {
    let server = Server::start().await;
    for scheme in [Scheme::Basic, Scheme::Digest] {
        let camera = ScriptedCamera::requiring(USER, PASSWORD, scheme).await;
        let reply = server.offer(&url(&camera), &offer::probe()).await;
        assert_eq!(reply.status, 200, "{scheme:?}: {}", reply.body);
        assert!(!reply.body.contains(PASSWORD) && !server.log().contains(PASSWORD));
        for request in camera.requests() {
            assert!(!request.uri.contains(PASSWORD), "{request:?}");
        }
    }
}

/// Some cameras lock the account after a few wrong passwords.
#[tokio::test]
async fn a_wrong_password_is_tried_once_however_often_viewers_come() {
    let camera = ScriptedCamera::requiring(USER, "another", Scheme::Digest).await;
    let server = Server::start().await;
    for _ in 0..3 {
        let reply = server.offer(&url(&camera), &offer::probe()).await;
        let error = refusal(&server, &reply, 502).await;
        assert_mentions(&error, &["refused the user name or password"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut requests = camera.requests();
    requests.retain(|request| request.method != "OPTIONS");
    let tries = requests
        .iter()
        .filter(|request| request.header("Authorization").is_some());
    assert_eq!(tries.count(), 1, "{requests:#?}");
    assert!(requests.len() <= 2, "{requests:#?}");
}

#[tokio::test]
async fn an_unknown_path_is_404_and_the_path() {
    let camera = ScriptedCamera::status(404).await;
    assert_refused(&url(&camera), 502, &["404", "path"]).await;
}

#[tokio::test]
async fn a_camera_without_h264_is_told_what_to_set() {
    let camera = ScriptedCamera::describing(JPEG).await;
    assert_refused(
        &url(&camera),
        406,
        &["JPEG", "H.264|H264", "set|switch|choose"],
    )
    .await;
}

#[tokio::test]
async fn cameras_that_fail_at_the_same_time_have_errors_of_their_own() {
    let http = ScriptedCamera::replying("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let path = ScriptedCamera::status(404).await;
    let locked = ScriptedCamera::requiring(USER, "another", Scheme::Digest).await;
    let server = &Server::start().await;
    let cases = &[
        (url(&http), "not RTSP"),
        (closed(), "connection refused"),
        (url(&path), "(404 Not Found)"),
        (url(&locked), "refused the user name"),
    ];
    for _ in 0..3 {
        let offers = cases.iter().map(|(camera, word)| async move {
            let reply = server.offer(camera, &offer::probe()).await;
            let error = refusal(server, &reply, 502).await;
            for (_, other) in cases {
                assert_eq!(
                    error.contains(other),
                    other == word,
                    "{other:?} of {camera}: {error}"
                );
            }
        });
        join_all(offers).await;
    }
}

/// The video section of the probe alone, with VP8 as its only codec.
fn offer_without_h264() -> String {
    let probe = offer::probe();
    let (session, media) = probe.split_once("m=audio").expect("the probe has audio");
    let (_, media) = media.split_once("m=video").expect("the probe has video");
    let (video, _) = media
        .split_once("m=application")
        .expect("the probe has data");
    format!("{session}m=video{video}")
        .replace("BUNDLE 0 1 2", "BUNDLE 1")
        .replace("SAVPF 96 98", "SAVPF 96")
        .split_inclusive("\r\n")
        .filter(|line| !line.contains(":98 "))
        .collect()
}

#[tokio::test]
async fn a_browser_without_h264_is_told_so() {
    let server = Server::start().await;
    let reply = server.offer("demo:", &offer_without_h264()).await;
    let error = refusal(&server, &reply, 406).await.replace('.', "");
    assert_mentions(&error, &["H264", "VP8|browser|offer"]);
}

/// Posts form fields and checks the refusal.
async fn assert_form_refused(fields: &[(&str, &str)], status: u16, words: &[&str]) {
    let server = Server::start().await;
    let reply = server.post_form("/stream", fields).await;
    assert_mentions(&refusal(&server, &reply, status).await, words);
}

#[tokio::test]
async fn what_is_no_base64_is_said_to_be_none() {
    for junk in ["%%%not base64%%%", "dj0wDQo=dj0w", "a"] {
        let fields = [("url", "demo:"), ("sdp64", junk)];
        assert_form_refused(&fields, 400, &["base64"]).await;
    }
}

#[tokio::test]
async fn an_empty_offer_is_refused() {
    assert_form_refused(
        &[("url", "demo:"), ("sdp64", "")],
        400,
        &["sdp64|offer|SDP"],
    )
    .await;
    assert_form_refused(&[("url", "demo:")], 400, &["sdp64|offer|SDP"]).await;
}

#[tokio::test]
async fn what_is_no_sdp_is_refused() {
    let server = Server::start().await;
    for junk in [
        "\r\n",
        "hello",
        "v=0\r\n",
        "{\"type\":\"offer\"}",
        "v=0\r\nm=\r\n",
        "\u{0}\u{1}",
    ] {
        let reply = server.offer("demo:", junk).await;
        assert_mentions(&refusal(&server, &reply, 400).await, &["offer|SDP"]);
    }
}

#[tokio::test]
async fn an_answer_in_place_of_an_offer_is_called_an_answer() {
    let server = Server::start().await;
    for setup in ["active", "passive"] {
        let answer = offer::probe().replace("a=setup:actpass", &format!("a=setup:{setup}"));
        let reply = server.offer("demo:", &answer).await;
        assert_mentions(&refusal(&server, &reply, 400).await, &["answer", "offer"]);
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_told_the_limit() {
    let large = "A".repeat(300_000);
    assert_form_refused(&[("url", "demo:"), ("sdp64", &large)], 413, &["256 KiB"]).await;
}

/// They could smuggle lines into the camera's protocol.
#[tokio::test]
async fn line_breaks_in_a_url_are_refused() {
    let camera = ScriptedCamera::silent().await;
    let sdp = BASE64.encode(offer::probe());
    for smuggled in [
        "/live\r\nX-Header: 1",
        "/live\nX",
        "/\r",
        "/\u{0}live",
        "/live\u{7f}",
    ] {
        let camera = camera.url_as(USER, PASSWORD, smuggled);
        let fields = [("url", camera.as_str()), ("sdp64", &sdp)];
        assert_form_refused(&fields, 400, &["control characters"]).await;
    }
    assert_eq!(camera.connections(), 0);
}

#[tokio::test]
async fn a_web_address_is_answered_with_the_right_scheme() {
    for scheme in ["http", "https"] {
        let camera = format!("{scheme}://{USER}:{PASSWORD}@127.0.0.1/video.mjpg");
        assert_refused(&camera, 400, &["rtsp://"]).await;
    }
}

#[tokio::test]
async fn a_missing_url_is_asked_for() {
    let sdp = BASE64.encode(offer::probe());
    assert_form_refused(&[("sdp64", &sdp)], 400, &["url"]).await;
    assert_form_refused(&[("url", ""), ("sdp64", &sdp)], 400, &["url"]).await;
}
