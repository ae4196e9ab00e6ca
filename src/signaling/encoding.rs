//! Fields and base64 as clients send them.

use std::{net::IpAddr, time::Duration};

use actix_multipart::Multipart;
use actix_web::{HttpRequest, http::header, web};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use futures::StreamExt;

use crate::base::{Error, ErrorKind};

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

/// The fields of a request: an HTML form of either encoding, or a JSON object.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
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
        tokio::time::timeout(BODY_LIMIT, read(request, payload))
            .await
            .map_err(|_| {
                let message = format!(
                    "the request's body did not arrive within {} s",
                    BODY_LIMIT.as_secs()
                );
                Error::new(ErrorKind::TooSlow, message)
            })?
    }
}

async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Fields, Error> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/x-www-form-urlencoded")
        .to_ascii_lowercase();
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_MAX) {
        return Err(too_large());
    }
    if content_type.starts_with("multipart/form-data") {
        return multipart(request, payload).await;
    }
    let body = match payload.to_bytes_limited(BODY_MAX).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => return Err(invalid(format!("the request's body broke off: {e}"))),
        Err(_) => return Err(too_large()),
    };
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

async fn multipart(request: &HttpRequest, payload: web::Payload) -> Result<Fields, Error> {
    let broken =
        |e: actix_multipart::MultipartError| invalid(format!("the form cannot be read: {e}"));
    let mut form = Multipart::new(request.headers(), payload.into_inner());
    let mut fields = Fields::default();
    let mut size = 0;
    while let Some(field) = form.next().await {
        let mut field = field.map_err(broken)?;
        let name = field.name().unwrap_or_default().to_owned();
        let mut value = Vec::new();
        while let Some(chunk) = field.next().await {
            let chunk = chunk.map_err(broken)?;
            size += chunk.len();
            if size > BODY_MAX {
                return Err(too_large());
            }
            value.extend_from_slice(&chunk);
        }
        fields
            .0
            .push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(fields)
}

fn json(body: &[u8]) -> Result<Fields, Error> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
        .map_err(|e| invalid(format!("the body is not a JSON object: {e}")))?;
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
            invalid(format!("the session description is not base64 ({e}){hint}"))
        })?;
    String::from_utf8(bytes).map_err(|_| {
        invalid("the session description is base64 of something that is not text".to_owned())
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
