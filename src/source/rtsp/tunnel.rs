//! RTSP through a web server: the tunnel that Apple brought, in two HTTP requests.
//!
//! The answer to a GET brings what the camera says, as it is. The body of a POST, which never ends,
//! takes our requests there in base64. A cookie of ours tells the camera that both belong together.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    carrier::Carrier,
    connection::ByteStream,
    diagnose,
    dial::{Dialer, Link},
    http::{self, Login, Refused, USER_AGENT},
};
use crate::base::Error;

pub(super) const CARRIER: Carrier = Carrier {
    schemes: &["rtsp+http", "rtsp+https"],
    open: |dialer| Box::pin(open(dialer)),
    is_plain: false,
};

/// The type of both bodies.
const TYPE: &str = "application/x-rtsp-tunnelled";

async fn open(dialer: &mut Dialer) -> Result<Link, Error> {
    let url = dialer.url().clone();
    let (target, authority) = (http::target(&url), http::authority(&url));
    let mut login = Login::new(url.clone());
    let (get, rest, cookie) = loop {
        // As many letters as Apple's server wants.
        let mut cookie = format!("{:032x}", rand::random::<u128>());
        cookie.truncate(22);
        let login_line = login.header("GET", target);
        let request = format!(
            "GET {target} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n\
             x-sessioncookie: {cookie}\r\nAccept: {TYPE}\r\n\
             Pragma: no-cache\r\nCache-Control: no-cache\r\n{login_line}\r\n"
        );
        let mut get = dialer.connect().await?;
        let mut rest = BytesMut::new();
        let exchange = async {
            get.stream.write_all(request.as_bytes()).await?;
            get.stream.flush().await?;
            http::read_head(&mut *get.stream, &mut rest).await
        };
        let head = dialer.within("GET", exchange).await?;
        let head = head.map_err(|e| diagnose::no_web_server(&url, e))?;
        match head.status {
            200 if head.content_type.starts_with("text/") => {
                return Err(diagnose::web_page(&url));
            }
            200 => break (get, rest, cookie),
            401 if login.challenged(&head.challenges) => {}
            status => return Err(diagnose::refused(&url, status)),
        }
    };
    let mut post = dialer.connect().await?;
    let login_line = login.header("POST", target);
    // The length is what everybody says, and means nothing; the date is as old for caches.
    let request = format!(
        "POST {target} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n\
         x-sessioncookie: {cookie}\r\nContent-Type: {TYPE}\r\n\
         Pragma: no-cache\r\nCache-Control: no-cache\r\nContent-Length: 32767\r\n\
         Expires: Sun, 9 Jan 1972 00:00:00 GMT\r\n{login_line}\r\n"
    );
    let send = async {
        post.stream.write_all(request.as_bytes()).await?;
        post.stream.flush().await
    };
    let sent = dialer.within("POST", send).await?;
    sent.map_err(|e| diagnose::no_web_server(&url, e))?;
    let tunnel = Tunnel {
        get: get.stream,
        post: post.stream,
        rest,
        unsent: BytesMut::new(),
        answer: Some(BytesMut::new()),
    };
    Ok(Link {
        stream: Box::new(tunnel),
        ends: get.ends,
    })
}

/// Both requests as one stream.
struct Tunnel {
    get: Box<dyn ByteStream>,
    post: Box<dyn ByteStream>,
    /// What came with the head of the answer to GET.
    rest: BytesMut,
    /// Base64 that POST did not take yet.
    unsent: BytesMut,
    /// What was answered to POST, until it does not matter any more. Hardly any camera answers it, but
    /// for a refusal.
    answer: Option<BytesMut>,
}

impl Tunnel {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.post).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether POST was refused.
    fn heed_answer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while let Some(answer) = &mut self.answer {
            let mut space = [0; 512];
            let mut space = ReadBuf::new(&mut space);
            let Poll::Ready(read) = Pin::new(&mut self.post).poll_read(cx, &mut space) else {
                return Ok(());
            };
            answer.extend_from_slice(space.filled());
            match http::take_head(answer) {
                Ok(Some(head)) if head.status >= 300 => {
                    return Err(io::Error::other(Refused(head.status)));
                }
                Ok(None) if read.is_ok() && !space.filled().is_empty() => {}
                // Agreed, or what is no answer, or closed: if it matters, the next request will tell.
                _ => self.answer = None,
            }
        }
        Ok(())
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            let length = this.rest.len().min(buffer.remaining());
            buffer.put_slice(&this.rest.split_to(length));
            return Poll::Ready(Ok(()));
        }
        this.heed_answer(cx)?;
        Pin::new(&mut this.get).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    /// Takes all of `bytes`, which is one message: each is encoded by itself, so that none waits for
    /// the bytes of the next to fill a group of four letters.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        this.unsent
            .extend_from_slice(STANDARD.encode(bytes).as_bytes());
        match this.poll_unsent(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.post).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.post).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, DuplexStream},
        time::timeout,
    };

    use super::*;

    /// A tunnel and the camera's ends of it; `rest` came with the head.
    fn tunnel(rest: &[u8]) -> (Tunnel, DuplexStream, DuplexStream) {
        let (get, camera_get) = tokio::io::duplex(64);
        let (post, camera_post) = tokio::io::duplex(64);
        let tunnel = Tunnel {
            get: Box::new(get),
            post: Box::new(post),
            rest: BytesMut::from(rest),
            unsent: BytesMut::new(),
            answer: Some(BytesMut::new()),
        };
        (tunnel, camera_get, camera_post)
    }

    #[tokio::test]
    async fn each_message_is_encoded_by_itself_and_answers_come_as_they_are() {
        let (mut tunnel, mut camera_get, mut camera_post) = tunnel(b"RT");
        let large = vec![b'x'; 1_000];
        let ours = async {
            tunnel.write_all(b"OPTIONS").await.unwrap();
            tunnel.flush().await.unwrap();
            tunnel.write_all(&large).await.unwrap();
            tunnel.flush().await.unwrap();
            let mut answer = [0; 6];
            tunnel.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"RTSP/1");
        };
        let camera = async {
            let mut first = [0; 12];
            camera_post.read_exact(&mut first).await.unwrap();
            assert_eq!(STANDARD.decode(first).unwrap(), b"OPTIONS");
            let mut second = vec![0; 1_336];
            camera_post.read_exact(&mut second).await.unwrap();
            assert_eq!(STANDARD.decode(second).unwrap(), large);
            camera_get.write_all(b"SP/1").await.unwrap();
        };
        tokio::join!(ours, camera);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_post_matters_only_if_it_is_a_refusal() {
        let (mut refused, _camera_get, mut camera_post) = tunnel(b"");
        camera_post.write_all(b"HTTP/1.1 40").await.unwrap();
        let tell = async {
            tokio::task::yield_now().await;
            camera_post.write_all(b"3 No\r\n\r\n").await.unwrap();
        };
        let read = timeout(Duration::from_secs(1), refused.read_u8());
        let (read, ()) = tokio::join!(read, tell);
        let error = read.expect("a refusal is not waited out").unwrap_err();
        let status = error.get_ref().unwrap().downcast_ref::<Refused>().unwrap();
        assert_eq!(status.0, 403);

        for answer in [&b"HTTP/1.0 200 OK\r\n\r\n"[..], b"RTSP", b""] {
            let (mut taken, mut camera_get, mut camera_post) = tunnel(b"");
            camera_post.write_all(answer).await.unwrap();
            camera_post.shutdown().await.unwrap();
            camera_get.write_all(b"$").await.unwrap();
            assert_eq!(taken.read_u8().await.unwrap(), b'$');
        }
    }
}
