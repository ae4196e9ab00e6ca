//! The scripted camera against clients that others wrote, and its faults byte by byte.

mod faults;
mod streams;

use std::{process::Output, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::{Camera, Request, Scheme, Script, ScriptedCamera, Size, Until, h264_sdp, sdp_of};

const SOON: Duration = Duration::from_secs(10);

fn ffmpeg_is_here() -> bool {
    ["ffmpeg", "ffprobe"]
        .iter()
        .all(|program| crate::tools::has(program, &["-version"], "ffmpeg"))
}

/// What ffprobe finds at a URL over TCP: codec, width and height of every stream.
async fn ffprobe(url: &str) -> Output {
    ffprobe_by("tcp", url).await
}

async fn ffprobe_by(carrier: &str, url: &str) -> Output {
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-rtsp_transport",
            carrier,
            "-analyzeduration",
            "1000000",
        ])
        .args([
            "-show_entries",
            "stream=codec_name,width,height",
            "-of",
            "csv=p=0",
            url,
        ])
        .kill_on_drop(true)
        .output();
    timeout(Duration::from_secs(30), probe)
        .await
        .expect("ffprobe ends")
        .expect("ffprobe is installed")
}

async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the camera listens");
    let mut reply = vec![0; 65536];
    let length = timeout(SOON, stream.read(&mut reply))
        .await
        .expect("the camera replies");
    String::from_utf8_lossy(&reply[..length.expect("the camera is there")]).into_owned()
}

async fn call(camera: &ScriptedCamera) -> TcpStream {
    TcpStream::connect(("127.0.0.1", camera.port()))
        .await
        .expect("the camera listens")
}

async fn hear(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    timeout(SOON, stream.read_to_end(&mut heard))
        .await
        .expect("the camera closes")?;
    Ok(heard)
}

fn methods(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|r| r.method.as_str()).collect()
}

#[tokio::test]
async fn ffprobe_sees_a_picture_of_sixteen_by_sixteen() {
    if !ffmpeg_is_here() {
        return;
    }
    let camera = ScriptedCamera::describing(h264_sdp()).await;
    let seen = ffprobe(&camera.url("/live")).await;
    let errors = String::from_utf8_lossy(&seen.stderr);
    assert!(seen.status.success() && errors.is_empty(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "h264,16,16");
    crate::eventually("ffprobe has said goodbye", SOON, || async {
        let requests = camera.requests();
        let methods = methods(&requests);
        let expected = ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"];
        (methods == expected)
            .then_some(())
            .ok_or(format!("{methods:?}"))
    })
    .await;
}

#[tokio::test]
async fn ffmpeg_decodes_every_frame_without_complaint() {
    if !ffmpeg_is_here() {
        return;
    }
    let camera = ScriptedCamera::describing(h264_sdp()).await;
    let decoding = Command::new("ffmpeg")
        .args([
            "-v",
            "warning",
            "-nostdin",
            "-rtsp_transport",
            "tcp",
            "-i",
            &camera.url("/live"),
        ])
        .args(["-frames:v", "5", "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .kill_on_drop(true)
        .output();
    let decoded = timeout(Duration::from_secs(30), decoding)
        .await
        .expect("ffmpeg ends")
        .expect("ffmpeg is installed");
    assert_eq!(String::from_utf8_lossy(&decoded.stderr), "");
    let frames = decoded
        .stdout
        .chunks(256)
        .map(|frame| (frame.len(), frame[0], frame[255]));
    let frames = frames.collect::<Vec<_>>();
    assert_eq!(frames.len(), 5, "{frames:?}");
    assert!(
        frames.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "brighter each time: {frames:?}"
    );
}

#[tokio::test]
async fn ffprobe_sees_all_the_tracks_of_a_description() {
    if !ffmpeg_is_here() {
        return;
    }
    let mut sdp = h264_sdp();
    sdp.extend(b"m=audio 0 RTP/AVP 8\r\na=control:track2\r\n");
    sdp.extend(
        b"m=audio 0 RTP/AVP 97\r\na=control:track3\r\na=rtpmap:97 MPEG4-GENERIC/16000/2\r\n\
          a=fmtp:97 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;\
          indexdeltalength=3;config=1410\r\n",
    );
    let camera = ScriptedCamera::describing(sdp).await;
    let seen = ffprobe(&camera.url("/live")).await;
    let found = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        ["h264,16,16", "pcm_alaw", "aac"]
    );
    assert_eq!(camera.requests_of("SETUP").len(), 3);
}

#[tokio::test]
async fn only_the_right_password_opens() {
    if !ffmpeg_is_here() {
        return;
    }
    for scheme in [Scheme::Basic, Scheme::Digest] {
        let camera = ScriptedCamera::requiring("viewer", "secret", scheme).await;
        let right = ffprobe(&camera.url_as("viewer", "secret", "/live?channel=1")).await;
        assert_eq!(
            String::from_utf8_lossy(&right.stdout).trim(),
            "h264,16,16",
            "{scheme:?}"
        );
        let wrong = ffprobe(&camera.url_as("viewer", "guess", "/live")).await;
        let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(error.contains("401"), "{scheme:?}: {error}");
        let nobody = ffprobe(&camera.url("/live")).await;
        assert!(!nobody.status.success(), "{scheme:?}");
    }
}

#[tokio::test]
async fn a_status_is_given_to_describe_alone() {
    let camera = ScriptedCamera::status(404).await;
    let mut stream = call(&camera).await;
    let options = ask(&mut stream, "OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n").await;
    assert!(
        options.starts_with("RTSP/1.0 200 OK\r\nCSeq: 1\r\n"),
        "{options}"
    );
    let describe = ask(
        &mut stream,
        "DESCRIBE rtsp://x/ RTSP/1.0\r\nCSeq: 2\r\n\r\n",
    )
    .await;
    assert!(
        describe.starts_with("RTSP/1.0 404 Not Found\r\nCSeq: 2\r\n"),
        "{describe}"
    );
}

#[tokio::test]
async fn frames_between_requests_and_requests_in_pieces_are_understood() {
    let camera = ScriptedCamera::describing("v=0\r\n").await;
    let mut stream = call(&camera).await;
    stream.set_nodelay(true).expect("a TCP socket");
    let bytes = b"$\x01\x00\x04abcdGET_PARAMETER rtsp://x/ RTSP/1.0\r\nCSeq: 7\r\nContent-Length: 3\r\n\r\na\r\n";
    for byte in bytes {
        stream
            .write_all(&[*byte])
            .await
            .expect("the camera listens");
        tokio::task::yield_now().await;
    }
    let reply = ask(&mut stream, "OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 8\r\n\r\n").await;
    assert!(reply.contains("CSeq: 7\r\n"), "{reply}");
    crate::eventually("both requests are recorded", SOON, || async {
        let requests = camera.requests();
        let methods = methods(&requests);
        (methods == ["GET_PARAMETER", "OPTIONS"])
            .then_some(())
            .ok_or(format!("{methods:?}"))
    })
    .await;
}

#[tokio::test]
async fn what_is_no_rtsp_is_said_and_the_end_is_as_told() {
    let ssh = ScriptedCamera::speaking("SSH-2.0-Scripted\r\n").await;
    let mut stream = call(&ssh).await;
    let greeting = ask(&mut stream, "anything").await;
    assert_eq!(greeting, "SSH-2.0-Scripted\r\n");
    let more = timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(more.is_err(), "it stays and is silent: {more:?}");

    let http = ScriptedCamera::replying("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let mut stream = call(&http).await;
    stream
        .write_all(b"OPTIONS")
        .await
        .expect("the server listens");
    assert_eq!(
        hear(&mut stream).await.expect("an orderly end"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n"
    );

    let closing = ScriptedCamera::closing().await;
    assert_eq!(
        hear(&mut call(&closing).await)
            .await
            .expect("an orderly end"),
        b""
    );
}

#[tokio::test]
async fn a_script_ends_after_requests_bytes_or_time() {
    use super::Step::{Reset, Say};

    let once = Camera::describing("v=0\r\n").until(Until::Requests(1));
    let part = Camera::describing("v=0\r\n").until(Until::Bytes(8));
    let brief = Camera::describing("v=0\r\n").until(Until::Elapsed(Duration::from_millis(50)));
    let scripts = [
        vec![once, Say(b"garbage".into())],
        vec![part],
        vec![brief, Reset],
    ];
    let camera =
        ScriptedCamera::start_each(move |number| Script::from(scripts[number].clone())).await;
    let options = "OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n";

    let mut stream = call(&camera).await;
    stream
        .write_all(options.as_bytes())
        .await
        .expect("the camera listens");
    let heard = hear(&mut stream).await.expect("an orderly end");
    assert!(
        heard.starts_with(b"RTSP/1.0 200") && heard.ends_with(b"garbage"),
        "{heard:?}"
    );

    let mut stream = call(&camera).await;
    stream
        .write_all(options.as_bytes())
        .await
        .expect("the camera listens");
    assert_eq!(
        hear(&mut stream).await.expect("an orderly end"),
        b"RTSP/1.0"
    );

    let end = hear(&mut call(&camera).await).await;
    assert_eq!(
        end.map_err(|e| e.kind()),
        Err(std::io::ErrorKind::ConnectionReset)
    );
    assert_eq!(camera.connections(), 3);
}

#[tokio::test]
async fn a_dropped_camera_hangs_up() {
    let camera = ScriptedCamera::silent().await;
    let mut stream = call(&camera).await;
    crate::eventually("the connection is open", SOON, || async {
        (camera.open_connections() == 1)
            .then_some(())
            .ok_or(String::new())
    })
    .await;
    drop(camera);
    assert_eq!(hear(&mut stream).await.expect("an orderly end"), b"");
}
