//! What should become of each codec at each receiver.

use integration_tests::camera::{Camera, Setup};

/// A camera's picture, and what each receiver should get of it.
#[derive(Clone, Copy)]
pub(super) struct Video {
    pub(super) name: &'static str,
    pub(super) camera: fn() -> Setup,
    /// As the configuration names the camera at this URL: itself, and what stands in for it.
    pub(super) sources: fn(&str) -> Vec<String>,
    pub(super) expected: &'static [(Receiver, Picture)],
    pub(super) sounds: &'static [Sound],
}

/// A camera's sound.
#[derive(Clone, Copy)]
pub(super) struct Sound {
    pub(super) name: &'static str,
    pub(super) of: fn(Setup) -> Setup,
    /// How a browser gets its tone; none if the camera has no sound, which is nobody's fault. Other
    /// receivers decode it, and have it in the codec that they take.
    pub(super) heard_as: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    /// Debian's, whose offers have no H.265.
    Chromium,
    /// The same with offers of VP8, VP9 and AV1 alone.
    WithoutH264,
    /// H.264 Baseline; sound as Opus or G.711.
    Aiortc,
    /// `GStreamer`'s `webrtcbin` with H.265 alone; sound as Opus.
    Webrtcbin,
}

/// What is expected of a picture, and with it of the sound, which is heard if there is a picture.
#[derive(Debug, Clone, Copy)]
pub(super) enum Picture {
    Plays,
    /// Plays, and these verdicts tell what could be better.
    Noted(&'static [&'static str]),
    /// The offer is refused with this verdict, and a text with these words of what to change.
    Refused(&'static str, &'static [&'static str]),
}

use Picture::{Noted, Plays, Refused};
use Receiver::{Aiortc, Chromium, Webrtcbin, WithoutH264};

const TAKES_NO_H264: (Receiver, Picture) = (
    WithoutH264,
    Refused("browser-video", &["is H264", "use a browser with H264"]),
);
const NO_H265: Picture = Refused("browser-video", &["is H265", "set it to H264"]);
const NO_JPEG: Picture = Refused("unsupported-video", &["is JPEG", "set it to H264"]);

pub(super) const VIDEOS: &[Video] = &[
    Video {
        name: "H.264 Baseline",
        camera: Camera::h264,
        sources: alone,
        expected: &[(Chromium, Plays), TAKES_NO_H264, (Aiortc, Plays)],
        sounds: SOUNDS,
    },
    Video {
        name: "H.264 Main",
        camera: || Camera::h264().with_main_profile(),
        sources: alone,
        expected: &[
            (Chromium, Plays),
            TAKES_NO_H264,
            // It announces Baseline, and decodes all.
            (Aiortc, Noted(&["video-profile"])),
        ],
        sounds: SOUNDS,
    },
    Video {
        name: "H.264 High",
        camera: || Camera::h264().with_high_profile(),
        sources: alone,
        expected: &[
            (Chromium, Plays),
            TAKES_NO_H264,
            (Aiortc, Noted(&["video-profile"])),
        ],
        sounds: SOUNDS,
    },
    Video {
        name: "H.264 B-frames",
        camera: || Camera::h264().with_b_frames(),
        sources: alone,
        expected: &[
            (Chromium, Noted(&["b-frames"])),
            TAKES_NO_H264,
            (Aiortc, Noted(&["b-frames", "video-profile"])),
        ],
        sounds: SOUNDS,
    },
    Video {
        name: "H.265",
        camera: Camera::h265,
        sources: alone,
        expected: &[
            (Chromium, NO_H265),
            (WithoutH264, NO_H265),
            (Aiortc, NO_H265),
            (Webrtcbin, Plays),
        ],
        sounds: SOUNDS,
    },
    Video {
        name: "MJPEG",
        camera: Camera::mjpeg,
        sources: alone,
        expected: &[
            (Chromium, NO_JPEG),
            (WithoutH264, NO_JPEG),
            (Aiortc, NO_JPEG),
        ],
        sounds: SOUNDS,
    },
    Video {
        name: "H.265, ffmpeg",
        camera: Camera::h265,
        sources: with_ffmpeg,
        expected: &[(Chromium, Plays)],
        sounds: SOUNDS,
    },
    Video {
        name: "MJPEG, ffmpeg",
        camera: Camera::mjpeg,
        sources: ffmpeg_alone,
        expected: &[
            (Chromium, Plays),
            TAKES_NO_H264,
            (Aiortc, Noted(&["video-profile"])),
        ],
        sounds: SOUNDS,
    },
];

const SOUNDS: &[Sound] = &[
    Sound {
        name: "AAC 8 kHz",
        of: |camera| camera.with_aac_of(8_000, 1),
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "AAC 16 kHz",
        of: |camera| camera.with_aac_of(16_000, 1),
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "AAC 44.1 kHz",
        of: |camera| camera.with_aac_of(44_100, 2),
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "AAC 48 kHz",
        of: Setup::with_aac,
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "PCMU",
        of: Setup::with_pcmu,
        heard_as: Some("audio/PCMU"),
    },
    Sound {
        name: "PCMA",
        of: Setup::with_pcma,
        heard_as: Some("audio/PCMA"),
    },
    Sound {
        name: "G.722",
        of: Setup::with_g722,
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "G.726",
        of: Setup::with_g726,
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "L16 44.1 kHz",
        of: |camera| camera.with_l16_of(44_100),
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "Opus",
        of: Setup::with_opus,
        heard_as: Some("audio/opus"),
    },
    Sound {
        name: "none",
        of: |camera| camera,
        heard_as: None,
    },
];

/// The camera itself.
fn alone(url: &str) -> Vec<String> {
    vec![url.to_owned()]
}

/// Beside it ffmpeg, which makes H.264 of its picture for who takes no other.
fn with_ffmpeg(url: &str) -> Vec<String> {
    vec![url.to_owned(), format!("ffmpeg:{url}#video=h264")]
}

/// ffmpeg alone, which hands on the sound as it is: the camera's server does not serve one track to us and all to
/// another at the same time.
fn ffmpeg_alone(url: &str) -> Vec<String> {
    vec![format!("ffmpeg:{url}#video=h264#audio=copy")]
}

impl Video {
    pub(super) fn at(&self, receiver: Receiver) -> Option<Picture> {
        let found = self.expected.iter().find(|(at, _)| *at == receiver);
        found.map(|(_, picture)| *picture)
    }
}

impl Receiver {
    pub(super) const ALL: [Self; 4] = [Chromium, WithoutH264, Aiortc, Webrtcbin];

    pub(super) fn name(self) -> &'static str {
        match self {
            Chromium => "Chromium, no H.265",
            WithoutH264 => "no H.264",
            Aiortc => "aiortc",
            Webrtcbin => "webrtcbin, H.265",
        }
    }
}
