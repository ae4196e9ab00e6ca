//! The bytes of the dialect of RTSPtoWeb, asked in process.

use actix_web::{
    App,
    http::{StatusCode, header},
    middleware::from_fn,
    test as call, web,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use porthole::{
    base::Tasks,
    config::{Config, Layer},
    context::Context,
    http::{guard::guard, server},
};
use serde_json::{Value, json};

/// What Home Assistant's client sends for a new camera.
const FRONT_DOOR: &str = r#"{"name": "camera.front_door", "channels": {"0": {"name": "ch1", "url": "rtsp://192.0.2.7:554/live"}}}"#;
/// An id that this client makes of a URL.
const HASHED: &str = "SVVEHZRNFSBWPHS4FA7ALA7YQI======";
const ON: &str = "rtsp_to_web: {}";

/// A service with everything mounted, for the settings in `$text`.
macro_rules! service {
    ($text:expr) => {{
        let text = format!("media_listen: 127.0.0.1:0\n{}", $text);
        let config = Config::from_layers([Layer::parse(&text).unwrap()]).unwrap();
        let context = Context::new(config, Tasks::on_current_runtime()).unwrap();
        let app = App::new()
            .app_data(web::Data::new(context))
            .wrap(from_fn(guard))
            .configure(server::mount);
        call::init_service(app).await
    }};
}

fn get(path: &str) -> call::TestRequest {
    call::TestRequest::get()
        .uri(path)
        .insert_header((header::HOST, "127.0.0.1:8083"))
}

fn post(path: &str, body: &str) -> call::TestRequest {
    call::TestRequest::post()
        .uri(path)
        .insert_header((header::HOST, "127.0.0.1:8083"))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(body.to_owned())
}

/// Status, content type and body of the answer to a request.
macro_rules! ask {
    ($service:expr, $request:expr) => {{
        let response = call::call_service(&$service, $request.to_request()).await;
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type
            .map_or("", |it| it.to_str().unwrap())
            .to_owned();
        let body = call::read_body(response).await;
        (
            status,
            content_type,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }};
}

/// Asks, and checks the status and the envelope.
macro_rules! holds {
    ($service:expr, $request:expr, $status:expr, $envelope:expr) => {{
        let (status, content_type, body) = ask!($service, $request);
        assert_eq!(status, $status, "{body}");
        assert_eq!(content_type, "application/json; charset=utf-8");
        let envelope: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(envelope, $envelope);
    }};
}

fn success(payload: impl serde::Serialize) -> Value {
    json!({ "status": 1, "payload": payload })
}

fn failure(text: &str) -> Value {
    json!({ "status": 0, "payload": text })
}

/// Form encoding of an offer of a browser that wants a picture.
fn offer() -> String {
    let fingerprint = vec!["AB"; 32].join(":");
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\n\
         a=rtcp-mux\r\na=ice-ufrag:fake\r\na=ice-pwd:0123456789012345678901\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=rtpmap:102 H264/90000\r\n\
         a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
    );
    let text = BASE64.encode(sdp);
    let text = text
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("data={text}")
}

fn exchange(path: &str) -> call::TestRequest {
    post(path, &offer()).insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
}

#[actix_web::test]
async fn without_the_setting_no_route_is_there() {
    let service = service!("");
    for request in [
        get("/streams"),
        post("/streams/multi/control/add", "{}"),
        post("/stream/camera.front_door/add", FRONT_DOOR),
        get("/stream/demo/info"),
        get("/stream/demo/channel/0/codec"),
        exchange("/stream/demo/channel/0/webrtc"),
    ] {
        let (status, content_type, body) = ask!(service, request);
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
        assert_eq!(content_type, "text/plain; charset=utf-8");
        assert_eq!(body, "404 page not found");
    }
    // And where another dialect has the path, that answers.
    let (status, content_type, _) = ask!(service, get("/stream/player/info"));
    assert_eq!(status, StatusCode::OK);
    assert!(content_type.starts_with("text/html"));
}

/// W1 to W4, and W8.
#[actix_web::test]
async fn a_stream_is_added_changed_and_deleted() {
    let service = service!(ON);
    let (_, _, body) = ask!(service, get("/streams"));
    assert_eq!(body, "{\n    \"status\": 1,\n    \"payload\": {}\n}");
    let add = || post("/stream/camera.front_door/add", FRONT_DOOR);
    holds!(service, add(), 200, success("success"));
    holds!(service, add(), 500, failure("stream already exists"));
    let channel = json!({ "url": "rtsp://192.0.2.7:554/live", "on_demand": true, "audio": true });
    let stream = json!({ "name": "camera.front_door", "channels": { "0": channel } });
    let listed = success(json!({ "camera.front_door": stream }));
    holds!(service, get("/streams"), 200, listed);
    holds!(
        service,
        get("/stream/camera.front_door/info"),
        200,
        success(stream)
    );
    let edit = |id: &str| post(&format!("/stream/{id}/edit"), FRONT_DOOR);
    holds!(service, edit("camera.front_door"), 200, success("success"));
    holds!(service, edit("nobody"), 500, failure("stream not found"));
    holds!(
        service,
        get("/stream/nobody/info"),
        500,
        failure("stream not found")
    );
    let reload = get("/stream/camera.front_door/reload");
    holds!(service, reload, 200, success("success"));
    let delete = || get("/stream/camera.front_door/delete");
    holds!(service, delete(), 200, success("success"));
    holds!(service, delete(), 500, failure("stream not found"));
}

/// W5 and W6.
#[actix_web::test]
async fn an_offer_is_answered_with_base64() {
    let service = service!(ON);
    let demo = r#"{"channels": {"0": {"url": "demo:"}}}"#;
    let added = [
        ("camera.front_door", "camera.front_door"),
        (HASHED, HASHED),
        ("a b/c", "a%20b%2Fc"),
    ];
    for (id, segment) in added {
        holds!(
            service,
            post(&format!("/stream/{segment}/add"), demo),
            200,
            success("success")
        );
        let path = format!("/stream/{segment}/channel/0/webrtc");
        let (status, content_type, body) = ask!(service, exchange(&path));
        assert_eq!(status, StatusCode::OK, "{id}: {body}");
        assert_eq!(content_type, "text/plain; charset=utf-8");
        let answer = String::from_utf8(BASE64.decode(body).unwrap()).unwrap();
        assert!(
            answer.starts_with("v=0\r\n") && answer.contains("a=candidate:"),
            "{answer}"
        );
        let info = format!("/stream/{segment}/info");
        let (_, _, body) = ask!(service, get(&info));
        let envelope: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(envelope["payload"]["name"], id);
        assert_eq!(envelope["payload"]["channels"]["0"]["status"], 1);
    }
    let unknown = exchange("/stream/nobody/channel/0/webrtc");
    holds!(service, unknown, 500, failure("stream not found"));
    let unknown = exchange("/stream/camera.front_door/channel/1/webrtc");
    holds!(service, unknown, 500, failure("stream channel not found"));
    let broken = post(
        "/stream/camera.front_door/channel/0/webrtc",
        r#"{"data": "!!!"}"#,
    );
    let (status, content_type, body) = ask!(service, broken);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        content_type.starts_with("application/json") && body.contains("base64"),
        "{body}"
    );
}

#[actix_web::test]
async fn a_channel_is_added_asked_for_and_deleted() {
    let service = service!(ON);
    let path = |verb: &str| format!("/stream/demo/channel/1/{verb}");
    let body = r#"{"name": "ch2", "url": "demo:", "audio": false}"#;
    holds!(service, post(&path("add"), body), 200, success("success"));
    holds!(
        service,
        post(&path("add"), body),
        500,
        failure("stream channel already exists")
    );
    holds!(service, post(&path("edit"), body), 200, success("success"));
    let channel = json!({ "url": "demo:", "on_demand": true });
    holds!(service, get(&path("info")), 200, success(channel));
    let codecs = json!([{ "Type": "video", "Codec": "H264" }]);
    holds!(service, get(&path("codec")), 200, success(codecs));
    holds!(service, get(&path("reload")), 200, success("success"));
    holds!(service, get(&path("delete")), 200, success("success"));
    holds!(
        service,
        get(&path("delete")),
        500,
        failure("stream channel not found")
    );
}

#[actix_web::test]
async fn a_camera_that_cannot_be_reached_has_no_codecs() {
    let service = service!(ON);
    // Bound and never listening: nobody else gets the port, and nobody answers there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("rtsp://{}/live", socket.local_addr().unwrap());
    let dead = json!({ "channels": { "0": { "url": url } } }).to_string();
    holds!(
        service,
        post("/stream/dead/add", &dead),
        200,
        success("success")
    );
    let text = "stream channel codec not ready, possible stream offline";
    let (status, _, body) = ask!(service, get("/stream/dead/channel/0/codec"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let envelope: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&envelope["status"], &envelope["payload"]),
        (&json!(0), &json!(text))
    );
    assert_eq!(envelope["verdict"]["code"], "port-closed");
    let (status, _, body) = ask!(service, exchange("/stream/dead/channel/0/webrtc"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let envelope: Value = serde_json::from_str(&body).unwrap();
    assert!(
        envelope["payload"].as_str().unwrap().contains("127.0.0.1"),
        "{body}"
    );
}

#[actix_web::test]
async fn several_streams_have_a_result_each() {
    let service = service!(ON);
    let body = r#"{"streams": {"a": {"channels": {"0": {"url": "rtsp://h/a"}}}, "b": {}}}"#;
    let (status, _, body) = ask!(service, post("/streams/multi/control/add", body));
    assert_eq!(status, StatusCode::OK);
    let envelope: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(envelope["status"], 0);
    assert_eq!(envelope["payload"]["a"], success("success"));
    assert_eq!(envelope["payload"]["b"]["status"], 0);
    let delete = |body: &str| post("/streams/multi/control/delete", body);
    let results = json!({ "a": success("success") });
    holds!(service, delete(r#"["a"]"#), 200, success(results));
    let results = json!({ "a": failure("stream not found") });
    let expected = json!({ "status": 0, "payload": results });
    holds!(service, delete(r#"["a"]"#), 200, expected);
    holds!(service, delete("[]"), 400, failure("streams len zero"));
    let many = json!(vec!["x"; 1_025]).to_string();
    let (status, _, body) = ask!(service, delete(&many));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("at most 128"), "{body}");
    let empty = post("/streams/multi/control/add", "{}");
    holds!(service, empty, 400, failure("streams len zero"));
}

/// W7.
#[actix_web::test]
async fn what_is_not_json_is_told_as_text() {
    let service = service!(ON);
    for body in [
        "",
        "{",
        "[]",
        r#"{"channels": {"0": {"url": 7, "x": "hunter2"}}}"#,
    ] {
        let (status, content_type, body) = ask!(service, post("/stream/x/add", body));
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(content_type, "text/plain; charset=utf-8");
        let envelope: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(envelope["status"], 0);
        assert!(
            envelope["payload"].is_string() && !body.contains("hunter2"),
            "{body}"
        );
    }
    let large = "x".repeat(300 << 10);
    let (status, ..) = ask!(service, post("/stream/x/add", &large));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// W9.
#[actix_web::test]
async fn with_a_login_everything_but_watching_wants_it() {
    let service = service!("rtsp_to_web: {username: ann, password: 'p:w'}");
    for request in [
        get("/streams"),
        get("/stream/demo/info"),
        get("/stream/demo/delete"),
        post("/stream/x/add", FRONT_DOOR),
        post("/stream/x/add", "{"),
        get("/stream/demo/channel/0/codec"),
        get("/streams").insert_header((header::AUTHORIZATION, "Basic YW5uOnB3")),
    ] {
        let response = call::call_service(&service, request.to_request()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = response.headers().get(header::WWW_AUTHENTICATE).unwrap();
        assert!(challenge.to_str().unwrap().starts_with("Basic realm="));
        assert!(call::read_body(response).await.is_empty());
    }
    let (status, ..) = ask!(service, exchange("/stream/demo/channel/0/webrtc"));
    assert_eq!(status, StatusCode::OK);
    let login = (
        header::AUTHORIZATION,
        format!("Basic {}", BASE64.encode("ann:p:w")),
    );
    let known = |request: call::TestRequest| request.insert_header(login.clone());
    holds!(service, known(get("/streams")), 200, success(json!({})));
    let add = post("/stream/camera.front_door/add", FRONT_DOOR);
    holds!(service, known(add), 200, success("success"));
    // A browser adds a login that it knows to requests of any page.
    let delete = || known(get("/stream/camera.front_door/delete"));
    let foreign = delete().insert_header(("Referer", "https://evil.test/"));
    let (status, ..) = ask!(service, foreign);
    assert_eq!(status, StatusCode::FORBIDDEN);
    // And a page can have it keep silent about itself.
    let silent = delete().insert_header(("User-Agent", "Mozilla/5.0"));
    assert_eq!(ask!(service, silent).0, StatusCode::FORBIDDEN);
    let own = delete().insert_header(("Sec-Fetch-Site", "same-origin"));
    holds!(service, own, 200, success("success"));
}

#[actix_web::test]
async fn a_browser_without_a_login_cannot_change_anything_by_a_link() {
    let service = service!(ON);
    let add = post("/stream/door/add", FRONT_DOOR);
    holds!(service, add, 200, success("success"));
    for path in [
        "/stream/door/delete",
        "/stream/door/reload",
        "/stream/door/channel/0/delete",
        "/stream/door/channel/0/reload",
    ] {
        for mark in [
            ("Origin", "http://127.0.0.1:8083"),
            ("Referer", "http://127.0.0.1:8083/"),
            ("Sec-Fetch-Site", "same-origin"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ] {
            let (status, _, body) = ask!(service, get(path).insert_header(mark));
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {mark:?}");
            assert!(body.contains("\"not-allowed\""), "{body}");
            let envelope: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(envelope["status"], 0);
        }
    }
    let delete = get("/stream/door/delete");
    holds!(service, delete, 200, success("success"));
}
