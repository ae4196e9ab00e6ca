//! [`findings`]: what is wrong with a camera, and which of its settings to change. A pure function of what
//! was found out.

use serde::Serialize;

use crate::{
    base::Verdict,
    media::{Kind, h264::Profile},
    source::rtsp::inspect::{InspectedTrack, Inspection, Measured, Picture, Trial},
};

/// Key frames that are further apart than this are told of, in seconds: who watches first waits for one,
/// and so does everybody after a loss. Cameras are sold with one to four.
const KEY_FRAME_INTERVAL_MAX: f64 = 4.5;
/// Lost packets of a thousand that are told of: each costs the pictures up to the next key frame.
const LOST_PER_THOUSAND_MAX: u64 = 1;

/// Something that is wrong, as a program and as a person understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, told by its code.
    pub code: Verdict,
    /// How bad it is.
    pub severity: Severity,
    /// What it is and what to change.
    pub sentence: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Browsers do not play the camera.
    Error,
    /// They do, but not as well as they could.
    Warning,
}

/// What is wrong, the worst first.
#[must_use]
pub fn findings(inspection: &Inspection) -> Vec<Finding> {
    let mut found = Findings::default();
    let measured = || {
        inspection
            .tracks
            .iter()
            .filter_map(|track| track.measured.as_ref())
    };
    let has_media = measured().any(|measured| measured.packets > 0);
    if let Some(failure) = &inspection.failure {
        found.error(failure.verdict(), failure.to_string());
    }
    found.transport(inspection);
    found.tracks(&inspection.tracks);
    for track in &inspection.tracks {
        if let (None, Some(measured)) = (&track.unplayable, &track.measured)
            && (has_media || inspection.failure.is_none())
        {
            found.measured(track, measured);
        }
    }
    found
        .0
        .sort_by_key(|finding| finding.severity != Severity::Error);
    found.0
}

/// What is told of a camera that sends H.265 alone.
const H265: &str = "the camera's video is H265, which only some browsers take by WebRTC (Safari from version 18 \
                    on; Chrome and Edge from 136 on, where the device decodes it in hardware): set it to H264 in \
                    the camera, or use its second stream, so that it plays everywhere";

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, code: Verdict, sentence: impl Into<String>) {
        self.add(code, Severity::Error, sentence.into());
    }

    fn warning(&mut self, code: Verdict, sentence: impl Into<String>) {
        self.add(code, Severity::Warning, sentence.into());
    }

    fn add(&mut self, code: Verdict, severity: Severity, sentence: String) {
        self.0.push(Finding {
            code,
            severity,
            sentence,
        });
    }

    fn transport(&mut self, inspection: &Inspection) {
        match (&inspection.tcp, &inspection.udp) {
            (Trial::Fails(_), Trial::Works) if !inspection.asked_for_udp => self.warning(
                Verdict::TransportRefused,
                "media comes by UDP alone: add #transport=udp to the URL, so that nothing else is tried first",
            ),
            (Trial::Works, Trial::Fails(_)) if inspection.asked_for_udp => self.warning(
                Verdict::TransportRefused,
                "media comes by TCP alone: remove #transport=udp from the URL, so that nothing else is tried \
                 first",
            ),
            _ => {}
        }
    }

    /// What the description tells.
    fn tracks(&mut self, tracks: &[InspectedTrack]) {
        let of = |kind| tracks.iter().filter(move |track| track.kind == kind);
        let plays = |kind| of(kind).any(|track| track.unplayable.is_none());
        let why_not = |kind| of(kind).find_map(|track| track.unplayable.clone());
        if !plays(Kind::Video)
            && let Some(why) = why_not(Kind::Video)
        {
            self.error(Verdict::UnsupportedVideo, why);
        }
        let is_h265 = |track: &InspectedTrack| matches!(&*track.codec, "H265" | "HEVC");
        if plays(Kind::Video)
            && of(Kind::Video).all(|track| track.unplayable.is_some() || is_h265(track))
        {
            self.warning(Verdict::BrowserVideo, H265);
        }
        if !tracks.is_empty() && of(Kind::Video).next().is_none() {
            let sentence = "the camera describes no video: switch the video of this stream on in the \
                            camera, or use another stream of it";
            if plays(Kind::Audio) {
                self.warning(Verdict::NoVideo, sentence);
            } else {
                self.error(Verdict::NoVideo, sentence);
            }
        }
        if !plays(Kind::Audio)
            && let Some(why) = why_not(Kind::Audio)
        {
            self.warning(Verdict::UnsupportedAudio, why);
        }
    }

    /// What came of a track that browsers can play.
    fn measured(&mut self, track: &InspectedTrack, measured: &Measured) {
        let kind = track.kind.name();
        if measured.packets == 0 {
            let sentence = format!(
                "the camera accepted to play its {kind} and sent none: restart the camera, or switch its \
                 {kind} off and on"
            );
            if track.kind == Kind::Video {
                self.error(Verdict::NoMedia, sentence);
            } else {
                self.warning(Verdict::NoMedia, sentence);
            }
            return;
        }
        if let Some(picture) = &measured.picture {
            self.picture(track, picture);
        }
        if measured.sender_reports == 0 {
            self.warning(
                Verdict::NoSenderReports,
                format!(
                    "the camera sends no RTCP sender reports with its {kind}, without which sound and \
                     picture may drift apart: switch RTCP on in the camera, or bring its firmware up to date"
                ),
            );
        }
        let expected = measured.packets + measured.lost;
        if measured.lost * 1000 > expected * LOST_PER_THOUSAND_MAX {
            self.warning(
                Verdict::PacketLoss,
                format!(
                    "{} of {expected} packets of the {kind} were lost between the camera and this machine: \
                     check the network in between, or lower the camera's bit rate",
                    measured.lost
                ),
            );
        }
    }

    fn picture(&mut self, track: &InspectedTrack, picture: &Picture) {
        let sent = picture.profile_level;
        if let Some(sent) = sent.filter(|sent| sent.profile() == Profile::Other) {
            self.error(
                Verdict::WrongProfile,
                format!(
                    "the H.264 profile of the video ({sent}) is a professional one, with more bits or colour \
                     than browsers decode: set it to Baseline, Main or High in the camera, with 8 bits \
                     and 4:2:0"
                ),
            );
        } else if let (Some(sent), Some(described)) = (sent, track.described_profile_level)
            && sent.profile() != described.profile()
        {
            self.warning(
                Verdict::WrongProfile,
                format!(
                    "the camera describes H.264 {} ({described}) and sends {} ({sent}): Porthole goes by what \
                     is sent, other players may not; set the profile in the camera anew, or restart it",
                    described.profile().name(),
                    sent.profile().name(),
                ),
            );
        }
        let h265 = picture.profile_tier_level;
        if let Some(sent) = h265.filter(|sent| sent.is_professional()) {
            self.error(
                Verdict::WrongProfile,
                format!(
                    "the H.265 profile of the video ({}) is a professional one, with more bits or colour than \
                     browsers decode: set it to Main in the camera, with 8 bits and 4:2:0",
                    sent.profile
                ),
            );
        }
        if let Some(sentence) = &picture.left_out {
            self.warning(Verdict::BFrames, sentence);
        }
        let more_than = picture.key_frame_interval_more_than;
        let far = |at_least: &str, seconds: f64| {
            format!(
                "key frames are {at_least}{seconds:.0} s apart, so the first viewer waits as long for a \
                 picture, and all do after a loss: set the key frame interval (I-frame interval, GOP) to 2 s \
                 or less in the camera"
            )
        };
        match (picture.key_frame_interval, more_than) {
            (Some(seconds), _) if seconds.0 > KEY_FRAME_INTERVAL_MAX => {
                self.warning(Verdict::LongKeyFrameInterval, far("", seconds.0));
            }
            (None, Some(seconds)) if !picture.has_key_frame => self.error(
                Verdict::NoKeyFrame,
                format!(
                    "the camera sent no key frame within {:.0} s, and no picture can begin without: set the \
                     key frame interval (I-frame interval, GOP) to 2 s or less in the camera, or restart it",
                    seconds.0
                ),
            ),
            (None, Some(seconds)) if seconds.0 > KEY_FRAME_INTERVAL_MAX => {
                self.warning(Verdict::LongKeyFrameInterval, far("more than ", seconds.0.floor()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::Error, media::h265::ProfileTierLevel, source::rtsp::inspect::Seconds};

    fn video() -> InspectedTrack {
        InspectedTrack {
            kind: Kind::Video,
            codec: "H264".to_owned(),
            clock_rate: 90_000,
            channels: 1,
            unplayable: None,
            described_profile_level: "42e01f".parse().ok(),
            described_size: None,
            measured: Some(Measured {
                frame_rate: Some(25.0),
                bit_rate: Some(2e6),
                packets: 1000,
                lost: 0,
                packet_bytes: None,
                sender_reports: 1,
                picture: Some(Picture {
                    profile_level: "42c01f".parse().ok(),
                    profile_tier_level: None,
                    size: Some([1280, 720]),
                    has_key_frame: true,
                    key_frame_interval: Some(Seconds(1.0)),
                    key_frame_interval_more_than: None,
                    b_frames: false,
                    left_out: None,
                }),
            }),
        }
    }

    fn told_of(tracks: Vec<InspectedTrack>) -> Vec<(&'static str, Severity)> {
        let inspection = Inspection {
            tracks,
            ..Inspection::default()
        };
        let found = findings(&inspection);
        let short = |finding: &Finding| (finding.code.code(), finding.severity);
        found.iter().map(short).collect()
    }

    /// What is told of a camera whose video is changed like this.
    fn changed(
        change: impl Fn(&mut InspectedTrack, &mut Measured),
    ) -> Vec<(&'static str, Severity)> {
        let mut track = video();
        let mut measured = track.measured.take().unwrap();
        change(&mut track, &mut measured);
        track.measured = Some(measured);
        told_of(vec![track])
    }

    fn picture(change: impl Fn(&mut Picture)) -> Vec<(&'static str, Severity)> {
        changed(|_, measured| change(measured.picture.as_mut().unwrap()))
    }

    #[test]
    fn a_camera_as_it_should_be_gets_no_complaint() {
        assert_eq!(told_of(vec![video()]), []);
        assert_eq!(changed(|_, measured| measured.lost = 1), []);
    }

    #[test]
    fn each_fault_has_its_code() {
        use Severity::{Error, Warning};
        let one = |found: Vec<_>, code, severity| assert_eq!(found, [(code, severity)]);
        one(
            picture(|p| p.left_out = Some(String::new())),
            "b-frames",
            Warning,
        );
        let far = "long-key-frame-interval";
        one(
            picture(|p| p.key_frame_interval = Some(Seconds(10.0))),
            far,
            Warning,
        );
        let at_least = |seconds: f64, has_key_frame: bool| {
            picture(|p| {
                p.key_frame_interval = None;
                p.key_frame_interval_more_than = Some(Seconds(seconds));
                p.has_key_frame = has_key_frame;
            })
        };
        one(at_least(5.5, true), far, Warning);
        one(at_least(11.0, false), "no-key-frame", Error);
        assert_eq!(at_least(3.0, true), []);
        let profile = |text: &str| picture(|p| p.profile_level = text.parse().ok());
        one(profile("7a001f"), "wrong-profile", Error);
        one(profile("64001f"), "wrong-profile", Warning);
        let h265 = ProfileTierLevel {
            profile: 4,
            high_tier: false,
            level: 120,
        };
        one(
            picture(|p| p.profile_tier_level = Some(h265)),
            "wrong-profile",
            Error,
        );
        one(
            changed(|track, _| track.codec = "H265".to_owned()),
            "browser-video",
            Warning,
        );
        one(
            changed(|_, m| m.sender_reports = 0),
            "no-sender-reports",
            Warning,
        );
        one(changed(|_, m| m.lost = 2), "packet-loss", Warning);
        one(changed(|_, m| m.packets = 0), "no-media", Error);
    }

    #[test]
    fn what_browsers_cannot_play_is_an_error_only_if_the_picture_is_missing() {
        use Severity::{Error, Warning};
        let unplayable = |kind| InspectedTrack {
            kind,
            unplayable: Some("why".to_owned()),
            ..video()
        };
        let (mjpeg, aac) = (unplayable(Kind::Video), unplayable(Kind::Audio));
        assert_eq!(told_of(vec![mjpeg]), [("unsupported-video", Error)]);
        let only_sound = told_of(vec![aac]);
        let expected = [("no-video", Error), ("unsupported-audio", Warning)];
        assert_eq!(only_sound, expected);
        let both = told_of(vec![unplayable(Kind::Audio), video()]);
        assert_eq!(both, [("unsupported-audio", Warning)]);
    }

    #[test]
    fn a_failure_is_told_once_and_in_its_own_words() {
        for packets in [None, Some(0), Some(9)] {
            let mut track = video();
            match packets {
                Some(packets) => track.measured.as_mut().unwrap().packets = packets,
                None => track.measured = None,
            }
            let inspection = Inspection {
                failure: Some(Error::new(Verdict::Stalled, "it did")),
                tracks: vec![track],
                ..Inspection::default()
            };
            let found = findings(&inspection);
            let [only] = &found[..] else {
                panic!("{found:?}")
            };
            assert_eq!((only.code, &*only.sentence), (Verdict::Stalled, "it did"));
        }
    }

    #[test]
    fn a_way_of_transport_that_fails_matters_only_if_it_is_asked_for() {
        let told = |asked_for_udp, tcp, udp| {
            let inspection = Inspection {
                asked_for_udp,
                tcp,
                udp,
                tracks: vec![video()],
                ..Inspection::default()
            };
            findings(&inspection).len()
        };
        let fails = || Trial::Fails("461".to_owned());
        assert_eq!(told(false, Trial::Works, fails()), 0);
        assert_eq!(told(true, fails(), Trial::Works), 0);
        assert_eq!(told(false, fails(), Trial::Works), 1);
        assert_eq!(told(true, Trial::Works, fails()), 1);
    }
}
