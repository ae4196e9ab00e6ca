//! [`Inspection`]: what was found out about a camera, as data.

use std::{fmt, net::IpAddr};

use serde::{Serialize, Serializer};

use crate::{
    base::Error,
    media::{Kind, h264::ProfileLevel, h265::ProfileTierLevel},
};

/// What was found out about a camera.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// Whether the URL asks for media by UDP.
    pub asked_for_udp: bool,
    /// Where it is.
    pub address: Option<IpAddr>,
    /// The URL to which it has sent us, without secrets.
    pub redirected_to: Option<String>,
    /// The `Server` header of its answers.
    pub server: Option<String>,
    /// The ways to prove a password that it offers; empty if it asks for none.
    pub authentication: Vec<String>,
    /// Whether media comes inside the connection, and by UDP.
    pub tcp: Trial,
    /// See `tcp`.
    pub udp: Trial,
    /// Whether it takes sound (ONVIF's back channel); none if that was not asked.
    pub back_channel: Option<bool>,
    /// Everything that it describes as video or audio.
    pub tracks: Vec<InspectedTrack>,
    /// Why nothing, or no more, could be found out: the sentence that viewers get.
    #[serde(serialize_with = "as_text")]
    pub failure: Option<Error>,
}

/// What became of a way of transport.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result", content = "reason")]
pub enum Trial {
    /// Nobody has asked.
    #[default]
    NotTried,
    /// Media has come.
    Works,
    /// It has not: a sentence.
    Fails(String),
}

/// A track as the camera describes it, and as it is.
#[derive(Debug, Serialize)]
pub struct InspectedTrack {
    /// Picture or sound.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// The encoding name, as in `a=rtpmap`.
    pub codec: String,
    /// Ticks per second; 0 if unknown.
    pub clock_rate: u32,
    /// Of sound.
    pub channels: u16,
    /// Why browsers cannot play it, and what to set; none if they can, as far as the description tells.
    pub unplayable: Option<String>,
    /// H.264: the profile and level that the description names.
    #[serde(serialize_with = "as_text")]
    pub described_profile_level: Option<ProfileLevel>,
    /// Width and height that the description names.
    pub described_size: Option<[u64; 2]>,
    /// What came; none if the track was not watched.
    pub measured: Option<Measured>,
}

/// What came of a track while it was watched.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Pictures, or blocks of sound, per second of the camera's own time.
    pub frame_rate: Option<f64>,
    /// Bits per second, with RTP headers.
    pub bit_rate: Option<f64>,
    /// RTP packets.
    pub packets: u64,
    /// Those that are missing between them.
    pub lost: u64,
    /// Their sizes, with headers.
    pub packet_bytes: Option<Sizes>,
    /// RTCP sender reports.
    pub sender_reports: u64,
    /// H.264 and H.265 only.
    pub picture: Option<Picture>,
}

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The smallest.
    pub min: usize,
    /// Half of them are not larger.
    pub median: usize,
    /// The largest.
    pub max: usize,
}

/// A length of time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Seconds(pub f64);

/// Pictures as they are sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Picture {
    /// Of the sequence parameter set of H.264.
    #[serde(serialize_with = "as_text")]
    pub profile_level: Option<ProfileLevel>,
    /// The same of H.265.
    #[serde(serialize_with = "as_text")]
    pub profile_tier_level: Option<ProfileTierLevel>,
    /// Width and height.
    pub size: Option<[u64; 2]>,
    /// Whether decoding could begin.
    pub has_key_frame: bool,
    /// The longest distance of two key frames.
    pub key_frame_interval: Option<Seconds>,
    /// If there were no two: the longest time without one.
    pub key_frame_interval_more_than: Option<Seconds>,
    /// Whether there are pictures that are made of two others, of which one is usually shown later; of H.265
    /// those alone that are sent after it.
    pub b_frames: bool,
    /// Why Porthole leaves out some of these, and what to set: the sentence that viewers get.
    pub left_out: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn as_text<T: fmt::Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference to the field"
)]
fn kind_name<S: Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.name())
}
