//! Who may list and change streams.

use std::future::{Ready, ready};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    error::InternalError,
    http::header::{self, HeaderMap},
    web,
};

use super::envelope::Fault;
use crate::{
    base::{Error, ErrorKind},
    context::Context,
    signaling::credentials::{self, is_browser},
};

/// Somebody who may list and change streams: has shown the login of this dialect, if it has one. What
/// `auth` wants is as good, as that allows more.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) context: web::Data<Context>,
    /// Whether a login was asked for and shown.
    has_login: bool,
}

impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

impl Caller {
    fn of(request: &HttpRequest) -> Result<Self, actix_web::Error> {
        let Some(context) = request.app_data::<web::Data<Context>>() else {
            let error = Error::new(
                ErrorKind::Internal,
                "the server was built without its context",
            );
            return Err(refusal("no context", super::failure(&Fault::Other(error))));
        };
        let headers = request.headers();
        let config = &context.config;
        let login = config.rtsp_to_web.as_ref().and_then(|it| it.login.as_ref());
        let has_login = login.is_some_and(|login| credentials::is_login(login, headers))
            || config
                .auth
                .as_ref()
                .is_some_and(|auth| credentials::are_shown(auth, headers));
        if login.is_some() && !has_login {
            let challenge = (header::WWW_AUTHENTICATE, credentials::BASIC);
            let response = HttpResponse::Unauthorized()
                .insert_header(challenge)
                .finish();
            return Err(refusal("no login", response));
        }
        Ok(Self {
            context: context.clone(),
            has_login,
        })
    }
}

/// The same, for requests that change something although they are a GET, which a page of anybody can
/// make a browser send without an `Origin`. So they are taken from programs; and from a browser only
/// with a login, and if it says that no other site's page is behind it, as browsers add logins by
/// themselves.
#[derive(Debug)]
pub(super) struct ProgramOrLogin {
    pub(super) context: web::Data<Context>,
}

impl FromRequest for ProgramOrLogin {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let checked = Caller::of(request).and_then(|caller| {
            let headers = request.headers();
            if is_browser(headers) && !(caller.has_login && is_own_page(headers)) {
                let error = Error::new(
                    ErrorKind::PermissionDenied,
                    "this request changes something although it is a GET; it is taken from programs, \
                     and from a browser only with a login",
                );
                let mut response = super::failure(&Fault::Other(error));
                *response.status_mut() = actix_web::http::StatusCode::FORBIDDEN;
                return Err(refusal("from a browser", response));
            }
            let context = caller.context;
            Ok(Self { context })
        });
        ready(checked)
    }
}

/// Whether a browser says that a page of ours, or nobody's, is behind this. One that says nothing may
/// have been made to by a page of somebody else.
fn is_own_page(headers: &HeaderMap) -> bool {
    let host = text(headers, "host").unwrap_or_default();
    let is_ours = |url: &str| {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.eq_ignore_ascii_case(host)
    };
    let says = [
        text(headers, "sec-fetch-site").map(|site| matches!(site, "same-origin" | "none")),
        text(headers, "origin").map(is_ours),
        text(headers, "referer").map(is_ours),
    ];
    let mut says = says.into_iter().flatten().peekable();
    says.peek().is_some() && says.all(|own| own)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // What cannot be read is nobody's name.
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

fn refusal(cause: &'static str, response: HttpResponse) -> actix_web::Error {
    tracing::debug!(cause, "request refused");
    InternalError::from_response(cause, response).into()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("nas:8083"));
        for (name, value) in pairs {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn every_mark_of_a_browser_is_seen() {
        assert!(!is_browser(&headers(&[
            (
                "user-agent",
                "HomeAssistant/2025.1.4 aiohttp/3.11 Python/3.13"
            ),
            ("accept", "*/*"),
        ])));
        for mark in [
            ("origin", "http://nas:8083"),
            ("referer", "http://nas:8083/"),
            ("sec-fetch-mode", "no-cors"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
            ),
        ] {
            assert!(is_browser(&headers(&[mark])), "{mark:?}");
        }
    }

    #[test]
    fn our_own_pages_are_told_from_all_others() {
        for own in [
            ("origin", "http://nas:8083"),
            ("referer", "http://NAS:8083/stream.html?src=x"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            assert!(is_own_page(&headers(&[own])), "{own:?}");
        }
        for other in [
            ("origin", "null"),
            ("origin", "https://evil.test"),
            ("referer", "https://evil.test/http://nas:8083/"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("accept", "*/*"),
        ] {
            assert!(!is_own_page(&headers(&[other])), "{other:?}");
        }
    }
}
