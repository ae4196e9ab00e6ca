//! `/api/streams`: which cameras there are, and clients that add some.

use std::collections::{BTreeMap, HashMap};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::{Value, json};

use super::{failure, known, line, missing, public, told};
use crate::{
    base::{Error, ErrorKind},
    config::Camera,
    context::Context,
    registry::Put,
    session,
    signaling::encoding::Fields,
};

pub(super) fn mount(routes: &mut web::ServiceConfig) {
    let streams = web::resource("/api/streams")
        .route(web::get().to(list))
        .route(web::head().to(list))
        .route(web::put().to(put))
        .route(web::patch().to(patch))
        .route(web::post().to(publish))
        .route(web::delete().to(delete));
    routes.service(streams);
}

/// All streams, or the one called `src`.
async fn list(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let sessions = context.sessions.list();
    let mut consumers: HashMap<&str, Vec<Value>> = HashMap::new();
    for session in &sessions {
        let of_stream = consumers.entry(&session.camera).or_default();
        of_stream.push(consumer(session));
    }
    let mut entry = |name: &str, camera: &Camera| {
        let producers: Vec<_> = camera
            .sources
            .iter()
            // Home Assistant compares this with what it has registered.
            .map(|source| json!({ "url": source.to_string() }))
            .collect();
        json!({
            "producers": producers,
            "consumers": consumers.remove(name).unwrap_or_default(),
        })
    };
    if let Some(name) = query.get("src") {
        return match known(&context, name) {
            Ok(found) => line(&entry(&found.name, &found.camera)),
            Err(e) => failure(&e),
        };
    }
    let all = context.registry.list();
    let streams: BTreeMap<_, _> = all
        .iter()
        // A server that nobody has set up lists nothing.
        .filter(|named| !named.is_built_in())
        .map(|named| (&*named.name, entry(&named.name, &named.camera)))
        .collect();
    line(&json!(streams))
}

fn consumer(session: &session::Listed) -> Value {
    let path = session.status.path;
    json!({
        "id": session.id.short(),
        "format_name": "webrtc",
        "protocol": path.map(|path| path.transport.to_string()),
        "remote_addr": path.map(|path| path.remote.to_string()),
        "bytes_send": session.status.bytes,
    })
}

/// Registers a stream of one source or more. Again and again with the same ones is what Home Assistant
/// does, and disturbs nobody.
async fn put(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let sources: Vec<_> = query
        .iter()
        .filter(|(key, source)| *key == "src" && !source.is_empty())
        .map(|(_, source)| source)
        .collect();
    let Some(first) = sources.first() else {
        return missing("src");
    };
    let name = query.get("name").unwrap_or(first);
    registered(register(&context, name, &sources))
}

/// The same for one source, which may be the name of another stream: then both have its sources.
async fn patch(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(source) = query.get("src") else {
        return missing("src");
    };
    let name = query.get("name").unwrap_or(source);
    registered(match known(&context, source) {
        Ok(found) => context.registry.put(&public(name), found.camera),
        Err(_) => register(&context, name, &[source]),
    })
}

async fn publish(request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    match (query.get("src"), query.get("dst")) {
        (None, _) => missing("src"),
        (_, None) => missing("dst"),
        _ => told(
            StatusCode::BAD_REQUEST,
            "playing a stream to another server is not offered",
        ),
    }
}

/// Forgets the stream called `src`. One that is not there is gone already.
async fn delete(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(name) = query.get("src") else {
        return missing("src");
    };
    match context.registry.remove(&public(name)) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            told(StatusCode::BAD_REQUEST, &e.to_string())
        }
        Err(e) if e.kind() != ErrorKind::NotFound => failure(&e),
        _ => HttpResponse::Ok().finish(),
    }
}

/// Gives the camera of `sources` a name, which loses its password if it is a URL.
pub(super) fn register(context: &Context, name: &str, sources: &[&str]) -> Result<Put, Error> {
    let camera = Camera::from_sources(sources)?;
    context.registry.put(&public(name), camera)
}

fn registered(put: Result<Put, Error>) -> HttpResponse {
    match put {
        Ok(Put::Added | Put::Changed | Put::Unchanged) => HttpResponse::Ok().finish(),
        // Success all the same: a client that gets an error shows no picture.
        Ok(Put::Configured) => told(
            StatusCode::OK,
            "the configuration has a camera of this name, which stays as it is",
        ),
        Err(e) => failure(&e),
    }
}
