//! [`Session`]: the requests of one RTSP session ([RFC 2326]) in their order, with authentication.
//!
//! [RFC 2326]: https://datatracker.ietf.org/doc/html/rfc2326

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use retina::rtsp::msg::{
    HeaderName, HeaderValue, Headers, Method, OwnedMessage, Request, Response, StatusCode,
};
use tokio::time::Instant;
use url::Url;

use super::{
    authentication::Authentication,
    connection::{Connection, Fault, Incoming},
    http::USER_AGENT,
};
use crate::base::SourceUrl;

/// Packets kept that arrive before the answer to PLAY.
const EARLY_MAX: usize = 512;
const EARLY_BYTES_MAX: usize = 2 << 20;
/// How long a session lives without a word from us, unless the camera says otherwise
/// ([RFC 2326 §12.37]).
///
/// [RFC 2326 §12.37]: https://datatracker.ietf.org/doc/html/rfc2326#section-12.37
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why a request has failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection is of no more use.
    Connection(Fault),
    /// The camera answered with an error.
    Status(u16, String),
    /// Its answer lacks something.
    Answer(&'static str),
    /// It wants to be asked elsewhere; the location as it says it.
    Moved(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Connection(fault)
    }
}

/// A packet on a channel of the connection.
pub(super) struct Interleaved {
    pub(super) channel: u8,
    pub(super) packet: Bytes,
}

/// What a camera describes.
pub(super) struct Described {
    /// The session description, as text.
    pub(super) sdp: String,
    /// What relative control URLs are relative to.
    pub(super) base: String,
}

/// What a camera tells of itself in whatever it answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// The `Server` header.
    pub(super) server: Option<String>,
    /// The challenges of the first answer that asked for a password.
    pub(super) challenges: Option<String>,
}

impl Heard {
    fn note(&mut self, response: &Response) {
        let header = |name: &str| response.headers.get(name).map(ToString::to_string);
        self.server = self.server.take().or_else(|| header("Server"));
        let challenges = || header("WWW-Authenticate");
        self.challenges = self.challenges.take().or_else(challenges);
    }
}

pub(super) struct Session {
    connection: Connection,
    source: SourceUrl,
    /// The URL as the camera knows it.
    url: Url,
    authentication: Option<Authentication>,
    sequence: u32,
    id: Option<String>,
    early: VecDeque<Interleaved>,
    /// The URL that PLAY and TEARDOWN are about.
    aggregate: Option<Url>,
    keepalive: Keepalive,
    heard: Heard,
    /// What the camera must know to be of use.
    required: Option<&'static str>,
}

struct Keepalive {
    interval: Duration,
    due: Option<Instant>,
    method: Method,
    /// The number of the request that is not answered yet.
    pending: Option<u32>,
    /// Whether the last refusal was answered with credentials.
    is_retried: bool,
}

impl Session {
    pub(super) fn new(connection: Connection, source: SourceUrl, url: Url) -> Self {
        Self {
            connection,
            source,
            url,
            authentication: None,
            sequence: 0,
            id: None,
            early: VecDeque::new(),
            aggregate: None,
            keepalive: Keepalive {
                interval: TIMEOUT / 2,
                due: None,
                method: Method::OPTIONS,
                pending: None,
                is_retried: false,
            },
            heard: Heard::default(),
            required: None,
        }
    }

    /// From now on the camera must know this feature ([RFC 2326 §12.32]), or say that it does not.
    ///
    /// [RFC 2326 §12.32]: https://datatracker.ietf.org/doc/html/rfc2326#section-12.32
    pub(super) fn require(&mut self, feature: &'static str) {
        self.required = Some(feature);
    }

    /// What the camera has told of itself until now.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// DESCRIBE.
    pub(super) async fn describe(&mut self) -> Result<Described, Failure> {
        let url = self.url.clone();
        let headers = [(HeaderName::ACCEPT, "application/sdp".to_owned())];
        let (response, body) = self.request(Method::DESCRIBE, &url, &headers).await?;
        let header = |name: &str| response.headers.get(name).map(ToString::to_string);
        let base = header("Content-Base")
            .or_else(|| header("Content-Location"))
            .filter(|base| !base.trim().is_empty())
            .unwrap_or_else(|| url.to_string());
        Ok(Described {
            sdp: String::from_utf8_lossy(&body).into_owned(),
            base: base.trim().to_owned(),
        })
    }

    /// SETUP of the track at `control`, by `transport`; gives the transport that the camera chose.
    pub(super) async fn setup(
        &mut self,
        control: &Url,
        transport: String,
    ) -> Result<String, Failure> {
        let headers = [(HeaderName::TRANSPORT, transport.clone())];
        let (response, _) = self.request(Method::SETUP, control, &headers).await?;
        if let Some(session) = response.headers.get("Session") {
            self.enter(&session.to_string());
        }
        let chosen = response.headers.get("Transport");
        Ok(chosen.map_or(transport, ToString::to_string))
    }

    /// PLAY of everything that was set up.
    pub(super) async fn play(&mut self, aggregate: Url) -> Result<(), Failure> {
        let range = [(HeaderName::RANGE, "npt=0.000-".to_owned())];
        self.aggregate = Some(aggregate.clone());
        // What came before is of an older session.
        self.early.clear();
        self.keepalive.due = Some(Instant::now() + self.keepalive.interval);
        self.request(Method::PLAY, &aggregate, &range).await?;
        Ok(())
    }

    /// The next interleaved packet. In between it keeps the session alive and answers the camera's
    /// own requests. Cancelling it loses nothing that matters.
    pub(super) async fn next(&mut self) -> Result<Interleaved, Failure> {
        if let Some(early) = self.early.pop_front() {
            return Ok(early);
        }
        loop {
            let now = Instant::now();
            let due = self.keepalive.due.unwrap_or(now + TIMEOUT);
            if due <= now {
                // Checked here too: a camera that never pauses would keep the timer from its turn.
                self.keep_alive().await?;
                continue;
            }
            let incoming = tokio::select! {
                biased;
                incoming = self.connection.next() => incoming?,
                () = tokio::time::sleep_until(due) => {
                    self.keep_alive().await?;
                    continue;
                }
            };
            match incoming {
                Incoming::Data { channel, packet } => return Ok(Interleaved { channel, packet }),
                Incoming::Response(response, _) => self.kept_alive(&response)?,
                Incoming::Request(request, _) => self.reply(&request).await?,
            }
        }
    }

    /// Sends a packet on a channel that SETUP agreed on.
    pub(super) async fn send_packet(&mut self, channel: u8, packet: &[u8]) -> Result<(), Failure> {
        Ok(self.connection.send_packet(channel, packet).await?)
    }

    /// Whether packets came before the answer to PLAY.
    pub(super) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// TEARDOWN, if there is something to tear down. The answer does not matter.
    pub(super) async fn teardown(&mut self) -> Result<(), Failure> {
        let Some(url) = self.aggregate.clone().filter(|_| self.id.is_some()) else {
            return Ok(());
        };
        self.early.clear();
        self.request(Method::TEARDOWN, &url, &[]).await.map(|_| ())
    }

    /// Remembers where TEARDOWN goes, before PLAY is due.
    pub(super) fn set_aggregate(&mut self, url: Url) {
        self.aggregate = Some(url);
    }

    /// Sends a request and waits for its answer; once more with credentials if they are asked for.
    async fn request(
        &mut self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<(Response, Bytes), Failure> {
        // A challenge is answered once, and once more when the camera's nonce is not the one known.
        let mut attempts = 0;
        loop {
            let number = self.send(&method, url, headers).await?;
            let (response, body) = self.answer_to(number).await?;
            self.heard.note(&response);
            let status = response.status_code;
            if status.is_success() {
                return Ok((response, body));
            }
            if let Some(location) = elsewhere(&response) {
                return Err(Failure::Moved(location));
            }
            attempts += 1;
            let had_credentials = self.authentication.is_some();
            let challenged = status == StatusCode::UNAUTHORIZED && self.challenged(&response);
            let stale = self
                .authentication
                .as_ref()
                .is_some_and(Authentication::is_stale);
            if !challenged || attempts > 2 || had_credentials && attempts > 1 && !stale {
                let reason = response.reason_phrase.chars().take(80).collect();
                return Err(Failure::Status(status.as_u16(), reason));
            }
        }
    }

    async fn send(
        &mut self,
        method: &Method,
        url: &Url,
        extra: &[(HeaderName, String)],
    ) -> Result<u32, Failure> {
        self.sequence += 1;
        let mut headers = Headers::default();
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        set(HeaderName::CSEQ, self.sequence.to_string());
        set(HeaderName::USER_AGENT, USER_AGENT.to_owned());
        if let Some(id) = &self.id {
            set(HeaderName::SESSION, id.clone());
        }
        if let (Some(authentication), Some(credentials)) =
            (&mut self.authentication, self.source.credentials())
            && let Some(proof) = authentication.respond(credentials, method, url.as_str())
        {
            set(HeaderName::AUTHORIZATION, proof);
        }
        for (name, value) in extra {
            set(name.clone(), value.clone());
        }
        let is_asked = [Method::DESCRIBE, Method::SETUP, Method::PLAY].contains(method);
        if let (Some(feature), Ok(require)) = (self.required, HeaderName::from_static("Require"))
            && is_asked
        {
            set(require, feature.to_owned());
        }
        let request = Request {
            method: method.clone(),
            request_uri: Some(url.clone()),
            headers,
        };
        let message = OwnedMessage::Request {
            head: request,
            body: Bytes::new(),
        };
        self.connection.send(&message).await?;
        Ok(self.sequence)
    }

    /// Waits for the answer to request `number`; packets that come first are kept.
    async fn answer_to(&mut self, number: u32) -> Result<(Response, Bytes), Failure> {
        loop {
            match self.connection.next().await? {
                Incoming::Data { channel, packet } => {
                    let kept: usize = self.early.iter().map(|early| early.packet.len()).sum();
                    if self.early.len() < EARLY_MAX && kept < EARLY_BYTES_MAX {
                        self.early.push_back(Interleaved { channel, packet });
                    }
                }
                Incoming::Request(request, _) => self.reply(&request).await?,
                Incoming::Response(response, body) => {
                    // Some cameras leave the number out; an older one answers a keep-alive.
                    if number_of(&response.headers).is_none_or(|answered| answered >= number) {
                        return Ok((response, body));
                    }
                }
            }
        }
    }

    /// Takes up a challenge; false when there is none that we can answer.
    fn challenged(&mut self, response: &Response) -> bool {
        if self.source.credentials().is_none() {
            return false;
        }
        let challenges = response.headers.get("WWW-Authenticate");
        self.authentication =
            challenges.and_then(|header| Authentication::strongest(&header.to_string()));
        self.authentication.is_some()
    }

    fn enter(&mut self, session: &str) {
        let mut parts = session.split(';');
        // Some cameras name another session for each track, and know only the first.
        if let Some(id) = parts.next().map(str::trim).filter(|id| !id.is_empty()) {
            self.id.get_or_insert_with(|| id.to_owned());
        }
        let seconds = parts
            .filter_map(|part| part.trim().split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
            .and_then(|(_, value)| value.trim().parse().ok());
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 1) {
            self.keepalive.interval = Duration::from_secs(seconds).min(TIMEOUT) / 2;
        }
    }

    async fn keep_alive(&mut self) -> Result<(), Failure> {
        self.keepalive.due = Some(Instant::now() + self.keepalive.interval);
        let Some(url) = self.aggregate.clone() else {
            return Ok(());
        };
        // An unanswered one does not matter while media flows; silence has its own limit.
        let method = self.keepalive.method.clone();
        self.keepalive.pending = Some(self.send(&method, &url, &[]).await?);
        Ok(())
    }

    /// Takes the answer to a keep-alive: it tells which method the camera knows, and may bring a new
    /// challenge.
    fn kept_alive(&mut self, response: &Response) -> Result<(), Failure> {
        let number = number_of(&response.headers);
        if number.is_some() && number != self.keepalive.pending {
            return Ok(());
        }
        self.keepalive.pending = None;
        match response.status_code {
            StatusCode::SESSION_NOT_FOUND => {
                self.id = None;
                return Err(Failure::Status(454, response.reason_phrase.clone()));
            }
            // A new nonce, answered at once before it is too old.
            StatusCode::UNAUTHORIZED if !self.keepalive.is_retried && self.challenged(response) => {
                self.keepalive.is_retried = true;
                self.keepalive.due = Some(Instant::now());
                return Ok(());
            }
            // Answered in vain. A password that was changed is not tried again and again, as the
            // camera may lock the account; a request without one is a sign of life, too.
            StatusCode::UNAUTHORIZED => self.authentication = None,
            status if status.is_success() => self.keepalive.is_retried = false,
            _ => {}
        }
        let public = response.headers.get("Public").map(ToString::to_string);
        if self.keepalive.method != Method::GET_PARAMETER
            && public.is_some_and(|public| public.contains("GET_PARAMETER"))
        {
            self.keepalive.method = Method::GET_PARAMETER;
            // At once, for cameras to which OPTIONS is no sign of life.
            self.keepalive.due = Some(Instant::now());
        }
        Ok(())
    }

    /// Answers a request of the camera, so that it does not wait for us. One that sends us elsewhere
    /// ends the session.
    async fn reply(&mut self, request: &Request) -> Result<(), Failure> {
        let mut headers = Headers::default();
        if let Some(number) = request.headers.get("CSeq") {
            headers.insert(HeaderName::CSEQ, number.clone());
        }
        let message = OwnedMessage::Response {
            head: Response {
                status_code: StatusCode::OK,
                reason_phrase: "OK".to_owned(),
                headers,
            },
            body: Bytes::new(),
        };
        self.connection.send(&message).await?;
        if request.method == Method::TEARDOWN {
            // There is nothing left for us to tear down.
            self.id = None;
            return Err(Failure::Connection(Fault::Closed));
        }
        let location = request.headers.get("Location");
        match location.filter(|_| &*request.method == "REDIRECT") {
            Some(location) => Err(Failure::Moved(location.trim().to_owned())),
            None => Ok(()),
        }
    }
}

fn number_of(headers: &Headers) -> Option<u32> {
    headers.get("CSeq")?.to_string().trim().parse().ok()
}

/// Where an answer sends us, if it does.
fn elsewhere(response: &Response) -> Option<String> {
    let is_redirect = matches!(
        response.status_code.as_u16(),
        301 | 302 | 303 | 305 | 307 | 308
    );
    let location = response.headers.get("Location").filter(|_| is_redirect)?;
    Some(location.trim().to_owned())
}
