//! H.264 from RTP packets to access units: [`Assembler`], [`ParameterSets`], [`ProfileLevel`].

mod order;
mod profile;
mod sets;

use bytes::{Buf, Bytes};

pub use order::Reordered;
pub use profile::{Profile, ProfileLevel};
pub use sets::ParameterSets;

use self::order::{Order, first_slice};
use super::{
    Part,
    nal::{NalType, SliceType, annex_b, has_start_code},
};

/// One coded picture, which is what has one timestamp; or a part of a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// The camera's RTP time, unwrapped to 64 bits.
    pub time: i64,
    /// Whether decoding can begin here; then its parameter sets are in front.
    pub random_access: bool,
    /// Which part of the picture it is.
    pub part: Part,
    /// What goes before: more of a unit of which an earlier part had the beginning.
    pub head: Option<Fragment>,
    /// Whole units, without delimiters, filler and supplemental information.
    pub nal_units: Vec<Bytes>,
    /// What goes after: the beginning of a unit of which later parts have the rest, or more of it.
    pub tail: Option<Fragment>,
}

/// A piece of a NAL unit that is too large to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The first byte of the unit.
    pub header: u8,
    /// Some of what follows it; never empty.
    pub data: Bytes,
    /// Whether the unit begins here.
    pub starts: bool,
    /// Whether it ends here.
    pub ends: bool,
}

/// One RTP packet of a camera.
#[derive(Debug, Clone)]
pub struct Packet {
    /// RTP time, unwrapped to 64 bits.
    pub time: i64,
    /// The marker bit.
    pub marker: bool,
    /// How many packets are missing before this one.
    pub lost: u16,
    /// What follows the RTP header.
    pub payload: Bytes,
}

/// Puts RTP packets ([RFC 6184]) together to access units.
///
/// A picture ends with the marker, with the next timestamp, or where another one begins. Cameras set the
/// marker on parameter sets and supplemental information too, so it counts only once a slice is there; and
/// no more once more of a picture came after it. After a loss,
/// pictures are left out up to the next random access point: they would decode to garbage. B pictures
/// that are sent after a later one are always left out: see [`Reordered`].
///
/// [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184
#[derive(Debug)]
pub struct Assembler {
    sets: ParameterSets,
    profile_level: Option<ProfileLevel>,
    unit: Option<Unit>,
    /// The unit that arrives in fragments: its first byte, and what has not been emitted yet. What
    /// leaves it is copied: a small unit must not hold a buffer for large ones alive.
    fragments: Vec<u8>,
    in_fragment: bool,
    /// Whether the beginning of that unit was emitted.
    cut: bool,
    waiting_for_key: bool,
    skipped: u64,
    order: Order,
    marks: Marks,
}

/// What the camera's markers are at the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// Of pictures, of which the last one had this time.
    Pictures(Option<i64>),
    Slices,
}

#[derive(Debug)]
struct Unit {
    time: i64,
    head: Option<Fragment>,
    nal_units: Vec<Bytes>,
    size: usize,
    damaged: bool,
    /// Whether a part of it was emitted.
    begun: bool,
}

/// What a NAL unit costs beside its bytes, so that a flood of tiny ones is bounded too.
const UNIT_OVERHEAD: usize = 64;
/// Largest access unit, in bytes. A 4K key frame of a good camera has about 1 MB.
const ACCESS_UNIT_MAX: usize = 4 << 20;
/// Room that is kept for the next unit: more than what is handed on before the end of a picture.
const FRAGMENTS_KEPT: usize = 72 << 10;

impl Assembler {
    /// An assembler that knows the parameter sets of the camera's description.
    #[must_use]
    pub fn new(sets: ParameterSets) -> Self {
        Self {
            profile_level: sets.profile_level(),
            sets,
            unit: None,
            fragments: Vec::new(),
            in_fragment: false,
            cut: false,
            waiting_for_key: true,
            skipped: 0,
            order: Order::default(),
            marks: Marks::Pictures(None),
        }
    }

    /// Pictures left out because of losses since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Pictures left out because they belong before others that are sent first.
    #[must_use]
    pub fn reordered(&self) -> Reordered {
        self.order.seen()
    }

    /// Profile and level as last seen.
    #[must_use]
    pub fn profile_level(&self) -> Option<ProfileLevel> {
        self.profile_level
    }

    /// The parameter sets as last seen.
    #[must_use]
    pub fn parameter_sets(&self) -> &ParameterSets {
        &self.sets
    }

    /// Takes the next packet and hands the pictures that it completes to `emit`: none, one or two.
    pub fn push(&mut self, packet: Packet, emit: &mut impl FnMut(AccessUnit)) {
        if packet.lost > 0 {
            self.damage();
        }
        if self
            .unit
            .as_ref()
            .is_some_and(|unit| unit.time != packet.time)
        {
            if self.in_fragment {
                self.damage();
            }
            self.finish(emit);
        }
        let begins = begins_picture(&packet.payload);
        if begins == Some(true) && !self.in_fragment && has_slice(self.unit.as_ref()) {
            // The camera's clock stands still, and it does not mark the end of pictures.
            self.finish(emit);
        }
        let mut damaged = packet.lost > 0;
        let is_over = self.unit.is_none() && self.marks == Marks::Pictures(Some(packet.time));
        if begins == Some(false) && is_over {
            // More of a picture that has ended for its viewers.
            self.marks = Marks::Slices;
            self.waiting_for_key = true;
            damaged = true;
        }
        self.unit.get_or_insert_with(|| Unit {
            time: packet.time,
            head: None,
            nal_units: Vec::with_capacity(4),
            size: 0,
            damaged,
            begun: false,
        });
        self.split(packet.payload);
        if packet.marker
            && !self.in_fragment
            && has_slice(self.unit.as_ref())
            && let Marks::Pictures(last) = &mut self.marks
        {
            *last = Some(packet.time);
            self.finish(emit);
        }
    }

    fn damage(&mut self) {
        self.in_fragment = false;
        self.fragments.clear();
        self.waiting_for_key = true;
        if let Some(unit) = &mut self.unit {
            unit.damaged = true;
        }
    }

    /// Takes the NAL units out of one payload.
    fn split(&mut self, mut payload: Bytes) {
        match payload.first().map(|byte| byte & 0x1f) {
            Some(1..=23) => self.add(payload),
            // STAP-A, RFC 6184 §5.7.1: 16 bit lengths.
            Some(24) => {
                payload.advance(1);
                while payload.len() > 2 {
                    let length = usize::from(payload.get_u16());
                    if length > payload.len() {
                        return self.damage();
                    }
                    self.add(payload.split_to(length));
                }
            }
            // FU-A, RFC 6184 §5.8.
            Some(28) => self.fragment(&payload),
            // Interleaved mode, which nobody negotiates, and reserved types.
            _ => {}
        }
    }

    fn fragment(&mut self, payload: &[u8]) {
        let [indicator, header, data @ ..] = payload else {
            return self.damage();
        };
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start {
            if self.in_fragment {
                // The end of the unit before is missing.
                self.damage();
            }
            self.fragments.clear();
            self.fragments.shrink_to(FRAGMENTS_KEPT);
            self.fragments.push(indicator & 0xe0 | header & 0x1f);
            self.in_fragment = true;
            self.cut = false;
        } else if !self.in_fragment {
            // Joined in the middle: the rest of this picture is of no use.
            return self.damage();
        }
        self.fragments.extend_from_slice(data);
        // What was handed on counts, too: a unit without an end has none otherwise.
        if let Some(unit) = &mut self.unit {
            unit.size += data.len();
            if unit.size > ACCESS_UNIT_MAX {
                unit.nal_units.clear();
                return self.damage();
            }
        }
        if end {
            self.in_fragment = false;
            let mut nal = Bytes::copy_from_slice(&self.fragments);
            if !self.cut {
                if let Some(unit) = &mut self.unit {
                    unit.size = unit.size.saturating_sub(nal.len() - 1);
                }
                return self.add(nal);
            }
            let header = nal.get_u8();
            if let Some(unit) = &mut self.unit
                && !nal.is_empty()
            {
                unit.head = Some(Fragment {
                    header,
                    data: nal,
                    starts: false,
                    ends: true,
                });
            }
        }
    }

    /// What has arrived of a large picture, if that fills at least `least` payloads of `payload_max`
    /// bytes: so that viewers need not wait for the rest. The unit that is under way is cut so that
    /// payloads are full.
    pub fn part(&mut self, least: usize, payload_max: usize) -> Option<AccessUnit> {
        // A fragment has two bytes of headers, and the last one must not be empty.
        let full = payload_max - 2;
        let unit = self.unit.as_mut()?;
        let under_way = self.fragments.len().saturating_sub(2) / full;
        // Nobody knows whether a whole unit is the last one, which ends the picture for viewers. So
        // one is kept back, unless another one has begun.
        if !self.in_fragment {
            return None;
        }
        let waiting: usize = unit.nal_units.iter().map(Bytes::len).sum();
        let is_slice = NalType::of(&self.fragments).is_some_and(NalType::is_slice);
        let ready = under_way + waiting / full + usize::from(unit.head.is_some());
        if ready < least.max(1) || unit.damaged || !is_slice {
            return None;
        }
        let first = !unit.begun;
        let mut random_access = false;
        if first {
            let has = |wanted| {
                let units = unit.nal_units.iter().map(|nal| &nal[..]);
                let mut all = units.chain([&self.fragments[..]]);
                all.any(|nal| NalType::of(nal) == Some(wanted))
            };
            random_access = has(NalType::IDR);
            let is_unclear = !random_access && has(NalType::SPS);
            if is_unclear || self.waiting_for_key && !random_access {
                return None;
            }
            let slice = first_slice(&unit.nal_units).unwrap_or(&self.fragments);
            if self.order.leaves_out(unit.time, slice) {
                return None;
            }
            self.order.keep(unit.time);
            if random_access {
                self.waiting_for_key = false;
                complete(&mut unit.nal_units, &self.sets);
            }
        }
        unit.begun = true;
        let tail = (under_way > 0).then(|| {
            let taken = 1..1 + under_way * full;
            let data = Bytes::copy_from_slice(&self.fragments[taken.clone()]);
            self.fragments.drain(taken);
            let starts = !std::mem::replace(&mut self.cut, true);
            Fragment {
                header: self.fragments[0],
                data,
                starts,
                ends: false,
            }
        });
        Some(AccessUnit {
            time: unit.time,
            random_access,
            part: Part { first, last: false },
            head: unit.head.take(),
            nal_units: std::mem::take(&mut unit.nal_units),
            tail,
        })
    }

    fn add(&mut self, nal: Bytes) {
        // Some cameras send several units in one, with start codes between them, which a unit cannot
        // contain otherwise (H.264 §7.4.1).
        if has_start_code(&nal) {
            let parts: Vec<_> = annex_b(&[&[0, 0, 1], &nal[..]].concat())
                .map(Bytes::copy_from_slice)
                .collect();
            for part in parts {
                self.add_one(part);
            }
        } else {
            self.add_one(nal);
        }
    }

    fn add_one(&mut self, nal: Bytes) {
        let Some(kind) = NalType::of(&nal) else {
            return;
        };
        if matches!(kind, NalType::SPS | NalType::PPS) {
            self.sets.keep(&nal);
            self.profile_level = self.sets.profile_level();
        }
        let Some(unit) = &mut self.unit else { return };
        unit.size += nal.len() + UNIT_OVERHEAD;
        if unit.size > ACCESS_UNIT_MAX {
            unit.nal_units.clear();
            return self.damage();
        }
        if kind.is_slice() || matches!(kind, NalType::SPS | NalType::PPS) {
            unit.nal_units.push(nal);
        }
    }

    fn finish(&mut self, emit: &mut impl FnMut(AccessUnit)) {
        let Some(mut unit) = self.unit.take() else {
            return;
        };
        if unit.begun {
            if unit.damaged || unit.head.is_none() && unit.nal_units.is_empty() {
                self.skipped += u64::from(unit.damaged);
                return;
            }
            return emit(AccessUnit {
                time: unit.time,
                random_access: false,
                part: Part {
                    first: false,
                    last: true,
                },
                head: unit.head,
                nal_units: unit.nal_units,
                tail: None,
            });
        }
        let has = |wanted| move |nal: &Bytes| NalType::of(nal) == Some(wanted);
        let mut slices = unit
            .nal_units
            .iter()
            .filter(|nal| NalType::of(nal).is_some_and(NalType::is_slice))
            .peekable();
        if slices.peek().is_none() && !unit.damaged {
            // Parameter sets alone: kept, and put before the next random access point.
            return;
        }
        // Cameras that never send an IDR picture refresh with an intra picture after its sets.
        let random_access = unit.nal_units.iter().any(has(NalType::IDR))
            || unit.nal_units.iter().any(has(NalType::SPS))
                && slices.all(|slice| SliceType::of(slice) == Some(SliceType::I));
        if unit.damaged || self.waiting_for_key && !random_access {
            self.skipped += 1;
            return;
        }
        let slice = first_slice(&unit.nal_units).unwrap_or_default();
        if self.order.leaves_out(unit.time, slice) {
            return self.order.leave_out(slice);
        }
        self.order.keep(unit.time);
        self.waiting_for_key = false;
        if random_access {
            complete(&mut unit.nal_units, &self.sets);
        }
        emit(AccessUnit {
            time: unit.time,
            random_access,
            part: Part::WHOLE,
            head: None,
            nal_units: unit.nal_units,
            tail: None,
        });
    }
}

/// Whether there is something of a picture, or was.
fn has_slice(unit: Option<&Unit>) -> bool {
    unit.is_some_and(|unit| {
        let mut kinds = unit.nal_units.iter().filter_map(|nal| NalType::of(nal));
        unit.begun || unit.damaged || kinds.any(NalType::is_slice)
    })
}

/// Whether a payload begins with the first slice of a picture, or with another one; none if it does not
/// begin with the beginning of a slice. The first one has macroblock 0, which is a 1 bit.
fn begins_picture(payload: &[u8]) -> Option<bool> {
    let (kind, header) = match payload {
        [kind, header, ..] if matches!(kind & 0x1f, 1 | 2 | 5) => (kind, header),
        [stap, _, _, kind, header, ..] if stap & 0x1f == 24 => (kind, header),
        [fragment, kind, header, ..] if fragment & 0x1f == 28 && kind & 0x80 != 0 => (kind, header),
        _ => return None,
    };
    matches!(kind & 0x1f, 1 | 2 | 5).then_some(header & 0x80 != 0)
}

/// Puts the parameter sets that a picture lacks before it.
fn complete(nal_units: &mut Vec<Bytes>, sets: &ParameterSets) {
    let has = |wanted| nal_units.iter().any(|nal| NalType::of(nal) == Some(wanted));
    let (has_sps, has_pps) = (has(NalType::SPS), has(NalType::PPS));
    let mut front = Vec::new();
    if !has_sps {
        front.extend(sets.of_type(NalType::SPS).cloned());
    }
    if !has_pps {
        front.extend(sets.of_type(NalType::PPS).cloned());
    }
    let at = usize::from(has_sps && !has_pps);
    nal_units.splice(at..at, front);
}

#[cfg(test)]
mod tests;
