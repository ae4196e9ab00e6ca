//! Cameras: one RTSP server (RFC 2326) for any number of paths `/cam0`, `/cam1`, …
//!
//! Like a camera it is live whether or not anybody watches: the picture of a moment is the same for all clients of a
//! path, and who comes in the middle of a group of pictures gets the rest of that first.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::h264::{self, Noise};
use crate::measure::unix_ns;
use crate::media::{FRAME_STEP, Media, Track};

/// What all cameras send.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Bits per second of video, on average.
    pub(crate) bitrate: u32,
    /// Frames from one key frame to the next.
    pub(crate) gop: u16,
    /// Whether PCMU goes along.
    pub(crate) audio: bool,
    /// Whether a client's first frame is a key frame, as with few cameras.
    pub(crate) join_at_key: bool,
    /// Bits per second of the link to the cameras; none for one that takes no time.
    pub(crate) link: Option<u32>,
}

/// What the threads of the server share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) noise: Noise,
    /// When frame 0 of camera 0 was.
    pub(crate) epoch: Instant,
    /// The same in nanoseconds since 1970.
    pub(crate) epoch_ns: i64,
}

/// The running cameras. They end with the process.
pub(crate) struct Cameras {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Cameras {
    /// Listens on loopback.
    pub(crate) fn start(settings: Settings, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            settings,
            noise: Noise::new(1 << 20),
            epoch: Instant::now(),
            epoch_ns: unix_ns(),
        });
        let of_clients = Arc::clone(&shared);
        thread::Builder::new()
            .name("cameras".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&of_clients);
                    // A thread that cannot be had is a connection that closes: the server under test sees it.
                    let _ = thread::Builder::new()
                        .name("rtsp".into())
                        .spawn(move || Client::serve(stream, &shared));
                }
            })?;
        Ok(Self { address, shared })
    }

    /// The URL of a camera.
    pub(crate) fn url(&self, camera: usize) -> String {
        format!("rtsp://{}/cam{camera}", self.address)
    }

    /// Time until the camera's next key frame is `phase` (0 to 1) of a group of pictures away.
    pub(crate) fn until_phase(&self, camera: usize, phase: f64) -> Duration {
        let shared = &self.shared;
        let gop = FRAME_STEP * u32::from(shared.settings.gop);
        let into = shared
            .epoch
            .elapsed()
            .saturating_sub(Media::offset(camera))
            .as_secs_f64()
            + Media::gop_shift(camera, shared.settings.gop);
        let wanted = gop.as_secs_f64() * (1.0 - phase);
        Duration::from_secs_f64((wanted - into).rem_euclid(gop.as_secs_f64()))
    }

    /// The length of a group of pictures.
    pub(crate) fn gop(&self) -> Duration {
        FRAME_STEP * u32::from(self.shared.settings.gop)
    }
}

/// One RTSP connection.
struct Client {
    stream: TcpStream,
    writer: Arc<Mutex<TcpStream>>,
    media: Option<Media>,
    stopped: Arc<AtomicBool>,
}

/// A request, as far as it matters.
struct Request {
    method: String,
    url: String,
    sequence: String,
    transport: String,
}

impl Client {
    fn serve(stream: TcpStream, shared: &Arc<Shared>) {
        let stopped = Arc::new(AtomicBool::new(false));
        // Errors end the connection, as with any camera.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
        if let (Ok(reader), Ok(writer)) = (stream.try_clone(), stream.try_clone()) {
            let writer = Arc::new(Mutex::new(writer));
            let mut client = Self {
                stream,
                writer,
                media: None,
                stopped: Arc::clone(&stopped),
            };
            let _ = client.run(&mut BufReader::new(reader), shared);
        }
        stopped.store(true, Ordering::Relaxed);
    }

    fn run(&mut self, reader: &mut BufReader<TcpStream>, shared: &Arc<Shared>) -> io::Result<()> {
        while let Some(request) = read_request(reader)? {
            let ended = request.method == "TEARDOWN";
            let (status, headers, body) = self.answer(&request, shared)?;
            let (sequence, length) = (&request.sequence, body.len());
            let text = format!(
                "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            );
            self.writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(text.as_bytes())?;
            if request.method == "PLAY"
                && let Some(media) = self.media.take()
            {
                let (writer, stopped) = (Arc::clone(&self.writer), Arc::clone(&self.stopped));
                let stream = self.stream.try_clone()?;
                thread::Builder::new().name("media".into()).spawn(move || {
                    let _ = media.play(&writer, &stopped);
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                })?;
            }
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Status, headers and body.
    fn answer(
        &mut self,
        request: &Request,
        shared: &Arc<Shared>,
    ) -> io::Result<(String, String, String)> {
        let ok = "200 OK".to_owned();
        let session = "Session: 12345678;timeout=60\r\n";
        Ok(match request.method.as_str() {
            "OPTIONS" => (
                ok,
                "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n".into(),
                String::new(),
            ),
            "DESCRIBE" => {
                let headers = format!(
                    "Content-Type: application/sdp\r\nContent-Base: {}/\r\n",
                    request.url.trim_end_matches('/')
                );
                (ok, headers, describe(&shared.settings))
            }
            "SETUP" => {
                let media = self
                    .media
                    .get_or_insert_with(|| Media::new(Arc::clone(shared), camera_of(&request.url)));
                let peer = self.stream.peer_addr()?.ip();
                match set_up(media, request, peer)? {
                    Some(transport) => (
                        ok,
                        format!("{session}Transport: {transport}\r\n"),
                        String::new(),
                    ),
                    None => (
                        "461 Unsupported transport".into(),
                        String::new(),
                        String::new(),
                    ),
                }
            }
            "PLAY" => {
                let base = request.url.trim_end_matches('/');
                let info = self
                    .media
                    .as_ref()
                    .map(|media| media.rtp_info(base))
                    .unwrap_or_default();
                (
                    ok,
                    format!("{session}Range: npt=0.000-\r\nRTP-Info: {info}\r\n"),
                    String::new(),
                )
            }
            "GET_PARAMETER" | "SET_PARAMETER" | "TEARDOWN" => (ok, session.into(), String::new()),
            _ => ("501 Not Implemented".into(), String::new(), String::new()),
        })
    }
}

/// The number in `…/cam12/track1`; cameras without one are number 0.
fn camera_of(url: &str) -> usize {
    let digits = url.rsplit("/cam").next().unwrap_or_default();
    digits
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or(0)
}

/// Chooses how the packets of a track travel; `None` if the client offers nothing that is known here.
fn set_up(media: &mut Media, request: &Request, peer: IpAddr) -> io::Result<Option<String>> {
    let audio = request.url.trim_end_matches('/').ends_with("track2");
    let offers = request.transport.to_ascii_lowercase();
    for offer in offers.split(',') {
        if offer.contains("tcp") {
            let channel = parameter(offer, "interleaved").unwrap_or(if audio { 2 } else { 0 });
            let channel = u8::try_from(channel).unwrap_or(0);
            media.add(audio, Track::Interleaved(channel));
            return Ok(Some(format!(
                "RTP/AVP/TCP;unicast;interleaved={channel}-{}",
                channel + 1
            )));
        }
        if let Some(port) = parameter(offer, "client_port") {
            let (rtp, rtcp) = (UdpSocket::bind(any(peer))?, UdpSocket::bind(any(peer))?);
            rtp.connect((peer, port))?;
            rtcp.connect((peer, port + 1))?;
            let ports = (rtp.local_addr()?.port(), rtcp.local_addr()?.port());
            media.add(audio, Track::Udp { rtp, rtcp });
            return Ok(Some(format!(
                "RTP/AVP;unicast;client_port={port}-{};server_port={}-{}",
                port + 1,
                ports.0,
                ports.1
            )));
        }
    }
    Ok(None)
}

fn any(peer: IpAddr) -> SocketAddr {
    SocketAddr::new(peer, 0)
}

/// The first number of `name=4-5` in a Transport header.
fn parameter(transport: &str, name: &str) -> Option<u16> {
    transport.split(';').find_map(|part| {
        let value = part.trim().strip_prefix(name)?.strip_prefix('=')?;
        value.split('-').next()?.trim().parse().ok()
    })
}

fn describe(settings: &Settings) -> String {
    let (sps, pps) = (BASE64.encode(h264::sps()), BASE64.encode(h264::pps()));
    let audio = if settings.audio {
        "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track2\r\n"
    } else {
        ""
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Synthetic camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
         m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 packetization-mode=1;profile-level-id=42c01f;sprop-parameter-sets={sps},{pps}\r\n\
         a=framerate:25\r\na=control:track1\r\n{audio}"
    )
}

/// The next request; the client's RTCP packets between requests are passed over. `None` at the end.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    loop {
        match reader.fill_buf()?.first() {
            None => return Ok(None),
            Some(b'$') => {
                let mut head = [0; 4];
                reader.read_exact(&mut head)?;
                let length = u64::from(u16::from_be_bytes([head[2], head[3]]));
                io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
            }
            Some(b'\r' | b'\n') => reader.consume(1),
            Some(_) => break,
        }
    }
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, url) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut request = Request {
        method,
        url,
        sequence: String::new(),
        transport: String::new(),
    };
    let mut body = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key.to_ascii_lowercase().as_str() {
            "cseq" => value.trim().clone_into(&mut request.sequence),
            "transport" => value.trim().clone_into(&mut request.transport),
            "content-length" => body = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut reader.by_ref().take(body), &mut io::sink())?;
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_transport_headers_and_camera_numbers() {
        assert_eq!(
            parameter("rtp/avp/tcp;unicast;interleaved=4-5", "interleaved"),
            Some(4)
        );
        assert_eq!(parameter("rtp/avp;unicast", "client_port"), None);
        assert_eq!(camera_of("rtsp://127.0.0.1:1/cam12/track1"), 12);
        assert_eq!(camera_of("rtsp://127.0.0.1:1/"), 0);
    }
}
