//! Access units out of RTP packets, of H.264 and H.265 alike: [`Assembler`], [`AccessUnit`].

mod coding;

use bytes::{Buf, Bytes};

pub use coding::{Coding, Header, Payload, Role};

use super::{
    Codec, Part,
    nal::{annex_b, has_start_code},
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
    /// The first bytes of the unit.
    pub header: Header,
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

/// Pictures since the first one that was left out because a later one is sent before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reordered {
    /// All of them.
    pub pictures: u64,
    /// Those that were left out.
    pub left_out: u64,
    /// Those of them that others may be predicted from.
    pub references: u64,
}

/// Puts RTP packets ([RFC 6184], [RFC 7798]) together to access units.
///
/// A picture ends with the marker, with the next timestamp, or where another one begins. Cameras set the
/// marker on parameter sets and supplemental information too, so it counts only once a slice is there; and
/// no more once more of a picture came after it. After a loss,
/// pictures are left out up to the next random access point: they would decode to garbage. B pictures
/// that are sent after a later one are always left out: see [`Reordered`].
///
/// [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184
/// [RFC 7798]: https://datatracker.ietf.org/doc/html/rfc7798
#[derive(Debug)]
pub struct Assembler {
    coding: Box<dyn Coding>,
    unit: Option<Unit>,
    /// The unit that arrives in fragments: its header, and what has not been emitted yet. What
    /// leaves it is copied: a small unit must not hold a buffer for large ones alive.
    fragments: Vec<u8>,
    in_fragment: bool,
    /// Whether the beginning of that unit was emitted.
    cut: bool,
    waiting_for_key: bool,
    skipped: u64,
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
pub(super) const ACCESS_UNIT_MAX: usize = 4 << 20;
/// Room that is kept for the next unit: more than what is handed on before the end of a picture.
const FRAGMENTS_KEPT: usize = 72 << 10;

impl Assembler {
    /// An assembler that knows the codec, and the parameter sets of the camera's description.
    #[must_use]
    pub fn new(coding: impl Into<Box<dyn Coding>>) -> Self {
        Self {
            coding: coding.into(),
            unit: None,
            fragments: Vec::new(),
            in_fragment: false,
            cut: false,
            waiting_for_key: true,
            skipped: 0,
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
        self.coding.reordered()
    }

    /// The codec, with profile and level as last seen.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.coding.codec()
    }

    /// Width and height in pixels of the parameter sets last seen; none where they cannot be read without
    /// doubt.
    #[must_use]
    pub fn picture_size(&self) -> Option<[u64; 2]> {
        self.coding.picture_size()
    }

    /// Cuts what was handed on into RTP payloads of at most so many bytes.
    #[must_use]
    pub fn cut(&self, unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
        self.coding.cut(unit, payload_max)
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
        let payload = self.coding.unpack(packet.payload);
        let begins = self.begins_picture(&payload);
        if begins == Some(true) && !self.in_fragment && self.has_slice() {
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
        self.take(payload);
        if packet.marker
            && !self.in_fragment
            && self.has_slice()
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
    fn take(&mut self, payload: Payload) {
        match payload {
            Payload::Unit(nal) => self.add(nal),
            Payload::Aggregate(mut units, between) => {
                while units.len() > 2 {
                    let length = usize::from(units.get_u16());
                    if length > units.len() {
                        return self.damage();
                    }
                    self.add(units.split_to(length));
                    units.advance(between.min(units.len()));
                }
            }
            Payload::Piece {
                header,
                data,
                starts,
                ends,
            } => self.fragment(header, &data, starts, ends),
            Payload::Broken => self.damage(),
            Payload::Other => {}
        }
    }

    fn fragment(&mut self, header: Header, data: &[u8], start: bool, end: bool) {
        let header_bytes = self.coding.header_bytes();
        if start {
            if self.in_fragment {
                // The end of the unit before is missing.
                self.damage();
            }
            self.fragments.clear();
            self.fragments.shrink_to(FRAGMENTS_KEPT);
            self.fragments.extend_from_slice(&header[..header_bytes]);
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
                    unit.size = unit.size.saturating_sub(nal.len() - header_bytes);
                }
                return self.add(nal);
            }
            let header = header_of(&nal, header_bytes);
            nal.advance(header_bytes);
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
        // A fragment has the unit's header and one byte more, and the last one must not be empty.
        let header_bytes = self.coding.header_bytes();
        let full = payload_max - header_bytes - 1;
        let unit = self.unit.as_mut()?;
        let under_way = self.fragments.len().saturating_sub(header_bytes + 1) / full;
        // Nobody knows whether a whole unit is the last one, which ends the picture for viewers. So
        // one is kept back, unless another one has begun.
        if !self.in_fragment {
            return None;
        }
        let waiting: usize = unit.nal_units.iter().map(Bytes::len).sum();
        let is_slice = self.coding.role(&self.fragments) == Some(Role::Slice);
        let ready = under_way + waiting / full + usize::from(unit.head.is_some());
        if ready < least.max(1) || unit.damaged || !is_slice {
            return None;
        }
        let first = !unit.begun;
        let mut random_access = false;
        if first {
            random_access = {
                let units = unit.nal_units.iter().map(|nal| &nal[..]);
                let mut all = units.chain([&self.fragments[..]]);
                self.coding.random_access(&mut all, false)?
            };
            if self.waiting_for_key && !random_access {
                return None;
            }
            let slice = first_slice(&*self.coding, &unit.nal_units).unwrap_or(&self.fragments);
            if self.coding.leaves_out(unit.time, slice) {
                return None;
            }
            self.coding.keep(unit.time, slice);
            if random_access {
                self.waiting_for_key = false;
                self.coding.complete(&mut unit.nal_units);
            }
        }
        unit.begun = true;
        let tail = (under_way > 0).then(|| {
            let taken = header_bytes..header_bytes + under_way * full;
            let data = Bytes::copy_from_slice(&self.fragments[taken.clone()]);
            self.fragments.drain(taken);
            let starts = !std::mem::replace(&mut self.cut, true);
            Fragment {
                header: header_of(&self.fragments, header_bytes),
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
        let role = self.coding.role(&nal);
        if role == Some(Role::Set) {
            self.coding.keep_set(&nal);
        }
        let Some(unit) = &mut self.unit else { return };
        unit.size += nal.len() + UNIT_OVERHEAD;
        if unit.size > ACCESS_UNIT_MAX {
            unit.nal_units.clear();
            return self.damage();
        }
        if role.is_some() {
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
        let slice = first_slice(&*self.coding, &unit.nal_units);
        if slice.is_none() && !unit.damaged {
            // Parameter sets alone: kept, and put before the next random access point.
            return;
        }
        let slice = slice.unwrap_or_default();
        let mut units = unit.nal_units.iter().map(|nal| &nal[..]);
        let random_access = self.coding.random_access(&mut units, true) == Some(true);
        if unit.damaged || self.waiting_for_key && !random_access {
            self.skipped += 1;
            return;
        }
        if self.coding.leaves_out(unit.time, slice) {
            return self.coding.leave_out(slice);
        }
        self.coding.keep(unit.time, slice);
        self.waiting_for_key = false;
        if random_access {
            self.coding.complete(&mut unit.nal_units);
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

    /// Whether there is something of a picture, or was.
    fn has_slice(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| {
            unit.begun || unit.damaged || first_slice(&*self.coding, &unit.nal_units).is_some()
        })
    }

    /// Whether a payload begins with the first slice of a picture, or with another one; none if it does not
    /// begin with the beginning of a slice.
    fn begins_picture(&self, payload: &Payload) -> Option<bool> {
        match payload {
            Payload::Unit(nal) => self.coding.begins_picture(nal),
            Payload::Aggregate(units, _) => self.coding.begins_picture(units.get(2..)?),
            Payload::Piece {
                header,
                data,
                starts: true,
                ..
            } => {
                let bytes = self.coding.header_bytes();
                let mut beginning = [header[0], header[1], 0];
                beginning[bytes] = *data.first()?;
                self.coding.begins_picture(&beginning[..=bytes])
            }
            Payload::Piece { .. } | Payload::Broken | Payload::Other => None,
        }
    }
}

/// The first slice of a picture; what it tells of the picture's place holds for all of them.
fn first_slice<'a>(coding: &dyn Coding, units: &'a [Bytes]) -> Option<&'a [u8]> {
    let mut units = units.iter().map(|nal| &nal[..]);
    units.find(|nal| coding.role(nal) == Some(Role::Slice))
}

fn header_of(nal: &[u8], bytes: usize) -> Header {
    let mut header = Header::default();
    header[..bytes].copy_from_slice(&nal[..bytes]);
    header
}
