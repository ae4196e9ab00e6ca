//! [`Format`]: what a camera's description says of its sound.

use std::fmt;

use super::{Channels, config::AacConfig, g726::Packing, latm::Mux, rfc3640::AuHeader};
use crate::media::sdp::MediaSection;

/// Sound that [`Converter`](super::Converter) makes into Opus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How it is coded.
    pub coding: Coding,
    /// Ticks per second of its RTP clock.
    pub clock_rate: u32,
}

/// How sound is coded, and what its decoder has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// AAC as `mpeg4-generic`; the core of it.
    Aac(AacConfig, AuHeader),
    /// AAC as `MP4A-LATM`: its configuration unless that comes with the packets, and whether it may.
    Latm(Option<Mux>, bool),
    /// G.711 µ-law, of this many samples per second.
    Ulaw(u32, Channels),
    /// G.711 A-law, of this many samples per second.
    Alaw(u32, Channels),
    /// G.722 with 64 kbit/s: its clock says 8 kHz, and is 16 kHz.
    G722,
    /// G.726 with 8 kHz.
    G726(Packing),
    /// Linear samples of 16 bits, of this many per second.
    L16(u32, Channels),
}

impl Format {
    /// Of the format `name/clock_rate/channels` of a section, whose parameters are those of payload type
    /// `format`. None of sound that is not converted.
    ///
    /// # Errors
    /// What the sound is, as in "AAC with 5.1 channels", when only that of its kind is not.
    pub fn read(
        name: &str,
        clock_rate: u32,
        channels: u16,
        section: &MediaSection,
        format: &str,
    ) -> Result<Option<Self>, String> {
        let parameter = |name: &str| {
            section
                .parameter(format, name)
                .filter(|value| !value.is_empty())
        };
        let name = name.to_ascii_uppercase();
        let sampled = |make: fn(u32, Channels) -> Coding| match Channels::from_count(channels) {
            Some(channels) if (8_000..=48_000).contains(&clock_rate) => {
                Ok(make(clock_rate, channels))
            }
            _ => Err(format!(
                "{name} with {clock_rate} Hz and {channels} channels"
            )),
        };
        let coding = match name.as_str() {
            "MPEG4-GENERIC" => {
                let header = AuHeader::from(parameter)?;
                let config = match parameter("config") {
                    Some(hex) => AacConfig::parse(hex)?,
                    None => plain_aac(clock_rate, channels)?,
                };
                Coding::Aac(config, header)
            }
            "MP4A-LATM" => {
                let mux = parameter("config").map(Mux::parse).transpose()?;
                let is_in_band = parameter("cpresent") != Some("0");
                if mux.is_none() && !is_in_band {
                    return Err("AAC without a configuration".to_owned());
                }
                Coding::Latm(mux, is_in_band)
            }
            "PCMU" => sampled(Coding::Ulaw)?,
            "PCMA" => sampled(Coding::Alaw)?,
            "L16" => sampled(Coding::L16)?,
            "G722" if channels == 1 => Coding::G722,
            _ => match packing(&name) {
                Some(packing) if clock_rate == 8_000 && channels == 1 => Coding::G726(packing),
                _ => return Ok(None),
            },
        };
        // RFC 3551 §4.5.2: the clock of G.722 is 8 kHz whatever is written.
        let clock_rate = if coding == Coding::G722 {
            8_000
        } else {
            clock_rate
        };
        if !(8_000..=96_000).contains(&clock_rate) {
            return Err(format!("{name} with a clock of {clock_rate} Hz"));
        }
        Ok(Some(Self { coding, clock_rate }))
    }
}

/// AAC-LC as its clock says, for a camera that gives no configuration.
fn plain_aac(clock_rate: u32, channels: u16) -> Result<AacConfig, String> {
    let channels =
        Channels::from_count(channels).ok_or_else(|| format!("AAC with {channels} channels"))?;
    AacConfig::new(clock_rate, channels, false)
}

/// `G726-32` and the like, with the first sample in the lower bits; `AAL2-G726-32` in the upper.
fn packing(name: &str) -> Option<Packing> {
    let (upper_first, rate) = match name.strip_prefix("AAL2-") {
        Some(rest) => (true, rest.strip_prefix("G726-")?),
        None => (false, name.strip_prefix("G726-")?),
    };
    let bits = match rate {
        "16" => 2,
        "24" => 3,
        "32" => 4,
        "40" => 5,
        _ => return None,
    };
    Some(Packing { bits, upper_first })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sampled = |f: &mut fmt::Formatter<'_>, name: &str, rate: u32, channels: Channels| {
            let channels = match channels {
                Channels::Mono => "mono",
                Channels::Stereo => "stereo",
            };
            write!(f, "{name} {rate} Hz {channels}")
        };
        let aac = |config: AacConfig| if config.is_extended { "HE-AAC" } else { "AAC" };
        match self.coding {
            Coding::Aac(config, _) => sampled(f, aac(config), self.clock_rate, config.channels),
            Coding::Latm(Some(mux), _) => {
                sampled(f, aac(mux.config), self.clock_rate, mux.config.channels)
            }
            Coding::Latm(None, _) => write!(f, "AAC {} Hz", self.clock_rate),
            Coding::Ulaw(rate, channels) => sampled(f, "PCMU", rate, channels),
            Coding::Alaw(rate, channels) => sampled(f, "PCMA", rate, channels),
            Coding::L16(rate, channels) => sampled(f, "L16", rate, channels),
            Coding::G722 => f.write_str("G722"),
            Coding::G726(packing) => write!(f, "G726-{}", u32::from(packing.bits) * 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::sdp::Description;

    fn read(map: &str, fmtp: &str) -> Result<Option<Format>, String> {
        let text = format!("m=audio 0 RTP/AVP 97\na=rtpmap:97 {map}\na=fmtp:97 {fmtp}\n");
        let sdp = Description::parse(&text);
        let mut parts = map.split('/');
        let name = parts.next().unwrap();
        let mut number = || parts.next().map(|part| part.parse().unwrap());
        let (rate, channels) = (number().unwrap(), number().unwrap_or(1));
        Format::read(
            name,
            rate,
            u16::try_from(channels).unwrap(),
            &sdp.media[0],
            "97",
        )
    }

    #[test]
    fn what_is_converted_is_told_in_words() {
        for (map, fmtp, told) in [
            (
                "mpeg4-generic/16000/1",
                "mode=AAC-hbr;config=1408;sizeLength=13;indexLength=3",
                "AAC 16000 Hz mono",
            ),
            (
                "MPEG4-GENERIC/48000/2",
                "streamtype=5",
                "AAC 48000 Hz stereo",
            ),
            (
                "mpeg4-generic/48000/2",
                "config=2B118800; mode=AAC-hbr",
                "HE-AAC 48000 Hz stereo",
            ),
            (
                "mpeg4-generic/48000/2",
                "mode=AAC_hbr; config=1190",
                "AAC 48000 Hz stereo",
            ),
            (
                "MP4A-LATM/44100/2",
                "cpresent=0;config=400024203fc0",
                "AAC 44100 Hz stereo",
            ),
            ("MP4A-LATM/90000", "", "AAC 90000 Hz"),
            ("PCMU/16000", "", "PCMU 16000 Hz mono"),
            ("PCMA/8000/2", "", "PCMA 8000 Hz stereo"),
            ("L16/44100/2", "", "L16 44100 Hz stereo"),
            ("G722/16000", "", "G722"),
            ("G726-24/8000", "", "G726-24"),
            ("AAL2-G726-40/8000", "", "G726-40"),
        ] {
            let format = read(map, fmtp).unwrap().unwrap();
            assert_eq!(format.to_string(), told, "{map}");
        }
        assert_eq!(read("G722/16000", "").unwrap().unwrap().clock_rate, 8_000);
    }

    #[test]
    fn what_is_not_converted_is_named_if_others_of_its_kind_are() {
        for (map, fmtp, told) in [
            ("mpeg4-generic/48000/6", "config=11b0", "5.1"),
            ("mpeg4-generic/48000/6", "", "6 channels"),
            ("mpeg4-generic/48000/2", "mode=CELP-vbr", "CELP"),
            ("MP4A-LATM/48000/2", "cpresent=0", "without a configuration"),
            ("L16/96000/2", "", "96000 Hz"),
            ("PCMA/8000/4", "", "4 channels"),
        ] {
            let told_is = read(map, fmtp).unwrap_err();
            assert!(told_is.contains(told), "{map}: {told_is}");
        }
        for map in [
            "GSM/8000",
            "G726-32/16000",
            "G723/8000",
            "telephone-event/8000",
        ] {
            assert_eq!(read(map, ""), Ok(None), "{map}");
        }
    }
}
