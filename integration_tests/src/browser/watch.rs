//! [`Viewer`]: one `RTCPeerConnection` in a page, and what it saw.

use std::time::Duration;

use serde_json::{Value, json};

use super::Page;
use crate::camera::Camera;

/// What a viewer asks for in its offer.
#[derive(Debug, Clone)]
#[must_use]
pub struct Watch {
    sections: &'static [&'static str],
    without: Option<&'static str>,
    data_channel: bool,
    block: u32,
    speech: Option<Speech>,
    socket: Option<Socket>,
    ice_servers: Value,
}

#[derive(Debug, Clone, Copy)]
struct Speech {
    codec: Option<&'static str>,
    direction: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Socket {
    dialect: &'static str,
    hangs_up: bool,
}

/// A viewer in a page. It goes on watching until [`Self::close`], or until its page ends.
#[derive(Debug, Clone)]
pub struct Viewer {
    page: Page,
    index: u64,
    camera: String,
}

/// A picture that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Since the viewer began to make its offer.
    pub at: Duration,
    /// The number written into the picture; none where its blocks contradict each other.
    pub number: Option<u32>,
}

/// What a viewer had seen and heard at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// HTTP status of the offer's reply.
    pub status: u16,
    /// The text of a refusal.
    pub error: Option<String>,
    /// The reply's `tracks`.
    pub tracks: Vec<String>,
    /// The codes of the reply's `verdict` and `verdicts`.
    pub verdicts: Vec<String>,
    /// The directions of the answer's sections, in its order.
    pub directions: Vec<String>,
    /// What the microphone is sent as; empty if nothing is.
    pub speech_codec: String,
    /// The moment, since the viewer began to make its offer.
    pub now: Duration,
    /// Whether the socket of the offer is closed, for viewers that have one.
    pub hung_up: bool,
    /// Every picture that was shown.
    pub shown: Vec<Shown>,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// `video/H264` and the like; empty before media came.
    pub video_codec: String,
    /// `audio/PCMU` and the like; empty before media came.
    pub audio_codec: String,
    /// RTP packets of sound.
    pub audio_packets: u64,
    /// Samples that the jitter buffer gave to the loudspeaker.
    pub audio_emitted: u64,
    /// Sound energy in the sense of `totalAudioEnergy`; 0 if all was silent.
    pub audio_energy: f64,
    /// Of the picture, in pixels.
    pub width: u64,
    /// Of the picture, in pixels.
    pub height: u64,
    /// `RTCPeerConnection.connectionState`.
    pub state: String,
    /// `RTCPeerConnection.iceConnectionState`.
    pub ice_state: String,
    /// `RTCDtlsTransport.state`.
    pub dtls_state: String,
    /// When the other side closed DTLS.
    pub dtls_closed_at: Option<Duration>,
}

impl Watch {
    /// Video, then audio.
    pub fn video_and_audio() -> Self {
        Self::sections(&["video", "audio"])
    }

    /// Audio, then video: Home Assistant's order.
    pub fn audio_and_video() -> Self {
        Self::sections(&["audio", "video"])
    }

    /// Video alone.
    pub fn video() -> Self {
        Self::sections(&["video"])
    }

    /// Audio alone.
    pub fn audio() -> Self {
        Self::sections(&["audio"])
    }

    fn sections(sections: &'static [&'static str]) -> Self {
        Self {
            sections,
            without: None,
            data_channel: false,
            block: 32,
            speech: None,
            socket: None,
            ice_servers: json!([]),
        }
    }

    /// As go2rtc's own player: over its WebSocket, which is closed once there is a picture. The camera
    /// of [`Page::watch`] is the query then, as in `src=NAME`.
    pub fn as_go2rtc_player(mut self) -> Self {
        self.socket = Some(Socket {
            dialect: "webrtc/offer",
            hangs_up: true,
        });
        self
    }

    /// As Home Assistant with go2rtc: over its WebSocket, which stays open. The camera of
    /// [`Page::watch`] is the query then, as in `src=NAME`.
    pub fn as_go2rtc_client(mut self) -> Self {
        self.socket = Some(Socket {
            dialect: "webrtc",
            hangs_up: false,
        });
        self
    }

    /// Without a codec that the browser has: `video/H264` and the like.
    pub fn without(mut self, codec: &'static str) -> Self {
        self.without = Some(codec);
        self
    }

    /// With these servers in the offer of [`Self::as_go2rtc_client`], and not in the browser's own settings.
    pub fn with_ice_servers(mut self, servers: Value) -> Self {
        self.ice_servers = servers;
        self
    }

    /// With the microphone, in the audio section, in this codec alone if one is named.
    pub fn speaking(mut self, codec: Option<&'static str>) -> Self {
        let direction = "sendrecv";
        self.speech = Some(Speech { codec, direction });
        self
    }

    /// With the microphone in a section of its own, as players of go2rtc have it.
    pub fn speaking_apart(mut self) -> Self {
        let direction = "sendonly";
        self.speech = Some(Speech {
            codec: None,
            direction,
        });
        self
    }

    /// A data channel too, as Home Assistant has one.
    pub fn with_data_channel(mut self) -> Self {
        self.data_channel = true;
        self
    }

    /// The size of a block of the picture's number, in pixels: 32 for a [`Camera`], 16 for the demo.
    pub fn blocks_of(mut self, pixels: u32) -> Self {
        self.block = pixels;
        self
    }
}

impl Page {
    /// Offers to watch a camera, from a page of [`super::Browser::viewers_of`]. A refusal is in the
    /// viewer's [`Report`].
    ///
    /// # Panics
    /// When the page is not of the server or has no WebRTC.
    pub async fn watch(&self, camera: &str, watch: Watch) -> Viewer {
        self.prepare().await;
        let options = json!({
            "camera": camera,
            "sections": watch.sections,
            "without": watch.without,
            "dataChannel": watch.data_channel,
            "block": watch.block,
            "speech": watch.speech.map(|speech| json!({
                "codec": speech.codec,
                "direction": speech.direction,
            })),
            "socket": watch.socket.map(|socket| json!({
                "query": camera,
                "dialect": socket.dialect,
                "hangUp": socket.hangs_up,
                "iceServers": watch.ice_servers,
            })),
        });
        let index = self.evaluate(&format!("harness.watch({options})")).await;
        let index = index.as_u64().expect("an index is a number");
        Viewer {
            page: self.clone(),
            index,
            camera: camera.to_owned(),
        }
    }

    /// Loads the script whose functions a page has in `harness`.
    pub async fn prepare(&self) {
        self.evaluate(&format!("{};0", include_str!("viewer.js")))
            .await;
    }
}

impl Viewer {
    /// What was seen and heard until now.
    pub async fn report(&self) -> Report {
        let value = self
            .page
            .evaluate(&format!("harness.report({})", self.index))
            .await;
        Report::new(&value)
    }

    /// The strongest frequency of its sound after 3 s, in Hz; 0 of silence.
    ///
    /// # Panics
    /// When the page does not tell.
    pub async fn pitch(&self) -> f64 {
        let pitch = self
            .page
            .evaluate(&format!("harness.pitch({}, 3000)", self.index))
            .await;
        pitch.as_f64().expect("a frequency is a number")
    }

    /// Switches its microphone on or off; it is on at first. One that is off sends silence.
    pub async fn microphone(&self, is_on: bool) {
        self.page
            .evaluate(&format!("harness.microphone({}, {is_on})", self.index))
            .await;
    }

    /// Leaves: the browser says goodbye to the server.
    pub async fn close(&self) {
        self.page
            .evaluate(&format!("harness.close({})", self.index))
            .await;
    }

    /// Waits for the first picture, and tells when it came, counted from the start of the offer.
    ///
    /// # Panics
    /// When there is none within `limit`.
    pub async fn frames_within(&self, limit: Duration) -> Duration {
        self.frames_after(Duration::ZERO, limit).await
    }

    /// Waits for a picture that comes from now on, and tells how long that took.
    ///
    /// # Panics
    /// When there is none within `limit`.
    pub async fn new_frames_within(&self, limit: Duration) -> Duration {
        let now = self.report().await.now;
        self.frames_after(now, limit).await
    }

    async fn frames_after(&self, moment: Duration, limit: Duration) -> Duration {
        crate::eventually(&format!("pictures of {}", self.camera), limit, || async {
            let report = self.report().await;
            let first = report.shown.iter().find(|shown| shown.at > moment);
            first
                .map(|shown| shown.at.abs_diff(moment))
                .ok_or_else(|| report.summary())
        })
        .await
    }
}

impl Report {
    fn new(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (video, audio) = (&value["video"], &value["audio"]);
        Self {
            status: u16::try_from(count(&value["status"])).expect("a status is small"),
            error: value["error"].as_str().map(str::to_owned),
            tracks: list(&value["tracks"]).iter().map(text).collect(),
            verdicts: list(&value["verdicts"])
                .iter()
                .map(|verdict| text(&verdict["code"]))
                .collect(),
            directions: list(&value["directions"]).iter().map(text).collect(),
            speech_codec: text(&value["speechCodec"]),
            now: milliseconds(&value["now"]).expect("a moment is a number"),
            hung_up: value["hungUp"] == true,
            shown: list(&value["seen"])
                .iter()
                .map(|shown| Shown {
                    at: milliseconds(&shown[0]).expect("a moment is a number"),
                    number: shown[1].as_u64().and_then(|number| number.try_into().ok()),
                })
                .collect(),
            frames_decoded: count(&video["framesDecoded"]),
            video_codec: text(&value["videoCodec"]),
            audio_codec: text(&value["audioCodec"]),
            audio_packets: count(&audio["packetsReceived"]),
            audio_emitted: count(&audio["jitterBufferEmittedCount"]),
            audio_energy: audio["totalAudioEnergy"].as_f64().unwrap_or_default(),
            width: count(&value["width"]),
            height: count(&value["height"]),
            state: text(&value["state"]),
            ice_state: text(&value["ice"]),
            dtls_state: text(&value["dtls"]),
            dtls_closed_at: milliseconds(&value["dtlsClosedAt"]),
        }
    }

    /// Everything but the list of pictures, for messages.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut rest = self.clone();
        let shown = std::mem::take(&mut rest.shown);
        format!(
            "{} pictures shown, the last {:?}; {rest:?}",
            shown.len(),
            shown.last()
        )
    }

    /// The longest time without a new picture, from one second after the first until now.
    ///
    /// # Panics
    /// When there was no picture at all.
    #[must_use]
    pub fn longest_gap_after_first_second(&self) -> Duration {
        let first = self
            .shown
            .first()
            .unwrap_or_else(|| panic!("{}", self.summary()))
            .at;
        let settled = first + Duration::from_secs(1);
        let mut last = settled.min(self.now);
        let mut longest = Duration::ZERO;
        for at in self.shown.iter().map(|shown| shown.at).chain([self.now]) {
            if at > last {
                longest = longest.max(at.abs_diff(last));
                last = at;
            }
        }
        longest
    }

    /// What was shown later than one second after the first picture.
    fn settled(&self) -> impl Iterator<Item = &Shown> {
        let start = self.shown.first().map_or(self.now, |first| first.at) + Duration::from_secs(1);
        self.shown.iter().filter(move |shown| shown.at >= start)
    }

    /// Whether a [`Camera`]'s pictures came in its order, from one second after the first: each number
    /// is readable, and none comes late. A busy browser may show fewer than it decodes, and have the
    /// next one ready when it tells of one, which then is read twice.
    ///
    /// # Errors
    /// What is wrong, as text.
    pub fn frames_are_right(&self) -> Result<(), String> {
        let mut last = None;
        for shown in self.settled() {
            let at = shown.at;
            let number = shown
                .number
                .ok_or_else(|| format!("unreadable at {at:?}"))?;
            if let Some(last) = last {
                // The last picture of the clip is followed by the first.
                let step = (number + Camera::LOOP - last) % Camera::LOOP;
                if step > Camera::LOOP / 2 {
                    return Err(format!("{number} came after {last} at {at:?}"));
                }
            }
            last = Some(number);
        }
        last.map(|_| ())
            .ok_or_else(|| "nothing was shown".to_owned())
    }
}

fn milliseconds(value: &Value) -> Option<Duration> {
    value
        .as_f64()
        .map(|number| Duration::from_secs_f64(number / 1000.0))
}
