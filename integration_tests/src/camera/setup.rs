//! [`Setup`]: what a camera shall be.

use std::path::PathBuf;

use super::{
    Camera,
    clips::{BFrames, FPS, Picture, Size, Sound},
};

/// What a camera shall be. Made by [`Camera::h264`] and its siblings.
#[derive(Debug, Clone)]
#[must_use]
pub struct Setup {
    picture: Picture,
    sound: Option<Sound>,
    tone: u32,
    transport: &'static str,
    packet_max: u32,
    parameter_sets_in_band: bool,
    sender_reports: bool,
    sound_only: bool,
    back_channel: Option<&'static str>,
    login: Option<Login>,
}

#[derive(Debug, Clone)]
struct Login {
    scheme: &'static str,
    user: String,
    password: String,
}

impl Setup {
    pub(super) fn new(codec: &'static str) -> Self {
        Self {
            picture: Picture {
                codec,
                size: Size::Hd,
                gop_seconds: 1,
                b_frames: BFrames::None,
                professional: false,
                profile: None,
            },
            sound: None,
            tone: 440,
            transport: "any",
            packet_max: 1400,
            parameter_sets_in_band: false,
            sender_reports: true,
            sound_only: false,
            back_channel: None,
            login: None,
        }
    }

    /// Sound as G.711 μ-law.
    pub fn with_pcmu(self) -> Self {
        self.with(Sound::Pcmu)
    }

    /// Sound as G.711 A-law.
    pub fn with_pcma(self) -> Self {
        self.with(Sound::Pcma)
    }

    /// Sound as Opus.
    pub fn with_opus(self) -> Self {
        self.with(Sound::Opus)
    }

    /// Sound as AAC with 48 kHz and two channels, which browsers do not take over WebRTC.
    pub fn with_aac(self) -> Self {
        self.with_aac_of(48_000, 2)
    }

    /// Sound as AAC with another rate or number of channels.
    pub fn with_aac_of(self, rate: u32, channels: u8) -> Self {
        self.with(Sound::Aac { rate, channels })
    }

    /// Sound as AAC in LATM.
    pub fn with_latm_of(self, rate: u32, channels: u8) -> Self {
        self.with(Sound::Latm { rate, channels })
    }

    /// Sound as linear samples of one channel.
    pub fn with_l16_of(self, rate: u32) -> Self {
        self.with(Sound::L16 { rate })
    }

    /// Sound as G.722.
    pub fn with_g722(self) -> Self {
        self.with(Sound::G722)
    }

    /// Sound as G.726 with 32 kbit/s.
    pub fn with_g726(self) -> Self {
        self.with(Sound::G726)
    }

    /// Sound of this frequency in Hz, instead of 440.
    pub fn with_tone(mut self, tone: u32) -> Self {
        self.tone = tone;
        self
    }

    fn with(mut self, sound: Sound) -> Self {
        self.sound = Some(sound);
        self
    }

    /// 1920x1080 with pictures of about 60 kB and key frames of more, instead of 1280x720 at 2 Mbit/s.
    pub fn full_hd(mut self) -> Self {
        self.picture.size = Size::FullHd;
        self
    }

    /// 640x360 at 500 kbit/s, for tests with many viewers.
    pub fn small(mut self) -> Self {
        self.picture.size = Size::Small;
        self
    }

    /// 320x240 at 200 kbit/s, for tests with many cameras. Blocks of the picture's number have 16 pixels.
    pub fn tiny(mut self) -> Self {
        self.picture.size = Size::Tiny;
        self
    }

    /// The distance of key frames: 1 s unless told.
    pub fn gop_seconds(mut self, seconds: u32) -> Self {
        self.picture.gop_seconds = seconds;
        self
    }

    /// Three B-frames in a row, of which no other picture is made; H.264 is of profile Main then.
    pub fn with_b_frames(mut self) -> Self {
        self.picture.b_frames = BFrames::Disposable;
        self
    }

    /// Three B-frames in a row, and P-frames that are made of the middle one too: what x264 and x265 do
    /// unless told otherwise.
    pub fn with_b_frames_as_references(mut self) -> Self {
        self.picture.b_frames = BFrames::References;
        self
    }

    /// H.264 High 4:2:2, with more colour than browsers decode.
    pub fn with_professional_profile(mut self) -> Self {
        self.picture.professional = true;
        self
    }

    /// H.264 Main without B-frames.
    pub fn with_main_profile(mut self) -> Self {
        self.picture.profile = Some("main");
        self
    }

    /// H.264 High without B-frames.
    pub fn with_high_profile(mut self) -> Self {
        self.picture.profile = Some("high");
        self
    }

    /// Describes no picture.
    pub fn sound_only(mut self) -> Self {
        self.sound_only = true;
        self
    }

    /// Takes speech as `pcmu` or `pcma` through an ONVIF back channel; see [`Camera::heard`].
    pub fn with_back_channel(mut self, codec: &'static str) -> Self {
        self.back_channel = Some(codec);
        self
    }

    /// Sends no RTCP.
    pub fn without_sender_reports(mut self) -> Self {
        self.sender_reports = false;
        self
    }

    /// Refuses media over UDP.
    pub fn tcp_only(mut self) -> Self {
        self.transport = "tcp";
        self
    }

    /// Refuses media inside the RTSP connection.
    pub fn udp_only(mut self) -> Self {
        self.transport = "udp";
        self
    }

    /// The size of an RTP packet of video at most, in bytes: 1400 unless told.
    pub fn packets_up_to(mut self, bytes: u32) -> Self {
        self.packet_max = bytes;
        self
    }

    /// SPS and PPS are in the session description and nowhere else: the default, as it is harder.
    pub fn parameter_sets_in_sdp_only(mut self) -> Self {
        self.parameter_sets_in_band = false;
        self
    }

    /// SPS and PPS also come before each key frame.
    pub fn parameter_sets_in_band(mut self) -> Self {
        self.parameter_sets_in_band = true;
        self
    }

    /// Demands a login in the Digest scheme.
    pub fn digest(self, user: &str, password: &str) -> Self {
        self.login("digest", user, password)
    }

    /// Demands a login in the Basic scheme.
    pub fn basic(self, user: &str, password: &str) -> Self {
        self.login("basic", user, password)
    }

    fn login(mut self, scheme: &'static str, user: &str, password: &str) -> Self {
        self.login = Some(Login {
            scheme,
            user: user.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// Switches the camera on and waits until it can be reached.
    ///
    /// # Panics
    /// When its clips cannot be made or it does not listen within 20 s.
    pub async fn start(self) -> Camera {
        let arguments = self.arguments().await;
        let login = self.login.map(|login| (login.user, login.password));
        Camera::switched_on(arguments, login).await
    }

    /// What the camera shows, as a file.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn clip(&self) -> PathBuf {
        self.picture.file().await
    }

    /// Each track as `camera.py` takes it.
    pub(super) async fn tracks(&self) -> Vec<String> {
        let mut tracks = Vec::new();
        if !self.sound_only {
            let file = self.picture.file().await;
            let codec = self.picture.codec;
            tracks.push(format!("{codec}={}", file.display()));
        }
        if let Some(sound) = self.sound {
            let file = sound.file(self.tone).await;
            tracks.push(format!("{}={}", sound.codec(), file.display()));
        }
        tracks
    }

    /// As `camera.py` takes them.
    async fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--fps={FPS}"),
            format!("--transport={}", self.transport),
            format!("--mtu={}", self.packet_max),
        ];
        let tracks = self.tracks().await;
        arguments.extend(tracks.iter().map(|track| format!("--track={track}")));
        if let Some(codec) = self.back_channel {
            arguments.push(format!("--back-channel={codec}"));
        }
        if self.parameter_sets_in_band {
            arguments.push("--parameter-sets-in-band".to_owned());
        }
        if !self.sender_reports {
            arguments.push("--no-sender-reports".to_owned());
        }
        if let Some(Login {
            scheme,
            user,
            password,
        }) = &self.login
        {
            arguments.push(format!("--auth={scheme}"));
            arguments.push(format!("--user={user}"));
            arguments.push(format!("--password={password}"));
        }
        arguments
    }
}
