//! `POST /api/webrtc`: an offer in one request, in any of four forms.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{FLAVOUR, failure, known, line, missing, told};
use crate::{
    base::{Error, ErrorKind},
    context::Context,
    signaling::{
        Offer, accept,
        encoding::{Fields, base64, body, called, client, not_an_object, session_description},
    },
};

pub(super) fn mount(routes: &mut web::ServiceConfig) {
    routes.service(web::resource("/api/webrtc").route(web::post().to(offer)));
}

/// What the body is, by its content type; the answer is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A JSON object with `sdp`.
    Object,
    /// An HTML form with base64 in `data`.
    Fields,
    /// `application/sdp`, for which go2rtc has the status of WHIP.
    Sdp,
    /// The session description under any other name.
    Text,
}

impl Form {
    fn of(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match &*kind.to_ascii_lowercase() {
            "application/json" => Self::Object,
            "application/x-www-form-urlencoded" => Self::Fields,
            "application/sdp" => Self::Sdp,
            _ => Self::Text,
        }
    }

    fn read(self, body: &Bytes) -> Result<String, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
        let text = str::from_utf8(body)
            .map_err(|_| invalid("the request's body is not text".to_owned()))?;
        match self {
            Self::Object => {
                let object: Value = serde_json::from_str(text).map_err(|e| not_an_object(&e))?;
                let sdp = object["sdp"].as_str().map(ToOwned::to_owned);
                sdp.ok_or_else(|| invalid("the JSON object has no text in `sdp`".to_owned()))
            }
            Self::Fields => session_description(Fields::of_query(text).require("data")?),
            Self::Sdp | Self::Text => Ok(text.to_owned()),
        }
    }
}

async fn offer(
    context: web::Data<Context>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(name) = query.get("src") else {
        if query.get("dst").is_some() {
            return told(
                StatusCode::BAD_REQUEST,
                "publishing (dst) is not offered; register the camera with PUT /api/streams",
            );
        }
        return missing("src");
    };
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let form = content_type
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .map_or(Form::Text, Form::of);
    let answered = async {
        // A URL opens nothing here: only what is registered.
        let target = known(&context, name)?;
        let offer = Offer {
            target,
            sdp: form.read(&body(&request, payload).await?)?,
            client: client(&request),
            host: called(&request),
            flavour: FLAVOUR.name,
        };
        accept(&context, offer).await
    };
    let sdp = match answered.await {
        Ok(answer) => answer.sdp,
        Err(e) => return failure(&e),
    };
    // Said back as it came, as go2rtc does; not as something that a browser would run.
    let echoed = content_type.filter(|value| !is_active(value.as_bytes()));
    let reply = |mut response: HttpResponseBuilder| {
        if let Some(value) = echoed {
            response.insert_header((header::CONTENT_TYPE, value));
        }
        response
    };
    match form {
        Form::Object => line(&json!({ "type": "answer", "sdp": sdp })),
        Form::Fields => reply(HttpResponse::Ok()).body(base64(&sdp)),
        Form::Sdp => HttpResponse::Created()
            .content_type("application/sdp")
            .body(sdp),
        Form::Text => reply(HttpResponse::Ok()).body(sdp),
    }
}

/// Whether a browser may find scripts in what has this content type.
fn is_active(content_type: &[u8]) -> bool {
    let kind = content_type.to_ascii_lowercase();
    ["html", "xml", "script"].iter().any(|part| {
        kind.windows(part.len())
            .any(|window| window == part.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_run_is_not_said_back() {
        for active in [
            "text/html",
            "Application/XHTML+XML",
            "image/svg+xml",
            "text/javascript",
        ] {
            assert!(is_active(active.as_bytes()), "{active}");
        }
        assert!(!is_active(b"text/plain; charset=utf-8") && !is_active(b"application/x-sdp"));
    }

    #[test]
    fn the_form_is_told_by_the_content_type_whatever_its_case_and_parameters() {
        for (content_type, expected) in [
            ("application/json", Form::Object),
            ("Application/JSON; charset=utf-8", Form::Object),
            ("application/x-www-form-urlencoded", Form::Fields),
            ("APPLICATION/SDP ; x=1", Form::Sdp),
            ("text/plain", Form::Text),
            ("", Form::Text),
        ] {
            assert_eq!(Form::of(content_type), expected, "{content_type}");
        }
    }
}
