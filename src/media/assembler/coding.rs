//! [`Coding`]: what the assembler has to know of a codec.

use std::fmt;

use bytes::Bytes;

use super::{AccessUnit, Reordered};
use crate::media::Codec;

/// The first bytes of a NAL unit: one of H.264, and 0; two of H.265.
pub type Header = [u8; 2];

/// What a NAL unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A part of a picture.
    Slice,
    /// A parameter set.
    Set,
}

/// What is in an RTP payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// One NAL unit.
    Unit(Bytes),
    /// Several, each behind its length in 16 bits, and that behind so many bytes, but for the first one.
    Aggregate(Bytes, usize),
    /// A piece of one.
    Piece {
        /// The header of the unit.
        header: Header,
        /// Some of what follows it.
        data: Bytes,
        /// Whether the unit begins here.
        starts: bool,
        /// Whether it ends here.
        ends: bool,
    },
    /// It is cut short.
    Broken,
    /// Of a kind that is not for us.
    Other,
}

/// What an [`Assembler`](super::Assembler) has to know of a codec, and what it remembers of the stream.
pub trait Coding: fmt::Debug + Send {
    /// The codec, with profile and level as last seen.
    fn codec(&self) -> Codec;

    /// The size of a NAL unit's header.
    fn header_bytes(&self) -> usize;

    /// What a NAL unit is for; none of those that viewers need not get.
    fn role(&self, nal: &[u8]) -> Option<Role>;

    /// Takes an RTP payload apart.
    fn unpack(&self, payload: Bytes) -> Payload;

    /// Whether this is the first slice of a picture, or another one; none if it is no slice, or too short to
    /// tell. A header and one byte are enough.
    fn begins_picture(&self, nal: &[u8]) -> Option<bool>;

    /// Remembers a parameter set.
    fn keep_set(&mut self, nal: &Bytes);

    /// Whether decoding can begin with these units of a picture; none if that is not clear while it is not
    /// `whole`.
    fn random_access(&self, units: &mut dyn Iterator<Item = &[u8]>, whole: bool) -> Option<bool>;

    /// Puts the parameter sets that a picture lacks before it.
    fn complete(&self, units: &mut Vec<Bytes>);

    /// Whether a picture with this time and first slice belongs before one that was sent first, so that a
    /// browser cannot show it.
    fn leaves_out(&self, time: i64, first_slice: &[u8]) -> bool;

    /// A picture was kept.
    fn keep(&mut self, time: i64, first_slice: &[u8]);

    /// A picture was left out.
    fn leave_out(&mut self, first_slice: &[u8]);

    /// Pictures that were left out, and the others.
    fn reordered(&self) -> Reordered;

    /// Width and height in pixels of the parameter sets, if they can be read.
    fn picture_size(&self) -> Option<[u64; 2]>;

    /// Cuts a picture, or a part of one, into RTP payloads of at most so many bytes.
    fn cut(&self, unit: &AccessUnit, payload_max: usize) -> Box<[Bytes]>;
}
