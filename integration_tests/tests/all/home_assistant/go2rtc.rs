//! Home Assistant as most have it: `go2rtc: url:` in its configuration leads to Porthole.
//!
//! The snapshots of 2025.1.4 come from Home Assistant itself: its `go2rtc` provider answers offers and
//! nothing else, `/api/frame.jpeg` came with 2025.12. They are asked for in `go2rtc_client.rs`.

use std::time::Duration;

use integration_tests::{
    browser::Browser,
    camera::Camera,
    eventually,
    home_assistant::{HomeAssistant, Release::January2025},
    server::Server,
};
use serde_json::{Value, json};

use super::{card, watched_over_webrtc};

/// What Porthole lists of the camera.
async fn listed(server: &Server) -> Value {
    let mut streams = server.get("/api/streams").await.json();
    streams["camera.front"].take()
}

#[tokio::test]
async fn the_picture_entity_card_plays_by_go2rtc_and_again_after_porthole_restarted() {
    if !January2025.installed() {
        return;
    }
    let Some(_alone) = crate::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().with_pcmu().start().await;
    // Before Home Assistant, which asks once whether it is there.
    let server = Server::start().await;
    let cameras = [("front", camera.url())];
    let cameras = cameras.each_ref().map(|(name, url)| (*name, url.as_str()));
    let home_assistant = HomeAssistant::start_with_go2rtc(&server.url("/"), &cameras).await;
    eventually(
        "the integration is loaded",
        Duration::from_secs(20),
        || async {
            let entry = home_assistant.entry_of("go2rtc").await;
            if entry["state"] == "loaded" {
                Ok(())
            } else {
                Err(format!("{entry}\n{}", home_assistant.log()))
            }
        },
    )
    .await;
    watched_over_webrtc(&home_assistant).await;
    let issues = home_assistant
        .command(json!({ "type": "repairs/list_issues" }))
        .await
        .expect("a list");
    assert_eq!(
        issues["issues"],
        json!([]),
        "it asks its user to do something"
    );

    let browser = Browser::start().await;
    let page = browser.page(&home_assistant.dashboard()).await;
    card::plays(&page, &server, &home_assistant).await;
    let stream = listed(&server).await;
    assert_eq!(
        stream["producers"][0]["url"],
        json!(camera.url()),
        "{stream}"
    );
    let screenshot = integration_tests::cache().join("screenshots/home_assistant_go2rtc.png");
    page.screenshot(&screenshot).await;

    let server = server.restarted().await;
    page.open(&home_assistant.dashboard()).await;
    card::plays(&page, &server, &home_assistant).await;
    let stream = listed(&server).await;
    assert_eq!(
        stream["producers"][0]["url"],
        json!(camera.url()),
        "{stream}"
    );
    drop(browser);
    home_assistant.stop().await;
}
