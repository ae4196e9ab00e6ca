//! The dialect of go2rtc, which Home Assistant has spoken since 2024.11: a list of streams that clients
//! register, a WebSocket for offer, answer and candidates, and still pictures.
//!
//! Where go2rtc answers a camera that is dead with an empty picture, or opens a playing camera anew when
//! it is registered again, this tells the reason and leaves everybody alone.

mod conversation;
mod message;
mod preload;
mod socket;
mod still;
mod streams;
mod webrtc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use serde_json::{Value, json};

use super::{Flavour, Target, encoding::called, find, log_refusal, named};
use crate::{
    base::{Error, ErrorKind, SourceText},
    context::Context,
    source::KINDS,
};

/// What go2rtc serves under `/api`, without its other transports.
pub const FLAVOUR: Flavour = Flavour {
    name: "go2rtc",
    routes: &[
        ("GET", "/api"),
        ("GET", "/api/schemes"),
        ("GET", "/api/streams"),
        ("PUT", "/api/streams"),
        ("PATCH", "/api/streams"),
        ("POST", "/api/streams"),
        ("DELETE", "/api/streams"),
        ("GET", "/api/preload"),
        ("PUT", "/api/preload"),
        ("DELETE", "/api/preload"),
        ("POST", "/api/webrtc"),
        ("GET", "/api/ws"),
        ("GET", "/api/frame.jpeg"),
    ],
    mount,
};

/// The release of go2rtc whose interface this is: Home Assistant refuses what is below 1.9.13 and asks
/// for an update below this.
const VERSION: &str = "1.9.15";

fn mount(routes: &mut web::ServiceConfig) {
    for (path, answer) in [
        ("/api", about as fn(&HttpRequest) -> Value),
        ("/api/schemes", schemes),
    ] {
        let answer = move |request: HttpRequest| async move { line(&answer(&request)) };
        let resource = web::resource(path)
            .route(web::get().to(answer))
            .route(web::head().to(answer));
        routes.service(resource);
    }
    routes
        .configure(streams::mount)
        .configure(preload::mount)
        .configure(webrtc::mount)
        .configure(socket::mount)
        .configure(still::mount);
}

fn about(request: &HttpRequest) -> Value {
    json!({ "version": VERSION, "host": called(request).unwrap_or_default() })
}

/// What a source may begin with. `ffmpeg` is no program here but a notation that clients use for what
/// they want of a camera; see [`SourceText`].
fn schemes(_: &HttpRequest) -> Value {
    let cameras = KINDS.iter().flat_map(|kind| {
        let all = kind.schemes.iter();
        all.filter(|scheme| !kind.only_configured.contains(scheme))
    });
    // The built-in pattern has a name, and is nobody's camera.
    let cameras = cameras.filter(|scheme| scheme.starts_with("rtsp"));
    json!(cameras.chain(&["ffmpeg"]).collect::<Vec<_>>())
}

/// One line of JSON, as go2rtc writes it.
fn line(value: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(format!("{value}\n"))
}

/// One line for people.
fn told(status: StatusCode, sentence: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(format!("{sentence}\n"))
}

fn missing(parameter: &str) -> HttpResponse {
    let sentence = format!("the parameter `{parameter}` is missing");
    told(StatusCode::BAD_REQUEST, &sentence)
}

fn failure(error: &Error) -> HttpResponse {
    log_refusal(error);
    let status = StatusCode::from_u16(error.kind().http_status());
    let mut response = told(
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        &sentence(error),
    );
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        let after = header::HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// An error as this dialect's clients expect it, who look for go2rtc's own words.
fn sentence(error: &Error) -> String {
    if error.kind() == ErrorKind::NotFound {
        format!("stream not found: {error}")
    } else {
        error.to_string()
    }
}

/// The name under which a stream is kept and listed: what the client calls it, without the password if
/// that is a URL. Clients that give no name mean the source itself.
fn public(name: &str) -> String {
    SourceText::parse(name).map_or_else(|_| name.to_owned(), |source| source.to_string())
}

/// The stream of this name. A URL with a password is the name of the camera with that password only:
/// others may have the same without it.
fn known(context: &Context, name: &str) -> Result<Target, Error> {
    let shown = public(name);
    let found = named(context, &shown)?;
    let asked = SourceText::parse(name).ok().filter(|_| shown != name);
    let is_other = asked.is_some_and(|asked| asked.camera() != Some(&found.camera.url));
    if is_other {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there is no camera with this URL and these credentials",
        ));
    }
    Ok(found)
}

/// The stream of this name, or the camera at this URL.
fn named_or_url(context: &Context, source: &str) -> Result<Target, Error> {
    known(context, source).or_else(|_| find(context, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_a_url_loses_its_password_and_others_stay() {
        assert_eq!(public("rtsp://u:hunter2@h/x"), "rtsp://***@h/x");
        for name in [
            "camera.front_door",
            "onvif_00%3A11%23profile_1",
            "onvif_00:11#profile_1",
            "rtsp://***@h/x",
            "a b",
            "rtsp://h/x#media=video",
        ] {
            assert_eq!(public(name), name);
        }
    }
}
