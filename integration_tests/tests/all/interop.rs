//! Clients of other makers, each with the built-in camera: all connect, and get every packet.

use std::time::Duration;

use integration_tests::{
    alone,
    browser::{self, Browser},
    eventually,
    firefox::{self, Firefox},
    offer,
    peers::{
        self, Engine, Program, Received, SrtpProtectionProfile, View,
        str0m_viewer::{self, Path},
        watch_with, without_bundle, without_rtx,
    },
    server::Server,
};
use serde_json::Value;

/// The built-in camera.
const DEMO: &str = "demo";

#[tokio::test]
async fn chromium_gets_every_packet_and_its_data_channel() {
    if !browser::installed() {
        return;
    }
    let _machine = alone().await;
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    page.prepare().await;
    page.evaluate(KEEP_CHANNELS).await;
    assert_eq!(page.evaluate(&watch(r#"["video"]"#)).await, 0);
    eventually("Chromium plays", peers::LIMIT, || async {
        playing(&page.evaluate("harness.report(0)").await, "video")
    })
    .await;
    eventually("the channel opens", Duration::from_secs(5), || async {
        let state = page.evaluate("channels[0].readyState").await;
        (state == "open").then_some(()).ok_or(state.to_string())
    })
    .await;
    assert_eq!(page.evaluate(&watch(r#"["audio", "video"]"#)).await, 1);
    eventually("Chromium plays both", peers::LIMIT, || async {
        let report = page.evaluate("harness.report(1)").await;
        playing(&report, "video").and_then(|()| playing(&report, "audio"))
    })
    .await;
}

#[tokio::test]
async fn firefox_plays_what_it_can_and_is_told_what_it_cannot() {
    if !firefox::installed() {
        return;
    }
    let _machine = alone().await;
    let server = Server::start().await;
    let firefox = Firefox::viewers_of(&server).await;
    firefox.evaluate(KEEP_CHANNELS).await;
    // Without a network there is no OpenH264, and Firefox has no other H.264 for WebRTC.
    let has_h264 = firefox
        .evaluate(
            "RTCRtpReceiver.getCapabilities('video').codecs.some((c) => c.mimeType === 'video/H264')",
        )
        .await;
    assert_eq!(firefox.evaluate(&watch(r#"["video", "audio"]"#)).await, 0);
    if has_h264 == true {
        eventually("Firefox plays", peers::LIMIT, || async {
            let report = firefox.evaluate("harness.report(0)").await;
            playing(&report, "video").and_then(|()| playing(&report, "audio"))
        })
        .await;
    } else {
        let report = firefox.evaluate("harness.report(0)").await;
        assert_eq!(report["status"], 406, "{report}");
        let reason = report["error"].as_str().unwrap_or_default();
        assert!(
            reason.contains("H264") && reason.contains("VP8"),
            "{reason}"
        );
    }
    assert_eq!(firefox.evaluate(&watch(r#"["audio"]"#)).await, 1);
    eventually("Firefox plays the sound", peers::LIMIT, || async {
        playing(&firefox.evaluate("harness.report(1)").await, "audio")
    })
    .await;
    eventually("the channel opens", Duration::from_secs(5), || async {
        let state = firefox.evaluate("channels[1].readyState").await;
        (state == "open").then_some(()).ok_or(state.to_string())
    })
    .await;
}

#[tokio::test]
async fn an_offer_without_h264_is_refused_with_the_reason() {
    let server = Server::start().await;
    let offer = offer::probe().replace("H264/90000", "AV1/90000");
    let refused = server.offer(DEMO, &offer).await;
    assert_eq!(refused.status, 406, "{}", refused.body);
    let reason = refused.error();
    for word in ["H264", "VP8", "AV1"] {
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test]
async fn aiortc_decodes() {
    decode(peers::aiortc(), View::default()).await;
}

#[tokio::test]
async fn aiortc_decodes_without_retransmission_streams() {
    decode(peers::aiortc(), View::default().altered(without_rtx)).await;
}

#[tokio::test]
async fn webrtcbin_decodes() {
    decode(peers::webrtcbin(), View::default()).await;
}

#[tokio::test]
async fn webrtcbin_without_a_bundle_group_decodes_a_picture_alone() {
    decode(peers::webrtcbin(), View::video().altered(without_bundle)).await;
}

#[tokio::test]
async fn str0m_gets_every_packet() {
    with_str0m(Path::Udp, View::default()).await;
}

#[tokio::test]
async fn str0m_without_retransmission_streams_gets_every_packet() {
    with_str0m(Path::Udp, View::default().altered(without_rtx)).await;
}

#[tokio::test]
async fn aiortc_without_a_bundle_group_decodes_a_picture_alone() {
    decode(peers::aiortc(), View::video().altered(without_bundle)).await;
}

#[tokio::test]
async fn str0m_as_a_lite_agent_gets_every_packet() {
    with_str0m(Path::Lite, View::default()).await;
}

#[tokio::test]
async fn str0m_gets_every_packet_over_tcp() {
    with_str0m(Path::Tcp, View::default()).await;
}

#[tokio::test]
async fn webrtc_rs_gets_every_packet() {
    with_webrtc_rs(Engine::default()).await;
}

#[tokio::test]
async fn webrtc_rs_as_a_lite_agent_gets_every_packet() {
    let engine = Engine {
        lite: true,
        ..Engine::default()
    };
    with_webrtc_rs(engine).await;
}

#[tokio::test]
async fn a_client_that_has_aes_in_counter_mode_alone_gets_every_packet() {
    with_webrtc_rs(ciphering(
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    ))
    .await;
}

#[tokio::test]
async fn a_client_that_has_aes_gcm_of_128_bits_alone_gets_every_packet() {
    with_webrtc_rs(ciphering(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm)).await;
}

/// Keeps the data channels that a page's viewers open.
const KEEP_CHANNELS: &str = "(() => {
    globalThis.channels = [];
    const make = RTCPeerConnection.prototype.createDataChannel;
    RTCPeerConnection.prototype.createDataChannel = function (...options) {
        const channel = make.apply(this, options);
        channels.push(channel);
        return channel;
    };
    return 0;
})()";

/// The script that offers to watch, with a data channel; it gives the viewer's index.
fn watch(sections: &str) -> String {
    format!(
        "harness.watch({{ camera: '{DEMO}', sections: {sections}, dataChannel: true, block: 16 }})"
    )
}

/// Whether a browser got and decoded enough of a kind, all of it; if not, what it has.
fn playing(report: &Value, kind: &str) -> Result<(), String> {
    let stats = &report[kind];
    let decoded = if kind == "video" {
        stats["framesDecoded"].as_u64() >= Some(60)
    } else {
        stats["totalAudioEnergy"].as_f64() > Some(0.0)
    };
    let whole = stats["packetsReceived"].as_u64() >= Some(60) && stats["packetsLost"] == 0;
    if decoded && whole {
        Ok(())
    } else {
        Err(format!("{} {} {stats}", report["status"], report["error"]))
    }
}

async fn decode(program: Option<Program>, view: View) {
    let Some(program) = program else {
        return;
    };
    let _machine = alone().await;
    let server = Server::start().await;
    let received = program.watch(&server, DEMO, &view).await;
    assert_whole(&received, &view, &server);
}

async fn with_str0m(path: Path, view: View) {
    let _machine = alone().await;
    let server = Server::start().await;
    let received = str0m_viewer::watch(&server, DEMO, &view, path).await;
    assert_whole(&received, &view, &server);
}

async fn with_webrtc_rs(engine: Engine) {
    let _machine = alone().await;
    let server = Server::start().await;
    let view = View::default();
    let received = watch_with(engine, &server, DEMO, &view).await;
    assert_whole(&received, &view, &server);
}

fn ciphering(profile: SrtpProtectionProfile) -> Engine {
    Engine {
        profile: Some(profile),
        ..Engine::default()
    }
}

/// Asserts that a client connected and got enough, all of it.
fn assert_whole(received: &Received, view: &View, server: &Server) {
    assert!(
        received.is_whole(view),
        "{received:?}; log:\n{}",
        server.log()
    );
}
