//! A synthetic H.264 stream: headers that parse (ITU-T H.264, 7.3), noise where the picture would be.
//!
//! Each frame ends with a [`Trailer`] that tells its number and when it left the camera. All bytes of noise and
//! trailer are other than zero, so that no start code can arise and nothing needs emulation prevention.

use std::sync::Arc;

/// Bytes of a [`Trailer`] on the wire, with the byte that ends the NAL unit.
pub(crate) const TRAILER_LEN: usize = 22;
const MAGIC: [u8; 4] = [0xc3, 0xa5, 0xe1, 0x97];
/// The last byte of a NAL unit must not be zero; with its top bit alone it is the stop bit of RBSP.
const STOP: u8 = 0x80;

/// What the end of a frame tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Counts the frames of a camera, from its start.
    pub(crate) frame: u32,
    /// Frames since the key frame, which has 0.
    pub(crate) since_key: u16,
    /// When the camera wrote the frame, in nanoseconds since 1970.
    pub(crate) emitted_ns: i64,
}

impl Trailer {
    /// The bytes, of which each has its top bit set.
    pub(crate) fn to_bytes(self) -> [u8; TRAILER_LEN] {
        let mut bytes = [STOP; TRAILER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        put_septets(&mut bytes[4..9], u64::from(self.frame));
        put_septets(&mut bytes[9..11], u64::from(self.since_key));
        put_septets(
            &mut bytes[11..21],
            u64::try_from(self.emitted_ns).unwrap_or(0),
        );
        bytes
    }

    /// Reads what [`Trailer::to_bytes`] wrote; `None` of anything else.
    pub(crate) fn from_bytes(bytes: &[u8; TRAILER_LEN]) -> Option<Self> {
        if bytes[..4] != MAGIC || bytes[TRAILER_LEN - 1] != STOP {
            return None;
        }
        Some(Self {
            frame: u32::try_from(septets(&bytes[4..9])).ok()?,
            since_key: u16::try_from(septets(&bytes[9..11])).ok()?,
            emitted_ns: i64::try_from(septets(&bytes[11..21])).ok()?,
        })
    }
}

fn put_septets(bytes: &mut [u8], mut value: u64) {
    for byte in bytes.iter_mut().rev() {
        *byte = 0x80 | (value & 0x7f) as u8;
        value >>= 7;
    }
}

fn septets(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

/// The last bytes of a stream of packets, as a trailer may lie in two of them.
#[derive(Debug, Default)]
pub(crate) struct Tail([u8; TRAILER_LEN]);

impl Tail {
    /// Takes the next piece of a NAL unit; returns the trailer if the piece ends with one.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Option<Trailer> {
        let taken = piece.len().min(TRAILER_LEN);
        self.0.rotate_left(taken);
        self.0[TRAILER_LEN - taken..].copy_from_slice(&piece[piece.len() - taken..]);
        Trailer::from_bytes(&self.0)
    }
}

/// Writes bit by bit, as H.264 has it.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    fn bits(&mut self, value: u32, count: u32) {
        for index in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> index & 1 == 1) << self.free;
            }
        }
    }

    /// An unsigned Exp-Golomb number (9.1).
    fn ue(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.bits(0, length - 1);
        self.bits(value + 1, length);
    }

    /// Fills the byte up with the stop bit and zeros.
    fn stop(mut self) -> Vec<u8> {
        self.bits(1, 1);
        self.bytes
    }

    /// Fills the byte up with ones, as slice data follows.
    fn aligned(mut self) -> Vec<u8> {
        let free = self.free;
        self.bits((1 << free) - 1, free);
        self.bytes
    }
}

/// The sequence parameter set: 1280 × 720, constrained baseline, level 3.1, one reference, no reordering.
pub(crate) fn sps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.bits(0x67, 8);
    bits.bits(0x42_c0_1f, 24); // profile 66, constraint_set0 and 1, level 31
    bits.ue(0); // seq_parameter_set_id
    bits.ue(4); // log2_max_frame_num_minus4: frame_num has 8 bits
    bits.ue(2); // pic_order_cnt_type: output in decoding order
    bits.ue(1); // max_num_ref_frames
    bits.bits(0, 1); // gaps_in_frame_num_value_allowed_flag
    bits.ue(1280 / 16 - 1); // pic_width_in_mbs_minus1
    bits.ue(720 / 16 - 1); // pic_height_in_map_units_minus1
    bits.bits(0b1100, 4); // frame_mbs_only, direct_8x8_inference, no cropping, no VUI
    bits.stop()
}

/// The picture parameter set: CAVLC, one slice group, one reference.
pub(crate) fn pps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.bits(0x68, 8);
    bits.ue(0); // pic_parameter_set_id
    bits.ue(0); // seq_parameter_set_id
    bits.bits(0b00, 2); // entropy_coding_mode, bottom_field_pic_order_in_frame_present
    bits.ue(0); // num_slice_groups_minus1
    bits.ue(0); // num_ref_idx_l0_default_active_minus1
    bits.ue(0); // num_ref_idx_l1_default_active_minus1
    bits.bits(0b000, 3); // weighted_pred_flag, weighted_bipred_idc
    bits.ue(0); // pic_init_qp_minus26
    bits.ue(0); // pic_init_qs_minus26
    bits.ue(0); // chroma_qp_index_offset
    bits.bits(0b000, 3); // deblocking_filter_control, constrained_intra_pred, redundant_pic_cnt
    bits.stop()
}

/// NAL unit header and slice header (7.3.3) of the frame that is `since_key` frames after its key frame.
fn slice_header(since_key: u16, idr_pic_id: u32) -> Vec<u8> {
    let key = since_key == 0;
    let mut bits = Bits::default();
    bits.bits(if key { 0x65 } else { 0x41 }, 8);
    bits.ue(0); // first_mb_in_slice
    bits.ue(if key { 7 } else { 5 }); // slice_type: all slices of the picture are I, or P
    bits.ue(0); // pic_parameter_set_id
    bits.bits(u32::from(since_key) & 0xff, 8); // frame_num
    if key {
        bits.ue(idr_pic_id);
        bits.bits(0b00, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
    } else {
        bits.bits(0b000, 3); // num_ref_idx_override, ref_pic_list_modification_l0, adaptive_ref_pic_marking
    }
    bits.ue(0); // slice_qp_delta
    bits.aligned()
}

/// Bytes other than zero, drawn once for all frames of all cameras.
#[derive(Debug, Clone)]
pub(crate) struct Noise(Arc<[u8]>);

impl Noise {
    /// `length` random bytes.
    pub(crate) fn new(length: usize) -> Self {
        Self(
            (0..length.max(1))
                .map(|_| rand::random_range(1..=255u8))
                .collect(),
        )
    }

    /// `length` of the bytes, other ones for another frame.
    pub(crate) fn fill(&self, frame: u32, length: usize, into: &mut Vec<u8>) {
        let end = into.len() + length;
        let mut start = frame as usize * 7919 % self.0.len();
        while into.len() < end {
            let piece = &self.0[start..];
            into.extend_from_slice(&piece[..piece.len().min(end - into.len())]);
            start = 0;
        }
    }
}

/// One slice that is the whole frame, of `length` bytes, ending with a trailer that the camera fills in.
pub(crate) fn slice(trailer: Trailer, length: usize, noise: &Noise) -> Vec<u8> {
    // Of two key frames one after the other, the ids must differ.
    let mut nal = slice_header(trailer.since_key, trailer.frame & 1);
    noise.fill(
        trailer.frame,
        length.saturating_sub(nal.len() + TRAILER_LEN),
        &mut nal,
    );
    nal.extend(trailer.to_bytes());
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAILER: Trailer = Trailer {
        frame: u32::MAX,
        since_key: 49,
        emitted_ns: 1_800_000_000_123_456_789,
    };

    fn has_zero_pair(nal: &[u8]) -> bool {
        nal.windows(2).any(|pair| pair == [0, 0])
    }

    #[test]
    fn no_start_code_can_arise() {
        let noise = Noise::new(1000);
        for frame in 0..600 {
            let trailer = Trailer {
                frame,
                since_key: (frame % 300) as u16,
                emitted_ns: 0,
            };
            assert!(
                !has_zero_pair(&slice(trailer, 3000, &noise)),
                "frame {frame}"
            );
        }
        assert!(!has_zero_pair(&sps()) && !has_zero_pair(&pps()));
        assert!(Noise::new(10_000).0.iter().all(|byte| *byte != 0));
    }

    #[test]
    fn the_trailer_comes_back_out_of_pieces() {
        let nal = slice(TRAILER, 500, &Noise::new(100));
        assert_eq!(nal.len(), 500);
        for cut in [1, 450, 478, 479, 490, 499] {
            let mut tail = Tail::default();
            assert_eq!(tail.push(&nal[..cut]), None);
            assert_eq!(tail.push(&nal[cut..]), Some(TRAILER));
        }
    }

    #[test]
    fn noise_is_no_trailer() {
        let mut tail = Tail::default();
        assert_eq!(tail.push(&[0xff; 100]), None);
        assert_eq!(tail.push(&[]), None);
    }

    #[test]
    fn exp_golomb_numbers_are_those_of_table_9_2() {
        let mut bits = Bits::default();
        for value in 0..5 {
            bits.ue(value);
        }
        // 1 010 011 00100 00101, and the stop bit
        assert_eq!(bits.stop(), [0b1010_0110, 0b0100_0010, 0b1100_0000]);
    }

    #[test]
    fn headers_are_those_of_a_key_frame_and_of_another() {
        // 1 0001000 1 00000000 1 00 1, ones
        assert_eq!(
            slice_header(0, 0),
            [0x65, 0b1000_1000, 0b1000_0000, 0b0100_1111]
        );
        // 1 00110 1 00000001 000 1, ones
        assert_eq!(
            slice_header(1, 0),
            [0x41, 0b1001_1010, 0b0000_0010, 0b0011_1111]
        );
    }

    #[test]
    fn parameter_sets_tell_720p() {
        assert_eq!(sps()[..4], [0x67, 0x42, 0xc0, 0x1f]);
        assert_eq!(pps()[0], 0x68);
        // pic_width_in_mbs_minus1 = 79 is 0000001010000 in Exp-Golomb.
        let text = sps()
            .iter()
            .map(|byte| format!("{byte:08b}"))
            .collect::<Vec<_>>()
            .concat();
        assert!(text.contains("0000001010000"), "{text}");
    }
}
