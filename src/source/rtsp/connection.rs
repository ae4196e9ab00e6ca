//! [`Connection`]: RTSP messages and interleaved packets over any stream of bytes.

use std::{fmt, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use retina::rtsp::msg::{Message, OwnedMessage, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{description, head};

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

/// How long, and for how many bytes, the next packet or message is looked for before a new connection is
/// quicker.
const LOST_TIME_MAX: Duration = Duration::from_secs(2);
const LOST_BYTES_MAX: usize = 64 << 10;
/// A packet at least this long that has not arrived after this time may be none: then its bytes are looked
/// at for others, of which none has so many inside itself.
const DOUBTFUL_LENGTH: usize = 4 << 10;
const DOUBTFUL_TIME: Duration = Duration::from_millis(500);
/// Packets and messages one after the other that show that it was found.
const FOUND: u8 = 2;
/// Among bytes that belong to nothing, the largest packet that is believed in, and the last channel: more
/// than cameras use, and far less than chance gives.
const FOUND_LENGTH_MAX: usize = 16 << 10;
const FOUND_CHANNEL_MAX: u8 = 15;

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
    Request(Request, Bytes),
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
    /// What is still to be written: a write that was given up must not leave half a message behind.
    unsent: BytesMut,
    /// A message whose body has not arrived yet, and how long it says that is.
    headed: Option<(Message, Option<usize>)>,
    /// Whether nothing more of that body will come.
    is_quiet: bool,
    /// Whether anything was understood yet. Before that, nonsense means that this is no camera.
    understood: bool,
    lost: Option<Lost>,
    /// When the packet that is not whole yet began to arrive, if it is long.
    partial: Option<Instant>,
}

/// What has become of a connection since bytes came that belong to nothing.
struct Lost {
    since: Instant,
    skipped: usize,
    /// Packets and messages since the last such byte.
    found: u8,
}

/// Whether something begins here.
#[derive(PartialEq, Eq)]
enum Begins {
    Yes,
    No,
    /// Too little has arrived.
    Perhaps,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn ByteStream>) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(READ_SIZE),
            unsent: BytesMut::new(),
            headed: None,
            is_quiet: false,
            understood: false,
            lost: None,
            partial: None,
        }
    }

    /// Sends a message. What is left of it when this is cancelled goes before the next.
    pub(super) async fn send(&mut self, message: &OwnedMessage) -> Result<(), Fault> {
        let mut text = Vec::with_capacity(512);
        message.write(&mut text).map_err(Fault::Broken)?;
        self.unsent.extend_from_slice(&text);
        self.write().await
    }

    /// Sends an interleaved packet, likewise.
    pub(super) async fn send_packet(&mut self, channel: u8, packet: &[u8]) -> Result<(), Fault> {
        let length = u16::try_from(packet.len()).map_err(|_| Fault::TooLarge)?;
        self.unsent.extend_from_slice(&[b'$', channel]);
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(packet);
        self.write().await
    }

    async fn write(&mut self) -> Result<(), Fault> {
        while !self.unsent.is_empty() {
            let written = self.stream.write_buf(&mut self.unsent).await;
            if written.map_err(Fault::Broken)? == 0 {
                return Err(Fault::Closed);
            }
        }
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
            let read = self.stream.read_buf(&mut self.buffer);
            let read = match &self.headed {
                Some((message, said)) if description::is_one(message) => {
                    timeout(description::patience(*said), read).await
                }
                _ => Ok(read.await),
            };
            match read {
                Ok(Ok(0)) => return Err(Fault::Closed),
                Ok(Ok(_)) => self.is_quiet = false,
                Ok(Err(e)) => return Err(Fault::Broken(e)),
                Err(_) => self.is_quiet = true,
            }
        }
    }

    /// Takes one whole message or packet out of the buffer.
    fn parse(&mut self) -> Result<Option<Incoming>, Fault> {
        while self.headed.is_none() {
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'\r' | b'\n') => self.buffer.advance(1),
                Some(_) if self.lost.is_some() && begins(&self.buffer) != Begins::Yes => {
                    if begins(&self.buffer) == Begins::Perhaps {
                        return Ok(None);
                    }
                    self.skip_nonsense()?;
                }
                Some(b'$') => match self.take_packet() {
                    None if self.is_doubtful() => self.skip_nonsense()?,
                    packet => return Ok(packet),
                },
                Some(_) if !head::begins_like_one(&self.buffer) => self.skip_nonsense()?,
                Some(_) => {
                    let Some(head) = self.take_head()? else {
                        return Ok(None);
                    };
                    self.headed = Some(head);
                }
            }
        }
        let (buffer, is_quiet) = (&self.buffer, self.is_quiet);
        let whole = self.headed.take_if(|(message, said)| {
            if description::is_one(message) {
                description::length(buffer, *said, is_quiet).is_some()
            } else {
                said.unwrap_or(0) <= buffer.len()
            }
        });
        let Some((message, said)) = whole else {
            return Ok(None);
        };
        let length = if description::is_one(&message) {
            description::length(buffer, said, is_quiet)
        } else {
            said
        };
        let body = self.buffer.split_to(length.unwrap_or(0));
        let body = Bytes::copy_from_slice(&body);
        self.is_quiet = false;
        self.understand();
        Ok(match message {
            Message::Response(response) => Some(Incoming::Response(response, body)),
            Message::Request(request) => Some(Incoming::Request(request, body)),
            // Packets never have a head.
            Message::Data(_) => None,
        })
    }

    fn understand(&mut self) {
        self.understood = true;
        if let Some(lost) = &mut self.lost {
            lost.found += 1;
            if lost.found >= FOUND {
                self.lost = None;
            }
        }
    }

    /// Takes the head of a message out of the buffer, with the length of its body.
    fn take_head(&mut self) -> Result<Option<(Message, Option<usize>)>, Fault> {
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
        if body.is_some_and(|length| length > BODY_MAX) {
            return Err(Fault::TooLarge);
        }
        Ok(Some((message, body)))
    }

    /// Looks for the next packet or message after bytes that belong to none: a body longer than its
    /// camera said, for example.
    fn skip_nonsense(&mut self) -> Result<(), Fault> {
        let lost = self.lost.get_or_insert_with(|| Lost {
            since: Instant::now(),
            skipped: 0,
            found: 0,
        });
        lost.found = 0;
        if !self.understood || lost.skipped > LOST_BYTES_MAX || lost.since.elapsed() > LOST_TIME_MAX
        {
            return Err(Fault::NotRtsp);
        }
        let ends = 1..self.buffer.len();
        let skip = ends
            .into_iter()
            .find(|at| begins(&self.buffer[*at..]) != Begins::No)
            .unwrap_or(self.buffer.len());
        lost.skipped += skip;
        self.buffer.advance(skip);
        Ok(())
    }

    /// Whether the packet at the beginning of the buffer takes long to arrive, and others seem to have
    /// arrived inside it: then its length is wrong.
    fn is_doubtful(&mut self) -> bool {
        let Some(since) = self.partial else {
            return false;
        };
        if since.elapsed() < DOUBTFUL_TIME {
            return false;
        }
        // Not looked at with each read.
        self.partial = Some(Instant::now());
        let inside = (1..self.buffer.len()).any(|at| {
            let first = &self.buffer[at..];
            let second = packet_length(first).and_then(|length| first.get(length..));
            let third = second.and_then(|second| second.get(packet_length(second)?..));
            third.is_some_and(|third| packet_length(third).is_some())
        });
        if inside {
            self.partial = None;
        }
        inside
    }

    /// A packet; a large one without a copy.
    fn take_packet(&mut self) -> Option<Incoming> {
        let [_, channel, high, low, rest @ ..] = &self.buffer[..] else {
            return None;
        };
        let (channel, length) = (*channel, usize::from(u16::from_be_bytes([*high, *low])));
        if rest.len() < length {
            if length >= DOUBTFUL_LENGTH {
                self.partial.get_or_insert_with(Instant::now);
            }
            return None;
        }
        self.partial = None;
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

/// The length of the packet that `bytes` seem to begin with, with its head.
fn packet_length(bytes: &[u8]) -> Option<usize> {
    let [b'$', _, high, low, ..] = bytes else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (begins(bytes) == Begins::Yes).then_some(4 + length)
}

/// Whether an answer or a packet begins with `bytes`, among others that belong to nothing.
fn begins(bytes: &[u8]) -> Begins {
    let is = |certain| if certain { Begins::Yes } else { Begins::No };
    match bytes {
        [b'$', channel, high, low, first, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            // RTP and RTCP have version 2 (RFC 3550 §5.1), and no less than this.
            let is_rtp = first >> 6 == 2 && (8..=FOUND_LENGTH_MAX).contains(&length);
            is(is_rtp && *channel <= FOUND_CHANNEL_MAX)
        }
        [b'$', ..] => Begins::Perhaps,
        _ if bytes.len() < 5 && b"RTSP/".starts_with(bytes) => Begins::Perhaps,
        _ => is(bytes.starts_with(b"RTSP/")),
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

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
                    Ok(Incoming::Request(r, _)) => seen.push(r.method.to_string()),
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
        let bytes = b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nxyz$$zzRTS$\x02\x00\x08\x80abcdefg\x00\x01\
            RTSP/1.0 200 OK\r\n\r\n$\x00\x00\x08\x80abcdefg$\x00\x00\x01a";
        for step in [1, 3, 1_000] {
            let (seen, end) = read(bytes, step).await;
            let all = ["200 1", "$2 8", "200 0", "$0 8", "$0 1"];
            assert_eq!(seen, all, "step {step}");
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

    /// A packet of 1000 bytes on channel 0.
    fn packet(random: &mut SmallRng) -> Vec<u8> {
        let mut bytes = vec![0; 1_004];
        random.fill_bytes(&mut bytes);
        bytes[..5].copy_from_slice(b"$\x00\x03\xe8\x80");
        bytes
    }

    #[tokio::test]
    async fn after_a_wrong_length_the_next_packets_are_found() {
        let mut random = SmallRng::seed_from_u64(3);
        for wrong in [[0, 1], [0xff, 0xff], [3, 0], [3, 0xff]] {
            let mut bytes = b"RTSP/1.0 200 OK\r\n\r\n".to_vec();
            for number in 0..200 {
                let mut packet = packet(&mut random);
                if number == 10 {
                    packet[2..4].copy_from_slice(&wrong);
                }
                bytes.extend(packet);
            }
            let (seen, end) = read(&bytes, 1_460).await;
            let whole = seen.iter().filter(|seen| *seen == "$0 1000").count();
            assert!(whole >= 120, "{whole}");
            assert!(matches!(end, Fault::Closed), "{end}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_length_that_would_take_long_to_arrive_is_doubted() {
        let (mut camera, ours) = tokio::io::duplex(1 << 20);
        let mut connection = Connection::new(Box::new(ours));
        let mut random = SmallRng::seed_from_u64(6);
        let begun = Instant::now();
        let drip = async {
            let head = b"RTSP/1.0 200 OK\r\n\r\n$\x00\xff\xf0\x80ab";
            camera.write_all(head).await.unwrap();
            loop {
                camera.write_all(&packet(&mut random)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let look = async {
            loop {
                if let Incoming::Data { packet, .. } = connection.next().await.unwrap() {
                    assert_eq!(packet.len(), 1_000);
                    break;
                }
            }
        };
        tokio::select! {
            () = drip => {}
            () = look => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        // One that is as long as it says is only slow.
        let (mut camera, ours) = tokio::io::duplex(1 << 20);
        let mut connection = Connection::new(Box::new(ours));
        let drip = async {
            let mut bytes = vec![0; 60_000];
            random.fill_bytes(&mut bytes);
            bytes.splice(..0, *b"RTSP/1.0 200 OK\r\n\r\n$\x00\xea\x60");
            for part in bytes.chunks(2_000) {
                camera.write_all(part).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let look = async {
            let _ = connection.next().await.unwrap();
            let whole = connection.next().await.unwrap();
            assert!(matches!(whole, Incoming::Data { packet, .. } if packet.len() == 60_000));
        };
        tokio::join!(drip, look);
    }

    #[tokio::test]
    async fn nonsense_without_end_is_given_up_soon() {
        let mut random = SmallRng::seed_from_u64(4);
        let mut bytes = b"RTSP/1.0 200 OK\r\n\r\n".to_vec();
        bytes.extend(packet(&mut random));
        let sane = bytes.len();
        bytes.extend((0..1 << 20).map(|_| random.random::<u8>()));
        let (seen, end) = read(&bytes, 1_460).await;
        assert!(matches!(end, Fault::NotRtsp), "{end} after {}", seen.len());
        // A packet that chance has made may have swallowed some of it.
        assert!(seen.len() < 20, "{} in {sane}", seen.len());
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_that_drips_is_given_up_after_two_seconds() {
        let (mut camera, ours) = tokio::io::duplex(1 << 20);
        let mut connection = Connection::new(Box::new(ours));
        let begun = Instant::now();
        let drip = async {
            let mut bytes = b"RTSP/1.0 200 OK\r\n\r\n".to_vec();
            while camera.write_all(&bytes).await.is_ok() {
                bytes = b"nonsense".to_vec();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let end = async { while connection.next().await.is_ok() {} };
        tokio::select! {
            () = drip => {}
            () = end => {}
        }
        assert!(begun.elapsed() < LOST_TIME_MAX + Duration::from_millis(300));
    }

    /// The bodies of the answers that come out of `bytes`, and when the last one did.
    async fn bodies(bytes: &[u8]) -> (Vec<String>, Duration) {
        let (mut camera, ours) = tokio::io::duplex(1 << 20);
        let mut connection = Connection::new(Box::new(ours));
        camera.write_all(bytes).await.unwrap();
        let (begun, mut took) = (Instant::now(), Duration::ZERO);
        let mut seen = Vec::new();
        let limit = Duration::from_secs(5);
        while let Ok(Ok(incoming)) = timeout(limit, connection.next()).await {
            if let Incoming::Response(_, body) = incoming {
                seen.push(String::from_utf8(body.to_vec()).unwrap());
                took = begun.elapsed();
            }
        }
        (seen, took)
    }

    #[tokio::test(start_paused = true)]
    async fn descriptions_are_read_whatever_length_they_say() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=control:1\r\n";
        for (length, tail, patience) in [
            ("Content-Length: 40\r\n", "", 0),
            ("", "", 300),
            ("Content-Length: 10\r\n", "", 0),
            ("Content-Length: 45\r\n", "", 1_000),
            ("Content-Length: 10\r\n", "RTSP/1.0 200 OK\r\n\r\n", 0),
            ("Content-Length: 40\r\n", "RTSP/1.0 200 OK\r\n\r\n", 0),
            ("", "RTSP/1.0 200 OK\r\n\r\n", 0),
        ] {
            let head = "RTSP/1.0 200 OK\r\nContent-type: application/SDP\r\n";
            let (seen, took) = bodies(format!("{head}{length}\r\n{sdp}{tail}").as_bytes()).await;
            assert_eq!(seen[0], sdp, "{length}{tail}");
            assert_eq!(seen.len(), 1 + usize::from(!tail.is_empty()));
            assert!(
                took.as_millis().abs_diff(patience) <= 1,
                "{length}: {took:?}"
            );
        }
    }
}
