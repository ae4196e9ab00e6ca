//! The client library that Home Assistant used, where it finds the dialect of `RTSPtoWeb`.

use std::process::Stdio;

use integration_tests::{
    offer,
    scripted::{Scheme, ScriptedCamera},
    server::Server,
};
use tokio::{io::AsyncWriteExt, net::TcpSocket, process::Command};

/// Runs every probe of `python/web_client_probe.py` with one version of the library.
async fn probe(version: &str) {
    let environment = format!("rtsp_to_webrtc_{version}");
    let python = integration_tests::cache()
        .join(environment)
        .join("bin/python");
    if !integration_tests::tools::has(
        &python.to_string_lossy(),
        &["-c", "import rtsp_to_webrtc, aiohttp"],
        "rtsp-to-webrtc, which integration_tests/run installs",
    ) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.yaml");
    let text = "rtsp_to_web: {username: user, password: 'p:w'}\n";
    std::fs::write(&file, text).expect("a file can be made in it");
    let path = file.to_str().expect("temporary folders have plain names");
    let server = Server::start_with(&["--config", path]).await;
    let camera = ScriptedCamera::requiring("ann", "hunter2", Scheme::Digest).await;
    // Bound and never listening: nobody else gets the port, and nobody answers there.
    let dead = TcpSocket::new_v4().expect("a socket can be made");
    dead.bind(([127, 0, 0, 1], 0).into())
        .expect("loopback has a free port");
    let dead_address = dead.local_addr().expect("a bound socket has an address");

    let mut child = Command::new(&python)
        .arg(integration_tests::folder().join("python/web_client_probe.py"))
        .args([
            &server.url("").replace("://", "://user:p%3Aw@"),
            "demo:",
            &camera.url_as("ann", "hunter2", "/live"),
            &format!("rtsp://{dead_address}/live"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("an interpreter that was just asked for its modules starts");
    let mut offer_to = child.stdin.take().expect("piped");
    offer_to
        .write_all(offer::probe().as_bytes())
        .await
        .expect("the probe reads its offer");
    drop(offer_to);
    let output = child.wait_with_output().await.expect("the probe ends");
    assert!(
        output.status.success(),
        "{}{}\nthe server's log:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        server.log()
    );
    assert!(!server.log().contains("hunter2"), "{}", server.log());
    assert_eq!(
        camera.requests_of("PLAY").len(),
        1,
        "a stream that is changed to what it is disturbs nobody"
    );
}

#[tokio::test]
async fn the_client_that_home_assistant_pinned_is_served() {
    probe("0.5.1").await;
}

#[tokio::test]
async fn the_newest_client_is_served() {
    probe("0.6.1").await;
}
