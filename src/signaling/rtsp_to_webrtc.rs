//! The dialect of RTSPtoWebRTC, which Home Assistant's integration of that name speaks: a form with
//! `url` and `sdp64`, a JSON object with `sdp64` back.
//!
//! Where the original answers every failure with 500 after 5 s, this answers at once with a status
//! that tells the client's mistakes from the camera's, and a reason of its own for each request.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::json;

use super::{
    Answer, Flavour, Offer, Target, accept,
    encoding::{Fields, base64, called, client, session_description, unescape_html},
    find, log_refusal, named, tracks,
};
use crate::{
    base::{Diagnosis, Error, Note},
    context::Context,
    media::Track,
};

/// `POST /stream` and the routes for configured streams.
pub const FLAVOUR: Flavour = Flavour {
    name: "rtsp_to_webrtc",
    routes: &[
        ("POST", "/stream"),
        ("POST", "/stream/"),
        ("POST", "//stream"),
        ("POST", "/stream/receiver/{uuid}"),
        ("GET", "/stream/codec/{uuid}"),
    ],
    mount,
};

fn mount(routes: &mut web::ServiceConfig) {
    routes
        // An early client joined its base URL, ending in a slash, and the path by hand.
        .route("//stream", web::post().to(stream))
        .route("/stream", web::post().to(stream))
        .route("/stream/", web::post().to(with_slash))
        .route("/stream/receiver/{uuid}", web::post().to(receiver))
        .route("/stream/codec/{uuid}", web::get().to(codec));
}

/// An offer for any camera: by URL, or by its name.
async fn stream(
    context: web::Data<Context>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let answered = async {
        let fields = Fields::read(&request, payload).await?;
        let url = unescape_html(fields.require("url")?);
        // Checked first: the client's own mistakes are told without asking a camera.
        let sdp = session_description(fields.require("sdp64")?)?;
        exchange(&context, &request, find(&context, &url)?, sdp).await
    };
    match answered.await {
        Ok(answer) => HttpResponse::Ok().json(json!({
            "tracks": kinds(&answer.tracks),
            "sdp64": base64(&answer.sdp),
            "notes": sentences(&answer.notes),
            "verdicts": diagnoses(&answer.notes),
            "session": answer.session.short(),
        })),
        Err(e) => failure(&e),
    }
}

async fn with_slash() -> HttpResponse {
    HttpResponse::TemporaryRedirect()
        .insert_header(("Location", "/stream"))
        .finish()
}

/// An offer for a configured camera. The field `suuid` names it; the path does if that is missing.
async fn receiver(
    context: web::Data<Context>,
    path: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let answered = async {
        let fields = Fields::read(&request, payload).await?;
        let name = fields.get("suuid").unwrap_or(&path);
        let sdp = session_description(fields.require("data")?)?;
        // This route opens no URLs.
        exchange(&context, &request, named(&context, name)?, sdp).await
    };
    match answered.await {
        Ok(answer) => text(base64(&answer.sdp)),
        Err(e) => failure(&e),
    }
}

/// The kinds of tracks of a configured camera. Sent as text, which is what its clients parse.
async fn codec(context: web::Data<Context>, path: web::Path<String>) -> HttpResponse {
    let found = async {
        let camera = named(&context, &path)?.camera;
        let work = {
            let context = context.clone();
            async move { tracks(&context, &camera).await }
        };
        Ok(kinds(&context.tasks.run("codec", work).await??.playable()))
    };
    match found.await {
        Ok(kinds) => {
            let list: Vec<_> = kinds.iter().map(|kind| json!({ "Type": kind })).collect();
            text(json!(list).to_string())
        }
        Err(e) => failure(&e),
    }
}

async fn exchange(
    context: &Context,
    request: &HttpRequest,
    target: Target,
    sdp: String,
) -> Result<Answer, Error> {
    let offer = Offer {
        target,
        sdp,
        client: client(request),
        host: called(request),
        flavour: FLAVOUR.name,
    };
    accept(context, offer).await
}

fn sentences(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| &*note.sentence).collect()
}

fn diagnoses(notes: &[Note]) -> Vec<&Diagnosis> {
    notes.iter().map(|note| &note.diagnosis).collect()
}

/// Each kind of track once, in the camera's order.
fn kinds(tracks: &[Track]) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for track in tracks {
        let kind = track.kind().name();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn text(body: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(body)
}

/// A JSON object with the reason: the one shape of error that every client of this dialect reads.
fn failure(error: &Error) -> HttpResponse {
    log_refusal(error);
    let status = StatusCode::from_u16(error.kind().http_status());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    if error.kind().http_status() == 503 {
        response.insert_header(("Retry-After", "1"));
    }
    response.json(json!({ "error": error.to_string(), "verdict": error.diagnosis() }))
}
