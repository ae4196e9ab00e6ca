//! A key picture as a JPEG: [`jpeg`], [`Size`].

mod input;
mod sps;

use std::sync::Arc;

use bytes::{Buf, Bytes};
use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor};
use openh264::{decoder::Decoder, formats::YUVSource};

pub use self::sps::picture_size;
use self::{input::Input, sps::Format};
use super::Frame;
use crate::base::{Error, ErrorKind, Verdict};

/// What people take for a good picture; more costs bytes and shows nothing.
const QUALITY: u8 = 80;
/// Media bytes of a key picture.
const PICTURE_MAX: usize = 4 << 20;

/// How large a JPEG is wanted. With one side given, the other keeps the shape of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Size {
    width: Option<u16>,
    height: Option<u16>,
}

impl Size {
    /// The longest side that is made, in pixels: a 4K picture is 3840 wide.
    pub const MAX: u16 = 4096;

    /// As large as the camera's picture where neither is given.
    ///
    /// # Errors
    /// `InvalidArgument` when a side is 0 or above [`Size::MAX`].
    pub fn new(width: Option<u16>, height: Option<u16>) -> Result<Self, Error> {
        let fits = |side: Option<u16>| side.is_none_or(|side| (1..=Self::MAX).contains(&side));
        if fits(width) && fits(height) {
            return Ok(Self { width, height });
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "width and height of a picture must be 1 to {} pixels",
                Self::MAX
            ),
        ))
    }

    /// Width and height of the JPEG of a picture of this width and height.
    fn of(self, (width, height): (usize, usize)) -> (usize, usize) {
        let max = usize::from(Self::MAX);
        let follow = |side: usize, from: usize, to: usize| (side * to + from / 2) / from;
        // A side that follows may get too long: then it is what the other one follows.
        let both = |side: usize, from: usize, to: usize| match follow(side, from, to) {
            other if other > max => (follow(max, to, from).max(1), max),
            other => (side, other.max(1)),
        };
        match (self.width.map(usize::from), self.height.map(usize::from)) {
            (Some(wide), Some(high)) => (wide, high),
            (Some(wide), None) => both(wide, width, height),
            (None, Some(high)) => {
                let (high, wide) = both(high, height, width);
                (wide, high)
            }
            (None, None) => (width, height),
        }
    }
}

/// Decodes a key picture, given in all its parts, and encodes it as a JPEG. Takes tens of milliseconds.
///
/// # Errors
/// `NotAcceptable` for H.264 that the decoder does not know, that is not given to it, or that never begins
/// anew with an IDR picture; `Unavailable` when the picture is damaged.
pub fn jpeg(picture: &[Arc<Frame>], size: Size) -> Result<Bytes, Error> {
    if picture.iter().map(|frame| frame.len()).sum::<usize>() > PICTURE_MAX {
        return Err(not_acceptable(
            "the camera's key frames have more than 4 MiB; set it to a lower bit rate",
        ));
    }
    let Input { stream, format } = Input::of(&byte_stream(picture))?;
    let mut decoder = Decoder::new()
        .map_err(|e| Error::new(ErrorKind::Internal, "cannot start the decoder").with_source(e))?;
    let decoded = decoder
        .decode(&stream)
        .map_err(|e| damaged().with_source(e))?
        .ok_or_else(damaged)?;
    let (width, height) = decoded.dimensions();
    // So neither is 0.
    if [width, height].map(|side| side as u64) != format.size {
        return Err(damaged());
    }
    let (wide, high) = size.of((width, height));
    let (strides, half) = (decoded.strides(), |side: usize| side.div_ceil(2));
    let light = Plane::of(decoded.y(), strides.0, (width, height));
    let [blue, red] = [(decoded.u(), strides.1), (decoded.v(), strides.2)]
        .map(|(samples, stride)| Plane::of(samples, stride, (half(width), half(height))));
    let scaled = Picture {
        light: light.ok_or_else(damaged)?.scaled(wide, high),
        blue: blue.ok_or_else(damaged)?.scaled(half(wide), half(high)),
        red: red.ok_or_else(damaged)?.scaled(half(wide), half(high)),
        colours: Colours::of(&format),
    };
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode_image(scaled).map_err(|e| {
        Error::new(ErrorKind::Internal, "cannot write the picture as a JPEG").with_source(e)
    })?;
    Ok(file.into())
}

fn not_acceptable(reason: &str) -> Error {
    Error::new(Verdict::NoStill, format!("no JPEG can be made: {reason}"))
}

fn damaged() -> Error {
    Error::new(
        Verdict::DamagedPicture,
        "the camera's last key frame cannot be decoded; it is damaged, or coded in a way that few \
         decoders know: set the camera to H.264 Main profile",
    )
}

/// The Annex B byte stream of a picture in RTP payloads ([RFC 6184 §5.6]: single units, STAP-A, FU-A).
///
/// [RFC 6184 §5.6]: https://datatracker.ietf.org/doc/html/rfc6184#section-5.6
fn byte_stream(picture: &[Arc<Frame>]) -> Vec<u8> {
    const START_CODE: [u8; 4] = [0, 0, 0, 1];
    let mut stream = Vec::new();
    for payload in picture.iter().flat_map(|frame| &frame.payloads) {
        match payload[..] {
            [0x01..=0x17 | 0x21..=0x37 | 0x41..=0x57 | 0x61..=0x77, ..] => {
                stream.extend(START_CODE);
                stream.extend(payload);
            }
            [0x18 | 0x38 | 0x58 | 0x78, ref units @ ..] => {
                let mut units = units;
                while let Ok(length) = units.try_get_u16() {
                    let (unit, rest) = units.split_at(units.len().min(length.into()));
                    stream.extend(START_CODE);
                    stream.extend(unit);
                    units = rest;
                }
            }
            [
                indicator @ (0x1c | 0x3c | 0x5c | 0x7c),
                header,
                ref data @ ..,
            ] => {
                if header & 0x80 != 0 {
                    stream.extend(START_CODE);
                    stream.push(indicator & 0xe0 | header & 0x1f);
                }
                stream.extend(data);
            }
            _ => {}
        }
    }
    stream
}

/// Samples of one kind, row by row without gaps.
struct Plane {
    samples: Vec<u8>,
    width: usize,
}

impl Plane {
    /// Out of rows that begin `stride` samples after each other; none if some are missing.
    fn of(samples: &[u8], stride: usize, (width, height): (usize, usize)) -> Option<Self> {
        let mut plane = Vec::with_capacity(width * height);
        for y in 0..height {
            plane.extend(samples.get(y * stride..y * stride + width)?);
        }
        let samples = plane;
        (!samples.is_empty()).then_some(Self { samples, width })
    }

    fn height(&self) -> usize {
        self.samples.len() / self.width
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width..][..self.width]
    }

    fn scaled(self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width, self.height()) {
            return self;
        }
        self.stretched(width).stretched(height)
    }

    /// With rows of `length` samples, each the mean of what it covers; then rows become columns.
    fn stretched(&self, length: usize) -> Self {
        // Lengths are counted in parts of a sample, so that both kinds have a whole number of them.
        let (old, new) = (length, self.width);
        let covers: Vec<_> = (0..length)
            .map(|i| {
                let (start, end) = (i * new, (i + 1) * new);
                let first = start / old;
                let weights: Vec<_> = (first..end.div_ceil(old))
                    .map(|of| end.min((of + 1) * old) - start.max(of * old))
                    .collect();
                (first, weights)
            })
            .collect();
        let height = self.height();
        let mut samples = vec![0; length * height];
        for y in 0..height {
            let row = self.row(y);
            for (x, (first, weights)) in covers.iter().enumerate() {
                let sum: usize = row[*first..]
                    .iter()
                    .zip(weights)
                    .map(|(sample, weight)| usize::from(*sample) * weight)
                    .sum();
                samples[x * height + y] = byte((sum + new / 2) / new);
            }
        }
        Self {
            samples,
            width: height,
        }
    }
}

fn byte(value: impl TryInto<u8>) -> u8 {
    value.try_into().unwrap_or(u8::MAX)
}

/// From a camera's samples to those of a JPEG, which are BT.601 of full range (JFIF 1.02). In 1/65536.
#[derive(Debug, Clone, Copy)]
struct Colours {
    black: i32,
    light: i32,
    /// What blue and red difference add to light, to blue, to red.
    to: [[i32; 2]; 3],
}

impl Colours {
    /// Where the camera does not tell, limited range of BT.601.
    fn of(format: &Format) -> Self {
        const ONE: i32 = 1 << 16;
        const BT601: [[i32; 2]; 3] = [[0, 0], [ONE, 0], [0, ONE]];
        // To red, green, blue by one matrix and back by the other (BT.709 §3, BT.601 §2.5).
        const BT709: [[i32; 2]; 3] = [[6_658, 12_851], [64_871, -7_252], [-4_749, 64_448]];
        let to = if format.bt709 { BT709 } else { BT601 };
        if format.full_range {
            let (black, light) = (0, ONE);
            return Self { black, light, to };
        }
        Self {
            black: 16,
            light: ONE * 255 / 219,
            to: to.map(|row| row.map(|factor| factor * 255 / 224)),
        }
    }
}

/// What the encoder reads.
struct Picture {
    light: Plane,
    blue: Plane,
    red: Plane,
    colours: Colours,
}

impl ImageBuffer for Picture {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        u16::try_from(self.light.width).expect("the decoder and `Size` make no larger ones")
    }

    fn height(&self) -> u16 {
        u16::try_from(self.light.height()).expect("the decoder and `Size` make no larger ones")
    }

    fn fill_buffers(&self, y: u16, [light, blue, red, _]: &mut [Vec<u8>; 4]) {
        const HALF: i32 = 1 << 15;
        let y = usize::from(y);
        let shown = |value: i32| byte(((value + HALF) >> 16).max(0));
        let Colours {
            black,
            light: factor,
            to,
        } = self.colours;
        let pairs = self.light.row(y).chunks(2);
        let (blues, reds) = (self.blue.row(y / 2), self.red.row(y / 2));
        for ((pair, b), r) in pairs.zip(blues).zip(reds) {
            let (b, r) = (i32::from(*b) - 128, i32::from(*r) - 128);
            let [add, b, r] = to.map(|[of_blue, of_red]| of_blue * b + of_red * r);
            let (b, r) = (shown(b + (128 << 16)), shown(r + (128 << 16)));
            for sample in pair {
                light.push(shown((i32::from(*sample) - black) * factor + add));
                blue.push(b);
                red.push(r);
            }
        }
    }
}

#[cfg(test)]
mod tests;
