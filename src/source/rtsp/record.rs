//! [`Recording`]: an address at which one program of ours publishes media, by ANNOUNCE, SETUP and RECORD
//! ([RFC 2326 §10.3, §10.4, §10.11]).
//!
//! It is on loopback, for one publisher, and has a path that nobody can guess. Media comes inside the
//! connection.
//!
//! [RFC 2326 §10.3, §10.4, §10.11]: https://datatracker.ietf.org/doc/html/rfc2326#section-10.3

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use retina::rtsp::msg::{
    HeaderName, HeaderValue, Headers, OwnedMessage, Request, Response, StatusCode,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{
    connection::{ByteStream, Connection, Fault, Incoming},
    diagnose,
    ingest::Ingest,
    play::{self, Over},
    session::{Failure, Session},
    stall::Lapses,
    tracks::{Chosen, control_url},
    transport::{Route, Transport, channels},
};
use crate::{
    base::{Error, Note, SourceUrl, Verdict},
    hub::Publisher,
    media::sdp::Description,
};

/// Connections that may be between their first byte and RECORD at once: one is enough for the publisher,
/// and others on this machine must not keep it out.
const CALLERS_MAX: usize = 8;
/// From a connection to RECORD.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// After a connection could not be taken, as when too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests in that time.
const REQUESTS_MAX: usize = 32;

/// Statuses of our answers ([RFC 2326 §11]).
///
/// [RFC 2326 §11]: https://datatracker.ietf.org/doc/html/rfc2326#section-11
const OK: u16 = 200;
const UNKNOWN_PATH: u16 = 404;
const NOT_NOW: u16 = 455;

/// An address that waits for its publisher.
pub(in crate::source) struct Recording {
    listener: TcpListener,
    source: SourceUrl,
    address: Url,
}

impl Recording {
    /// Begins to wait for what `source` publishes.
    ///
    /// # Errors
    /// When there is no port.
    pub(in crate::source) async fn open(source: &SourceUrl) -> Result<Self, Error> {
        let failed = |e| Error::new(Verdict::ServerFull, "no port for a program").with_source(e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let mut path = String::new();
        for byte in rand::random::<[u8; 16]>() {
            let _ = write!(path, "{byte:02x}");
        }
        let address = Url::parse(&format!("rtsp://127.0.0.1:{port}/{path}"));
        let address =
            address.map_err(|e| Error::new(Verdict::Internal, "no URL").with_source(e))?;
        Ok(Self {
            listener,
            source: source.clone(),
            address,
        })
    }

    /// Where to publish. Whoever knows it can publish.
    pub(in crate::source) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The publisher, once it begins to send. Others are refused.
    ///
    /// # Errors
    /// When what it announces is nothing that browsers play.
    pub(in crate::source) async fn accept(self) -> Result<Recorded, Error> {
        let mut callers = FuturesUnordered::new();
        loop {
            let has_room = callers.len() < CALLERS_MAX;
            tokio::select! {
                end = callers.next(), if !callers.is_empty() => match end {
                    Some(Ok(Ok(recorded))) => return Ok(recorded),
                    Some(Ok(Err(Refused::Unplayable(note)))) => {
                        return Err(diagnose::unplayable(&self.source, note));
                    }
                    Some(Ok(Err(Refused::Stranger(what)))) => {
                        tracing::debug!(what, "a caller does not publish");
                    }
                    Some(Err(_)) => tracing::debug!("a caller took too long to publish"),
                    None => {}
                },
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        callers.push(timeout(HANDSHAKE_LIMIT, self.greet(stream)));
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "no connection could be taken");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn greet(&self, stream: TcpStream) -> Result<Recorded, Refused> {
        let stream: Box<dyn ByteStream> = Box::new(stream);
        Greeting::new(Connection::new(stream), self.address.clone())
            .answer_all()
            .await
            .map(|(connection, chosen, routes)| {
                let session = Session::new(connection, self.source.clone(), self.address.clone());
                Recorded {
                    session,
                    chosen,
                    routes,
                    source: self.source.clone(),
                }
            })
    }
}

/// Why a caller does not publish.
#[derive(Debug)]
enum Refused {
    /// It is the publisher, and has nothing for browsers.
    Unplayable(Note),
    /// It does not know the path, or speaks something else.
    Stranger(&'static str),
}

impl From<Fault> for Refused {
    fn from(_: Fault) -> Self {
        Self::Stranger("the connection broke off")
    }
}

/// The requests of a publisher up to RECORD.
struct Greeting {
    connection: Connection,
    address: Url,
    session: String,
    /// What was announced, with the route of each track that was set up.
    announced: Option<(Chosen, Vec<Option<Route>>)>,
    tracks_set_up: u8,
}

impl Greeting {
    fn new(connection: Connection, address: Url) -> Self {
        Self {
            connection,
            address,
            session: format!("{:016x}", rand::random::<u64>()),
            announced: None,
            tracks_set_up: 0,
        }
    }

    /// Answers until RECORD.
    async fn answer_all(mut self) -> Result<(Connection, Chosen, Vec<Route>), Refused> {
        for _ in 0..REQUESTS_MAX {
            let (request, body) = match self.connection.next().await? {
                Incoming::Request(request, body) => (request, body),
                // Nothing was asked, and nothing is due yet.
                Incoming::Data { .. } | Incoming::Response(..) => continue,
            };
            let mut extra = Vec::new();
            let status = self.judge(&request, &body, &mut extra)?;
            self.reply(&request, status, extra).await?;
            if status == UNKNOWN_PATH {
                return Err(Refused::Stranger("it does not know the path"));
            }
            if &*request.method == "RECORD" && status == OK {
                let (mut chosen, mut routes) = self.announced.take().unwrap_or_default();
                let mut set_up = routes.iter().map(Option::is_some);
                chosen.tracks.retain(|_| set_up.next() == Some(true));
                let routes = routes.drain(..).flatten().collect();
                return Ok((self.connection, chosen, routes));
            }
        }
        Err(Refused::Stranger("it asks without end"))
    }

    /// What a request is answered with.
    fn judge(
        &mut self,
        request: &Request,
        body: &Bytes,
        extra: &mut Vec<(HeaderName, String)>,
    ) -> Result<u16, Refused> {
        let uri = request.request_uri.as_ref();
        let is_ours = uri.is_some_and(|uri| uri.path().starts_with(self.address.path()));
        if &*request.method == "OPTIONS" {
            let known = "OPTIONS, ANNOUNCE, SETUP, RECORD, TEARDOWN, GET_PARAMETER";
            extra.extend(header("Public", known));
            return Ok(OK);
        }
        if !is_ours {
            return Ok(UNKNOWN_PATH);
        }
        match &*request.method {
            "ANNOUNCE" => {
                let description = Description::parse(&String::from_utf8_lossy(body));
                let chosen = Chosen::from(&description).map_err(Refused::Unplayable)?;
                let routes = chosen.tracks.iter().map(|_| None).collect();
                self.announced = Some((chosen, routes));
                Ok(OK)
            }
            "SETUP" => Ok(self.set_up(request, extra)),
            "RECORD" => {
                let is_set_up =
                    |(_, routes): &(_, Vec<Option<Route>>)| routes.iter().any(Option::is_some);
                Ok(if self.announced.as_ref().is_some_and(is_set_up) {
                    OK
                } else {
                    NOT_NOW
                })
            }
            "TEARDOWN" => Err(Refused::Stranger("it left before it began")),
            _ => Ok(OK),
        }
    }

    fn set_up(&mut self, request: &Request, extra: &mut Vec<(HeaderName, String)>) -> u16 {
        let Some((chosen, routes)) = &mut self.announced else {
            return NOT_NOW;
        };
        let asked = request.headers.get("Transport").map_or("", |value| value);
        if !asked.contains("/TCP") && !asked.contains("interleaved") {
            return super::UNSUPPORTED_TRANSPORT;
        }
        let next = self.tracks_set_up.saturating_mul(2);
        let (rtp, rtcp) = channels(asked).unwrap_or((next, next.saturating_add(1)));
        self.tracks_set_up = self.tracks_set_up.saturating_add(1);
        let uri = request.request_uri.as_ref().map_or("", Url::as_str);
        let is_its = |control: &str| {
            control_url(self.address.as_str(), control).is_some_and(|url| url.as_str() == uri)
                || !control.is_empty() && uri.ends_with(&format!("/{control}"))
        };
        // A track that was not chosen is sent for nothing.
        let place = chosen
            .tracks
            .iter()
            .position(|track| is_its(&track.control));
        if let Some(place) = place {
            routes[place] = Some(Route::Channels(rtp, rtcp));
        }
        let agreed = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};mode=record");
        extra.extend(header("Transport", &agreed));
        OK
    }

    async fn reply(
        &mut self,
        request: &Request,
        status: u16,
        extra: Vec<(HeaderName, String)>,
    ) -> Result<(), Fault> {
        let mut headers = Headers::default();
        if let Some(number) = request.headers.get("CSeq") {
            headers.insert(HeaderName::CSEQ, number.clone());
        }
        if let Ok(session) = HeaderValue::try_from(self.session.clone()) {
            headers.insert(HeaderName::SESSION, session);
        }
        for (name, value) in extra {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        let reason = if status == OK { "OK" } else { "Refused" };
        let message = OwnedMessage::Response {
            head: Response {
                status_code: StatusCode::try_from(status)
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                reason_phrase: reason.to_owned(),
                headers,
            },
            body: Bytes::new(),
        };
        self.connection.send(&message).await
    }
}

fn header(name: &'static str, value: &str) -> Option<(HeaderName, String)> {
    let name = HeaderName::from_static(name).ok()?;
    Some((name, value.to_owned()))
}

/// A publisher that sends.
pub(in crate::source) struct Recorded {
    session: Session,
    chosen: Chosen,
    routes: Vec<Route>,
    source: SourceUrl,
}

impl Recorded {
    /// What it sends, in words.
    pub(in crate::source) fn tracks(&self) -> String {
        self.chosen.to_string()
    }

    /// Publishes its frames until something breaks. The first packet is due within `limit`.
    pub(in crate::source) async fn play(mut self, out: &Publisher, limit: Duration) -> Error {
        let begun = Instant::now();
        let begin_by = out.now() + limit;
        let mut ingest = Ingest::new(self.chosen, Transport::Tcp, out.latest(), begin_by);
        let lapses = Lapses::default();
        let over = play::play(
            &mut self.session,
            &self.routes,
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            &mut ingest,
            &mut [],
            out,
            &lapses,
        );
        match over.await {
            Over::Failed(failure @ (Failure::Connection(_) | Failure::Answer(_))) => {
                diagnose::failed(&self.source, "media", failure)
            }
            Over::Failed(_) => diagnose::failed(
                &self.source,
                "media",
                Failure::Answer("it sent a request that no publisher sends"),
            ),
            Over::NeverBegan => diagnose::silent(&self.source, "the first packet", begun.elapsed()),
            Over::Silent(since) => diagnose::silent(&self.source, "media", since),
            Over::Stopped(kind) => diagnose::stopped(&self.source, kind),
        }
    }
}

#[cfg(test)]
mod tests;
