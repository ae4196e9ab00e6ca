//! `GET /api/ws`: the WebSocket, of which [`conversation`](super::conversation) makes sense.

use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessageStream, CloseCode, ProtocolError};
use tokio::sync::{Semaphore, mpsc};

use super::{
    conversation::{Conversation, Wanted},
    failure,
    message::Received,
};
use crate::{
    base::{Error, ErrorKind},
    context::Context,
    signaling::encoding::{BODY_MAX, Fields, called, client, is_forwarded},
};

/// Sockets of all clients that are open at once. Half of what HTTP takes: the rest is for requests.
const SOCKETS_MAX: usize = 512;
/// Messages of one client that wait to be understood.
const WAITING_MAX: usize = 8;

/// A place for each of them. Every thread that serves HTTP mounts its own routes, so it is here.
static PLACES: Semaphore = Semaphore::const_new(SOCKETS_MAX);

pub(super) fn mount(routes: &mut web::ServiceConfig) {
    routes.service(web::resource("/api/ws").route(web::get().to(open)));
}

/// Opens always: what is wrong with `src` is told when the offer comes, where clients listen.
async fn open(
    context: web::Data<Context>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let Ok(place) = PLACES.try_acquire() else {
        return failure(&Error::new(
            ErrorKind::ResourceExhausted,
            format!("{SOCKETS_MAX} WebSockets are open, which is the limit; close some"),
        ));
    };
    let (response, out, messages) = match actix_ws::handle(&request, payload) {
        Ok(opened) => opened,
        Err(e) => return HttpResponse::from_error(e),
    };
    let messages = messages
        .max_frame_size(BODY_MAX)
        .aggregate_continuations()
        .max_continuation_size(BODY_MAX);
    let (inbox, received) = mpsc::channel(WAITING_MAX);
    // The stream cannot leave its thread. The task ends with the connection or the conversation.
    actix_web::rt::spawn(pass_on(messages, inbox));
    let query = Fields::of_query(request.query_string());
    let text = |name| query.get(name).map(ToOwned::to_owned);
    let wanted = Wanted {
        source: text("src"),
        name: text("name"),
        is_publishing: text("dst").is_some(),
        client: client(&request),
        is_forwarded: is_forwarded(&request),
        host: called(&request),
    };
    let conversation = Conversation::new(Context::clone(&context), wanted, out);
    context.tasks.spawn("go2rtc socket", async move {
        conversation.run(received).await;
        drop(place);
    });
    response
}

async fn pass_on(mut messages: AggregatedMessageStream, inbox: mpsc::Sender<Received>) {
    loop {
        let received = tokio::select! {
            received = messages.recv() => received,
            () = inbox.closed() => return,
        };
        let Some(received) = received else {
            return;
        };
        let received = received.map_err(|e| match e {
            ProtocolError::Overflow => CloseCode::Size,
            _ => CloseCode::Protocol,
        });
        let is_last = received.is_err();
        if inbox.send(received).await.is_err() || is_last {
            return;
        }
    }
}
