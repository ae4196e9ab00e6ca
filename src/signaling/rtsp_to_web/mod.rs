//! The dialect of RTSPtoWeb: streams of channels, which clients add and change, and a form with `data`
//! for the offer. It is off unless the configuration has `rtsp_to_web`, because a client that finds
//! `GET /streams` makes three requests where the other dialect makes one.
//!
//! A stream is not a thing of its own here. Its channel 0 is the registered camera of the stream's name,
//! so that every other dialect plays it by that name; its channel 7 is the camera `NAME/7`.

mod access;
mod body;
mod envelope;
mod streams;

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    guard::{self, GuardContext},
    http::Method,
    web,
};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    access::{Caller, ProgramOrLogin},
    body::{ChannelBody, StreamBody},
    envelope::{Fault, failure, reply},
    streams::Streams,
};
use super::{
    Answer, Flavour, Offer, accept,
    encoding::{self, Fields, base64, called, client, session_description},
    tracks,
};
use crate::{
    base::{Error, ErrorKind},
    context::Context,
};

/// Streams of one request.
const STREAMS_MAX: usize = 128;

/// `/streams`, and all below `/stream/{uuid}` but what only players of other kinds use.
pub const FLAVOUR: Flavour = Flavour {
    name: "rtsp_to_web",
    routes: &[
        ("GET", "/streams"),
        ("POST", "/streams/multi/control/add"),
        ("POST", "/streams/multi/control/delete"),
        ("POST", "/stream/{uuid}/add"),
        ("POST", "/stream/{uuid}/edit"),
        ("GET", "/stream/{uuid}/delete"),
        ("GET", "/stream/{uuid}/reload"),
        ("GET", "/stream/{uuid}/info"),
        ("POST", "/stream/{uuid}/channel/{channel}/add"),
        ("POST", "/stream/{uuid}/channel/{channel}/edit"),
        ("GET", "/stream/{uuid}/channel/{channel}/delete"),
        ("GET", "/stream/{uuid}/channel/{channel}/codec"),
        ("GET", "/stream/{uuid}/channel/{channel}/reload"),
        ("GET", "/stream/{uuid}/channel/{channel}/info"),
        ("POST", "/stream/{uuid}/channel/{channel}/webrtc"),
    ],
    mount,
};

fn mount(routes: &mut web::ServiceConfig) {
    let get = || {
        web::route()
            .method(Method::GET)
            .guard(guard::fn_guard(is_on))
    };
    let post = || {
        web::route()
            .method(Method::POST)
            .guard(guard::fn_guard(is_on))
    };
    let stream = |verb: &str| format!("/stream/{{uuid}}/{verb}");
    let channel = |verb: &str| format!("/stream/{{uuid}}/channel/{{channel}}/{verb}");
    routes
        .route("/streams", get().to(list))
        .route("/streams/multi/control/add", post().to(add_many))
        .route("/streams/multi/control/delete", post().to(delete_many))
        .route(&stream("add"), post().to(add))
        .route(&stream("edit"), post().to(edit))
        .route(&stream("delete"), get().to(delete))
        .route(&stream("reload"), get().to(reload))
        .route(&stream("info"), get().to(info))
        .route(&channel("add"), post().to(add_channel))
        .route(&channel("edit"), post().to(edit_channel))
        .route(&channel("delete"), get().to(delete_channel))
        .route(&channel("codec"), get().to(codec))
        .route(&channel("reload"), get().to(reload_channel))
        .route(&channel("info"), get().to(channel_info))
        .route(&channel("webrtc"), post().to(webrtc));
}

/// A route that is off is as if it were not there: the next that has its path answers, or nobody does.
fn is_on(request: &GuardContext<'_>) -> bool {
    let context = request.app_data::<web::Data<Context>>();
    context.is_some_and(|context| context.config.rtsp_to_web.is_some())
}

/// The path's stream and channel, each decoded once.
type Place = web::Path<(String, String)>;

async fn list(caller: Caller) -> HttpResponse {
    reply(Ok(json!(Streams::of(&caller.context).list())))
}

/// Several streams at once, each with a result of its own.
#[derive(Deserialize)]
struct Many {
    streams: Option<BTreeMap<String, StreamBody>>,
}

async fn add_many(caller: Caller, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let body = json_body::<Many>(&request, payload).await;
    let several = body.map(|body| body.streams.unwrap_or_default());
    match several.and_then(|several| few(several.len(), several)) {
        Ok(several) => envelope::replies(several.into_iter().map(|(id, body)| {
            let added = Streams::of(&caller.context).add(&id, &body);
            (id, added)
        })),
        Err(fault) => failure(&fault),
    }
}

async fn delete_many(caller: Caller, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let several = json_body::<Vec<String>>(&request, payload).await;
    match several.and_then(|several| few(several.len(), several)) {
        Ok(several) => envelope::replies(several.into_iter().map(|id| {
            let deleted = Streams::of(&caller.context).delete(&id);
            (id, deleted)
        })),
        Err(fault) => failure(&fault),
    }
}

/// Lets a request for several streams pass that names at least one, and not too many for one request.
fn few<T>(number: usize, several: T) -> Result<T, Fault> {
    match number {
        0 => Err(Fault::NoStreams),
        1..=STREAMS_MAX => Ok(several),
        _ => {
            let message = format!("a request is for at most {STREAMS_MAX} streams");
            Err(Error::new(ErrorKind::InvalidArgument, message).into())
        }
    }
}

async fn add(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let body = json_body(&request, payload).await;
    done(body.and_then(|body| Streams::of(&caller.context).add(&id, &body)))
}

async fn edit(
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let body = json_body(&request, payload).await;
    done(body.and_then(|body| Streams::of(&caller.context).edit(&id, &body)))
}

async fn delete(caller: ProgramOrLogin, id: web::Path<String>) -> HttpResponse {
    done(Streams::of(&caller.context).delete(&id))
}

/// Does nothing to a camera that is there: a connection that broke is opened again without being asked,
/// and one that works is not taken from those who watch.
async fn reload(caller: ProgramOrLogin, id: web::Path<String>) -> HttpResponse {
    done(Streams::of(&caller.context).info(&id).map(drop))
}

async fn info(caller: Caller, id: web::Path<String>) -> HttpResponse {
    let found = Streams::of(&caller.context).info(&id);
    reply(found.map(|stream| json!(stream)))
}

async fn add_channel(
    caller: Caller,
    place: Place,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let (id, channel) = &*place;
    let body = json_body::<ChannelBody>(&request, payload).await;
    done(body.and_then(|body| Streams::of(&caller.context).add_channel(id, channel, &body)))
}

async fn edit_channel(
    caller: Caller,
    place: Place,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let (id, channel) = &*place;
    let body = json_body::<ChannelBody>(&request, payload).await;
    done(body.and_then(|body| Streams::of(&caller.context).edit_channel(id, channel, &body)))
}

async fn delete_channel(caller: ProgramOrLogin, place: Place) -> HttpResponse {
    let (id, channel) = &*place;
    done(Streams::of(&caller.context).delete_channel(id, channel))
}

/// See [`reload`].
async fn reload_channel(caller: ProgramOrLogin, place: Place) -> HttpResponse {
    let (id, channel) = &*place;
    done(Streams::of(&caller.context).channel(id, channel).map(drop))
}

async fn channel_info(caller: Caller, place: Place) -> HttpResponse {
    let (id, channel) = &*place;
    let found = Streams::of(&caller.context).channel_info(id, channel);
    reply(found.map(|channel| json!(channel)))
}

/// The tracks of a camera, which is opened for that.
async fn codec(caller: Caller, place: Place) -> HttpResponse {
    let (id, channel) = &*place;
    let found = async {
        let target = Streams::of(&caller.context).channel(id, channel)?;
        let context = caller.context.clone();
        let work = async move { tracks(&context, &target.camera).await };
        let tracks = caller.context.tasks.run("codec", work).await;
        let tracks = tracks.flatten().map_err(Fault::NotReady)?;
        let listed = tracks
            .playable()
            .into_iter()
            .map(|track| json!({ "Type": track.kind().name(), "Codec": track.codec.name() }));
        Ok(Value::Array(listed.collect()))
    };
    reply(found.await)
}

/// An offer. Open to everybody who may reach the server, whatever [`Caller`] asks of others.
async fn webrtc(
    context: web::Data<Context>,
    place: Place,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let (id, channel) = &*place;
    match exchange(&context, id, channel, &request, payload).await {
        Ok(answer) => HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .body(base64(&answer.sdp)),
        Err(fault) => failure(&fault),
    }
}

async fn exchange(
    context: &Context,
    id: &str,
    channel: &str,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Answer, Fault> {
    let fields = Fields::read(request, payload).await?;
    let sdp = session_description(fields.require("data")?)?;
    let offer = Offer {
        target: Streams::of(context).channel(id, channel)?,
        sdp,
        client: client(request),
        host: called(request),
        flavour: FLAVOUR.name,
    };
    Ok(accept(context, offer).await?)
}

fn done(result: Result<(), Fault>) -> HttpResponse {
    reply(result.map(|()| json!("success")))
}

/// The body as JSON, whatever type it says it has: so does the original.
async fn json_body<T: for<'a> Deserialize<'a>>(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<T, Fault> {
    let body = encoding::body(request, payload).await?;
    // The error's own text may repeat a URL with its password.
    serde_json::from_slice(&body).map_err(|e| Fault::Malformed {
        line: e.line(),
        column: e.column(),
    })
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

#[cfg(test)]
mod tests;
