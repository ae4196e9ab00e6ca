//! RTSP within a WebSocket, as ONVIF has it (Streaming Specification, "RTSP over WebSocket"): each of
//! our messages is a binary one of the socket; what the camera sends is a stream, however it is cut.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::ProtocolError,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    carrier::Carrier,
    connection::ByteStream,
    diagnose,
    dial::{Dialer, Link},
    http::{self, Login, USER_AGENT},
};
use crate::base::{Error, SourceUrl};

pub(super) const CARRIER: Carrier = Carrier {
    schemes: &["ws", "wss"],
    open: |dialer| Box::pin(open(dialer)),
    is_plain: false,
};

/// The subprotocol. Some servers know it only if no other is named beside it.
const PROTOCOL: &str = "rtsp.onvif.org";
/// Largest message of the socket, in bytes: more than the largest packet and the largest message of
/// RTSP together.
const MESSAGE_MAX: usize = 512 << 10;
/// Room for reading, which each camera has for itself.
const READ_SIZE: usize = 16 << 10;

async fn open(dialer: &mut Dialer) -> Result<Link, Error> {
    let url = dialer.url().clone();
    let mut login = Login::new(url.clone());
    let settings = WebSocketConfig::default()
        .read_buffer_size(READ_SIZE)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    loop {
        let key = generate_key();
        let request = request(&url, &mut login, &key);
        let Link { mut stream, ends } = dialer.connect().await?;
        let mut rest = BytesMut::new();
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            http::read_head(&mut *stream, &mut rest).await
        };
        let head = dialer.within("the WebSocket upgrade", exchange).await?;
        let head = head.map_err(|e| diagnose::no_web_server(&url, e))?;
        match head.status {
            101 if head.accept != derive_accept_key(key.as_bytes()) => {
                return Err(diagnose::no_websocket(&url));
            }
            101 if !is_ours(&head.protocol) => return Err(diagnose::foreign_websocket(&url)),
            101 => {
                let rest = rest.to_vec();
                let socket = WebSocketStream::from_partially_read(
                    stream,
                    rest,
                    Role::Client,
                    Some(settings),
                );
                let stream = Box::new(Messages::new(socket.await));
                return Ok(Link { stream, ends });
            }
            401 if login.challenged(&head.challenges) => {}
            200..=299 => return Err(diagnose::no_websocket(&url)),
            status => return Err(diagnose::refused(&url, status)),
        }
    }
}

fn request(url: &SourceUrl, login: &mut Login, key: &str) -> String {
    let (target, authority) = (http::target(url), http::authority(url));
    let login = login.header("GET", target);
    format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {PROTOCOL}\r\nUser-Agent: {USER_AGENT}\r\n{login}\r\n"
    )
}

/// Whether the subprotocol is the one that we asked for. Some servers leave it out.
fn is_ours(protocol: &str) -> bool {
    matches!(protocol, "" | PROTOCOL)
}

/// A socket's messages as a stream of bytes.
struct Messages<S> {
    socket: WebSocketStream<S>,
    /// What is left of the last message.
    rest: Bytes,
}

impl<S> Messages<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            rest: Bytes::new(),
        }
    }
}

impl<S: ByteStream> AsyncRead for Messages<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                // Against the specification, and no reason to see nothing.
                Some(Ok(Message::Text(text))) => this.rest = text.into(),
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                // A ping is answered with the next poll.
                Some(Ok(_)) => {}
                Some(Err(e)) if is_end(&e) => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(into_io(e))),
            }
        }
        let length = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: ByteStream> AsyncWrite for Messages<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_ready(cx)).map_err(into_io)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        let sent = Pin::new(&mut this.socket).start_send(message);
        Poll::Ready(sent.map(|()| bytes.len()).map_err(into_io))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.get_mut().socket);
        socket.poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.get_mut().socket);
        socket.poll_close(cx).map_err(into_io)
    }
}

/// Whether the camera is just gone, with or without a goodbye.
fn is_end(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

fn into_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(e) => e,
        e => io::Error::other(e),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{SinkExt, StreamExt};
    use tokio::{
        io::{AsyncReadExt, DuplexStream},
        net::TcpListener,
        time::Instant,
    };

    use super::*;
    use crate::base::ErrorKind;

    /// What comes of a server that answers an upgrade with `answer`, in which `KEY` stands for what
    /// accepts it; and what it was asked.
    async fn upgrade(answer: &str) -> (Result<Link, Error>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = SourceUrl::parse(&format!("ws://{address}/w?a=b")).unwrap();
        let limit = Duration::from_secs(5);
        let mut dialer = Dialer::new(url, None, vec![address], limit, Instant::now() + limit);
        let camera = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.split_once("Sec-WebSocket-Key: ").unwrap().1;
            let key = derive_accept_key(key.lines().next().unwrap().as_bytes());
            let mut answer = answer.replace("KEY", &key).into_bytes();
            // The beginning of what is said may come with the answer.
            answer.extend_from_slice(b"\x82\x04RTSP");
            stream.write_all(&answer).await.unwrap();
            (head, stream)
        };
        let (link, (head, _stream)) = tokio::join!(open(&mut dialer), camera);
        (link, head)
    }

    #[tokio::test]
    async fn a_subprotocol_that_is_left_out_does_not_matter() {
        let agreed = "HTTP/1.1 101 Switching\r\nsec-websocket-accept: KEY\r\n";
        for chosen in ["", "sec-websocket-protocol: rtsp.onvif.org\r\n"] {
            let (link, asked) = upgrade(&format!("{agreed}{chosen}\r\n")).await;
            let mut said = [0; 4];
            let mut stream = link.unwrap().stream;
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"RTSP", "{chosen}");
            assert!(asked.starts_with("GET /w?a=b HTTP/1.1\r\n"), "{asked}");
            for line in [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Protocol: rtsp.onvif.org",
            ] {
                // Letter by letter, as MediaMTX compares them.
                assert!(asked.lines().any(|asked| asked == line), "{asked}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_websocket_for_rtsp_is_told() {
        for (answer, told) in [
            (
                "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: KEY\r\n\
                 Sec-WebSocket-Protocol: chat\r\n\r\n",
                "not one for RTSP",
            ),
            (
                "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n\r\n",
                "agreed on no WebSocket",
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", "agreed on no WebSocket"),
        ] {
            let error = upgrade(answer).await.0.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    async fn pair() -> (Messages<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, camera) = tokio::io::duplex(1 << 20);
        let settings = WebSocketConfig::default().max_message_size(Some(1_000));
        (
            Messages::new(
                WebSocketStream::from_raw_socket(ours, Role::Client, Some(settings)).await,
            ),
            WebSocketStream::from_raw_socket(camera, Role::Server, None).await,
        )
    }

    #[tokio::test]
    async fn a_request_is_one_message_and_what_comes_is_a_stream() {
        let (mut ours, mut camera) = pair().await;
        ours.write_all(b"OPTIONS * RTSP/1.0\r\n\r\n").await.unwrap();
        ours.flush().await.unwrap();
        let request = camera.next().await.unwrap().unwrap();
        assert_eq!(request, Message::binary(&b"OPTIONS * RTSP/1.0\r\n\r\n"[..]));
        for message in [
            Message::binary(&b"RTSP/1.0 2"[..]),
            Message::Ping(Bytes::from_static(b"there?")),
            Message::text("00 OK\r\n"),
            Message::binary(&b""[..]),
            Message::binary(&b"\r\n$"[..]),
            Message::Close(None),
        ] {
            camera.send(message).await.unwrap();
        }
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "RTSP/1.0 200 OK\r\n\r\n$");
        let pong = camera.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong(Bytes::from_static(b"there?")));
    }

    #[tokio::test]
    async fn a_camera_that_is_gone_is_an_end_and_a_message_too_large_an_error() {
        let (mut ours, camera) = pair().await;
        drop(camera);
        assert_eq!(ours.read(&mut [0; 9]).await.unwrap(), 0);
        let (mut ours, mut camera) = pair().await;
        camera.send(Message::binary(vec![0; 1_001])).await.unwrap();
        assert!(ours.read(&mut [0; 9]).await.is_err());
    }
}
