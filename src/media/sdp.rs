//! Session descriptions ([RFC 8866]), read leniently: sections, formats and attributes.
//!
//! Browsers and cameras both bend the grammar, in ways that do not matter here: a broken origin
//! line, a missing version, text that is no attribute. Lines that nobody asks for are passed over.
//!
//! [RFC 8866]: https://datatracker.ietf.org/doc/html/rfc8866

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use super::{
    h264,
    h265::{self, H265},
    nal::annex_b,
};

/// A session description: what precedes the first `m=` line, and the media sections.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Attributes of the session.
    pub session: Attributes,
    /// The media sections in order.
    pub media: Vec<MediaSection>,
}

/// One `m=` line and what follows it.
#[derive(Debug, Clone)]
pub struct MediaSection {
    /// `audio`, `video`, `application` …
    pub media: String,
    /// 0 means that the section is not used.
    pub port: u16,
    /// The transport protocol, as in `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// Payload types, or whatever the protocol puts there.
    pub formats: Vec<String>,
    /// Its attributes.
    pub attributes: Attributes,
}

/// The `a=` lines of a section, in order.
#[derive(Debug, Clone, Default)]
pub struct Attributes(Vec<(String, String)>);

impl Attributes {
    /// The value of the first attribute called `name`; empty for a flag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether there is an attribute called `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The values of all attributes called `name`.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Description {
    /// Reads a description. Never fails: what cannot be read is not there.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut description = Self::default();
        for line in text.split(['\n', '\r']) {
            match line.split_once('=') {
                Some(("m", value)) => description.media.extend(media_section(value)),
                Some(("a", value)) => {
                    let (key, value) = value.split_once(':').unwrap_or((value, ""));
                    let section = description.media.last_mut();
                    let attributes =
                        section.map_or(&mut description.session, |m| &mut m.attributes);
                    attributes
                        .0
                        .push((key.trim().to_owned(), value.trim().to_owned()));
                }
                _ => {}
            }
        }
        description
    }
}

fn media_section(value: &str) -> Option<MediaSection> {
    let mut words = value.split_ascii_whitespace();
    let media = words.next()?.to_ascii_lowercase();
    // `9/2` gives a number of ports, which nobody uses.
    let port = words.next()?.split('/').next()?.parse().unwrap_or(0);
    Some(MediaSection {
        media,
        port,
        protocol: words.next()?.to_owned(),
        formats: words.map(str::to_owned).collect(),
        attributes: Attributes::default(),
    })
}

impl MediaSection {
    /// `name/clock rate/channels` of a payload type, as `a=rtpmap` gives it.
    #[must_use]
    pub fn rtpmap(&self, payload_type: &str) -> Option<&str> {
        self.of_format("rtpmap", payload_type).next()
    }

    /// The format parameters of a payload type: all its `a=fmtp` lines, split at semicolons.
    pub fn fmtp<'a, 'n>(
        &'a self,
        payload_type: &'n str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, 'n> {
        self.of_format("fmtp", payload_type)
            .flat_map(|line| line.split(';'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.trim(), value.trim()))
    }

    /// One format parameter of a payload type; its name in any case.
    #[must_use]
    pub fn parameter(&self, payload_type: &str, name: &str) -> Option<&str> {
        self.fmtp(payload_type)
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn of_format<'a, 'n>(
        &'a self,
        name: &'n str,
        format: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.attributes.all(name).filter_map(move |value| {
            let (of, rest) = value.split_once(char::is_whitespace)?;
            (of == format).then(|| rest.trim())
        })
    }

    /// The H.264 parameter sets in `sprop-parameter-sets` ([RFC 6184 §8.1]) of any payload type:
    /// some cameras write them on a wrong one, unpadded, or with start codes.
    ///
    /// [RFC 6184 §8.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-8.1
    #[must_use]
    pub fn h264_parameter_sets(&self) -> h264::ParameterSets {
        let mut sets = h264::ParameterSets::default();
        self.parameter_sets(&["sprop-parameter-sets"], |nal| sets.keep(nal));
        sets
    }

    /// What is described of an H.265 stream ([RFC 7798 §7.1]), as leniently.
    ///
    /// [RFC 7798 §7.1]: https://datatracker.ietf.org/doc/html/rfc7798#section-7.1
    #[must_use]
    pub fn h265(&self) -> H265 {
        let mut sets = h265::ParameterSets::default();
        let names = ["sprop-vps", "sprop-sps", "sprop-pps"];
        self.parameter_sets(&names, |nal| sets.keep(nal));
        let mut parameters = self.any_fmtp();
        let has_order_numbers = parameters.any(|(name, value)| {
            name.eq_ignore_ascii_case("sprop-max-don-diff")
                && value.parse().is_ok_and(|difference: u16| difference > 0)
        });
        H265::new(sets, has_order_numbers)
    }

    /// The NAL units in the format parameters of these names.
    fn parameter_sets(&self, names: &[&str], mut keep: impl FnMut(&Bytes)) {
        for (name, value) in self.any_fmtp() {
            if !names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                continue;
            }
            for text in value.split(',') {
                let Ok(bytes) = LENIENT.decode(text.trim()) else {
                    continue;
                };
                for nal in annex_b(&[&[0, 0, 1], bytes.as_slice()].concat()) {
                    keep(&Bytes::copy_from_slice(nal));
                }
            }
        }
    }

    /// The format parameters of all payload types, whatever stands between them.
    fn any_fmtp(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.attributes.all("fmtp");
        lines
            .flat_map(|line| line.split([';', ' ']))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
    }
}

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, assembler::Assembler};

    const CAMERA: &str = "v=0\r\no=broken\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
        sprop-parameter-sets=Z0LAH9o=,aM48gA\r\na=junk\r\nm=audio 0 RTP/AVP 0\r\n";

    #[test]
    fn sections_formats_and_parameters_are_read() {
        let sdp = Description::parse(CAMERA);
        assert_eq!(sdp.session.get("control"), Some("*"));
        assert_eq!(sdp.media.len(), 2);
        let video = &sdp.media[0];
        assert_eq!(video.rtpmap("96"), Some("H264/90000"));
        assert_eq!(video.parameter("96", "Packetization-Mode"), Some("1"));
        assert!(video.attributes.has("junk"));
        let profile = video.h264_parameter_sets().profile_level();
        assert_eq!(profile.unwrap().to_string(), "42c01f");
    }

    #[test]
    fn start_codes_in_parameter_sets_are_taken_off() {
        let sdp = Description::parse(
            "m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets=AAAAAWdCwB/a,H264\n",
        );
        let profile = sdp.media[0].h264_parameter_sets().profile_level();
        assert_eq!(profile.unwrap().to_string(), "42c01f");
    }

    #[test]
    fn parameter_sets_of_h265_are_read_with_and_without_start_codes() {
        // The second camera describes no video parameter set.
        for sets in [
            "sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwA8lZQJ; sprop-sps=QgEBAWAAAAMAkAAAAwAAAwA8oBYgJFllZUpMLwFoCAAAAwAI\
             AAADAMhA; sprop-pps=RAHAc8GJ",
            "sprop-sps=AAAAAUIBAQFgAAADAJAAAAMAAAMAPKAWICRZZWVKTC8BaAgAAAMACAAAAwDIQA;sprop-pps=AAAAAUQBwHPBiQ",
        ] {
            let sdp = format!("m=video 0 RTP/AVP 96\na=fmtp:96 {sets}\n");
            let assembler = Assembler::new(Description::parse(&sdp).media[0].h265());
            let Codec::H265(Some(described)) = assembler.codec() else {
                panic!("{sets}");
            };
            assert_eq!(described.to_string(), "Main, level 2.0");
            assert_eq!(assembler.picture_size(), Some([176, 144]));
        }
    }

    #[test]
    fn anything_can_be_read() {
        for text in [
            "",
            "m=",
            "m=video",
            "m=video x y",
            "a=\na=:\nm=a 1/2 b",
            "=\u{0}=\n",
        ] {
            let _ = Description::parse(text);
        }
    }
}
