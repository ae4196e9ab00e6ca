//! Where the server lets itself be sent, by clients and by cameras, and to whom it shows a password.

use std::{net::TcpListener, time::Duration};

use integration_tests::{
    eventually, offer,
    scripted::{Camera, Nonces, Request, Scheme, Script, ScriptedCamera, Step, Until, h264_sdp},
    server::{Reply, Server},
};

const USER: &str = "viewer";
const PASSWORD: &str = "Canary7Password";

/// Home Assistant gives up after 10 s.
const SOON: Duration = Duration::from_millis(8_500);

fn playing() -> Camera {
    Camera::describing(h264_sdp())
}

fn locked(scheme: Scheme) -> Camera {
    playing().requiring(USER, PASSWORD, scheme)
}

async fn sending_to(location: &str) -> ScriptedCamera {
    ScriptedCamera::start(playing().redirecting(302, location)).await
}

fn url(camera: &ScriptedCamera) -> String {
    camera.url_as(USER, PASSWORD, "/live")
}

/// Offers to watch `camera`; asserts the status, and that the password is in no answer and no log.
async fn offer_is(server: &Server, camera: &str, status: u16) -> Reply {
    let reply = server.offer(camera, &offer::probe()).await;
    assert_eq!(reply.status, status, "{camera}: {}", reply.body);
    assert!(reply.took <= SOON, "{camera}: {:?}", reply.took);
    assert!(!reply.body.contains(PASSWORD) && !server.log().contains(PASSWORD));
    reply
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = listener.local_addr();
    address.expect("a bound socket has an address").port()
}

/// Asserts that `camera` was called once, and is told goodbye as soon as it notices.
async fn assert_left(camera: &ScriptedCamera) {
    assert_eq!(camera.connections(), 1);
    eventually("the connection is closed", SOON, || async {
        let open = camera.open_connections();
        (open == 0).then_some(()).ok_or(format!("{open} open"))
    })
    .await;
}

fn with_authorization(camera: &ScriptedCamera) -> Vec<Request> {
    let mut requests = camera.requests();
    requests.retain(|request| request.header("Authorization").is_some());
    requests
}

#[tokio::test]
async fn a_redirection_is_followed_on_a_new_connection_after_the_old_one() {
    let server = Server::start().await;
    for status in [301, 302, 303, 305, 307, 308] {
        let camera = ScriptedCamera::start(playing()).await;
        let moved = playing().redirecting(status, camera.url("/here"));
        let first = ScriptedCamera::start(moved).await;
        offer_is(&server, &url(&first), 200).await;
        assert_left(&first).await;
        let described = camera.requests_of("DESCRIBE");
        assert_eq!(described.len(), 1, "{status}");
        assert_eq!(described[0].uri, camera.url("/here"));
        assert_eq!(camera.requests_of("PLAY").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn another_path_of_the_same_camera_gets_the_password() {
    let camera = ScriptedCamera::start_each(|connection| match connection {
        0 => locked(Scheme::Digest).redirecting(302, "/second").into(),
        _ => locked(Scheme::Digest).into(),
    });
    let camera = camera.await;
    let server = Server::start().await;
    offer_is(&server, &url(&camera), 200).await;
    let played = &camera.requests_of("SETUP")[0];
    assert!(played.uri.starts_with(&camera.url("/second")), "{played:?}");
}

#[tokio::test]
async fn another_host_or_port_does_not_get_the_password() {
    let server = Server::start().await;
    for scheme in [Scheme::Basic, Scheme::Digest] {
        let other = ScriptedCamera::requiring(USER, PASSWORD, scheme).await;
        for location in [
            other.url("/live"),
            other.url_as(USER, PASSWORD, "/live"),
            format!("rtsp://localhost:{}/live", other.port()),
        ] {
            let first = sending_to(&location).await;
            let error = offer_is(&server, &url(&first), 502).await.error();
            assert!(error.contains("user name and password"), "{error}");
        }
        assert!(!other.requests().is_empty());
        let shown = with_authorization(&other);
        assert!(shown.is_empty(), "{shown:#?}");
    }
}

#[tokio::test]
async fn three_redirections_are_followed_and_not_four() {
    let camera = ScriptedCamera::start(playing()).await;
    let third = sending_to(&camera.url("/")).await;
    let second = sending_to(&third.url("/")).await;
    let first = sending_to(&second.url("/")).await;
    let before = sending_to(&first.url("/")).await;
    let server = Server::start().await;
    offer_is(&server, &first.url("/"), 200).await;
    let error = offer_is(&server, &before.url("/"), 502).await.error();
    assert!(error.contains("more than 3 times"), "{error}");
}

#[tokio::test]
async fn a_camera_that_sends_us_in_circles_is_given_up() {
    let camera = sending_to("/again").await;
    let server = Server::start().await;
    let error = offer_is(&server, &url(&camera), 502).await.error();
    assert!(error.contains("redirects more than 3 times"), "{error}");
    // The next attempt begins at once.
    assert!(camera.connections() >= 4, "{}", camera.connections());
}

#[tokio::test]
async fn cameras_cannot_send_us_where_no_camera_is() {
    let server = Server::start().await;
    let own = server.url("/").replace("http://", "rtsp://");
    for (location, status, word) in [
        ("rtsp://169.254.169.254/latest", 403, "no camera is at"),
        ("rtsp://[::ffff:169.254.169.254]/", 403, "no camera is at"),
        ("rtsp://[64:ff9b::a9fe:a9fe]/", 403, "no camera is at"),
        ("rtsp://2852039166/", 403, "no camera is at"),
        ("rtsp://0.0.0.0:8554/", 403, "no camera is at"),
        ("rtsp://127.0.0.1:25/", 403, "port 25"),
        (&own, 403, "Porthole's own"),
        ("http://127.0.0.1/", 502, "not followed"),
        ("rtspx://127.0.0.1/", 502, "not followed"),
        ("file:///etc/passwd", 502, "not a URL"),
        ("", 502, "without saying where"),
    ] {
        let camera = sending_to(location).await;
        let error = offer_is(&server, &url(&camera), status).await.error();
        assert!(error.contains(word), "{location}: {error}");
        assert!(error.contains("redirects"), "{location}: {error}");
    }
}

#[tokio::test]
async fn a_camera_that_plays_can_send_us_elsewhere() {
    let other = ScriptedCamera::start(playing()).await;
    let request = format!(
        "REDIRECT rtsp://x/ RTSP/1.0\r\nCSeq: 732\r\nLocation: {}\r\nRange: clock=19960213T143205Z-\r\n\r\n",
        other.url("/live")
    );
    let first = ScriptedCamera::start(vec![
        playing().until(Until::Elapsed(Duration::from_secs(1))),
        Step::Say(request.into_bytes()),
        playing().until(Until::Gone),
    ]);
    let first = first.await;
    let server = Server::start().await;
    offer_is(&server, &url(&first), 200).await;
    eventually("the other camera plays", SOON, || async {
        let played = other.requests_of("PLAY").len();
        (played == 1).then_some(()).ok_or(format!("{played} PLAY"))
    })
    .await;
    assert_eq!(first.requests_of("TEARDOWN").len(), 1);
    assert_left(&first).await;
}

#[tokio::test]
async fn our_own_ports_are_no_cameras() {
    let media = free_port();
    let listen = format!("127.0.0.1:{media}");
    let server = Server::start_with(&["--media-listen", &listen]).await;
    let own = server.url("");
    let http = own.rsplit(':').next().expect("a URL with a port");
    for port in [http, &media.to_string()] {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.9.9.9",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f.1",
            "017700000001",
        ] {
            let camera = format!("rtsp://{USER}:{PASSWORD}@{host}:{port}/");
            let error = offer_is(&server, &camera, 403).await.error();
            assert!(error.contains("Porthole's own"), "{camera}: {error}");
        }
    }
}

#[tokio::test]
async fn clients_cannot_send_us_where_no_camera_is() {
    let server = Server::start().await;
    for host in [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "0.0.0.0",
        "0",
        "[::]",
        "255.255.255.255",
        "239.1.2.3",
        "[ff02::1]",
        "127.0.0.1:22",
        "127.0.0.1:0",
        "h@169.254.169.254",
        "127.0.0.1%40x@169.254.169.254",
    ] {
        for scheme in ["rtsp", "rtsps", "rtspx"] {
            let camera = format!("{scheme}://{USER}:{PASSWORD}@{host}/latest/meta-data");
            offer_is(&server, &camera, 403).await;
        }
    }
}

#[tokio::test]
async fn cameras_of_the_configuration_may_be_anywhere() {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    let file = folder.path().join("config.yaml");
    let camera = format!("rtsp://{USER}:{PASSWORD}@127.0.0.1:1/live");
    std::fs::write(&file, format!("cameras:\n  odd: \"{camera}\"\n")).expect("a place to write");
    let path = file.to_str().expect("a plain path");
    let server = Server::start_with(&["--config", path]).await;
    for named in ["odd", &camera] {
        let error = offer_is(&server, named, 502).await.error();
        assert!(error.contains("connection refused"), "{error}");
    }
    offer_is(&server, &camera.replace("live", "other"), 403).await;
}

#[tokio::test]
async fn every_way_to_prove_a_password_is_known() {
    let server = Server::start().await;
    for scheme in [
        Scheme::Basic,
        Scheme::Digest,
        Scheme::DigestAuth,
        Scheme::Sha256,
        Scheme::Sha256Bare,
        Scheme::Strongest,
    ] {
        let all = [
            Nonces::OfConnection,
            Nonces::Once,
            Nonces::Lasting(Duration::from_millis(700)),
        ];
        let kinds = if scheme == Scheme::Basic { 1 } else { 3 };
        for nonces in &all[..kinds] {
            let camera = ScriptedCamera::start(locked(scheme).nonces(*nonces)).await;
            offer_is(&server, &url(&camera), 200).await;
            let mut refused = with_authorization(&camera);
            refused.retain(|request| request.status == 401);
            match nonces {
                Nonces::OfConnection => assert!(refused.is_empty(), "{scheme:?}: {refused:#?}"),
                // One of each request with an old nonce, and the next with the new one.
                _ => assert!(refused.len() <= 4, "{scheme:?} {nonces:?}: {refused:#?}"),
            }
        }
    }
}

/// A name with odd characters and a password that is not ASCII.
#[tokio::test]
async fn odd_characters_in_names_and_passwords_arrive() {
    let server = Server::start().await;
    for (user, password, encoded) in [
        ("a\"b\\c", "p:q\"r", "a%22b%5Cc:p%3Aq%22r"),
        (
            "viewer",
            "p\u{e4}ss w\u{f6}rd",
            "viewer:p%C3%A4ss%20w%C3%B6rd",
        ),
        ("o'neil,=", "{}<>|^`", "o'neil,=:%7B%7D%3C%3E%7C%5E%60"),
    ] {
        for scheme in [Scheme::Basic, Scheme::Digest, Scheme::Sha256] {
            let camera = ScriptedCamera::requiring(user, password, scheme).await;
            let url = format!("rtsp://{encoded}@127.0.0.1:{}/live", camera.port());
            let reply = server.offer(&url, &offer::probe()).await;
            assert_eq!(reply.status, 200, "{scheme:?} {user}: {}", reply.body);
        }
    }
}

#[tokio::test]
async fn signs_of_life_and_goodbye_take_up_new_nonces() {
    for nonces in [Nonces::Once, Nonces::Lasting(Duration::from_millis(1_500))] {
        let camera = locked(Scheme::DigestAuth).nonces(nonces).timeout(2);
        let camera = ScriptedCamera::start(camera).await;
        let mut server = Server::start().await;
        offer_is(&server, &url(&camera), 200).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (status, _) = server.terminate().await;
        assert!(status.success());
        let accepted = |method: &str| {
            let requests = camera.requests_of(method);
            let accepted = requests.iter().filter(|request| request.status == 200);
            accepted.count()
        };
        let alive = accepted("GET_PARAMETER");
        assert!(alive >= 3, "{nonces:?}: {alive}, {:#?}", camera.requests());
        assert_eq!(
            (camera.connections(), accepted("TEARDOWN")),
            (1, 1),
            "{nonces:?}"
        );
        // None is tried twice with the same old nonce.
        let requests = camera.requests();
        let twice = requests
            .windows(3)
            .find(|three| three.iter().all(|r| r.status == 401));
        assert!(twice.is_none(), "{twice:#?}");
    }
}

/// Cameras lock an account after a few wrong passwords, and signs of life go on for days.
#[tokio::test]
async fn a_password_that_was_changed_while_it_plays_is_tried_once_more_only() {
    let changed = playing()
        .requiring(USER, "another", Scheme::Digest)
        .timeout(2);
    let script: Vec<Step> = vec![
        locked(Scheme::Digest)
            .timeout(2)
            .until(Until::Elapsed(Duration::from_millis(1_500))),
        changed.until(Until::Gone),
    ];
    let camera = ScriptedCamera::start(Script::from(script)).await;
    let server = Server::start().await;
    offer_is(&server, &url(&camera), 200).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut wrong = with_authorization(&camera);
    wrong.retain(|request| request.connection == 0 && request.status == 401);
    assert!((1..=2).contains(&wrong.len()), "{wrong:#?}");
    let signs = camera.requests_of("GET_PARAMETER");
    assert!(signs.len() >= 4, "{signs:#?}");
}
