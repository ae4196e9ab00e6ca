//! H.264 from RTP packets to access units: [`Assembler`], [`ParameterSets`], [`ProfileLevel`].

use std::{fmt, str::FromStr};

use bytes::{Buf, Bytes, BytesMut};

use super::nal::NalType;

/// Profile and level as three bytes of a sequence parameter set: `profile-level-id`
/// ([RFC 6184 §8.1]).
///
/// [RFC 6184 §8.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-8.1
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevel(pub [u8; 3]);

/// A set of coding tools; which profiles share one is table 5 of [RFC 6184 §8.1].
///
/// [RFC 6184 §8.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-8.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// What every browser decodes.
    ConstrainedBaseline,
    /// Baseline with its error resilience tools.
    Baseline,
    /// Main, with B pictures and CABAC.
    Main,
    /// High and its progressive subsets.
    High,
    /// Anything else, such as 10 bit or 4:4:4.
    Other,
}

impl Profile {
    /// As data sheets and camera menus call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "Constrained Baseline",
            Self::Baseline => "Baseline",
            Self::Main => "Main",
            Self::High => "High",
            Self::Other => "a professional profile",
        }
    }

    /// Whether a decoder of this profile decodes a stream of `other`.
    #[must_use]
    pub fn decodes(self, other: Self) -> bool {
        self == other
            || match self {
                Self::High => matches!(other, Self::ConstrainedBaseline | Self::Main),
                Self::Main | Self::Baseline => other == Self::ConstrainedBaseline,
                Self::ConstrainedBaseline | Self::Other => false,
            }
    }
}

impl ProfileLevel {
    /// Of a sequence parameter set NAL unit; none if it is too short.
    #[must_use]
    pub fn of_sps(sps: &[u8]) -> Option<Self> {
        Some(Self(sps.get(1..4)?.try_into().ok()?))
    }

    /// The coding tools that a stream of this kind may use.
    #[must_use]
    pub fn profile(self) -> Profile {
        let Self([idc, constraints, _]) = self;
        let set = |n: u8| constraints & (0x80 >> n) != 0;
        match idc {
            66 if set(1) => Profile::ConstrainedBaseline,
            66 => Profile::Baseline,
            77 if set(0) => Profile::ConstrainedBaseline,
            77 => Profile::Main,
            88 if set(0) && set(1) => Profile::ConstrainedBaseline,
            100 => Profile::High,
            _ => Profile::Other,
        }
    }
}

impl fmt::Display for ProfileLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}

impl fmt::Debug for ProfileLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProfileLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = u32::from_str_radix(text, 16).map_err(|_| ())?;
        let [0, bytes @ ..] = number.to_be_bytes() else {
            return Err(());
        };
        (text.len() == 6).then_some(Self(bytes)).ok_or(())
    }
}

/// The parameter sets last seen, to be put before each random access point that lacks them.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sets: Vec<Bytes>,
}

/// More than any camera uses; a hostile one could send 256 picture parameter sets.
const SETS_MAX: usize = 32;

impl ParameterSets {
    /// Keeps `nal` if it is a parameter set, in place of the one with its number.
    pub fn keep(&mut self, nal: &Bytes) {
        let Some(identity) = set_identity(nal) else {
            return;
        };
        let known = self
            .sets
            .iter()
            .position(|known| set_identity(known) == Some(identity));
        // Copies, so that a few bytes do not hold a whole network buffer alive.
        match known {
            Some(at) if self.sets[at] == nal => {}
            Some(at) => self.sets[at] = Bytes::copy_from_slice(nal),
            None if self.sets.len() < SETS_MAX => {
                self.sets.push(Bytes::copy_from_slice(nal));
                self.sets.sort_by_key(|set| set_identity(set));
            }
            None => {}
        }
    }

    /// Profile and level of the first sequence parameter set.
    #[must_use]
    pub fn profile_level(&self) -> Option<ProfileLevel> {
        self.of_type(NalType::SPS)
            .next()
            .and_then(|sps| ProfileLevel::of_sps(sps))
    }

    fn of_type(&self, wanted: NalType) -> impl Iterator<Item = &Bytes> {
        self.sets
            .iter()
            .filter(move |set| NalType::of(set) == Some(wanted))
    }
}

/// Type and number of a parameter set; none for other NAL units and broken ones.
fn set_identity(nal: &[u8]) -> Option<(u8, u32)> {
    match NalType::of(nal)? {
        NalType::SPS => Some((7, unsigned_exp_golomb(nal.get(4..)?, &mut 0)?)),
        NalType::PPS => Some((8, unsigned_exp_golomb(nal.get(1..)?, &mut 0)?)),
        _ => None,
    }
}

/// Reads `ue(v)` of H.264 §9.1 at bit position `at` and moves it on.
fn unsigned_exp_golomb(data: &[u8], at: &mut usize) -> Option<u32> {
    let mut bit = || {
        let byte = data.get(*at / 8)?;
        let bit = (byte >> (7 - *at % 8)) & 1;
        *at += 1;
        Some(u32::from(bit))
    };
    let mut zeros = 0;
    while bit()? == 0 {
        zeros += 1;
        if zeros > 20 {
            return None;
        }
    }
    let mut value = 1;
    for _ in 0..zeros {
        value = value << 1 | bit()?;
    }
    Some(value - 1)
}

/// Whether a slice is coded without reference to other pictures (H.264 table 7-6: 2, 4, 7, 9).
fn is_intra_slice(nal: &[u8]) -> bool {
    let mut at = 8;
    let _first_macroblock = unsigned_exp_golomb(nal, &mut at);
    matches!(unsigned_exp_golomb(nal, &mut at), Some(2 | 4 | 7 | 9))
}

/// One coded picture: what has one timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// The camera's RTP time, unwrapped to 64 bits.
    pub time: i64,
    /// Whether decoding can begin here; then its parameter sets are in front.
    pub random_access: bool,
    /// Without delimiters, filler and supplemental information.
    pub nal_units: Vec<Bytes>,
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
    unit: Option<Unit>,
    fragments: BytesMut,
    in_fragment: bool,
    waiting_for_key: bool,
    skipped: u64,
}

#[derive(Debug)]
struct Unit {
    time: i64,
    nal_units: Vec<Bytes>,
    size: usize,
    damaged: bool,
}

/// Largest access unit, in bytes. A 4K key frame of a good camera has about 1 MB.
const ACCESS_UNIT_MAX: usize = 4 << 20;

impl Assembler {
    /// An assembler that knows the parameter sets of the camera's description.
    #[must_use]
    pub fn new(sets: ParameterSets) -> Self {
        Self {
            sets,
            unit: None,
            fragments: BytesMut::new(),
            in_fragment: false,
            waiting_for_key: true,
            skipped: 0,
        }
    }

    /// Pictures left out because of losses since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
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
        self.unit.get_or_insert_with(|| Unit {
            time: packet.time,
            nal_units: Vec::with_capacity(4),
            size: 0,
            damaged: packet.lost > 0,
        });
        self.split(packet.payload);
        if packet.marker && !self.in_fragment && self.has_slice() {
            self.finish(emit);
        }
    }

    fn has_slice(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| {
            unit.nal_units
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
            self.fragments.clear();
            self.fragments
                .extend_from_slice(&[indicator & 0xe0 | header & 0x1f]);
            self.in_fragment = true;
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
            let nal = self.fragments.split().freeze();
            self.add(nal);
        }
    }

    fn add(&mut self, nal: Bytes) {
        let Some(kind) = NalType::of(&nal) else {
            return;
        };
        self.sets.keep(&nal);
        let Some(unit) = &mut self.unit else { return };
        unit.size += nal.len();
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
        let has = |wanted| move |nal: &Bytes| NalType::of(nal) == Some(wanted);
        let mut slices = unit
            .nal_units
            .iter()
            .filter(|nal| NalType::of(nal).is_some_and(NalType::is_slice))
            .peekable();
        let sps_in_band = unit.nal_units.iter().any(has(NalType::SPS));
        let pps_in_band = unit.nal_units.iter().any(has(NalType::PPS));
        if slices.peek().is_none() && !unit.damaged {
            // Parameter sets alone: kept, and put before the next random access point.
            return;
        }
        // Cameras that never send an IDR picture refresh with an intra picture after its sets.
        let random_access = unit.nal_units.iter().any(has(NalType::IDR))
            || sps_in_band && slices.all(|s| is_intra_slice(s));
        if unit.damaged || self.waiting_for_key && !random_access {
            self.skipped += 1;
            return;
        }
        self.waiting_for_key = false;
        if random_access {
            let mut front = Vec::new();
            if !sps_in_band {
                front.extend(self.sets.of_type(NalType::SPS).cloned());
            }
            if !pps_in_band {
                front.extend(self.sets.of_type(NalType::PPS).cloned());
            }
            let at = usize::from(sps_in_band && !pps_in_band);
            unit.nal_units.splice(at..at, front);
        }
        emit(AccessUnit {
            time: unit.time,
            random_access,
            nal_units: unit.nal_units,
        });
    }
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
        assert_eq!(
            assembler
                .parameter_sets()
                .profile_level()
                .unwrap()
                .to_string(),
            "4d0028"
        );
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

    #[test]
    fn profiles_are_told_apart_by_their_constraints() {
        let profile = |text: &str| text.parse::<ProfileLevel>().unwrap().profile();
        assert_eq!(profile("42e01f"), Profile::ConstrainedBaseline);
        assert_eq!(profile("42001f"), Profile::Baseline);
        assert_eq!(profile("4d001f"), Profile::Main);
        assert_eq!(profile("64001f"), Profile::High);
        assert_eq!(profile("f4001f"), Profile::Other);
        assert!(Profile::High.decodes(Profile::Main) && !Profile::Main.decodes(Profile::High));
        assert!("42e0".parse::<ProfileLevel>().is_err());
    }
}
