//! RTSP within a WebSocket, as ONVIF has it (Streaming Specification, "RTSP over WebSocket"): each of
//! our messages is a binary one of the socket; what the camera sends is a stream, however it is cut.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        error::ProtocolError,
        handshake::client::{Request, generate_key},
        protocol::WebSocketConfig,
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

/// The subprotocol.
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
        let request = request(&url, &mut login)
            .map_err(|e| diagnose::no_websocket(&url, tungstenite::Error::HttpFormat(e)))?;
        let Link { stream, ends } = dialer.connect().await?;
        let upgrade = Box::pin(client_async_with_config(request, stream, Some(settings)));
        match dialer.within("the WebSocket upgrade", upgrade).await? {
            Ok((socket, _)) => {
                let stream = Box::new(Messages::new(socket));
                return Ok(Link { stream, ends });
            }
            Err(tungstenite::Error::Http(answer)) => {
                let status = answer.status().as_u16();
                let asked = answer.headers().get_all("WWW-Authenticate").iter();
                let challenges: Vec<_> = asked
                    .map(|asked| String::from_utf8_lossy(asked.as_bytes()).into_owned())
                    .collect();
                if status != 401 || !login.challenged(&challenges) {
                    return Err(diagnose::refused(&url, status));
                }
            }
            Err(e) => return Err(diagnose::no_websocket(&url, e)),
        }
    }
}

fn request(url: &SourceUrl, login: &mut Login) -> Result<Request, tungstenite::http::Error> {
    let mut builder = Request::builder()
        .uri(url.request_url().as_str())
        .header("Host", http::authority(url))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", PROTOCOL)
        .header("User-Agent", USER_AGENT);
    if let Some(value) = login.authorization("GET", http::target(url)) {
        builder = builder.header("Authorization", value);
    }
    builder.body(())
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
    use futures::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

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
