//! ICE servers that only the offer knows, as Home Assistant sends them to go2rtc.

use std::time::Duration;

use integration_tests::{
    browser::{Browser, Watch},
    network::{
        Host, Server, Turn, View, isolated, quiet_page,
        topology::{apart, behind_router},
    },
};
use serde_json::json;

use super::{CONNECT, base, installed};

/// Nothing but the relay leads from the viewer to the server, and neither is configured with it.
#[tokio::test]
async fn only_a_turn_server_that_the_offer_brings() {
    if !(installed() && Turn::installed()) {
        return;
    }
    let test = "connectivity::brought::only_a_turn_server_that_the_offer_brings";
    isolated(test, async || {
        let (relay, server) = apart();
        let turn = Turn::start(&relay, "198.51.100.1", "203.0.113.1").await;
        let porthole = Server::start(&server, &[]).await;
        let browser = Browser::showing_addresses().await;
        let page = quiet_page(&browser, &base("198.51.100.20")).await;
        let servers = json!([
            { "urls": ["stun:198.51.100.1:3478"] },
            {
                "urls": ["turn:198.51.100.1:3478?transport=udp"],
                "username": Turn::USER,
                "credential": Turn::PASSWORD,
            },
        ]);
        let watch = Watch::video_and_audio()
            .as_go2rtc_client()
            .with_ice_servers(servers);
        let view = View::watching(&page, "src=demo", &json!({}), watch).await;
        view.moves_within(CONNECT).await;
        let path = view.path().await;
        let remote = &path["selected"]["remote"];
        assert_eq!(remote["address"], "203.0.113.1", "{path}");
        assert_eq!(remote["candidateType"], "relay", "{path}");

        view.close().await;
        let limit = Duration::from_secs(20);
        integration_tests::eventually("the allocation is given back", limit, async || {
            let log = turn.log();
            log.contains("lifetime=0").then_some(()).ok_or(log)
        })
        .await;
        let log = porthole.log();
        assert!(log.contains("by a server of the offer"), "{log}");
        assert!(!log.contains(Turn::PASSWORD), "{log}");
    })
    .await;
}

/// No port is forwarded for media, and on the way out it gets another one. The browser learns that one.
#[tokio::test]
async fn a_stun_server_that_the_offer_brings() {
    if !(installed() && Turn::installed()) {
        return;
    }
    let test = "connectivity::brought::a_stun_server_that_the_offer_brings";
    isolated(test, async || {
        let server = behind_router();
        server.firewall(
            "table ip another_port {
               chain out {
                 type nat hook postrouting priority srcnat;
                 udp sport 8555 snat to 192.168.77.20:9000
               }
             }",
        );
        let viewer = Host::viewer();
        let _stun = Turn::start(&viewer, "203.0.113.10", "203.0.113.10").await;
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::showing_addresses().await;
        let page = quiet_page(&browser, &base("203.0.113.1")).await;
        let watch = Watch::video_and_audio()
            .as_go2rtc_client()
            .with_ice_servers(json!([{ "urls": "stun:203.0.113.10:3478" }]));
        let view = View::watching(&page, "src=demo", &json!({}), watch).await;
        view.moves_within(CONNECT).await;
        let path = view.path().await;
        let answered = path["answered"].as_array().expect("a list");
        let is_mapped = |line: &str| line.contains(" 203.0.113.1 9000 typ srflx");
        let mut lines = answered.iter().filter_map(|line| line.as_str());
        assert!(lines.any(is_mapped), "{path}");
        assert_eq!(path["selected"]["remote"]["port"], 9000, "{path}");
    })
    .await;
}

/// The viewer is on the Internet, and names what only the server can reach.
#[tokio::test]
async fn what_an_offer_must_not_have_called_is_sent_nothing() {
    if !installed() {
        return;
    }
    let test = "connectivity::brought::what_an_offer_must_not_have_called_is_sent_nothing";
    isolated(test, async || {
        let (_relay, server) = apart();
        server.firewall(
            "table inet seen {
               counter asked { }
               counter forbidden { }
               chain out {
                 type filter hook output priority filter;
                 th dport 3479 counter name asked
                 th dport 3478 counter name forbidden
               }
             }",
        );
        let _server = Server::start(&server, &[]).await;
        let browser = Browser::start().await;
        let page = quiet_page(&browser, &base("198.51.100.20")).await;
        let turn = |urls: serde_json::Value| json!({ "urls": urls, "username": "me", "credential": "x" });
        let offers = [
            json!([
                { "urls": ["stun:127.0.0.1", "stun:169.254.169.254", "stun:192.168.5.5", "stun:198.51.100.1:3479"] },
                turn(json!(["turn:127.0.0.1", "turn:192.168.5.5", "turn:224.0.0.1"])),
                turn(json!(["turn:127.0.0.1?transport=tcp", "turn:[::1]", "turn:localhost"])),
                turn(json!(["turns:127.0.0.1:3478", "turns:169.254.169.254:3478"])),
            ]),
            json!([
                { "urls": ["stun:0.0.0.0", "stun:[::ffff:127.0.0.1]", "stun:224.0.0.1", "stun:10.0.0.1"] },
                turn(json!(["turn:172.16.0.1", "turn:0.0.0.0", "turn:255.255.255.255"])),
                turn(json!(["turn:169.254.1.1", "turn:100.64.0.1?transport=tcp", "turn:[fe80::1]"])),
            ]),
        ];
        for servers in offers {
            let watch = Watch::video().as_go2rtc_client().with_ice_servers(servers);
            let _viewer = page.watch("src=demo", watch).await;
        }
        let count = |counter: &str| {
            let listed = server
                .command("nft")
                .args(["list", "counter", "inet", "seen", counter])
                .output()
                .expect("nft is there");
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
            let packets = words.nth(1).and_then(|word| word.parse::<u64>().ok());
            packets.unwrap_or_else(|| panic!("{text}"))
        };
        let limit = Duration::from_secs(10);
        integration_tests::eventually("the server that may be asked is", limit, async || {
            (count("asked") == 4).then_some(()).ok_or_else(|| "not four times".to_owned())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((count("asked"), count("forbidden")), (4, 0));
    })
    .await;
}
