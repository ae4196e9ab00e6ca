//! AAC in RTP as `MP4A-LATM` ([RFC 6416 §6], and [RFC 3016] before it): the elements of LATM
//! (ISO/IEC 14496-3 §1.7) of a packet, or of several.
//!
//! [RFC 6416 §6]: https://datatracker.ietf.org/doc/html/rfc6416#section-6
//! [RFC 3016]: https://datatracker.ietf.org/doc/html/rfc3016

use super::{
    bits::Bits,
    config::{AacConfig, from_hex},
    rfc3640::UNIT_MAX,
};

/// An element is not larger than this: 64 units of usual size.
const ELEMENT_MAX: usize = 64 << 10;

/// What a `StreamMuxConfig` says (ISO/IEC 14496-3 table 1.42): one program of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mux {
    /// What the units are.
    pub(super) config: AacConfig,
    /// Units of an element.
    units: u32,
    /// Bytes of every unit, when they do not begin with their length.
    size: Option<usize>,
    /// Bits behind the units.
    other_bits: usize,
}

impl Mux {
    /// Reads `config=` of a description.
    ///
    /// # Errors
    /// What it is, when it is not decoded.
    pub(super) fn parse(hex: &str) -> Result<Self, String> {
        let bytes = from_hex(hex).ok_or("AAC with a configuration that is no number")?;
        Self::read(&mut Bits::new(&bytes))
    }

    fn read(bits: &mut Bits<'_>) -> Result<Self, String> {
        let cut = || "AAC with a LATM configuration that is cut short".to_owned();
        let odd = |what: &str| Err(format!("AAC in LATM with {what}"));
        let is_version_1 = bits.flag().ok_or_else(cut)?;
        if is_version_1 && bits.flag().ok_or_else(cut)? {
            return odd("an unknown version");
        }
        if is_version_1 {
            let _fullness = value(bits).ok_or_else(cut)?;
        }
        let is_same_framing = bits.flag().ok_or_else(cut)?;
        let units = bits.read(6).ok_or_else(cut)? + 1;
        if bits.read(4).ok_or_else(cut)? != 0
            || bits.read(3).ok_or_else(cut)? != 0
            || !is_same_framing
        {
            return odd("several programs or layers");
        }
        let config = if is_version_1 {
            let length = value(bits).ok_or_else(cut)? as usize;
            let begin = bits.position();
            let config = AacConfig::read(bits)?;
            let used = bits.position() - begin;
            bits.skip(length.checked_sub(used).ok_or_else(cut)?)
                .ok_or_else(cut)?;
            config
        } else {
            AacConfig::read(bits)?
        };
        let size = match bits.read(3).ok_or_else(cut)? {
            0 => {
                // GStreamer's ends within this.
                let _fullness = bits.read(8);
                None
            }
            1 => Some(bits.read(9).ok_or_else(cut)? as usize + 20),
            _ => return odd("units that are no AAC"),
        };
        let mut mux = Self {
            config,
            units,
            size,
            other_bits: 0,
        };
        // Cameras leave out what follows, when there is none of it.
        mux.rest(bits, is_version_1);
        Ok(mux)
    }

    fn rest(&mut self, bits: &mut Bits<'_>, is_version_1: bool) -> Option<()> {
        if bits.flag()? {
            self.other_bits = if is_version_1 {
                value(bits)? as usize
            } else {
                let mut length = 0_usize;
                loop {
                    let goes_on = bits.flag()?;
                    length = length << 8 | bits.read(8)? as usize;
                    if !goes_on {
                        break length;
                    }
                }
            };
        }
        if bits.flag()? {
            bits.skip(8)?;
        }
        Some(())
    }
}

/// `LatmGetValue` (ISO/IEC 14496-3 table 1.43).
fn value(bits: &mut Bits<'_>) -> Option<u32> {
    let bytes = bits.read(2)? as usize + 1;
    bits.read(8 * bytes)
}

/// Takes packets apart, and puts elements of several packets together.
#[derive(Debug)]
pub(super) struct Depacketizer {
    /// Whether each element may begin with a configuration of its own: `cpresent`.
    is_in_band: bool,
    mux: Option<Mux>,
    element: Vec<u8>,
    unit: Vec<u8>,
}

impl Depacketizer {
    /// With the configuration of the description, if it has one.
    pub(super) fn new(mux: Option<Mux>, is_in_band: bool) -> Self {
        Self {
            is_in_band,
            mux,
            element: Vec::new(),
            unit: Vec::new(),
        }
    }

    /// What has begun is without its end.
    pub(super) fn interrupt(&mut self) {
        self.element.clear();
    }

    /// Takes the payload of a packet, the last one of its element if `marker` is set, and gives each unit
    /// of an element with its number in it and what it is.
    pub(super) fn push(
        &mut self,
        payload: &[u8],
        marker: bool,
        unit: impl FnMut(usize, AacConfig, &[u8]),
    ) {
        if self.element.len() + payload.len() > ELEMENT_MAX {
            self.interrupt();
            return;
        }
        self.element.extend_from_slice(payload);
        if marker {
            let element = std::mem::take(&mut self.element);
            self.units(&element, unit);
            self.element = element;
            self.element.clear();
        }
    }

    /// Gives the units of an element as far as it goes.
    fn units(
        &mut self,
        element: &[u8],
        mut unit: impl FnMut(usize, AacConfig, &[u8]),
    ) -> Option<()> {
        let mut bits = Bits::new(element);
        let mut number = 0;
        // RFC 6416 §6.1: one element in a packet. Some senders put more there.
        while bits.left() >= 16 {
            if self.is_in_band && !bits.flag()? {
                self.mux = Mux::read(&mut bits).ok();
            }
            let mux = self.mux?;
            for _ in 0..mux.units {
                let size = match mux.size {
                    Some(size) => size,
                    None => length(&mut bits)?,
                };
                if size > UNIT_MAX {
                    return None;
                }
                self.unit.clear();
                bits.copy(size, &mut self.unit)?;
                unit(number, mux.config, &self.unit);
                number += 1;
            }
            bits.skip(mux.other_bits)?;
            bits.align();
        }
        Some(())
    }
}

/// `PayloadLengthInfo` (ISO/IEC 14496-3 table 1.44): bytes that are 255 are followed by another.
fn length(bits: &mut Bits<'_>) -> Option<usize> {
    let mut length = 0;
    loop {
        let part = bits.read(8)? as usize;
        length += part;
        if part != 255 {
            return Some(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Channels;
    use super::*;

    /// As servers describe them.
    const CONFIGS: [(&str, u32, Channels); 4] = [
        // Of GStreamer: it says behind the configuration that there is nothing more.
        ("40002810adca00", 16_000, Channels::Mono),
        ("400026203fc0", 24_000, Channels::Stereo),
        ("400024203fc0", 44_100, Channels::Stereo),
        ("400028103fc0", 16_000, Channels::Mono),
    ];

    /// Bits of groups of 0 and 1 as bytes.
    fn bytes(groups: &[&str]) -> Vec<u8> {
        let mut bits = groups.concat();
        bits.retain(|c| c != ' ');
        while bits.len() % 8 != 0 {
            bits.push('0');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    /// Version 0, same framing, one unit, one program, one layer; AAC-LC, 16 kHz, mono; length in band.
    const MUX: &str = "0 1 000000 0000 000 00010 1000 0001 000 000 11111111 0 0";

    fn units(depacketizer: &mut Depacketizer, payload: &[u8], marker: bool) -> Vec<Vec<u8>> {
        let mut units = Vec::new();
        depacketizer.push(payload, marker, |_, _, unit| units.push(unit.to_vec()));
        units
    }

    #[test]
    fn configurations_of_descriptions_are_read() {
        for (hex, rate, channels) in CONFIGS {
            let mux = Mux::parse(hex).unwrap();
            assert_eq!(
                (mux.config.rate, mux.config.channels),
                (rate, channels),
                "{hex}"
            );
            assert_eq!((mux.units, mux.size), (1, None));
        }
        assert!(Mux::parse("40002810").unwrap_err().contains("cut short"));
        assert!(Mux::parse("c0").unwrap_err().contains("version"));
        let many = bytes(&["0 1 000000 0001 000 00010 1000 0001 000 000 11111111 0 0"]);
        assert!(
            Mux::read(&mut Bits::new(&many))
                .unwrap_err()
                .contains("programs")
        );
    }

    #[test]
    fn several_units_and_lengths_above_255_are_read() {
        let mux = bytes(&["0 1 000001 0000 000 00010 1000 0001 000 000 11111111 0 0"]);
        let mux = Mux::read(&mut Bits::new(&mux)).unwrap();
        let mut depacketizer = Depacketizer::new(Some(mux), false);
        let long = [7; 260];
        let element = [&[2, 1, 2, 255, 5][..], &long].concat();
        let (begin, end) = element.split_at(100);
        assert!(units(&mut depacketizer, begin, false).is_empty());
        assert_eq!(
            units(&mut depacketizer, end, true),
            [vec![1, 2], long.to_vec()]
        );
        // Its beginning is lost: nothing of the rest is used.
        depacketizer.interrupt();
        assert!(units(&mut depacketizer, &element[..200], true).len() < 2);
    }

    #[test]
    fn a_configuration_in_band_holds_until_the_next() {
        let mut depacketizer = Depacketizer::new(None, true);
        let same = bytes(&["1", "00000010", "10101010 11110000"]);
        assert!(units(&mut depacketizer, &same, true).is_empty());
        let first = bytes(&["0", MUX, "00000010", "10101010 11110000"]);
        assert_eq!(units(&mut depacketizer, &first, true), [vec![0xaa, 0xf0]]);
        assert_eq!(units(&mut depacketizer, &same, true), [vec![0xaa, 0xf0]]);
    }
}
