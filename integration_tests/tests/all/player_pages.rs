//! The pages that others embed, under the names that go2rtc's have.

use std::time::Duration;

use integration_tests::{
    browser::{Browser, Page},
    cache, eventually,
    server::Server,
};

/// Of the built-in camera.
const BLOCK: u32 = 16;

/// Waits until the first picture of the page moves, and looks for five seconds whether it goes on.
async fn assert_moves(page: &Page) {
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
    let seen = seen.as_array().expect("a list");
    let numbers: Vec<_> = seen.iter().filter_map(|shown| shown[1].as_u64()).collect();
    assert_eq!(numbers.len(), seen.len(), "unreadable pictures: {seen:?}");
    // Where its clip starts again, the numbers go on from a smaller one.
    let steps = numbers
        .windows(2)
        .map(|pair| pair[1].checked_sub(pair[0]).unwrap_or(1));
    let moved: u64 = steps.sum();
    assert!(moved >= 15 * 5, "{moved} pictures on in 5 s: {numbers:?}");
}

fn assert_no_complaint(page: &Page) {
    let complaints: Vec<_> = page
        .console()
        .into_iter()
        .filter(|message| ["error", "warning", "assert"].contains(&message.level.as_str()))
        .collect();
    assert_eq!(complaints, []);
}

/// Waits until an expression is true in the page.
async fn holds(page: &Page, expression: &str) {
    eventually(expression, Duration::from_secs(12), || async {
        if page.evaluate(expression).await == true {
            Ok(())
        } else {
            let text = page.evaluate("document.body.innerText").await;
            Err(format!("{text}, {:?}", page.console()))
        }
    })
    .await;
}

async fn viewers(server: &Server) -> usize {
    let sessions = server.get("/sessions").await.json();
    sessions["sessions"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_picture_alone_plays_as_its_address_says() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Browser::start().await;
    let address =
        server.url("/stream.html?src=demo&mode=mse,webrtc,mjpeg&width=640px&background=false");
    let page = browser.page(&address).await;
    assert_moves(&page).await;
    let screenshot = cache().join("screenshots/stream.png");
    page.screenshot(&screenshot).await;
    let width = page.evaluate("document.querySelector('video').clientWidth");
    assert_eq!(width.await, 640);
    holds(&page, "document.querySelector('.overlay').hidden").await;
    // It starts without sound, which browsers do not let begin by itself.
    assert_eq!(
        page.evaluate("document.querySelector('video').muted").await,
        true
    );
    page.evaluate("document.querySelector('.sound').click()")
        .await;
    let loudness = "harness.loudness(document.querySelector('video').srcObject, 3000)";
    let loudness = page.evaluate(loudness).await.as_f64().expect("a number");
    assert!(loudness > 0.01, "the loudest sample is {loudness}");
    assert_eq!(
        page.evaluate("document.querySelector('video').muted").await,
        false
    );
    assert_no_complaint(&page);

    // As if somebody had turned to another tab.
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });
         document.dispatchEvent(new Event('visibilitychange'))",
    )
    .await;
    eventually("the viewer rests", Duration::from_secs(8), || async {
        match viewers(&server).await {
            0 => Ok(()),
            some => Err(format!("{some} viewers")),
        }
    })
    .await;
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        .await;
    holds(&page, "porthole.player.state.name === 'live'").await;
}

#[tokio::test]
async fn the_second_name_takes_the_kinds_of_media() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser
        .page(&server.url("/webrtc.html?src=demo&media=video+audio"))
        .await;
    assert_moves(&page).await;
    let screenshot = cache().join("screenshots/webrtc.png");
    page.screenshot(&screenshot).await;
    let kinds = "porthole.player.pc.getReceivers().map(({ track }) => track.kind).join()";
    assert_eq!(page.evaluate(kinds).await, "video,audio");
    page.open(&server.url("/webrtc.html?src=demo&media=video,microphone"))
        .await;
    holds(&page, "porthole.player.state.name === 'live'").await;
    assert_eq!(page.evaluate(kinds).await, "video");
    holds(&page, "document.querySelector('.sound').hidden").await;
    page.open(&server.url("/webrtc.html?src=demo&media=audio"))
        .await;
    holds(&page, "porthole.player.state.name === 'live'").await;
    holds(&page, "document.body.innerText.includes('only sound')").await;
    assert_no_complaint(&page);
}

#[tokio::test]
async fn several_pictures_stand_side_by_side_and_failures_are_told() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let browser = Browser::start().await;
    let page = browser
        .page(&server.url("/stream.html?src=demo&src=nobody&src=demo"))
        .await;
    assert_moves(&page).await;
    let text = "document.body.innerText";
    holds(&page, &format!("{text}.includes('nobody is not playing')")).await;
    holds(
        &page,
        &format!("{text}.includes('no camera with this name')"),
    )
    .await;
    page.screenshot(&cache().join("screenshots/wall.png")).await;
}

/// A link of a stranger must not make the server connect to an address of theirs.
#[tokio::test]
async fn an_address_is_opened_only_when_somebody_asks_for_it_here() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let server = Server::start().await;
    let elsewhere = Server::start().await;
    let browser = Browser::start().await;
    let page = browser.page(&server.url("/stream.html?src=demo:")).await;
    holds(
        &page,
        "document.querySelector('.primary').textContent === 'Play'",
    )
    .await;
    page.screenshot(&cache().join("screenshots/stream-asks.png"))
        .await;
    assert_eq!(viewers(&server).await, 0);
    page.evaluate("document.querySelector('.primary').click()")
        .await;
    assert_moves(&page).await;
    assert_no_complaint(&page);
    page.close().await;

    // In a page of another origin, cameras are shown by their names only.
    let dashboard = browser.page(&elsewhere.url("/health")).await;
    let embed = |source: &str| {
        let address = server.url(&format!("/stream.html?src={source}"));
        format!(
            "document.body.innerHTML = '<iframe width=\"900\" height=\"500\" src=\"{address}\"></iframe>'"
        )
    };
    dashboard.evaluate(&embed("demo:")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let screenshot = cache().join("screenshots/stream-refuses.png");
    dashboard.screenshot(&screenshot).await;
    assert_eq!(viewers(&server).await, 0);
    dashboard.evaluate(&embed("demo")).await;
    eventually("the frame plays", Duration::from_secs(8), || async {
        let sessions = server.get("/sessions").await.json();
        if sessions["sessions"][0]["frames"].as_u64() > Some(20) {
            Ok(())
        } else {
            Err(format!("{sessions}, {:?}", dashboard.console()))
        }
    })
    .await;
    let screenshot = cache().join("screenshots/stream-embedded.png");
    dashboard.screenshot(&screenshot).await;
}
