//! [`Connection`]: RTSP messages and interleaved packets over any stream of bytes.

use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use retina::rtsp::msg::{Message, OwnedMessage, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::head;

/// Whatever carries RTSP.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for S {}

/// Largest head of a message, and largest body, in bytes. A session description with the sets of
/// two H.265 tracks has about 2 kB.
const HEAD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 256 << 10;
/// Room below which more is asked for.
const READ_MIN: usize = 4 << 10;
/// Packets from this size on share the buffer that they were read into, in bytes.
const SHARED_MIN: usize = 4 << 10;
/// Room asked for each read, of which every camera has its own: a picture of 2 Mbit/s.
const READ_SIZE: usize = 16 << 10;

/// Something that the camera sent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// An interleaved packet ([RFC 2326 §10.12]).
    ///
    /// [RFC 2326 §10.12]: https://datatracker.ietf.org/doc/html/rfc2326#section-10.12
    Data {
        /// The channel, as SETUP agreed.
        channel: u8,
        /// RTP or RTCP.
        packet: Bytes,
    },
    /// The answer to a request of ours.
    Response(Response, Bytes),
    /// A request of the camera.
    Request(Request),
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub(super) enum Fault {
    /// The camera closed it.
    Closed,
    /// The network failed.
    Broken(io::Error),
    /// What came is not RTSP.
    NotRtsp,
    /// A message is larger than any camera's.
    TooLarge,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the camera"),
            Self::Broken(e) => write!(f, "broken: {e}"),
            Self::NotRtsp => f.write_str("not RTSP"),
            Self::TooLarge => f.write_str("message too large"),
        }
    }
}

impl std::error::Error for Fault {}

pub(super) struct Connection {
    stream: Box<dyn ByteStream>,
    buffer: BytesMut,
    /// A message whose body of this many bytes has not arrived yet.
    headed: Option<(Message, usize)>,
    /// Whether anything was understood yet. Before that, nonsense means that this is no camera.
    understood: bool,
    /// Bytes passed over since something was understood.
    skipped: usize,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(READ_SIZE),
            headed: None,
            understood: false,
            skipped: 0,
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &OwnedMessage) -> Result<(), Fault> {
        let mut text = Vec::with_capacity(512);
        message.write(&mut text).map_err(Fault::Broken)?;
        self.stream.write_all(&text).await.map_err(Fault::Broken)?;
        // TLS keeps what does not fit at once.
        self.stream.flush().await.map_err(Fault::Broken)
    }

    /// The next thing that the camera sends. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Incoming, Fault> {
        loop {
            if let Some(incoming) = self.parse()? {
                return Ok(incoming);
            }
            if self.buffer.capacity() - self.buffer.len() < READ_MIN {
                self.buffer.reserve(READ_SIZE);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(_) => {}
                Err(e) => return Err(Fault::Broken(e)),
            }
        }
    }

    /// Takes one whole message or packet out of the buffer.
    fn parse(&mut self) -> Result<Option<Incoming>, Fault> {
        while self.headed.is_none() {
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'\r' | b'\n') => self.buffer.advance(1),
                Some(b'$') => return Ok(self.take_packet()),
                Some(_) if !head::begins_like_one(&self.buffer) => self.skip_nonsense()?,
                Some(_) => {
                    let Some(head) = self.take_head()? else {
                        return Ok(None);
                    };
                    self.headed = Some(head);
                }
            }
        }
        let Some((message, length)) = self
            .headed
            .take_if(|(_, length)| *length <= self.buffer.len())
        else {
            return Ok(None);
        };
        let body = Bytes::copy_from_slice(&self.buffer.split_to(length));
        self.understand();
        Ok(match message {
            Message::Response(response) => Some(Incoming::Response(response, body)),
            Message::Request(request) => Some(Incoming::Request(request)),
            // Packets never have a head.
            Message::Data(_) => None,
        })
    }

    fn understand(&mut self) {
        self.understood = true;
        self.skipped = 0;
    }

    /// Takes the head of a message out of the buffer, with the length of its body.
    fn take_head(&mut self) -> Result<Option<(Message, usize)>, Fault> {
        let Some(length) = head::length(&self.buffer) else {
            let endless = self.buffer.len() > HEAD_MAX;
            return if endless {
                Err(Fault::TooLarge)
            } else {
                Ok(None)
            };
        };
        if length > HEAD_MAX {
            return Err(Fault::TooLarge);
        }
        let text = self.buffer.split_to(length);
        let (message, body) = head::parse(&text).ok_or(Fault::NotRtsp)?;
        if body > BODY_MAX {
            return Err(Fault::TooLarge);
        }
        Ok(Some((message, body)))
    }

    /// Looks for the next packet or message after bytes that belong to none: a body longer than its
    /// camera said, for example.
    fn skip_nonsense(&mut self) -> Result<(), Fault> {
        if !self.understood || self.skipped > HEAD_MAX {
            return Err(Fault::NotRtsp);
        }
        let next = (1..self.buffer.len()).find(|at| {
            let rest = &self.buffer[*at..];
            rest.starts_with(b"$") || rest.starts_with(b"RTSP/")
        });
        // What may be the beginning of one stays.
        let skip = next.unwrap_or(self.buffer.len().saturating_sub(4).max(1));
        self.skipped += skip;
        self.buffer.advance(skip);
        Ok(())
    }

    /// A packet; a large one without a copy.
    fn take_packet(&mut self) -> Option<Incoming> {
        let [_, channel, high, low, rest @ ..] = &self.buffer[..] else {
            return None;
        };
        let (channel, length) = (*channel, usize::from(u16::from_be_bytes([*high, *low])));
        if rest.len() < length {
            return None;
        }
        self.buffer.advance(4);
        self.understand();
        let packet = self.buffer.split_to(length);
        // A small one must not hold the whole buffer alive, for as long as a viewer may miss it.
        let packet = if length < SHARED_MIN {
            Bytes::copy_from_slice(&packet)
        } else {
            packet.freeze()
        };
        Some(Incoming::Data { channel, packet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection makes of `bytes` that arrive `step` at a time, and how it ends.
    async fn read(bytes: &[u8], step: usize) -> (Vec<String>, Fault) {
        let (camera, ours) = tokio::io::duplex(1 << 20);
        let mut connection = Connection::new(Box::new(ours));
        let feed = async {
            let mut camera = camera;
            for part in bytes.chunks(step) {
                if camera.write_all(part).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let take = async {
            let mut seen = Vec::new();
            loop {
                match connection.next().await {
                    Ok(Incoming::Data { channel, packet }) => {
                        seen.push(format!("${channel} {}", packet.len()));
                    }
                    Ok(Incoming::Response(r, body)) => {
                        seen.push(format!("{} {}", r.status_code.as_u16(), body.len()));
                    }
                    Ok(Incoming::Request(r)) => seen.push(r.method.to_string()),
                    Err(fault) => return (seen, fault),
                }
            }
        };
        tokio::join!(take, feed).0
    }

    #[tokio::test]
    async fn messages_and_packets_are_told_apart_however_they_arrive() {
        let bytes = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\n$$$\
            $\x00\x00\x02abOPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n$\x03\x00\x00\
            RTSP/1.0 401 No\r\nCSeq: 2\r\n\r\n";
        for step in [1, 2, 3, 7, 1_000] {
            let (seen, end) = read(bytes, step).await;
            assert_eq!(
                seen,
                ["200 3", "$0 2", "OPTIONS", "$3 0", "401 0"],
                "step {step}"
            );
            assert!(matches!(end, Fault::Closed), "{end}");
        }
    }

    #[tokio::test]
    async fn bytes_that_belong_to_nothing_are_passed_over_once_a_camera_is_known() {
        let bytes = b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nxyz$\x02\x00\x01a\x00\x01\
            RTSP/1.0 200 OK\r\n\r\n";
        for step in [1, 3, 1_000] {
            let (seen, end) = read(bytes, step).await;
            assert_eq!(seen, ["200 1", "$2 1", "200 0"], "step {step}");
            assert!(matches!(end, Fault::Closed), "{end}");
        }
    }

    #[tokio::test]
    async fn what_is_not_rtsp_and_what_never_ends_is_given_up() {
        let (_, end) = read(b"SSH-2.0-OpenSSH_9.2p1\r\n", 100).await;
        assert!(matches!(end, Fault::NotRtsp), "{end}");
        let (_, end) = read(b"HTTP/1.1 400 Bad Request\r\n\r\n", 100).await;
        assert!(matches!(end, Fault::NotRtsp), "{end}");
        let endless = [b"RTSP/1.0 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(20_000)].concat();
        let (_, end) = read(&endless, 5_000).await;
        assert!(matches!(end, Fault::TooLarge), "{end}");
        let huge = b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        let (_, end) = read(huge, 100).await;
        assert!(matches!(end, Fault::TooLarge), "{end}");
        let line = [b"RTSP/1.0 200 ".to_vec(), vec![b'x'; 100_000]].concat();
        let (_, end) = read(&line, 5_000).await;
        assert!(matches!(end, Fault::TooLarge), "{end}");
    }
}
