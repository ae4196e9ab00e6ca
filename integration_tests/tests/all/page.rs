//! The page that people open first.

use std::time::Duration;

use integration_tests::{
    browser::{Browser, Watch},
    cache, eventually,
    server::Server,
};
use serde_json::Value;

/// Of the built-in camera.
const BLOCK: u32 = 16;

#[tokio::test]
async fn the_page_shows_the_demo_moving_and_with_sound() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.page(&server.url("/")).await;
    assert_eq!(
        page.evaluate("document.querySelectorAll('video').length")
            .await,
        1
    );
    page.prepare().await;
    page.evaluate(&format!(
        "globalThis.seen = [];
         harness.account(document.querySelector('video'), {BLOCK}, performance.now(), seen)"
    ))
    .await;
    eventually("the demo plays", Duration::from_secs(8), || async {
        let seen = page.evaluate("seen.length").await;
        if seen.as_u64() > Some(0) {
            Ok(())
        } else {
            Err(format!("{:?}", page.console()))
        }
    })
    .await;
    page.evaluate("seen.length = 0").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = page.evaluate("seen").await;
    page.screenshot(&cache().join("screenshots/page.png")).await;

    let seen = seen.as_array().expect("a list");
    let numbers: Vec<_> = seen.iter().filter_map(|shown| shown[1].as_u64()).collect();
    assert_eq!(numbers.len(), seen.len(), "unreadable pictures: {seen:?}");
    // Where its clip starts again, the numbers go on from a smaller one.
    let steps = numbers
        .windows(2)
        .map(|pair| pair[1].checked_sub(pair[0]).unwrap_or(1));
    let moved: u64 = steps.sum();
    assert!(moved >= 20 * 5, "{moved} pictures on in 5 s: {numbers:?}");

    let loudness =
        page.evaluate("harness.loudness(document.querySelector('video').srcObject, 3000)");
    let loudness = loudness.await.as_f64().expect("a number");
    assert!(loudness > 0.01, "the loudest sample is {loudness}");

    let complaints: Vec<_> = page
        .console()
        .into_iter()
        .filter(|message| ["error", "warning", "assert"].contains(&message.level.as_str()))
        .collect();
    assert_eq!(complaints, []);
}

#[tokio::test]
async fn the_demo_can_be_named_in_an_offer() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page
        .watch("demo:", Watch::audio_and_video().blocks_of(BLOCK))
        .await;
    viewer.frames_within(Duration::from_secs(8)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = viewer.report().await;
    assert!(
        report.shown.iter().all(|shown| shown.number.is_some()),
        "{report:?}"
    );
    assert!(
        report.frames_decoded > 50 && report.audio_energy > 0.0,
        "{}",
        report.summary()
    );
    let cameras = server.get("/cameras").await.json();
    let live = |camera: &Value| camera["state"] == "live" && camera["viewers"] == 1;
    let listed = cameras["cameras"].as_array().expect("a list");
    assert!(listed.iter().any(live), "{cameras}");
}
