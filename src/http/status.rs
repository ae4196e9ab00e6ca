//! What the server tells about itself: `GET /cameras` and `GET /health`.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::{context::Context, directory::Listed, hub::State};

/// The routes served here.
pub const ROUTES: &[(&str, &str)] = &[("GET", "/cameras"), ("GET", "/health")];

/// Mounts [`ROUTES`].
pub fn mount(routes: &mut web::ServiceConfig) {
    routes
        .route("/cameras", web::get().to(cameras))
        .route("/health", web::get().to(health));
}

/// Cameras with a name, then those that somebody opened by URL. Never a credential.
async fn cameras(context: web::Data<Context>) -> HttpResponse {
    let mut running = context.directory.list();
    let mut listed: Vec<_> = context
        .config
        .cameras
        .iter()
        .map(|(name, camera)| {
            let found = running.iter().position(|listed| listed.url == camera.url);
            entry(name, found.map(|at| running.swap_remove(at)).as_ref())
        })
        .collect();
    running.sort_by_key(|listed| listed.url.to_string());
    listed.extend(
        running
            .iter()
            .map(|open| entry(&open.url.to_string(), Some(open))),
    );
    HttpResponse::Ok().json(json!({ "cameras": listed }))
}

fn entry(name: &str, running: Option<&Listed>) -> Value {
    let (state, error) = match running.map(|listed| &listed.state) {
        None => ("idle", None),
        Some(State::Connecting) => ("connecting", None),
        Some(State::Live(_)) => ("live", None),
        Some(State::Failed(e)) => ("failed", Some(e.to_string())),
    };
    json!({
        "name": name,
        "state": state,
        "viewers": running.map_or(0, |listed| listed.viewers),
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
