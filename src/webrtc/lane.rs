//! [`Lane`]: one track of one viewer. It numbers, stamps and seals the packets of a [`History`], and
//! remembers which number stands for which packet, so that a lost one can be sent again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    media::{Codec, Frame, Kind, MediaTime, TrackId},
    webrtc::{
        arena::Arena,
        extension::{Extensions, Stamps},
        feedback::{Reception, Report},
        history::{Entry, History, Packet},
        ice::Path,
        negotiate::Sending,
        srtp::Sealer,
    },
};

/// How often a sender report is sent. RFC 3550 §6.2 suggests 5 s; browsers bring sound and picture
/// together with the first ones, so these should not be long in coming.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
const FIRST_REPORT_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_REPORTS: u32 = 4;
/// Stretches of packets without a jump that are remembered: a viewer asks for what it lost within
/// seconds, and each key frame after a jump begins one.
const RUNS_MAX: usize = 16;
/// Packets sent again lately that are remembered, so that they are not sent twice for one loss.
const RESENT_MAX: usize = 64;
/// The longest time between pictures that are replayed, in ticks of the video clock: 1 ms.
const STEP_MAX: i64 = 90;

/// Which packets come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// None, until one from which decoding can begin.
    Closed,
    /// Those since the last key frame, as fast as the path takes them.
    Behind,
    /// What the camera sends, as it comes.
    Live,
}

/// Where replayed pictures are put in time: so close before the live one that a browser decodes them
/// at once and shows that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Squeeze {
    /// Number and time of the live picture.
    picture: u64,
    time: MediaTime,
    /// Ticks between the pictures before it.
    step: i64,
}

/// Packets in order, from `sequence` and `packet` on.
#[derive(Debug, Clone, Copy)]
struct Run {
    sequence: u64,
    packet: u64,
    length: u64,
    squeeze: Option<Squeeze>,
}

/// The stream for packets that are sent again (RFC 4588).
#[derive(Debug)]
struct Rtx {
    ssrc: u32,
    payload_type: u8,
    next: u64,
}

/// What sending needs beside the packets.
#[derive(Debug)]
pub struct Out<'a> {
    /// Where packets are written.
    pub arena: &'a mut Arena,
    /// What seals them.
    pub sealer: &'a mut Sealer,
    /// Where they go.
    pub path: Path,
    /// When, for the extension headers.
    pub stamps: &'a mut Stamps,
}

/// What came of a request to send a packet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// It was sent.
    Sent,
    /// It is on its way already.
    Already,
    /// It is not there any more, or never was.
    Missing,
}

/// One track towards one viewer.
#[derive(Debug)]
pub struct Lane {
    /// Which track of the camera.
    pub track: TrackId,
    /// How it is coded, as it was negotiated.
    pub codec: Codec,
    /// Identifies the stream to the browser.
    pub ssrc: u32,
    /// Which packets come next.
    pub feed: Feed,
    payload_type: u8,
    rtx: Option<Rtx>,
    extensions: Extensions,
    /// The next packet of the history.
    next_packet: u64,
    /// The next sequence number, with its rollovers.
    next_sequence: u64,
    squeeze: Option<Squeeze>,
    runs: VecDeque<Run>,
    resent: VecDeque<(u16, Instant)>,
    offset: u32,
    last_time: Option<MediaTime>,
    packets: u64,
    octets: u64,
    reported: Option<Duration>,
    reports: u32,
    /// The last report's middle 32 bits of NTP time, and when it was sent.
    last_report: Option<(u32, Instant)>,
}

impl Lane {
    /// A lane for what was negotiated, with random identifiers and offsets ([RFC 3550 §5.1]).
    ///
    /// [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1
    #[must_use]
    pub fn new(sending: &Sending) -> Self {
        let ssrc = rand::random::<u32>().max(1);
        Self {
            track: sending.track.id,
            codec: sending.track.codec,
            ssrc,
            feed: Feed::Closed,
            payload_type: sending.payload_type,
            rtx: sending.rtx.map(|payload_type| Rtx {
                ssrc: ssrc.wrapping_add(1).max(1),
                payload_type,
                next: first_sequence(),
            }),
            extensions: sending.extensions,
            next_packet: 0,
            next_sequence: first_sequence(),
            squeeze: None,
            runs: VecDeque::new(),
            resent: VecDeque::new(),
            offset: rand::random(),
            last_time: None,
            packets: 0,
            octets: 0,
            reported: None,
            reports: 0,
            last_report: None,
        }
    }

    /// The identifier of the stream of packets sent again, if there is one.
    #[must_use]
    pub fn rtx_ssrc(&self) -> Option<u32> {
        self.rtx.as_ref().map(|rtx| rtx.ssrc)
    }

    /// Picture or sound.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// Begins with the live edge, or for a picture with the last key frame, from which it catches up.
    pub fn start(&mut self, history: &History) {
        match self.kind() {
            Kind::Audio => self.go_live(history.end()),
            Kind::Video => self.replay(history),
        }
    }

    /// Sends the pictures since the last key frame again, or else waits for the next one.
    pub fn replay(&mut self, history: &History) {
        self.feed = Feed::Closed;
        let (Some((packet, key)), Some(live)) = (history.key(), history.last()) else {
            return;
        };
        let pictures = i64::try_from(live.picture - key).unwrap_or(i64::MAX);
        // Later than all that was sent before.
        let room = self
            .last_time
            .map_or(i64::MAX, |last| live.frame.time.0.saturating_sub(last.0));
        let step = (room / pictures.saturating_add(1)).min(STEP_MAX);
        if step < 1 {
            return;
        }
        self.squeeze = Some(Squeeze {
            picture: live.picture,
            time: live.frame.time,
            step,
        });
        self.next_packet = packet;
        self.feed = Feed::Behind;
    }

    /// Goes on with packet `packet` as the camera sends it.
    pub fn go_live(&mut self, packet: u64) {
        self.next_packet = packet;
        self.squeeze = None;
        self.feed = Feed::Live;
    }

    /// Whether all of `history` was sent.
    #[must_use]
    pub fn has_caught_up(&self, history: &History) -> bool {
        self.next_packet >= history.end()
    }

    /// Sends up to `limit` packets that follow; gives how many. None when the next one is lost from
    /// the history.
    pub fn send(&mut self, history: &History, limit: u64, out: &mut Out<'_>) -> Option<u64> {
        let end = history.end().min(self.next_packet.saturating_add(limit));
        let mut sent = 0;
        while self.next_packet < end {
            let entry = history.entry_of(self.next_packet)?;
            let squeeze = self.squeeze.filter(|s| entry.picture < s.picture);
            let timestamp = self.timestamp(place(entry, squeeze));
            let first = usize::try_from(self.next_packet - entry.first).ok()?;
            let until = usize::try_from(end.min(entry.end()) - entry.first).ok()?;
            let count = entry.frame.payloads.len();
            for (number, payload) in entry.frame.payloads[first..until].iter().enumerate() {
                let last = first + number + 1 == count && entry.frame.part.last;
                let header = Header {
                    payload_type: self.payload_type,
                    marker: last && self.codec.kind() == Kind::Video,
                    index: self.next_sequence,
                    timestamp,
                    ssrc: self.ssrc,
                };
                write(&header, self.extensions, None, payload, out);
                self.next_sequence += 1;
                self.packets += 1;
                self.octets += payload.len() as u64;
            }
            let length = (until - first) as u64;
            self.note(length, squeeze);
            self.next_packet += length;
            self.last_time = Some(place(entry, squeeze));
            sent += length;
        }
        Some(sent)
    }

    /// Remembers the run of the `length` packets just numbered.
    fn note(&mut self, length: u64, squeeze: Option<Squeeze>) {
        let sequence = self.next_sequence - length;
        if let Some(last) = self.runs.back_mut()
            && last.sequence + last.length == sequence
            && last.packet + last.length == self.next_packet
            && last.squeeze == squeeze
        {
            last.length += length;
            return;
        }
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Run {
            sequence,
            packet: self.next_packet,
            length,
            squeeze,
        });
    }

    /// Sends packet `sequence` again, unless that was done less than `rtt` ago.
    pub fn resend(
        &mut self,
        sequence: u16,
        history: &History,
        now: Instant,
        rtt: Duration,
        out: &mut Out<'_>,
    ) -> Resent {
        let already = |(number, when): &(u16, Instant)| *number == sequence && *when + rtt > now;
        if self.resent.iter().any(already) {
            return Resent::Already;
        }
        let Some((index, packet, squeeze)) = self.find(sequence, history) else {
            return Resent::Missing;
        };
        let timestamp = self.timestamp(place(packet.entry, squeeze));
        let mut header = Header {
            payload_type: self.payload_type,
            marker: packet.ends && self.kind() == Kind::Video,
            index,
            timestamp,
            ssrc: self.ssrc,
        };
        let original = self.rtx.as_mut().map(|rtx| {
            header.payload_type = rtx.payload_type;
            header.ssrc = rtx.ssrc;
            header.index = rtx.next;
            rtx.next += 1;
            sequence
        });
        write(&header, self.extensions, original, packet.payload, out);
        if self.resent.len() == RESENT_MAX {
            self.resent.pop_front();
        }
        self.resent.push_back((sequence, now));
        Resent::Sent
    }

    fn find<'h>(
        &self,
        sequence: u16,
        history: &'h History,
    ) -> Option<(u64, Packet<'h>, Option<Squeeze>)> {
        // The last number that ends in these 16 bits.
        let newest = self.next_sequence.checked_sub(1)?;
        let back = u64::from(low_half(newest).wrapping_sub(sequence));
        let index = newest.checked_sub(back)?;
        let runs = self.runs.iter().rev();
        let run =
            { runs }.find(|run| (run.sequence..run.sequence + run.length).contains(&index))?;
        let packet = history.get(run.packet + (index - run.sequence))?;
        Some((index, packet, run.squeeze))
    }

    fn timestamp(&self, time: MediaTime) -> u32 {
        time.rtp().wrapping_add(self.offset)
    }

    /// A sender report that belongs with `frame`, if it is time for one. `hub_start` is the wall
    /// time at which the hub's clock began.
    pub fn report(&mut self, frame: &Frame, hub_start: SystemTime, now: Instant) -> Option<Report> {
        let interval = if self.reports < FIRST_REPORTS {
            FIRST_REPORT_INTERVAL
        } else {
            REPORT_INTERVAL
        };
        let due = self
            .reported
            .is_none_or(|last| frame.captured >= last + interval || frame.captured < last);
        if !due || self.feed != Feed::Live || self.packets == 0 {
            return None;
        }
        self.reported = Some(frame.captured);
        self.reports = self.reports.saturating_add(1);
        let ntp = ntp(hub_start + frame.captured);
        self.last_report = Some((low_word(ntp >> 16), now));
        Some(Report {
            ntp,
            timestamp: self.timestamp(frame.time),
            packets: low_word(self.packets),
            octets: low_word(self.octets),
        })
    }

    /// The round trip of the last sender report, if `reception` answers that one.
    #[must_use]
    pub fn round_trip(&self, now: Instant, reception: &Reception) -> Option<Duration> {
        let (report, sent) = self.last_report?;
        let held = Duration::from_secs(1) * reception.delay / 65_536;
        (report == reception.last_report)
            .then(|| now.saturating_duration_since(sent).checked_sub(held))
            .flatten()
    }

    /// Packets and payload bytes sent until now, those sent again not counted.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        (self.packets, self.octets)
    }
}

/// Half of the space, so that SRTP's rollover counter starts unambiguously.
fn first_sequence() -> u64 {
    u64::from(rand::random::<u16>() >> 1)
}

/// When a picture is to be shown.
fn place(entry: &Entry, squeeze: Option<Squeeze>) -> MediaTime {
    squeeze.map_or(entry.frame.time, |live| {
        let behind = i64::try_from(live.picture - entry.picture).unwrap_or(0);
        MediaTime(live.time.0 - behind * live.step)
    })
}

struct Header {
    payload_type: u8,
    marker: bool,
    /// The sequence number with its rollovers.
    index: u64,
    timestamp: u32,
    ssrc: u32,
}

/// Writes and seals one packet. `original` is the sequence number of a packet that is sent again
/// (RFC 4588 §4).
fn write(
    header: &Header,
    extensions: Extensions,
    original: Option<u16>,
    payload: &[u8],
    out: &mut Out<'_>,
) {
    let Out {
        arena,
        sealer,
        path,
        stamps,
    } = out;
    arena.begin();
    let first = if extensions.is_empty() { 0x80 } else { 0x90 };
    let second = header.payload_type | if header.marker { 0x80 } else { 0 };
    let bytes = &mut arena.bytes;
    bytes.extend_from_slice(&[first, second]);
    bytes.extend_from_slice(&low_half(header.index).to_be_bytes());
    bytes.extend_from_slice(&header.timestamp.to_be_bytes());
    bytes.extend_from_slice(&header.ssrc.to_be_bytes());
    let start = bytes.len() - 12;
    extensions.write(stamps, bytes);
    let length = bytes.len() - start;
    if let Some(sequence) = original {
        bytes.extend_from_slice(&sequence.to_be_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&[0; 16][..sealer.tag()]);
    if sealer.seal(arena.packet(), length, header.ssrc, header.index) {
        let size = arena.packet().len();
        stamps.sent(extensions, size);
        arena.end(*path);
    } else {
        arena.cancel();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "RTCP counters wrap")]
fn low_word(count: u64) -> u32 {
    count as u32
}

#[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
fn low_half(index: u64) -> u16 {
    index as u16
}

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// A wall time as 32.32 fixed point seconds since 1900.
fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + NTP_EPOCH) << 32 | fraction
}

#[cfg(test)]
mod tests;
