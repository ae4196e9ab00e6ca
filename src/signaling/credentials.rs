//! What a caller shows in `Authorization`.

use actix_web::http::header::{self, HeaderMap};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use crate::{base::Credentials, config::Auth};

/// Whether a request with these headers shows what `auth` wants: its login or its token.
#[must_use]
pub fn are_shown(auth: &Auth, headers: &HeaderMap) -> bool {
    let login = auth.login.as_ref();
    let token = auth.token.as_ref();
    login.is_some_and(|login| is_login(login, headers))
        || token.is_some_and(|token| {
            shown(headers, "bearer").is_some_and(|shown| is_equal(shown, token.reveal()))
        })
}

/// Whether these headers show `login` ([RFC 7617]): the password may have colons, the name may not.
///
/// [RFC 7617]: https://datatracker.ietf.org/doc/html/rfc7617
#[must_use]
pub fn is_login(login: &Credentials, headers: &HeaderMap) -> bool {
    let decoded = shown(headers, "basic").and_then(|text| STANDARD.decode(text).ok());
    // Home Assistant's clients write ISO 8859-1, whatever the challenge says.
    let read = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap_or_else(|e| e.as_bytes().iter().copied().map(char::from).collect())
    };
    let Some(text) = decoded.map(read) else {
        return false;
    };
    text.split_once(':').is_some_and(|(user, password)| {
        // Both are always compared, so that the time does not tell which was wrong.
        is_equal(user, login.user.reveal()) & is_equal(password, login.password.reveal())
    })
}

/// The challenges that tell a caller what it could show ([RFC 9110 §11.6.1]).
///
/// [RFC 9110 §11.6.1]: https://datatracker.ietf.org/doc/html/rfc9110#section-11.6.1
pub fn challenges(auth: &Auth) -> impl Iterator<Item = &'static str> {
    let basic = auth.login.as_ref().map(|_| BASIC);
    let bearer = auth.token.as_ref().map(|_| "Bearer realm=\"Porthole\"");
    basic.into_iter().chain(bearer)
}

/// The challenge for a login.
pub const BASIC: &str = "Basic realm=\"Porthole\", charset=\"UTF-8\"";

/// Whether a browser sends this. Over plain HTTP it does not say where a request comes from, and a page
/// can have it leave out `Referer`; but no page can have it leave out or change `User-Agent`, in which
/// every browser calls itself a Mozilla, without asking first.
#[must_use]
pub fn is_browser(headers: &HeaderMap) -> bool {
    let is_mark = |name: &header::HeaderName| {
        *name == header::REFERER
            || *name == header::ORIGIN
            || name.as_str().starts_with("sec-fetch-")
    };
    headers
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
        || headers.keys().any(is_mark)
}

/// What follows the scheme in `Authorization`, if it is this one.
fn shown<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (used, shown) = value.split_once(' ')?;
    used.eq_ignore_ascii_case(scheme).then(|| shown.trim())
}

/// Compares digests: how long that takes tells nothing of where the texts differ.
fn is_equal(one: &str, other: &str) -> bool {
    let digest = |text: &str| digest(&SHA256, text.as_bytes());
    digest(one).as_ref() == digest(other).as_ref()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::base::Secret;

    fn shows(value: &str) -> bool {
        let auth = Auth {
            login: Some(Credentials {
                user: Secret::new("ann"),
                password: Secret::new("p:w"),
            }),
            token: Some(Secret::new("t0ken")),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        are_shown(&auth, &headers)
    }

    fn basic_of(bytes: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(bytes))
    }

    #[test]
    fn a_login_or_a_token_is_enough() {
        let basic = |text: &str| basic_of(text.as_bytes());
        assert!(shows(&basic("ann:p:w")));
        assert!(shows("Bearer t0ken") && shows("bearer  t0ken"));
        let umlaut = Credentials {
            user: Secret::new("ann"),
            password: Secret::new("Tür"),
        };
        for bytes in ["ann:Tür".as_bytes(), b"ann:T\xfcr"] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(&basic_of(bytes)).unwrap();
            headers.insert(header::AUTHORIZATION, value);
            assert!(is_login(&umlaut, &headers), "{bytes:?}");
        }
        for wrong in [
            basic("ann:p"),
            basic("ann"),
            basic("bob:p:w"),
            "Basic t0ken".to_owned(),
            "Bearer ".to_owned(),
            "Bearer t0ke".to_owned(),
            "t0ken".to_owned(),
        ] {
            assert!(!shows(&wrong), "{wrong}");
        }
    }
}
