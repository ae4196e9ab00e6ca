//! Sessions with cameras that are played here, most of them in memory and with time that passes at once.

use std::{net::Ipv4Addr, pin::pin};

use bytes::{BufMut, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use super::*;
use crate::{
    hub::{Hub, Next, State, Subscription, hub},
    media::{Frame, Kind},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How a camera answers.
#[derive(Clone)]
struct Script {
    describe_after: Duration,
    /// The `Transport` header of the answer to SETUP of this track, out of that of the request; or none
    /// to refuse it with 461.
    transport: fn(usize, &str) -> Option<String>,
    answers_play: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            describe_after: Duration::ZERO,
            transport: |_, asked| Some(asked.to_owned()),
            answers_play: true,
        }
    }
}

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 \
    sprop-parameter-sets=Z0LAH9o=,aM48gA\r\na=control:1\r\nm=audio 0 RTP/AVP 8\r\na=control:2\r\n";

/// Answers requests, and after PLAY sends `media` at the times that stand there, if it goes inside the
/// connection. The requests it got, once the connection is closed.
async fn act<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    script: &Script,
    media: &[(Duration, Bytes)],
) -> Vec<String> {
    let (mut seen, mut head) = (Vec::new(), Vec::new());
    let (mut set_up, mut is_inside, mut begun) = (0, false, None);
    let mut media = media.iter().peekable();
    loop {
        let next = begun.zip(media.peek().map(|(at, _)| *at));
        let due = next.map_or_else(Instant::now, |(begun, at): (Instant, _)| begun + at);
        let read = tokio::select! {
            biased;
            read = stream.read_u8() => read,
            () = sleep_until(due), if next.is_some() => {
                let (_, bytes) = media.next().unwrap();
                // Whoever has closed the connection has sent something before.
                let _ = stream.write_all(bytes).await;
                continue;
            }
        };
        let Ok(byte) = read else { return seen };
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let request = String::from_utf8(std::mem::take(&mut head)).unwrap();
        if request.starts_with("RTSP/") {
            continue;
        }
        let (method, _) = request.split_once(' ').unwrap();
        seen.push(method.to_owned());
        let header = |name: &str| {
            let mut lines = request.lines();
            let found = lines.find(|line| line.starts_with(name));
            found.map_or("", |line| &line[name.len()..]).to_owned()
        };
        let (mut status, mut more, mut body) = ("200 OK", "Session: 7\r\n".to_owned(), "");
        match method {
            "DESCRIBE" => {
                sleep(script.describe_after).await;
                body = SDP;
                "Content-Type: application/sdp\r\n".clone_into(&mut more);
            }
            "SETUP" => {
                match (script.transport)(set_up, &header("Transport: ")) {
                    Some(transport) => {
                        is_inside = transport.contains("TCP");
                        more = format!("{more}Transport: {transport}\r\n");
                    }
                    None => status = "461 Unsupported Transport",
                }
                set_up += 1;
            }
            "PLAY" => begun = is_inside.then(Instant::now),
            _ => {}
        }
        let (sequence, length) = (header("CSeq: "), body.len());
        let answer = format!(
            "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{more}Content-Length: {length}\r\n\r\n{body}"
        );
        if method != "PLAY" || script.answers_play {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

const IDR: [u8; 3] = [0x65, 0b1000_1000, 1];
const P: [u8; 3] = [0x41, 0b1001_1000, 4];

/// One RTP packet inside the connection.
fn packet(channel: u8, kind: u8, sequence: u16, time: u32, payload: &[u8]) -> Bytes {
    let mut bytes = vec![b'$', channel];
    bytes.put_u16(12 + u16::try_from(payload.len()).unwrap());
    bytes.extend([0x80, kind]);
    bytes.put_u16(sequence);
    bytes.put_u32(time);
    bytes.put_u32(u32::from(kind));
    bytes.extend(payload);
    bytes.into()
}

/// 25 pictures per second on channel 0, from one second to another, with stamps out of their number.
fn video(from: u32, to: u32, stamp: impl Fn(u32) -> u32) -> Vec<(Duration, Bytes)> {
    let pictures = (from * 25)..(to * 25);
    pictures
        .map(|n| {
            let slice = if n % 25 == 0 { IDR } else { P };
            let sequence = u16::try_from(n).unwrap();
            (n * 40 * MS, packet(0, 0xe0, sequence, stamp(n), &slice))
        })
        .collect()
}

/// 25 blocks of sound per second on channel 2.
fn audio(from: u32, to: u32) -> Vec<(Duration, Bytes)> {
    let blocks = (from * 25)..(to * 25);
    blocks
        .map(|n| {
            let sequence = u16::try_from(n).unwrap();
            (n * 40 * MS, packet(2, 8, sequence, n * 320, &[7; 320]))
        })
        .collect()
}

fn together(one: Vec<(Duration, Bytes)>, other: Vec<(Duration, Bytes)>) -> Vec<(Duration, Bytes)> {
    let mut all = [one, other].concat();
    all.sort_by_key(|(at, _)| *at);
    all
}

fn camera(options: &str) -> Rtsp {
    let url = SourceUrl::parse(&format!("rtsp://192.0.2.7/live{options}")).unwrap();
    Rtsp::new(&url, &Confinement::default()).unwrap()
}

struct Played {
    error: String,
    requests: Vec<String>,
    took: Duration,
    frames: Vec<Arc<Frame>>,
}

impl Played {
    /// Times in milliseconds of the frames of one kind.
    fn times(&self, kind: Kind) -> Vec<i64> {
        let frames = self.frames.iter().filter(|f| f.codec.kind() == kind);
        frames
            .map(|f| f.time.0 * 1_000 / i64::from(f.codec.clock_rate()))
            .collect()
    }
}

/// One session in memory, to its end.
async fn play(
    camera: &Rtsp,
    script: Script,
    media: Vec<(Duration, Bytes)>,
    (out, hub): &(Publisher, Hub),
) -> Played {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let connection = Connection::new(Box::new(ours));
    let mut session = Session::new(connection, camera.url.clone(), camera.wire_url.clone());
    let ends = Ends {
        local: [192, 0, 2, 1].into(),
        camera: [192, 0, 2, 7].into(),
    };
    out.connecting();
    let begun = Instant::now();
    let watching = watch(hub.subscribe().0);
    let serving = async {
        let end = camera.serve_telling(&mut session, ends, out, begun + OPEN_LIMIT, false);
        let error = match end.await.unwrap_err() {
            End::Failed(error) | End::Unsuited(error) => error.to_string(),
            End::Moved(_) => "moved".to_owned(),
        };
        let took = begun.elapsed();
        let _ = timeout(TEARDOWN_LIMIT, session.teardown()).await;
        drop(session);
        (error, took)
    };
    let mut frames = Vec::new();
    let acting = act(&mut theirs, &script, &media);
    let ((error, took), requests) = {
        let mut both = pin!(async { tokio::join!(serving, acting) });
        let mut watching = pin!(watching);
        loop {
            tokio::select! {
                biased;
                (frame, frames_on) = watching.as_mut() => {
                    frames.push(frame);
                    watching.set(watch(frames_on));
                }
                both = both.as_mut() => break both,
            }
        }
    };
    Played {
        error,
        requests,
        took,
        frames,
    }
}

async fn watch(mut frames: Subscription) -> (Arc<Frame>, Subscription) {
    loop {
        match frames.next().await {
            Next::Frame(frame) => return (frame, frames),
            Next::Behind(_) => {}
            Next::Ended => std::future::pending().await,
        }
    }
}

fn left_out(hub: &Hub) -> Vec<String> {
    let State::Live(tracks) = hub.state() else {
        panic!("{:?}", hub.state());
    };
    tracks
        .left_out
        .iter()
        .map(|left| left.note.sentence.clone())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_track_that_stops_is_worth_one_connection_and_then_the_other_plays_alone() {
    let (camera, ends) = (camera(""), hub());
    let media = together(video(0, 30, |n| n * 3_600), audio(0, 60));
    let played = play(&camera, Script::default(), media.clone(), &ends).await;
    assert!(
        played.error.contains("video has stopped"),
        "{}",
        played.error
    );
    assert!(
        (34..36).contains(&played.took.as_secs()),
        "{:?}",
        played.took
    );
    assert!(played.requests.ends_with(&["TEARDOWN".to_owned()]));
    // The same again: the sound goes on to its end, and the picture is back for a while at last.
    let media = [media, video(50, 55, |n| n * 3_600)].concat();
    let media = together(media, Vec::new());
    let (out, hub) = &ends;
    let playing = play(&camera, Script::default(), media, &ends);
    let looking = async {
        sleep(29 * SECOND).await;
        assert!(left_out(hub).is_empty());
        sleep(10 * SECOND).await;
        assert!(
            left_out(hub)[0].contains("video has stopped"),
            "{:?}",
            left_out(hub)
        );
        sleep(12 * SECOND).await;
        assert!(left_out(hub).is_empty());
    };
    let (played, ()) = tokio::join!(playing, looking);
    assert!(played.error.contains("no media"), "{}", played.error);
    assert!(
        (69..71).contains(&played.took.as_secs()),
        "{:?}",
        played.took
    );
    assert!(out.is_live());
}

#[tokio::test(start_paused = true)]
async fn sound_that_stops_is_worth_one_connection_too() {
    let (camera, ends) = (camera(""), hub());
    let media = together(video(0, 60, |n| n * 3_600), audio(0, 20));
    let played = play(&camera, Script::default(), media.clone(), &ends).await;
    assert!(
        played.error.contains("sound has stopped"),
        "{}",
        played.error
    );
    assert!(
        (29..31).contains(&played.took.as_secs()),
        "{:?}",
        played.took
    );
    let played = play(&camera, Script::default(), media, &ends).await;
    assert!(
        played.error.contains("no media for 5 s"),
        "{}",
        played.error
    );
    assert!(left_out(&ends.1)[0].contains("sound has stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_never_begins_beside_sound_is_given_up_too() {
    let (camera, ends) = (camera(""), hub());
    let played = play(&camera, Script::default(), audio(0, 60), &ends).await;
    assert!(
        played.error.contains("video has stopped"),
        "{}",
        played.error
    );
    assert!((6..8).contains(&played.took.as_secs()), "{:?}", played.took);
    let played = play(&camera, Script::default(), audio(0, 60), &ends).await;
    assert_eq!(played.times(Kind::Audio).len(), 60 * 25);
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_whatever_the_cameras_clock_does() {
    type Clock = fn(u32) -> u32;
    let clocks: [(&str, Clock); 6] = [
        ("wraps", |n| (u32::MAX - 90_000).wrapping_add(n * 3_600)),
        ("stands still", |_| 5),
        ("jumps an hour", |n| {
            n * 3_600 + if n > 700 { 90_000 * 3_600 } else { 0 }
        }),
        ("jumps back", |n| {
            (90_000 * 7_200) + n * 3_600 - if n > 700 { 90_000 * 3_600 } else { 0 }
        }),
        ("is fast", |n| n * 3_636),
        ("is slow", |n| n * 3_564),
    ];
    for (clock, stamp) in clocks {
        let media = together(video(0, 60, stamp), audio(0, 60));
        let played = play(&camera(""), Script::default(), media, &hub()).await;
        assert!(
            played.error.contains("no media"),
            "{clock}: {}",
            played.error
        );
        let (video, audio) = (played.times(Kind::Video), played.times(Kind::Audio));
        assert_eq!(video.len(), 60 * 25, "{clock}");
        assert!(video.windows(2).all(|pair| pair[0] < pair[1]), "{clock}");
        // Picture and sound that are made at once stay together.
        let apart = video.iter().zip(&audio).map(|(v, a)| (v - a).abs());
        assert!(
            apart.clone().max() <= Some(80),
            "{clock}: {:?}",
            apart.max()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_description_is_waited_for_on_behalf_of_who_asks_next() {
    let ends = hub();
    let script = Script {
        describe_after: 8 * SECOND,
        ..Script::default()
    };
    let camera = camera("");
    let playing = play(&camera, script, video(0, 20, |n| n * 3_600), &ends);
    let asking = async {
        let begun = Instant::now();
        tokio::task::yield_now().await;
        let first = ends.1.ready(7_300 * MS).await.unwrap_err();
        assert!(
            first.to_string().contains("did not answer DESCRIBE"),
            "{first}"
        );
        assert!(begun.elapsed() < 7_100 * MS);
        ends.1.ready(7_300 * MS).await.unwrap();
        assert!(begun.elapsed() < 9 * SECOND);
        assert_eq!(ends.1.attempts(), 1);
    };
    let (played, ()) = tokio::join!(playing, asking);
    assert_eq!(played.times(Kind::Video).len(), 500);
    // And one that hangs is given up at last.
    let script = Script {
        describe_after: 60 * SECOND,
        ..Script::default()
    };
    let hung = timeout(20 * SECOND, play(&camera, script, Vec::new(), &ends)).await;
    assert!(hung.is_err());
    assert!(matches!(ends.1.state(), State::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn media_before_the_answer_to_play_and_without_it_is_played() {
    let script = Script {
        answers_play: false,
        ..Script::default()
    };
    let played = play(&camera(""), script, video(0, 20, |n| n * 3_600), &hub()).await;
    // Of those that come before it is known that no answer does, the first are too old then.
    assert!(played.times(Kind::Video).len() >= 17 * 25);
    assert!(played.error.contains("no media"), "{}", played.error);
}

#[tokio::test(start_paused = true)]
async fn tracks_that_share_a_channel_are_told_apart() {
    let script = Script {
        transport: |_, _| Some("RTP/AVP/TCP;interleaved=0-1".to_owned()),
        ..Script::default()
    };
    let mut sound = audio(0, 20);
    for (_, packet) in &mut sound {
        let mut bytes = packet.to_vec();
        bytes[1] = 0;
        *packet = bytes.into();
    }
    let media = together(video(0, 20, |n| n * 3_600), sound);
    let played = play(&camera(""), script, media, &hub()).await;
    assert_eq!(played.times(Kind::Video).len(), 500);
    assert_eq!(played.times(Kind::Audio).len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_of_any_kind_is_heard() {
    let bye = Bytes::from_static(b"$\x01\x00\x08\x81\xcb\x00\x01\x00\x00\x00\xe0");
    let teardown = Bytes::from_static(b"TEARDOWN rtsp://h/ RTSP/1.0\r\nCSeq: 5\r\n\r\n");
    for (goodbye, after, is_torn) in [(bye, 1, true), (teardown, 0, false)] {
        let mut media = video(0, 20, |n| n * 3_600);
        media.push((20 * SECOND, goodbye));
        let played = play(&camera(""), Script::default(), media, &hub()).await;
        assert!(played.took < (21 + after) * SECOND, "{:?}", played.took);
        assert_eq!(played.requests.contains(&"TEARDOWN".to_owned()), is_torn);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_packets_that_are_no_media_is_silence() {
    let rtcp = Bytes::from_static(b"$\x01\x00\x08\x80\xc9\x00\x01\x00\x00\x00\xe0");
    let mut media = video(0, 10, |n| n * 3_600);
    media.extend((0..30_000).map(|n| (10 * SECOND + n * MS, rtcp.clone())));
    let played = play(&camera(""), Script::default(), media, &hub()).await;
    assert!(
        played.error.contains("no media for 5 s"),
        "{}",
        played.error
    );
    assert!(played.took < 16 * SECOND, "{:?}", played.took);
}

/// What a camera at a real port is asked, one connection after the other.
async fn asked(script: Script, options: &str, for_long: Duration) -> (Vec<String>, Hub) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("rtsp://{}/live{options}", listener.local_addr().unwrap());
    let url = SourceUrl::parse(&url).unwrap();
    let source = Rtsp::new(&url, &Confinement::default()).unwrap();
    let (out, hub) = hub();
    let stop = CancellationToken::new();
    let seen = Mutex::new(Vec::new());
    let accepting = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let requests = act(&mut stream, &script, &video(0, 8, |n| n * 3_600)).await;
            seen.lock().unwrap().push(requests.join(" "));
        }
    };
    out.connecting();
    let running = async {
        let _ = source.run(&out, &stop).await;
        // Until the camera has noticed.
        sleep(200 * MS).await;
    };
    tokio::select! {
        () = running => {}
        () = accepting => {}
        () = sleep(for_long) => {}
    }
    let seen = seen.lock().unwrap().clone();
    (seen, hub)
}

#[tokio::test]
async fn a_camera_that_refuses_a_transport_is_asked_for_the_other() {
    // TCP is refused; of UDP nothing comes, so that is all there is to try.
    let only_udp = Script {
        transport: |_, asked| (!asked.contains("TCP")).then(|| asked.to_owned()),
        ..Script::default()
    };
    let (seen, _) = asked(only_udp, "", 8 * SECOND).await;
    assert_eq!(seen[0], "DESCRIBE SETUP");
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[1].starts_with("DESCRIBE SETUP SETUP PLAY"), "{seen:?}");
}

#[tokio::test]
async fn where_udp_brings_nothing_tcp_is_tried_in_time() {
    let (seen, hub) = asked(Script::default(), "#transport=udp", 4 * SECOND).await;
    assert_eq!(seen, ["DESCRIBE SETUP SETUP PLAY TEARDOWN"]);
    assert!(matches!(hub.state(), State::Live(_)));
}

#[tokio::test]
async fn a_camera_that_chooses_udp_against_our_will_is_asked_for_udp() {
    let stubborn = Script {
        transport: |_, _| Some("RTP/AVP;unicast;client_port=5000-5001".to_owned()),
        ..Script::default()
    };
    let (seen, _) = asked(stubborn, "", 8 * SECOND).await;
    assert!(seen[0].starts_with("DESCRIBE SETUP"), "{seen:?}");
    assert!(seen[1].starts_with("DESCRIBE SETUP SETUP PLAY"), "{seen:?}");
}
