//! Which tracks of a camera we set up, and why not the others.

use std::fmt;

use url::Url;

use super::packet::Expected;
use crate::{
    base::{Diagnosis, Note, Verdict},
    hub::{Converted, LeftOut, Tracks},
    media::{
        Codec, Kind, Track, TrackId,
        assembler::Assembler,
        audio::Format,
        sdp::{Description, MediaSection},
    },
};

/// Tracks looked at; no camera has more than a handful.
const SECTIONS_MAX: usize = 16;

/// What else helps against video that browsers do not play.
const CONVERT: &str =
    ", or let ffmpeg convert it: write ffmpeg:rtsp://…#video=h264 in the configuration file";

/// The tracks to set up, in the camera's order: at most one of each kind.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) tracks: Vec<ChosenTrack>,
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug)]
pub(super) struct ChosenTrack {
    /// Where SETUP goes: `a=control` as the camera wrote it.
    pub(super) control: String,
    pub(super) kind: Kind,
    /// As which it can go to browsers as it is.
    pub(super) codec: Option<Codec>,
    /// Sound that can be converted for them.
    pub(super) sound: Option<Format>,
    /// Of video: it knows what the description says.
    pub(super) assembler: Option<Assembler>,
    /// What its packets should look like.
    pub(super) expected: Expected,
}

impl Chosen {
    /// Chooses among what the camera described.
    ///
    /// # Errors
    /// When nothing can be sent to a browser.
    pub(super) fn from(description: &Description) -> Result<Self, Note> {
        let mut chosen = Self::default();
        for section in description.media.iter().take(SECTIONS_MAX) {
            let kind = match section.media.as_str() {
                "video" => Kind::Video,
                "audio" => Kind::Audio,
                // Metadata is not for viewers.
                _ => continue,
            };
            // ONVIF: sound towards the camera, for talking.
            if kind == Kind::Audio && section.attributes.has("sendonly") {
                continue;
            }
            let coding = Coding::of(section);
            let (codec, sound) = (coding.codec(kind, section), coding.convertible());
            if codec.is_none() && sound.is_none() {
                let note = coding.why_not(kind);
                chosen.left_out.push(LeftOut { kind, note });
                continue;
            }
            let control = section.attributes.get("control");
            let track = ChosenTrack {
                control: control.unwrap_or_default().to_owned(),
                kind,
                codec,
                sound,
                assembler: codec.and_then(|codec| assembler(codec, section)),
                expected: Expected {
                    payload_type: section.formats.first().and_then(|f| f.parse().ok()),
                    ssrc: None,
                },
            };
            match chosen.tracks.iter_mut().find(|t| t.kind == kind) {
                None => chosen.tracks.push(track),
                // What goes to more browsers goes first.
                Some(other) if rank(other.codec) < rank(codec) => *other = track,
                Some(_) => {}
            }
        }
        // Another track of the same kind is there, so nobody misses what was left out.
        chosen
            .left_out
            .retain(|left| chosen.tracks.iter().all(|track| track.kind != left.kind));
        if !chosen.tracks.is_empty() {
            return Ok(chosen);
        }
        let mut left_out: Vec<_> = chosen.left_out.into_iter().collect();
        // Who is told of one thing only is told of the picture.
        left_out.sort_by_key(|left| left.kind != Kind::Video);
        let reasons: Vec<_> = left_out.iter().map(|left| &*left.note.sentence).collect();
        let Some(first) = left_out.first() else {
            return Err(Note::new(
                Verdict::BadDescription,
                "it describes neither video nor audio; check the path of the URL",
            ));
        };
        Err(Note {
            diagnosis: first.note.diagnosis.clone(),
            sentence: format!("nothing can be sent to a browser: {}", reasons.join("; ")),
        })
    }

    /// What viewers can be offered, with profiles as far as they are known.
    pub(super) fn announcement(&self) -> Tracks {
        let own = || self.tracks.iter().zip(0..);
        let usable = own().filter_map(|(track, id)| {
            let (id, codec) = (TrackId(id), track.codec?);
            Some(Track { id, codec })
        });
        let converted = own().filter_map(|(track, id)| {
            Some(Converted {
                track: Track {
                    id: Converted::id_of(TrackId(id)),
                    codec: Codec::Opus,
                },
                from: track.sound?.to_string(),
            })
        });
        Tracks {
            usable: usable.collect(),
            converted: converted.collect(),
            left_out: self.left_out.clone(),
        }
    }
}

impl ChosenTrack {
    /// Ticks per second of its RTP clock.
    pub(super) fn clock_rate(&self) -> u32 {
        let of_sound = self.sound.map(|format| format.clock_rate);
        self.codec.map(Codec::clock_rate).or(of_sound).unwrap_or(1)
    }
}

impl fmt::Display for ChosenTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.codec, self.sound) {
            (Some(codec), _) => codec.fmt(f),
            (None, Some(sound)) => sound.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tracks.iter().map(ToString::to_string).collect();
        f.write_str(&names.join("+"))
    }
}

/// How many browsers a track reaches, in comparison: what goes as it is reaches more than what has to be
/// converted, and H.264 more than H.265.
pub(super) fn rank(codec: Option<Codec>) -> u8 {
    match codec {
        None => 0,
        Some(Codec::H265(_)) => 1,
        Some(_) => 2,
    }
}

/// What puts pictures of this codec together.
pub(super) fn assembler(codec: Codec, section: &MediaSection) -> Option<Assembler> {
    match codec {
        Codec::H264(_) => Some(Assembler::new(section.h264_parameter_sets())),
        Codec::H265(_) => Some(Assembler::new(section.h265())),
        Codec::Opus | Codec::Pcmu | Codec::Pcma => None,
    }
}

/// Name, clock rate and channels of a section's first format.
#[derive(Debug)]
pub(super) struct Coding {
    /// As the camera says it.
    written: String,
    pub(super) name: String,
    pub(super) rate: u32,
    pub(super) channels: u16,
    /// Sound that can be converted, or what it is if others of its kind can be.
    sound: Result<Option<Format>, String>,
}

impl Coding {
    pub(super) fn of(section: &MediaSection) -> Self {
        let format = section.formats.first().map_or("", String::as_str);
        // Some cameras write the map under another number than the format.
        let written = section.rtpmap(format).or_else(|| {
            let known = static_coding(format);
            known.or_else(|| {
                section
                    .attributes
                    .all("rtpmap")
                    .next()?
                    .split_once(' ')
                    .map(|(_, map)| map.trim())
            })
        });
        let mut parts = written.unwrap_or_default().split('/');
        let name = parts.next().unwrap_or_default().trim().to_ascii_uppercase();
        let rate = parts.next().and_then(|rate| rate.trim().parse().ok());
        let channels = parts.next().and_then(|n| n.trim().parse().ok());
        let (rate, channels) = (rate.unwrap_or(0), channels.unwrap_or(1));
        Self {
            written: written.unwrap_or_default().to_owned(),
            sound: match section.media.as_str() {
                "audio" => Format::read(&name, rate, channels, section, format),
                _ => Ok(None),
            },
            name: if name.is_empty() {
                format!("of an unknown format ({format})")
            } else {
                name
            },
            rate,
            channels,
        }
    }

    /// Sound that can be made into Opus.
    pub(super) fn convertible(&self) -> Option<Format> {
        self.sound.as_ref().ok().copied().flatten()
    }

    /// The codec, if a browser can play it as it is.
    pub(super) fn codec(&self, kind: Kind, section: &MediaSection) -> Option<Codec> {
        let telephone = self.channels == 1 && self.rate == 8_000;
        match (kind, self.name.as_str()) {
            (Kind::Video, "H264") => {
                Some(Codec::H264(section.h264_parameter_sets().profile_level()))
            }
            (Kind::Video, "H265" | "HEVC") => {
                let described = Assembler::new(section.h265());
                Some(described.codec())
            }
            (Kind::Audio, "OPUS") => Some(Codec::Opus),
            (Kind::Audio, "PCMU") if telephone => Some(Codec::Pcmu),
            (Kind::Audio, "PCMA") if telephone => Some(Codec::Pcma),
            _ => None,
        }
    }

    /// Why browsers cannot play it, and what to set.
    pub(super) fn why_not(&self, kind: Kind) -> Note {
        let name = &self.name;
        let verdict = match kind {
            Kind::Video => Verdict::UnsupportedVideo,
            Kind::Audio => Verdict::UnsupportedAudio,
        };
        let sentence = match (kind, name.as_str()) {
            (Kind::Video, _) => format!(
                "the camera's video is {name}, which browsers cannot play by WebRTC: set it to \
                 H264 in the camera, or use another stream of it{CONVERT}"
            ),
            (Kind::Audio, _) => format!(
                "the camera's audio is {}, which browsers cannot play by WebRTC: set it to \
                 AAC-LC or G.711 (PCMU or PCMA) with one or two channels in the camera",
                self.sound.as_ref().err().unwrap_or(name)
            ),
        };
        Note {
            diagnosis: Diagnosis::seen(verdict, &self.written),
            sentence,
        }
    }
}

/// Payload types that need no `a=rtpmap` ([RFC 3551 §6]).
///
/// [RFC 3551 §6]: https://datatracker.ietf.org/doc/html/rfc3551#section-6
fn static_coding(format: &str) -> Option<&'static str> {
    Some(match format {
        "0" => "PCMU/8000",
        "3" => "GSM/8000",
        "4" => "G723/8000",
        "8" => "PCMA/8000",
        "9" => "G722/8000",
        "10" => "L16/44100/2",
        "11" => "L16/44100",
        "14" => "MPA/90000",
        "26" => "JPEG/90000",
        "31" => "H261/90000",
        "32" => "MPV/90000",
        "33" => "MP2T/90000",
        _ => return None,
    })
}

/// The URL for SETUP or PLAY: `control` is absolute, or is appended to `base` whatever query that
/// has. Cameras expect this, where the rules for relative URLs would replace the last segment.
pub(super) fn control_url(base: &str, control: &str) -> Option<Url> {
    let text = match control {
        "" | "*" => base.to_owned(),
        absolute
            if absolute.to_ascii_lowercase().starts_with("rtsp") && absolute.contains("://") =>
        {
            absolute.to_owned()
        }
        relative => format!(
            "{}/{}",
            base.trim_end_matches('/'),
            relative.trim_start_matches('/')
        ),
    };
    let mut url = Url::parse(&text).ok()?;
    // A camera that repeats our credentials must not make us send them in the clear.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(sdp: &str) -> Result<Chosen, Note> {
        Chosen::from(&Description::parse(sdp))
    }

    #[test]
    fn controls_are_appended_even_after_a_query() {
        let url = |base: &str, control: &str| control_url(base, control).unwrap().to_string();
        let dahua = "rtsp://h/cam/realmonitor?channel=1&subtype=0";
        assert_eq!(
            url(&format!("{dahua}/"), "trackID=0"),
            format!("{dahua}/trackID=0")
        );
        assert_eq!(url("rtsp://h/live", "/track1"), "rtsp://h/live/track1");
        assert_eq!(url("rtsp://h/live", "*"), "rtsp://h/live");
        assert_eq!(
            url("rtsp://h/live", "rtsp://u:p@10.0.0.1/x"),
            "rtsp://10.0.0.1/x"
        );
        assert!(control_url("not a url", "a").is_none());
    }

    #[test]
    fn one_track_of_each_kind_is_chosen_and_the_backchannel_is_not() {
        let sdp = "m=application 0 RTP/AVP 107\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:v\n\
            m=video 0 RTP/AVP 97\na=rtpmap:97 H265/90000\nm=audio 0 RTP/AVP 0\na=sendonly\na=control:talk\n\
            m=audio 0 RTP/AVP 8\na=control:a\n";
        let chosen = chosen(sdp).unwrap();
        let controls: Vec<_> = chosen.tracks.iter().map(|t| t.control.as_str()).collect();
        assert_eq!(controls, ["v", "a"]);
        assert_eq!(chosen.to_string(), "H264+PCMA");
        assert!(chosen.left_out.is_empty());
    }

    #[test]
    fn h265_is_chosen_where_there_is_no_h264() {
        let h265 = "m=video 0 RTP/AVP 97\na=rtpmap:97 H265/90000\na=control:h265\n";
        let alone = chosen(h265).unwrap();
        assert_eq!(alone.announcement().usable[0].codec, Codec::H265(None));
        let h264 = "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:h264\n";
        for both in [format!("{h265}{h264}"), format!("{h264}{h265}")] {
            let both = chosen(&both).unwrap();
            assert_eq!(both.to_string(), "H264");
            assert_eq!(both.tracks[0].control, "h264");
        }
    }

    #[test]
    fn sound_that_is_converted_is_announced_beside_what_goes_as_it_is() {
        let sdp = "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\nm=audio 0 RTP/AVP 97\n\
            a=rtpmap:97 mpeg4-generic/16000/1\na=fmtp:97 config=1408\na=control:aac\n";
        let aac = chosen(sdp).unwrap();
        assert_eq!(aac.to_string(), "H264+AAC 16000 Hz mono");
        let told = aac.announcement();
        assert_eq!((told.usable.len(), told.converted.len()), (1, 1));
        assert_eq!(told.converted[0].from, "AAC 16000 Hz mono");
        assert!(
            told.usable
                .iter()
                .all(|track| track.id != told.converted[0].track.id)
        );
        // Another track that needs no conversion is better.
        let both = chosen(&format!("{sdp}m=audio 0 RTP/AVP 8\na=control:pcma\n")).unwrap();
        assert_eq!(both.tracks[1].control, "pcma");
        let told = both.announcement();
        assert_eq!(
            (told.usable[1].codec, told.converted.len()),
            (Codec::Pcma, 1)
        );
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let (video, audio) = (Verdict::UnsupportedVideo, Verdict::UnsupportedAudio);
        for (sdp, part, verdict) in [
            ("m=video 0 RTP/AVP 26\n", "JPEG", video),
            (
                "m=audio 0 RTP/AVP 3\nm=video 0 RTP/AVP 96\na=rtpmap:96 MP4V-ES/90000\n",
                "MP4V-ES",
                video,
            ),
            ("m=audio 0 RTP/AVP 3\n", "GSM", audio),
            (
                "m=audio 0 RTP/AVP 97\na=rtpmap:97 mpeg4-generic/48000/6\na=fmtp:97 config=11b0\n",
                "AAC with 5.1 channels",
                audio,
            ),
            (
                "m=audio 0 RTP/AVP 97\na=rtpmap:97 PCMU/96000\n",
                "96000 Hz",
                audio,
            ),
            ("m=video 0 RTP/AVP 99\n", "unknown format (99)", video),
            (
                "m=text 0 RTP/AVP 99\n",
                "neither video nor audio",
                Verdict::BadDescription,
            ),
        ] {
            let Note {
                diagnosis,
                sentence,
            } = chosen(sdp).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
            assert_eq!(diagnosis.verdict, verdict, "{sentence}");
        }
    }
}
