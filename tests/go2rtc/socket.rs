//! The WebSocket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use porthole::{context::Context, http::server};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Bytes, Message},
};

use super::{CANARY, context, offer};

/// A client of the WebSocket.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: &str, query: &str) -> Self {
        let url = format!("ws://{address}/api/ws?{query}");
        let (stream, response) = connect_async(url).await.expect("the upgrade succeeds");
        assert_eq!(response.status().as_u16(), 101);
        Self(stream)
    }

    async fn say(&mut self, message: &Value) {
        let text = Message::text(message.to_string());
        self.0.send(text).await.expect("the server reads");
    }

    /// The next frame, if one comes within `limit`; none of the server's pings.
    async fn next(&mut self, limit: Duration) -> Option<Message> {
        loop {
            match timeout(limit, self.0.next()).await.ok()? {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn hear(&mut self) -> Value {
        let message = self.next(Duration::from_secs(9)).await;
        let Some(Message::Text(text)) = message else {
            panic!("{message:?} instead of text");
        };
        assert!(text.ends_with('\n') && !text.contains(CANARY), "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn error(&mut self) -> String {
        let message = self.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        assert!(message["verdict"]["code"].is_string(), "{message}");
        message["value"].as_str().expect("text").to_owned()
    }

    /// Asserts that nothing comes for a while.
    async fn is_silent(&mut self) {
        let message = self.next(Duration::from_millis(1_500)).await;
        assert!(message.is_none(), "{message:?}");
    }

    /// The code with which the server hangs up.
    async fn closed(&mut self) -> u16 {
        let message = self.next(Duration::from_secs(5)).await;
        let Some(Message::Close(Some(reason))) = message else {
            panic!("{message:?} instead of the end");
        };
        reason.code.into()
    }
}

/// A server on a port of its own, with what it consists of.
fn served() -> (Context, String) {
    let context = context("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    actix_web::rt::spawn(server::serve(&context, listener).expect("a server"));
    (context, address)
}

fn webrtc(sdp: &str) -> Value {
    let servers = json!([{ "urls": ["stun:stun.example:3478"] }]);
    json!({ "value": { "sdp": sdp, "ice_servers": servers, "type": "offer" }, "type": "webrtc" })
}

fn candidate(line: &str) -> Value {
    json!({ "value": line, "type": "webrtc/candidate" })
}

#[actix_web::test]
async fn an_answer_comes_in_the_dialect_of_the_offer_and_before_its_candidates() {
    let (context, address) = served();
    for (offer, kind) in [
        (webrtc(&offer()), "webrtc"),
        (
            json!({ "type": "webrtc/offer", "value": offer() }),
            "webrtc/answer",
        ),
    ] {
        let mut socket = Socket::open(&address, "src=demo").await;
        // Of a client that is ahead of itself: an address, a name, an end, and too many.
        socket
            .say(&candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host"))
            .await;
        socket
            .say(&candidate("candidate:1 1 udp 1 0b1c7e9e.local 9 typ host"))
            .await;
        socket.say(&candidate("")).await;
        for _ in 0..200 {
            socket
                .say(&candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host"))
                .await;
        }
        socket.say(&offer).await;
        let answer = socket.hear().await;
        assert_eq!(answer["type"], kind, "{answer}");
        let sdp = match kind {
            "webrtc" => {
                assert_eq!(answer["value"]["type"], "answer");
                &answer["value"]["sdp"]
            }
            _ => &answer["value"],
        };
        let sdp = sdp.as_str().expect("text");
        assert!(
            sdp.starts_with("v=0\r\n") && !sdp.contains("candidate"),
            "{sdp}"
        );
        let first = socket.hear().await;
        assert_eq!(first["type"], "webrtc/candidate");
        let line = first["value"].as_str().unwrap_or_default();
        assert!(line.starts_with("candidate:"), "{first}");
        socket
            .say(&candidate("candidate:1 1 udp 1 192.0.2.2 9 typ host"))
            .await;
        while let Some(Message::Text(text)) = socket.next(Duration::from_millis(300)).await {
            assert!(text.contains("webrtc/candidate"), "{text}");
        }
        // Nothing ends with the socket.
        let before = context.sessions.count();
        socket.0.close(None).await.unwrap();
        drop(socket);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(context.sessions.count(), before);
    }
    assert_eq!(context.sessions.count(), 2);
    assert!(
        context
            .sessions
            .list()
            .iter()
            .all(|session| session.camera == "demo")
    );
    let drained = context.tasks.drain(Duration::from_secs(2)).await;
    assert!(drained, "{} tasks are left", context.tasks.alive());
}

#[actix_web::test]
async fn a_second_offer_takes_the_place_of_the_first() {
    let (context, address) = served();
    let mut socket = Socket::open(&address, "src=demo").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        socket.say(&webrtc(&offer())).await;
        while socket.hear().await["type"] != "webrtc" {}
        tokio::time::sleep(Duration::from_millis(200)).await;
        let sessions = context.sessions.list();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        seen.push(sessions[0].id);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[actix_web::test]
async fn what_is_wrong_is_told_when_the_offer_comes() {
    let (context, address) = served();
    let dead = format!("src=rtsp://user:{CANARY}@127.0.0.1:1/x");
    for (query, part) in [
        ("src=nobody", "stream not found"),
        ("", "stream not found"),
        ("dst=demo", "not offered"),
        ("src=ftp://h/x&name=camera.x", "ftp"),
        (&*dead, "127.0.0.1"),
    ] {
        let mut socket = Socket::open(&address, query).await;
        socket.say(&webrtc(&offer())).await;
        let error = socket.error().await;
        assert!(
            error.starts_with("webrtc: ") && error.contains(part),
            "{query}: {error}"
        );
        // It may try again, and the prefix is that of its request.
        socket
            .say(&json!({ "type": "webrtc/offer", "value": offer() }))
            .await;
        let error = socket.error().await;
        assert!(
            error.starts_with("webrtc/offer: ") && error.contains(part),
            "{query}: {error}"
        );
    }
    let mut socket = Socket::open(&address, "src=demo").await;
    for (offer, prefix) in [
        (webrtc("hello"), "webrtc: "),
        (json!({ "type": "webrtc" }), "webrtc: "),
        (
            json!({ "type": "webrtc/offer", "value": {} }),
            "webrtc/offer: ",
        ),
    ] {
        socket.say(&offer).await;
        let error = socket.error().await;
        assert!(error.starts_with(prefix), "{error}");
    }
    assert_eq!(context.sessions.count(), 0);
    assert_eq!(context.registry.list().len(), 1, "no more than the demo");
}

#[actix_web::test]
async fn a_url_with_a_name_is_registered_and_one_without_is_not() {
    let (context, address) = served();
    for query in [
        "src=demo:",
        "src=demo:&name=camera.x",
        "src=demo:&name=camera.x",
    ] {
        let mut socket = Socket::open(&address, query).await;
        socket.say(&webrtc(&offer())).await;
        let answer = socket.hear().await;
        assert_eq!(answer["type"], "webrtc", "{query}: {answer}");
        assert_eq!(
            context.registry.get("camera.x").is_some(),
            query.contains("name")
        );
        let is_url_listed = context.registry.get("demo:").is_some();
        assert!(!is_url_listed);
    }
}

#[actix_web::test]
async fn other_transports_are_declined_where_no_offer_follows() {
    let (_context, address) = served();
    let mut socket = Socket::open(&address, "src=demo").await;
    socket
        .say(&json!({ "type": "mse", "value": "avc1.640029,mp4a.40.2" }))
        .await;
    assert_eq!(socket.error().await, "mse: not offered, use webrtc");
    // go2rtc's player asks for both at once, and would show the first error as the reason of all.
    socket
        .say(&json!({ "type": "mse", "value": "avc1.640029" }))
        .await;
    socket
        .say(&json!({ "type": "webrtc/offer", "value": offer() }))
        .await;
    assert_eq!(socket.hear().await["type"], "webrtc/answer");
    socket.say(&json!({ "type": "mjpeg" })).await;
    while socket.next(Duration::from_millis(300)).await.is_some() {}
    socket.is_silent().await;
}

#[actix_web::test]
async fn what_is_no_message_ends_the_socket_and_an_unknown_one_does_not() {
    let (_context, address) = served();
    let mut socket = Socket::open(&address, "src=demo").await;
    for message in [
        json!({ "type": "moon" }),
        json!({}),
        json!({ "type": "webrtc/candidate" }),
    ] {
        socket.say(&message).await;
    }
    socket.is_silent().await;
    socket.0.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.closed().await, 1007);
    for (message, code) in [
        (Message::binary(Bytes::from_static(b"\0")), 1003),
        (Message::text("x".repeat(300 << 10)), 1009),
    ] {
        let mut socket = Socket::open(&address, "src=demo").await;
        socket.0.send(message).await.unwrap();
        assert_eq!(socket.closed().await, code);
    }
}

#[actix_web::test]
async fn sockets_end_with_the_server() {
    let (context, address) = served();
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(Socket::open(&address, "src=demo").await);
    }
    let drained = context.tasks.drain(Duration::from_secs(2)).await;
    assert!(drained, "{} tasks are left", context.tasks.alive());
    for mut socket in sockets {
        assert_eq!(socket.closed().await, 1001);
    }
}
