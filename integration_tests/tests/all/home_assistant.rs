//! The whole of Home Assistant 2024.3.3: its dialogs, its signaling, its card in a real browser.

use std::time::Duration;

use integration_tests::{
    browser::Browser,
    camera::{self, Camera},
    eventually,
    home_assistant::{self, HomeAssistant},
    offer,
    server::Server,
};
use serde_json::{Value, json};

// Nobody listens on the discard port.
const NO_SERVER: &str = "http://127.0.0.1:9";
const NO_CAMERA: &str = "rtsp://127.0.0.1:9/live";

const STUN: &str = "stun.example:3478";

/// Adds Porthole and waits until the camera is to be watched through it.
async fn connected_to(server: &Server, home_assistant: &HomeAssistant) {
    let added = home_assistant.add_integration(&server.url("")).await;
    assert_eq!(added["type"], "create_entry", "{added}");
    let limit = Duration::from_secs(20);
    eventually("the camera is watched over WebRTC", limit, || async {
        let camera = home_assistant.get("/api/states/camera.front").await;
        let stream_type = &camera["attributes"]["frontend_stream_type"];
        if stream_type == "web_rtc" {
            Ok(())
        } else {
            Err(camera.to_string())
        }
    })
    .await;
}

/// What the card does to watch: hands over an offer and gets the answer.
async fn offer_for(camera: &str, home_assistant: &HomeAssistant) -> Result<Value, Value> {
    home_assistant
        .command(json!({
            "type": "camera/web_rtc_offer",
            "entity_id": format!("camera.{camera}"),
            "offer": offer::probe(),
        }))
        .await
}

#[tokio::test]
async fn the_dialog_takes_the_url_of_porthole_and_no_other() {
    if !home_assistant::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(&[]).await;
    let wrong = home_assistant.add_integration(NO_SERVER).await;
    assert_eq!(
        wrong["errors"],
        json!({ "base": "server_unreachable" }),
        "{wrong}"
    );
    let added = home_assistant.add_integration(&server.url("")).await;
    assert_eq!(added["type"], "create_entry", "{added}");
    eventually(
        "the integration is loaded",
        Duration::from_secs(20),
        || async {
            let (state, _) = home_assistant.integration().await;
            if state == "loaded" {
                Ok(())
            } else {
                Err(state)
            }
        },
    )
    .await;
    home_assistant.stop().await;
}

#[tokio::test]
async fn an_offer_is_answered_and_counted_and_so_is_the_reason_if_not() {
    if !home_assistant::installed() || !camera::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let cameras = [("front", camera.url()), ("off", NO_CAMERA.to_owned())];
    let cameras = cameras.each_ref().map(|(name, url)| (*name, url.as_str()));
    let home_assistant = HomeAssistant::start(&cameras).await;
    connected_to(&server, &home_assistant).await;

    let before = home_assistant.diagnostics().await;
    assert_eq!(before["discovery"]["webrtc.success"], 1, "{before}");
    assert!(before["webrtc"]["stream.success"].is_null(), "{before}");
    let answer = offer_for("front", &home_assistant)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    let sdp = answer["answer"].as_str().unwrap_or_default();
    assert!(
        sdp.starts_with("v=0\r\n") && sdp.contains("a=candidate:"),
        "{answer}"
    );
    let after = home_assistant.diagnostics().await;
    assert_eq!(after["webrtc"]["stream.success"], 1, "{after}");
    assert_eq!(after["web"]["heartbeat.response_error"], 1, "{after}");

    let error = offer_for("off", &home_assistant)
        .await
        .expect_err("the camera is off");
    assert_eq!(error["code"], "web_rtc_offer_failed", "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("RTSPtoWebRTC server failure: "),
        "{error}"
    );
    home_assistant.stop().await;
}

#[tokio::test]
async fn the_stun_server_of_the_options_reaches_the_frontend() {
    if !home_assistant::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(&[("front", NO_CAMERA)]).await;
    connected_to(&server, &home_assistant).await;
    let settings = || home_assistant.command(json!({ "type": "rtsp_to_webrtc/get_settings" }));
    assert_eq!(settings().await, Ok(json!({ "stun_server": "" })));
    let set = home_assistant.set_stun_server(STUN).await;
    assert_eq!(set["type"], "create_entry", "{set}");
    eventually("the frontend is told", Duration::from_secs(20), || async {
        let told = settings().await;
        if told == Ok(json!({ "stun_server": STUN })) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    let (state, _) = home_assistant.integration().await;
    assert_eq!(state, "loaded");
    home_assistant.stop().await;
}

/// The video of the card that plays WebRTC, inside all the shadow trees: whether its source is a live
/// stream, how many pictures it has shown, its width, and the sum of some pixels.
///
/// The card starts HLS as well and shows whichever works, so that a picture alone proves nothing.
const VIDEO: &str = "(() => {
    const find = (root) => {
        for (const element of root.querySelectorAll('*')) {
            if (element.localName === 'ha-web-rtc-player') {
                return element.shadowRoot?.querySelector('video');
            }
            const found = element.shadowRoot && find(element.shadowRoot);
            if (found) return found;
        }
    };
    const video = find(document);
    if (!video) return { seen: document.title };
    const canvas = new OffscreenCanvas(64, 36);
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return {
        live: video.srcObject instanceof MediaStream,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        width: video.videoWidth,
        pixels: pixels.reduce((sum, value, at) => (sum * 31 + value * (at % 251)) % 1000000007, 7),
    };
})()";

#[tokio::test]
async fn the_picture_entity_card_plays() {
    if !home_assistant::installed() {
        return;
    }
    let Some(_alone) = crate::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(&[("front", &camera.url())]).await;
    connected_to(&server, &home_assistant).await;

    let browser = Browser::start().await;
    let page = browser.page(&home_assistant.dashboard()).await;
    let limit = Duration::from_mins(1);
    let first = eventually("the card shows a live stream", limit, || async {
        let video = page.evaluate(VIDEO).await;
        if video["live"] == true && video["frames"].as_u64() > Some(0) {
            Ok(video)
        } else {
            Err(format!("{video}\n{:#?}\n{}", page.console(), server.log()))
        }
    })
    .await;
    assert_eq!(first["width"], 1280, "{first}");
    // A second of a camera that sends 25 pictures in it.
    let later = eventually("the picture moves on", Duration::from_secs(10), || async {
        let video = page.evaluate(VIDEO).await;
        if video["frames"].as_u64() >= first["frames"].as_u64().map(|frames| frames + 25) {
            Ok(video)
        } else {
            Err(format!("{first}, then {video}"))
        }
    })
    .await;
    assert_eq!(later["live"], true, "{later}");
    assert_ne!(first["pixels"], later["pixels"], "the same picture again");
    let screenshot = integration_tests::cache().join("screenshots/home_assistant.png");
    page.screenshot(&screenshot).await;
    let counters = home_assistant.diagnostics().await;
    assert!(
        counters["webrtc"]["stream.success"].as_u64() >= Some(1),
        "{counters}"
    );
    drop(browser);
    home_assistant.stop().await;
}
