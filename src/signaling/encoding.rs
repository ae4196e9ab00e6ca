//! Bodies, fields and base64 as clients send them.

use std::{net::IpAddr, time::Duration};

use actix_multipart::{Multipart, MultipartError};
use actix_web::{HttpRequest, error::PayloadError, http::header, web};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use bytes::Bytes;
use futures::StreamExt;

use crate::base::{Error, ErrorKind, Verdict};

/// Largest request body, in bytes. Home Assistant's form with the largest offer seen has 70 KB.
pub(super) const BODY_MAX: usize = 256 << 10;
/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// By which name or address the client has reached us, or the proxy in front of us: the address at which
/// it will look for media too.
pub(super) fn called(request: &HttpRequest) -> Option<String> {
    let headers = request.headers();
    let forwarded = headers
        .get("x-forwarded-host")
        .or_else(|| headers.get(header::HOST));
    // Of a row of proxies the first is the one that the client knows.
    let name = forwarded?.to_str().ok()?.split(',').next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// From where the request came.
pub(super) fn client(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip().to_canonical())
}

/// Whether a proxy says that the request came from somewhere else.
pub(super) fn is_forwarded(request: &HttpRequest) -> bool {
    let headers = request.headers();
    ["Forwarded", "X-Forwarded-For", "X-Real-IP"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// The fields of a request: an HTML form of either encoding, or a JSON object.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of a query, whose values may hold `?`, `:`, `/` and `@` as they are.
    pub(super) fn of_query(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// All of them in their order, empty ones as well.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of the first field called `name`, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The same, or an error that names what is missing.
    pub(super) fn require(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| {
            invalid(format!(
                "the field `{name}` is missing; send it in a form or a JSON object"
            ))
        })
    }

    /// Reads the fields of a request.
    ///
    /// # Errors
    /// `TooLarge`, `TooSlow`, or `InvalidArgument` when it is neither form nor JSON.
    pub(super) async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Self, Error> {
        in_time(read(request, payload)).await
    }
}

/// Reads a whole body, whatever it says that it is.
///
/// # Errors
/// `TooLarge`, `TooSlow`, or `InvalidArgument` when it breaks off.
pub(super) async fn body(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Error> {
    in_time(whole(request, payload)).await
}

async fn in_time<T>(reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(BODY_LIMIT, reading)
        .await
        .map_err(|_| {
            let message = format!(
                "the request's body did not arrive within {} s",
                BODY_LIMIT.as_secs()
            );
            Error::new(ErrorKind::TooSlow, message)
        })?
}

async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Fields, Error> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/x-www-form-urlencoded")
        .to_ascii_lowercase();
    if content_type.starts_with("multipart/form-data") {
        check_length(request)?;
        return multipart(request, payload).await;
    }
    let body = whole(request, payload).await?;
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/x-www-form-urlencoded" => {
            let pairs = url::form_urlencoded::parse(&body);
            Ok(Fields(pairs.into_owned().collect()))
        }
        "application/json" => json(&body),
        other => Err(invalid(format!(
            "the content type {other:?} is not known here; send a form \
             (application/x-www-form-urlencoded or multipart/form-data) or application/json"
        ))),
    }
}

async fn whole(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Error> {
    check_length(request)?;
    match payload.to_bytes_limited(BODY_MAX).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(e)) => Err(invalid(format!("the request's body broke off: {e}"))),
        Err(_) => Err(too_large()),
    }
}

/// Refuses a body that says beforehand that it is too large.
fn check_length(request: &HttpRequest) -> Result<(), Error> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_MAX) {
        return Err(too_large());
    }
    Ok(())
}

async fn multipart(request: &HttpRequest, payload: web::Payload) -> Result<Fields, Error> {
    let broken = |e: MultipartError| match e {
        MultipartError::Payload(PayloadError::Overflow) => too_large(),
        e => invalid(format!("the form cannot be read: {e}")),
    };
    // Names and borders count as well: the parser keeps what it cannot make sense of yet.
    let mut size = 0;
    let bounded = payload.map(move |chunk| {
        let chunk = chunk?;
        size += chunk.len();
        if size > BODY_MAX {
            return Err(PayloadError::Overflow);
        }
        Ok(chunk)
    });
    let mut form = Multipart::new(request.headers(), bounded);
    let mut fields = Fields::default();
    while let Some(field) = form.next().await {
        let mut field = field.map_err(broken)?;
        let name = field.name().unwrap_or_default().to_owned();
        let mut value = Vec::new();
        while let Some(chunk) = field.next().await {
            value.extend_from_slice(&chunk.map_err(broken)?);
        }
        fields
            .0
            .push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(fields)
}

/// Tells where it is not, without the text that stands there: it may be a password.
pub(super) fn not_an_object(e: &serde_json::Error) -> Error {
    invalid(format!(
        "the body is not a JSON object of the expected form (line {}, column {})",
        e.line(),
        e.column()
    ))
}

fn json(body: &[u8]) -> Result<Fields, Error> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(|e| not_an_object(&e))?;
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(Fields(
        object
            .into_iter()
            .map(|(key, value)| (key, text(value)))
            .collect(),
    ))
}

/// Decodes a session description from base64: standard or URL-safe, padded or not, with line breaks.
///
/// # Errors
/// `InvalidArgument` when it is something else.
pub(super) fn session_description(text: &str) -> Result<String, Error> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let alphabet = if compact.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    let bytes = GeneralPurpose::new(&alphabet, LENIENT)
        .decode(compact)
        .map_err(|e| {
            let hint = if text.contains(' ') {
                "; a + in a form must be written as %2B"
            } else {
                ""
            };
            bad_offer(format!("the session description is not base64 ({e}){hint}"))
        })?;
    String::from_utf8(bytes).map_err(|_| {
        bad_offer("the session description is base64 of something that is not text".to_owned())
    })
}

/// Encodes as every client can read it: standard, padded.
pub(super) fn base64(text: &str) -> String {
    general_purpose::STANDARD.encode(text)
}

/// Undoes the escaping of HTML in a URL, which a page that copied it from its source may leave.
pub(super) fn unescape_html(url: &str) -> String {
    url.replace("&amp;", "&").replace("&#38;", "&")
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn bad_offer(message: String) -> Error {
    Error::new(Verdict::BadOffer, message)
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the request is larger than {} KiB", BODY_MAX >> 10),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_either_alphabet_is_decoded() {
        let sdp = "a=x:>>>???~\r\n";
        let standard = base64(sdp);
        assert!(
            standard.contains('+') || standard.contains('/'),
            "{standard}"
        );
        let safe = standard.replace('+', "-").replace('/', "_");
        for text in [
            &standard,
            &safe,
            standard.trim_end_matches('='),
            &format!("{}\r\n{}", &standard[..4], &standard[4..]),
        ] {
            assert_eq!(session_description(text).unwrap(), sdp, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_not_waited_for() {
        let never = in_time(std::future::pending::<Result<(), Error>>()).await;
        assert_eq!(never.unwrap_err().verdict(), Verdict::RequestTooSlow);
    }

    #[test]
    fn a_plus_that_became_a_space_is_explained() {
        let error = session_description("dj0wDQo Pj4=").unwrap_err();
        assert!(error.to_string().contains("%2B"), "{error}");
        assert!(
            session_description("//8=")
                .unwrap_err()
                .to_string()
                .contains("not text")
        );
    }
}
