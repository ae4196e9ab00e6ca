//! Still pictures, with the number of the picture read back from their pixels.

use std::{collections::HashMap, process::Stdio, time::Duration};

use integration_tests::{
    camera::{self, Camera},
    server::Server,
};
use tokio::{io::AsyncWriteExt, process::Command, time::Instant};

/// Bits of a picture's number, each a block of so many pixels; the second row is the first one's opposite.
const BITS: usize = 11;
const BLOCK: usize = 32;

#[tokio::test]
async fn a_still_picture_is_the_last_key_frame_whoever_asks() {
    if !camera::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let camera = Camera::h264().full_hd().start().await;
    let server = Server::start().await;
    let path = format!("/api/frame.jpeg?src={}", camera.url());

    let (cold, jpeg) = timed(&server, &path).await;
    assert!(cold < Duration::from_secs(8), "{cold:?}");
    number_of(camera.age_of(0), &jpeg).await;
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));

    // Each with a size of its own, so that each has to be decoded, and then again as it is.
    let mut running = Vec::new();
    for width in 600..610 {
        let (took, jpeg) = timed(&server, &format!("{path}&width={width}")).await;
        assert_eq!(size_of(&jpeg).await.0, width);
        running.push(took);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let (_, small) = timed(&server, &format!("{path}&width=640&height=360")).await;
    assert_eq!(size_of(&small).await, (640, 360));
    running.sort_unstable();
    integration_tests::network::say(&format!("1080p: cold {cold:?}, running {running:?}"));
    assert!(running[5] < Duration::from_secs(1), "{running:?}");

    // Who asks for the same key frame gets the same bytes: it is decoded once and kept.
    let all = (0..20).map(|_| timed(&server, &path));
    let all = futures::future::join_all(all).await;
    let now = camera.age_of(0);
    let mut made = HashMap::new();
    for (_, jpeg) in all {
        if made.values().all(|other| *other != jpeg) {
            let number = number_of(now, &jpeg).await;
            assert!(
                made.insert(number, jpeg).is_none(),
                "{number} was made twice"
            );
        }
    }
    assert!(
        made.len() <= 2,
        "key frames {:?} at one moment",
        made.keys()
    );
    assert_eq!(camera.connections(), 1);
}

#[tokio::test]
async fn a_camera_without_a_picture_to_decode_is_told_with_the_reason() {
    if !camera::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let camera = Camera::h265().start().await;
    let server = Server::start().await;
    let begun = Instant::now();
    let reply = server
        .get(&format!("/api/frame.jpeg?src={}", camera.url()))
        .await;
    assert_eq!(reply.status, 406, "{reply:?}");
    assert!(
        reply.body.contains("H265") || reply.body.contains("H.265"),
        "{reply:?}"
    );
    let dead = server.get("/api/frame.jpeg?src=rtsp://127.0.0.1:2/x").await;
    assert_eq!(dead.status, 502, "{dead:?}");
    assert!(begun.elapsed() < Duration::from_secs(9));
}

/// How long the server took, and the picture.
async fn timed(server: &Server, path: &str) -> (Duration, Vec<u8>) {
    let begun = Instant::now();
    let reply = server.http().get(server.url(path)).send().await;
    let reply = reply.expect("an answer");
    assert_eq!(reply.status(), 200, "{path}");
    assert_eq!(reply.headers()["content-type"], "image/jpeg");
    let jpeg = reply.bytes().await.expect("a picture").to_vec();
    (begun.elapsed(), jpeg)
}

/// The picture's number. Asserts that at picture `now` it was the camera's last key frame, of which it
/// sends one each second, or the one before.
async fn number_of(now: u64, jpeg: &[u8]) -> u32 {
    let crop = format!("crop={}:{}:0:0", BITS * BLOCK, 2 * BLOCK);
    let pixels = ffmpeg(jpeg, &["-vf", &crop, "-f", "rawvideo", "-pix_fmt", "gray"]).await;
    let is_white = |row: usize, bit: usize| {
        let (y, x) = (row * BLOCK + BLOCK / 2, bit * BLOCK + BLOCK / 2);
        pixels[y * BITS * BLOCK + x] > 127
    };
    let mut number = 0;
    for bit in 0..BITS {
        assert_ne!(is_white(0, bit), is_white(1, bit), "bit {bit}");
        number |= u32::from(is_white(0, bit)) << bit;
    }
    assert_eq!(number % Camera::FPS, 0, "{number} is no key frame");
    let loop_of = u64::from(Camera::LOOP);
    let age = (now + loop_of - u64::from(number)) % loop_of;
    assert!(
        age < 2 * u64::from(Camera::FPS),
        "{number} is {age} pictures old"
    );
    number
}

/// Width and height.
async fn size_of(jpeg: &[u8]) -> (usize, usize) {
    // Binary PPM: `P6`, width, height, maximum.
    let ppm = ffmpeg(jpeg, &["-f", "image2pipe", "-c:v", "ppm"]).await;
    let head = String::from_utf8_lossy(&ppm[..ppm.len().min(40)]).into_owned();
    let mut words = head.split_whitespace().skip(1);
    let mut next = || {
        words
            .next()
            .and_then(|word| word.parse().ok())
            .expect("a number")
    };
    (next(), next())
}

async fn ffmpeg(jpeg: &[u8], arguments: &[&str]) -> Vec<u8> {
    let mut process = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "mjpeg", "-i", "-"])
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let mut input = process.stdin.take().expect("piped");
    input.write_all(jpeg).await.expect("ffmpeg reads");
    drop(input);
    let output = process.wait_with_output().await.expect("ffmpeg ends");
    assert!(output.status.success(), "ffmpeg cannot read the picture");
    output.stdout
}
