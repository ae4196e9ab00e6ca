//! What the server tells about itself: `GET /cameras` and `GET /health`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::{context::Context, directory::Listed, hub::State};

/// The routes served here.
pub const ROUTES: &[(&str, &str)] = &[("GET", "/cameras"), ("GET", "/health")];

/// Mounts [`ROUTES`].
pub fn mount(routes: &mut web::ServiceConfig) {
    let cameras = web::resource("/cameras")
        .route(web::get().to(cameras))
        .route(web::head().to(cameras));
    let health = web::resource("/health")
        .route(web::get().to(health))
        .route(web::head().to(health));
    routes.service(cameras).service(health);
}

/// Cameras with a name, then those that somebody opened by URL. Never a credential.
async fn cameras(context: web::Data<Context>) -> HttpResponse {
    let cameras = &context.config.cameras;
    let mut running = context.directory.list();
    let mut listed: Vec<_> = cameras
        .iter()
        .map(|(name, camera)| {
            let found = running.iter().find(|listed| listed.url == camera.url);
            entry(name, true, found)
        })
        .collect();
    running.retain(|open| cameras.values().all(|camera| camera.url != open.url));
    running.sort_by_key(|listed| listed.url.to_string());
    listed.extend(
        running
            .iter()
            .map(|open| entry(&open.url.to_string(), false, Some(open))),
    );
    HttpResponse::Ok().json(json!({ "cameras": listed }))
}

/// `named` tells whether the camera can be played by its name; a masked URL cannot.
fn entry(name: &str, named: bool, running: Option<&Listed>) -> Value {
    let (state, error) = match running.map(|listed| &listed.state) {
        None => ("idle", None),
        Some(State::Connecting) => ("connecting", None),
        Some(State::Live(_)) => ("live", None),
        Some(State::Failed(e)) => ("failed", Some(e.to_string())),
    };
    json!({
        "name": name,
        "named": named,
        "state": state,
        "viewers": running.map_or(0, |listed| listed.viewers),
        "bytes": running.map_or(0, |listed| listed.bytes),
        "kept_bytes": running.map_or(0, |listed| listed.kept),
        "error": error,
    })
}

/// Answers as long as the server can. Reveals nothing but counts.
async fn health(context: web::Data<Context>) -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "viewers": context.sessions.count(),
        "panics": context.tasks.panics(),
    }))
}
