//! The tracks of a description, and packets for them that a real decoder accepts.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

/// A media section of the description, with the state of its RTP stream.
#[derive(Debug)]
pub(super) struct Track {
    /// The value of its `a=control`, or empty.
    control: String,
    /// Upper case, from `a=rtpmap` or the static payload types.
    encoding: String,
    payload_type: u8,
    clock: u32,
    sequence: u16,
    /// What SETUP agreed on: the request URI and the interleaved channel of RTP.
    pub(super) setup: Option<(String, u8)>,
}

/// The media sections of a description, however odd the rest of it is.
pub(super) fn tracks(sdp: &[u8]) -> Vec<Track> {
    let text = String::from_utf8_lossy(sdp);
    let mut tracks = Vec::<Track>::new();
    for line in text.lines().map(str::trim) {
        if let Some(media) = line.strip_prefix("m=") {
            let format = media.split_whitespace().nth(3);
            let payload_type = format.and_then(|f| f.parse().ok()).unwrap_or(127);
            let (encoding, clock) = match payload_type {
                0 => ("PCMU", 8000),
                8 => ("PCMA", 8000),
                26 => ("JPEG", 90000),
                _ => ("", 90000),
            };
            tracks.push(Track {
                control: String::new(),
                encoding: encoding.to_owned(),
                payload_type,
                clock,
                sequence: 0,
                setup: None,
            });
        }
        let Some(track) = tracks.last_mut() else {
            continue;
        };
        if let Some(control) = line.strip_prefix("a=control:") {
            control.trim().clone_into(&mut track.control);
        }
        if let Some((payload_type, map)) = line
            .strip_prefix("a=rtpmap:")
            .and_then(|map| map.split_once(' '))
            && payload_type.parse() == Ok(track.payload_type)
        {
            let mut parts = map.trim().split('/');
            track.encoding = parts.next().unwrap_or_default().to_ascii_uppercase();
            let clock = parts.next().and_then(|clock| clock.trim().parse().ok());
            track.clock = clock.unwrap_or(track.clock);
        }
    }
    tracks
}

/// Which track a SETUP means: the one whose control ends its URI, else the first that has none yet.
pub(super) fn find(tracks: &[Track], uri: &str) -> Option<usize> {
    let named = |track: &Track| !track.control.is_empty() && uri.ends_with(&track.control);
    (0..tracks.len())
        .filter(|&index| named(&tracks[index]))
        .max_by_key(|&index| tracks[index].control.len())
        .or_else(|| tracks.iter().position(|track| track.setup.is_none()))
}

impl Track {
    /// The RTP packets of frame `number`, none for an encoding that this camera cannot produce.
    pub(super) fn packets(&mut self, index: usize, number: u32) -> Vec<Vec<u8>> {
        // A tenth of a second per frame, whatever the pace.
        let timestamp = number.wrapping_mul(self.clock / 10);
        let payloads = payloads(&self.encoding, number);
        let last = payloads.len().saturating_sub(1);
        let packet = |(place, payload): (usize, Vec<u8>)| {
            let marker = if place == last { 0x80 } else { 0 };
            let mut packet = vec![0x80, marker | self.payload_type];
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(ssrc(index).to_be_bytes());
            packet.extend(payload);
            self.sequence = self.sequence.wrapping_add(1);
            packet
        };
        payloads.into_iter().enumerate().map(packet).collect()
    }
}

/// The synchronization source of a track.
pub(super) fn ssrc(index: usize) -> u32 {
    0x5C41_0000 + u32::try_from(index).unwrap_or(u32::MAX)
}

fn payloads(encoding: &str, number: u32) -> Vec<Vec<u8>> {
    match encoding {
        "H264" => vec![h264_sps(), h264_pps(), h264_picture(number)],
        "PCMU" => vec![vec![0xFF; 800]],
        "PCMA" => vec![vec![0xD5; 800]],
        // One access unit of six bytes, its size in a header of 16 bits: silence in two channels.
        "MPEG4-GENERIC" => {
            vec![vec![0, 16, 0, 6 << 3, 0x21, 0x10, 0x04, 0x60, 0x8C, 0x1C]]
        }
        _ => Vec::new(),
    }
}

/// A description of the one H.264 track that [`ScriptedCamera`](super::ScriptedCamera) can draw itself.
#[must_use]
pub fn h264_sdp() -> Vec<u8> {
    let mut sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Scripted\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                   a=control:*\r\nm=video 0 RTP/AVP 96\r\na=control:track1\r\n\
                   a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42E00A"
        .to_owned();
    let sets = (BASE64.encode(h264_sps()), BASE64.encode(h264_pps()));
    let _ = write!(sdp, ";sprop-parameter-sets={},{}\r\n", sets.0, sets.1);
    sdp.into_bytes()
}

/// Sequence parameters of constrained baseline, level 1, one macroblock: 16 by 16 pixels.
fn h264_sps() -> Vec<u8> {
    let mut bits = Bits(Vec::new());
    bits.ue(0); // seq_parameter_set_id
    bits.ue(0); // log2_max_frame_num_minus4
    bits.ue(2); // pic_order_cnt_type: output order is decoding order
    bits.ue(1); // max_num_ref_frames
    bits.u(1, 0); // gaps_in_frame_num_value_allowed_flag
    bits.ue(0); // pic_width_in_mbs_minus1
    bits.ue(0); // pic_height_in_map_units_minus1
    bits.u(4, 0b1100); // frames only, direct 8x8 inference, no cropping, no VUI
    bits.end(&[0x67, 66, 0xE0, 10])
}

fn h264_pps() -> Vec<u8> {
    let mut bits = Bits(Vec::new());
    bits.ue(0); // pic_parameter_set_id
    bits.ue(0); // seq_parameter_set_id
    bits.u(2, 0); // CAVLC, no field order
    bits.ue(0); // num_slice_groups_minus1
    bits.ue(0); // num_ref_idx_l0_default_active_minus1
    bits.ue(0); // num_ref_idx_l1_default_active_minus1
    bits.u(3, 0); // no weighted prediction
    bits.ue(0); // pic_init_qp_minus26
    bits.ue(0); // pic_init_qs_minus26
    bits.ue(0); // chroma_qp_index_offset
    bits.u(3, 0); // no deblocking control, no constrained intra, no redundant pictures
    bits.end(&[0x68])
}

/// A key frame of one grey, brighter with every number: a macroblock of plain samples (`I_PCM`).
fn h264_picture(number: u32) -> Vec<u8> {
    let mut bits = Bits(Vec::new());
    bits.ue(0); // first_mb_in_slice
    bits.ue(7); // slice_type: all slices of the picture are I
    bits.ue(0); // pic_parameter_set_id
    bits.u(4, 0); // frame_num
    bits.ue(number % 2); // idr_pic_id differs between neighbours
    bits.u(2, 0); // neither no_output_of_prior_pics nor long_term_reference
    bits.ue(0); // slice_qp_delta
    bits.ue(25); // mb_type I_PCM
    while !bits.0.len().is_multiple_of(8) {
        bits.u(1, 0);
    }
    bits.samples(256, 16 + number * 7 % 200);
    bits.samples(128, 128);
    bits.end(&[0x65])
}

/// Bits in the order of H.264. Nothing written here has two zero bytes in a row, so that no emulation
/// prevention is needed.
struct Bits(Vec<bool>);

impl Bits {
    fn u(&mut self, width: u32, value: u32) {
        self.0
            .extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    }

    /// Exponential Golomb code.
    fn ue(&mut self, value: u32) {
        let width = (value + 1).ilog2();
        self.u(width, 0);
        self.u(width + 1, value + 1);
    }

    fn samples(&mut self, count: u32, value: u32) {
        for _ in 0..count {
            self.u(8, value);
        }
    }

    /// The NAL unit of what was written, with the bytes that come before.
    fn end(mut self, header: &[u8]) -> Vec<u8> {
        self.u(1, 1);
        let byte = |bits: &[bool]| {
            (0..8).fold(0, |byte, place| {
                byte << 1 | u8::from(bits.get(place) == Some(&true))
            })
        };
        header
            .iter()
            .copied()
            .chain(self.0.chunks(8).map(byte))
            .collect()
    }
}
