//! [`Report`]: what was found out and what to change, as text and as JSON.

use std::fmt;

use serde::Serialize;

use super::advice::{Finding, Severity};
use crate::{
    base::SourceUrl,
    media::Kind,
    source::rtsp::inspect::{InspectedTrack, Inspection, Measured, Sizes, Trial},
};

/// What there is to know of a camera. `Display` gives the text for people.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The camera, without secrets.
    pub url: String,
    /// Whether browsers play its picture; of a camera without one, its sound.
    pub plays: bool,
    /// What was found out.
    #[serde(flatten)]
    pub inspection: Inspection,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report on the camera at `url`.
    #[must_use]
    pub fn new(url: &SourceUrl, inspection: Inspection, findings: Vec<Finding>) -> Self {
        let is_bad = |finding: &Finding| finding.severity == Severity::Error;
        Self {
            url: url.to_string(),
            plays: !findings.iter().any(is_bad) && !inspection.tracks.is_empty(),
            inspection,
            findings,
        }
    }

    /// What browsers make of it, in a sentence.
    fn verdict(&self) -> String {
        if !self.plays {
            return "Browsers do not play this camera.".to_owned();
        }
        let playable = self
            .inspection
            .tracks
            .iter()
            .filter(|track| track.unplayable.is_none());
        let mut kinds: Vec<_> = playable
            .map(|track| match track.kind {
                Kind::Video => "the picture",
                Kind::Audio => "the sound",
            })
            .collect();
        kinds.dedup();
        format!("Browsers play {} of this camera.", kinds.join(" and "))
    }
}

/// A line of the table.
fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<14}{value}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.inspection;
        writeln!(f, "{}", self.url)?;
        if let Some(to) = &found.redirected_to {
            row(f, "redirects to", to)?;
        }
        if let Some(address) = &found.address {
            row(f, "address", &address.to_string())?;
            row(
                f,
                "server",
                found.server.as_deref().unwrap_or("does not say"),
            )?;
            let schemes = found.authentication.join(", ");
            row(
                f,
                "password",
                if schemes.is_empty() {
                    "not asked for"
                } else {
                    &schemes
                },
            )?;
        }
        for track in &found.tracks {
            row(f, track.kind.name(), &described(track))?;
            if let Some(measured) = &track.measured {
                for line in lines(track.kind, measured) {
                    row(f, "", &line)?;
                }
            }
        }
        if !found.tracks.is_empty() {
            row(f, "over TCP", &trial(&found.tcp))?;
            row(f, "over UDP", &trial(&found.udp))?;
        }
        if let Some(takes_sound) = found.back_channel {
            row(f, "back channel", if takes_sound { "yes" } else { "no" })?;
        }
        writeln!(f, "\n{}", self.verdict())?;
        for Finding {
            code,
            severity,
            sentence,
        } in &self.findings
        {
            let severity = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(f, "\n  {severity}: {code}\n    {sentence}")?;
        }
        Ok(())
    }
}

/// Codec, profile, size.
fn described(track: &InspectedTrack) -> String {
    let mut parts = vec![track.codec.clone()];
    let picture = track.measured.as_ref().and_then(|m| m.picture.as_ref());
    let sent = picture.and_then(|picture| picture.profile_level);
    if let Some(profile_level) = sent.or(track.described_profile_level) {
        let name = profile_level.profile().name();
        let level = f64::from(profile_level.0[2]) / 10.0;
        parts[0] = format!("{} {name}, level {level:.1} ({profile_level})", track.codec);
    }
    if let Some(sent) = picture.and_then(|picture| picture.profile_tier_level) {
        parts[0] = format!("{} {sent}", track.codec);
    }
    let size = picture.and_then(|picture| picture.size);
    if let Some([width, height]) = size.or(track.described_size) {
        parts.push(format!("{width}x{height}"));
    }
    if track.kind == Kind::Audio {
        parts.push(format!("{} Hz", track.clock_rate));
        parts.push(format!("{} channels", track.channels).replace("1 channels", "1 channel"));
    }
    if track.unplayable.is_some() {
        parts.push("not for browsers".to_owned());
    }
    parts.join(", ")
}

fn lines(kind: Kind, measured: &Measured) -> Vec<String> {
    if measured.packets == 0 {
        return vec!["nothing came".to_owned()];
    }
    let mut rates = Vec::new();
    if let Some(rate) = measured.frame_rate.filter(|_| kind == Kind::Video) {
        rates.push(format!("{rate:.1} pictures/s"));
    }
    if let Some(bits) = measured.bit_rate {
        rates.push(if bits < 1e6 {
            format!("{:.0} kbit/s", bits / 1e3)
        } else {
            format!("{:.2} Mbit/s", bits / 1e6)
        });
    }
    let mut lines = vec![rates.join(", ")];
    if let Some(picture) = &measured.picture {
        let interval = match (
            picture.key_frame_interval,
            picture.key_frame_interval_more_than,
        ) {
            (Some(seconds), _) => format!("a key frame every {:.1} s", seconds.0),
            (None, Some(seconds)) if picture.has_key_frame => {
                format!("more than {:.1} s between key frames", seconds.0)
            }
            _ => "no key frame".to_owned(),
        };
        let b_frames = if picture.b_frames {
            "B-frames"
        } else {
            "no B-frames"
        };
        lines.push(format!("{interval}, {b_frames}"));
    }
    if let Some(sizes) = measured.packet_bytes {
        let Sizes { min, median, max } = sizes;
        let bytes = if min == max {
            format!("{min} bytes")
        } else {
            format!("{min} to {max} bytes (median {median})")
        };
        let (packets, lost) = (measured.packets, measured.lost);
        lines.push(format!("{packets} packets of {bytes}, {lost} lost"));
    }
    let has_reports = measured.sender_reports > 0;
    lines.push(
        if has_reports {
            "sender reports"
        } else {
            "no sender reports"
        }
        .to_owned(),
    );
    lines.retain(|line| !line.is_empty());
    lines
}

fn trial(trial: &Trial) -> String {
    match trial {
        Trial::Works => "works".to_owned(),
        Trial::NotTried => "not tried".to_owned(),
        // The camera is named at the top.
        Trial::Fails(why) => format!(
            "fails: {}",
            why.split_once(": ").map_or(&**why, |(_, why)| why)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::advice::findings,
        source::rtsp::inspect::{Picture, Seconds},
    };

    fn report() -> Report {
        let url = SourceUrl::parse("rtsp://admin:hunter2@h/x?token=hunter2").unwrap();
        let video = InspectedTrack {
            kind: Kind::Video,
            codec: "H264".to_owned(),
            clock_rate: 90_000,
            channels: 1,
            unplayable: None,
            described_profile_level: None,
            described_size: None,
            measured: Some(Measured {
                frame_rate: Some(12.5),
                bit_rate: Some(1_234_567.0),
                packets: 100,
                lost: 0,
                packet_bytes: Some(Sizes {
                    min: 40,
                    median: 900,
                    max: 1400,
                }),
                sender_reports: 1,
                picture: Some(Picture {
                    profile_level: "4d0028".parse().ok(),
                    profile_tier_level: None,
                    size: Some([1920, 1080]),
                    has_key_frame: true,
                    key_frame_interval: Some(Seconds(2.0)),
                    key_frame_interval_more_than: None,
                    b_frames: true,
                    left_out: Some("the camera sends B-frames".to_owned()),
                }),
            }),
        };
        let inspection = Inspection {
            address: Some([192, 0, 2, 1].into()),
            authentication: vec!["Digest MD5".to_owned()],
            tcp: Trial::Works,
            tracks: vec![video],
            ..Inspection::default()
        };
        let found = findings(&inspection);
        Report::new(&url, inspection, found)
    }

    #[test]
    fn a_person_reads_what_there_is_and_what_to_change() {
        let text = report().to_string();
        for part in [
            "rtsp://***@h/x?token=***",
            "password      Digest MD5\n",
            "video         H264 Main, level 4.0 (4d0028), 1920x1080\n",
            "12.5 pictures/s, 1.23 Mbit/s",
            "a key frame every 2.0 s, B-frames",
            "100 packets of 40 to 1400 bytes (median 900), 0 lost",
            "over TCP      works",
            "over UDP      not tried",
            "Browsers play the picture of this camera.",
            "warning: b-frames\n    the camera sends B-frames",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert!(
            !text.contains("hunter2") && !text.contains("admin"),
            "{text}"
        );
    }

    #[test]
    fn a_program_reads_the_same() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["plays"], true);
        assert_eq!(json["findings"][0]["code"], "b-frames");
        assert_eq!(json["findings"][0]["severity"], "warning");
        assert_eq!(json["tracks"][0]["kind"], "video");
        let picture = &json["tracks"][0]["measured"]["picture"];
        assert_eq!(picture["profile_level"], "4d0028");
        assert_eq!(picture["key_frame_interval"], 2.0);
        assert_eq!(json["tcp"]["result"], "works");
        assert!(!json.to_string().contains("hunter2"), "{json}");
    }

    #[test]
    fn without_any_track_nothing_plays() {
        let url = SourceUrl::parse("rtsp://h/x").unwrap();
        let report = Report::new(&url, Inspection::default(), Vec::new());
        assert!(!report.plays);
        assert!(report.to_string().contains("do not play"));
    }
}
