//! [`Connection`]: RTSP messages and interleaved packets over any stream of bytes.

use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use retina::rtsp::{
    msg::{Message, OwnedMessage, Request, Response},
    parse::{FeedError, Parser},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Whatever carries RTSP: TCP now.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for S {}

/// Largest head of a message, and largest body, in bytes. A session description with the sets of
/// two H.265 tracks has about 2 kB.
const HEAD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 256 << 10;
/// Room asked for each read: an interleaved packet has at most 64 KiB.
const READ_SIZE: usize = 32 << 10;

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
    parser: Parser,
    /// Bytes of the message that the parser is in the middle of; 0 between messages.
    within: usize,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(READ_SIZE),
            parser: Parser::builder()
                .max_message_size(HEAD_MAX + BODY_MAX)
                .build(),
            within: 0,
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &OwnedMessage) -> Result<(), Fault> {
        let mut text = Vec::with_capacity(512);
        message.write(&mut text).map_err(Fault::Broken)?;
        self.stream.write_all(&text).await.map_err(Fault::Broken)
    }

    /// The next thing that the camera sends. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Incoming, Fault> {
        loop {
            if let Some(incoming) = self.parse()? {
                return Ok(incoming);
            }
            self.buffer.reserve(READ_SIZE);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(_) => {}
                Err(e) => return Err(Fault::Broken(e)),
            }
        }
    }

    /// Takes one whole message or packet out of the buffer.
    fn parse(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.within == 0 && self.buffer.first() == Some(&b'$') {
            return Ok(self.take_packet());
        }
        let mut input = &self.buffer[..];
        let before = input.len();
        let result = self.parser.feed(&mut input);
        let consumed = before - input.len();
        let message = match result {
            Ok(Some((message, body))) => Some((message, Bytes::copy_from_slice(body))),
            Ok(None) => None,
            Err(FeedError::Incomplete(incomplete)) => {
                self.within += consumed;
                let limit = if incomplete.needed.is_some() {
                    HEAD_MAX + BODY_MAX
                } else {
                    HEAD_MAX
                };
                if self.within + before - consumed > limit {
                    return Err(Fault::TooLarge);
                }
                // A parser that waits for more of a head is in the middle of a message, unless it
                // has seen nothing at all.
                self.within = self.within.max(usize::from(before > 0));
                None
            }
            Err(FeedError::Invalid(invalid)) => {
                let too_large = invalid.context.contains(&"message-too-large");
                return Err(if too_large {
                    Fault::TooLarge
                } else {
                    Fault::NotRtsp
                });
            }
        };
        self.buffer.advance(consumed);
        let Some((message, body)) = message else {
            return Ok(None);
        };
        self.within = 0;
        Ok(match message {
            Message::Response(response) => Some(Incoming::Response(response, body)),
            Message::Request(request) => Some(Incoming::Request(request)),
            // Packets between messages are taken above; one after a stray line break ends here.
            Message::Data(data) => Some(Incoming::Data {
                channel: data.channel_id,
                packet: body,
            }),
        })
    }

    /// A packet, without a copy.
    fn take_packet(&mut self) -> Option<Incoming> {
        let [_, channel, high, low, rest @ ..] = &self.buffer[..] else {
            return None;
        };
        let (channel, length) = (*channel, usize::from(u16::from_be_bytes([*high, *low])));
        if rest.len() < length {
            return None;
        }
        self.buffer.advance(4);
        let packet = self.buffer.split_to(length).freeze();
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
