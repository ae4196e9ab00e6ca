//! Which tracks of a camera we set up, and why not the others.

use std::fmt;

use retina::client::Stream;

use crate::{
    hub::{LeftOut, Tracks},
    media::{
        Codec, Kind, Track, TrackId,
        h264::ParameterSets,
        sdp::{Description, MediaSection},
    },
};

/// The tracks to set up, in the camera's order: at most one of each kind.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) tracks: Vec<ChosenTrack>,
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug)]
pub(super) struct ChosenTrack {
    /// Its number in the camera's description.
    pub(super) stream: usize,
    pub(super) codec: Codec,
    /// H.264 only: what the description says.
    pub(super) sets: ParameterSets,
}

impl Chosen {
    /// Chooses among what the camera described.
    ///
    /// # Errors
    /// A sentence, when nothing can be sent to a browser.
    pub(super) fn from(streams: &[Stream], description: &Description) -> Result<Self, String> {
        let mut chosen = Self {
            tracks: Vec::new(),
            left_out: Vec::new(),
        };
        for (number, stream) in streams.iter().enumerate() {
            let section = section_of(streams, number, description);
            let kind = match stream.media() {
                "video" => Kind::Video,
                "audio" => Kind::Audio,
                // Metadata is not for viewers.
                _ => continue,
            };
            let Some(codec) = codec(stream, section) else {
                let reason = why_not(kind, stream.encoding_name(), stream.clock_rate_hz());
                chosen.left_out.push(LeftOut { kind, reason });
                continue;
            };
            if chosen.tracks.iter().any(|t| t.codec.kind() == kind) {
                continue;
            }
            chosen.tracks.push(ChosenTrack {
                stream: number,
                codec,
                sets: section
                    .map(MediaSection::h264_parameter_sets)
                    .unwrap_or_default(),
            });
        }
        if !chosen.tracks.is_empty() {
            return Ok(chosen);
        }
        Err(if chosen.left_out.is_empty() {
            "it describes neither video nor audio; check the path of the URL".to_owned()
        } else {
            format!(
                "nothing can be sent to a browser: {}",
                reasons(&chosen.left_out)
            )
        })
    }

    /// What viewers can be offered, with profiles as far as they are known.
    pub(super) fn announcement(&self) -> Tracks {
        let usable = self.tracks.iter().zip(0..);
        Tracks {
            usable: usable
                .map(|(track, id)| Track {
                    id: TrackId(id),
                    codec: track.codec,
                })
                .collect(),
            left_out: self.left_out.clone(),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tracks.iter().map(|t| t.codec.name()).collect();
        f.write_str(&names.join("+"))
    }
}

fn reasons(left_out: &[LeftOut]) -> String {
    let reasons: Vec<_> = left_out.iter().map(|track| track.reason.as_str()).collect();
    reasons.join("; ")
}

/// The section that describes stream number `number`. The session layer leaves sections out that it
/// cannot read, so they are matched by kind and payload type, in order.
fn section_of<'a>(
    streams: &[Stream],
    number: usize,
    description: &'a Description,
) -> Option<&'a MediaSection> {
    let alike = |other: &Stream| {
        let stream = &streams[number];
        other.media() == stream.media() && other.rtp_payload_type() == stream.rtp_payload_type()
    };
    let payload_type = streams[number].rtp_payload_type().to_string();
    description
        .media
        .iter()
        .filter(|section| section.media == streams[number].media())
        .filter(|section| section.formats.contains(&payload_type))
        .nth(
            streams[..number]
                .iter()
                .filter(|other| alike(other))
                .count(),
        )
}

/// The codec of a stream if a browser can play it as it is.
fn codec(stream: &Stream, section: Option<&MediaSection>) -> Option<Codec> {
    let mono = stream.channels().is_none_or(|n| n.get() == 1);
    let rate = stream.clock_rate_hz();
    match (stream.media(), stream.encoding_name()) {
        ("video", "h264") => {
            let sets = section
                .map(MediaSection::h264_parameter_sets)
                .unwrap_or_default();
            Some(Codec::H264(sets.profile_level()))
        }
        ("audio", "opus") => Some(Codec::Opus),
        ("audio", "pcmu") if mono && rate == 8_000 => Some(Codec::Pcmu),
        ("audio", "pcma") if mono && rate == 8_000 => Some(Codec::Pcma),
        _ => None,
    }
}

fn why_not(kind: Kind, name: &str, rate: u32) -> String {
    let name = name.to_ascii_uppercase();
    match (kind, name.as_str()) {
        (Kind::Video, "H265" | "HEVC") => {
            "the camera's video is H265, which most browsers cannot play by WebRTC: set it to H264 \
             in the camera, or use its second stream"
                .to_owned()
        }
        (Kind::Video, _) => format!(
            "the camera's video is {name}, which browsers cannot play by WebRTC: set it to H264 in \
             the camera, or use another stream of it"
        ),
        (Kind::Audio, "PCMU" | "PCMA") => format!(
            "the camera's audio is {name} with {rate} Hz, of which browsers play only 8000 Hz with \
             one channel: set the camera to that"
        ),
        (Kind::Audio, "MPEG4-GENERIC" | "MP4A-LATM") => format!(
            "the camera's audio is AAC ({name}), which browsers cannot play by WebRTC: set it to \
             G.711 (PCMU or PCMA) in the camera"
        ),
        (Kind::Audio, _) => format!(
            "the camera's audio is {name}, which browsers cannot play by WebRTC: set it to G.711 \
             (PCMU or PCMA) in the camera"
        ),
    }
}
