//! Cameras that are reached through a web server: the HTTP tunnel of GStreamer's RTSP server, and RTSP
//! over WebSocket by Axis's proxy.

use std::time::Duration;

use futures::future::join_all;
use integration_tests::{
    browser::{Browser, Watch},
    camera::{self, Camera, axis::AxisProxy, tls::TlsFront},
    eventually, offer,
    scripted::{self, Login, Scheme, ScriptedCamera, WebServer, h264_sdp},
    server::{Reply, Server},
};

use super::media::{Pair, play};

const SCHEMES: [&str; 2] = ["rtsp+http", "ws"];

fn tunnel_to(camera: &Camera) -> String {
    camera.url().replace("rtsp://", "rtsp+http://")
}

/// A server whose configuration has these cameras: a name and a URL each.
async fn configured(cameras: &[(impl AsRef<str>, impl AsRef<str>)]) -> Server {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    let file = folder.path().join("config.yaml");
    let lines = cameras.iter().map(|(name, url)| {
        let (name, url) = (name.as_ref(), url.as_ref());
        format!("  {name}: {url:?}\n")
    });
    let text = format!("cameras:\n{}", lines.collect::<String>());
    std::fs::write(&file, text).expect("a place to write");
    let path = file.to_str().expect("a path in UTF-8");
    Server::start_with(&["--config", path]).await
}

fn accepted(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// The text of a reply that is an error.
fn error_of(reply: &Reply) -> String {
    assert!(reply.status >= 400, "{} {}", reply.status, reply.body);
    reply.error()
}

#[tokio::test]
async fn cameras_behind_web_servers_play_whole_with_sound() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let cameras = [
        Camera::h264().with_pcmu().start().await,
        Camera::h264().with_pcma().start().await,
        Camera::h264().with_pcmu().start().await,
        Camera::h264().with_pcma().start().await,
    ];
    let [tunnelled, tunnelled_by_tls, socket, socket_by_tls] = &cameras;
    let tls = TlsFront::before(tunnelled_by_tls).await;
    let pin = tls.fingerprint().await;
    let mut watched = vec![
        (tunnelled, "tunnel", tunnel_to(tunnelled), "audio/PCMU"),
        (
            tunnelled_by_tls,
            "tunnel_by_tls",
            format!("{}#sha256={pin}", tls.url("rtsp+https", "localhost")),
            "audio/PCMA",
        ),
    ];
    let proxies = (
        AxisProxy::before(socket.port()).await,
        AxisProxy::before(socket_by_tls.port()).await,
    );
    let mut socket_tls = None;
    if let (Some(proxy), Some(proxy_by_tls)) = &proxies {
        let front = TlsFront::before_port(proxy_by_tls.port()).await;
        let secret = format!("wss://127.0.0.1:{}/live", front.port());
        socket_tls = Some(front);
        watched.push((socket, "socket", proxy.url("/live"), "audio/PCMU"));
        watched.push((socket_by_tls, "socket_by_tls", secret, "audio/PCMA"));
    }
    let named = watched.iter().map(|(_, name, url, _)| (*name, url));
    let server = configured(&named.collect::<Vec<_>>()).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let pairs = join_all(watched.iter().map(async |(camera, name, _, sound)| Pair {
        camera,
        viewer: page.watch(name, Watch::video_and_audio()).await,
        sound: Some(*sound),
    }))
    .await;
    play(&pairs).await;
    drop(socket_tls);
}

#[tokio::test]
async fn a_camera_in_a_tunnel_is_said_goodbye_to() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let mut server = configured(&[("door", tunnel_to(&camera))]).await;
    accepted(&server.offer("door", &offer::probe()).await);
    assert_eq!(camera.requested("PLAY"), 1);
    server.terminate().await;
    eventually("TEARDOWN", Duration::from_secs(5), async || {
        let (said, open) = (camera.requested("TEARDOWN"), camera.open_connections());
        (said == 1 && open == 0)
            .then_some(())
            .ok_or(format!("{said} times, {open} connections"))
    })
    .await;
}

#[tokio::test]
async fn a_web_server_that_asks_for_a_login_is_given_it() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let proxy = AxisProxy::before(camera.port()).await;
    for scheme in [Scheme::Basic, Scheme::Digest, Scheme::Strongest] {
        let login = Login::new("user", "p@ss/w:0%", scheme);
        let web = WebServer::before(camera.port(), login.clone()).await;
        let url = |password: &str| {
            let port = web.port();
            format!("rtsp+http://user:{password}@127.0.0.1:{port}/live")
        };
        let mut cameras = vec![("right", url("p%40ss%2Fw%3A0%25")), ("wrong", url("wrong"))];
        let mut before_socket = None;
        if let Some(proxy) = &proxy {
            let web = WebServer::before(proxy.port(), login).await;
            let url = format!("ws://user:p%40ss%2Fw%3A0%25@127.0.0.1:{}/live", web.port());
            cameras.push(("socket", url));
            before_socket = Some(web);
        }
        let server = configured(&cameras).await;
        accepted(&server.offer("right", &offer::probe()).await);
        let requests = web.requests();
        let methods: Vec<_> = requests.iter().map(|r| r.method.as_str()).collect();
        assert_eq!(methods, ["GET", "GET", "POST"], "{scheme:?}");
        let cookies: Vec<_> = requests
            .iter()
            .map(|r| r.header("x-sessioncookie"))
            .collect();
        assert!(
            cookies[1].is_some() && cookies[1] == cookies[2],
            "{cookies:?}"
        );

        let reply = server.offer("wrong", &offer::probe()).await;
        let error = error_of(&reply);
        assert!(
            error.contains("refused the user name or password"),
            "{error}"
        );
        let asked = web.requests().len() - requests.len();
        assert_eq!(asked, 2, "once without and once with the password");

        if let Some(web) = before_socket {
            accepted(&server.offer("socket", &offer::probe()).await);
            assert_eq!(web.requests().len(), 2, "{scheme:?}");
        }
    }
}

#[tokio::test]
async fn what_a_web_server_says_instead_is_told() {
    let elsewhere = ScriptedCamera::silent().await;
    let moved = format!(
        "HTTP/1.1 301 Moved\r\nLocation: {}\r\n\r\n",
        elsewhere.url("/live").replace("rtsp:", "http:")
    );
    let mut answers = vec![(
        "rtsp+http",
        "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>",
        "web page at this path",
    )];
    for scheme in SCHEMES {
        answers.extend([
            (
                scheme,
                "HTTP/1.1 404 Not Found\r\n\r\n",
                "answered 404 at this path",
            ),
            (scheme, &moved, "redirects to another address (301)"),
            (
                scheme,
                "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n\r\n",
                "asks for a user name and password",
            ),
            (scheme, "HTTP/1.1 500 Oh\r\n\r\n", "answered 500"),
            (scheme, "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "is no web server"),
            (scheme, "", "closed the connection instead of answering"),
        ]);
    }
    // Of two names, each with a connection of its own.
    let silent = ScriptedCamera::silent().await.allowing(SCHEMES.len());
    let url = |camera: &ScriptedCamera, scheme: &str| {
        let url = camera.url("/live");
        url.replace("rtsp:", &format!("{scheme}:"))
    };
    let mut cameras = Vec::new();
    let mut named = Vec::new();
    for (scheme, reply, _) in &answers {
        let camera = ScriptedCamera::replying(*reply).await;
        named.push((format!("camera{}", named.len()), url(&camera, scheme)));
        cameras.push(camera);
    }
    for scheme in SCHEMES {
        named.push((scheme.replace('+', "_"), url(&silent, scheme)));
    }
    let server = configured(&named).await;
    for ((scheme, reply, told), (name, _)) in answers.iter().zip(&named) {
        let error = error_of(&server.offer(name, &offer::probe()).await);
        assert!(error.contains(told), "{scheme} {reply:?}: {error}");
    }
    assert_eq!(elsewhere.connections(), 0);
    for scheme in SCHEMES {
        let name = scheme.replace('+', "_");
        let reply = server.offer(&name, &offer::probe()).await;
        assert_eq!(reply.status, 504, "{}", reply.body);
        assert!(reply.took < Duration::from_secs(5), "{:?}", reply.took);
    }
}

#[tokio::test]
async fn only_the_configuration_chooses_what_a_web_server_is_asked_for() {
    let camera = ScriptedCamera::silent().await;
    let server = configured(&[("door", camera.url("/live").replace("rtsp:", "ws:"))]).await;
    for scheme in ["rtsp+http", "rtsp+https", "ws", "wss"] {
        let url = camera
            .url("/reboot")
            .replace("rtsp:", &format!("{scheme}:"));
        let reply = server.offer(&url, &offer::probe()).await;
        assert_eq!(reply.status, 403, "{}", reply.body);
        let error = reply.error();
        assert!(
            error.contains("cameras of the configuration file"),
            "{error}"
        );
        let register = server.url(&format!("/api/streams?name=mine&src={url}"));
        let register = register.replace('+', "%2B");
        let reply = server.send(server.http().put(register)).await;
        assert_eq!(reply.status, 403, "{}", reply.body);
    }
    let sent = scripted::Camera::describing(h264_sdp());
    let sent = sent.redirecting(302, camera.url("/reboot").replace("rtsp:", "ws:"));
    let sending = ScriptedCamera::start(sent).await;
    let error = error_of(&server.offer(&sending.url("/"), &offer::probe()).await);
    assert!(error.contains("not followed from rtsp"), "{error}");
    assert_eq!(camera.connections(), 0);
}

#[tokio::test]
async fn a_camera_behind_a_web_server_may_send_us_to_itself_and_by_rtsp_elsewhere() {
    let playing = || scripted::Camera::describing(h264_sdp());
    let elsewhere = ScriptedCamera::start(playing()).await;
    let itself = ScriptedCamera::start_each(move |connection| match connection {
        0 => playing().redirecting(302, "/second").into(),
        _ => playing().into(),
    })
    .await;
    let sending = playing().redirecting(302, elsewhere.url("/there"));
    let sending = ScriptedCamera::start(sending).await;
    let forbidden = playing().redirecting(302, "rtsp://169.254.169.254/there");
    let forbidden = ScriptedCamera::start(forbidden).await;
    let mut named = Vec::new();
    let mut proxies = Vec::new();
    for (name, camera) in [
        ("itself", &itself),
        ("sending", &sending),
        ("forbidden", &forbidden),
    ] {
        let Some(proxy) = AxisProxy::before(camera.port()).await else {
            return;
        };
        named.push((name, proxy.url(&camera.url("/live"))));
        proxies.push(proxy);
    }
    let server = configured(&named).await;
    accepted(&server.offer("itself", &offer::probe()).await);
    let setup = &itself.requests_of("SETUP")[0];
    assert!(setup.uri.starts_with(&itself.url("/second")), "{setup:?}");
    accepted(&server.offer("sending", &offer::probe()).await);
    assert_eq!(elsewhere.requests_of("PLAY").len(), 1);
    let reply = server.offer("forbidden", &offer::probe()).await;
    assert_eq!(reply.status, 403, "{}", reply.body);
}

#[tokio::test]
async fn a_pinned_certificate_is_the_only_one_accepted() {
    if !camera::installed() {
        return;
    }
    let camera = Camera::h264().start().await;
    let front = TlsFront::before(&camera).await;
    let pin = front.fingerprint().await;
    let mut named = Vec::new();
    for scheme in ["rtsps", "rtspx", "rtsp+https"] {
        let url = front.url(scheme, "localhost");
        let name = scheme.replace('+', "_");
        named.push((format!("{name}_right"), format!("{url}#sha256={pin}")));
        let wrong = "00".repeat(32);
        named.push((format!("{name}_wrong"), format!("{url}#sha256={wrong}")));
    }
    let server = configured(&named).await;
    for (name, _) in &named {
        let reply = server.offer(name, &offer::probe()).await;
        if name.ends_with("right") {
            accepted(&reply);
        } else {
            let shown = pin.replace(':', "").to_ascii_lowercase();
            assert!(error_of(&reply).contains(&shown), "{name}: {}", reply.body);
        }
    }
}
