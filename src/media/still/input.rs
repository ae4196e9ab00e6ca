//! [`Input`]: what the decoder gets of a key picture, which is less than the camera sent.
//!
//! The decoder is C++ and the camera may be hostile. So the decoder gets one sequence parameter set,
//! written anew; one picture parameter set; and the slices of one picture. All of them are read here
//! first, in the one way in which they can be understood.

use super::{
    damaged, not_acceptable,
    sps::{Format, Order},
};
use crate::{
    base::Error,
    media::{
        bits::{Bits, without_emulation_prevention},
        nal::{NalType, annex_b},
    },
};

/// More than cameras send, of which a slice for each network packet is the most.
const SLICES_MAX: usize = 256;
/// Macroblocks that the decoder may be made to decode, where each slice goes on to the end of the
/// picture: slices that overlap are decoded one over the other. 256 slices of full HD; a second or two.
const DECODED_MAX: u64 = 36_864 * 32;
/// What level 5.2 allows (H.264 table A-1).
const MACROBLOCKS_MAX: u64 = 36_864;
/// In macroblocks: 8,192 pixels.
const SIDE_MAX: u64 = 512;
/// Longer parameter sets are no parameter sets.
const SET_MAX: usize = 4_096;

/// One picture for the decoder.
#[derive(Debug)]
pub(super) struct Input {
    /// An Annex B byte stream.
    pub(super) stream: Vec<u8>,
    pub(super) format: Format,
}

/// What all slices of a picture have in common (H.264 §7.4.1.2.4), as far as those of IDR pictures go.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    header: u8,
    pps: u32,
    frame_number: u32,
    idr_picture: u32,
    order: [Option<u32>; 2],
}

/// Of a picture parameter set (H.264 §7.3.2.2), the beginning.
#[derive(Debug, Clone, Copy)]
struct Pps {
    id: u32,
    sps: u32,
    /// Slices have a second number for the order of pictures.
    second_order: bool,
    slice_groups: bool,
}

impl Input {
    /// Out of the byte stream of a key picture.
    pub(super) fn of(stream: &[u8]) -> Result<Self, Error> {
        let is = |nal: &&[u8], wanted| NalType::of(nal) == Some(wanted);
        let sets = || annex_b(stream).take_while(|nal| !is(nal, NalType::IDR));
        let mut slices = annex_b(stream)
            .filter(|nal| is(nal, NalType::IDR))
            .peekable();
        let first = *slices.peek().ok_or_else(|| {
            not_acceptable(
                "the camera refreshes its picture without IDR frames; switch intra refresh, open groups \
                 of pictures or a smart codec off in it",
            )
        })?;

        // Sets that nothing refers to are left out, and the last of those with one number counts.
        let head = content_begin(first).ok_or_else(damaged)?;
        let (_, wanted) = slice_begin(&mut Bits::new(&head[1..])).ok_or_else(damaged)?;
        let all = sets().filter(|nal| is(nal, NalType::PPS));
        let (pps, picture_set) = all
            .filter_map(|nal| Some((Pps::of(nal)?, nal)))
            .filter(|(pps, _)| pps.id == wanted)
            .last()
            .ok_or_else(damaged)?;
        let all = sets().filter(|nal| is(nal, NalType::SPS));
        let sps = all
            .filter(|nal| nal.len() <= SET_MAX && sps_id(nal) == Some(pps.sps))
            .last()
            .ok_or_else(damaged)?;
        let format = Format::of_sps(sps).ok_or_else(|| {
            not_acceptable(
                "the camera describes the size of its pictures in a way that cannot be right",
            )
        })?;
        if let Some(reason) = not_decoded(&format, pps) {
            return Err(not_acceptable(&reason));
        }

        let mut input = Self {
            stream: Vec::with_capacity(stream.len()),
            format,
        };
        input.push(&input.format.sps.clone());
        input.push(picture_set);
        input.push_slices(slices, pps)?;
        Ok(input)
    }

    /// Those of the first picture, which have a place each, one after the other.
    fn push_slices<'a>(
        &mut self,
        slices: impl Iterator<Item = &'a [u8]>,
        pps: Pps,
    ) -> Result<(), Error> {
        let macroblocks: u64 = self.format.macroblocks.iter().product();
        let mut last: Option<(u64, Identity)> = None;
        let (mut count, mut decoded) = (0, 0);
        for slice in slices {
            let read = content_begin(slice).and_then(|head| self.slice(&head, pps));
            let (place, identity) = read.ok_or_else(damaged)?;
            match &last {
                Some((before, of)) if place <= *before || identity != *of => break,
                None if place != 0 => return Err(damaged()),
                _ => {}
            }
            count += 1;
            if place >= macroblocks {
                return Err(damaged());
            }
            decoded += macroblocks - place;
            if count > SLICES_MAX || decoded > DECODED_MAX {
                return Err(not_acceptable(
                    "the camera cuts its pictures into too many slices; set it to fewer, or to larger ones",
                ));
            }
            if without_emulation_prevention(slice).is_none() {
                return Err(damaged());
            }
            self.push(slice);
            last = Some((place, identity));
        }
        Ok(())
    }

    /// The first macroblock of a slice and which picture it belongs to; none unless it is one of an IDR
    /// picture (H.264 §7.3.3).
    fn slice(&self, head: &[u8], pps: Pps) -> Option<(u64, Identity)> {
        let (header, data) = head.split_first()?;
        let is_reference = header & 0x60 != 0;
        let mut bits = Bits::new(data);
        let (place, of) = slice_begin(&mut bits)?;
        let identity = Identity {
            header: *header,
            pps: of,
            frame_number: bits.number(self.format.frame_number)?,
            idr_picture: bits.ue()?,
            order: match self.format.order {
                Order::Number(length) => [
                    Some(bits.number(length)?),
                    if pps.second_order {
                        Some(bits.ue()?)
                    } else {
                        None
                    },
                ],
                Order::Cycle => [
                    Some(bits.ue()?),
                    if pps.second_order {
                        Some(bits.ue()?)
                    } else {
                        None
                    },
                ],
                Order::Implied => [None; 2],
            },
        };
        is_reference.then_some((place, identity))
    }

    fn push(&mut self, unit: &[u8]) {
        self.stream.extend([0, 0, 0, 1]);
        self.stream.extend(unit);
    }
}

impl Pps {
    /// None of one that could be understood in more than one way.
    fn of(nal: &[u8]) -> Option<Self> {
        if nal.len() > SET_MAX || nal.first()? & 0x80 != 0 {
            return None;
        }
        let content = without_emulation_prevention(nal)?;
        let mut bits = Bits::new(&content[1..]);
        let (id, sps) = (bits.ue_to(255)?, bits.ue_to(31)?);
        bits.skip(1);
        Some(Self {
            id,
            sps,
            second_order: bits.flag()?,
            slice_groups: bits.ue()? > 0,
        })
    }
}

/// `first_mb_in_slice` and `pic_parameter_set_id`; none but of an I slice, as IDR pictures have no other.
fn slice_begin(bits: &mut Bits<'_>) -> Option<(u64, u32)> {
    let place = u64::from(bits.ue()?);
    bits.ue().filter(|kind| matches!(kind, 2 | 7))?;
    Some((place, bits.ue_to(255)?))
}

/// Enough of a slice for its header as far as it is read here; none of one that must not be.
fn content_begin(slice: &[u8]) -> Option<Vec<u8>> {
    let head = slice.get(..slice.len().min(64))?;
    let is_forbidden = head.first()? & 0x80 != 0;
    (!is_forbidden).then(|| without_emulation_prevention(head))?
}

fn sps_id(sps: &[u8]) -> Option<u32> {
    let content = without_emulation_prevention(sps.get(..sps.len().min(16))?)?;
    Bits::new(content.get(4..)?).ue_to(31)
}

/// Why the decoder cannot decode this or must not, if so.
fn not_decoded(format: &Format, pps: Pps) -> Option<String> {
    /// Baseline, Main, Extended, High (H.264 §A.2).
    const PROFILES: [u8; 4] = [66, 77, 88, 100];
    let [across, down] = format.macroblocks;
    let is_too_large = across > SIDE_MAX || down > SIDE_MAX || across * down > MACROBLOCKS_MAX;
    let (what, instead) = if is_too_large {
        ("too large", "to 3840 × 2160 pixels or less")
    } else if format.interlaced {
        ("interlaced", "to progressive pictures")
    } else if format.depth != [8, 8] {
        ("of more than 8 bits", "to H.264 High profile or below")
    } else if format.chroma != 1 {
        ("not 4:2:0", "to H.264 High profile or below")
    } else if !PROFILES.contains(&format.profile) {
        ("of a rare profile", "to H.264 High profile or below")
    } else if pps.slice_groups {
        ("in slice groups", "to H.264 Main profile")
    } else {
        return None;
    };
    Some(format!(
        "the camera's pictures are {what}; set it {instead}"
    ))
}
