//! The whole of Home Assistant: its dialogs, its signaling, its card in a real browser.

mod card;
mod go2rtc;

use std::time::Duration;

use integration_tests::{
    browser::Browser,
    camera::{self, Camera},
    eventually,
    home_assistant::{
        HomeAssistant,
        Release::{self, January2025, March2024},
    },
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
    watched_over_webrtc(home_assistant).await;
}

async fn watched_over_webrtc(home_assistant: &HomeAssistant) {
    let limit = Duration::from_secs(20);
    eventually("the camera is watched over WebRTC", limit, || {
        home_assistant.offers_webrtc_of("front")
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
    if !March2024.installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(March2024, &[]).await;
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
    if !March2024.installed() || !camera::installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let cameras = [("front", camera.url()), ("off", NO_CAMERA.to_owned())];
    let cameras = cameras.each_ref().map(|(name, url)| (*name, url.as_str()));
    let home_assistant = HomeAssistant::start(March2024, &cameras).await;
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
    if !March2024.installed() {
        return;
    }
    let _alone = integration_tests::alone().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(March2024, &[("front", NO_CAMERA)]).await;
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

/// The card plays in one release, asking Porthole through `rtsp_to_webrtc`.
async fn the_card_plays_in(release: Release) {
    if !release.installed() {
        return;
    }
    let Some(_alone) = crate::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let home_assistant = HomeAssistant::start(release, &[("front", &camera.url())]).await;
    connected_to(&server, &home_assistant).await;

    let browser = Browser::start().await;
    let page = browser.page(&home_assistant.dashboard()).await;
    card::plays(&page, &server, &home_assistant).await;
    let name = format!("home_assistant_{}.png", release.version());
    page.screenshot(&integration_tests::cache().join("screenshots").join(name))
        .await;
    let counters = home_assistant.diagnostics().await;
    assert!(
        counters["webrtc"]["stream.success"].as_u64() >= Some(1),
        "{counters}"
    );
    drop(browser);
    home_assistant.stop().await;
}

#[tokio::test]
async fn the_picture_entity_card_plays() {
    the_card_plays_in(March2024).await;
}

/// The offer of this release has no candidate that leads anywhere, and none follows.
#[tokio::test]
async fn the_picture_entity_card_of_2025_plays_by_rtsp_to_webrtc() {
    the_card_plays_in(January2025).await;
}
