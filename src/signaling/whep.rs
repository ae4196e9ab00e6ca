//! The dialect of WHEP ([draft-ietf-wish-whep]): an offer is posted and its answer is a new resource, to
//! which the player sends what it finds out later, and which it deletes when it leaves.
//!
//! Under `/whep/{name}`; where `MediaMTX` has it, `/{name}/whep`; and where SRS has it.
//!
//! [draft-ietf-wish-whep]: https://datatracker.ietf.org/doc/html/draft-ietf-wish-whep

mod fragment;

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{Method, StatusCode, header},
    web,
};
use serde_json::json;

use self::fragment::Fragment;
use super::{
    Flavour, Offer, Target, accept,
    encoding::{Fields, body, called, client},
    log_refusal, named,
};
use crate::{
    base::{Diagnosis, Error, ErrorKind, SessionId, Verdict},
    config::{IceService, IceUrl},
    context::Context,
    media::Kind,
    webrtc::{self, Control, addresses},
};

/// The endpoint, its sessions, and both where other servers have them.
pub const FLAVOUR: Flavour = Flavour {
    name: "whep",
    routes: &[
        ("GET", "/whep/{name}"),
        ("POST", "/whep/{name}"),
        ("GET", "/whep/{name}/{session}"),
        ("PATCH", "/whep/{name}/{session}"),
        ("DELETE", "/whep/{name}/{session}"),
        ("GET", "/{name}/whep"),
        ("POST", "/{name}/whep"),
        ("GET", "/{name}/whep/{session}"),
        ("PATCH", "/{name}/whep/{session}"),
        ("DELETE", "/{name}/whep/{session}"),
        ("POST", SRS),
        ("DELETE", SRS),
    ],
    mount,
};

/// Where SRS has it; a query says the rest.
const SRS: &str = "/rtc/v1/whep/";
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Largest offer and fragment, in bytes.
const BODY_MAX: usize = 128 << 10;
/// When to ask again, in seconds: for a camera that is away, and for a place.
const RETRY_AFTER: &str = "5";
/// Restarts of one session: each leaves a name that is known until the session ends.
const RESTARTS_MAX: u32 = 1_000;

fn mount(routes: &mut web::ServiceConfig) {
    let options = || web::method(Method::OPTIONS);
    for path in ["/whep/{name}", "/{name}/whep"] {
        let endpoint = web::resource(path)
            .route(web::post().to(offer))
            .route(web::get().to(exists))
            .route(web::head().to(describe))
            .route(options().to(accepts_offers));
        let session = web::resource(format!("{path}/{{session}}"))
            .route(web::patch().to(patch))
            .route(web::delete().to(delete))
            .route(web::get().to(plays))
            .route(web::head().to(plays))
            .route(options().to(accepts_fragments));
        routes.service(endpoint).service(session);
    }
    let srs = web::resource(SRS)
        .route(web::post().to(offer_like_srs))
        .route(web::delete().to(delete_like_srs))
        .route(options().to(accepts_offers));
    routes.service(srs);
}

/// A refusal, told as problem details ([RFC 9457]).
///
/// [RFC 9457]: https://datatracker.ietf.org/doc/html/rfc9457
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
    diagnosis: Diagnosis,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            diagnosis: Verdict::BadRequest.into(),
        }
    }

    fn with(self, verdict: Verdict) -> Self {
        let diagnosis = verdict.into();
        Self { diagnosis, ..self }
    }

    fn no_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "there is no such session; it has ended, or never was",
        )
        .with(Verdict::UnknownSession)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        log_refusal(&error);
        let status = match error.kind() {
            // The stream is not live: the draft's words for all that a camera can do.
            ErrorKind::SourceRefused | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => 409,
            // 406 would come with an offer of ours.
            ErrorKind::NotAcceptable => 422,
            other => other.http_status(),
        };
        let status = StatusCode::from_u16(status);
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            detail: error.to_string(),
            diagnosis: error.diagnosis().clone(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                response.insert_header(("Accept-Post", SDP));
                response.insert_header(("Accept-Patch", FRAGMENT));
            }
            _ => {}
        }
        let problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "verdict": self.diagnosis,
        });
        response
            .content_type("application/problem+json")
            .body(problem.to_string())
    }
}

/// Answers an offer for a camera by its name.
async fn offer(
    context: web::Data<Context>,
    name: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    require_type(&request, SDP)?;
    let sdp = text(&request, payload).await?;
    let (sdp, session) = exchange(&context, &request, named(&context, &name)?, sdp).await?;
    let endpoint = request.match_pattern().unwrap_or_default();
    let endpoint = endpoint.replace("{name}", &percent_encoded(&name));
    Ok(created(&context, &format!("{endpoint}/{session}"), sdp))
}

/// The same as a player of SRS asks for it, by `app` and `stream`, perhaps with an address (`eip`) at
/// which it knows us. Its content type is not looked at, as there.
async fn offer_like_srs(
    context: web::Data<Context>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let query = Fields::of_query(request.query_string());
    let stream = query.require("stream")?;
    let long = query.get("app").map(|app| format!("{app}/{stream}"));
    let name = long.filter(|name| context.registry.get(name).is_some());
    let target = named(&context, name.as_deref().unwrap_or(stream))?;
    let address = query.get("eip").or(query.get("candidate"));
    let address = address.map(|text| address_of(text, context.engine.port()));
    let address = address.transpose()?;
    let sdp = text(&request, payload).await?;
    let (mut sdp, session) = exchange(&context, &request, target, sdp).await?;
    if let Some(address) = address {
        sdp = with_candidate(&sdp, address);
    }
    Ok(created(&context, &format!("{SRS}?session={session}"), sdp))
}

async fn exchange(
    context: &Context,
    request: &HttpRequest,
    target: Target,
    sdp: String,
) -> Result<(String, SessionId), Problem> {
    let offered = webrtc::Offer::parse(&sdp)?;
    refuse_unplayable(&offered)?;
    let ufrags = (0..offered.sections().len())
        .filter_map(|index| offered.attribute(index, "ice-ufrag"))
        .map(str::to_owned);
    let mut ufrags: Vec<_> = ufrags.collect();
    ufrags.dedup();
    let offer = Offer {
        target,
        sdp,
        client: client(request),
        host: called(request),
        flavour: FLAVOUR.name,
    };
    let answer = accept(context, offer).await?;
    context.sessions.name_client(answer.session, ufrags);
    Ok((answer.sdp, answer.session))
}

/// Refuses what no camera could answer, without asking one.
fn refuse_unplayable(offer: &webrtc::Offer) -> Result<(), Problem> {
    let sections = offer.sections().len();
    let receives = |index| offer.receives(index, Kind::Video) || offer.receives(index, Kind::Audio);
    let reason = if !(0..sections).any(receives) {
        "the offer receives neither video nor audio; a player offers a=recvonly and a=rtcp-mux"
    } else if sections > 1 && !(0..sections).any(|index| offer.is_bundled(index)) {
        "the offer has no BUNDLE group; a player puts all media on one transport"
    } else {
        return Ok(());
    };
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason).with(Verdict::NothingToPlay))
}

fn created(context: &Context, location: &str, sdp: String) -> HttpResponse {
    let mut response = HttpResponse::Created();
    response
        .content_type(SDP)
        .insert_header((header::LOCATION, location))
        .insert_header((header::ETAG, entity_tag(0)))
        .insert_header(("Accept-Patch", FRAGMENT));
    let servers = context.config.ice_servers.iter();
    for url in servers.flat_map(|server| &server.urls) {
        if let Some(link) = link(url) {
            response.append_header((header::LINK, link));
        }
    }
    response.body(sdp)
}

/// The link that tells a player of a STUN server. Relays are for Porthole itself: their logins are not
/// for everybody who may watch.
fn link(url: &IceUrl) -> Option<String> {
    let is_stun = url.service == IceService::Stun;
    is_stun.then(|| format!("<stun:{}>; rel=\"ice-server\"", url.server))
}

/// Takes what a player has found out after its offer: further addresses, or new credentials, with which
/// ICE begins anew.
async fn patch(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = session(&context, &path)?;
    require_type(&request, FRAGMENT)?;
    let fragment = Fragment::parse(&text(&request, payload).await?)?;
    let found = context
        .sessions
        .control(id)
        .zip(context.sessions.restarts(id));
    let (control, restarts) = found.ok_or_else(Problem::no_session)?;
    let is_known = |ufrag: &str| context.sessions.knows_client(id, ufrag);
    let renewed = fragment.ufrag.as_deref().filter(|ufrag| !is_known(ufrag));
    let condition = Condition::of(&request, &entity_tag(restarts));
    match (condition, renewed) {
        (Condition::Failed, _) => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "ICE was begun anew meanwhile: If-Match is not the last ETag",
        )),
        (Condition::Missing, Some(_)) => Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "ICE is begun anew only with If-Match: the last ETag, or *",
        )),
        // Many players send none with plain addresses, which do no harm twice.
        (Condition::Missing | Condition::Met, None) => {
            add_candidates(&control, &fragment, &request).await;
            Ok(HttpResponse::NoContent().finish())
        }
        (Condition::Met, Some(ufrag)) => {
            let remote = fragment.credentials()?;
            if restarts >= RESTARTS_MAX {
                return Err(Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "ICE was begun anew too often in this session; make another one",
                ));
            }
            let counted = context.sessions.restart(id, restarts, ufrag);
            let restarts = counted.ok_or_else(|| {
                Problem::new(
                    StatusCode::PRECONDITION_FAILED,
                    "ICE is being begun anew by another request",
                )
            })?;
            let local = control.restart(remote).await;
            let local = local.ok_or_else(Problem::no_session)?;
            add_candidates(&control, &fragment, &request).await;
            let candidates = context.engine.candidates(called(&request).as_deref());
            Ok(HttpResponse::Ok()
                .content_type(FRAGMENT)
                .insert_header((header::ETAG, entity_tag(restarts)))
                .body(fragment.answer(&local, &candidates)))
        }
    }
}

/// Tries the player's addresses; those that cannot be tried are passed over ([RFC 9725 §4.3.2]).
///
/// [RFC 9725 §4.3.2]: https://datatracker.ietf.org/doc/html/rfc9725#section-4.3.2
async fn add_candidates(control: &Control, fragment: &Fragment, request: &HttpRequest) {
    for candidate in &fragment.candidates {
        control.add_candidate(candidate, client(request)).await;
    }
}

/// Ends a session.
async fn delete(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    end(&context, session(&context, &path)?)
}

async fn delete_like_srs(
    context: web::Data<Context>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Fields::of_query(request.query_string());
    let id = SessionId::parse(query.require("session")?);
    let id = id.filter(|id| context.sessions.is_of(*id, FLAVOUR.name, None));
    end(&context, id.ok_or_else(Problem::no_session)?)
}

fn end(context: &Context, id: SessionId) -> Result<HttpResponse, Problem> {
    let is_ended = context.sessions.end(id);
    is_ended
        .then(|| HttpResponse::Ok().finish())
        .ok_or_else(Problem::no_session)
}

/// Whether there is such a camera; there is nothing to read.
async fn exists(
    context: web::Data<Context>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    named(&context, &name)?;
    Ok(HttpResponse::NoContent().finish())
}

/// The same for players that look for what a URL is.
async fn describe(
    context: web::Data<Context>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    named(&context, &name)?;
    Ok(HttpResponse::Ok().content_type(SDP).finish())
}

async fn plays(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    session(&context, &path)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Told to whoever asks, before it shows who it is: nothing of cameras, sessions or ICE servers.
async fn accepts_offers() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header(("Accept-Post", SDP))
        .finish()
}

async fn accepts_fragments() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header(("Accept-Patch", FRAGMENT))
        .finish()
}

/// The session that a path names. Those of other dialects and cameras are none.
fn session(context: &Context, (name, id): &(String, String)) -> Result<SessionId, Problem> {
    let is_ours = |id: &SessionId| context.sessions.is_of(*id, FLAVOUR.name, Some(name));
    let id = SessionId::parse(id).filter(is_ours);
    id.ok_or_else(Problem::no_session)
}

fn require_type(request: &HttpRequest, expected: &str) -> Result<(), Problem> {
    let given = request.headers().get(header::CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the content type must be {expected}"),
    ))
}

async fn text(request: &HttpRequest, payload: web::Payload) -> Result<String, Problem> {
    let body = body(request, payload).await?;
    if body.len() > BODY_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request is larger than {} KiB", BODY_MAX >> 10),
        ));
    }
    String::from_utf8(body.into())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the request is not text"))
}

/// Names the state of ICE in a session after so many restarts.
fn entity_tag(restarts: u32) -> String {
    format!("\"ice-{}\"", u64::from(restarts) + 1)
}

/// What `If-Match` says of a session ([RFC 9110 §13.1.1]).
///
/// [RFC 9110 §13.1.1]: https://datatracker.ietf.org/doc/html/rfc9110#section-13.1.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Missing,
    Met,
    Failed,
}

impl Condition {
    fn of(request: &HttpRequest, current: &str) -> Self {
        let mut given = request.headers().get_all(header::IF_MATCH).peekable();
        if given.peek().is_none() {
            return Self::Missing;
        }
        let mut tags = given
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim);
        // RFC 9725 writes the star with quotes in places.
        if tags.any(|tag| tag == current || matches!(tag, "*" | "\"*\"")) {
            Self::Met
        } else {
            Self::Failed
        }
    }
}

/// A name as one segment of a path.
fn percent_encoded(name: &str) -> String {
    let encoded = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// The address that `text` gives, with or without a port.
fn address_of(text: &str, port: u16) -> Result<SocketAddr, Problem> {
    let alone = text.trim_start_matches('[').trim_end_matches(']');
    let alone = alone.parse::<IpAddr>().map(|ip| (ip, port).into());
    alone.or_else(|_| text.parse()).map_err(|_| {
        let detail = "eip must be an IP address, or one with a port as in 192.0.2.1:8000";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// `sdp` with one more address of ours, the best.
fn with_candidate(sdp: &str, address: SocketAddr) -> String {
    let candidate = addresses::Candidate::new(
        addresses::Kind::Host,
        addresses::Transport::Udp,
        address.ip().to_string(),
        address.port(),
        0,
    );
    let end = "a=end-of-candidates\r\n";
    sdp.replacen(end, &format!("a=candidate:{candidate}\r\n{end}"), 1)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::HostPort;

    #[test]
    fn a_tag_is_met_by_itself_or_a_star() {
        let current = entity_tag(1);
        assert_eq!(current, "\"ice-2\"");
        let condition = |given: &[&str]| {
            let mut request = TestRequest::default();
            for value in given {
                request = request.append_header((header::IF_MATCH, *value));
            }
            Condition::of(&request.to_http_request(), &current)
        };
        assert_eq!(condition(&[]), Condition::Missing);
        for met in ["\"ice-2\"", "*", "\"*\"", "\"x\", \"ice-2\""] {
            assert_eq!(condition(&[met]), Condition::Met, "{met}");
        }
        assert_eq!(condition(&["\"x\"", "\"ice-2\""]), Condition::Met);
        for failed in ["\"ice-1\"", "ice-2", "W/\"ice-2\"", ""] {
            assert_eq!(condition(&[failed]), Condition::Failed, "{failed}");
        }
    }

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(percent_encoded("camera.front_door"), "camera.front_door");
        assert_eq!(percent_encoded("a/b c%?ö"), "a%2Fb%20c%25%3F%C3%B6");
    }

    #[test]
    fn players_are_told_of_stun_servers_and_not_of_relays() {
        let url = |service, host: &str| IceUrl {
            service,
            server: HostPort {
                host: host.to_owned(),
                port: 3478,
            },
        };
        let told = |service, host| link(&url(service, host));
        assert_eq!(
            told(IceService::Stun, "stun.example.net").unwrap(),
            "<stun:stun.example.net:3478>; rel=\"ice-server\""
        );
        let v6 = told(IceService::Stun, "2001:db8::1").unwrap();
        assert!(v6.starts_with("<stun:[2001:db8::1]:3478>"), "{v6}");
        assert_eq!(told(IceService::TurnUdp, "turn.example.net"), None);
    }

    #[test]
    fn an_address_that_the_player_knows_is_added_to_the_first_section() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1 8555 typ host"),
            ("192.0.2.1:9", "192.0.2.1 9 typ host"),
            ("2001:db8::1", "2001:db8::1 8555 typ host"),
            ("[2001:db8::1]:9", "2001:db8::1 9 typ host"),
            ("[2001:db8::1]", "2001:db8::1 8555 typ host"),
        ] {
            let address = address_of(text, 8555).unwrap();
            let sdp = "m=a\r\na=end-of-candidates\r\nm=b\r\na=end-of-candidates\r\n";
            let sdp = with_candidate(sdp, address);
            assert_eq!(sdp.matches("a=candidate:").count(), 1, "{sdp}");
            assert!(sdp.find(expected) < sdp.find("m=b"), "{sdp}");
        }
        for broken in ["", "example.net", "192.0.2.1:x", "1.2.3.4\r\na=x", "1.2.3"] {
            assert!(address_of(broken, 1).is_err(), "{broken}");
        }
    }
}
