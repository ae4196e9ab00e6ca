//! What a viewer gets: a pure function from a camera's tracks and an offer to a [`Plan`].

mod select;
#[cfg(test)]
mod tests;

pub use self::select::{Selection, overview, select};

use std::collections::HashSet;

use crate::{
    base::{Error, Note, Verdict},
    hub::Tracks,
    media::{
        Codec, Kind, Track,
        h264::{Profile, ProfileLevel},
        h265::ProfileTierLevel,
        sdp::MediaSection,
    },
    webrtc::{
        Offer,
        extension::{ABS_SEND_TIME, Extensions, PLAYOUT_DELAY, TRANSPORT_SEQUENCE},
        hearing::Hearing,
    },
};

/// The answer to an offer, section by section.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One for each section of the offer, in its order.
    pub sections: Vec<SectionPlan>,
    /// For the person who watches: what is missing and why.
    pub notes: Vec<Note>,
    /// What the viewer may send, if it may speak.
    pub hearing: Option<Hearing>,
}

/// What becomes of one media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionPlan {
    /// We send a track; and take speech, if the plan's [`Hearing`] is of this section.
    Send(Sending),
    /// We only take speech.
    Hear,
    /// The data channel is kept open, for clients that insist on one.
    Data,
    /// Refused, with port 0.
    Refused,
}

/// One track as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Which track of the camera.
    pub track: Track,
    /// The payload type, chosen among the offered ones.
    pub payload_type: u8,
    /// `name/clock rate[/channels]` as offered.
    pub rtpmap: String,
    /// Format parameters for the answer; may be empty.
    pub fmtp: String,
    /// Feedback that both sides understand, as in `nack pli`.
    pub feedback: Vec<String>,
    /// The payload type of packets that are sent again ([RFC 4588]), if the browser has one for them.
    ///
    /// [RFC 4588]: https://datatracker.ietf.org/doc/html/rfc4588
    pub rtx: Option<u8>,
    /// Header extensions that every packet has.
    pub extensions: Extensions,
}

impl Plan {
    /// Everything that is sent, in the offer's order.
    pub fn sendings(&self) -> impl Iterator<Item = &Sending> {
        self.sections.iter().filter_map(|section| match section {
            SectionPlan::Send(sending) => Some(sending),
            SectionPlan::Hear | SectionPlan::Data | SectionPlan::Refused => None,
        })
    }

    /// The index of the first section that is not refused: it carries the transport.
    ///
    /// # Panics
    /// Never: a plan without a section to send is not made.
    #[must_use]
    pub fn first(&self) -> usize {
        self.sections
            .iter()
            .position(|section| *section != SectionPlan::Refused)
            .expect("a plan sends something")
    }
}

/// Feedback that we understand: lost packets are sent again, and so are the pictures since the last key
/// frame; the last two tell what the path takes. Of these the browser's own estimate comes first: it
/// needs a message in a second where reports on each packet need twenty.
const FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"];

/// Matches what a camera has with what a browser takes. Sections keep their order and number; each
/// kind is sent once, in the first section that can have it.
///
/// # Errors
/// `NotAcceptable` when nothing fits, or when the picture does not: a viewer who asked for a picture
/// is told the reason instead of being shown a black one.
pub fn negotiate(tracks: &Tracks, offer: &Offer) -> Result<Plan, Error> {
    let mut plan = Plan {
        sections: vec![SectionPlan::Refused; offer.sections().len()],
        notes: tracks
            .left_out
            .iter()
            .map(|track| track.note.clone())
            .collect(),
        hearing: None,
    };
    for kind in [Kind::Video, Kind::Audio] {
        let wanted = wanted(&plan, offer, kind);
        let mut of_kind = tracks.of_kind(kind).peekable();
        if wanted.is_empty() {
            continue;
        }
        if of_kind.peek().is_none() {
            let mut unusable = tracks.left_out.iter().filter(|track| track.kind == kind);
            match unusable.next() {
                Some(track) if kind == Kind::Video => return Err(track.note.clone().into()),
                None if kind == Kind::Video => {
                    let sentence = "the camera sends no video, only sound; switch the video of this \
                                    stream on in the camera, or use another stream of it";
                    plan.notes.push(Note::new(Verdict::NoVideo, sentence));
                }
                _ => {}
            }
            continue;
        }
        let fits = of_kind.clone().find_map(|track| {
            wanted
                .iter()
                .find_map(|index| Some((*index, sending(track, &offer.sections()[*index])?)))
        });
        if let Some((index, (sending, note))) = fits {
            plan.sections[index] = SectionPlan::Send(sending);
            plan.notes
                .extend(note.map(|note| Note::new(Verdict::VideoProfile, note)));
            continue;
        }
        let camera: Vec<_> = of_kind.map(|t| t.codec.name()).collect();
        let missing = mismatch(kind, &camera, offer, &wanted);
        if kind == Kind::Video {
            return Err(Error::new(Verdict::BrowserVideo, missing));
        }
        plan.notes.push(Note::new(Verdict::BrowserAudio, missing));
    }
    if plan.sendings().next().is_none() {
        return Err(nothing(tracks, &plan));
    }
    for (index, section) in offer.sections().iter().enumerate() {
        if section.media == "application"
            && section.protocol.ends_with("DTLS/SCTP")
            && section.formats.iter().any(|f| f == "webrtc-datachannel")
            && (section.port != 0 || section.attributes.has("bundle-only"))
            && shares_transport(offer, &plan, index)
        {
            plan.sections[index] = SectionPlan::Data;
            break;
        }
    }
    Ok(plan)
}

/// Sections in which one kind can be sent beside what is planned.
fn wanted(plan: &Plan, offer: &Offer, kind: Kind) -> Vec<usize> {
    (0..plan.sections.len())
        .filter(|index| offer.receives(*index, kind) && shares_transport(offer, plan, *index))
        .collect()
}

/// Whether section `index` can be sent beside what is planned: on the same transport, or alone.
pub(super) fn shares_transport(offer: &Offer, plan: &Plan, index: usize) -> bool {
    let others = plan.sections.iter().enumerate();
    others
        .filter(|(_, section)| **section != SectionPlan::Refused)
        .all(|(other, _)| offer.is_bundled(other) && offer.is_bundled(index))
}

/// How `track` is sent in `section`, if it can be, and what the viewer should know about it.
fn sending(track: Track, section: &MediaSection) -> Option<(Sending, Option<String>)> {
    let offered = section
        .formats
        .iter()
        .filter(|format| matches(track.codec, section, format));
    let (format, note) = match track.codec {
        Codec::H264(profile) => best_h264(profile, section, offered)?,
        Codec::H265(profile) => best_h265(profile, section, offered)?,
        _ => ({ offered }.next()?, None),
    };
    let rtpmap = section.rtpmap(format).map_or_else(
        || static_rtpmap(format).unwrap_or_default().to_owned(),
        str::to_owned,
    );
    let mut feedback: Vec<_> = FEEDBACK
        .into_iter()
        .filter(|wanted| {
            section.attributes.all("rtcp-fb").any(|line| {
                line.split_once(' ')
                    .is_some_and(|(of, what)| (of == format || of == "*") && what.trim() == *wanted)
            })
        })
        .map(str::to_owned)
        .collect();
    let rtx = feedback
        .iter()
        .any(|f| f == "nack")
        .then(|| rtx_of(format, section))
        .flatten();
    let extensions = extensions(track.kind(), section, &mut feedback, rtx.is_some());
    let fmtp: Vec<_> = section
        .fmtp(format)
        // RFC 6184 §8.2.2, RFC 7798 §7.2.2: these would describe our stream, and are of the other side's.
        .filter(|(key, _)| !key.is_empty() && !key.to_ascii_lowercase().starts_with("sprop-"))
        .map(|(key, value)| {
            if value.is_empty() {
                key.to_owned()
            } else {
                format!("{key}={value}")
            }
        })
        .collect();
    let sending = Sending {
        track,
        payload_type: format.parse().ok().filter(|pt| *pt < 128)?,
        rtpmap,
        fmtp: fmtp.join(";"),
        feedback,
        rtx,
        extensions,
    };
    Some((sending, note))
}

/// The payload type for packets of `format` that are sent again (RFC 4588 §8.1).
fn rtx_of(format: &str, section: &MediaSection) -> Option<u8> {
    let rtx = section.formats.iter().find(|candidate| {
        let name = section
            .rtpmap(candidate)
            .and_then(|map| map.split('/').next());
        name.is_some_and(|name| name.eq_ignore_ascii_case("rtx"))
            && section.parameter(candidate, "apt") == Some(format)
    });
    rtx?.parse().ok().filter(|pt| *pt < 128)
}

/// The extensions of a lane, and with them its `feedback`: just one kind of report on what the path
/// takes, and only with what it needs.
fn extensions(
    kind: Kind,
    section: &MediaSection,
    feedback: &mut Vec<String>,
    has_rtx: bool,
) -> Extensions {
    let offered = |uri: &str| extension_of(section, uri);
    let mut extensions = Extensions::default();
    if kind == Kind::Video {
        extensions.playout_delay = offered(PLAYOUT_DELAY);
        if feedback.iter().any(|f| f == "goog-remb") {
            extensions.abs_send_time = offered(ABS_SEND_TIME);
            feedback.retain(|f| f != "transport-cc");
        } else {
            extensions.transport_sequence = offered(TRANSPORT_SEQUENCE);
        }
    }
    if !has_rtx {
        // A packet that is sent again as it was must be the same to the last bit, or the cipher is
        // used twice for different contents (RFC 7714 §8.4). What is in extensions differs.
        extensions = Extensions::default();
    }
    if extensions.transport_sequence.is_none() {
        feedback.retain(|f| f != "transport-cc");
    }
    extensions
}

/// The identifier under which `section` offers an extension.
pub(super) fn extension_of(section: &MediaSection, uri: &str) -> Option<u8> {
    section.attributes.all("extmap").find_map(|line| {
        let (id, rest) = line.split_once(' ')?;
        // RFC 8285 §5: a direction may follow, and one-byte headers have 14 identifiers.
        let id = id
            .split('/')
            .next()?
            .parse()
            .ok()
            .filter(|id| (1..=14).contains(id))?;
        (rest.split(' ').next() == Some(uri)).then_some(id)
    })
}

/// Whether payload type `format` of `section` is of `codec`.
pub(super) fn matches(codec: Codec, section: &MediaSection, format: &str) -> bool {
    let Some(rtpmap) = section.rtpmap(format).or_else(|| static_rtpmap(format)) else {
        return false;
    };
    let mut parts = rtpmap.split('/');
    let name = parts.next().unwrap_or_default();
    let rate = parts.next().and_then(|rate| rate.trim().parse().ok());
    name.eq_ignore_ascii_case(codec.name()) && rate == Some(codec.clock_rate())
}

/// Payload types that need no `a=rtpmap` (RFC 3551 §6).
fn static_rtpmap(format: &str) -> Option<&'static str> {
    match format {
        "0" => Some("PCMU/8000"),
        "8" => Some("PCMA/8000"),
        _ => None,
    }
}

/// The best of the offered H.264 formats: the camera's own profile, or one that decodes it, or, as
/// many decoders can do more than they say, any; with a note in that case.
fn best_h264<'a>(
    camera: Option<ProfileLevel>,
    section: &'a MediaSection,
    offered: impl Iterator<Item = &'a String>,
) -> Option<(&'a String, Option<String>)> {
    let mut formats: Vec<_> = offered
        // Mode 0 forbids fragments, without which a picture does not fit into packets. Clients that
        // say nothing, such as an Echo Show, take them all the same, so these come last.
        .filter(|format| mode(section, format).is_none_or(|mode| mode == "1"))
        .map(|format| {
            // RFC 6184 §8.1: Baseline at level 1 if nothing is said.
            let level = section
                .parameter(format, "profile-level-id")
                .and_then(|id| id.parse().ok())
                .unwrap_or(ProfileLevel([66, 0, 10]));
            (format, level.profile())
        })
        .collect();
    let Some(camera) = camera.map(ProfileLevel::profile) else {
        formats.sort_by_key(|(format, _)| mode(section, format).is_none());
        return formats.first().map(|(format, _)| (*format, None));
    };
    let rank = |offered: &Profile| match offered {
        // Professional profiles are many, and one does not decode another.
        Profile::Other => 3,
        same if *same == camera => 0,
        larger if larger.decodes(camera) => 1,
        _ => 2,
    };
    formats.sort_by_key(|(format, profile)| {
        let silent = mode(section, format).is_none();
        (silent, rank(profile), std::cmp::Reverse(*profile))
    });
    let (format, profile) = formats.first()?;
    let note = (rank(profile) > 1).then(|| {
        format!(
            "the camera's video is H264 {}, which this browser did not announce; it is sent as {}: if \
             no picture appears, set the camera to that profile",
            camera.name(),
            profile.name()
        )
    });
    Some((*format, note))
}

/// The same of H.265. Browsers announce what the device decodes, each profile with its highest level.
fn best_h265<'a>(
    camera: Option<ProfileTierLevel>,
    section: &'a MediaSection,
    mut offered: impl Iterator<Item = &'a String>,
) -> Option<(&'a String, Option<String>)> {
    let parameter = |format: &str, name| section.parameter(format, name);
    let number = |format: &str, name| parameter(format, name).and_then(|text| text.parse().ok());
    // What comes in several RTP streams, which is not how it is sent.
    let is_one_stream = |format: &&String| {
        parameter(format, "tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"))
    };
    let Some(camera) = camera else {
        return offered.find(is_one_stream).map(|format| (format, None));
    };
    let announced = |format: &str| ProfileTierLevel {
        // RFC 7798 §7.1: Main profile and Main tier if nothing is said. The level would be 3.1, but who says
        // nothing, such as Safari, decodes far more.
        profile: number(format, "profile-id").unwrap_or(ProfileTierLevel::MAIN),
        high_tier: number(format, "tier-flag") == Some(1),
        level: number(format, "level-id").unwrap_or(u8::MAX),
    };
    let rank = |takes: ProfileTierLevel| {
        let decodes = takes.decodes_profile(camera);
        (!decodes, takes.level < camera.level)
    };
    let formats = offered
        .filter(is_one_stream)
        .map(|format| (format, announced(format)));
    let (format, takes) = formats.min_by_key(|(_, takes)| {
        // Of levels that do not suffice the highest.
        let level = std::cmp::Reverse(takes.level.min(camera.level));
        (rank(*takes), takes.profile != camera.profile, level)
    })?;
    let note = (rank(takes) != (false, false)).then(|| {
        let takes = match takes.level {
            u8::MAX => takes.profile_name().to_owned(),
            _ => takes.to_string(),
        };
        format!(
            "the camera's video is H265 {camera}, which this browser did not announce; it is sent as \
             {takes}: if no picture appears, set the camera to H264 or to fewer pixels, or use its second \
             stream"
        )
    });
    Some((format, note))
}

fn mode<'a>(section: &'a MediaSection, format: &str) -> Option<&'a str> {
    section.parameter(format, "packetization-mode")
}

fn mismatch(kind: Kind, camera: &[&str], offer: &Offer, wanted: &[usize]) -> String {
    let mut names: Vec<String> = wanted
        .iter()
        .flat_map(|index| {
            let section = &offer.sections()[*index];
            section.formats.iter().filter_map(|format| {
                let rtpmap = section.rtpmap(format).or_else(|| static_rtpmap(format))?;
                let name = rtpmap.split('/').next().unwrap_or(rtpmap);
                let mode = mode(section, format).filter(|_| name == "H264");
                Some(mode.map_or(name.to_owned(), |mode| {
                    format!("{name} in packetization mode {mode}")
                }))
            })
        })
        .filter(|name| {
            ![
                "rtx",
                "red",
                "ulpfec",
                "flexfec-03",
                "CN",
                "telephone-event",
            ]
            .contains(&name.as_str())
        })
        .collect();
    let mut told = HashSet::new();
    names.retain(|name| told.insert(name.clone()));
    names.truncate(8);
    let offered = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    let advice = match kind {
        Kind::Video if camera.contains(&"H264") => {
            "; use a browser with H264 in packetization mode 1"
        }
        Kind::Video => {
            "; set it to H264 in the camera, use its second stream or a browser that takes it, or let \
             ffmpeg convert it: write ffmpeg:rtsp://…#video=h264 in the configuration file"
        }
        Kind::Audio => "",
    };
    format!(
        "the camera's {} is {}, and the offer takes only {offered}{advice}",
        kind.name(),
        camera.join(" or ")
    )
}

fn nothing(tracks: &Tracks, plan: &Plan) -> Error {
    if let Some(first) = plan.notes.first() {
        let sentences: Vec<_> = plan.notes.iter().map(|note| &*note.sentence).collect();
        return Error::new(
            first.diagnosis.clone(),
            format!(
                "nothing of this camera can be sent: {}",
                sentences.join("; ")
            ),
        );
    }
    let camera: Vec<_> = tracks.playable().iter().map(|t| t.codec.name()).collect();
    Error::new(
        Verdict::NothingToPlay,
        format!(
            "the camera has {}, but the offer has no section that receives it (recvonly or sendrecv, \
             with rtcp-mux)",
            camera.join(" and ")
        ),
    )
}
