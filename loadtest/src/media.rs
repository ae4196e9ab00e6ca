//! The media of one RTSP session: frames and sound at their times, as RTP packets (RFC 3550, RFC 6184).

use std::io::{self, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::camera::Shared;
use crate::h264::{self, TRAILER_LEN, Trailer};
use crate::measure::unix_ns;

/// 25 frames per second.
pub(crate) const FRAME_STEP: Duration = Duration::from_millis(40);
/// 50 packets of sound per second.
pub(crate) const AUDIO_STEP: Duration = Duration::from_millis(20);
const REPORT_STEP: Duration = Duration::from_secs(1);
const VIDEO_TICKS: u32 = 3600;
const AUDIO_TICKS: u32 = 160;
/// Bytes of RTP payload, as many cameras have them.
const PAYLOAD: usize = 1400;
/// Key frames are larger than others by this factor.
const KEY_FACTOR: u32 = 6;
/// Cameras of a test have their key frames this many frames apart from each other.
const GOP_SHIFT: usize = 7;
/// Seconds from 1900, where NTP begins, to 1970.
const UNIX_TO_NTP: u64 = 2_208_988_800;

/// How the packets of a track travel.
pub(crate) enum Track {
    /// In the RTSP connection, RTP on this channel and RTCP on the next one.
    Interleaved(u8),
    /// From sockets that are connected to the client's.
    Udp { rtp: UdpSocket, rtcp: UdpSocket },
}

/// One track with its RTP state.
struct Stream {
    track: Track,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    packets: u32,
    bytes: u32,
}

impl Stream {
    fn new(track: Track, payload_type: u8) -> Self {
        let (ssrc, sequence) = (rand::random(), rand::random());
        Self {
            track,
            payload_type,
            ssrc,
            sequence,
            packets: 0,
            bytes: 0,
        }
    }

    /// Begins a packet in `out` and returns the place of its payload.
    fn header(&mut self, out: &mut Packets, marker: bool, timestamp: u32, payload_len: usize) {
        let channel = if let Track::Interleaved(channel) = self.track {
            Some(channel)
        } else {
            None
        };
        out.begin(channel, 12 + payload_len);
        let bytes = &mut out.bytes;
        bytes.extend([0x80, u8::from(marker) << 7 | self.payload_type]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self
            .bytes
            .wrapping_add(u32::try_from(payload_len).unwrap_or(0));
    }

    /// Writes a sender report (RFC 3550, 6.4.1).
    fn report(&self, out: &mut Packets, timestamp: u32, time_ns: i64) {
        let channel = if let Track::Interleaved(channel) = self.track {
            Some(channel + 1)
        } else {
            None
        };
        out.begin(channel, 28);
        let time_ns = u64::try_from(time_ns).unwrap_or(0);
        let seconds = time_ns / 1_000_000_000 + UNIX_TO_NTP;
        let fraction = ((time_ns % 1_000_000_000) << 32) / 1_000_000_000;
        let bytes = &mut out.bytes;
        bytes.extend([0x80, 200, 0, 6]);
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend((seconds << 32 | fraction).to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(self.packets.to_be_bytes());
        bytes.extend(self.bytes.to_be_bytes());
    }
}

/// Packets one after the other, framed for the connection if they travel in it (RFC 2326, 10.12).
#[derive(Default)]
struct Packets {
    bytes: Vec<u8>,
    /// Where each packet begins.
    starts: Vec<usize>,
}

impl Packets {
    fn begin(&mut self, channel: Option<u8>, length: usize) {
        self.starts.push(self.bytes.len());
        if let Some(channel) = channel {
            self.bytes.extend([b'$', channel]);
            self.bytes
                .extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }

    fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self
            .starts
            .iter()
            .skip(1)
            .copied()
            .chain([self.bytes.len()]);
        self.starts
            .iter()
            .zip(ends)
            .map(|(start, end)| &self.bytes[*start..end])
    }
}

/// The tracks of a session and the camera they show.
pub(crate) struct Media {
    shared: Arc<Shared>,
    camera: usize,
    video: Option<Stream>,
    audio: Option<Stream>,
}

impl Media {
    /// No tracks yet.
    pub(crate) fn new(shared: Arc<Shared>, camera: usize) -> Self {
        Self {
            shared,
            camera,
            video: None,
            audio: None,
        }
    }

    /// Sends a track this way.
    pub(crate) fn add(&mut self, audio: bool, track: Track) {
        if audio {
            self.audio = Some(Stream::new(track, 0));
        } else {
            self.video = Some(Stream::new(track, 96));
        }
    }

    /// How much later than camera 0 a camera has its frames: not all take their pictures at once.
    pub(crate) fn offset(camera: usize) -> Duration {
        Duration::from_millis(u64::try_from(camera * 13 % 40).unwrap_or(0))
    }

    /// How many seconds further a camera is in its group of pictures than camera 0.
    pub(crate) fn gop_shift(camera: usize, gop: u16) -> f64 {
        let frames = u32::try_from(camera * GOP_SHIFT % usize::from(gop)).unwrap_or(0);
        (FRAME_STEP * frames).as_secs_f64()
    }

    /// Frames since the key frame.
    fn since_key(&self, frame: u32) -> u16 {
        let gop = usize::from(self.shared.settings.gop);
        u16::try_from((frame as usize + self.camera * GOP_SHIFT) % gop).unwrap_or(0)
    }

    /// Steps that have passed since the start of the camera, and one more: the next one to send.
    fn next(&self, step: Duration) -> u32 {
        let passed = self
            .shared
            .epoch
            .elapsed()
            .saturating_sub(Self::offset(self.camera));
        u32::try_from(passed.as_nanos() / step.as_nanos()).unwrap_or(0) + 1
    }

    fn due(&self, step: Duration, index: u32) -> Instant {
        self.shared.epoch + Self::offset(self.camera) + step * index
    }

    /// The header `RTP-Info` of the answer to PLAY.
    pub(crate) fn rtp_info(&self, base: &str) -> String {
        let video = self.video.as_ref().map(|stream| {
            let time = self.next(FRAME_STEP).wrapping_mul(VIDEO_TICKS);
            format!("url={base}/track1;seq={};rtptime={time}", stream.sequence)
        });
        let audio = self.audio.as_ref().map(|stream| {
            let time = self.next(AUDIO_STEP).wrapping_mul(AUDIO_TICKS);
            format!("url={base}/track2;seq={};rtptime={time}", stream.sequence)
        });
        video.into_iter().chain(audio).collect::<Vec<_>>().join(",")
    }

    /// Sends until the client is gone.
    pub(crate) fn play(
        mut self,
        writer: &Mutex<TcpStream>,
        stopped: &AtomicBool,
    ) -> io::Result<()> {
        let mut frame = self.next(FRAME_STEP);
        let mut sound = self.next(AUDIO_STEP);
        let mut report_at = Instant::now() + REPORT_STEP / 4;
        let mut waiting = self.shared.settings.join_at_key;
        while !stopped.load(Ordering::Relaxed) {
            let (frame_at, sound_at) = (self.due(FRAME_STEP, frame), self.due(AUDIO_STEP, sound));
            let at = frame_at.min(sound_at);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if sound_at <= at {
                self.send_sound(sound, writer)?;
                sound += 1;
            }
            if frame_at <= at {
                waiting &= self.since_key(frame) != 0;
                if !waiting {
                    self.send_frame(frame, writer)?;
                }
                frame += 1;
            }
            if report_at <= at {
                self.send_reports(writer)?;
                report_at += REPORT_STEP;
            }
        }
        Ok(())
    }

    /// Bytes of a frame, so that a group of pictures has the bitrate on average.
    fn frame_len(&self, key: bool) -> usize {
        let settings = &self.shared.settings;
        let gop = u32::from(settings.gop);
        let bytes = u64::from(settings.bitrate / 8 / 25) * u64::from(gop);
        let unit = bytes / u64::from(gop - 1 + KEY_FACTOR);
        usize::try_from(if key {
            unit * u64::from(KEY_FACTOR)
        } else {
            unit
        })
        .unwrap_or(0)
        .max(100)
    }

    fn send_frame(&mut self, frame: u32, writer: &Mutex<TcpStream>) -> io::Result<()> {
        let since_key = self.since_key(frame);
        let length = self.frame_len(since_key == 0);
        let Some(video) = &mut self.video else {
            return Ok(());
        };
        let timestamp = frame.wrapping_mul(VIDEO_TICKS);
        let trailer = Trailer {
            frame,
            since_key,
            emitted_ns: 0,
        };
        let nal = h264::slice(trailer, whole_trailer(length), &self.shared.noise);
        let mut out = Packets::default();
        if since_key == 0 {
            for set in [h264::sps(), h264::pps()] {
                video.header(&mut out, false, timestamp, set.len());
                out.bytes.extend(set);
            }
        }
        packetize(video, &mut out, timestamp, &nal);
        // The time is the last thing that is known, and the last packet has it whole.
        let end = out.bytes.len();
        let travel = travel(self.shared.settings.link, end);
        out.bytes[end - TRAILER_LEN..].copy_from_slice(
            &Trailer {
                emitted_ns: unix_ns() + i64::try_from(travel.as_nanos()).unwrap_or(0),
                ..trailer
            }
            .to_bytes(),
        );
        if let (Track::Interleaved(_), false) = (&video.track, travel.is_zero()) {
            return write_slowly(&out.bytes, self.shared.settings.link, writer);
        }
        write(&video.track, false, &out, writer)
    }

    fn send_sound(&mut self, index: u32, writer: &Mutex<TcpStream>) -> io::Result<()> {
        let Some(audio) = &mut self.audio else {
            return Ok(());
        };
        let mut out = Packets::default();
        audio.header(
            &mut out,
            false,
            index.wrapping_mul(AUDIO_TICKS),
            AUDIO_TICKS as usize,
        );
        self.shared
            .noise
            .fill(index, AUDIO_TICKS as usize, &mut out.bytes);
        write(&audio.track, false, &out, writer)
    }

    fn send_reports(&mut self, writer: &Mutex<TcpStream>) -> io::Result<()> {
        let since = self
            .shared
            .epoch
            .elapsed()
            .saturating_sub(Self::offset(self.camera));
        let now_ns = self.shared.epoch_ns
            + i64::try_from(self.shared.epoch.elapsed().as_nanos()).unwrap_or(0);
        for (stream, rate) in [(&self.video, 90_000u128), (&self.audio, 8_000)] {
            let Some(stream) = stream else { continue };
            let ticks = since.as_nanos() * rate / 1_000_000_000;
            let mut out = Packets::default();
            stream.report(
                &mut out,
                u32::try_from(ticks & 0xffff_ffff).unwrap_or(0),
                now_ns,
            );
            write(&stream.track, true, &out, writer)?;
        }
        Ok(())
    }
}

/// Written at once to a link that has its own speed.
const LINK_CHUNK: usize = 4 * PAYLOAD;

/// How long a link of `speed` bits per second takes for `bytes`; no time at all if it has no speed.
fn travel(speed: Option<u32>, bytes: usize) -> Duration {
    let nanos = |speed: u32| bytes as u64 * 8_000_000_000 / u64::from(speed.max(1));
    Duration::from_nanos(speed.map_or(0, nanos))
}

/// Writes as a link of this speed would bring it.
fn write_slowly(bytes: &[u8], speed: Option<u32>, writer: &Mutex<TcpStream>) -> io::Result<()> {
    let begun = Instant::now();
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut written = 0;
    for chunk in bytes.chunks(LINK_CHUNK) {
        written += chunk.len();
        let due = begun + travel(speed, written);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        writer.write_all(chunk)?;
    }
    Ok(())
}

/// A length at which the last fragment has room for the whole trailer.
fn whole_trailer(length: usize) -> usize {
    let fragment = PAYLOAD - 2;
    let last = (length - 1) % fragment;
    if length > PAYLOAD && last != 0 && last < TRAILER_LEN {
        length + TRAILER_LEN
    } else {
        length
    }
}

/// Writes a NAL unit as one packet, or as fragments (RFC 6184, 5.8).
fn packetize(stream: &mut Stream, out: &mut Packets, timestamp: u32, nal: &[u8]) {
    if nal.len() <= PAYLOAD {
        stream.header(out, true, timestamp, nal.len());
        out.bytes.extend_from_slice(nal);
        return;
    }
    let indicator = nal[0] & 0xe0 | 0x1c;
    let kind = nal[0] & 0x1f;
    let fragments = nal[1..].chunks(PAYLOAD - 2);
    let last = fragments.len() - 1;
    for (index, fragment) in fragments.enumerate() {
        stream.header(out, index == last, timestamp, fragment.len() + 2);
        out.bytes.extend([
            indicator,
            u8::from(index == 0) << 7 | u8::from(index == last) << 6 | kind,
        ]);
        out.bytes.extend_from_slice(fragment);
    }
}

fn write(
    track: &Track,
    rtcp_packet: bool,
    out: &Packets,
    writer: &Mutex<TcpStream>,
) -> io::Result<()> {
    match track {
        Track::Interleaved(_) => writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&out.bytes),
        Track::Udp { rtp, rtcp } => {
            for datagram in out.datagrams() {
                // A client that does not listen yet refuses; the connection tells when it is gone.
                let _ = if rtcp_packet {
                    rtcp.send(datagram)
                } else {
                    rtp.send(datagram)
                };
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Settings;
    use crate::h264::{Noise, Tail};

    fn media(gop: u16, camera: usize) -> Media {
        let settings = Settings {
            bitrate: 2_000_000,
            gop,
            audio: true,
            join_at_key: false,
            link: None,
        };
        let shared = Shared {
            settings,
            noise: Noise::new(5000),
            epoch: Instant::now(),
            epoch_ns: 0,
        };
        Media::new(Arc::new(shared), camera)
    }

    #[test]
    fn fragments_come_together_again() {
        for length in [500, 1400, 1401, 2799, 2800, 9000] {
            let mut stream = Stream::new(Track::Interleaved(0), 96);
            let (mut out, trailer) = (
                Packets::default(),
                Trailer {
                    frame: 5,
                    since_key: 2,
                    emitted_ns: 7,
                },
            );
            let nal = h264::slice(trailer, whole_trailer(length), &Noise::new(3000));
            packetize(&mut stream, &mut out, 1, &nal);
            let (mut again, mut tail, mut found) = (vec![nal[0]], Tail::default(), Vec::new());
            for packet in out.datagrams() {
                let payload = &packet[16..];
                let body = if payload[0] & 0x1f == 28 {
                    &payload[2..]
                } else {
                    &payload[1..]
                };
                again.extend_from_slice(body);
                found.extend(tail.push(body));
            }
            assert_eq!(again, nal, "{length}");
            assert_eq!(found, [trailer], "{length}");
            let last = out.datagrams().last().unwrap();
            assert!(
                last.len() >= 16 + 2 + TRAILER_LEN && last[5] & 0x80 != 0,
                "{length}"
            );
        }
    }

    #[test]
    fn a_group_of_pictures_has_the_bitrate() {
        let media = media(50, 0);
        let bytes = media.frame_len(true) + 49 * media.frame_len(false);
        assert!((495_000..=500_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn cameras_have_their_key_frames_at_different_times() {
        assert_eq!(media(50, 0).since_key(100), 0);
        assert_eq!(media(50, 1).since_key(100), 7);
        assert_eq!(media(50, 1).since_key(143), 0);
    }
}
