//! RTP packets of a playing camera to frames on the hub.

use std::time::Duration;

use bytes::Bytes;
use retina::rtcp::PacketRef;

use super::{
    packet::{Follower, Taken, is_rtcp},
    reorder::Reorder,
    stall::{Health, Pulse},
    tracks::Chosen,
    transport::{Arrived, Transport},
};
use crate::{
    base::{Diagnosis, Note, Verdict},
    hub::{LeftOut, Publisher, Sound},
    media::{
        Codec, Frame, Kind, MediaTime, Part, Timeline, TrackId,
        assembler::{AccessUnit, Assembler, Packet, Reordered},
        audio::SoundPacket,
        rtp::PAYLOAD_MAX,
        time::SyncClock,
    },
};

/// How long the tracks are held back for the first picture to tell its profile, when the camera's
/// description does not. Cameras send a key frame at the start, or every one or two seconds.
const PROFILE_WAIT: Duration = Duration::from_millis(1_500);

/// Payloads of a picture that are handed on before its end: what goes to a viewer in one call. With
/// less, the last viewer of many waits longer for a picture that is there already.
const BURST: usize = 56;
/// The same when nothing more has arrived: about 18 kB, which a link of 100 Mbit/s carries in 1.5 ms.
const DRY_BURST: usize = 16;

/// Pictures that are counted before B-frames are told of: two seconds of most cameras.
const COUNTED: u64 = 50;

/// The state of all tracks of one connection.
pub(super) struct Ingest {
    chosen: Chosen,
    tracks: Vec<TrackState>,
    sync: SyncClock,
    announced: bool,
    told_of_b_frames: bool,
    started: Option<Duration>,
    /// By when the first packets are due.
    begin_by: Duration,
}

struct TrackState {
    /// By UDP only.
    reorder: Option<Reorder>,
    follower: Follower,
    pulse: Pulse,
    /// The time of the last packet.
    newest: Option<i64>,
    timeline: Timeline,
    rate: u32,
    /// Video only.
    assembler: Option<Assembler>,
    /// The camera's ticks of the last picture, and where they were placed.
    last: Option<(i64, MediaTime)>,
}

impl Ingest {
    /// `floor` is the latest time that viewers have seen, of an earlier connection. The first packets are
    /// due at `begin_by`.
    pub(super) fn new(
        mut chosen: Chosen,
        transport: Transport,
        floor: Duration,
        begin_by: Duration,
    ) -> Self {
        let tracks: Vec<_> = chosen
            .tracks
            .iter_mut()
            .map(|track| TrackState {
                reorder: (transport == Transport::Udp).then(Reorder::default),
                follower: Follower::new(track.expected),
                pulse: Pulse::new(track.kind),
                newest: None,
                timeline: Timeline::new(track.clock_rate(), floor),
                rate: track.clock_rate(),
                assembler: track.assembler.take(),
                last: None,
            })
            .collect();
        Self {
            sync: SyncClock::new(tracks.len()),
            tracks,
            chosen,
            announced: false,
            told_of_b_frames: false,
            started: None,
            begin_by,
        }
    }

    /// Takes a packet.
    pub(super) fn take(&mut self, arrived: Arrived, out: &Publisher) {
        let index = arrived.track;
        if arrived.control || is_rtcp(&arrived.packet) {
            self.rtcp(index, &arrived.packet);
        } else if let Some(mut reorder) = self.tracks[index].reorder.take() {
            let mut next = |packet: Bytes| self.rtp(index, &packet, out);
            reorder.push(arrived.packet, out.now(), &mut next);
            self.tracks[index].reorder = Some(reorder);
        } else {
            self.rtp(index, &arrived.packet, out);
        }
    }

    fn rtp(&mut self, index: usize, packet: &Bytes, out: &Publisher) {
        let state = &mut self.tracks[index];
        let packet = match state.follower.take(packet) {
            Taken::Next(packet) => packet,
            Taken::Quiet => {
                if state.pulse.rest(out.now()) {
                    self.revive(index, out);
                }
                return;
            }
            Taken::Nothing => return,
        };
        let now = out.now();
        if state.newest.replace(packet.time) != Some(packet.time) && state.pulse.beat(now) {
            self.revive(index, out);
        }
        self.publish(index, Some(packet), now, out);
        self.announce(now, out);
        if self.tracks[index].assembler.is_some() {
            out.heard();
        }
    }

    /// What is due by now: packets that have waited long enough for others.
    pub(super) fn expire(&mut self, out: &Publisher) {
        for index in 0..self.tracks.len() {
            if let Some(mut reorder) = self.tracks[index].reorder.take() {
                reorder.expire(out.now(), &mut |packet| self.rtp(index, &packet, out));
                self.tracks[index].reorder = Some(reorder);
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        let waiting = self
            .tracks
            .iter()
            .filter_map(|track| track.reorder.as_ref());
        waiting.filter_map(Reorder::due).min()
    }

    /// The payload types of the tracks, as described.
    pub(super) fn payload_types(&self) -> Vec<Option<u8>> {
        let tracks = self.chosen.tracks.iter();
        tracks.map(|track| track.expected.payload_type).collect()
    }

    pub(super) fn pulses(&self) -> impl Iterator<Item = &Pulse> + Clone {
        self.tracks.iter().map(|track| &track.pulse)
    }

    /// How the tracks are.
    pub(super) fn health(&self, now: Duration) -> Health {
        Health::of(&self.pulses(), self.begin_by, now)
    }

    /// Goes on without the track of `kind`, which has stopped, until it comes back.
    pub(super) fn give_up(&mut self, kind: Kind, out: &Publisher) {
        for state in &mut self.tracks {
            if state.pulse.kind() == kind {
                state.pulse.give_up();
            }
        }
        let note = Note::new(Verdict::TrackStopped, stopped(kind));
        tracing::warn!(verdict = %note.diagnosis.verdict, "{}", note.sentence);
        self.chosen.left_out.push(LeftOut { kind, note });
        self.announced = true;
        out.announce(self.chosen.announcement());
    }

    /// A track that was given up is back.
    fn revive(&mut self, index: usize, out: &Publisher) {
        let kind = self.tracks[index].pulse.kind();
        tracing::info!(kind = kind.name(), "the track is back");
        self.chosen
            .left_out
            .retain(|left| left.note.sentence != stopped(kind));
        out.announce(self.chosen.announcement());
    }

    /// Nothing more has arrived by now: of a large picture, what is there goes to the viewers.
    pub(super) fn dry(&mut self, out: &Publisher) {
        for index in 0..self.tracks.len() {
            if self.tracks[index].assembler.is_some() {
                self.publish(index, None, out.now(), out);
            }
        }
    }

    /// Publishes what `packet` completes; without one, what is there.
    fn publish(&mut self, index: usize, packet: Option<Packet>, now: Duration, out: &Publisher) {
        let state = &mut self.tracks[index];
        let id = TrackId(u8::try_from(index).unwrap_or(u8::MAX));
        let (sync, rate) = (&self.sync, state.rate);
        let (codec, format) = (
            self.chosen.tracks[index].codec,
            self.chosen.tracks[index].sound,
        );
        let (timeline, last) = (&mut state.timeline, &mut state.last);
        let pulse = &mut state.pulse;
        if let (Some(assembler), Some(codec)) = (&mut state.assembler, codec) {
            let mut publish = |unit: AccessUnit, payloads| {
                let time = match *last {
                    // All parts of a picture have its time.
                    Some((ticks, time)) if ticks == unit.time && !unit.part.first => time,
                    Some((ticks, _)) if ticks == unit.time => {
                        // The camera's clock stands still, and its pictures go on.
                        pulse.beat(now);
                        timeline.place(unit.time, now)
                    }
                    _ => timeline.place(unit.time, now),
                };
                *last = Some((unit.time, time));
                out.publish(Frame {
                    track: id,
                    codec,
                    time,
                    captured: sync.captured(index, rate, time),
                    random_access: unit.random_access,
                    part: unit.part,
                    payloads,
                });
            };
            let mut units = Vec::new();
            let burst = if packet.is_some() { BURST } else { DRY_BURST };
            if let Some(packet) = packet {
                assembler.push(packet, &mut |unit| units.push(unit));
            }
            units.extend(assembler.part(burst, PAYLOAD_MAX));
            for unit in units {
                let payloads = assembler.cut(&unit, PAYLOAD_MAX);
                publish(unit, payloads);
            }
        } else if let Some(packet) = packet {
            let placed = timeline.place(packet.time, now);
            if let Some(format) = format {
                out.hear(|| Sound {
                    track: id,
                    format,
                    packet: SoundPacket {
                        time: placed,
                        captured: sync.captured(index, rate, placed),
                        is_after_loss: packet.lost > 0,
                        marker: packet.marker,
                        payload: packet.payload.clone(),
                    },
                });
            }
            let Some(codec) = codec else {
                return;
            };
            for (offset, payload) in sound(codec, packet.payload) {
                let time = MediaTime(placed.0 + offset);
                out.publish(Frame {
                    track: id,
                    codec,
                    time,
                    captured: sync.captured(index, rate, time),
                    random_access: true,
                    part: Part::WHOLE,
                    payloads: Box::new([payload]),
                });
            }
        }
    }

    /// Announces the tracks as soon as the profile of the video is known, or has been waited for; and
    /// again when it changes, or B-frames are left out.
    fn announce(&mut self, now: Duration, out: &Publisher) {
        let started = *self.started.get_or_insert(now);
        let (mut unknown, mut changed) = (false, false);
        for (track, state) in self.chosen.tracks.iter_mut().zip(&self.tracks) {
            if let (Some(codec), Some(assembler)) = (&mut track.codec, &state.assembler) {
                let seen = assembler.codec();
                changed |= *codec != seen;
                unknown |= !seen.is_known();
                *codec = seen;
                let reordered = assembler.reordered();
                if !self.told_of_b_frames && reordered.pictures >= COUNTED {
                    self.told_of_b_frames = true;
                    changed = true;
                    let note = without_b_frames(seen, reordered);
                    let verdict = note.diagnosis.verdict;
                    tracing::warn!(%verdict, "{}", note.sentence);
                    let kind = Kind::Video;
                    self.chosen.left_out.push(LeftOut { kind, note });
                }
            }
        }
        let ready = !unknown || now.saturating_sub(started) >= PROFILE_WAIT;
        if changed && self.announced || ready && !self.announced {
            self.announced = true;
            out.announce(self.chosen.announcement());
        }
    }

    /// Takes the sender report at the beginning of a compound packet, if there is one, and the goodbye.
    fn rtcp(&mut self, index: usize, compound: &[u8]) {
        let state = &mut self.tracks[index];
        if goodbyes(compound).any(|ssrc| state.follower.follows(ssrc)) {
            state.pulse.end();
        }
        let Ok((first, _)) = PacketRef::parse(compound) else {
            return;
        };
        let Ok(Some(report)) = first.as_sender_report() else {
            return;
        };
        if !state.follower.follows(report.ssrc()) {
            return;
        }
        let time = state.follower.unwrap(report.rtp_timestamp());
        if let Some(time) = time.and_then(|time| state.timeline.at(time)) {
            self.sync
                .report(index, state.rate, time, report.ntp_timestamp().0);
        }
    }
}

/// The sources that say goodbye in a compound RTCP packet ([RFC 3550 §6.6]); the first of each.
///
/// [RFC 3550 §6.6]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.6
fn goodbyes(mut compound: &[u8]) -> impl Iterator<Item = u32> {
    const BYE: u8 = 203;
    std::iter::from_fn(move || {
        let [_, kind, high, low, rest @ ..] = compound else {
            return None;
        };
        let length = 4 * usize::from(u16::from_be_bytes([*high, *low]));
        compound = rest.get(length..)?;
        Some((*kind, rest.first_chunk::<4>().filter(|_| length >= 4)))
    })
    .filter_map(|(kind, source)| source.filter(|_| kind == BYE))
    .map(|source| u32::from_be_bytes(*source))
}

/// What people are told of a track that has stopped.
fn stopped(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => {
            "the camera's video has stopped while its sound goes on, also after another connection: \
             restart the camera"
        }
        Kind::Audio => {
            "the camera's sound has stopped while its video goes on, also after another connection: \
             restart the camera if you miss it"
        }
    }
}

/// What people are told of pictures that are left out.
pub(super) fn without_b_frames(codec: Codec, seen: Reordered) -> Note {
    let Reordered {
        pictures,
        left_out,
        references,
    } = seen;
    let faults = if references > 0 {
        ", and moving things may leave traces, as others were made with some of these"
    } else {
        ""
    };
    let setting = match codec {
        Codec::H265(_) => "the number of B-frames to 0 in the camera",
        _ => "the H.264 profile to Baseline in the camera, or the number of B-frames to 0",
    };
    let sentence = format!(
        "the camera sends B-frames, which browsers cannot show by WebRTC: {left_out} of {pictures} pictures \
         are left out{faults}. Set {setting}"
    );
    let evidence = format!("{left_out} of {pictures} pictures are B-frames");
    Note {
        diagnosis: Diagnosis::seen(Verdict::BFrames, &evidence),
        sentence,
    }
}

/// The payloads of one packet of sound with their offsets in ticks: one, unless it is too large.
fn sound(codec: Codec, mut payload: Bytes) -> Vec<(i64, Bytes)> {
    let mut parts = Vec::with_capacity(1);
    match codec {
        // One byte is one sample, so these can be cut anywhere.
        Codec::Pcmu | Codec::Pcma => {
            let mut offset = 0;
            while !payload.is_empty() {
                let part = payload.split_to(payload.len().min(PAYLOAD_MAX));
                let ticks = i64::try_from(part.len()).unwrap_or(0);
                parts.push((offset, part));
                offset += ticks;
            }
        }
        Codec::Opus | Codec::H264(_) | Codec::H265(_) => {
            // RFC 6716 §3.2.1: an Opus frame has at most 1275 bytes, and speech far fewer.
            if !payload.is_empty() && payload.len() <= PAYLOAD_MAX {
                parts.push((0, payload));
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_of_g711_is_cut_with_times_that_fit() {
        let parts = sound(Codec::Pcmu, Bytes::from(vec![0xff; 2_400]));
        let sizes: Vec<_> = parts.iter().map(|(at, part)| (*at, part.len())).collect();
        assert_eq!(sizes, [(0, 1_154), (1_154, 1_154), (2_308, 92)]);
        assert!(sound(Codec::Opus, Bytes::from(vec![1; 2_000])).is_empty());
    }
}
