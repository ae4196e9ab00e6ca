//! WHEP, asked in process: each request that a player makes, and what it may count on in the answers.

use actix_web::{
    App,
    http::{Method, header::HeaderMap},
    middleware::from_fn,
    test::{self as call, TestRequest},
    web,
};
use futures::future::join;
use porthole::{
    base::Tasks,
    config::{Camera, Config, Layer},
    context::{Context, OFFERS_MAX},
    http::{guard::guard, server},
};
use serde_json::Value;

/// A service with everything mounted for the settings in `text`, and its context.
macro_rules! service {
    ($text:expr) => {{
        let config = Config::from_layers([Layer::parse($text).unwrap()]).unwrap();
        let context = Context::new(config, Tasks::on_current_runtime()).unwrap();
        let app = App::new()
            .app_data(web::Data::new(context.clone()))
            .wrap(from_fn(guard))
            .configure(server::mount);
        (context, call::init_service(app).await)
    }};
}

/// The whole reply to a request.
macro_rules! ask {
    ($service:expr, $request:expr) => {{
        let request = $request.insert_header(("Host", "127.0.0.1:8083"));
        let response = call::call_service(&$service, request.to_request()).await;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = String::from_utf8(call::read_body(response).await.to_vec()).unwrap();
        Reply {
            status,
            headers,
            body,
        }
    }};
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("plain text"))
    }

    /// Asserts that it is a refusal in the form of RFC 9457, and gives its sentence.
    fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem: Value = serde_json::from_str(&self.body).expect("a refusal is JSON");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string(), "{problem}");
        problem["detail"].as_str().expect("it is told").to_owned()
    }
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ENDPOINT: &str = "/whep/demo";

/// What Chromium offers, shortened: audio, then video.
fn offer() -> String {
    let section = |kind: &str, mid: u8, formats: &str, lines: &str| {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\na=ice-ufrag:pRb1\r\n\
             a=ice-pwd:probeprobeprobeprobe1234\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n\
             a=mid:{mid}\r\na=recvonly\r\na=rtcp-mux\r\n{lines}",
            ["00"; 32].join(":")
        )
    };
    let audio = section("audio", 0, "0", "a=rtpmap:0 PCMU/8000\r\n");
    let h264 = "a=rtpmap:98 H264/90000\r\n\
        a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n";
    let video = section("video", 1, "98", h264);
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n{audio}{video}"
    )
}

fn post(path: &str, sdp: String) -> TestRequest {
    TestRequest::post()
        .uri(path)
        .insert_header(("Content-Type", SDP))
        .set_payload(sdp)
}

fn patch(path: &str, fragment: &str, if_match: &str) -> TestRequest {
    let request = TestRequest::patch()
        .uri(path)
        .insert_header(("Content-Type", FRAGMENT))
        .set_payload(fragment.to_owned());
    if if_match.is_empty() {
        request
    } else {
        request.insert_header(("If-Match", if_match))
    }
}

fn options(path: &str) -> TestRequest {
    TestRequest::default().method(Method::OPTIONS).uri(path)
}

fn fragment(ufrag: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{ufrag}{ufrag}{ufrag}{ufrag}{ufrag}{ufrag}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2122260223 192.0.2.10 40001 typ host generation 0 ufrag {ufrag}\r\n\
         a=candidate:2 1 udp 2122260222 nobody.local 40001 typ host\r\na=candidate:odd\r\n\
         a=end-of-candidates\r\n"
    )
}

#[actix_web::test]
async fn an_offer_makes_a_session_with_all_that_a_player_needs() {
    let (context, service) = service!("ice_servers: [{urls: 'stun:stun.example.net'}]");
    let reply = ask!(service, post(ENDPOINT, offer()));
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some(SDP));
    assert_eq!(reply.header("etag"), Some("\"ice-1\""));
    assert_eq!(reply.header("accept-patch"), Some(FRAGMENT));
    let link = "<stun:stun.example.net:3478>; rel=\"ice-server\"";
    assert_eq!(reply.header("link"), Some(link));
    let location = reply.header("location").unwrap();
    let id = location.strip_prefix("/whep/demo/").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let sections: Vec<_> = reply.body.split("\r\nm=").skip(1).collect();
    assert_eq!(sections.len(), 2, "{}", reply.body);
    for section in &sections {
        assert!(section.contains("\r\na=sendonly\r\n"), "{section}");
        assert!(section.contains("\r\na=rtcp-mux\r\n"), "{section}");
    }
    assert!(sections[0].contains("\r\na=candidate:"));
    assert!(sections[0].contains("\r\na=end-of-candidates\r\n"));
    assert_eq!(context.sessions.count(), 1);
    assert_eq!(context.sessions.list()[0].flavour, "whep");
}

#[actix_web::test]
async fn a_relay_of_ours_is_not_told_to_players() {
    let servers = "ice_servers: [{urls: 'turn:192.0.2.1', username: ann, credential: s3cret}]";
    let (_context, service) = service!(servers);
    let reply = ask!(service, post(ENDPOINT, offer()));
    assert_eq!((reply.status, reply.header("link")), (201, None));
    assert!(!format!("{reply:?}").contains("s3cret"));
}

#[actix_web::test]
async fn asking_what_a_url_is_tells_it() {
    let (_context, service) = service!(
        "ice_servers: [{urls: 'stun:stun.example.net'}]\nallowed_origins: ['https://cards.example']"
    );
    let preflight = options(ENDPOINT)
        .insert_header(("Origin", "https://cards.example"))
        .insert_header(("Access-Control-Request-Method", "POST"));
    let reply = ask!(service, preflight);
    assert_eq!(
        (reply.status, reply.header("accept-post")),
        (204, Some(SDP))
    );
    assert_eq!(reply.header("link"), None);
    let allowed = reply.header("access-control-allow-methods").unwrap();
    assert!(allowed.contains("PATCH") && allowed.contains("DELETE"));
    let allowed = reply.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("If-Match"));
    let posted = post(ENDPOINT, offer()).insert_header(("Origin", "https://cards.example"));
    let posted = ask!(service, posted);
    let exposed = posted.header("access-control-expose-headers").unwrap();
    for name in ["Location", "ETag", "Link"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let location = posted.header("location").unwrap();
    let reply = ask!(service, options(location));
    assert_eq!(
        (reply.status, reply.header("accept-patch")),
        (204, Some(FRAGMENT))
    );
    let head = ask!(
        service,
        TestRequest::default().method(Method::HEAD).uri(ENDPOINT)
    );
    assert_eq!((head.status, head.header("content-type")), (200, Some(SDP)));
    assert_eq!(head.body, "");
    for path in [ENDPOINT, "/demo/whep", location] {
        let reply = ask!(service, TestRequest::get().uri(path));
        assert_eq!((reply.status, &*reply.body), (204, ""), "{path}");
    }
    for path in ["/whep/nobody", "/nobody/whep", "/whep/demo/1"] {
        ask!(service, TestRequest::get().uri(path)).refusal(404);
    }
}

#[actix_web::test]
async fn what_is_no_offer_for_a_player_is_refused_in_words() {
    let (context, service) = service!("");
    let as_text = post(ENDPOINT, offer()).insert_header(("Content-Type", "text/plain"));
    let reply = ask!(service, as_text);
    assert!(reply.refusal(415).contains(SDP));
    assert_eq!(reply.header("accept-post"), Some(SDP));
    let with_parameter = post(ENDPOINT, "x".into())
        .insert_header(("Content-Type", "Application/SDP; charset=utf-8"));
    ask!(service, with_parameter).refusal(400);
    ask!(service, post(ENDPOINT, String::new())).refusal(400);
    for lines in [30_000, 60_000] {
        let large = offer() + &"a=x\r\n".repeat(lines);
        ask!(service, post(ENDPOINT, large)).refusal(413);
    }
    ask!(service, post("/whep/nobody", offer())).refusal(404);
    ask!(service, post("/whep/demo:", offer())).refusal(404);
    let sends = offer().replace("a=recvonly", "a=sendonly");
    assert!(
        ask!(service, post(ENDPOINT, sends))
            .refusal(422)
            .contains("a=recvonly")
    );
    let alone = offer().replace("a=group:BUNDLE 0 1\r\n", "");
    assert!(
        ask!(service, post(ENDPOINT, alone))
            .refusal(422)
            .contains("BUNDLE")
    );
    let av1 = offer().replace("H264", "AV1");
    assert!(
        ask!(service, post(ENDPOINT, av1))
            .refusal(422)
            .contains("H264")
    );
    assert_eq!(context.sessions.count(), 0);
}

#[actix_web::test]
async fn a_camera_that_is_away_is_a_reason_to_come_back() {
    let (context, service) = service!("cameras: {dead: {url: 'rtsp://127.0.0.1:1/live'}}");
    let reply = ask!(service, post("/whep/dead", offer()));
    let reason = reply.refusal(409);
    assert!(reason.contains("127.0.0.1"), "{reason}");
    assert_eq!(reply.header("retry-after"), Some("5"));
    let _places = context
        .offers
        .acquire_many(OFFERS_MAX.try_into().unwrap())
        .await;
    let reply = ask!(service, post(ENDPOINT, offer()));
    reply.refusal(503);
    assert_eq!(reply.header("retry-after"), Some("5"));
}

#[actix_web::test]
async fn addresses_that_come_later_are_taken() {
    let (_context, service) = service!("");
    let posted = ask!(service, post(ENDPOINT, offer()));
    let location = posted.header("location").unwrap();
    let etag = posted.header("etag").unwrap();
    for if_match in [etag, "*", "\"*\"", ""] {
        let reply = ask!(service, patch(location, &fragment("pRb1"), if_match));
        assert_eq!((reply.status, &*reply.body), (204, ""), "{if_match}");
        assert_eq!(reply.header("etag"), None);
    }
    let bare = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    assert_eq!(ask!(service, patch(location, bare, "")).status, 204);
    ask!(service, patch(location, &fragment("pRb1"), "\"ice-7\"")).refusal(412);
    ask!(service, patch(location, "hello", etag)).refusal(400);
    let as_sdp = patch(location, bare, etag).insert_header(("Content-Type", SDP));
    let reply = ask!(service, as_sdp);
    reply.refusal(415);
    assert_eq!(reply.header("accept-patch"), Some(FRAGMENT));
    let large = bare.repeat(4_000);
    ask!(service, patch(location, &large, etag)).refusal(413);
}

#[actix_web::test]
async fn new_credentials_begin_ice_anew_once() {
    let (_context, service) = service!("");
    let posted = ask!(service, post(ENDPOINT, offer()));
    let location = posted.header("location").unwrap();
    let new = fragment("nEw1");
    ask!(service, patch(location, &new, "")).refusal(428);
    ask!(service, patch(location, &new, "\"ice-2\"")).refusal(412);
    let short = new.replace("nEw1nEw1", "");
    ask!(service, patch(location, &short, "*")).refusal(400);
    let reply = ask!(service, patch(location, &new, "*"));
    assert_eq!(
        (reply.status, reply.header("etag")),
        (200, Some("\"ice-2\""))
    );
    assert_eq!(reply.header("content-type"), Some(FRAGMENT));
    let value = |text: &str, name: &str| {
        let (_, rest) = text.split_once(name).unwrap();
        rest.split_once("\r\n").unwrap().0.to_owned()
    };
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        assert_ne!(value(&reply.body, name), value(&posted.body, name));
    }
    assert_eq!(value(&reply.body, "a=mid:"), "0");
    assert_eq!(
        value(&reply.body, "a=candidate:"),
        value(&posted.body, "a=candidate:")
    );
    // From now on the new credentials are the known ones; late words of the old ones change nothing.
    for ufrag in ["nEw1", "pRb1"] {
        assert_eq!(
            ask!(service, patch(location, &fragment(ufrag), "*")).status,
            204
        );
    }
    ask!(service, patch(location, &fragment("nEw1"), "\"ice-1\"")).refusal(412);
    let both = join(
        async { ask!(service, patch(location, &fragment("nEw2"), "\"ice-2\"")) },
        async { ask!(service, patch(location, &fragment("nEw3"), "\"ice-2\"")) },
    );
    let (one, other) = both.await;
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    assert_eq!(ask!(service, TestRequest::get().uri(location)).status, 204);
}

#[actix_web::test]
async fn a_session_ends_once_and_at_once() {
    let (context, service) = service!("");
    let posted = ask!(service, post(ENDPOINT, offer()));
    let location = posted.header("location").unwrap();
    let delete = || TestRequest::delete().uri(location);
    let wrong = delete().insert_header(("If-Match", "\"wrong\""));
    assert_eq!(ask!(service, wrong).status, 200);
    ask!(service, delete()).refusal(404);
    ask!(service, TestRequest::get().uri(location)).refusal(404);
    ask!(service, patch(location, &fragment("pRb1"), "*")).refusal(404);
    for _ in 0..100 {
        if context.sessions.count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the viewer is still there");
}

#[actix_web::test]
async fn sessions_of_others_are_not_to_be_had() {
    let (context, service) = service!("cameras: {other: {url: 'demo:'}}");
    let form = "url=demo&sdp64=".to_owned() + &base64(&offer());
    let posted = TestRequest::post()
        .uri("/stream")
        .insert_header(("Content-Type", "application/x-www-form-urlencoded"))
        .set_payload(form);
    assert_eq!(ask!(service, posted).status, 200);
    let foreign = context.sessions.list()[0].id;
    let posted = ask!(service, post(ENDPOINT, offer()));
    let own = posted.header("location").unwrap();
    let elsewhere = own.replace("/demo/", "/other/");
    for path in [
        format!("/whep/demo/{foreign}"),
        elsewhere,
        own.to_ascii_uppercase()
            .replace("/WHEP/DEMO/", "/whep/demo/")
            + "x",
        format!("/whep/demo/{}", "0".repeat(32)),
    ] {
        ask!(service, TestRequest::get().uri(&path)).refusal(404);
        ask!(service, patch(&path, &fragment("pRb1"), "*")).refusal(404);
        ask!(service, TestRequest::delete().uri(&path)).refusal(404);
    }
    let srs = format!("/rtc/v1/whep/?session={foreign}");
    ask!(service, TestRequest::delete().uri(&srs)).refusal(404);
    assert_eq!(context.sessions.count(), 2);
}

/// Base64 for a form.
fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE};
    URL_SAFE.encode(text)
}

#[actix_web::test]
async fn players_of_other_servers_find_their_paths() {
    let (context, service) = service!("cameras: {front door: {url: 'demo:'}}");
    let camera = Camera::from_sources(&["demo:"]).unwrap();
    // Clients give names that a configuration may not.
    context.registry.put("live/side", camera).unwrap();
    for (endpoint, expected) in [
        ("/whep/front%20door", "/whep/front%20door/"),
        ("/front%20door/whep", "/front%20door/whep/"),
        ("/whep/live%2Fside", "/whep/live%2Fside/"),
        ("/live%2fside/whep", "/live%2Fside/whep/"),
    ] {
        let posted = ask!(service, post(endpoint, offer()));
        assert_eq!(posted.status, 201, "{endpoint}: {}", posted.body);
        let location = posted.header("location").unwrap();
        assert!(location.starts_with(expected), "{endpoint}");
        let trickled = ask!(service, patch(location, &fragment("pRb1"), "*"));
        assert_eq!(trickled.status, 204);
        let deleted = ask!(service, TestRequest::delete().uri(location));
        assert_eq!(deleted.status, 200);
    }
    for (query, camera) in [
        ("app=live&stream=demo", "demo"),
        ("app=live&stream=side&eip=192.0.2.77", "live/side"),
        ("stream=demo&candidate=192.0.2.77:9000", "demo"),
    ] {
        let posted = post(&format!("/rtc/v1/whep/?{query}"), offer());
        let posted = ask!(
            service,
            posted.insert_header(("Content-Type", "text/plain"))
        );
        assert_eq!(posted.status, 201, "{query}: {}", posted.body);
        let listed = context.sessions.list();
        assert!(
            listed.iter().any(|session| session.camera == camera),
            "{query}"
        );
        let is_known = posted.body.contains(" 192.0.2.77 ");
        assert_eq!(is_known, query.contains("192.0.2.77"), "{}", posted.body);
        let location = posted.header("location").unwrap();
        let deleted = ask!(service, TestRequest::delete().uri(location));
        assert_eq!(deleted.status, 200, "{query}");
        ask!(service, TestRequest::delete().uri(location)).refusal(404);
    }
    ask!(service, post("/rtc/v1/whep/?app=live", offer())).refusal(400);
    ask!(service, post("/rtc/v1/whep/?stream=nobody", offer())).refusal(404);
    ask!(service, post("/rtc/v1/whep/?stream=demo&eip=x", offer())).refusal(400);
}

#[actix_web::test]
async fn with_a_token_set_it_is_wanted_for_everything_but_preflights() {
    let (_context, service) = service!("auth: {token: t0ken}");
    let reply = ask!(service, post(ENDPOINT, offer()));
    assert_eq!(reply.status, 401);
    assert!(
        reply
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    assert_eq!(ask!(service, options(ENDPOINT)).status, 204);
    let bearer = ("Authorization", "Bearer t0ken");
    let posted = ask!(service, post(ENDPOINT, offer()).insert_header(bearer));
    assert_eq!(posted.status, 201);
    let location = posted.header("location").unwrap();
    assert_eq!(
        ask!(service, TestRequest::delete().uri(location)).status,
        401
    );
    let delete = TestRequest::delete().uri(location).insert_header(bearer);
    assert_eq!(ask!(service, delete).status, 200);
}
