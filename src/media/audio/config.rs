//! [`AacConfig`]: what an `AudioSpecificConfig` ([ISO/IEC 14496-3 §1.6.2.1]) says, as far as we decode it.
//!
//! [ISO/IEC 14496-3 §1.6.2.1]: https://www.iso.org/standard/76383.html

use super::{Channels, bits::Bits};

/// Sampling rates by their index (ISO/IEC 14496-3 table 1.18).
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Says that the rate follows in 24 bits.
const EXPLICIT_RATE: u32 = 15;

/// Audio object types (ISO/IEC 14496-3 table 1.17).
const LOW_COMPLEXITY: u32 = 2;
const SPECTRAL_BAND_REPLICATION: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;
const ESCAPE: u32 = 31;

/// Begins what extends a configuration, and what of it is about stereo (`syncExtensionType`).
const EXTENSION: u32 = 0x2b7;
const STEREO_EXTENSION: u32 = 0x548;

/// Samples that an access unit gives for each channel.
pub(super) const FRAME: usize = 1024;

/// AAC-LC, or the low-complexity core of HE-AAC, which has half the rate and no high tones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// Samples per second of the core.
    pub rate: u32,
    /// One or two.
    pub channels: Channels,
    /// Whether the camera sends more than the core.
    pub is_extended: bool,
}

impl AacConfig {
    /// Reads a configuration and what extends it, and nothing behind that.
    ///
    /// # Errors
    /// What it is, when it is not decoded.
    pub(super) fn read(bits: &mut Bits<'_>) -> Result<Self, String> {
        let cut = || "AAC with a configuration that is cut short".to_owned();
        let mut object = object_type(bits).ok_or_else(cut)?;
        let rate = sampling_rate(bits).ok_or_else(cut)?;
        let layout = bits.read(4).ok_or_else(cut)?;
        let mut is_extended = matches!(object, SPECTRAL_BAND_REPLICATION | PARAMETRIC_STEREO);
        if is_extended {
            let _full_rate = sampling_rate(bits).ok_or_else(cut)?;
            object = object_type(bits).ok_or_else(cut)?;
        }
        if object != LOW_COMPLEXITY {
            return Err(format!("AAC of object type {object}, which is not AAC-LC"));
        }
        let is_short = bits.flag().ok_or_else(cut)?;
        if bits.flag().ok_or_else(cut)? {
            // The delay of a core coder.
            bits.skip(14).ok_or_else(cut)?;
        }
        let _extension = bits.flag().ok_or_else(cut)?;
        is_extended |= extension(bits);
        if is_short {
            return Err("AAC with 960 samples in a frame".to_owned());
        }
        let channels = match layout {
            1 => Channels::Mono,
            2 => Channels::Stereo,
            0 => return Err("AAC with channels of its own order".to_owned()),
            6 => return Err("AAC with 5.1 channels".to_owned()),
            7 => return Err("AAC with 7.1 channels".to_owned()),
            other => return Err(format!("AAC with {other} channels")),
        };
        Self::new(rate, channels, is_extended)
    }

    /// The configuration in hexadecimal digits, as `config=` has it ([RFC 3640 §4.1]).
    ///
    /// # Errors
    /// What it is, when it is not decoded.
    ///
    /// [RFC 3640 §4.1]: https://datatracker.ietf.org/doc/html/rfc3640#section-4.1
    pub(super) fn parse(hex: &str) -> Result<Self, String> {
        let bytes = from_hex(hex).ok_or("AAC with a configuration that is no number")?;
        Self::read(&mut Bits::new(&bytes))
    }

    pub(super) fn new(rate: u32, channels: Channels, is_extended: bool) -> Result<Self, String> {
        if !(8_000..=48_000).contains(&rate) {
            return Err(format!("AAC with {rate} Hz"));
        }
        Ok(Self {
            rate,
            channels,
            is_extended,
        })
    }

    /// The same as bytes, without what extends the core.
    pub(super) fn core(self) -> Vec<u8> {
        let index = RATES.iter().position(|rate| *rate == self.rate);
        let index = index.and_then(|index| u64::try_from(index).ok());
        let (rate, rate_bits) = match index {
            Some(index) => (index, 4),
            None => (u64::from(EXPLICIT_RATE) << 24 | u64::from(self.rate), 28),
        };
        // Object type, rate, channels, and three flags that are off.
        let bits: usize = 5 + rate_bits + 4 + 3;
        let value = (u64::from(LOW_COMPLEXITY) << rate_bits | rate) << 7
            | u64::from(self.channels.count()) << 3;
        let bytes = (value << (64 - bits)).to_be_bytes();
        bytes[..bits.div_ceil(8)].to_vec()
    }
}

/// Reads what may follow a configuration (ISO/IEC 14496-3 §1.6.6.1): whether there are high tones too,
/// for decoders that look for it here.
fn extension(bits: &mut Bits<'_>) -> bool {
    let mut ahead = bits.clone();
    if ahead.read(11) != Some(EXTENSION)
        || object_type(&mut ahead) != Some(SPECTRAL_BAND_REPLICATION)
    {
        return false;
    }
    let Some(is_present) = ahead.flag() else {
        return false;
    };
    if is_present && sampling_rate(&mut ahead).is_none() {
        return false;
    }
    *bits = ahead.clone();
    if is_present && ahead.read(11) == Some(STEREO_EXTENSION) && ahead.flag().is_some() {
        *bits = ahead;
    }
    is_present
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.read(5)? {
        ESCAPE => Some(32 + bits.read(6)?),
        object => Some(object),
    }
}

/// 0 for an index that has no rate.
fn sampling_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.read(4)? {
        EXPLICIT_RATE => bits.read(24),
        index => Some(RATES.get(index as usize).copied().unwrap_or(0)),
    }
}

/// Bytes of hexadecimal digits; none if there is something else, or half a byte.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_matches('"').as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 512 {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_cameras_are_read() {
        for (hex, rate, channels, is_extended) in [
            ("1408", 16_000, Channels::Mono, false),
            ("1190", 48_000, Channels::Stereo, false),
            ("1208", 44_100, Channels::Mono, false),
            ("1588", 8_000, Channels::Mono, false),
            // HE-AAC, which says so behind the core, and a camera that says there that it is none.
            ("131056e598", 24_000, Channels::Stereo, true),
            ("131056e500", 24_000, Channels::Stereo, false),
            // Explicit HE-AAC, and version 2 of it.
            ("2b118800", 24_000, Channels::Stereo, true),
            ("eb098800", 24_000, Channels::Mono, true),
            // The rate in 24 bits.
            ("17801f400800", 16_000, Channels::Mono, false),
        ] {
            let read = AacConfig::parse(hex);
            let expected = AacConfig {
                rate,
                channels,
                is_extended,
            };
            assert_eq!(read, Ok(expected), "{hex}");
            let core = AacConfig::read(&mut Bits::new(&expected.core())).unwrap();
            assert_eq!((core.rate, core.channels), (rate, channels));
        }
    }

    #[test]
    fn what_is_not_decoded_is_named() {
        for (hex, told) in [
            ("11b0", "5.1 channels"),
            ("1180", "own order"),
            ("1194", "960 samples"),
            ("0990", "object type 1"),
            ("b98c00", "object type 23"),
            ("1090", "88200 Hz"),
            ("14", "cut short"),
            ("140", "no number"),
            ("xyzz", "no number"),
        ] {
            let told_is = AacConfig::parse(hex).unwrap_err();
            assert!(told_is.contains(told), "{hex}: {told_is}");
        }
    }
}
