//! The networks between people and their cameras, each with Chromium as the viewer.
//!
//! ```sh
//! cargo test -p integration_tests connectivity::
//! ```

mod brought;

use std::time::{Duration, Instant};

use integration_tests::{
    browser::{self, Browser},
    network::{
        self, Host, Proxy, Server, Turn, View, isolated, link, quiet_page, settings,
        topology::{
            CONTAINER, GATEWAY, MEDIA, SERVER, VIEWER, apart, behind_router, container_host, home,
        },
    },
};
use serde_json::{Value, json};

/// From asking for a camera to its picture, on whatever way.
const CONNECT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_same_lan() {
    if !installed() {
        return;
    }
    isolated("connectivity::the_same_lan", async || {
        let server = home();
        let _server = Server::start(&server, &[]).await;
        the_page_plays(&[], &base(SERVER)).await;
    })
    .await;
}

/// The router forwards the media port of one public address, by another name than that of the page.
#[tokio::test]
async fn a_router_that_forwards_ports_and_a_public_name() {
    if !installed() {
        return;
    }
    let test = "connectivity::a_router_that_forwards_ports_and_a_public_name";
    isolated(test, async || {
        Host::knows_names(&[("203.0.113.2", "cam.example.test")]);
        let server = behind_router();
        let options = [
            ("--media-listen", ":8556"),
            ("--media-address", "cam.example.test"),
        ];
        let _server = Server::start(&server, &options).await;
        let browser = Browser::start().await;
        let page = quiet_page(&browser, &base("203.0.113.1")).await;
        View::of(&page, "demo", &json!({}))
            .await
            .moves_within(CONNECT)
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_container_with_published_ports_by_address() {
    if !installed() {
        return;
    }
    isolated(
        "connectivity::a_container_with_published_ports_by_address",
        async || {
            let (_, container) = container_host(&["tcp dport 8083", MEDIA]);
            let _server = Server::start(&container, &[]).await;
            the_page_plays(&[], &base(SERVER)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_container_with_published_ports_by_name() {
    if !installed() {
        return;
    }
    isolated(
        "connectivity::a_container_with_published_ports_by_name",
        async || {
            Host::knows_names(&[(SERVER, "nas.lan")]);
            let (_, container) = container_host(&["tcp dport 8083", MEDIA]);
            let _server = Server::start(&container, &[]).await;
            the_page_plays(&[], &base("nas.lan")).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_reverse_proxy_with_https_before_a_container() {
    if !(installed() && Proxy::installed()) {
        return;
    }
    isolated(
        "connectivity::a_reverse_proxy_with_https_before_a_container",
        async || {
            Host::knows_names(&[(SERVER, "nas.lan")]);
            let (host, container) = container_host(&[MEDIA]);
            let _server = Server::start(&container, &[]).await;
            let _proxy = Proxy::start(&host, &format!("{CONTAINER}:{}", Server::PORT)).await;
            the_page_plays(&["--ignore-certificate-errors"], "https://nas.lan").await;
        },
    )
    .await;
}

#[tokio::test]
async fn udp_is_blocked_and_tcp_is_not() {
    if !installed() {
        return;
    }
    isolated("connectivity::udp_is_blocked_and_tcp_is_not", async || {
        let server = home();
        server.firewall(
            "table inet no_udp {
               chain in { type filter hook input priority filter; iifname lan0 meta l4proto udp drop; }
               chain out { type filter hook output priority filter; oifname lan0 meta l4proto udp drop; }
             }",
        );
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::start().await;
        let page = quiet_page(&browser, &base(SERVER)).await;
        let start = Instant::now();
        let view = View::of(&page, "demo", &json!({})).await;
        view.moves_within(Duration::from_secs(5).saturating_sub(start.elapsed())).await;
        let path = view.path().await;
        assert_eq!(path["selected"]["local"]["protocol"], "tcp", "{path}");
    })
    .await;
}

#[tokio::test]
async fn only_a_turn_server_that_the_browser_knows() {
    if !(installed() && Turn::installed()) {
        return;
    }
    isolated(
        "connectivity::only_a_turn_server_that_the_browser_knows",
        async || {
            let (relay, server) = apart();
            let _turn = Turn::start(&relay, "203.0.113.1", "198.51.100.1").await;
            let _server = Server::start(&server, &[]).await;
            let browser = Browser::start().await;
            let page = quiet_page(&browser, &base("198.51.100.20")).await;
            let view = View::of(&page, "demo", &settings("turn:203.0.113.1:3478")).await;
            view.moves_within(CONNECT).await;
            let path = view.path().await;
            assert_eq!(
                path["selected"]["local"]["candidateType"], "relay",
                "{path}"
            );
        },
    )
    .await;
}

/// A TURN server lets in only whom its client names, so the browser shows its address here.
#[tokio::test]
async fn only_a_turn_server_that_the_server_knows() {
    if !(installed() && Turn::installed()) {
        return;
    }
    isolated("connectivity::only_a_turn_server_that_the_server_knows", async || {
        let (relay, server) = apart();
        let _turn = Turn::start(&relay, "198.51.100.1", "203.0.113.1").await;
        let servers = format!(
            "ice_servers:\n  - urls: [\"turn:198.51.100.1:3478\"]\n    username: {}\n    credential: {}\n",
            Turn::USER,
            Turn::PASSWORD
        );
        let _server = Server::start_with_file(&server, &servers, &[]).await;
        let browser = Browser::showing_addresses().await;
        let page = quiet_page(&browser, &base("198.51.100.20")).await;
        let view = View::of(&page, "demo", &json!({})).await;
        view.moves_within(CONNECT).await;
        let path = view.path().await;
        assert_eq!(path["selected"]["remote"]["address"], "203.0.113.1", "{path}");
    })
    .await;
}

/// The browser shows its address: without any IPv4, Chromium cannot announce a name in its place, and
/// offers nothing.
#[tokio::test]
async fn ipv6_alone() {
    if !installed() {
        return;
    }
    isolated("connectivity::ipv6_alone", async || {
        let (viewer, server) = (Host::viewer(), Host::new("server"));
        link(
            (&viewer, "lan0", "2001:db8:77::10/64"),
            (&server, "lan0", "2001:db8:77::20/64"),
        );
        viewer.default_route("2001:db8:77::1");
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::showing_addresses().await;
        let page = quiet_page(&browser, &base("[2001:db8:77::20]")).await;
        View::of(&page, "demo", &json!({}))
            .await
            .moves_within(CONNECT)
            .await;
    })
    .await;
}

/// The default route leads out of the interface on which the viewer is not.
#[tokio::test]
async fn the_second_of_two_interfaces() {
    if !installed() {
        return;
    }
    isolated("connectivity::the_second_of_two_interfaces", async || {
        let (viewer, other, server) = (Host::viewer(), Host::new("other"), Host::new("server"));
        link(
            (&other, "lan0", "192.168.78.1/24"),
            (&server, "lan0", "192.168.78.20/24"),
        );
        link(
            (&viewer, "lan0", "192.168.77.10/24"),
            (&server, "lan1", "192.168.77.20/24"),
        );
        viewer.default_route(GATEWAY);
        server.default_route("192.168.78.1");
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::start().await;
        let page = quiet_page(&browser, &base(SERVER)).await;
        View::of(&page, "demo", &json!({}))
            .await
            .moves_within(CONNECT)
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_browser_that_offers_only_names() {
    if !installed() {
        return;
    }
    isolated(
        "connectivity::a_browser_that_offers_only_names",
        async || {
            let server = home();
            let _server = Server::start(&server, &[]).await;
            let browser = Browser::start().await;
            let page = quiet_page(&browser, &base(SERVER)).await;
            let view = View::of(&page, "demo", &json!({})).await;
            view.moves_within(CONNECT).await;
            let path = view.path().await;
            let offered = path["offered"].as_array().expect("a list");
            assert!(
                !offered.is_empty() && offered.iter().all(has_local_name),
                "{path}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn the_viewers_address_changes() {
    if !installed() {
        return;
    }
    isolated("connectivity::the_viewers_address_changes", async || {
        let server = home();
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::start().await;
        let view = View::of_page(&browser, &base(SERVER)).await;
        view.moves_within(CONNECT).await;
        view.page()
            .evaluate("globalThis.since_the_beginning = true")
            .await;

        let viewer = Host::viewer();
        viewer.run(&format!("ip address del {VIEWER}/24 dev lan0"));
        viewer.takes("lan0", "192.168.77.11/24");
        viewer.default_route(GATEWAY);
        // What was under way is shown yet.
        tokio::time::sleep(Duration::from_secs(1)).await;
        view.moves_within(Duration::from_secs(14)).await;
        let same = view.page().evaluate("globalThis.since_the_beginning").await;
        assert_eq!(same, true, "the page was loaded again");
    })
    .await;
}

fn installed() -> bool {
    network::installed() && browser::installed()
}

fn base(host: &str) -> String {
    format!("http://{host}:{}", Server::PORT)
}

/// Whether a candidate has a name of multicast DNS for an address, as in `candidate:1 1 udp 1 name.local 9
/// typ host`: RFC 8839, section 5.1.
fn has_local_name(candidate: &Value) -> bool {
    let line = candidate.as_str().unwrap_or_default();
    let address = line.split(' ').nth(4).unwrap_or_default();
    address
        .rsplit_once('.')
        .is_some_and(|(_, top)| top == "local")
}

/// Opens the page as a person does, and waits for the demo.
async fn the_page_plays(arguments: &[&str], base: &str) {
    let browser = Browser::start_with(arguments).await;
    View::of_page(&browser, base)
        .await
        .moves_within(CONNECT)
        .await;
}
