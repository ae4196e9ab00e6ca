//! What the server tells about itself: cameras, sessions, and that it lives.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::{
    base::{Diagnosis, Note, SourceUrl, Verdict},
    context::Context,
    directory::Listed,
    hub::State,
    session,
    webrtc::status::{self, Status},
};

/// The routes served here.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/cameras"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions/{id}"),
    ("GET", "/verdicts"),
    ("GET", "/health"),
];

/// Mounts [`ROUTES`].
pub fn mount(routes: &mut web::ServiceConfig) {
    let cameras = web::resource("/cameras")
        .route(web::get().to(cameras))
        .route(web::head().to(cameras));
    let health = web::resource("/health")
        .route(web::get().to(health))
        .route(web::head().to(health));
    let sessions = web::resource("/sessions")
        .route(web::get().to(sessions))
        .route(web::head().to(sessions));
    let verdicts = web::resource("/verdicts")
        .route(web::get().to(verdicts))
        .route(web::head().to(verdicts));
    routes
        .service(verdicts)
        .service(cameras)
        .service(sessions)
        .service(health)
        .route("/sessions/{id}", web::delete().to(end_session));
}

/// Cameras with a name, then those that somebody opened by URL. Never a credential.
async fn cameras(context: web::Data<Context>) -> HttpResponse {
    let mut running = context.directory.list();
    let cameras = context.registry.list().into_iter();
    let named: Vec<_> = cameras
        .map(|named| (named.name, named.camera.urls()))
        .collect();
    let mut listed: Vec<_> = named
        .iter()
        .map(|(name, urls)| {
            let find = |url: &SourceUrl| running.iter().find(|open| open.url == *url);
            entry(name, true, &urls.iter().map(find).collect::<Vec<_>>())
        })
        .collect();
    running.retain(|open| named.iter().all(|(_, urls)| !urls.contains(&open.url)));
    running.sort_by_key(|listed| listed.url.to_string());
    listed.extend(
        running
            .iter()
            .map(|open| entry(&open.url.to_string(), false, &[Some(open)])),
    );
    HttpResponse::Ok().json(json!({ "cameras": listed }))
}

/// `named` tells whether the camera can be played by its name; a masked URL cannot. `sources` are those of the
/// camera in their order; where they differ, it is told of the first that plays, or else of the first that is
/// open.
fn entry(name: &str, named: bool, sources: &[Option<&Listed>]) -> Value {
    let open = || sources.iter().copied().flatten();
    let is_live = |listed: &&Listed| matches!(listed.state, State::Live(_));
    let running = open().find(is_live).or_else(|| open().next());
    let (state, error) = told(running);
    let notes = running.map_or_else(Vec::new, notes);
    json!({
        "name": name,
        "named": named,
        "state": state,
        "viewers": open().map(|listed| listed.viewers).sum::<usize>(),
        "bytes": open().map(|listed| listed.bytes).sum::<u64>(),
        "kept_bytes": open().map(|listed| listed.kept).sum::<usize>(),
        "error": error,
        "verdict": running.and_then(|listed| listed.trouble.as_ref()),
        "notes": notes.iter().map(|note| &note.sentence).collect::<Vec<_>>(),
        "verdicts": notes.iter().map(|note| &note.diagnosis).collect::<Vec<_>>(),
        "conversions": open().flat_map(conversions).collect::<Vec<_>>(),
        "sources": sources.iter().map(|source| source_entry(*source)).collect::<Vec<_>>(),
    })
}

/// One source of a camera. Which it is, its place tells.
fn source_entry(running: Option<&Listed>) -> Value {
    let (state, error) = told(running);
    json!({
        "state": state,
        "viewers": running.map_or(0, |listed| listed.viewers + listed.listeners),
        "error": error,
        "verdict": running.and_then(|listed| listed.trouble.as_ref()),
    })
}

/// What a source is doing, and why it failed.
fn told(running: Option<&Listed>) -> (&'static str, Option<String>) {
    match running.map(|listed| &listed.state) {
        None => ("idle", None),
        Some(State::Connecting) => ("connecting", None),
        Some(State::Live(_)) => ("live", None),
        Some(State::Failed(e)) => ("failed", Some(e.to_string())),
    }
}

/// What viewers miss of a camera that plays.
fn notes(running: &Listed) -> Vec<&Note> {
    let State::Live(tracks) = &running.state else {
        return Vec::new();
    };
    tracks
        .left_out
        .iter()
        .map(|left_out| &left_out.note)
        .collect()
}

/// What can be made of a camera's sound for browsers that do not take it as it is, and whether it is now.
fn conversions(running: &Listed) -> Vec<Value> {
    let State::Live(tracks) = &running.state else {
        return Vec::new();
    };
    let told = tracks.converted.iter().map(|converted| {
        json!({
            "from": converted.from,
            "to": converted.track.codec.name(),
            "active": running.is_converting,
        })
    });
    told.collect()
}

/// Every viewer, whatever its dialect, the youngest first; and those who have gone lately.
async fn sessions(context: web::Data<Context>) -> HttpResponse {
    let mut sessions = context.sessions.list();
    sessions.sort_by_key(|session| session.age);
    let listed: Vec<_> = sessions.iter().map(session_entry).collect();
    let ended = context.sessions.ended();
    let ended: Vec<_> = ended
        .iter()
        .map(|(session, ago)| {
            let mut entry = session_entry(session);
            // Where somebody was is nobody's business when they are gone.
            (entry["local"], entry["remote"]) = (Value::Null, Value::Null);
            entry["ended_seconds_ago"] = json!(ago.as_secs_f64());
            entry
        })
        .collect();
    HttpResponse::Ok().json(json!({ "sessions": listed, "ended": ended }))
}

/// What may be wrong with an attempt to watch, and what to do: all there is.
async fn verdicts() -> HttpResponse {
    let all = Verdict::ALL.iter();
    let told: Vec<_> = all
        .map(|verdict| {
            json!({
                "code": verdict.code(),
                "stage": verdict.stage(),
                "cause": verdict.cause(),
                "advice": verdict.advice(),
            })
        })
        .collect();
    HttpResponse::Ok().json(json!({ "verdicts": told }))
}

fn session_entry(session: &session::Listed) -> Value {
    let Status {
        state,
        path,
        connected_after,
        first_frame_after,
        ..
    } = session.status;
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1_000.0;
    json!({
        "id": session.id.short(),
        "camera": session.camera,
        "dialect": session.flavour,
        "verdict": session.diagnosis,
        "state": match state {
            status::State::Connecting => "connecting",
            status::State::Connected => "connected",
            status::State::Ended(_) => "ended",
        },
        "age_seconds": session.age.as_secs_f64(),
        "transport": path.map(|path| path.transport.to_string()),
        "local": path.and_then(|path| path.local).map(|local| local.to_string()),
        "remote": path.map(|path| path.remote.to_string()),
        "connected_after_ms": connected_after.map(milliseconds),
        "first_frame_after_ms": first_frame_after.map(milliseconds),
        "frames": session.status.frames,
        "frames_skipped": session.status.skipped,
        "packets": session.status.packets,
        "bytes": session.status.bytes,
        "resent": session.status.resent,
        "missed": session.status.missed,
        "key_frame_requests": session.status.key_frame_requests,
        "loss": session.status.loss,
        "jitter_ms": milliseconds(session.status.jitter),
        "rtt_ms": session.status.rtt.map(milliseconds),
        "limit_bits_per_second": session.status.limit,
    })
}

/// Ends a viewer by the identifier that [`sessions`] lists.
async fn end_session(context: web::Data<Context>, id: web::Path<String>) -> HttpResponse {
    if context.sessions.end_listed(&id) {
        return HttpResponse::NoContent().finish();
    }
    HttpResponse::NotFound().json(json!({
        "error": "there is no session with this identifier; GET /sessions lists them",
        "verdict": Diagnosis::from(Verdict::UnknownSession),
    }))
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
