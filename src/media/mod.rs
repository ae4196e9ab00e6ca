//! Codecs, tracks, frames and their RTP payloads. Pure: no tokio, no clock, no I/O.

pub mod assembler;
pub mod audio;
mod bits;
pub mod codec;
pub mod frame;
pub mod h264;
pub mod h265;
pub mod nal;
pub mod rtp;
pub mod sdp;
pub mod still;
pub mod time;
pub mod timeline;
pub mod track;

pub use codec::{Codec, Kind};
pub use frame::{Frame, Part};
pub use time::MediaTime;
pub use timeline::Timeline;
pub use track::{Track, TrackId};
