//! H.264 from RTP packets to access units: [`Assembler`], [`ParameterSets`], [`ProfileLevel`].

mod profile;
mod sets;

use bytes::{Buf, Bytes, BytesMut};

pub use profile::{Profile, ProfileLevel};
pub use sets::ParameterSets;

use super::{
    Part,
    nal::{NalType, annex_b, has_start_code, is_intra_slice},
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
/// A picture ends with the marker or with the next timestamp. Cameras set the marker on parameter
/// sets and supplemental information too, so it counts only once a slice is there. After a loss,
/// pictures are left out up to the next random access point: they would decode to garbage.
///
/// [RFC 6184]: https://datatracker.ietf.org/doc/html/rfc6184
#[derive(Debug)]
pub struct Assembler {
    sets: ParameterSets,
    profile_level: Option<ProfileLevel>,
    unit: Option<Unit>,
    /// The unit that arrives in fragments: its first byte, and what has not been emitted yet.
    fragments: BytesMut,
    in_fragment: bool,
    /// Whether the beginning of that unit was emitted.
    cut: bool,
    waiting_for_key: bool,
    skipped: u64,
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

impl Assembler {
    /// An assembler that knows the parameter sets of the camera's description.
    #[must_use]
    pub fn new(sets: ParameterSets) -> Self {
        Self {
            profile_level: sets.profile_level(),
            sets,
            unit: None,
            fragments: BytesMut::new(),
            in_fragment: false,
            cut: false,
            waiting_for_key: true,
            skipped: 0,
        }
    }

    /// Pictures left out because of losses since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Profile and level as last seen.
    #[must_use]
    pub fn profile_level(&self) -> Option<ProfileLevel> {
        self.profile_level
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
        self.unit.get_or_insert_with(|| Unit {
            time: packet.time,
            head: None,
            nal_units: Vec::with_capacity(4),
            size: 0,
            damaged: packet.lost > 0,
            begun: false,
        });
        self.split(packet.payload);
        if packet.marker && !self.in_fragment && self.has_slice() {
            self.finish(emit);
        }
    }

    fn has_slice(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| {
            unit.begun
                || unit
                    .nal_units
                    .iter()
                    .any(|nal| NalType::of(nal).is_some_and(NalType::is_slice))
                || unit.damaged
        })
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
            self.fragments
                .extend_from_slice(&[indicator & 0xe0 | header & 0x1f]);
            self.in_fragment = true;
            self.cut = false;
        } else if !self.in_fragment {
            // Joined in the middle: the rest of this picture is of no use.
            return self.damage();
        }
        if self.fragments.len() + data.len() > ACCESS_UNIT_MAX {
            return self.damage();
        }
        self.fragments.extend_from_slice(data);
        if end {
            self.in_fragment = false;
            let mut nal = self.fragments.split().freeze();
            if !self.cut {
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
            if random_access {
                self.waiting_for_key = false;
                complete(&mut unit.nal_units, &self.sets);
            }
        }
        unit.begun = true;
        let tail = (under_way > 0).then(|| {
            let header = self.fragments[0];
            let mut rest = BytesMut::from(&[header][..]);
            let mut data = self.fragments.split_to(1 + under_way * full).freeze();
            rest.extend_from_slice(&self.fragments);
            self.fragments = rest;
            data.advance(1);
            let starts = !std::mem::replace(&mut self.cut, true);
            Fragment {
                header,
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
            || unit.nal_units.iter().any(has(NalType::SPS)) && slices.all(|s| is_intra_slice(s));
        if unit.damaged || self.waiting_for_key && !random_access {
            self.skipped += 1;
            return;
        }
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
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    // first_mb 0 (1), slice_type 7 (0001000)
    const IDR: &[u8] = &[0x65, 0b1000_1000, 1, 2, 3];
    // first_mb 0, slice_type 5 (00110): P
    const P: &[u8] = &[0x41, 0b1001_1000, 4, 5];
    const SEI: &[u8] = &[0x06, 5, 1];

    fn packet(time: i64, marker: bool, payload: &[u8]) -> Packet {
        Packet {
            time,
            marker,
            lost: 0,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn knowing_sets() -> Assembler {
        let mut sets = ParameterSets::default();
        sets.keep(&Bytes::from_static(PPS));
        sets.keep(&Bytes::from_static(SPS));
        Assembler::new(sets)
    }

    fn assemble(assembler: &mut Assembler, packets: Vec<Packet>) -> Vec<AccessUnit> {
        let mut units = Vec::new();
        for packet in packets {
            assembler.push(packet, &mut |unit| units.push(unit));
        }
        units
    }

    #[test]
    fn sets_of_the_description_go_before_an_idr_picture_that_lacks_them() {
        let units = assemble(
            &mut knowing_sets(),
            vec![packet(0, true, IDR), packet(1, true, P)],
        );
        assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
        assert!(units[0].random_access);
        assert_eq!(units[1].nal_units, [P]);
    }

    /// Fragments of a slice with `size` bytes after its header, each of 100 bytes.
    fn fragments(time: i64, header: u8, size: usize) -> Vec<Packet> {
        let data: Vec<u8> = (0..size).map(|i| i.to_le_bytes()[0] | 1).collect();
        let count = size.div_ceil(100);
        let parts = data.chunks(100).enumerate();
        parts
            .map(|(i, part)| {
                let start = if i == 0 { 0x80 } else { 0 };
                let end = if i + 1 == count { 0x40 } else { 0 };
                let headers = [header & 0xe0 | 28, start | end | header & 0x1f];
                packet(time, end != 0, &[&headers[..], part].concat())
            })
            .collect()
    }

    #[test]
    fn a_large_picture_is_handed_on_in_parts_that_make_up_the_whole() {
        let mut assembler = knowing_sets();
        let mut units = Vec::new();
        for packet in fragments(0, 0x65, 5_000) {
            assembler.push(packet, &mut |unit| units.push(unit));
            units.extend(assembler.part(10, 102));
        }
        let shape: Vec<_> = units
            .iter()
            .map(|unit| {
                (
                    unit.part.first,
                    unit.part.last,
                    unit.random_access,
                    unit.nal_units.len(),
                )
            })
            .collect();
        assert_eq!(shape[0], (true, false, true, 2));
        assert_eq!(shape[1], (false, false, false, 0));
        assert_eq!(shape.last(), Some(&(false, true, false, 0)));
        assert_eq!(shape.len(), 5);
        let pieces: Vec<_> = units
            .iter()
            .flat_map(|u| u.head.iter().chain(&u.tail))
            .collect();
        assert!(
            pieces
                .iter()
                .all(|piece| piece.header == 0x65 && !piece.data.is_empty())
        );
        let starts: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.starts, piece.ends))
            .collect();
        assert_eq!(starts.first(), Some(&(true, false)));
        assert_eq!(starts.last(), Some(&(false, true)));
        let whole: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.data.iter().copied())
            .collect();
        let sent: Vec<u8> = (0..5_000_usize).map(|i| i.to_le_bytes()[0] | 1).collect();
        assert_eq!(whole, sent);
        let next = assemble(&mut assembler, vec![packet(9, true, P)]);
        assert_eq!(
            (next[0].part, &next[0].nal_units[..]),
            (Part::WHOLE, &[Bytes::from_static(P)][..])
        );
    }

    #[test]
    fn a_loss_in_the_middle_ends_a_picture_of_which_a_part_is_out() {
        let mut assembler = knowing_sets();
        let mut packets = fragments(0, 0x65, 3_000);
        packets[20].lost = 1;
        let mut units = Vec::new();
        for packet in packets
            .into_iter()
            .chain([packet(9, true, P), packet(18, true, IDR)])
        {
            assembler.push(packet, &mut |unit| units.push(unit));
            units.extend(assembler.part(10, 102));
        }
        let shape: Vec<_> = units
            .iter()
            .map(|unit| (unit.time, unit.part.first))
            .collect();
        assert_eq!(shape, [(0, true), (18, true)]);
        assert_eq!(assembler.take_skipped(), 2);
    }

    #[test]
    fn what_cannot_be_decoded_is_not_handed_on_in_parts_either() {
        let mut assembler = knowing_sets();
        for packet in fragments(0, 0x41, 3_000) {
            assembler.push(packet, &mut |unit| panic!("{unit:?}"));
            assert_eq!(assembler.part(1, 102), None);
        }
    }

    #[test]
    fn sets_in_band_are_not_doubled_and_replace_the_known_ones() {
        let new_sps: &[u8] = &[0x67, 0x4d, 0x00, 0x28, 0xda];
        let mut assembler = knowing_sets();
        let units = assemble(
            &mut assembler,
            vec![
                packet(0, false, new_sps),
                packet(0, false, PPS),
                packet(0, true, IDR),
                packet(9, true, IDR),
            ],
        );
        assert_eq!(units[0].nal_units, [new_sps, PPS, IDR]);
        assert_eq!(units[1].nal_units, [new_sps, PPS, IDR]);
        assert_eq!(assembler.profile_level().unwrap().to_string(), "4d0028");
    }

    #[test]
    fn markers_on_parameter_sets_and_on_trailing_information_do_not_cut_a_picture() {
        let units = assemble(
            &mut Assembler::new(ParameterSets::default()),
            vec![
                packet(0, true, SPS),
                packet(0, true, PPS),
                packet(0, true, SEI),
                packet(0, false, IDR),
                packet(0, true, SEI),
                packet(1, false, P),
                packet(1, true, SEI),
            ],
        );
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
    }

    #[test]
    fn a_camera_without_markers_is_cut_at_the_next_timestamp() {
        let units = assemble(
            &mut knowing_sets(),
            vec![
                packet(0, false, IDR),
                packet(1, false, P),
                packet(2, false, P),
            ],
        );
        assert_eq!(units.iter().map(|u| u.time).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn fragments_and_aggregates_give_the_units_they_were_made_of() {
        let aggregate = [&[0x78, 0, 5][..], SPS, &[0, 4], PPS].concat();
        let fragments = [
            [&[0x7c, 0x85][..], &IDR[1..3]].concat(),
            [&[0x7c, 0x45][..], &IDR[3..]].concat(),
        ];
        let units = assemble(
            &mut Assembler::new(ParameterSets::default()),
            vec![
                packet(0, false, &aggregate),
                packet(0, false, &fragments[0]),
                packet(0, true, &fragments[1]),
            ],
        );
        assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
    }

    #[test]
    fn units_with_start_codes_inside_one_are_taken_apart() {
        let together = [SPS, &[0, 0, 0, 1], PPS, &[0, 0, 1], IDR].concat();
        let units = assemble(
            &mut Assembler::new(ParameterSets::default()),
            vec![packet(0, true, &together)],
        );
        assert_eq!(units[0].nal_units, [SPS, PPS, IDR]);
        assert!(units[0].random_access);
    }

    #[test]
    fn after_a_loss_nothing_is_emitted_before_the_next_random_access_point() {
        let mut assembler = knowing_sets();
        let mut lossy = packet(2, true, P);
        lossy.lost = 1;
        let units = assemble(
            &mut assembler,
            vec![
                packet(0, true, IDR),
                packet(1, true, P),
                lossy,
                packet(3, true, P),
                packet(4, true, IDR),
            ],
        );
        assert_eq!(units.iter().map(|u| u.time).collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(assembler.take_skipped(), 2);
    }

    #[test]
    fn an_intra_picture_after_its_sets_is_a_random_access_point() {
        let intra: &[u8] = &[0x41, 0b1000_1000, 9];
        let mut assembler = Assembler::new(ParameterSets::default());
        let units = assemble(
            &mut assembler,
            vec![
                packet(0, true, P),
                packet(1, false, SPS),
                packet(1, false, PPS),
                packet(1, true, intra),
            ],
        );
        assert_eq!(units.len(), 1);
        assert!(units[0].random_access);
    }

    #[test]
    fn hostile_payloads_do_no_harm() {
        let mut assembler = knowing_sets();
        for payload in [
            &[][..],
            &[0x78],
            &[0x78, 0xff, 0xff, 1],
            &[0x7c],
            &[0x7c, 0x45],
            &[0x1f],
            &[0x67],
            &[0x68, 0, 0, 0],
        ] {
            assemble(&mut assembler, vec![packet(0, true, payload)]);
        }
    }
}
