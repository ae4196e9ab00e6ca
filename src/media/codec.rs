//! [`Codec`]: what we can carry to a browser without converting it.

use std::fmt;

use super::{h264::ProfileLevel, h265::ProfileTierLevel};

/// Picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

impl Kind {
    /// As SDP and JSON write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }
}

/// A codec and the parameters that decide whether a browser can play it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264 with the profile and level of its sequence parameter set, if known yet.
    H264(Option<ProfileLevel>),
    /// H.265 with the profile, tier and level of its sequence parameter set, if known yet.
    H265(Option<ProfileTierLevel>),
    /// Opus.
    Opus,
    /// G.711 µ-law, 8 kHz, one channel.
    Pcmu,
    /// G.711 A-law, 8 kHz, one channel.
    Pcma,
}

impl Codec {
    /// Picture or sound.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::H264(_) | Self::H265(_) => Kind::Video,
            Self::Opus | Self::Pcmu | Self::Pcma => Kind::Audio,
        }
    }

    /// Whether packets of `other` can go where packets of this codec went.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Whether all is known that decides whether a browser can play it.
    #[must_use]
    pub fn is_known(self) -> bool {
        !matches!(self, Self::H264(None) | Self::H265(None))
    }

    /// The encoding name of its RTP payload format, as in `a=rtpmap`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H264(_) => "H264",
            Self::H265(_) => "H265",
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Ticks per second of its RTP clock.
    #[must_use]
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::H264(_) | Self::H265(_) => 90_000,
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// Channels as `a=rtpmap` states them; none for video.
    #[must_use]
    pub fn channels(self) -> u16 {
        match self {
            Self::H264(_) | Self::H265(_) => 0,
            // RFC 7587 §7: always 2, whatever is coded.
            Self::Opus => 2,
            Self::Pcmu | Self::Pcma => 1,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
