//! Offers for cameras that work, that do not, and that are not what a browser can watch.

use std::{net::Ipv4Addr, time::Duration};

use futures::future::join_all;
use integration_tests::{
    camera::{self, Camera, tls::TlsFront},
    eventually, offer,
    scripted::{Scheme, ScriptedCamera},
    server::{Server, answer_of},
};
use serde_json::json;
use tokio::net::TcpSocket;

use super::{assert_answers_the_probe, refusal, tracks_of};

const USER: &str = "admin";
const PASSWORD: &str = "p@ss/w:0%";

/// A camera that is switched off: its port is taken, and nobody listens there.
struct Dead(TcpSocket);

impl Dead {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("loopback has a free port");
        Self(socket)
    }

    fn url(&self) -> String {
        let address = self.0.local_addr().expect("a bound socket has an address");
        format!("rtsp://{address}/live")
    }
}

#[tokio::test]
async fn a_camera_is_answered_for_with_the_tracks_it_has() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let reply = server.offer(&camera.url(), &offer::probe()).await;
    assert_answers_the_probe(&answer_of(&reply));
    assert_eq!(tracks_of(&reply), json!(["video", "audio"]));
    assert!(reply.took < Duration::from_secs(8), "{:?}", reply.took);
}

#[tokio::test]
async fn twenty_viewers_at_once_share_one_connection_to_the_camera() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let server = Server::start().await;
    let (url, offer) = (camera.url(), offer::probe());
    let replies = join_all((0..20).map(|_| server.offer(&url, &offer))).await;
    for reply in &replies {
        assert_answers_the_probe(&answer_of(reply));
    }
    assert_eq!(camera.connections(), 1);
}

#[tokio::test]
async fn a_camera_that_nobody_came_to_watch_is_left_alone() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let server = Server::start().await;
    let reply = server.offer(&camera.url(), &offer::probe()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(camera.open_connections(), 1);
    // The viewer has 30 s to connect, the camera then stays a while for the next one.
    eventually("the camera is let go", Duration::from_secs(90), || async {
        match camera.open_connections() {
            0 => Ok(()),
            open => Err(format!("{open} connections; log:\n{}", server.log())),
        }
    })
    .await;
}

#[tokio::test]
async fn a_camera_that_is_off_is_an_error_in_time() {
    let (dead, server) = (Dead::new(), Server::start().await);
    let reply = server.offer(&dead.url(), &offer::probe()).await;
    let error = refusal(&reply);
    assert_eq!(reply.status, 502, "{error}");
    assert!(reply.took < Duration::from_secs(8), "{:?}", reply.took);
}

#[tokio::test]
async fn a_path_that_the_camera_does_not_have_is_an_error_in_time() {
    let (camera, server) = (ScriptedCamera::status(404).await, Server::start().await);
    let reply = server.offer(&camera.url("/live"), &offer::probe()).await;
    let error = refusal(&reply);
    assert!(error.contains("404"), "{error}");
    assert!(reply.took < Duration::from_secs(8), "{:?}", reply.took);
}

#[tokio::test]
async fn a_silent_camera_is_an_error_before_home_assistant_gives_up() {
    let (camera, server) = (ScriptedCamera::silent().await, Server::start().await);
    let reply = server.offer(&camera.url("/live"), &offer::probe()).await;
    let error = refusal(&reply);
    assert_eq!(reply.status, 504, "{error}");
    assert!(reply.took < Duration::from_secs(9), "{:?}", reply.took);
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_tell_it() {
    const WRONG: &str = "hunter2hunter2";
    let camera = ScriptedCamera::requiring(USER, "right", Scheme::Digest).await;
    let server = Server::start().await;
    let reply = server
        .offer(&camera.url_as(USER, WRONG, "/live"), &offer::probe())
        .await;
    let error = refusal(&reply);
    assert_eq!(reply.status, 502, "{error}");
    assert!(reply.took < Duration::from_secs(8), "{:?}", reply.took);
    assert!(!reply.body.contains(WRONG), "{error}");
    assert!(!server.log().contains(WRONG), "{}", server.log());
}

#[tokio::test]
async fn no_error_tells_a_password() {
    let server = Server::start().await;
    let (dead, absent) = (Dead::new(), ScriptedCamera::status(404).await);
    let with_password = |url: &str| url.replace("rtsp://", "rtsp://admin:hunter2hunter2@");
    let urls = [
        with_password(&dead.url()),
        with_password(&absent.url("/live")),
        "rtsps://admin:hunter2hunter2@127.0.0.1/live".to_owned(),
        "http://admin:hunter2hunter2@127.0.0.1/live".to_owned(),
        "rtsp://admin:hunter2hunter2@127.0.0.1:99999/live".to_owned(),
        "rtsp://admin:hunter2hunter2@[::1/live".to_owned(),
        "//admin:hunter2hunter2@127.0.0.1/live".to_owned(),
    ];
    for url in &urls {
        let reply = server.offer(url, &offer::probe()).await;
        refusal(&reply);
        assert!(!reply.body.contains("hunter2"), "{url}: {}", reply.body);
    }
    assert!(!server.log().contains("hunter2"), "{}", server.log());
}

#[tokio::test]
async fn a_camera_behind_tls_is_trusted_by_address_and_verified_by_name() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().with_pcmu().start().await;
    let front = TlsFront::before(&camera).await;
    let server = Server::start().await;
    for (scheme, host) in [("rtsps", "127.0.0.1"), ("rtspx", "localhost")] {
        let reply = server
            .offer(&front.url(scheme, host), &offer::probe())
            .await;
        assert_answers_the_probe(&answer_of(&reply));
    }
    let reply = server
        .offer(&front.url("rtsps", "localhost"), &offer::probe())
        .await;
    let error = refusal(&reply);
    assert_eq!(reply.status, 502, "{error}");
    assert!(
        error.contains("certificate") && error.contains("rtspx://"),
        "{error}"
    );
    let plain = camera.url().replace("rtsp://", "rtsps://");
    let error = refusal(&server.offer(&plain, &offer::probe()).await);
    assert!(error.contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_codec_that_the_browser_did_not_offer_is_named() {
    if !camera::installed() {
        return;
    }
    let server = Server::start().await;
    for (camera, name) in [(Camera::h265(), "H265"), (Camera::mjpeg(), "JPEG")] {
        let camera = camera.start().await;
        let reply = server.offer(&camera.url(), &offer::probe()).await;
        let error = refusal(&reply);
        assert!(
            error.to_uppercase().replace('.', "").contains(name),
            "{error}"
        );
    }
}

#[tokio::test]
async fn two_failing_cameras_each_have_their_own_error() {
    let (dead, absent) = (Dead::new(), ScriptedCamera::status(404).await);
    let (server, offer) = (Server::start().await, offer::probe());
    let (dead_url, absent_url) = (dead.url(), absent.url("/live"));
    let (off, not_found) = tokio::join!(
        server.offer(&dead_url, &offer),
        server.offer(&absent_url, &offer)
    );
    assert!(refusal(&not_found).contains("404"), "{}", not_found.body);
    assert!(!refusal(&off).contains("404"), "{}", off.body);
}

#[tokio::test]
async fn a_password_with_special_characters_reaches_the_camera() {
    if !camera::installed() {
        return;
    }
    let server = Server::start().await;
    for setup in [
        Camera::h264().digest(USER, PASSWORD),
        Camera::h264().basic(USER, PASSWORD),
    ] {
        let camera = setup.start().await;
        let reply = server
            .offer(&camera.url_with_password(), &offer::probe())
            .await;
        assert!(answer_of(&reply).starts_with("v=0\r\n"));
    }
}

#[tokio::test]
async fn a_password_that_was_not_encoded_reaches_the_camera_where_it_can_be_told() {
    const RAW: &str = "p@ss:w0%&+";
    let server = Server::start().await;
    for scheme in [Scheme::Digest, Scheme::Basic] {
        let camera = ScriptedCamera::requiring(USER, RAW, scheme).await;
        let reply = server
            .offer(&camera.url_as(USER, RAW, "/live"), &offer::probe())
            .await;
        assert!(answer_of(&reply).starts_with("v=0\r\n"));
    }
}
