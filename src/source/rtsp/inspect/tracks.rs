//! [`Tracks`]: what a camera describes, and which of it is watched.

use std::{fmt, time::Duration};

use super::{found::InspectedTrack, measure::Meter};
use crate::{
    media::{
        Codec, Kind,
        sdp::{Description, MediaSection},
    },
    source::rtsp::tracks::{Coding, assembler, rank},
};

/// How long a camera is watched at the least: rates need some pictures.
const WATCH_MIN: Duration = Duration::from_secs(3);
/// How long a sender report is waited for: the first comes within 6.2 s ([RFC 3550 §6.3.1]).
///
/// [RFC 3550 §6.3.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.3.1
const REPORT_LIMIT: Duration = Duration::from_secs(7);
/// Tracks that are told of.
const TRACKS_MAX: usize = 16;

/// The tracks of a description.
pub(super) struct Tracks<'a> {
    pub(super) all: Vec<InspectedTrack>,
    /// Those that are set up: of each kind the first that most browsers play, or else the first.
    pub(super) watched: Vec<WatchedTrack<'a>>,
}

pub(super) struct WatchedTrack<'a> {
    /// Its place among all.
    pub(super) index: usize,
    kind: Kind,
    name: String,
    codec: Option<Codec>,
    pub(super) control: &'a str,
    pub(super) meter: Meter,
}

impl<'a> Tracks<'a> {
    pub(super) fn of(description: &'a Description) -> Self {
        let mut tracks = Self {
            all: Vec::new(),
            watched: Vec::new(),
        };
        for section in description.media.iter().take(TRACKS_MAX) {
            let kind = match section.media.as_str() {
                "video" => Kind::Video,
                // Sound towards the camera is asked for by itself.
                "audio" if !section.attributes.has("sendonly") => Kind::Audio,
                _ => continue,
            };
            tracks.add(kind, section);
        }
        tracks
    }

    fn add(&mut self, kind: Kind, section: &'a MediaSection) {
        let coding = Coding::of(section);
        let codec = coding.codec(kind, section);
        let assembler = codec.and_then(|codec| assembler(codec, section));
        let track = WatchedTrack {
            index: self.all.len(),
            kind,
            name: coding.name.clone(),
            codec,
            control: section.attributes.get("control").unwrap_or_default(),
            meter: Meter::new(assembler, codec.map_or(coding.rate, Codec::clock_rate)),
        };
        match self.watched.iter_mut().find(|known| known.kind == kind) {
            None => self.watched.push(track),
            Some(known) if rank(known.codec) < rank(codec) => *known = track,
            Some(_) => {}
        }
        let format = section.formats.first().map_or("", String::as_str);
        self.all.push(InspectedTrack {
            kind,
            unplayable: (codec.is_none() && coding.convertible().is_none())
                .then(|| coding.why_not(kind).sentence),
            described_profile_level: section
                .parameter(format, "profile-level-id")
                .filter(|_| coding.name == "H264")
                .and_then(|text| text.parse().ok()),
            described_size: described_size(section, format),
            codec: coding.name,
            clock_rate: coding.rate,
            channels: coding.channels,
            measured: None,
        });
    }

    /// Whether watching on would tell no more.
    pub(super) fn is_enough(&self, watched: Duration) -> bool {
        let meters = || self.watched.iter().map(|track| &track.meter);
        watched >= WATCH_MIN
            && meters().all(Meter::has_interval)
            && (watched >= REPORT_LIMIT || meters().all(Meter::has_report))
    }
}

impl fmt::Display for Tracks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .watched
            .iter()
            .map(|track| track.name.as_str())
            .collect();
        f.write_str(&names.join(" and "))
    }
}

/// `a=framesize:96 1280-720` (3GPP TS 26.234) or `a=x-dimensions:1280,720`.
fn described_size(section: &MediaSection, format: &str) -> Option<[u64; 2]> {
    let attribute = |name: &str| section.attributes.get(name);
    let framesize = attribute("framesize")
        .and_then(|value| value.split_once(' '))
        .filter(|(of, _)| *of == format)
        .and_then(|(_, size)| size.split_once('-'));
    let dimensions = || attribute("x-dimensions")?.split_once(',');
    let (width, height) = framesize.or_else(dimensions)?;
    Some([width.trim().parse().ok()?, height.trim().parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_what_browsers_play_is_watched_and_all_is_told_of() {
        let description = Description::parse(
            "m=video 0 RTP/AVP 97\na=rtpmap:97 H265/90000\na=control:a\nm=video 0 RTP/AVP 96\n\
             a=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=64001F\na=framesize:96 1280-720\n\
             a=control:b\nm=audio 0 RTP/AVP 98\na=rtpmap:98 GSM/8000\na=control:c\n\
             m=audio 0 RTP/AVP 0\na=sendonly\na=control:talk\nm=application 0 RTP/AVP 107\n",
        );
        let tracks = Tracks::of(&description);
        assert_eq!(tracks.to_string(), "H264 and GSM");
        let controls: Vec<_> = tracks.watched.iter().map(|track| track.control).collect();
        assert_eq!(controls, ["b", "c"]);
        let unplayable: Vec<_> = tracks
            .all
            .iter()
            .map(|track| track.unplayable.is_some())
            .collect();
        assert_eq!(unplayable, [false, false, true]);
        let h264 = &tracks.all[1];
        assert_eq!(h264.described_size, Some([1280, 720]));
        assert_eq!(h264.described_profile_level.unwrap().to_string(), "64001f");
    }

    #[test]
    fn dimensions_are_read_in_either_form_and_in_no_other() {
        let size = |line: &str| {
            let text = format!("m=video 0 RTP/AVP 26\n{line}\n");
            described_size(&Description::parse(&text).media[0], "26")
        };
        assert_eq!(size("a=x-dimensions:640,360"), Some([640, 360]));
        assert_eq!(size("a=framesize:26 640-360"), Some([640, 360]));
        for line in [
            "a=framesize:96 640-360",
            "a=x-dimensions:a,b",
            "a=framesize:26",
            "",
        ] {
            assert_eq!(size(line), None, "{line}");
        }
    }
}
