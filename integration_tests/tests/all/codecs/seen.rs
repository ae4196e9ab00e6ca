//! What a receiver has seen and heard of a camera, and what is wrong with that.

use std::{collections::BTreeSet, time::Duration};

use integration_tests::{browser::Report, peers::Received, server::Reply};
use serde_json::Value;

use super::expected::{Picture, Receiver, Sound};

/// Of every camera, in Hz.
const TONE: f64 = 440.0;
/// What measures it has steps of 3 Hz.
const OFF: f64 = 4.0;
/// The verdicts that are a reason for silence.
const NO_SOUND: [&str; 3] = ["unsupported-audio", "browser-audio", "track-stopped"];
/// Pictures that a receiver needs: of less than a second, or of three where B-frames are left out.
pub(super) const ENOUGH: u64 = 20;

/// What came of a cell.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) error: String,
    /// The kinds of tracks that the reply told.
    tracks: Vec<String>,
    /// Verdicts of the reply, and of the camera in `GET /cameras`.
    pub(super) codes: BTreeSet<String>,
    pictures: u64,
    /// What is wrong with them.
    broken: Option<String>,
    /// Where the receiver tells.
    codec: Option<String>,
    tone: f64,
}

impl Seen {
    pub(super) fn in_browser(report: &Report, tone: f64) -> Self {
        let mut lately = report.clone();
        // A converter that came between two key frames has begun with what it could not decode.
        lately
            .shown
            .retain(|shown| shown.at + Duration::from_secs(3) > report.now);
        let is_shown = report.status == 200 && report.frames_decoded > 0;
        Self {
            status: report.status,
            error: report.error.clone().unwrap_or_default(),
            tracks: report.tracks.clone(),
            codes: report.verdicts.iter().cloned().collect(),
            pictures: report.frames_decoded,
            broken: is_shown.then(|| lately.frames_are_right().err()).flatten(),
            codec: Some(report.audio_codec.clone()),
            tone,
        }
    }

    /// Of what `aiortc_viewers.py` tells.
    pub(super) fn in_aiortc(told: &Value) -> Self {
        let list = |value: &Value| -> Vec<String> {
            serde_json::from_value(value.clone()).expect("a list of words")
        };
        let count = |value: &Value| value.as_u64().expect("a number");
        let unreadable = count(&told["unreadable"]);
        let bad = (unreadable > 0).then(|| format!("{unreadable} unreadable"));
        Self {
            status: u16::try_from(count(&told["status"])).expect("a status is small"),
            error: told["error"].as_str().unwrap_or_default().to_owned(),
            tracks: list(&told["tracks"]),
            codes: list(&told["verdicts"]).into_iter().collect(),
            pictures: count(&told["read"]),
            broken: told["mistake"].as_str().map(str::to_owned).or(bad),
            codec: None,
            tone: told["tone"].as_f64().expect("a number"),
        }
    }

    pub(super) fn in_webrtcbin(reply: &Reply, received: &Received) -> Self {
        let json = reply.json();
        let words = |value: &Value| -> Vec<String> {
            let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let word = |value: &Value| value.as_str().map(str::to_owned);
            all.iter().filter_map(word).collect()
        };
        let notes = json["verdicts"].as_array().cloned().unwrap_or_default();
        let verdicts = notes.iter().chain(json.get("verdict"));
        let code = |verdict: &Value| verdict["code"].as_str().map(str::to_owned);
        // One of them may be the clip's first.
        let unreadable = received.numbers.iter().filter(|number| **number == 0);
        let (unreadable, missing) = (unreadable.count(), received.video.missing);
        Self {
            status: reply.status,
            error: json["error"].as_str().unwrap_or_default().to_owned(),
            tracks: words(&json["tracks"]),
            codes: verdicts.filter_map(code).collect(),
            pictures: received.video.frames,
            broken: (unreadable > 1)
                .then(|| format!("{unreadable} unreadable, {missing} packets missing")),
            codec: None,
            tone: received.tone,
        }
    }

    /// What is wrong; first of all what nobody would know the reason of.
    pub(super) fn faults(
        &self,
        expected: Picture,
        receiver: Receiver,
        sound: &Sound,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let plays = self.status == 200;
        if plays && self.pictures == 0 && self.codes.is_empty() {
            faults.push("black without a reason".to_owned());
        }
        let is_explained = NO_SOUND.iter().any(|code| self.codes.contains(*code));
        if plays && self.tone == 0.0 && sound.heard_as.is_some() && !is_explained {
            faults.push("silent without a reason".to_owned());
        }
        if !plays && (self.codes.is_empty() || self.error.is_empty()) {
            faults.push("refused without a reason".to_owned());
        }
        let (status, codes): (_, Vec<&str>) = match expected {
            Picture::Plays => (200, vec![]),
            Picture::Noted(codes) => (200, codes.to_vec()),
            Picture::Refused(code, _) => (406, vec![code]),
        };
        if self.status != status || !self.codes.iter().eq(&codes) {
            faults.push(format!("not {status} {}", codes.join(" ")));
        }
        if let Picture::Refused(_, words) = expected {
            let missing = words.iter().filter(|word| !self.error.contains(**word));
            faults.extend(missing.map(|word| format!("does not say {word:?}")));
            return faults;
        }
        faults.extend(self.faults_of_media(sound));
        match sound.heard_as {
            // The reply tells that there is none.
            None if self.tracks != ["video"] => {
                faults.push(format!("the reply tells of {:?}", self.tracks));
            }
            Some(codec)
                if receiver == Receiver::Chromium && self.codec.as_deref() != Some(codec) =>
            {
                faults.push(format!("not {codec}"));
            }
            _ => {}
        }
        faults
    }

    /// What is wrong with pictures and tone of a camera that plays.
    pub(super) fn faults_of_media(&self, sound: &Sound) -> Vec<String> {
        let mut faults = Vec::new();
        if self.pictures < ENOUGH {
            faults.push(format!("{} pictures", self.pictures));
        }
        faults.extend(self.broken.clone());
        if sound.heard_as.is_some() && (self.tone - TONE).abs() > OFF {
            faults.push(format!("not {TONE} Hz"));
        }
        faults
    }

    /// Why there is nothing to see, if so: without the camera's name, as it is the same for many.
    pub(super) fn refusal(&self) -> String {
        let codes: Vec<_> = self.codes.iter().map(String::as_str).collect();
        let reason = self
            .error
            .split_once(": ")
            .filter(|(camera, _)| camera.starts_with("camera "));
        let reason = reason.map_or(self.error.as_str(), |(_, reason)| reason);
        match self.status {
            200 => String::new(),
            status => format!("{status} {}: {reason}", codes.join(" ")),
        }
    }

    /// For the table.
    pub(super) fn summary(&self) -> String {
        let codes: Vec<_> = self.codes.iter().map(String::as_str).collect();
        let codes = codes.join(" ");
        if self.status != 200 {
            return format!("{} {codes}", self.status);
        }
        let sound = match &self.codec {
            Some(codec) => codec.trim_start_matches("audio/"),
            None => "",
        };
        let tone = match self.tone {
            0.0 => "silent".to_owned(),
            tone => format!("{tone:.0} Hz"),
        };
        let told = format!("{:>3} pictures, {tone} {sound}", self.pictures);
        format!("{} {codes}", told.trim_end()).trim_end().to_owned()
    }
}
