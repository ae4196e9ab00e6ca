//! The tracks of a description, and RTP packets for them.

use std::{fmt::Write as _, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tokio::net::UdpSocket;

use super::{
    h264::{self, Size},
    packing,
    quirk::Quirk,
    script::{Camera, Jump},
};

/// A media section of the description, with the state of its RTP stream.
#[derive(Debug)]
pub(super) struct Track {
    /// `video`, for example.
    kind: String,
    /// The value of its `a=control`, or empty.
    control: String,
    /// Upper case, from `a=rtpmap` or the static payload types.
    encoding: String,
    payload_type: u8,
    clock: u32,
    pub(super) ssrc: u32,
    sequence: u16,
    /// Added to the time of every packet.
    offset: u32,
    /// Of the last packet.
    pub(super) timestamp: u32,
    /// Packets and bytes until now.
    pub(super) sent: (u32, u32),
    /// The request URI of its SETUP and where its packets go.
    pub(super) setup: Option<(String, Way)>,
}

/// Where the packets of a track go.
#[derive(Debug)]
pub(super) enum Way {
    /// The channel of RTP; that of RTCP is the next.
    Channel(u8),
    /// Nowhere: the camera has promised what the client did not ask for.
    Nowhere,
    /// Sockets for RTP and RTCP, and where the client listens.
    Ports([UdpSocket; 2], [SocketAddr; 2]),
}

/// A packet to be sent.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// Index of its track.
    pub(super) track: usize,
    pub(super) is_rtcp: bool,
    pub(super) bytes: Vec<u8>,
}

/// The media of one connection.
#[derive(Debug)]
pub(super) struct Media {
    pub(super) tracks: Vec<Track>,
    /// Frames sent.
    pub(super) frames: u32,
    /// Pictures since the last key frame, and key frames.
    picture: (u32, u32),
    /// The size of the pictures since the last key frame.
    size: Size,
    random: Random,
    held: Option<Packet>,
}

impl Media {
    pub(super) fn of(sdp: &[u8]) -> Self {
        Self {
            tracks: tracks(sdp),
            frames: 0,
            picture: (0, 0),
            size: Size::Dot,
            random: Random(0x5C41),
            held: None,
        }
    }

    /// The packets of the next frame of every track that was set up. `slot` counts the frames that are
    /// due, whether or not they were sent.
    pub(super) fn next(&mut self, camera: &Camera, slot: u32) -> Vec<Packet> {
        let number = self.frames;
        self.frames += 1;
        if self.picture.0 == 0 || self.picture.0 >= camera.gop {
            self.picture = (0, self.picture.1.wrapping_add(1));
            self.size = camera.size;
        }
        let picture = h264::Picture {
            size: self.size,
            place: self.picture.0,
            number: self.picture.1.wrapping_sub(1),
        };
        self.picture.0 += 1;
        let mut packets = Vec::new();
        for (index, track) in self.tracks.iter_mut().enumerate() {
            if track.setup.is_none() || camera.silent == Some(track.kind.as_str()) {
                continue;
            }
            if camera.has(Quirk::NearWrap) && number == 0 {
                (track.sequence, track.offset) = (0xFFF0, 0xFFFF_0000);
            }
            let timestamp = track.time(camera, slot);
            for payload in payloads(&track.encoding, picture, camera) {
                let early = u32::from(payload.is_early);
                let bytes = track.packet(&payload, timestamp.wrapping_sub(early), camera);
                packets.push(Packet {
                    track: index,
                    is_rtcp: false,
                    bytes,
                });
            }
        }
        let mut packets = self.impair(packets, camera);
        let per_second = u32::try_from(1_000 / camera.pace.as_millis().max(1)).unwrap_or(1);
        if camera.has(Quirk::Reports) && number.is_multiple_of(per_second.max(1)) {
            packets.extend(self.rtcp(packing::sender_report));
        }
        packets
    }

    /// An RTCP packet about every track that was set up.
    pub(super) fn rtcp(&self, make: fn(&Track) -> Vec<u8>) -> Vec<Packet> {
        let tracks = self.tracks.iter().enumerate();
        let used = tracks.filter(|(_, track)| track.setup.is_some());
        used.map(|(index, track)| Packet {
            track: index,
            is_rtcp: true,
            bytes: make(track),
        })
        .collect()
    }

    pub(super) fn jump(&mut self, jump: Jump) {
        for track in &mut self.tracks {
            let ticks = i64::from(jump.seconds) * i64::from(track.clock);
            track.offset = track.offset.wrapping_add(low(ticks));
            track.sequence = track.sequence.wrapping_add(jump.packets);
            if jump.source {
                track.ssrc = track.ssrc.wrapping_add(0x0101_0000);
            }
        }
    }

    fn impair(&mut self, packets: Vec<Packet>, camera: &Camera) -> Vec<Packet> {
        let mut sent = Vec::new();
        for packet in packets {
            let mut happens = |chance: fn(&Quirk) -> Option<u32>| {
                let chance = camera.quirks.iter().find_map(chance);
                chance.is_some_and(|chance| self.random.below(1_000) < chance)
            };
            if happens(|q| {
                if let Quirk::Loses(n) = q {
                    Some(*n)
                } else {
                    None
                }
            }) {
                continue;
            }
            let doubled = happens(|q| {
                if let Quirk::Doubles(n) = q {
                    Some(*n)
                } else {
                    None
                }
            });
            let swapped = happens(|q| {
                if let Quirk::Swaps(n) = q {
                    Some(*n)
                } else {
                    None
                }
            });
            if swapped && self.held.is_none() {
                self.held = Some(packet);
                continue;
            }
            sent.extend(doubled.then(|| packet.clone()));
            sent.push(packet);
            sent.extend(self.held.take());
        }
        sent
    }
}

impl Track {
    fn time(&self, camera: &Camera, slot: u32) -> u32 {
        if camera.has(Quirk::ConstantTime) {
            return self.offset;
        }
        let rate = camera.quirks.iter().find_map(|quirk| match quirk {
            Quirk::FastClock(rate) => Some(i64::from(*rate)),
            _ => None,
        });
        let millis = i64::try_from(camera.pace.as_millis()).unwrap_or(i64::MAX);
        let ticks = i64::from(slot) * millis * i64::from(self.clock) / 1_000;
        low(ticks * (1_000 + rate.unwrap_or(0)) / 1_000).wrapping_add(self.offset)
    }

    fn packet(&mut self, payload: &packing::Payload, timestamp: u32, camera: &Camera) -> Vec<u8> {
        let padded = camera.has(Quirk::Padding);
        let marker = u8::from(payload.marker) << 7;
        let mut packet = vec![if padded { 0xB0 } else { 0x80 }, marker | self.payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        if padded {
            packet.extend([0xAB, 0xAC, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        }
        packet.extend(&payload.bytes);
        if padded {
            packet.extend([0, 0, 0, 0, 0, 0, 7]);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = timestamp;
        self.sent.0 += 1;
        self.sent.1 += u32::try_from(payload.bytes.len()).unwrap_or(u32::MAX);
        packet
    }

    /// A packet of an older session, which ended long ago.
    pub(super) fn old_packet(&self, number: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 0x80 | self.payload_type];
        packet.extend(low16(40_000 + number).to_be_bytes());
        packet.extend((0x4000_0000 + number * 9_000).to_be_bytes());
        packet.extend([0xDE, 0xAD, 0xBE, 0xEF]);
        let old = h264::Picture {
            size: Size::Dot,
            place: 5 + number % 5,
            number: 0,
        };
        packet.extend(old.slices(1).concat());
        packet
    }
}

/// The low bits, as RTP carries them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "RTP time wraps"
)]
fn low(ticks: i64) -> u32 {
    ticks as u32
}

#[expect(clippy::cast_possible_truncation, reason = "RTP sequences wrap")]
fn low16(number: u32) -> u16 {
    number as u16
}

/// A generator of numbers that look random and are the same in every run (xorshift).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 16 & 0x7FFF_FFFF).unwrap_or(0) % limit
    }
}

/// The media sections of a description, however odd the rest of it is.
fn tracks(sdp: &[u8]) -> Vec<Track> {
    let text = String::from_utf8_lossy(sdp);
    let mut tracks = Vec::<Track>::new();
    for line in text.lines().map(str::trim) {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_whitespace();
            let kind = words.next().unwrap_or_default().to_owned();
            let payload_type = words.nth(2).and_then(|f| f.parse().ok()).unwrap_or(127);
            let (encoding, clock) = match payload_type {
                0 => ("PCMU", 8000),
                8 => ("PCMA", 8000),
                26 => ("JPEG", 90000),
                _ => ("", 90000),
            };
            let index = u32::try_from(tracks.len()).unwrap_or(u32::MAX);
            tracks.push(Track {
                kind,
                control: String::new(),
                encoding: encoding.to_owned(),
                payload_type,
                clock,
                ssrc: 0x5C41_0000 + index,
                sequence: 0,
                offset: 0,
                timestamp: 0,
                sent: (0, 0),
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

/// The payloads of a frame, none for an encoding that this camera cannot produce.
fn payloads(encoding: &str, picture: h264::Picture, camera: &Camera) -> Vec<packing::Payload> {
    let millis = usize::try_from(camera.pace.as_millis()).unwrap_or(0);
    match encoding {
        "H264" => packing::pack(picture, camera),
        "PCMU" => vec![packing::Payload::last(vec![0xFF; millis * 8])],
        "PCMA" => vec![packing::Payload::last(vec![0xD5; millis * 8])],
        // One access unit of six bytes, its size in a header of 16 bits: silence in two channels.
        "MPEG4-GENERIC" => {
            let silence = vec![0, 16, 0, 6 << 3, 0x21, 0x10, 0x04, 0x60, 0x8C, 0x1C];
            vec![packing::Payload::last(silence)]
        }
        _ => Vec::new(),
    }
}

/// A description of the one H.264 track that [`ScriptedCamera`](super::ScriptedCamera) can draw itself.
#[must_use]
pub fn h264_sdp() -> Vec<u8> {
    sdp_of(Size::Dot)
}

/// The same for pictures of this size.
#[must_use]
pub fn sdp_of(size: Size) -> Vec<u8> {
    let sps = size.sps();
    let profile = sps[1..4].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02X}");
        hex
    });
    let sets = (BASE64.encode(sps), BASE64.encode(h264::pps()));
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Scripted\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
         a=control:*\r\nm=video 0 RTP/AVP 96\r\na=control:track1\r\n\
         a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id={profile}\
         ;sprop-parameter-sets={},{}\r\n",
        sets.0, sets.1
    )
    .into_bytes()
}

/// The same with a track of sound, PCMA.
#[must_use]
pub fn h264_and_pcma_sdp() -> Vec<u8> {
    let mut sdp = h264_sdp();
    sdp.extend(b"m=audio 0 RTP/AVP 8\r\na=control:track2\r\n");
    sdp
}
