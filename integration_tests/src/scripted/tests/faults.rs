//! Faults and oddities as a client sees them, byte by byte.

use tokio::time::Instant;

use super::{
    super::{Carrier, Quirk, Step, Until},
    *,
};

/// Sends a request with `CSeq: 1`, and gives the head of the answer and what follows it.
async fn request(stream: &mut TcpStream, method: &str, more: &str) -> (String, String) {
    let text = format!("{method} rtsp://x/track1 RTSP/1.0\r\nCSeq: 1\r\n{more}\r\n");
    let answer = ask(stream, &text).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    (head.to_owned(), body.to_owned())
}

const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const UDP: &str = "Transport: RTP/AVP;unicast;client_port=4000-4001\r\n";

fn camera() -> Camera {
    Camera::describing(h264_sdp())
}

#[tokio::test]
async fn replies_bend_the_rules_they_are_told_to_bend() {
    let whole = h264_sdp().len();
    let cases = [
        (Quirk::LowerCaseCseq, "DESCRIBE", "Cseq: 1", "CSeq:"),
        (Quirk::NoSpaceAfterColon, "DESCRIBE", "CSeq:1\r\n", ": "),
        (
            Quirk::NoContentLength,
            "DESCRIBE",
            "CSeq: 1",
            "Content-Length",
        ),
        (
            Quirk::WrongContentLength(-2),
            "DESCRIBE",
            &format!("Content-Length: {}", whole - 2),
            "nothing",
        ),
        (
            Quirk::OddSession,
            "SETUP",
            "5C41 ; Timeout = 60",
            "timeout=",
        ),
        (Quirk::OtherChannels, "SETUP", "interleaved=10-11", "=0-1"),
        (Quirk::UdpForTcp, "SETUP", "server_port", "interleaved"),
        (Quirk::NoRtpInfo, "PLAY", "CSeq: 1", "RTP-Info"),
        (
            Quirk::WrongRtpInfo,
            "PLAY",
            "rtptime=4000000000",
            "rtptime=0",
        ),
    ];
    for (quirk, method, has, lacks) in cases {
        let camera = ScriptedCamera::start(camera().with(quirk)).await;
        let mut stream = call(&camera).await;
        if method == "PLAY" {
            request(&mut stream, "SETUP", TCP).await;
        }
        let (head, _) = request(&mut stream, method, TCP).await;
        assert!(
            head.contains(has) && !head.contains(lacks),
            "{quirk:?}: {head}"
        );
    }
}

#[tokio::test]
async fn transports_that_it_lacks_are_refused() {
    for (only, asked, status) in [
        (Carrier::Tcp, TCP, "200 OK"),
        (Carrier::Tcp, UDP, "461 Unsupported"),
        (Carrier::Udp, TCP, "461 Unsupported"),
        (Carrier::Udp, UDP, "200 OK"),
    ] {
        let camera = ScriptedCamera::start(camera().only(only)).await;
        let (head, _) = request(&mut call(&camera).await, "SETUP", asked).await;
        assert!(head.contains(status), "{only:?} {asked}: {head}");
    }
}

#[tokio::test]
async fn with_room_for_one_a_second_session_waits_until_the_first_is_forgotten() {
    let hold = Duration::from_millis(300);
    let camera = ScriptedCamera::start(camera().single(hold))
        .await
        .allowing(2);
    let mut first = call(&camera).await;
    assert!(request(&mut first, "SETUP", TCP).await.0.contains("200 OK"));
    let mut second = call(&camera).await;
    assert!(request(&mut second, "SETUP", TCP).await.0.contains("453"));
    request(&mut first, "TEARDOWN", "").await;
    assert!(
        request(&mut second, "SETUP", TCP)
            .await
            .0
            .contains("200 OK")
    );
    drop((first, second));
    tokio::time::sleep(hold / 3).await;
    let mut third = call(&camera).await;
    assert!(request(&mut third, "SETUP", TCP).await.0.contains("453"));
    tokio::time::sleep(hold).await;
    assert!(request(&mut third, "SETUP", TCP).await.0.contains("200 OK"));
}

#[tokio::test]
async fn a_strict_camera_hangs_up_on_who_is_silent() {
    let strict = camera().frames(0).timeout(1).with(Quirk::StrictTimeout);
    let camera = ScriptedCamera::start(strict).await;
    let mut stream = call(&camera).await;
    request(&mut stream, "SETUP", TCP).await;
    let start = Instant::now();
    request(&mut stream, "PLAY", "").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    request(&mut stream, "GET_PARAMETER", "").await;
    assert!(hear(&mut stream).await.is_ok());
    let lasted = start.elapsed().as_millis();
    assert!((1_600..2_500).contains(&lasted), "{lasted} ms");
}

#[tokio::test]
async fn connections_that_are_open_together_are_counted_and_others_are_not() {
    let camera = ScriptedCamera::start(camera()).await.allowing(2);
    for _ in 0..20 {
        request(&mut call(&camera).await, "OPTIONS", "").await;
    }
    assert_eq!((camera.connections(), camera.most_connections()), (20, 1));
    let mut pair = [call(&camera).await, call(&camera).await];
    for stream in &mut pair {
        request(stream, "OPTIONS", "").await;
    }
    assert_eq!(camera.most_connections(), 2);
}

#[tokio::test]
#[should_panic(expected = "2 connections to one camera at a time, 1 allowed")]
async fn two_connections_fail_the_test_that_has_not_said_so() {
    let camera = ScriptedCamera::start(camera()).await;
    let mut pair = [call(&camera).await, call(&camera).await];
    for stream in &mut pair {
        request(stream, "OPTIONS", "").await;
    }
}

#[tokio::test]
async fn without_power_nothing_answers_and_with_power_again_all_is_as_before() {
    let address = ([127, 99, 1, 1], 8554).into();
    let mut camera = ScriptedCamera::start_at(address, |_| camera().into()).await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    request(&mut stream, "OPTIONS", "").await;
    camera.off().await;
    let end = hear(&mut stream).await.map_err(|e| e.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    let refused = TcpStream::connect(address).await.map_err(|e| e.kind());
    assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
    camera.on().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    request(&mut stream, "OPTIONS", "").await;
    camera.freeze();
    let asking = "OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 9\r\n\r\n";
    let silence = timeout(Duration::from_millis(300), ask(&mut stream, asking)).await;
    assert!(silence.is_err(), "{silence:?}");
    camera.thaw();
    let mut answer = [0; 8];
    let read = timeout(SOON, stream.read_exact(&mut answer)).await;
    assert!(read.is_ok_and(|read| read.is_ok()) && answer == *b"RTSP/1.0");
    assert_eq!(camera.requests().len(), 3);
}

#[tokio::test]
async fn a_script_asks_and_says_goodbye_and_tells_when() {
    let script = vec![
        camera().until(Until::Frames(2)),
        Step::Ask("OPTIONS"),
        Step::Bye,
        Step::Garbage(5),
        Step::HalfClose,
        Step::Stall,
    ];
    let camera = ScriptedCamera::start(Script::from(script)).await;
    let mut stream = call(&camera).await;
    request(&mut stream, "SETUP", TCP).await;
    request(&mut stream, "PLAY", "").await;
    let heard = hear(&mut stream).await.expect("an orderly half of an end");
    let has = |part: &[u8]| heard.windows(part.len()).any(|window| window == part);
    assert!(has(b"OPTIONS * RTSP/1.0\r\n") && has(&[0x81, 203, 0, 1]));
    assert_eq!(camera.open_connections(), 1, "it still listens");
    assert_eq!((camera.began(0).len(), camera.began(5).len()), (1, 1));
    assert!(camera.began(5) > camera.began(0));
}

#[tokio::test]
async fn ffprobe_sees_every_size_over_every_carrier() {
    if !ffmpeg_is_here() {
        return;
    }
    let (mut cameras, mut probes) = (Vec::new(), Vec::new());
    let size = |size, quirk| camera().playing(sdp_of(size)).size(size).with(quirk);
    for (camera, expected) in [
        (size(Size::Wide, Quirk::Slices(2)), "h264,32,16"),
        (size(Size::Large, Quirk::Reports), "h264,192,208"),
        (size(Size::Large, Quirk::Fragments(1_400)), "h264,192,208"),
        (size(Size::Dot, Quirk::Aggregates), "h264,16,16"),
        (size(Size::Dot, Quirk::Padding), "h264,16,16"),
    ] {
        let script = move |_| Script::from(camera.clone());
        let plain = ScriptedCamera::start_each(script.clone()).await;
        let secure = ScriptedCamera::secure_at(([127, 0, 0, 1], 0).into(), script).await;
        for (carrier, url) in [
            ("tcp", plain.url("/live")),
            ("udp", plain.url("/live")),
            ("tcp", secure.url("/live")),
        ] {
            probes.push(async move {
                let seen = ffprobe_by(carrier, &url).await;
                let errors = String::from_utf8_lossy(&seen.stderr);
                let found = String::from_utf8_lossy(&seen.stdout);
                assert_eq!(found.trim(), expected, "{carrier} {url}: {errors}");
            });
        }
        cameras.extend([plain.allowing(2), secure]);
    }
    futures::future::join_all(probes).await;
}
