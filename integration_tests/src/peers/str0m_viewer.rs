//! A viewer on str0m, an engine that shares no code with the one under test.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::SdpAnswer,
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive, TcpType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::Instant,
};

use super::{Account, Received, View, deadline};
use crate::server::Server;

/// How a viewer is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Path {
    /// By UDP on loopback.
    #[default]
    Udp,
    /// By UDP, as an ICE-lite agent: it only answers checks (RFC 8445 §2.5).
    Lite,
    /// By a TCP connection that it opens (RFC 6544).
    Tcp,
}

/// Watches a camera until it has enough, [`super::LIMIT`] at most.
///
/// # Panics
/// When the server refuses, or str0m refuses what the server sends.
pub async fn watch(server: &Server, camera: &str, view: &View, path: Path) -> Received {
    let config = RtcConfig::new()
        .set_rtp_mode(true)
        .enable_pcmu(true, false)
        .enable_pcma(true, false)
        .set_ice_lite(path == Path::Lite);
    let mut rtc = Box::new(config.build(std::time::Instant::now()));
    let socket = UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    if path != Path::Tcp {
        let address = socket.local_addr().expect("a bound socket has an address");
        let candidate =
            Candidate::host(address, Protocol::Udp).expect("an address of this machine");
        rtc.add_local_candidate(candidate);
    }
    let mut changes = rtc.sdp_api();
    let mut kinds = HashMap::new();
    for kind in view.kinds() {
        let kind = if kind == "video" {
            MediaKind::Video
        } else {
            MediaKind::Audio
        };
        let mid = changes.add_media(kind, Direction::RecvOnly, None, None, None);
        kinds.insert(mid, kind);
    }
    let (offer, pending) = changes.apply().expect("a section was added");
    let start = Instant::now();
    let answer = view.exchange(server, camera, &offer.to_sdp_string()).await;
    let wire = if path == Path::Tcp {
        let wire = Wire::connect(&answer).await;
        rtc.add_local_candidate(wire.candidate());
        wire
    } else {
        Wire::Udp(socket)
    };
    let answer = SdpAnswer::from_sdp_string(&answer)
        .unwrap_or_else(|e| panic!("str0m cannot read the answer: {e}\n{answer}"));
    rtc.sdp_api()
        .accept_answer(pending, answer)
        .expect("the answer fits the offer");
    let viewer = Viewer {
        rtc,
        wire,
        kinds,
        start,
        connected: None,
        video: Account::default(),
        audio: Account::default(),
    };
    viewer.run(view).await
}

struct Viewer {
    rtc: Box<Rtc>,
    wire: Wire,
    kinds: HashMap<Mid, MediaKind>,
    start: Instant,
    connected: Option<Duration>,
    video: Account,
    audio: Account,
}

impl Viewer {
    async fn run(mut self, view: &View) -> Received {
        let end = deadline();
        let mut buffer = vec![0; 2000];
        loop {
            let wake = self.drain().await;
            let received = self.received();
            if received.is_enough(view) || Instant::now() >= end || !self.rtc.is_alive() {
                return received;
            }
            let wake = end.min(wake.into());
            match tokio::time::timeout_at(wake, self.wire.receive(&mut buffer)).await {
                Ok(Some((length, source))) => {
                    let (proto, destination) = self.wire.end();
                    let now = std::time::Instant::now();
                    let datagram = Receive::new(proto, source, destination, &buffer[..length])
                        .unwrap_or_else(|e| panic!("str0m cannot tell what this is: {e}"));
                    let input = Input::Receive(now, datagram);
                    assert!(self.rtc.accepts(&input), "not for this viewer: {input:?}");
                    self.rtc.handle_input(input).expect("str0m takes it");
                }
                Ok(None) => return received,
                Err(_) => {
                    let now = std::time::Instant::now();
                    self.rtc
                        .handle_input(Input::Timeout(now))
                        .expect("str0m goes on");
                }
            }
        }
    }

    /// Does everything that str0m wants done, and tells when it wants to be asked again.
    async fn drain(&mut self) -> std::time::Instant {
        loop {
            match self.rtc.poll_output().expect("str0m goes on") {
                Output::Timeout(at) => return at,
                Output::Transmit(transmit) => {
                    self.wire
                        .send(&transmit.contents, transmit.destination)
                        .await;
                }
                Output::Event(Event::Connected) => self.connected = Some(self.start.elapsed()),
                Output::Event(Event::RtpPacket(packet)) => {
                    let header = &packet.header;
                    let kind = header.ext_vals.mid.and_then(|mid| self.kinds.get(&mid));
                    // A server need not name the section in each packet.
                    let kind = kind.copied().or_else(|| self.kind_of(*header.ssrc));
                    match kind {
                        Some(MediaKind::Video) => {
                            self.video.note(header.sequence_number, header.marker);
                        }
                        Some(MediaKind::Audio) => self.audio.note(header.sequence_number, true),
                        None => {}
                    }
                }
                Output::Event(_) => {}
            }
        }
    }

    /// The kind that a synchronization source belongs to.
    fn kind_of(&mut self, ssrc: u32) -> Option<MediaKind> {
        let mut api = self.rtc.direct_api();
        let mid = api.stream_rx(&ssrc.into())?.mid();
        self.kinds.get(&mid).copied()
    }

    fn received(&self) -> Received {
        Received {
            connected: self.connected,
            took: self.start.elapsed(),
            video: self.video.stream(),
            audio: self.audio.stream(),
            ..Received::default()
        }
    }
}

enum Wire {
    Udp(UdpSocket),
    /// With what was read and is not a whole frame yet (RFC 4571).
    Tcp(TcpStream, Vec<u8>),
}

impl Wire {
    /// Connects to the first TCP candidate of an answer.
    async fn connect(answer: &str) -> Self {
        let address = answer
            .lines()
            .filter_map(|line| line.strip_prefix("a=candidate:"))
            .filter(|candidate| candidate.contains("tcptype passive"))
            .find_map(|candidate| {
                let words: Vec<_> = candidate.split(' ').collect();
                Some(SocketAddr::new(
                    words[4].parse().ok()?,
                    words[5].parse().ok()?,
                ))
            })
            .unwrap_or_else(|| panic!("no TCP candidate in\n{answer}"));
        let stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|e| panic!("{address}: {e}"));
        Self::Tcp(stream, Vec::new())
    }

    fn candidate(&self) -> Candidate {
        Candidate::builder()
            .tcp()
            .host(self.end().1)
            .tcptype(TcpType::Active)
            .build()
            .expect("an address of this machine")
    }

    /// The protocol and the address of this side.
    fn end(&self) -> (Protocol, SocketAddr) {
        let (protocol, address) = match self {
            Self::Udp(socket) => (Protocol::Udp, socket.local_addr()),
            Self::Tcp(stream, _) => (Protocol::Tcp, stream.local_addr()),
        };
        (protocol, address.expect("a bound socket has an address"))
    }

    /// The next datagram; none when the other side has closed. May be cancelled.
    async fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        match self {
            Self::Udp(socket) => Some(socket.recv_from(buffer).await.expect("a bound socket")),
            Self::Tcp(stream, read) => loop {
                if let Some((length, rest)) = read.split_first_chunk() {
                    let length = usize::from(u16::from_be_bytes(*length));
                    if let Some(frame) = rest.get(..length) {
                        buffer[..length].copy_from_slice(frame);
                        read.drain(..2 + length);
                        return Some((length, stream.peer_addr().ok()?));
                    }
                }
                if stream.read_buf(read).await.ok()? == 0 {
                    return None;
                }
            },
        }
    }

    async fn send(&mut self, datagram: &[u8], to: SocketAddr) {
        match self {
            // A port that is closed already is no reason to stop.
            Self::Udp(socket) => drop(socket.send_to(datagram, to).await),
            Self::Tcp(stream, _) => {
                let length = u16::try_from(datagram.len()).expect("a datagram fits into a frame");
                let frame = [&length.to_be_bytes(), datagram].concat();
                drop(stream.write_all(&frame).await);
            }
        }
    }
}
