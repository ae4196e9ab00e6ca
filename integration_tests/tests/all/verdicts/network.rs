//! What is between: hosts that are not there, and viewers whose network is in the way, with Chromium.

use std::time::Duration;

use integration_tests::{
    browser::{self, Browser, Page},
    cache, eventually,
    network::{
        self, Host, Server, isolated,
        topology::{SERVER, home},
    },
    offer, server,
};

use super::{SOON, assert_refused, is_logged, listed, tell};

fn base() -> String {
    format!("http://{SERVER}:{}", Server::PORT)
}

fn installed() -> bool {
    network::installed() && browser::installed()
}

/// Waits until the page shows a code.
async fn page_shows(page: &Page, code: &str) {
    eventually("the page shows it", SOON, || async {
        let shown = page
            .evaluate("document.getElementById('code').textContent")
            .await;
        let text = page.evaluate("document.body.innerText").await;
        (shown == code)
            .then_some(())
            .ok_or(format!("{shown}: {text}"))
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_there() {
    if !network::installed() {
        return;
    }
    isolated("verdicts::network::a_host_that_is_not_there", async || {
        let viewer = Host::viewer();
        let server = server::Server::start().await;
        let url = "rtsp://192.168.77.99/live";
        let reply = server.offer(url, &offer::probe()).await;
        assert_refused(
            &server,
            "wrong host: no route to it",
            &reply,
            "host-unreachable",
        )
        .await;
        let _server = home();
        viewer.firewall(
            "table inet silent { chain out {
               type filter hook output priority filter; tcp dport 554 drop;
             }
             }",
        );
        let url = "rtsp://192.168.77.20/live";
        let reply = server.offer(url, &offer::probe()).await;
        assert_refused(&server, "wrong host: no answer", &reply, "connect-timeout").await;
    })
    .await;
}

#[tokio::test]
async fn everything_is_blocked_at_the_viewer() {
    if !installed() {
        return;
    }
    let test = "verdicts::network::everything_is_blocked_at_the_viewer";
    isolated(test, async || {
        let host = home();
        host.firewall(
            "table inet only_http {
               chain in { type filter hook input priority filter; iifname lan0 tcp dport != 8083 drop;
                          iifname lan0 meta l4proto udp drop; }
               chain out { type filter hook output priority filter; oifname lan0 tcp sport != 8083 drop;
                           oifname lan0 meta l4proto udp drop; }
             }",
        );
        let server = Server::start(&host, &[]).await;
        let browser = Browser::start().await;
        let page = browser.page(&format!("{}/", base())).await;
        let http = reqwest::Client::new();
        let took = listed(&http, &base(), "demo", "path-blocked").await;
        is_logged(|| server.log(), "path-blocked").await;
        tell("everything blocked at the viewer", "path-blocked", took);
        page_shows(&page, "path-blocked").await;
        page.screenshot(&cache().join("screenshots/path-blocked.png")).await;
    })
    .await;
}

#[tokio::test]
async fn udp_is_blocked_at_the_viewer_and_then_everything() {
    if !installed() {
        return;
    }
    let test = "verdicts::network::udp_is_blocked_at_the_viewer_and_then_everything";
    isolated(test, async || {
        let host = home();
        host.firewall(
            "table inet no_udp {
               chain in { type filter hook input priority filter; iifname lan0 meta l4proto udp drop; }
               chain out { type filter hook output priority filter; oifname lan0 meta l4proto udp drop; }
             }",
        );
        let server = Server::start(&host, &[]).await;
        let browser = Browser::start().await;
        let page = browser.page(&format!("{}/", base())).await;
        let http = reqwest::Client::new();
        let took = listed(&http, &base(), "demo", "media-over-tcp").await;
        is_logged(|| server.log(), "media-over-tcp").await;
        tell("UDP blocked both ways at the viewer", "media-over-tcp", took);
        eventually("the page tells of it", SOON, || async {
            let text = page.evaluate("document.getElementById('notes').textContent").await;
            let shown = text.as_str().is_some_and(|text| text.contains("media-over-tcp"));
            shown.then_some(()).ok_or(text.to_string())
        })
        .await;
        page.evaluate("porthole.player.stop()").await;
        let took = listed(&http, &base(), "demo", "viewer-left").await;
        is_logged(|| server.log(), "viewer-left").await;
        tell("the viewer leaves", "viewer-left", took);
        page.evaluate("porthole.player.play('rtsp://127.0.0.1:2/x')")
            .await;
        page_shows(&page, "port-closed").await;
        page.screenshot(&cache().join("screenshots/port-closed.png"))
            .await;
        page.evaluate("porthole.player.play('demo')").await;
        listed(&http, &base(), "demo", "media-over-tcp").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        host.firewall(
            "table inet only_http {
               chain in { type filter hook input priority filter; iifname lan0 tcp dport != 8083 drop; }
             }",
        );
        let took = listed(&http, &base(), "demo", "viewer-vanished").await;
        is_logged(|| server.log(), "viewer-vanished").await;
        tell("the viewer's network goes away", "viewer-vanished", took);
    })
    .await;
}
