//! AAC in RTP as `mpeg4-generic` ([RFC 3640]): access units of a packet, and of several.
//!
//! [RFC 3640]: https://datatracker.ietf.org/doc/html/rfc3640

use super::bits::Bits;

/// Access units larger than this are no sound: 6144 bits for each of two channels are the most that
/// AAC allows (ISO/IEC 14496-3 §4.5.3), and no camera comes near.
pub(super) const UNIT_MAX: usize = 8 << 10;
/// Access units of one packet that are looked at.
const UNITS_MAX: usize = 64;

/// Lengths in bits of the fields of an AU header ([RFC 3640 §4.1], the parameters of `a=fmtp`).
///
/// [RFC 3640 §4.1]: https://datatracker.ietf.org/doc/html/rfc3640#section-4.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuHeader {
    pub(super) size: usize,
    pub(super) index: usize,
    pub(super) index_delta: usize,
    pub(super) cts_delta: usize,
    pub(super) dts_delta: usize,
    pub(super) random_access: bool,
    pub(super) stream_state: usize,
    pub(super) auxiliary_size: usize,
    /// Bytes of every unit, when headers do not tell.
    pub(super) constant_size: usize,
}

impl AuHeader {
    /// High bit-rate AAC, which nearly all cameras send: also what is taken of one that does not say.
    pub(super) const HIGH_RATE: Self = Self {
        size: 13,
        index: 3,
        index_delta: 3,
        cts_delta: 0,
        dts_delta: 0,
        random_access: false,
        stream_state: 0,
        auxiliary_size: 0,
        constant_size: 0,
    };
    /// Low bit-rate AAC, with units of 63 bytes at most.
    const LOW_RATE: Self = Self {
        size: 6,
        index: 2,
        index_delta: 2,
        ..Self::HIGH_RATE
    };

    /// By the parameters of a format.
    ///
    /// # Errors
    /// What it is, when it is not read.
    pub(super) fn from<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let mode = parameter("mode").unwrap_or("AAC-hbr");
        // LIVE555 has been seen to write `AAC_hbr`.
        let base = match mode.to_ascii_lowercase().replace('_', "-").as_str() {
            "aac-hbr" => Self::HIGH_RATE,
            "aac-lbr" => Self::LOW_RATE,
            "generic" => Self {
                size: 0,
                index: 0,
                index_delta: 0,
                ..Self::HIGH_RATE
            },
            _ => return Err(format!("AAC in the mode {mode:?}")),
        };
        let number = |name: &str, otherwise: usize| match parameter(name).map(str::parse) {
            None => Ok(otherwise),
            Some(Ok(bits @ 0..=32)) => Ok(bits),
            Some(_) => Err(format!("AAC with a strange {name}")),
        };
        let constant_size = match parameter("constantsize").map(str::parse) {
            None => 0,
            Some(Ok(bytes @ 0..=UNIT_MAX)) => bytes,
            Some(_) => return Err("AAC with a strange constantsize".to_owned()),
        };
        let header = Self {
            size: if constant_size > 0 {
                0
            } else {
                number("sizelength", base.size)?
            },
            index: number("indexlength", base.index)?,
            index_delta: number("indexdeltalength", base.index_delta)?,
            cts_delta: number("ctsdeltalength", 0)?,
            dts_delta: number("dtsdeltalength", 0)?,
            random_access: number("randomaccessindication", 0)? > 0,
            stream_state: number("streamstateindication", 0)?,
            auxiliary_size: number("auxiliarydatasizelength", 0)?,
            constant_size,
        };
        Ok(header)
    }

    /// Whether packets begin with a section of headers.
    fn is_present(self) -> bool {
        self.size
            + self.index
            + self.index_delta
            + self.cts_delta
            + self.dts_delta
            + self.stream_state
            > 0
            || self.random_access
    }

    /// The size in the next header, or what it is without one.
    fn read(self, bits: &mut Bits<'_>, is_first: bool) -> Option<usize> {
        let size = match self.size {
            0 => self.constant_size,
            length => bits.read(length)? as usize,
        };
        bits.skip(if is_first {
            self.index
        } else {
            self.index_delta
        })?;
        // The first unit's time is the packet's.
        if self.cts_delta > 0 && bits.flag()? {
            bits.skip(self.cts_delta)?;
        }
        if self.dts_delta > 0 && bits.flag()? {
            bits.skip(self.dts_delta)?;
        }
        bits.skip(usize::from(self.random_access) + self.stream_state)?;
        Some(size)
    }
}

/// Takes packets apart, and puts units of several packets together.
#[derive(Debug)]
pub(super) struct Depacketizer {
    header: AuHeader,
    /// The beginning of a unit that fills several packets, and the size of the whole.
    fragments: Vec<u8>,
    wanted: usize,
}

impl Depacketizer {
    pub(super) fn new(header: AuHeader) -> Self {
        Self {
            header,
            fragments: Vec::new(),
            wanted: 0,
        }
    }

    /// What has begun is without its end.
    pub(super) fn interrupt(&mut self) {
        self.fragments.clear();
        self.wanted = 0;
    }

    /// Takes the payload of a packet, and gives each whole unit with its number in the packet. Units are
    /// taken in the order in which they stand there: no camera interleaves them.
    pub(super) fn push(&mut self, payload: &[u8], mut unit: impl FnMut(usize, &[u8])) {
        let Some((mut headers, mut data)) = self.sections(payload) else {
            self.interrupt();
            return;
        };
        for number in 0..UNITS_MAX {
            if data.is_empty() {
                return;
            }
            let size = if self.header.is_present() {
                match self.header.read(&mut headers, number == 0) {
                    Some(size) => size,
                    None => break,
                }
            } else {
                self.header.constant_size
            };
            // Without any size the packet is one unit.
            let size = if self.header.size + self.header.constant_size == 0 {
                data.len()
            } else {
                size
            };
            if !self.fragments.is_empty() {
                self.join(size, data, &mut unit);
                return;
            }
            match data.split_at_checked(size) {
                Some((whole, rest)) => {
                    unit(number, without_adts(whole));
                    data = rest;
                }
                // Only a unit that is alone in its packet may be continued.
                None if number == 0 && size <= UNIT_MAX => {
                    self.fragments.extend_from_slice(data);
                    self.wanted = size;
                    return;
                }
                None => return,
            }
        }
    }

    fn join(&mut self, size: usize, data: &[u8], unit: &mut impl FnMut(usize, &[u8])) {
        if size != self.wanted || self.fragments.len() + data.len() > size {
            self.interrupt();
            return;
        }
        self.fragments.extend_from_slice(data);
        if self.fragments.len() == size {
            unit(0, without_adts(&self.fragments));
            self.interrupt();
        }
    }

    /// The headers of a packet, and what follows them.
    fn sections<'p>(&self, payload: &'p [u8]) -> Option<(Bits<'p>, &'p [u8])> {
        let mut rest = payload;
        let mut headers = Bits::new(&[]);
        if self.header.is_present() {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            // Some cameras count the two bytes of the length too, or in bytes; the field is in bits.
            let bytes = usize::from(u16::from_be_bytes(*length)).div_ceil(8);
            let (section, behind) = behind.split_at_checked(bytes)?;
            headers = Bits::new(section);
            rest = behind;
        }
        if self.header.auxiliary_size > 0 {
            let mut auxiliary = Bits::new(rest);
            let bits = auxiliary.read(self.header.auxiliary_size)?;
            auxiliary.skip(bits as usize)?;
            auxiliary.align();
            rest = rest.get(auxiliary.position() / 8..)?;
        }
        Some((headers, rest))
    }
}

/// A unit without the ADTS header (ISO/IEC 13818-7 §6.2) that some cameras leave in front of it. No unit
/// begins like that by itself: it would say that it ends there.
fn without_adts(unit: &[u8]) -> &[u8] {
    match unit {
        [0xff, second, ..] if second & 0xf6 == 0xf0 => {
            let header = if second & 1 == 1 { 7 } else { 9 };
            unit.get(header..).unwrap_or_default()
        }
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(fmtp: &[(&str, &'static str)]) -> Result<AuHeader, String> {
        AuHeader::from(|name| {
            fmtp.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        })
    }

    fn units(depacketizer: &mut Depacketizer, payload: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut units = Vec::new();
        depacketizer.push(payload, |number, unit| units.push((number, unit.to_vec())));
        units
    }

    #[test]
    fn several_units_of_a_packet_are_told_apart() {
        let mut high = Depacketizer::new(header(&[("mode", "AAC-hbr")]).unwrap());
        let packet = [0, 32, 0, 3 << 3, 0, 2 << 3, 1, 2, 3, 4, 5];
        assert_eq!(
            units(&mut high, &packet),
            [(0, vec![1, 2, 3]), (1, vec![4, 5])]
        );
        let mut low = Depacketizer::new(header(&[("mode", "AAC-lbr")]).unwrap());
        let packet = [0, 16, 3 << 2, 2 << 2, 1, 2, 3, 4, 5];
        assert_eq!(
            units(&mut low, &packet),
            [(0, vec![1, 2, 3]), (1, vec![4, 5])]
        );
    }

    #[test]
    fn lengths_of_fields_are_those_of_the_description() {
        let fields = [
            ("sizelength", "16"),
            ("indexlength", "0"),
            ("indexdeltalength", "0"),
            ("ctsdeltalength", "4"),
            ("randomaccessindication", "1"),
            ("auxiliarydatasizelength", "8"),
        ];
        let mut other = Depacketizer::new(header(&fields).unwrap());
        // Size 2, a CTS delta of 4 bits, random access; size 1 without the delta; then 3 bits of auxiliary data.
        let packet = [
            0,
            40,
            0,
            2,
            0b1101_0100,
            0b0000_0000,
            0b0000_0100,
            3,
            0b1010_0000,
            7,
            8,
            9,
        ];
        assert_eq!(units(&mut other, &packet)[0], (0, vec![7, 8]));
        let mut constant =
            Depacketizer::new(header(&[("mode", "generic"), ("constantsize", "2")]).unwrap());
        assert_eq!(
            units(&mut constant, &[1, 2, 3, 4]),
            [(0, vec![1, 2]), (1, vec![3, 4])]
        );
        assert!(
            header(&[("mode", "CELP-cbr")])
                .unwrap_err()
                .contains("CELP-cbr")
        );
        assert!(
            header(&[("sizelength", "99")])
                .unwrap_err()
                .contains("sizelength")
        );
    }

    #[test]
    fn a_unit_of_several_packets_is_put_together_unless_a_part_is_missing() {
        let mut depacketizer = Depacketizer::new(AuHeader::HIGH_RATE);
        let part = |bytes: &[u8]| [&[0, 16, 0, 5 << 3], bytes].concat();
        assert!(units(&mut depacketizer, &part(&[1, 2])).is_empty());
        assert_eq!(
            units(&mut depacketizer, &part(&[3, 4, 5])),
            [(0, vec![1, 2, 3, 4, 5])]
        );
        assert!(units(&mut depacketizer, &part(&[1, 2])).is_empty());
        depacketizer.interrupt();
        assert!(units(&mut depacketizer, &part(&[3, 4])).is_empty());
        // Too much of it: nothing of that is used, and the next is whole again.
        assert!(units(&mut depacketizer, &part(&[3, 4, 5, 6])).is_empty());
        assert_eq!(units(&mut depacketizer, &part(&[1, 2, 3, 4, 5])).len(), 1);
    }

    #[test]
    fn an_adts_header_in_front_is_taken_off() {
        let mut depacketizer = Depacketizer::new(AuHeader::HIGH_RATE);
        let packet = [
            0,
            16,
            0,
            9 << 3,
            0xff,
            0xf1,
            0x60,
            0x40,
            1,
            0x3f,
            0xfc,
            0x21,
            0x17,
        ];
        assert_eq!(units(&mut depacketizer, &packet), [(0, vec![0x21, 0x17])]);
    }
}
