//! What goes wrong while somebody watches, or is missing from the beginning.

use std::{future::pending, time::Duration};

use futures::future::join_all;
use integration_tests::{
    camera, offer,
    peers::{
        View,
        str0m_viewer::{self, Path},
    },
    scripted::{Camera, ScriptedCamera, Step, Until, h264_sdp},
    server::Server,
};

use super::{AAC, PCMU, SURROUND, describing, is_logged, listed, playing, tell};

/// Watches until `expected` is the verdict of the viewer.
async fn assert_told(server: &Server, fault: &str, camera: &str, view: View, expected: &str) {
    let watched = async {
        str0m_viewer::watch(server, camera, &view, Path::Udp).await;
        pending::<()>().await;
    };
    let base = server.url("");
    let took = tokio::select! {
        took = listed(server.http(), &base, camera, expected) => took,
        () = watched => unreachable!("it stays"),
    };
    is_logged(|| server.log(), expected).await;
    tell(fault, expected, took);
}

/// Slices of P pictures, each in an RTP packet of the first channel, and never another picture.
fn without_key_frames() -> Vec<Step> {
    let mut steps = vec![
        playing()
            .frames(0)
            .until(Until::Elapsed(Duration::from_millis(700))),
    ];
    for number in 0..150_u16 {
        let mut packet = vec![0x80, 0xE0];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 9_000).to_be_bytes());
        packet.extend(0x5C41_0000_u32.to_be_bytes());
        packet.extend([0x41, 0x9A, 0x24, 0x6C, 0x41, 0x4F, 0x80]);
        let length = u16::try_from(packet.len()).expect("it is small");
        let framed = [&[b'$', 0], &length.to_be_bytes()[..], &packet].concat();
        steps.extend([Step::Say(framed), Step::Wait(Duration::from_millis(100))]);
    }
    steps.push(Step::Stall);
    steps
}

fn with_track(track: &str) -> Camera {
    let described = String::from_utf8(h264_sdp()).expect("it is text");
    Camera::describing(format!("{described}{track}"))
}

#[tokio::test]
async fn what_fails_while_somebody_watches_is_listed_and_logged() {
    let server = &Server::start().await;
    let (picture, sound) = (
        View::video(),
        View {
            video: false,
            ..View::default()
        },
    );
    let three = Duration::from_secs(3);
    let broken = ScriptedCamera::start_each(move |connection| match connection {
        0 => vec![playing().until(Until::Elapsed(three))].into(),
        _ => vec![Step::Stall].into(),
    });
    let changed = ScriptedCamera::start_each(move |connection| match connection {
        0 => vec![describing(&[PCMU]).until(Until::Elapsed(three))].into(),
        _ => describing(&[&PCMU.replace("AVP 0", "AVP 8")]).into(),
    });
    let cases = [
        (
            "no key frame",
            ScriptedCamera::start(without_key_frames()).await,
            picture,
            "no-key-frame",
        ),
        (
            "stall",
            ScriptedCamera::start(playing().frames(20)).await,
            picture,
            "stalled",
        ),
        (
            "the connection breaks off",
            broken.await,
            picture,
            "connection-lost",
        ),
        ("another codec", changed.await, sound, "codec-changed"),
        (
            "another certificate",
            ScriptedCamera::start(playing()).await,
            picture.altered(another_certificate),
            "handshake-failed",
        ),
    ];
    let told = cases.iter().map(|(fault, camera, view, code)| async move {
        assert_told(server, fault, &camera.url("/live"), *view, code).await;
    });
    join_all(told).await;
}

#[tokio::test]
async fn what_is_missing_from_the_beginning_is_answered_listed_and_logged() {
    let server = &Server::start().await;
    let probe = offer::probe();
    let cases = [
        (
            "no video track",
            describing(&[PCMU]),
            probe.clone(),
            "no-video",
        ),
        ("AAC only", describing(&[AAC]), probe.clone(), "no-video"),
        (
            "AAC with six channels beside the picture",
            with_track(SURROUND),
            probe.clone(),
            "unsupported-audio",
        ),
        (
            "a browser with neither PCMU nor Opus",
            with_track(PCMU),
            without_g711(&probe).replace("opus/48000/2", "speex/16000"),
            "browser-audio",
        ),
    ];
    for (fault, camera, offer, code) in cases {
        let camera = ScriptedCamera::start(camera).await;
        let url = camera.url("/live");
        let reply = server.offer(&url, &offer).await;
        assert_eq!(reply.status, 200, "{fault}: {}", reply.body);
        assert_eq!(reply.json()["verdicts"][0]["code"], code, "{}", reply.body);
        let took = listed(server.http(), &server.url(""), &url, code).await;
        is_logged(|| server.log(), code).await;
        tell(fault, code, reply.took + took);
    }
}

/// G.711 is known by its payload types, so they go from the offer too.
fn without_g711(offer: &str) -> String {
    let kept = offer
        .lines()
        .filter(|line| !line.contains("PCMU") && !line.contains("PCMA"));
    let lines = kept.map(|line| match line.strip_prefix("m=audio ") {
        Some(rest) => {
            let words = rest.split(' ').filter(|word| !matches!(*word, "0" | "8"));
            format!("m=audio {}\r\n", words.collect::<Vec<_>>().join(" "))
        }
        None => format!("{line}\r\n"),
    });
    lines.collect()
}

/// One digit of the certificate's hash is another one.
fn another_certificate(offer: &str) -> String {
    let name = "a=fingerprint:sha-256 ";
    let lines = offer.lines().map(|line| match line.strip_prefix(name) {
        Some(hash) => {
            let digit = if hash.starts_with('0') { '1' } else { '0' };
            format!("{name}{digit}{}\r\n", &hash[1..])
        }
        None => format!("{line}\r\n"),
    });
    lines.collect()
}

#[tokio::test]
async fn b_frames_are_listed_and_logged() {
    if !camera::installed() {
        return;
    }
    let _machine = integration_tests::alone().await;
    let camera = camera::Camera::h264().small().with_b_frames().start().await;
    let server = Server::start().await;
    let url = camera.url();
    assert_told(&server, "B-frames", &url, View::video(), "b-frames").await;
    let cameras = server.get("/cameras").await.json();
    assert!(cameras.to_string().contains("\"b-frames\""), "{cameras}");
}

#[tokio::test]
async fn a_viewer_who_is_gone_or_sent_away_is_listed_and_logged() {
    let server = Server::start().await;
    let base = server.url("");
    let view = View::video();
    let watched = str0m_viewer::watch(&server, "demo:", &view, Path::Tcp);
    tokio::select! {
        took = listed(server.http(), &base, "demo:", "media-over-tcp") => {
            tell("media by TCP", "media-over-tcp", took);
        }
        _ = watched => panic!("it was content too early"),
    }
    is_logged(|| server.log(), "media-over-tcp").await;
    // Its connection is closed without a word.
    let took = listed(server.http(), &base, "demo:", "viewer-vanished").await;
    is_logged(|| server.log(), "viewer-vanished").await;
    tell("viewer gone", "viewer-vanished", took);
    let sessions = server.get("/sessions").await.json();
    let id = sessions["sessions"][0]["id"].as_str();
    let id = id.expect("it is waited for a little longer");
    let end = server.http().delete(server.url(&format!("/sessions/{id}")));
    assert_eq!(server.send(end).await.status, 204);
    let took = listed(server.http(), &base, "demo:", "session-stopped").await;
    is_logged(|| server.log(), "session-stopped").await;
    tell("session ended by request", "session-stopped", took);
}
