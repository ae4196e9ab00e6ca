//! Conversations of cameras with bytes changed, cut, doubled and mixed: whatever a camera sends, it does
//! no harm.
//!
//! `MUTATIONS` says how many, 20,000 if it does not; `cargo test --release -- mutations` with 500,000 takes a
//! minute or two.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::hub::hub;

const DEFAULT_CASES: usize = 20_000;
/// What the process may grow by, beyond what it has after the first tenth.
const GROWTH_MAX: usize = 16 << 20;
/// A conversation is not lengthened beyond this.
const LENGTH_MAX: usize = 300 << 10;

const SDPS: [&str; 4] = [
    "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=Yard\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n\
     a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42E00A;\
     sprop-parameter-sets=Z0LgCtp5,aM48gA==\r\na=control:trackID=1\r\nm=audio 0 RTP/AVP 8\r\n\
     a=rtpmap:8 PCMA/8000\r\na=control:trackID=2\r\n",
    "v=0\no=x 0 0 IN IPV4 0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:rtsp://192.0.2.7/a?b=c/v\n\
     m=application 0 RTP/AVP 107\nm=audio 0 RTP/AVP 0\na=sendonly\nm=audio 0 RTP/AVP 97\n\
     a=rtpmap:97 opus/48000/2\na=fmtp:97 sprop-stereo=1\n",
    "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000\r\na=fmtp:97 config=1408;sizelength=13\r\n\
     m=audio 0 RTP/AVP 0\r\na=control:0\r\n",
    "v=0\r\nm=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\na=fmtp:98 sprop-vps=QAEM\r\na=control:1\r\n",
];

/// A camera's side of a connection that was recorded before anybody asked.
struct Tape {
    bytes: Vec<u8>,
    at: usize,
    /// Bytes that come with one read.
    step: usize,
}

impl AsyncRead for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = (self.at + self.step.min(buffer.remaining())).min(self.bytes.len());
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(b.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn answer(number: u32, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut head = format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{headers}");
    if !body.is_empty() {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// An RTP packet on a channel of the connection.
fn packet(channel: u8, number: u16, marker: bool, kind: u8, payload: &[u8]) -> Vec<u8> {
    let second = kind | if marker { 0x80 } else { 0 };
    let length = u16::try_from(12 + payload.len()).unwrap();
    let time = u32::from(number / 2) * 3_600;
    [
        &[b'$', channel][..],
        &length.to_be_bytes(),
        &[0x80, second],
        &number.to_be_bytes(),
        &time.to_be_bytes(),
        &[0, 0, 0, channel],
        payload,
    ]
    .concat()
}

/// What a camera sends from the answer to DESCRIBE to the end.
fn conversation(description: &[u8]) -> Vec<u8> {
    let mut all = description.to_vec();
    for (number, channels) in [(2, "0-1"), (3, "2-3")] {
        let headers = format!(
            "Session: 12345678;timeout=60\r\n\
             Transport: RTP/AVP/TCP;unicast;interleaved={channels};ssrc=0000000{channels}\r\n"
        );
        all.extend(answer(number, &headers, b""));
    }
    let headers = "RTP-Info: url=rtsp://192.0.2.7/trackID=1;seq=0;rtptime=0\r\n";
    all.extend(answer(4, headers, b""));
    let aggregate = [
        24, 0, 6, 0x67, 0x42, 0xe0, 0x0a, 0xda, 0x79, 0, 4, 0x68, 0xce, 0x3c, 0x80,
    ];
    let video: [&[u8]; 8] = [
        &aggregate,
        &[0x65, 0x88, 0x84, 0x21, 0xa0],
        &[0x7c, 0x85, 0x88, 1, 2, 3],
        &[0x7c, 0x05, 4, 5, 6],
        &[0x7c, 0x45, 7, 8],
        &[0x41, 0x9a, 1, 2, 3],
        &[0x06, 5, 1, 0, 0x80],
        &[0x01, 0x9c, 6, 7],
    ];
    for (number, payload) in (0..).zip(video) {
        all.extend(packet(0, number, number % 2 == 1, 96, payload));
        all.extend(packet(2, number, false, 8, &[0xd5; 40]));
    }
    // A sender report, a request of the camera, and a goodbye.
    let report = [
        0x80, 200, 0, 6, 0, 0, 0, 0, 0xe0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3,
    ];
    all.extend([&b"$\x01\0\x1c"[..], &report, &[0; 8]].concat());
    all.extend(b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n$\x01\0\x08\x81\xcb\0\x01\0\0\0\0");
    all
}

/// Conversations that nobody has changed, with real cameras' among them where the corpus is.
fn seeds() -> Vec<Vec<u8>> {
    let described = |sdp: &[u8]| {
        let headers = "Content-Type: application/sdp\r\nContent-Base: rtsp://192.0.2.7/live/\r\n";
        conversation(&answer(1, headers, sdp))
    };
    let mut seeds: Vec<_> = SDPS.iter().map(|sdp| described(sdp.as_bytes())).collect();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let corpus =
        std::env::var_os("CORPUS_DIR").map_or(root.join("../shared/corpus"), PathBuf::from);
    let files = |folder: &str| {
        let entries = fs::read_dir(corpus.join(folder)).into_iter().flatten();
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.into_iter().filter_map(|path| fs::read(path).ok())
    };
    seeds.extend(files("camera_sdp").map(|sdp| described(&sdp)));
    seeds.extend(files("rtsp_captures").map(|capture| conversation(&capture)));
    if seeds.len() == SDPS.len() {
        let _ = writeln!(io::stderr(), "real cameras NOT TESTED: no corpus here");
    }
    seeds
}

const NUMBERS: [&str; 9] = [
    "0",
    "-1",
    "1",
    "255",
    "65535",
    "65536",
    "4294967295",
    "18446744073709551616",
    "99999999999999999999999999",
];

/// Changes `bytes` in one way; `other` is what parts are taken from.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let place = random.random_range(0..bytes.len());
    let stretch = |random: &mut StdRng, of: &[u8]| {
        let start = random.random_range(0..of.len());
        let length = 1 << random.random_range(0..10);
        start..(start + length).min(of.len())
    };
    let line = |bytes: &[u8], place: usize| {
        let start = bytes[..place].iter().rposition(|b| *b == b'\n');
        let start = start.map_or(0, |start| start + 1);
        let end = bytes[place..].iter().position(|b| *b == b'\n');
        start..end.map_or(bytes.len(), |end| place + end + 1)
    };
    match random.random_range(0..10) {
        0 => bytes[place] ^= 1 << random.random_range(0..8),
        1 => bytes[place] = random.random(),
        2 => drop(bytes.drain(stretch(random, bytes))),
        3 => {
            let part = bytes[stretch(random, bytes)].to_vec();
            bytes.splice(place..place, part);
        }
        4 => {
            let part = other[stretch(random, other)].to_vec();
            bytes.splice(place..place, part);
        }
        5 => drop(bytes.drain(line(bytes, place))),
        6 => {
            let part = bytes[line(bytes, place)].to_vec();
            let at = line(bytes, random.random_range(0..bytes.len())).start;
            bytes.splice(at..at, part);
        }
        7 => {
            // The next number becomes an extreme one.
            let digits = |b: &u8| b.is_ascii_digit();
            if let Some(start) = bytes[place..].iter().position(digits) {
                let start = place + start;
                let end = bytes[start..].iter().position(|b| !digits(b));
                let end = end.map_or(bytes.len(), |end| start + end);
                let number = NUMBERS[random.random_range(0..NUMBERS.len())];
                bytes.splice(start..end, number.bytes());
            }
        }
        8 => bytes.truncate(place),
        _ => {
            let byte = random.random();
            let length = 1 << random.random_range(0..14);
            bytes.splice(place..place, vec![byte; length]);
        }
    }
    bytes.truncate(LENGTH_MAX);
}

/// Pages that the process has in memory, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|n| n.parse().ok());
    pages.unwrap_or(0_usize) * 4096
}

/// Opens the camera of `tape` and plays it to the end; whether it came to play at all.
async fn play(bytes: Vec<u8>, step: usize) -> bool {
    let url = SourceUrl::parse("rtsp://user:secret@192.0.2.7/live").unwrap();
    let camera = Rtsp::new(&url, &Confinement::default()).unwrap();
    let tape = Tape { bytes, at: 0, step };
    let mut session = Session::new(
        Connection::new(Box::new(tape)),
        url,
        camera.wire_url.clone(),
    );
    let ends = Ends {
        local: [192, 0, 2, 1].into(),
        camera: [192, 0, 2, 7].into(),
    };
    let (out, hub) = hub();
    let end = Instant::now() + OPEN_LIMIT;
    let _ = camera.serve(&mut session, ends, &out, end, false).await;
    out.is_live() && !hub.subscribe().1.is_empty()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no command line of their own"
)]
#[test]
fn what_a_camera_sends_does_no_harm() {
    let cases = std::env::var("MUTATIONS").map_or(DEFAULT_CASES, |n| n.parse().unwrap());
    let seeds = seeds();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let whole = seeds.iter().filter(|seed| {
        let in_one = runtime.block_on(play((*seed).clone(), usize::MAX));
        let in_bytes = runtime.block_on(play((*seed).clone(), 1));
        assert_eq!(in_one, in_bytes, "{}", String::from_utf8_lossy(seed));
        in_one
    });
    assert!(whole.count() >= 2, "the seeds are of no use");
    let mut random = StdRng::seed_from_u64(7);
    let (mut before, mut played) = (0, 0);
    for case in 0..cases {
        if case == cases / 10 {
            before = resident();
        }
        let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
        let other = &seeds[random.random_range(0..seeds.len())];
        for _ in 0..random.random_range(1..8) {
            mutate(&mut bytes, other, &mut random);
        }
        let step = [usize::MAX, usize::MAX, 1, 7, 1_000][random.random_range(0..5)];
        played += usize::from(runtime.block_on(play(bytes, step)));
    }
    let growth = resident().saturating_sub(before);
    let _ = writeln!(
        io::stderr(),
        "{cases} conversations of {} kinds, {played} played, memory grew by {} KiB",
        seeds.len(),
        growth >> 10
    );
    assert!(played > cases / 50, "{played} of {cases} played");
    assert!(growth <= GROWTH_MAX, "{growth} bytes");
}
