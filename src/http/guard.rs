//! Defences against web pages of others: who may call, and under which name.
//!
//! Programs such as Home Assistant send no `Origin`; browsers send one with every POST. So a request
//! that changes something and comes from a foreign page is refused, and nothing else is in the way.
//! Against DNS rebinding, where a foreign page pretends to be ours, the name in `Host` must be one
//! that a stranger cannot own.

use actix_web::{
    HttpRequest, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use serde_json::json;

use crate::{
    base::{Diagnosis, Verdict},
    config::Config,
    context::Context,
    signaling::credentials,
};

/// Ends of names that only a private network resolves.
const PRIVATE_SUFFIXES: [&str; 7] = [
    ".local",
    ".lan",
    ".home",
    ".home.arpa",
    ".internal",
    ".localdomain",
    ".localhost",
];

/// Paths that reveal nothing, so that a probe by a public name works without a setting.
const HEARTBEATS: [&str; 5] = ["/static", "/static/", "/health", "/api", "/api/schemes"];
/// Of these, the ones that a watchdog asks, which has no password.
const WATCHED: [&str; 3] = ["/static", "/static/", "/health"];

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A web page of this origin may not use the API.
    Origin(String),
    /// The server does not go by this name.
    Host(String),
    /// The caller has not shown who it is.
    Unknown,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Unknown => StatusCode::UNAUTHORIZED,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Origin(_) => Verdict::ForeignPage,
            Self::Host(_) => Verdict::ForeignName,
            Self::Unknown => Verdict::ServerLogin,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Origin(origin) => format!(
                "web pages of {origin} may not use this server; to allow them, add that origin to \
                 allowed_origins in the configuration"
            ),
            Self::Host(host) => format!(
                "this server does not go by the name {host}; open it by its IP address, or add the \
                 name to allowed_hosts in the configuration"
            ),
            Self::Unknown => "this server wants a user name and password, or a token; they are \
                 those of auth in its configuration"
                .to_owned(),
        }
    }
}

/// Decides over one request.
///
/// # Errors
/// The reason for refusing it.
pub fn check(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    config: &Config,
) -> Result<(), Refusal> {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|v| String::from_utf8_lossy(v.as_bytes()))
    };
    let host = text(header::HOST).unwrap_or_default();
    let origin = text(header::ORIGIN);
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || headers.contains_key(header::UPGRADE);
    if let Some(origin) = origin
        .as_deref()
        .filter(|_| changes || *method == Method::OPTIONS)
        && !is_same_origin(origin, &host)
        && !is_allowed_origin(origin, config)
    {
        return Err(Refusal::Origin(shorten(origin)));
    }
    let open = *method == Method::OPTIONS || WATCHED.contains(&path);
    let auth = config.auth.as_ref();
    let is_known = auth.is_some_and(|auth| credentials::are_shown(auth, headers));
    // A browser shows a login only to the name for which it was entered.
    let exempt = is_known || HEARTBEATS.contains(&path) || changes && origin.is_none();
    if !exempt && !is_own_name(&host, config) {
        return Err(Refusal::Host(shorten(&host)));
    }
    if auth.is_some() && !is_known && !open {
        return Err(Refusal::Unknown);
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
}

fn is_allowed_origin(origin: &str, config: &Config) -> bool {
    config
        .allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

/// Whether a name in `Host` is an address, or a name that a stranger on the internet cannot own.
fn is_own_name(host: &str, config: &Config) -> bool {
    let host = host.to_ascii_lowercase();
    let name = if let Some(v6) = host.strip_prefix('[') {
        v6.split(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    let name = name.trim_end_matches('.');
    name.parse::<std::net::IpAddr>().is_ok()
        || !name.contains('.')
        || PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Runs [`check`] before each request, answers preflights, and adds the headers that every response
/// carries.
///
/// # Errors
/// Those of the handler; a refusal is a response.
///
/// # Panics
/// When the server was built without its context.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, actix_web::Error> {
    let context = request.app_data::<web::Data<Context>>().cloned();
    let context = context.expect("the server is built with its context");
    let checked = check(
        request.method(),
        request.path(),
        request.headers(),
        &context.config,
    );
    let cors = cors_origin(request.request(), &context.config);
    let mut response = if let Err(refusal) = checked {
        let diagnosis = Diagnosis::from(refusal.verdict());
        tracing::debug!(verdict = %diagnosis.verdict, ?refusal, "request refused");
        let mut response = HttpResponse::build(refusal.status());
        if refusal == Refusal::Unknown
            && let Some(auth) = &context.config.auth
        {
            for challenge in credentials::challenges(auth) {
                response.append_header((header::WWW_AUTHENTICATE, challenge));
            }
        }
        let body = json!({ "error": refusal.sentence(), "verdict": diagnosis });
        let response = response.json(body);
        request.into_response(response).map_into_right_body()
    } else {
        let is_preflight = *request.method() == Method::OPTIONS;
        let response = next.call(request).await?;
        if is_preflight && matches!(response.status().as_u16(), 404 | 405) {
            // A path that has nothing of its own to say.
            let (request, _) = response.into_parts();
            let response = HttpResponse::NoContent().finish();
            ServiceResponse::new(request, response).map_into_right_body()
        } else {
            response.map_into_left_body()
        }
    };
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "no-referrer");
    if let Some(origin) = cors {
        set("access-control-allow-origin", &origin);
        set(
            "access-control-allow-methods",
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        );
        set(
            "access-control-allow-headers",
            "Origin, X-Requested-With, Content-Type, Accept, Authorization, If-Match",
        );
        set(
            "access-control-expose-headers",
            "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After",
        );
        set("access-control-max-age", "600");
        if origin != "*" {
            set("vary", "Origin");
        }
    } else {
        set("cross-origin-resource-policy", "same-origin");
    }
    Ok(response)
}

/// What `Access-Control-Allow-Origin` says to this request, if anything.
fn cors_origin(request: &HttpRequest, config: &Config) -> Option<String> {
    let origin = request.headers().get(header::ORIGIN)?.to_str().ok()?;
    if config.allowed_origins.iter().any(|allowed| allowed == "*") {
        return Some("*".to_owned());
    }
    is_allowed_origin(origin, config).then(|| origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn verdict(
        method: &Method,
        path: &str,
        host: &str,
        origin: Option<&str>,
        settings: &str,
    ) -> Result<(), Refusal> {
        let config = Config::from_layers([Layer::parse(settings).unwrap()]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check(method, path, &headers, &config)
    }

    #[test]
    fn foreign_pages_may_not_post_and_programs_may() {
        let post = |origin| verdict(&Method::POST, "/stream", "192.168.1.5:8083", origin, "");
        assert_eq!(post(None), Ok(()));
        assert_eq!(post(Some("http://192.168.1.5:8083")), Ok(()));
        for foreign in [
            "https://evil.test",
            "null",
            "http://192.168.1.5:8084",
            "http://192.168.1.5:8083.evil.test",
        ] {
            assert!(
                matches!(post(Some(foreign)), Err(Refusal::Origin(_))),
                "{foreign}"
            );
        }
    }

    #[test]
    fn an_allowed_origin_may() {
        let settings = "allowed_origins: ['https://cards.example']";
        let post = |origin| verdict(&Method::POST, "/stream", "10.0.0.1", Some(origin), settings);
        assert_eq!(post("https://cards.example"), Ok(()));
        assert!(post("https://cards.example.evil.test").is_err());
    }

    #[test]
    fn a_name_that_a_stranger_can_own_is_refused_unless_allowed() {
        let get = |host, settings| verdict(&Method::GET, "/cameras", host, None, settings);
        for own in [
            "127.0.0.1:8083",
            "[::1]:8083",
            "nas",
            "nas:8083",
            "localhost",
            "nas.local",
            "cam.home.arpa.",
            "HA.LAN:1",
        ] {
            assert_eq!(get(own, ""), Ok(()), "{own}");
        }
        for strange in [
            "evil.test:8083",
            "127.0.0.1.evil.test",
            "local.evil.com",
            "evil.test.",
        ] {
            assert!(
                matches!(get(strange, ""), Err(Refusal::Host(_))),
                "{strange}"
            );
        }
        assert_eq!(
            get("cams.example.org", "allowed_hosts: [cams.example.org]"),
            Ok(())
        );
    }

    #[test]
    fn with_auth_everything_but_heartbeats_and_preflights_wants_it() {
        let settings = "auth: {username: ann, password: 'p:w'}";
        let ask = |method, path| verdict(method, path, "127.0.0.1", None, settings);
        for path in ["/", "/api", "/api/ws", "/cameras", "/whep/demo"] {
            assert_eq!(ask(&Method::GET, path), Err(Refusal::Unknown), "{path}");
        }
        assert_eq!(ask(&Method::POST, "/stream"), Err(Refusal::Unknown));
        assert_eq!(ask(&Method::GET, "/health"), Ok(()));
        assert_eq!(ask(&Method::OPTIONS, "/whep/demo"), Ok(()));
    }

    #[test]
    fn home_assistant_reaches_us_by_a_public_name_without_a_setting() {
        let by_name = |method, path| verdict(method, path, "cams.example.org", None, "");
        assert_eq!(by_name(&Method::GET, "/static"), Ok(()));
        assert_eq!(by_name(&Method::POST, "/stream"), Ok(()));
        assert!(by_name(&Method::GET, "/streams").is_err());
    }
}
