//! Which web pages may ask: by default those that Porthole serves itself.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use integration_tests::{offer, server::Server};
use reqwest::{Method, Response};

use super::{DEMO, configured::Configured};

const FOREIGN: &str = "http://page.example";

/// What a browser asks before it lets a page of `origin` send an offer.
async fn preflight(server: &Server, origin: &str) -> Response {
    server
        .http()
        .request(Method::OPTIONS, server.url("/stream"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .expect("the server replies")
}

/// An offer from a page of `origin`.
async fn offer_from(server: &Server, origin: &str) -> Response {
    server
        .http()
        .post(server.url("/stream"))
        .header("origin", origin)
        .form(&[("url", DEMO), ("sdp64", &BASE64.encode(offer::probe()))])
        .send()
        .await
        .expect("the server replies")
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().expect("headers here are ASCII"))
}

#[tokio::test]
async fn a_page_of_another_origin_is_kept_out_unless_it_is_allowed() {
    let server = Server::start().await;
    let asked = preflight(&server, FOREIGN).await;
    assert_eq!(header(&asked, "access-control-allow-origin"), None);
    let refused = offer_from(&server, FOREIGN).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(header(&refused, "access-control-allow-origin"), None);
    let error: serde_json::Value = refused.json().await.expect("the refusal is JSON");
    assert!(error["error"].is_string(), "{error}");
}

#[tokio::test]
async fn the_page_of_the_server_itself_may_ask() {
    let server = Server::start().await;
    let origin = server.url("");
    assert_eq!(offer_from(&server, &origin).await.status(), 200);
}

#[tokio::test]
async fn every_page_may_ask_if_all_origins_are_allowed() {
    let configured = Configured::start("config.yaml", "allowed_origins: [\"*\"]\n").await;
    let asked = preflight(&configured.server, FOREIGN).await;
    assert!(
        [200, 204].contains(&asked.status().as_u16()),
        "{}",
        asked.status()
    );
    assert_eq!(header(&asked, "access-control-allow-origin"), Some("*"));
    let methods = header(&asked, "access-control-allow-methods").unwrap_or_default();
    assert!(methods.contains("POST"), "{methods:?}");
    let answered = offer_from(&configured.server, FOREIGN).await;
    assert_eq!(answered.status(), 200);
    assert_eq!(header(&answered, "access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_page_whose_origin_is_named_may_ask_and_others_may_not() {
    let file = format!("allowed_origins: [\"{FOREIGN}\"]\n");
    let configured = Configured::start("config.yaml", &file).await;
    let asked = preflight(&configured.server, FOREIGN).await;
    assert_eq!(header(&asked, "access-control-allow-origin"), Some(FOREIGN));
    assert_eq!(offer_from(&configured.server, FOREIGN).await.status(), 200);
    let other = offer_from(&configured.server, "http://other.example").await;
    assert_eq!(other.status(), 403);
}
