//! WHEP as players speak it: one of ours that uses all of it, and others'.

use std::time::{Duration, Instant};

use integration_tests::{
    alone,
    browser::{self, Browser, Page},
    camera::Camera,
    eventually, peers,
    server::Server,
};
use serde_json::{Value, json};

/// The built-in camera's endpoint.
const ENDPOINT: &str = "/whep/demo";

/// The server with a camera that is called `front door`.
async fn server_of(camera: &Camera) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.yaml");
    let text = json!({ "cameras": { "front door": { "url": camera.url() } } });
    std::fs::write(&file, text.to_string()).expect("a file can be made in it");
    let path = file.to_str().expect("temporary folders have plain names");
    Server::start_with(&["--config", path]).await
}

/// A page with the player; it shows its addresses, or there would be none to send later.
async fn player(browser: &Browser, server: &Server) -> Page {
    let page = browser.viewers_of(server).await;
    page.evaluate(&format!("{};0", include_str!("whep/player.js")))
        .await;
    page
}

/// Waits until the player has decoded `frames` pictures, and gives its report.
async fn played(page: &Page, frames: u64) -> Value {
    let what = format!("{frames} pictures");
    eventually(&what, Duration::from_secs(15), || async {
        let report = page.evaluate("player.report()").await;
        if report["frames"].as_u64() >= Some(frames) {
            Ok(report)
        } else {
            Err(report.to_string())
        }
    })
    .await
}

#[tokio::test]
async fn chromium_sends_its_addresses_later_and_begins_ice_anew_without_a_break() {
    if !browser::installed() {
        return;
    }
    let _machine = alone().await;
    let server = Server::start().await;
    let browser = Browser::showing_addresses().await;
    let page = player(&browser, &server).await;
    let location = page.evaluate(&format!("player.play('{ENDPOINT}')")).await;
    let before = played(&page, 50).await;
    assert!(before["audioPackets"].as_u64() > Some(0), "{before}");
    let patches = before["patches"].as_array().expect("a list");
    assert!(!patches.is_empty(), "{before}");
    for patch in patches {
        assert_eq!(*patch, json!([204, null, 0]), "{before}");
    }
    for number in 2..=3 {
        let before = page.evaluate("player.report()").await;
        let count = before["patches"].as_array().map_or(0, Vec::len);
        let ufrag = page.evaluate("player.restart()").await;
        let switched = eventually(
            "media takes the new path",
            Duration::from_secs(10),
            || async {
                let report = page.evaluate("player.report()").await;
                let is_new = report["ufrag"] == ufrag && report["ice"] == "connected";
                is_new.then_some(report.clone()).ok_or(report.to_string())
            },
        )
        .await;
        let reply = &switched["patches"][count];
        assert_eq!(
            (&reply[0], &reply[1]),
            (&json!(200), &json!(format!("\"ice-{number}\"")))
        );
        let frames = switched["frames"].as_u64().unwrap_or_default();
        let after = played(&page, frames + 50).await;
        assert_eq!(
            (&after["connection"], &after["lost"]),
            (&json!("connected"), &json!(0))
        );
        assert!(after["dtlsClosedAt"].is_null(), "{after}");
    }
    let sessions = server.get("/sessions").await.json();
    assert_eq!(
        sessions["sessions"].as_array().map(Vec::len),
        Some(1),
        "{sessions}"
    );
    let location = location.as_str().expect("a path is text");
    let (_, id) = location.rsplit_once('/').expect("it ends in the session");
    assert!(
        !server.log().contains(id),
        "the session's URL is in the log"
    );
    assert_eq!(page.evaluate("player.leave()").await, 200);
    assert_eq!(server.get(location).await.status, 404);
}

#[tokio::test]
async fn deleting_the_session_ends_the_connection_to_the_camera() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let camera = Camera::h264().small().with_pcmu().start().await;
    let server = server_of(&camera).await;
    let browser = Browser::start().await;
    let page = player(&browser, &server).await;
    page.evaluate("player.play('/front%20door/whep')").await;
    played(&page, 20).await;
    assert_eq!(camera.open_connections(), 1);
    assert_eq!(page.evaluate("player.leave()").await, 200);
    let left = Instant::now();
    eventually("the viewer is told", Duration::from_secs(3), || async {
        let report = page.evaluate("player.report()").await;
        let is_told = !report["dtlsClosedAt"].is_null();
        is_told.then_some(()).ok_or(report.to_string())
    })
    .await;
    eventually("the camera is told", Duration::from_secs(13), || async {
        let open = camera.open_connections();
        let is_told = camera.requested("TEARDOWN") == 1 && open == 0;
        is_told.then_some(()).ok_or(format!("{open} connections"))
    })
    .await;
    assert!(
        left.elapsed() < Duration::from_secs(14),
        "{:?}",
        left.elapsed()
    );
}

#[tokio::test]
async fn aiortc_plays_and_leaves() {
    let Some(program) = peers::aiortc() else {
        return;
    };
    let _machine = alone().await;
    let server = Server::start().await;
    let view = peers::View::default();
    let received = program.watch_by_whep(&server.url(ENDPOINT), &view).await;
    assert!(
        received.is_whole(&view),
        "{received:?}; log:\n{}",
        server.log()
    );
    eventually("the session is over", Duration::from_secs(2), || async {
        let sessions = server.get("/sessions").await.json();
        let is_empty = sessions["sessions"].as_array().is_some_and(Vec::is_empty);
        is_empty.then_some(()).ok_or(sessions.to_string())
    })
    .await;
}

/// The client of the authors of the standard, which npm has as `whip-whep`.
#[tokio::test]
async fn whip_whep_plays_and_leaves() {
    let file = integration_tests::cache().join("whip_whep/package/whep.js");
    let is_there = ["-f".as_ref(), file.as_os_str()];
    let is_there = is_there.map(|argument| argument.to_str().expect("a plain path"));
    if !browser::installed() || !integration_tests::tools::has("test", &is_there, "npm's whip-whep")
    {
        return;
    }
    let _machine = alone().await;
    let server = Server::start().await;
    let browser = Browser::showing_addresses().await;
    let page = browser.viewers_of(&server).await;
    let module = std::fs::read_to_string(&file).expect("it was found");
    page.evaluate(&format!(
        "(async () => {{
            const script = new Blob([{}], {{ type: 'text/javascript' }});
            const {{ WHEPClient }} = await import(URL.createObjectURL(script));
            globalThis.pc = new RTCPeerConnection();
            const video = document.createElement('video');
            video.autoplay = true;
            video.srcObject = new MediaStream();
            document.body.append(video);
            pc.addEventListener('track', ({{ track }}) => video.srcObject.addTrack(track));
            for (const kind of ['audio', 'video']) pc.addTransceiver(kind, {{ direction: 'recvonly' }});
            globalThis.whep = new WHEPClient();
            await whep.view(pc, new URL('{ENDPOINT}', location.href), null);
            return 0;
        }})()",
        json!(module)
    ))
    .await;
    eventually("whip-whep plays", Duration::from_secs(15), || async {
        let frames = page
            .evaluate(
                "pc.getStats().then((stats) => [...stats.values()]
                    .find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video')
                    ?.framesDecoded ?? 0)",
            )
            .await;
        (frames.as_u64() >= Some(50))
            .then_some(())
            .ok_or(frames.to_string())
    })
    .await;
    page.evaluate("whep.stop().then(() => 0)").await;
    eventually("the session is over", Duration::from_secs(2), || async {
        let sessions = server.get("/sessions").await.json();
        let is_empty = sessions["sessions"].as_array().is_some_and(Vec::is_empty);
        is_empty.then_some(()).ok_or(sessions.to_string())
    })
    .await;
}
