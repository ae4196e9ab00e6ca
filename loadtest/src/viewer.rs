//! One viewer: ICE, DTLS and SRTP by str0m, no decoding, and what it saw.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::h264::{Tail, Trailer};
use crate::measure::{SequenceCounter, float, unix_ns};
use crate::{dtls, receive};

/// A picture older than this is not live.
const LIVE_NS: i64 = 150_000_000;
/// From one picture to the next.
const FRAME_NS: i64 = 40_000_000;

/// What a viewer saw. All times are nanoseconds since 1970.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// When it began to send its offer, or to ask for one.
    pub(crate) offered_ns: i64,
    /// When it had the answer, or the offer.
    pub(crate) answered_ns: Option<i64>,
    /// When ICE and DTLS were done.
    pub(crate) connected_ns: Option<i64>,
    /// When the first RTP packet came.
    pub(crate) first_packet_ns: Option<i64>,
    /// When the first picture was whole that a decoder could show, and fresh.
    pub(crate) live_ns: Option<i64>,
    /// When the camera had written that picture's key frame, or the picture itself if it is one.
    pub(crate) key_ns: Option<i64>,
    /// RTP packets and their bytes since [`Record::begin`], repeats included.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Counters since [`Record::begin`], per SSRC.
    pub(crate) streams: BTreeMap<u32, SequenceCounter>,
    /// Pictures whose end came since [`Record::begin`], and those whose number was passed over.
    pub(crate) frames: u64,
    pub(crate) frames_missed: u64,
    /// For each of them: milliseconds from the camera's write to here, and since the picture before.
    pub(crate) latencies: Vec<f64>,
    pub(crate) intervals: Vec<f64>,
    /// The SRTP profile, as far as the handshake told it in clear text.
    pub(crate) srtp: Option<&'static str>,
    /// Why it ended, if it should not have.
    pub(crate) error: Option<String>,
    last_frame: Option<(u32, i64)>,
}

impl Record {
    /// Begins to count anew; what happened once (connection, first picture) stays.
    pub(crate) fn begin(&mut self) {
        self.packets = 0;
        self.bytes = 0;
        self.streams.clear();
        self.frames = 0;
        self.frames_missed = 0;
        self.latencies.clear();
        self.intervals.clear();
    }

    /// Milliseconds from the offer to a moment.
    pub(crate) fn since_offer(&self, moment: Option<i64>) -> Option<f64> {
        moment.map(|moment| float(moment - self.offered_ns) / 1e6)
    }

    /// Packets that the sender numbered and that did not come.
    pub(crate) fn lost(&self) -> u64 {
        self.streams
            .values()
            .map(|stream| stream.expected() - stream.received())
            .sum()
    }

    /// Packets that the sender numbered.
    pub(crate) fn expected(&self) -> u64 {
        self.streams.values().map(SequenceCounter::expected).sum()
    }

    /// Packets that came after newer ones.
    pub(crate) fn late(&self) -> u64 {
        self.streams.values().map(SequenceCounter::late).sum()
    }

    fn frame(&mut self, trailer: Trailer, arrived_ns: i64) {
        self.frames += 1;
        self.latencies
            .push(float(arrived_ns - trailer.emitted_ns) / 1e6);
        if let Some((frame, last_ns)) = self.last_frame {
            self.intervals.push(float(arrived_ns - last_ns) / 1e6);
            // Going back is a server that replays pictures to a new viewer.
            let skipped = trailer.frame.wrapping_sub(frame).wrapping_sub(1);
            if skipped < 10_000 {
                self.frames_missed += u64::from(skipped);
            }
        }
        self.last_frame = Some((trailer.frame, arrived_ns));
    }
}

/// The record, for the thread that serves the viewer and the one that counts.
pub(crate) type SharedRecord = Arc<Mutex<Record>>;

/// The record, though a thread may have died with it.
pub(crate) fn lock(record: &SharedRecord) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the video packets of a viewer: is the picture that ended just now one that a decoder can show?
#[derive(Debug, Default)]
struct Chain {
    tail: Tail,
    next_sequence: Option<u64>,
    last_frame: u32,
    whole: bool,
}

impl Chain {
    /// Takes a packet; returns the trailer of a picture that ends with it.
    ///
    /// A gap breaks the chain up to the next key frame, even if the packet is repeated later.
    fn push(&mut self, sequence: u64, payload: &[u8]) -> Option<Trailer> {
        match self.next_sequence {
            Some(next) if sequence < next => return None,
            Some(next) if sequence > next => self.whole = false,
            _ => {}
        }
        self.next_sequence = Some(sequence + 1);
        let &[indicator, second, ..] = payload else {
            return None;
        };
        let fragment = indicator & 0x1f == 28;
        let kind = match indicator & 0x1f {
            28 if second & 0x80 != 0 => second & 0x1f,
            28 => 0,
            // Parameter sets come together in an aggregate, before a key frame.
            24 => payload.get(3).map_or(0, |header| header & 0x1f),
            kind => kind,
        };
        let trailer = self.tail.push(&payload[if fragment { 2 } else { 1 }..]);
        if matches!(kind, 5 | 7) && !self.whole {
            self.whole = true;
            self.last_frame = trailer.map_or(u32::MAX, |trailer| trailer.frame);
        }
        let trailer = trailer?;
        if trailer.since_key > 0 && trailer.frame.wrapping_sub(self.last_frame) > 1 {
            self.whole = false;
        }
        self.last_frame = trailer.frame;
        Some(trailer)
    }
}

/// A viewer that has its remote description.
pub(crate) struct Viewer {
    rtc: Rtc,
    pub(crate) socket: Arc<UdpSocket>,
    address: SocketAddr,
    /// When str0m wants to be called next.
    pub(crate) deadline: Instant,
    pub(crate) record: SharedRecord,
    /// Payload types of repeats (RFC 4588), one bit each.
    rtx: u128,
    chain: Chain,
    now_ns: i64,
}

/// A viewer that is about to offer, or to answer.
pub(crate) struct Opening {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    pub(crate) record: SharedRecord,
}

impl Opening {
    /// Binds a socket on this address.
    pub(crate) fn new(address: IpAddr) -> Result<Self, String> {
        let socket =
            receive::bind(address).map_err(|error| format!("cannot bind {address}: {error}"))?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        let mut rtc = Rtc::builder()
            .set_rtp_mode(true)
            .set_stats_interval(None)
            .clear_codecs()
            .enable_h264(true)
            .enable_opus(true, false)
            .enable_pcmu(true, false)
            .enable_pcma(true, false)
            .build(Instant::now());
        rtc.add_local_candidate(
            Candidate::host(address, "udp").map_err(|error| error.to_string())?,
        );
        Ok(Self {
            rtc,
            socket,
            address,
            pending: None,
            record: SharedRecord::default(),
        })
    }

    /// An offer to receive video and sound.
    pub(crate) fn offer(&mut self, audio: bool) -> Result<String, String> {
        let mut change = self.rtc.sdp_api();
        change.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        if audio {
            change.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = change.apply().ok_or("there is nothing to offer")?;
        self.pending = Some(pending);
        Ok(offer.to_sdp_string())
    }

    /// Takes the answer to the offer.
    pub(crate) fn accept_answer(mut self, sdp: &str) -> Result<Viewer, String> {
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| format!("answer: {error}"))?;
        let pending = self.pending.take().ok_or("no offer was made")?;
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .map_err(|error| format!("answer: {error}"))?;
        Ok(self.into_viewer(sdp))
    }

    /// Takes an offer; returns the answer, too.
    pub(crate) fn accept_offer(mut self, sdp: &str) -> Result<(Viewer, String), String> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| format!("offer: {error}"))?;
        let answer = self
            .rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|error| format!("offer: {error}"))?;
        Ok((self.into_viewer(sdp), answer.to_sdp_string()))
    }

    fn into_viewer(self, remote: &str) -> Viewer {
        let Self {
            rtc,
            socket,
            address,
            record,
            ..
        } = self;
        let (deadline, rtx, chain) = (Instant::now(), rtx_types(remote), Chain::default());
        Viewer {
            rtc,
            socket: Arc::new(socket),
            address,
            deadline,
            record,
            rtx,
            chain,
            now_ns: 0,
        }
    }
}

/// Payload types that `a=rtpmap` calls rtx, one bit each.
fn rtx_types(sdp: &str) -> u128 {
    sdp.lines()
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter(|(_, codec)| codec.to_ascii_lowercase().starts_with("rtx/"))
        .filter_map(|(number, _)| number.parse::<u32>().ok().filter(|number| *number < 128))
        .fold(0, |types, number| types | 1 << number)
}

/// Addresses of the other side's UDP candidates.
pub(crate) fn candidates(sdp: &str) -> Vec<SocketAddr> {
    sdp.lines()
        .filter_map(|line| line.trim().strip_prefix("a=candidate:"))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let udp = fields.get(2)?.eq_ignore_ascii_case("udp");
            let address =
                SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
            (udp && address.is_ipv4()).then_some(address)
        })
        .collect()
}

impl Viewer {
    /// Whether the connection is at its end.
    pub(crate) fn is_over(&self) -> bool {
        !self.rtc.is_alive()
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant) {
        let result = self.rtc.handle_input(Input::Timeout(now));
        self.now_ns = unix_ns();
        self.drain(result.map_err(|error| error.to_string()));
    }

    /// Says goodbye, with RTCP BYE and `close_notify`.
    pub(crate) fn close(&mut self) {
        let result = self.rtc.close().map_err(|error| error.to_string());
        self.drain(result);
    }

    /// Takes a datagram that arrived at this time.
    pub(crate) fn datagram(&mut self, arrived_ns: i64, source: SocketAddr, content: &[u8]) {
        // RTP and RTCP share the port (RFC 5761); RTCP has the types 192 to 223.
        if content.len() >= 12 && content[0] >> 6 == 2 && !(192..=223).contains(&content[1]) {
            self.count(arrived_ns, content);
        } else if content
            .first()
            .is_some_and(|first| (20..64).contains(first))
        {
            self.note_profile(content);
        }
        self.now_ns = arrived_ns;
        let Ok(contents) = content.try_into() else {
            return;
        };
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.address,
            contents,
        };
        let result = self
            .rtc
            .handle_input(Input::Receive(Instant::now(), receive));
        self.drain(result.map_err(|error| error.to_string()));
    }

    fn count(&self, arrived_ns: i64, packet: &[u8]) {
        if self.rtx >> (packet[1] & 0x7f) & 1 == 1 {
            return;
        }
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let mut record = lock(&self.record);
        record.first_packet_ns.get_or_insert(arrived_ns);
        record.packets += 1;
        record.bytes += u64::try_from(packet.len()).unwrap_or(0);
        record.streams.entry(ssrc).or_default().push(sequence);
    }

    fn note_profile(&self, datagram: &[u8]) {
        if let Some(profile) = dtls::srtp_profile(datagram) {
            lock(&self.record).srtp = Some(profile);
        }
    }

    /// Does all that str0m wants done, as it must after each call.
    fn drain(&mut self, mut result: Result<(), String>) {
        while result.is_ok() {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(deadline)) => {
                    self.deadline = deadline;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    if transmit.contents.first() == Some(&22) {
                        self.note_profile(&transmit.contents);
                    }
                    // As with any network, what cannot be sent is lost.
                    let _ = self
                        .socket
                        .send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(Event::Connected)) => {
                    lock(&self.record).connected_ns.get_or_insert(self.now_ns);
                }
                Ok(Output::Event(Event::RtpPacket(packet))) => self.packet(&packet),
                Ok(Output::Event(Event::Closed)) => {
                    lock(&self.record)
                        .error
                        .get_or_insert_with(|| "the server closed the connection".into());
                }
                Ok(Output::Event(_)) => {}
                Err(error) => result = Err(error.to_string()),
            }
        }
        if let Err(error) = result {
            lock(&self.record).error.get_or_insert(error);
            self.deadline = Instant::now() + Duration::from_hours(1);
        }
    }

    fn packet(&mut self, packet: &RtpPacket) {
        // The static types of G.711 (RFC 3551) and the channels of Opus have no pictures.
        if packet.payload.len() < 2 || matches!(*packet.header.payload_type, 0 | 8) {
            return;
        }
        let Some(trailer) = self.chain.push(*packet.seq_no, &packet.payload) else {
            return;
        };
        let mut record = lock(&self.record);
        record.frame(trailer, self.now_ns);
        if self.chain.whole && self.now_ns - trailer.emitted_ns < LIVE_NS {
            if record.live_ns.is_none() {
                let since_key = FRAME_NS * i64::from(trailer.since_key);
                record.key_ns = Some(trailer.emitted_ns - since_key);
            }
            record.live_ns.get_or_insert(self.now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(frame: u32, since_key: u16) -> Trailer {
        Trailer {
            frame,
            since_key,
            emitted_ns: 1,
        }
    }

    /// A picture in two fragments.
    fn fragments(trailer: Trailer) -> [Vec<u8>; 2] {
        let kind = if trailer.since_key == 0 { 5 } else { 1 };
        [
            vec![0x7c, 0x80 | kind, 9],
            [&[0x7c, 0x40 | kind][..], &trailer.to_bytes()].concat(),
        ]
    }

    #[test]
    fn a_chain_begins_at_a_key_frame() {
        let mut chain = Chain::default();
        let mut whole = Vec::new();
        for (index, (frame, since_key)) in
            [(8, 48), (9, 49), (10, 0), (11, 1)].into_iter().enumerate()
        {
            for (half, packet) in fragments(trailer(frame, since_key)).iter().enumerate() {
                if let Some(found) = chain.push((index * 2 + half) as u64, packet) {
                    whole.push((found.frame, chain.whole));
                }
            }
        }
        assert_eq!(whole, [(8, false), (9, false), (10, true), (11, true)]);
    }

    #[test]
    fn a_gap_in_packets_or_pictures_breaks_it() {
        for (sequence, frame) in [(3, 11), (2, 12)] {
            let mut chain = Chain::default();
            let [first, last] = fragments(trailer(10, 0));
            assert!(
                chain.push(0, &first).is_none() && chain.push(1, &last).is_some() && chain.whole
            );
            let [first, last] = fragments(trailer(frame, 1));
            chain.push(sequence, &first);
            assert!(chain.push(sequence + 1, &last).is_some());
            assert!(!chain.whole, "{sequence} {frame}");
        }
    }

    #[test]
    fn reads_repeats_and_candidates_of_sdp() {
        assert_eq!(
            rtx_types("a=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\n"),
            1 << 97
        );
        let sdp = "a=candidate:1 1 UDP 5 192.0.2.1 8555 typ host\r\na=candidate:2 1 tcp 5 192.0.2.1 8555 typ host\r\n";
        assert_eq!(candidates(sdp), ["192.0.2.1:8555".parse().unwrap()]);
    }
}
