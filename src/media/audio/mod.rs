//! Sound that browsers do not take, made into Opus: [`Format`] tells what a camera sends, [`Converter`]
//! makes frames of 20 ms of its packets. Speech towards a camera the other way: [`SpeechFormat`] tells what
//! it takes, [`Interpreter`] makes that of what a browser sends. No clock: time is what packets say.

mod aac;
mod bits;
mod config;
mod converter;
mod encoder;
mod format;
mod g711;
mod g722;
mod g726;
mod latm;
mod linear;
mod resampler;
mod rfc3640;
mod speech;
#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the numbers of tests are small"
)]
mod tests;

pub use self::{
    config::AacConfig,
    converter::{Block, Converter, SoundPacket},
    format::{Coding, Format},
    g726::Packing,
    latm::Mux,
    rfc3640::AuHeader,
    speech::{Interpreter, Law, SpeechFormat, SpeechPacket, Spoken},
};

/// One channel or two: more are not converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One.
    Mono,
    /// Left and right.
    Stereo,
}

impl Channels {
    /// How many.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }

    fn from_count(count: u16) -> Option<Self> {
        match count {
            1 => Some(Self::Mono),
            2 => Some(Self::Stereo),
            _ => None,
        }
    }
}
