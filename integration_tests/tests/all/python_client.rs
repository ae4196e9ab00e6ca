//! The client library that Home Assistant used, in the version it used and in the newest.

use std::process::Stdio;

use integration_tests::{offer, server::Server};
use tokio::{io::AsyncWriteExt, process::Command};

/// Runs every probe of `python/client_probe.py` with one version of the library.
async fn probe(version: &str) {
    let environment = format!("rtsp_to_webrtc_{version}");
    let python = integration_tests::cache()
        .join(environment)
        .join("bin/python");
    let program = python.to_string_lossy();
    if !integration_tests::tools::has(
        &program,
        &["-c", "import rtsp_to_webrtc, aiohttp"],
        "rtsp-to-webrtc, which integration_tests/run installs",
    ) {
        return;
    }
    let server = Server::start().await;
    // Bound and never listening: nobody else gets the port, and nobody answers there.
    let dead = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
    dead.bind(([127, 0, 0, 1], 0).into())
        .expect("loopback has a free port");
    let port = dead
        .local_addr()
        .expect("a bound socket has an address")
        .port();

    let mut child = Command::new(&python)
        .arg(integration_tests::folder().join("python/client_probe.py"))
        .args([
            &server.url(""),
            "demo:",
            &format!("rtsp://127.0.0.1:{port}/live"),
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
}

#[tokio::test]
async fn the_client_that_home_assistant_pinned_is_served() {
    probe("0.5.1").await;
}

#[tokio::test]
async fn the_newest_client_is_served() {
    probe("0.6.1").await;
}
