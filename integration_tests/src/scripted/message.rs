//! RTSP as a camera reads it: requests and the interleaved frames between them.

use std::io;

use tokio::{io::AsyncReadExt, time::Instant};

use super::wire::Wire;

/// More than any client sends before the end of a request.
const HEAD_MAX: usize = 64 * 1024;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which connection of the camera, counted from 0.
    pub connection: usize,
    /// When it was read.
    pub at: Instant,
    /// `DESCRIBE`, for example.
    pub method: String,
    /// The request URI, unchanged.
    pub uri: String,
    /// Names and values, unchanged, in order.
    pub headers: Vec<(String, String)>,
    /// The status that it was answered with.
    pub status: u16,
}

impl Request {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What the peer sent and nobody has taken yet. Waiting for more may be cancelled at any time.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    connection: usize,
}

impl Inbox {
    pub(super) fn new(connection: usize) -> Self {
        Self {
            buffer: Vec::new(),
            connection,
        }
    }

    /// The next request, or none when the peer has gone. Interleaved frames are skipped.
    pub(super) async fn request(&mut self, wire: &mut dyn Wire) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.take()? {
                return Ok(Some(request));
            }
            if wire.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Forgets what is here, and waits for bytes if there was nothing. False when the peer has gone.
    pub(super) async fn listen(&mut self, wire: &mut dyn Wire) -> io::Result<bool> {
        if self.buffer.is_empty() && wire.read_buf(&mut self.buffer).await? == 0 {
            return Ok(false);
        }
        self.buffer.clear();
        Ok(true)
    }

    fn take(&mut self) -> io::Result<Option<Request>> {
        while let [b'$', rest @ ..] = self.buffer.as_slice() {
            let [_channel, high, low, data @ ..] = rest else {
                return Ok(None);
            };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if data.len() < length {
                return Ok(None);
            }
            self.buffer.drain(..4 + length);
        }
        let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > HEAD_MAX {
                Err(broken("no end"))
            } else {
                Ok(None)
            };
        };
        if self.buffer.starts_with(b"RTSP/1.0 ") {
            // An answer to what a script has said; it has no body.
            self.buffer.drain(..end + 4);
            return self.take();
        }
        let head = String::from_utf8_lossy(&self.buffer[..end]);
        let mut lines = head.trim_start().split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(uri), Some("RTSP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(broken("not a request line of RTSP 1.0"));
        };
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(|| broken("no header"))?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let request = Request {
            connection: self.connection,
            at: Instant::now(),
            method: method.to_owned(),
            uri: uri.to_owned(),
            headers,
            status: 0,
        };
        let body = match request.header("Content-Length") {
            Some(length) => length
                .parse()
                .map_err(|_| broken("a length that is no number"))?,
            None => 0,
        };
        let end = end + 4 + body;
        if self.buffer.len() < end {
            return Ok(None);
        }
        self.buffer.drain(..end);
        Ok(Some(request))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the client sent {what}"),
    )
}
