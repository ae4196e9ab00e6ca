//! What the server promises in files: `openapi.yaml`, `porthole.example.yaml`, `README.md`; and the
//! bytes of its answers, asked in process.

use std::collections::BTreeSet;

use actix_web::{App, http::StatusCode, middleware::from_fn, test as call, web};
use porthole::{
    base::{Stage, Tasks, Verdict},
    config::{Config, Layer},
    context::Context,
    http::{guard::guard, server},
    signaling::FLAVOURS,
    source::KINDS,
};
use serde_json::Value;

fn file(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn openapi() -> Value {
    serde_saphyr::from_str(&file("openapi.yaml")).expect("openapi.yaml is YAML")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let served: BTreeSet<_> = server::routes()
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    let mut described = BTreeSet::new();
    for (path, operations) in openapi()["paths"].as_object().expect("paths is a map") {
        for (method, operation) in operations.as_object().expect("operations are a map") {
            let method = method.to_ascii_uppercase();
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                continue;
            }
            assert!(
                operation["summary"].is_string(),
                "{method} {path} has no summary"
            );
            assert!(
                operation["responses"].is_object(),
                "{method} {path} has no responses"
            );
            described.insert((method, path.clone()));
        }
    }
    assert_eq!(served, described);
}

#[test]
fn every_table_entry_is_in_the_readme() {
    let readme = file("README.md");
    let flavours = FLAVOURS.iter().map(|flavour| flavour.name);
    for name in flavours.chain(KINDS.iter().map(|kind| kind.name)) {
        assert!(
            readme.contains(&format!("`{name}`")),
            "README.md does not tell of {name}"
        );
    }
}

#[test]
fn every_verdict_is_in_the_documentation_and_the_description() {
    let page = file("docs/verdicts.md");
    let told: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 5)
        .collect();
    let stage = |stage: Stage| serde_json::to_value(stage).unwrap();
    let all: Vec<_> = Verdict::ALL
        .iter()
        .map(|verdict| {
            format!(
                "| `{}` | {} | {} | {} |",
                verdict.code(),
                stage(verdict.stage()).as_str().unwrap(),
                verdict.cause(),
                verdict.advice()
            )
        })
        .collect();
    assert_eq!(told, all, "docs/verdicts.md");
    let schema = &openapi()["components"]["schemas"]["Verdict"]["properties"];
    let codes: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
    assert_eq!(schema["code"]["enum"], serde_json::json!(codes));
    let mut stages: Vec<_> = Verdict::ALL.iter().map(|v| stage(v.stage())).collect();
    stages.dedup();
    for stage in stages {
        let known = schema["stage"]["enum"].as_array().unwrap();
        assert!(known.contains(&stage), "{stage}");
    }
}

#[test]
fn the_example_configuration_is_valid_and_names_every_key() {
    let text = file("porthole.example.yaml");
    let layer = Layer::parse(&text).expect("porthole.example.yaml is valid");
    Config::from_layers([layer]).expect("porthole.example.yaml is usable");
    for key in [
        "listen",
        "media_listen",
        "media_addresses",
        "ice_servers",
        "urls",
        "username",
        "credential",
        "log",
        "allowed_origins",
        "allowed_hosts",
        "ffmpeg",
        "bin",
        "exec",
        "cameras",
        "url",
        "on_demand",
        "audio",
        "data",
        "auth",
        "password",
        "token",
        "rtsp_to_web",
        "enabled",
    ] {
        assert!(
            text.contains(&format!("{key}:")),
            "porthole.example.yaml lacks {key}"
        );
    }
}

/// A service with everything mounted, for the settings in `text`.
macro_rules! service {
    ($text:expr) => {{
        let config = Config::from_layers([Layer::parse($text).unwrap()]).unwrap();
        let context = Context::new(config, Tasks::on_current_runtime()).unwrap();
        let app = App::new()
            .app_data(web::Data::new(context))
            .wrap(from_fn(guard))
            .configure(server::mount);
        call::init_service(app).await
    }};
}

const HOST: (&str, &str) = ("Host", "127.0.0.1:8083");

#[actix_web::test]
async fn heartbeats_answer_and_streams_is_absent() {
    let service = service!("");
    for (path, expected) in [
        ("/static", 200),
        ("/static/", 200),
        ("/health", 200),
        ("/streams", 404),
        ("/nope", 404),
    ] {
        let request = call::TestRequest::get()
            .uri(path)
            .insert_header(HOST)
            .to_request();
        let response = call::call_service(&service, request).await;
        assert_eq!(response.status().as_u16(), expected, "{path}");
    }
}

#[actix_web::test]
async fn unknown_paths_answer_like_the_original() {
    let service = service!("");
    for request in [
        call::TestRequest::get().uri("/nope"),
        call::TestRequest::get().uri("/stream"),
    ] {
        let response = call::call_service(&service, request.insert_header(HOST).to_request()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(call::read_body(response).await, "404 page not found");
    }
}

#[actix_web::test]
async fn an_offer_with_a_mistake_gets_a_json_error_in_words() {
    let service = service!("");
    let cases = [
        ("url=&sdp64=", "url"),
        ("url=demo:", "sdp64"),
        ("url=demo:&sdp64=!!!", "base64"),
        ("url=demo:&sdp64=", "sdp64"),
        ("url=demo:&sdp64=aGVsbG8=", "media sections"),
    ];
    for (body, part) in cases {
        let request = call::TestRequest::post()
            .uri("/stream")
            .insert_header(HOST)
            .insert_header(("Content-Type", "application/x-www-form-urlencoded"))
            .set_payload(body)
            .to_request();
        let response = call::call_service(&service, request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let json: Value = call::read_body_json(response).await;
        let error = json["error"].as_str().expect("error is a string");
        assert!(error.contains(part), "{body}: {error}");
    }
}

#[actix_web::test]
async fn a_foreign_page_is_refused_and_an_allowed_one_is_not() {
    let preflight = || {
        call::TestRequest::default()
            .method(actix_web::http::Method::OPTIONS)
            .uri("/stream")
            .insert_header(HOST)
            .insert_header(("Origin", "https://cards.example"))
            .insert_header(("Access-Control-Request-Method", "POST"))
            .to_request()
    };
    let strict = service!("");
    let refused = call::call_service(&strict, preflight()).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(
        !refused
            .headers()
            .contains_key("access-control-allow-origin")
    );
    let open = service!("allowed_origins: ['*']");
    let allowed = call::call_service(&open, preflight()).await;
    assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        allowed
            .headers()
            .get("access-control-allow-origin")
            .unwrap(),
        "*"
    );
}

#[actix_web::test]
async fn the_page_finds_its_files_wherever_it_is_opened() {
    let service = service!("");
    for (path, base) in [("/", "./"), ("/stream/player/demo", "../../")] {
        let request = call::TestRequest::get()
            .uri(path)
            .insert_header(HOST)
            .to_request();
        let response = call::call_service(&service, request).await;
        assert!(response.headers().contains_key("content-security-policy"));
        let body = call::read_body(response).await;
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            html.contains(&format!("{base}static/style.css")) && !html.contains("{{"),
            "{path}"
        );
    }
}
