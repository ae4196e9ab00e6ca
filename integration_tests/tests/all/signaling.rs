//! RTSPtoWebRTC's HTTP interface, request by request: what its clients depend on is the same, and
//! where Porthole is better than the original, it is so on purpose.
//!
//! These are the differences:
//!
//! - A failure has the status that fits, 4xx, 502 or 504, where the original always says 500. The body
//!   is the same JSON object with the key `error`. It never tells a password.
//! - `tracks` is a list even if empty, where the original says `null`.
//! - The offer may also be base64 in the URL-safe alphabet or without padding, and the body may be JSON.
//! - Web pages of other origins are let in by `allowed_origins` only; the original lets in everybody.
//! - `GET /` shows the page itself instead of leading to it.
//! - `POST /stream/receiver/…` and `GET /stream/codec/…` tell their failures, where the original replies
//!   200 with nothing in it.

mod cameras;
pub(super) mod configured;
mod origins;

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use integration_tests::{
    offer,
    server::{Reply, Server, answer_of},
};
use reqwest::multipart::Form;

/// The built-in camera with picture and sound.
const DEMO: &str = "demo:";

/// Refusals that need no camera come at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Asserts that a reply is an error as clients understand it, and gives its text.
fn refusal(reply: &Reply) -> String {
    assert!(reply.status >= 400, "{} {}", reply.status, reply.body);
    let text = reply.error();
    assert!(
        !text.is_empty(),
        "an empty error with status {}",
        reply.status
    );
    text
}

/// The lines of each media section, without those of the session.
fn media_sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut sections = Vec::new();
    for line in sdp.split("\r\n") {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    sections
}

/// Asserts that an SDP answers [`offer::probe`] and that a browser can connect by it alone.
fn assert_answers_the_probe(sdp: &str) {
    assert!(sdp.starts_with("v=0\r\n"), "{sdp}");
    assert!(sdp.contains("a=group:BUNDLE 0 1 2\r\n"), "{sdp}");
    assert!(sdp.contains("\r\na=candidate:"), "no candidate: {sdp}");
    let sections = media_sections(sdp);
    let kinds: Vec<_> = sections
        .iter()
        .map(|lines| lines[0].split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["m=audio", "m=video", "m=application"], "{sdp}");
    for (mid, lines) in sections.iter().enumerate() {
        let has = |start: &str| {
            lines.iter().any(|line| line.starts_with(start)) || {
                // What holds for all sections may stand above them.
                sdp.split("\r\nm=")
                    .next()
                    .is_some_and(|session| session.contains(start))
            }
        };
        assert!(
            lines.contains(&format!("a=mid:{mid}").as_str()),
            "{lines:#?}"
        );
        assert!(has("a=ice-ufrag:") && has("a=ice-pwd:"), "{lines:#?}");
        assert!(has("a=fingerprint:"), "{lines:#?}");
        assert!(
            has("a=setup:active") || has("a=setup:passive"),
            "{lines:#?}"
        );
    }
    for lines in &sections[..2] {
        assert!(lines.contains(&"a=sendonly"), "{lines:#?}");
    }
}

fn tracks_of(reply: &Reply) -> serde_json::Value {
    reply.json()["tracks"].clone()
}

#[tokio::test]
async fn the_heartbeat_succeeds_with_and_without_following_redirects() {
    let server = Server::start().await;
    let direct = server.get("/static").await;
    assert!(direct.status < 400, "{} {}", direct.status, direct.body);
    let followed = reqwest::get(server.url("/static"))
        .await
        .expect("the server replies");
    assert_eq!(followed.status(), 200);
}

#[tokio::test]
async fn streams_stay_unknown_so_that_clients_keep_to_this_interface() {
    let server = Server::start().await;
    assert_eq!(server.get("/streams").await.status, 404);
}

#[tokio::test]
async fn the_page_is_at_the_root() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.content_type.starts_with("text/html"),
        "{}",
        page.content_type
    );
}

#[tokio::test]
async fn an_offer_as_a_form_is_answered() {
    let server = Server::start().await;
    let reply = server.offer(DEMO, &offer::probe()).await;
    assert!(
        reply.content_type.starts_with("application/json"),
        "{}",
        reply.content_type
    );
    assert_answers_the_probe(&answer_of(&reply));
    assert_eq!(tracks_of(&reply), serde_json::json!(["video", "audio"]));
    assert!(reply.took < Duration::from_secs(8), "{:?}", reply.took);
}

#[tokio::test]
async fn an_offer_as_a_multipart_form_is_answered() {
    let server = Server::start().await;
    let form = Form::new()
        .text("url", DEMO)
        .text("sdp64", BASE64.encode(offer::probe()));
    let reply = server
        .send(server.http().post(server.url("/stream")).multipart(form))
        .await;
    assert_answers_the_probe(&answer_of(&reply));
}

#[tokio::test]
async fn an_offer_as_json_is_answered() {
    let server = Server::start().await;
    let body = serde_json::json!({ "url": DEMO, "sdp64": BASE64.encode(offer::probe()) });
    let reply = server
        .send(server.http().post(server.url("/stream")).json(&body))
        .await;
    assert_answers_the_probe(&answer_of(&reply));
}

#[tokio::test]
async fn fields_that_nobody_knows_are_passed_over() {
    let server = Server::start().await;
    let offer = BASE64.encode(offer::probe());
    let fields = [("url", DEMO), ("sdp64", &offer), ("on_demand", "true")];
    assert_answers_the_probe(&answer_of(&server.post_form("/stream", &fields).await));
}

#[tokio::test]
async fn every_way_to_write_base64_is_understood() {
    let server = Server::start().await;
    let offer = offer::probe();
    let mut broken_into_lines = BASE64.encode(&offer);
    broken_into_lines.insert_str(76, "\r\n");
    let ways = [
        ("unpadded", STANDARD_NO_PAD.encode(&offer)),
        ("url-safe", URL_SAFE.encode(&offer)),
        ("url-safe and unpadded", URL_SAFE_NO_PAD.encode(&offer)),
        ("broken into lines", broken_into_lines),
    ];
    for (way, text) in ways {
        let reply = server
            .post_form("/stream", &[("url", DEMO), ("sdp64", &text)])
            .await;
        assert_eq!(reply.status, 200, "{way}: {}", reply.body);
        assert_answers_the_probe(&answer_of(&reply));
    }
}

#[tokio::test]
async fn an_offer_that_is_none_is_refused() {
    let server = Server::start().await;
    // The unescaped plus becomes a space, as the form's rules have it.
    let unescaped = server
        .http()
        .post(server.url("/stream"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("url=demo%3A&sdp64=dj0wDQo+Pj4=");
    refusal(&server.send(unescaped).await);
    for nonsense in [
        "",
        "!",
        "dj0wDQo=",
        &BASE64.encode("no session description"),
    ] {
        let reply = server
            .post_form("/stream", &[("url", DEMO), ("sdp64", nonsense)])
            .await;
        refusal(&reply);
        assert_eq!(reply.status, 400, "{nonsense:?}: {}", reply.body);
    }
}

#[tokio::test]
async fn a_request_that_lacks_something_is_refused_at_once() {
    let server = Server::start().await;
    let offer = BASE64.encode(offer::probe());
    let incomplete: [&[(&str, &str)]; 3] = [&[("url", DEMO)], &[("sdp64", &offer)], &[]];
    for fields in incomplete {
        let reply = server.post_form("/stream", fields).await;
        refusal(&reply);
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.took < AT_ONCE, "{:?}", reply.took);
    }
    let bare = server.send(server.http().post(server.url("/stream"))).await;
    refusal(&bare);
    assert!(bare.status < 500, "{} {}", bare.status, bare.body);
    let broken = server
        .http()
        .post(server.url("/stream"))
        .header("content-type", "application/json")
        .body("{\"url\":");
    let broken = server.send(broken).await;
    refusal(&broken);
    assert_eq!(broken.status, 400, "{}", broken.body);
}

#[tokio::test]
async fn a_camera_that_speaks_no_rtsp_is_refused_at_once() {
    let server = Server::start().await;
    for camera in [
        "rtmp://127.0.0.1/live",
        "http://127.0.0.1/live",
        "file:///etc/passwd",
    ] {
        let reply = server.offer(camera, &offer::probe()).await;
        refusal(&reply);
        assert_eq!(reply.status, 400, "{camera}: {}", reply.body);
        assert!(reply.took < AT_ONCE, "{camera}: {:?}", reply.took);
    }
}

#[tokio::test]
async fn needless_slashes_lead_to_the_offer() {
    let server = Server::start().await;
    let offer = BASE64.encode(offer::probe());
    let fields = [("url", DEMO), ("sdp64", offer.as_str())];
    assert_eq!(server.post_form("//stream", &fields).await.status, 200);
    let trailing = server.post_form("/stream/", &fields).await;
    assert!(
        [200, 307].contains(&trailing.status),
        "{} {}",
        trailing.status,
        trailing.body
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_words() {
    let server = Server::start().await;
    for path in ["/stream", "/nope", "/stream/front/info", "/static/nope.js"] {
        let reply = server.get(path).await;
        assert!(
            [404, 405].contains(&reply.status),
            "{path}: {}",
            reply.status
        );
        assert!(
            !reply.body.is_empty(),
            "{path}: an empty body as {}",
            reply.content_type
        );
        if reply.content_type.starts_with("application/json") {
            refusal(&reply);
        }
    }
}
