//! What is particular to H.265: [`ParameterSets`], [`ProfileTierLevel`], and [`H265`] for the assembler.

mod nal;
mod order;
mod profile;
mod sets;
mod syntax;

use bytes::Bytes;

pub use nal::NalType;
pub use profile::ProfileTierLevel;
pub use sets::ParameterSets;

use self::order::Order;
use super::{
    Codec,
    assembler::{AccessUnit, Coding, Payload, Reordered, Role},
    rtp,
};

/// What is known of an H.265 stream.
#[derive(Debug, Default)]
pub struct H265 {
    sets: ParameterSets,
    /// Whether payloads carry the order in which units are decoded: `sprop-max-don-diff` is above 0
    /// ([RFC 7798 §7.1]). It is passed over: cameras send units in the order in which they are decoded.
    ///
    /// [RFC 7798 §7.1]: https://datatracker.ietf.org/doc/html/rfc7798#section-7.1
    has_order_numbers: bool,
    order: Order,
}

/// Bytes of a decoding order number, and of a difference of two ([RFC 7798 §4.4]).
///
/// [RFC 7798 §4.4]: https://datatracker.ietf.org/doc/html/rfc7798#section-4.4
const ORDER_NUMBER: usize = 2;
const ORDER_DIFFERENCE: usize = 1;

impl H265 {
    /// Of a camera that describes these sets; `has_order_numbers` if `sprop-max-don-diff` is above 0.
    #[must_use]
    pub fn new(sets: ParameterSets, has_order_numbers: bool) -> Self {
        Self {
            sets,
            has_order_numbers,
            order: Order::default(),
        }
    }

    /// `payload` from `at` on, without the decoding order number that may stand there.
    fn after_order_number(&self, mut payload: Bytes, at: usize) -> Option<Bytes> {
        let at = at
            + if self.has_order_numbers {
                ORDER_NUMBER
            } else {
                0
            };
        (payload.len() >= at).then(|| payload.split_off(at))
    }

    /// A single NAL unit packet ([RFC 7798 §4.4.1]), in which the number follows the header.
    ///
    /// [RFC 7798 §4.4.1]: https://datatracker.ietf.org/doc/html/rfc7798#section-4.4.1
    fn single(&self, payload: Bytes) -> Payload {
        if !self.has_order_numbers {
            return Payload::Unit(payload);
        }
        let header = payload.slice(..2);
        match self.after_order_number(payload, 2) {
            Some(data) => Payload::Unit([header, data].concat().into()),
            None => Payload::Broken,
        }
    }
}

impl From<H265> for Box<dyn Coding> {
    fn from(coding: H265) -> Self {
        Box::new(coding)
    }
}

impl Coding for H265 {
    fn codec(&self) -> Codec {
        let sps = self.sets.sps();
        Codec::H265(sps.map(|(_, sps)| sps.profile_tier_level))
    }

    fn header_bytes(&self) -> usize {
        2
    }

    fn role(&self, nal: &[u8]) -> Option<Role> {
        match NalType::of(nal)? {
            kind if kind.is_slice() => Some(Role::Slice),
            NalType::VPS | NalType::SPS | NalType::PPS => Some(Role::Set),
            _ => None,
        }
    }

    fn unpack(&self, payload: Bytes) -> Payload {
        let [first, second, ..] = payload[..] else {
            return Payload::Other;
        };
        match first >> 1 & 0x3f {
            0..=47 => self.single(payload),
            // Aggregation packet, RFC 7798 §4.4.2.
            48 => match self.after_order_number(payload, 2) {
                Some(units) if self.has_order_numbers => {
                    Payload::Aggregate(units, ORDER_DIFFERENCE)
                }
                Some(units) => Payload::Aggregate(units, 0),
                None => Payload::Broken,
            },
            // Fragmentation unit, RFC 7798 §4.4.3: the number is in the first one only.
            49 => {
                let Some(fragment) = payload.get(2).copied() else {
                    return Payload::Broken;
                };
                let starts = fragment & 0x80 != 0;
                let data = if starts {
                    self.after_order_number(payload, 3)
                } else {
                    Some(payload.slice(3..))
                };
                data.map_or(Payload::Broken, |data| Payload::Piece {
                    header: [first & 0x81 | (fragment & 0x3f) << 1, second],
                    data,
                    starts,
                    ends: fragment & 0x40 != 0,
                })
            }
            // PACI, which nobody negotiates, and what is left open.
            _ => Payload::Other,
        }
    }

    fn begins_picture(&self, nal: &[u8]) -> Option<bool> {
        let is_slice = NalType::of(nal)?.is_slice();
        let header = nal.get(2)?;
        is_slice.then_some(header & 0x80 != 0)
    }

    fn keep_set(&mut self, nal: &Bytes) {
        self.sets.keep(nal);
    }

    fn random_access(&self, units: &mut dyn Iterator<Item = &[u8]>, _: bool) -> Option<bool> {
        let mut kinds = units.filter_map(NalType::of);
        Some(kinds.any(NalType::is_random_access))
    }

    fn complete(&self, units: &mut Vec<Bytes>) {
        // All of them, in their order, and what could not be kept where it was.
        units.retain(|nal| !self.sets.has(nal));
        units.splice(0..0, self.sets.all());
    }

    fn leaves_out(&self, _: i64, first_slice: &[u8]) -> bool {
        self.order.leaves_out(first_slice, &self.sets)
    }

    fn keep(&mut self, _: i64, first_slice: &[u8]) {
        self.order.keep(first_slice, &self.sets);
    }

    fn leave_out(&mut self, first_slice: &[u8]) {
        self.order.leave_out(first_slice, &self.sets);
    }

    fn reordered(&self) -> Reordered {
        self.order.seen()
    }

    fn picture_size(&self) -> Option<[u64; 2]> {
        self.sets.sps().and_then(|(_, sps)| sps.size)
    }

    fn cut(&self, unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
        rtp::h265::cut_part(unit, payload_max)
    }
}

#[cfg(test)]
mod tests;
