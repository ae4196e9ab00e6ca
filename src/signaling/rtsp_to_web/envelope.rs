//! What every answer but that to an offer looks like: `status`, 1 or 0, and `payload`.

use std::{collections::BTreeMap, fmt};

use actix_web::{HttpResponse, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json, ser::PrettyFormatter};

use crate::{
    base::{Diagnosis, Error, ErrorKind},
    signaling::log_refusal,
};

/// Why a request of this dialect fails. Most are told in the original's words.
#[derive(Debug)]
pub(super) enum Fault {
    StreamNotFound,
    StreamExists,
    ChannelNotFound,
    ChannelExists,
    /// The camera does not tell its tracks, for this reason.
    NotReady(Error),
    /// A request for several streams names none.
    NoStreams,
    /// Not JSON, or not of the expected shape, from this place on; both count from 1.
    Malformed {
        line: usize,
        column: usize,
    },
    Other(Error),
}

impl Fault {
    /// The original knows 400 and 500; of ours, those about the request's size and pace stay.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoStreams | Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::Other(error) => match error.kind() {
                ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
                ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Not of what is told in the original's words alone: those are left as they were.
    fn diagnosis(&self) -> Option<Diagnosis> {
        match self {
            Self::NotReady(error) | Self::Other(error) => Some(error.diagnosis().clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::StreamNotFound => "stream not found",
            Self::StreamExists => "stream already exists",
            Self::ChannelNotFound => "stream channel not found",
            Self::ChannelExists => "stream channel already exists",
            Self::NotReady(_) => "stream channel codec not ready, possible stream offline",
            Self::NoStreams => "streams len zero",
            Self::Malformed { line, column } => {
                return write!(
                    f,
                    "the body is not the JSON that is expected here, from line {line} column {column} on"
                );
            }
            Self::Other(error) => return error.fmt(f),
        };
        f.write_str(text)
    }
}

#[derive(Serialize)]
struct Envelope {
    /// A number: clients print it and compare with "1".
    status: u8,
    payload: Value,
    /// Ours; clients pass it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Diagnosis>,
}

impl Envelope {
    fn success(payload: Value) -> Self {
        Self {
            status: 1,
            payload,
            verdict: None,
        }
    }

    fn failure(fault: &Fault) -> Self {
        match fault {
            Fault::Other(error) | Fault::NotReady(error) => log_refusal(error),
            _ => tracing::debug!(error = %fault, "request refused"),
        }
        Self {
            status: 0,
            payload: json!(fault.to_string()),
            verdict: fault.diagnosis(),
        }
    }

    /// With four spaces, as the original writes it.
    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let indented = PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indented);
        // Neither writing to memory nor values made here can fail.
        let _ = self.serialize(&mut writer);
        text
    }
}

pub(super) fn reply(result: Result<Value, Fault>) -> HttpResponse {
    match result {
        Ok(payload) => HttpResponse::Ok()
            .content_type("application/json; charset=utf-8")
            .body(Envelope::success(payload).text()),
        Err(fault) => failure(&fault),
    }
}

pub(super) fn failure(fault: &Fault) -> HttpResponse {
    // The original tells of malformed JSON so.
    let content_type = match fault {
        Fault::Malformed { .. } => "text/plain; charset=utf-8",
        _ => "application/json; charset=utf-8",
    };
    HttpResponse::build(fault.status())
        .content_type(content_type)
        .body(Envelope::failure(fault).text())
}

/// A result for each of several streams. Its status is 200 even if some failed; the outer envelope
/// tells that.
pub(super) fn replies(
    results: impl IntoIterator<Item = (String, Result<(), Fault>)>,
) -> HttpResponse {
    let mut status = 1;
    let mut payload = BTreeMap::new();
    for (id, result) in results {
        let envelope = match result {
            Ok(()) => Envelope::success(json!("success")),
            Err(fault) => {
                status = 0;
                Envelope::failure(&fault)
            }
        };
        payload.insert(id, envelope);
    }
    let payload = json!(payload);
    HttpResponse::Ok()
        .content_type("application/json; charset=utf-8")
        .body(
            Envelope {
                status,
                payload,
                verdict: None,
            }
            .text(),
        )
}
