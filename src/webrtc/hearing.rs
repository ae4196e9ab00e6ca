//! [`Hearing`]: what a viewer may send as speech, of what its offer has.

use crate::{
    base::{Note, Verdict},
    media::{Codec, Kind, audio::SpeechFormat},
    webrtc::{
        Offer, Plan,
        extension::AUDIO_LEVEL,
        negotiate::{SectionPlan, extension_of, matches, shares_transport},
    },
};

/// What a viewer may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearing {
    /// The index of the section in which it does.
    pub section: usize,
    /// Formats that are taken, the best first.
    pub formats: Vec<HeardFormat>,
    /// The identifier of the extension that tells how loud a packet is.
    pub level: Option<u8>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardFormat {
    /// The offered payload type.
    pub payload_type: u8,
    /// What it is.
    pub codec: Codec,
    /// `name/clock rate[/channels]`.
    pub rtpmap: String,
    /// Format parameters for the answer; may be empty.
    pub fmtp: String,
}

impl Hearing {
    /// The payload types for an `m=` line, that of what is `sent` last: what is first, the browser sends.
    #[must_use]
    pub fn types(&self, sent: Option<u8>) -> String {
        let heard = self.formats.iter().map(|format| format.payload_type);
        let others = heard.filter(|number| Some(*number) != sent);
        let all: Vec<_> = others
            .chain(sent)
            .map(|number| number.to_string())
            .collect();
        all.join(" ")
    }
}

/// The index of the section in which the viewer offers to send sound: one that does nothing else before
/// others.
#[must_use]
pub fn wanted(offer: &Offer, plan: &Plan) -> Option<usize> {
    let sections = 0..offer.sections().len();
    let speaking = sections.filter(|index| offer.sends(*index, Kind::Audio));
    let usable = speaking.filter(|index| shares_transport(offer, plan, *index));
    usable.min_by_key(|index| offer.receives(*index, Kind::Audio))
}

/// Lets the viewer speak in section `index` to a camera that takes `format`; or notes why it cannot.
pub fn hear(offer: &Offer, plan: &mut Plan, index: usize, format: SpeechFormat) -> bool {
    let section = &offer.sections()[index];
    let as_it_is = format.codec();
    // The camera's own goes as it is, all else is translated.
    let codecs = as_it_is.into_iter().chain([Codec::Opus]);
    let formats: Vec<_> = codecs
        .filter_map(|codec| {
            let offered = section.formats.iter();
            let format = offered.into_iter().find(|f| matches(codec, section, f))?;
            let fmtp = section.fmtp(format).filter(|(key, _)| !key.is_empty());
            let fmtp: Vec<_> = fmtp.map(|(key, value)| format!("{key}={value}")).collect();
            Some(HeardFormat {
                payload_type: format.parse().ok().filter(|number| *number < 128)?,
                codec,
                rtpmap: match codec.channels() {
                    1 => format!("{codec}/{}", codec.clock_rate()),
                    channels => format!("{codec}/{}/{channels}", codec.clock_rate()),
                },
                fmtp: fmtp.join(";"),
            })
        })
        .take(1)
        .collect();
    if formats.is_empty() {
        plan.notes.push(Note::new(
            Verdict::UnsupportedSpeech,
            format!(
                "you cannot be heard: the camera takes speech as {format}, and the offer has neither \
                 that nor Opus"
            ),
        ));
        return false;
    }
    if plan.sections[index] == SectionPlan::Refused {
        plan.sections[index] = SectionPlan::Hear;
    }
    plan.hearing = Some(Hearing {
        section: index,
        formats: with_sent(formats, plan, index),
        level: extension_of(section, AUDIO_LEVEL),
    });
    true
}

/// What is sent in a section can come from there as well: the answer names the formats of both ways alike.
fn with_sent(mut formats: Vec<HeardFormat>, plan: &Plan, index: usize) -> Vec<HeardFormat> {
    if let SectionPlan::Send(sending) = &plan.sections[index]
        && formats
            .iter()
            .all(|f| f.payload_type != sending.payload_type)
    {
        formats.push(HeardFormat {
            payload_type: sending.payload_type,
            codec: sending.track.codec,
            rtpmap: sending.rtpmap.clone(),
            fmtp: sending.fmtp.clone(),
        });
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::Tracks,
        media::{Track, TrackId, audio::Law, sdp::Description},
        webrtc::{
            answer::{self, LocalTransport, Streams},
            negotiate::negotiate,
            offer::tests::offer_of,
        },
    };

    const AUDIO: &str = "a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;useinbandfec=1\
        |a=extmap:3 urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    const VIDEO: (&str, &str) = (
        "video 98",
        "a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=1|a=recvonly",
    );
    const PCMA: SpeechFormat = SpeechFormat {
        law: Law::Alaw,
        rate: 8_000,
    };

    /// The plan for a camera with H.264 and perhaps `sound`, and the audio sections of the answer.
    fn answered(
        sound: Option<Codec>,
        sections: &[(&str, &str)],
        format: SpeechFormat,
    ) -> (Plan, Vec<(Vec<String>, String)>) {
        let codecs = std::iter::once(Codec::H264(None)).chain(sound);
        let usable = codecs.zip(0..).map(|(codec, id)| Track {
            id: TrackId(id),
            codec,
        });
        let tracks = Tracks {
            usable: usable.collect(),
            ..Tracks::default()
        };
        let offer = Offer::parse(&offer_of(sections)).unwrap();
        let mut plan = negotiate(&tracks, &offer).unwrap();
        if let Some(index) = wanted(&offer, &plan) {
            hear(&offer, &mut plan, index, format);
        }
        let streams = Streams {
            media: 1,
            rtx: None,
        };
        let text = answer::write(&offer, &plan, &LocalTransport::default(), &[streams; 2]);
        let media = Description::parse(&text).media.into_iter();
        let audio = media.filter(|section| section.media == "audio");
        let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
        let told = audio.map(|section| {
            let direction = directions.iter().find(|d| section.attributes.has(d));
            (section.formats, direction.unwrap().to_string())
        });
        (plan, told.collect())
    }

    fn told(formats: &[&str], direction: &str) -> (Vec<String>, String) {
        let formats = formats.iter().map(ToString::to_string);
        (formats.collect(), direction.to_owned())
    }

    #[test]
    fn the_cameras_own_format_goes_first_and_else_opus() {
        let both_ways = [("audio 111 0 8", AUDIO), VIDEO];
        let (plan, answer) = answered(Some(Codec::Pcmu), &both_ways, PCMA);
        assert_eq!(answer, [told(&["8", "0"], "sendrecv")]);
        let hearing = plan.hearing.unwrap();
        assert_eq!(hearing.level, Some(3));
        let codecs: Vec<_> = hearing.formats.iter().map(|f| f.codec).collect();
        assert_eq!(codecs, [Codec::Pcma, Codec::Pcmu]);
        let (_, answer) = answered(Some(Codec::Pcma), &both_ways, PCMA);
        assert_eq!(answer, [told(&["8"], "sendrecv")]);
        let wide = SpeechFormat {
            rate: 16_000,
            ..PCMA
        };
        let (_, answer) = answered(Some(Codec::Pcmu), &both_ways, wide);
        assert_eq!(answer, [told(&["111", "0"], "sendrecv")]);
        let only_opus = [("audio 111", AUDIO), VIDEO];
        let (_, answer) = answered(Some(Codec::Opus), &only_opus, PCMA);
        assert_eq!(answer, [told(&["111"], "sendrecv")]);
    }

    #[test]
    fn a_section_for_speech_alone_is_taken_before_one_for_both() {
        let sending = format!("{AUDIO}|a=sendonly");
        let sections = [VIDEO, ("audio 111 8", AUDIO), ("audio 111 8", &sending)];
        let (plan, answer) = answered(Some(Codec::Opus), &sections, PCMA);
        assert_eq!(
            answer,
            [told(&["111"], "sendonly"), told(&["8"], "recvonly")]
        );
        assert_eq!(plan.sections[2], SectionPlan::Hear);
        // A camera without a microphone has a back channel all the same.
        let (_, answer) = answered(None, &[("audio 8", ""), VIDEO], PCMA);
        assert_eq!(answer, [told(&["8"], "recvonly")]);
    }

    #[test]
    fn who_does_not_offer_to_speak_is_not_asked_to() {
        for lines in ["a=recvonly", "a=inactive"] {
            let lines = format!("{AUDIO}|{lines}");
            let (plan, answer) =
                answered(Some(Codec::Pcma), &[("audio 111 8", &lines), VIDEO], PCMA);
            assert_eq!((plan.hearing, answer[0].1 != "sendrecv"), (None, true));
        }
        let strange = [("audio 9", ""), VIDEO];
        let (plan, answer) = answered(None, &strange, PCMA);
        assert_eq!(answer, [told(&["9"], "inactive")]);
        assert_eq!(plan.notes[0].diagnosis.verdict, Verdict::UnsupportedSpeech);
    }
}
