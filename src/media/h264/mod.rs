//! What is particular to H.264: [`ParameterSets`], [`ProfileLevel`], and [`H264`] for the assembler.

mod order;
mod profile;
mod sets;

use bytes::{Buf, Bytes};

pub use profile::{Profile, ProfileLevel};
pub use sets::ParameterSets;

use self::order::Order;
use super::{
    Codec,
    assembler::{AccessUnit, Coding, Payload, Reordered, Role},
    nal::{NalType, SliceType},
    rtp,
    still::picture_size,
};

/// What is known of an H.264 stream.
#[derive(Debug, Default)]
pub struct H264 {
    sets: ParameterSets,
    order: Order,
}

impl From<ParameterSets> for Box<dyn Coding> {
    fn from(sets: ParameterSets) -> Self {
        Box::new(H264 {
            sets,
            order: Order::default(),
        })
    }
}

impl Coding for H264 {
    fn codec(&self) -> Codec {
        Codec::H264(self.sets.profile_level())
    }

    fn header_bytes(&self) -> usize {
        1
    }

    fn role(&self, nal: &[u8]) -> Option<Role> {
        match NalType::of(nal)? {
            kind if kind.is_slice() => Some(Role::Slice),
            NalType::SPS | NalType::PPS => Some(Role::Set),
            _ => None,
        }
    }

    fn unpack(&self, mut payload: Bytes) -> Payload {
        match payload.first().map(|byte| byte & 0x1f) {
            Some(1..=23) => Payload::Unit(payload),
            // STAP-A, RFC 6184 §5.7.1: 16 bit lengths.
            Some(24) => {
                payload.advance(1);
                Payload::Aggregate(payload, 0)
            }
            // FU-A, RFC 6184 §5.8.
            Some(28) => match payload[..] {
                [indicator, header, ..] => Payload::Piece {
                    header: [indicator & 0xe0 | header & 0x1f, 0],
                    data: payload.slice(2..),
                    starts: header & 0x80 != 0,
                    ends: header & 0x40 != 0,
                },
                _ => Payload::Broken,
            },
            // Interleaved mode, which nobody negotiates, and reserved types.
            _ => Payload::Other,
        }
    }

    fn begins_picture(&self, nal: &[u8]) -> Option<bool> {
        match nal {
            // The first slice has macroblock 0, which is a 1 bit.
            [kind, header, ..] if matches!(kind & 0x1f, 1 | 2 | 5) => Some(header & 0x80 != 0),
            _ => None,
        }
    }

    fn keep_set(&mut self, nal: &Bytes) {
        self.sets.keep(nal);
    }

    fn random_access(&self, units: &mut dyn Iterator<Item = &[u8]>, whole: bool) -> Option<bool> {
        let (mut has_sps, mut is_intra) = (false, true);
        for nal in units {
            match NalType::of(nal) {
                Some(NalType::IDR) => return Some(true),
                Some(NalType::SPS) => has_sps = true,
                Some(kind) if kind.is_slice() => {
                    is_intra &= SliceType::of(nal) == Some(SliceType::I);
                }
                _ => {}
            }
        }
        // Cameras that never send an IDR picture refresh with an intra picture after its sets.
        match (has_sps, whole) {
            (false, _) => Some(false),
            (true, true) => Some(is_intra),
            (true, false) => None,
        }
    }

    fn complete(&self, units: &mut Vec<Bytes>) {
        let has = |wanted| units.iter().any(|nal| NalType::of(nal) == Some(wanted));
        let (has_sps, has_pps) = (has(NalType::SPS), has(NalType::PPS));
        let mut front = Vec::new();
        if !has_sps {
            front.extend(self.sets.of_type(NalType::SPS).cloned());
        }
        if !has_pps {
            front.extend(self.sets.of_type(NalType::PPS).cloned());
        }
        let at = usize::from(has_sps && !has_pps);
        units.splice(at..at, front);
    }

    fn leaves_out(&self, time: i64, first_slice: &[u8]) -> bool {
        self.order.leaves_out(time, first_slice)
    }

    fn keep(&mut self, time: i64, _: &[u8]) {
        self.order.keep(time);
    }

    fn leave_out(&mut self, first_slice: &[u8]) {
        self.order.leave_out(first_slice);
    }

    fn reordered(&self) -> Reordered {
        self.order.seen()
    }

    fn picture_size(&self) -> Option<[u64; 2]> {
        let mut sets = self.sets.of_type(NalType::SPS);
        sets.find_map(|sps| picture_size(sps))
    }

    fn cut(&self, unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]> {
        rtp::h264::cut_part(unit, payload_max)
    }
}

#[cfg(test)]
mod tests;
