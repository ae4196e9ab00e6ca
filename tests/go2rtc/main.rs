//! The dialect of go2rtc, asked in process: what Home Assistant's client and go2rtc's own player rely on.

mod socket;

use actix_web::{
    App, body::MessageBody, dev::ServiceResponse, middleware::from_fn, test as call, web,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use porthole::{
    base::Tasks,
    config::{Config, Layer},
    context::Context,
    http::{guard::guard, server},
    signaling::go2rtc::FLAVOUR,
};
use serde_json::{Value, json};

/// In every URL with a password; no answer may hold it.
const CANARY: &str = "c4naryPassw0rd";

/// What a GET or another request gave.
#[derive(Debug)]
struct Reply {
    status: u16,
    content_type: String,
    body: String,
}

impl Reply {
    async fn of(response: ServiceResponse<impl MessageBody>) -> Self {
        let content_type = response.headers().get("content-type").cloned();
        let headers = format!("{:?}", response.headers());
        assert!(!headers.contains(CANARY), "{headers}");
        let status = response.status().as_u16();
        let body = call::read_body(response).await;
        let reply = Self {
            status,
            content_type: content_type.map_or(String::new(), |value| {
                value.to_str().expect("text").to_owned()
            }),
            body: String::from_utf8(body.to_vec()).expect("text"),
        };
        assert!(!format!("{reply:?}").contains(CANARY), "{reply:?}");
        reply
    }

    fn json(&self) -> Value {
        assert_eq!(
            (self.status, &*self.content_type),
            (200, "application/json"),
            "{self:?}"
        );
        assert!(self.body.ends_with('\n'), "{self:?}");
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Asserts an error in words, as go2rtc gives it.
    fn is_error(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.content_type.starts_with("text/plain"), "{self:?}");
        assert!(
            self.body.contains(part) && self.body.ends_with('\n'),
            "{self:?}"
        );
    }

    fn is_done(&self) {
        assert_eq!((self.status, &*self.body), (200, ""), "{self:?}");
    }
}

fn context(settings: &str) -> Context {
    let layer = Layer::parse(settings).expect("YAML");
    let config = Config::from_layers([layer]).expect("a usable configuration");
    Context::new(config, Tasks::on_current_runtime()).expect("a free media port")
}

/// A service with everything mounted, for the settings in `text`.
macro_rules! service {
    ($text:expr) => {{
        let app = App::new()
            .app_data(web::Data::new(context($text)))
            .wrap(from_fn(guard))
            .configure(server::mount);
        call::init_service(app).await
    }};
}

/// Sends `METHOD path`.
macro_rules! ask {
    ($service:expr, $method:ident $path:expr) => {
        ask!($service, $method $path, "")
    };
    ($service:expr, $method:ident $path:expr, $body:expr $(, $header:expr)*) => {{
        let request = call::TestRequest::with_uri($path)
            .method(actix_web::http::Method::$method)
            .insert_header(("Host", "127.0.0.1:8083"))
            $(.insert_header($header))*
            .set_payload($body)
            .to_request();
        Reply::of(call::call_service(&$service, request).await).await
    }};
}

/// What `text` is in a query, as Home Assistant writes it.
fn quoted(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'&' | b'=' | b'#' | b'%' | b'+' => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        })
        .collect()
}

/// A browser's offer to receive a picture, without candidates.
fn offer() -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 98\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:pRb1\r\n\
         a=ice-pwd:probeprobeprobeprobe1234\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:98 H264/90000\r\n\
         a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
         a=[object RTCIceCandidate]\r\n"
    )
}

#[actix_web::test]
async fn the_version_is_one_that_home_assistant_takes() {
    let service = service!("");
    let about = ask!(service, GET "/api").json();
    assert_eq!(about["version"], "1.9.15");
    assert_eq!(about["host"], "127.0.0.1:8083");
    let schemes = ask!(service, GET "/api/schemes").json();
    assert_eq!(schemes, json!(["rtsp", "rtsps", "rtspx", "ffmpeg"]));
    assert_eq!(ask!(service, HEAD "/").status, 200);
}

#[actix_web::test]
async fn streams_are_listed_as_they_were_registered() {
    let service = service!("");
    assert_eq!(ask!(service, GET "/api/streams").json(), json!({}));
    let demo = json!({ "producers": [{ "url": "demo:" }], "consumers": [] });
    assert_eq!(ask!(service, GET "/api/streams?src=demo").json(), demo);
    // Byte for byte what Home Assistant's client has sent.
    let path = "/api/streams?name=camera.front_door\
        &src=rtsps://h:322/a?x%3Da%2Bb%252B%26y%3D1%23frag\
        &src=ffmpeg:camera.front_door%23audio%3Dopus%23query%3Dlog_level%3Ddebug";
    for _ in 0..3 {
        ask!(service, PUT path).is_done();
    }
    let all = ask!(service, GET "/api/streams").json();
    let expected = json!({
        "producers": [
            { "url": "rtsps://h:322/a?x=a+b%2B&y=1#frag" },
            { "url": "ffmpeg:camera.front_door#audio=opus#query=log_level=debug" },
        ],
        "consumers": [],
    });
    assert_eq!(all["camera.front_door"], expected);
    let one = ask!(service, GET "/api/streams?src=camera.front_door").json();
    assert_eq!(one, expected);
    ask!(service, GET "/api/streams?src=nobody").is_error(404, "stream not found");
}

#[actix_web::test]
async fn a_name_is_decoded_once() {
    let service = service!("");
    ask!(service, PUT "/api/streams?name=onvif_00%253A11%2523profile_1&src=rtsp://h/x").is_done();
    let all = ask!(service, GET "/api/streams").json();
    assert!(all["onvif_00%3A11%23profile_1"].is_object(), "{all}");
    let path = "/api/streams?src=onvif_00%253A11%2523profile_1";
    assert_eq!(ask!(service, GET path).status, 200);
}

#[actix_web::test]
async fn a_password_is_never_told() {
    let service = service!("");
    let url = format!("rtsp://user:{CANARY}@127.0.0.1:1/x");
    let path = format!("/api/streams?name=camera.yard&src={}", quoted(&url));
    for _ in 0..2 {
        ask!(service, PUT & path).is_done();
    }
    let one = ask!(service, GET "/api/streams?src=camera.yard").json();
    assert_eq!(one["producers"][0]["url"], "rtsp://***@127.0.0.1:1/x");
    // Without a name it is the URL's own, and that is found by it, too.
    let path = format!("/api/streams?src={}", quoted(&url));
    ask!(service, PUT & path).is_done();
    let named = ask!(service, GET "/api/streams").json();
    assert!(named["rtsp://***@127.0.0.1:1/x"].is_object(), "{named}");
    assert_eq!(ask!(service, GET & path).status, 200);
    let preload = format!("/api/preload?src={}", quoted(&url));
    ask!(service, PUT & preload).is_done();
    assert_eq!(
        ask!(service, GET "/api/preload").json(),
        json!({ "rtsp://***@127.0.0.1:1/x": { "query": "video&audio" } })
    );
    ask!(service, DELETE & path).is_done();
    ask!(service, GET & path).is_error(404, "stream not found");
    for bad in [
        format!("http://user:{CANARY}@h/x"),
        format!("rtsp://user:{CANARY}@h/a b"),
        format!("rtsp://user:{CANARY}@/x"),
        format!("user:{CANARY}"),
        CANARY.to_owned(),
    ] {
        let path = format!("/api/streams?name=bad&src={}", quoted(&bad));
        ask!(service, PUT & path).is_error(400, "");
        let path = format!("/api/frame.jpeg?src={}", quoted(&bad));
        assert!(ask!(service, GET & path).status >= 400);
    }
    for program in ["exec", "echo"] {
        let path = format!("/api/streams?name=bad&src={program}:{CANARY}");
        ask!(service, PUT & path).is_error(403, "configuration file");
    }
}

#[actix_web::test]
async fn sources_of_a_converter_are_taken_as_the_camera() {
    let service = service!("");
    for source in [
        "ffmpeg:rtsp://h/x#video=h264#audio=copy#raw=-vf hflip",
        "ffmpeg:rtsp://h/x#video=h264#audio=copy#rotate=90",
        "ffmpeg:rtsp://h/x",
    ] {
        let path = format!("/api/streams?name=generic_01&src={}", quoted(source));
        ask!(service, PUT & path).is_done();
        let one = ask!(service, GET "/api/streams?src=generic_01").json();
        assert_eq!(one["producers"][0]["url"], source);
    }
}

#[actix_web::test]
async fn streams_are_changed_copied_and_deleted() {
    let service = service!("cameras: {door: 'rtsp://h/door'}");
    ask!(service, PUT "/api/streams?name=a&src=rtsp://h/1").is_done();
    ask!(service, PUT "/api/streams?name=a&src=rtsp://h/2").is_done();
    ask!(service, PATCH "/api/streams?name=b&src=a").is_done();
    ask!(service, PATCH "/api/streams?name=c&src=rtsp://h/3").is_done();
    let all = ask!(service, GET "/api/streams").json();
    for (name, url) in [
        ("a", "rtsp://h/2"),
        ("b", "rtsp://h/2"),
        ("c", "rtsp://h/3"),
    ] {
        assert_eq!(all[name]["producers"], json!([{ "url": url }]), "{all}");
    }
    for _ in 0..2 {
        ask!(service, DELETE "/api/streams?src=a").is_done();
    }
    assert!(ask!(service, GET "/api/streams").json()["a"].is_null());
    // A camera of the configuration stays; for Home Assistant that is a success.
    let kept = ask!(service, PUT "/api/streams?name=door&src=rtsp://h/other");
    assert!(
        kept.status == 200 && kept.body.contains("configuration"),
        "{kept:?}"
    );
    ask!(service, DELETE "/api/streams?src=door").is_error(400, "configuration");
    let door = ask!(service, GET "/api/streams?src=door").json();
    assert_eq!(door["producers"][0]["url"], "rtsp://h/door");
    ask!(service, PUT "/api/streams?name=x").is_error(400, "src");
    ask!(service, PATCH "/api/streams?name=x").is_error(400, "src");
    ask!(service, DELETE "/api/streams").is_error(400, "src");
    ask!(service, POST "/api/streams").is_error(400, "src");
    ask!(service, POST "/api/streams?src=a&dst=rtmp://h/x").is_error(400, "not offered");
}

#[actix_web::test]
async fn a_camera_is_preloaded_and_is_not() {
    let service = service!("");
    assert_eq!(ask!(service, GET "/api/preload").json(), json!({}));
    ask!(service, PUT "/api/preload?src=nobody").is_error(404, "stream not found");
    ask!(service, PUT "/api/preload?src=demo&audio").is_done();
    let expected = json!({ "demo": { "query": "audio" } });
    assert_eq!(ask!(service, GET "/api/preload").json(), expected);
    ask!(service, DELETE "/api/preload?src=demo").is_done();
    ask!(service, DELETE "/api/preload?src=demo").is_error(404, "not preloaded");
    assert_eq!(ask!(service, GET "/api/preload").json(), json!({}));
    ask!(service, PUT "/api/preload").is_error(400, "src");
}

#[actix_web::test]
async fn an_offer_is_answered_in_the_form_in_which_it_came() {
    let service = service!("");
    let path = "/api/webrtc?src=demo";
    let answered = |sdp: &str| {
        assert!(
            sdp.starts_with("v=0\r\n") && sdp.contains("a=candidate:"),
            "{sdp}"
        );
    };
    let object = json!({ "type": "offer", "sdp": offer() }).to_string();
    let reply =
        ask!(service, POST path, object, ("Content-Type", "Application/JSON; charset=utf-8"));
    let answer = reply.json();
    assert_eq!(answer["type"], "answer");
    answered(answer["sdp"].as_str().unwrap());

    let form = format!("data={}", quoted(&BASE64.encode(offer())));
    let kind = "application/x-www-form-urlencoded";
    let reply = ask!(service, POST path, form, ("Content-Type", kind));
    assert_eq!((reply.status, &*reply.content_type), (200, kind));
    answered(&String::from_utf8(BASE64.decode(&reply.body).unwrap()).unwrap());

    let reply = ask!(service, POST path, offer(), ("Content-Type", "application/sdp"));
    assert_eq!(
        (reply.status, &*reply.content_type),
        (201, "application/sdp")
    );
    answered(&reply.body);

    let reply = ask!(service, POST path, offer(), ("Content-Type", "text/plain"));
    assert_eq!((reply.status, &*reply.content_type), (200, "text/plain"));
    answered(&reply.body);
    let reply = ask!(service, POST path, offer());
    assert_eq!(reply.status, 200);
    answered(&reply.body);

    let demo = ask!(service, GET "/api/streams?src=demo").json();
    assert_eq!(demo["consumers"].as_array().unwrap().len(), 5);
    let sessions = ask!(service, GET "/sessions");
    let sessions: Value = serde_json::from_str(&sessions.body).unwrap();
    assert_eq!(sessions["sessions"][0]["dialect"], FLAVOUR.name);
}

#[actix_web::test]
async fn an_offer_with_a_mistake_is_told_which() {
    let service = service!("");
    ask!(service, POST "/api/webrtc", offer()).is_error(400, "src");
    ask!(service, POST "/api/webrtc?dst=demo", offer()).is_error(400, "not offered");
    ask!(service, POST "/api/webrtc?src=nobody", offer()).is_error(404, "stream not found");
    let url = format!("/api/webrtc?src=rtsp://user:{CANARY}@127.0.0.1:2/x");
    ask!(service, POST & url, offer()).is_error(404, "stream not found");
    ask!(service, POST "/api/webrtc?src=demo", "hello").is_error(400, "");
    for (kind, body) in [
        ("application/json", "{"),
        ("application/json", "[]"),
        ("application/x-www-form-urlencoded", "data=!!!"),
        ("application/x-www-form-urlencoded", "sdp=x"),
    ] {
        let reply = ask!(service, POST "/api/webrtc?src=demo", body, ("Content-Type", kind));
        reply.is_error(400, "");
    }
    ask!(service, POST "/api/webrtc?src=demo", "x".repeat(257 << 10)).is_error(413, "KiB");
    assert_eq!(ask!(service, GET "/api/webrtc?src=demo").status, 405);
    assert_eq!(ask!(service, PUT "/api/webrtc?src=demo").status, 405);
    assert_eq!(ask!(service, OPTIONS "/api/webrtc?src=demo").status, 204);
}

#[actix_web::test]
async fn a_dead_camera_is_an_error_without_its_password() {
    let service = service!("");
    let url = quoted(&format!("rtsp://user:{CANARY}@127.0.0.1:2/x"));
    ask!(service, PUT & format!("/api/streams?name=dead&src={url}")).is_done();
    for path in [
        "/api/frame.jpeg?src=dead".to_owned(),
        format!("/api/frame.jpeg?src={url}"),
    ] {
        ask!(service, GET & path).is_error(502, "127.0.0.1");
    }
    ask!(service, POST "/api/webrtc?src=dead", offer()).is_error(502, "127.0.0.1");
    ask!(service, GET "/api/frame.jpeg").is_error(400, "src");
    ask!(service, GET "/api/frame.jpeg?src=nobody").is_error(404, "stream not found");
    for size in ["width=0", "h=4097", "w=wide", "height=-1"] {
        let path = format!("/api/frame.jpeg?src=demo&{size}");
        ask!(service, GET & path).is_error(400, "pixels");
    }
}

#[actix_web::test]
async fn with_auth_every_route_wants_the_login() {
    let service = service!("auth: {username: ann, password: 'p:w'}");
    let login = (
        "Authorization",
        format!("Basic {}", BASE64.encode("ann:p:w")),
    );
    for path in [
        "/api",
        "/api/schemes",
        "/api/streams",
        "/api/preload",
        "/api/ws?src=demo",
    ] {
        let refused = ask!(service, GET path);
        assert_eq!(refused.status, 401, "{path}");
        let taken = ask!(service, GET path, "", login.clone());
        assert_ne!(taken.status, 401, "{path}");
    }
    assert_eq!(ask!(service, GET "/api", "", login).status, 200);
}

#[actix_web::test]
async fn a_page_cannot_have_a_browser_make_us_call_an_address() {
    let service = service!("");
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let path = &format!("/api/frame.jpeg?src=rtsp://127.0.0.1:{port}/x");
    let browser = ("User-Agent", "Mozilla/5.0");
    ask!(service, GET path, "", browser).is_error(404, "stream not found");
    assert_eq!(ask!(service, GET path).status, 502);
}
