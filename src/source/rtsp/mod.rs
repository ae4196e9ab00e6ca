//! RTSP cameras: one session from DESCRIBE to TEARDOWN, RTP packets to frames.
//!
//! `dial` connects, also inside TLS, and a `carrier` makes a stream of bytes of it, also through a web
//! server. `connection` frames messages over that, `session` speaks the protocol, `transport`, `reorder`
//! and `packet` bring RTP in order, `ingest` makes frames of it. `play` does this until something breaks,
//! which `stall` tells. `back_channel` is the way to the camera, for speech, on a connection of its own.

mod authentication;
mod back_channel;
mod carrier;
mod connect;
mod connection;
mod description;
mod diagnose;
mod dial;
mod head;
mod http;
mod ingest;
pub mod inspect;
#[cfg(test)]
mod mutations;
mod packet;
mod play;
pub(super) mod record;
mod redirect;
#[cfg(test)]
mod rehearsal;
mod reorder;
mod session;
mod stall;
mod tls;
mod tracks;
mod transport;
mod tunnel;
mod websocket;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{
    carrier::Carrier,
    connection::Connection,
    dial::{Dialer, Ends},
    ingest::Ingest,
    play::Over,
    redirect::Redirect,
    session::{Failure, Session},
    stall::Lapses,
    tls::{Fingerprint, Trust},
    tracks::{Chosen, control_url},
    transport::{Route, Transport},
};
use super::{Confinement, Source, SourceKind};
use crate::{
    base::{Error, ErrorKind, Note, SourceUrl, Verdict, backoff::Backoff},
    hub::{Publisher, Turn},
    media::{audio::SpeechFormat, sdp::Description},
};

/// Opens `rtsp://` URLs, with TLS `rtsps://` and `rtspx://`, and those of RTSP through a web server.
pub const KIND: SourceKind = SourceKind {
    name: "rtsp",
    schemes: &[
        "rtsp",
        "rtsps",
        "rtspx",
        "rtsp+http",
        "rtsp+https",
        "ws",
        "wss",
    ],
    only_configured: &["rtsp+http", "rtsp+https", "ws", "wss"],
    open: |url, confinement| Ok(Arc::new(Rtsp::new(url, confinement)?)),
};

/// From looking up the name until the first media. Home Assistant gives up after 10 s.
const OPEN_LIMIT: Duration = Duration::from_secs(7);
/// Finding the address, making a connection, agreeing on TLS, and each exchange of HTTP.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The same where nobody has answered before: then there is a call each second.
const REDIAL_LIMIT: Duration = Duration::from_secs(1);
/// Of so many calls that nobody answers, one is as patient as the first. A camera that comes back during it
/// waits up to 2 s longer, so there are none in the first quarter of a minute.
const PATIENT_CALL: u32 = 16;
/// How much longer an opening goes on for who asks next, after those who have waited until now were told
/// that it is slow: some cameras need that long to wake up, and to begin again would not help.
const PATIENCE: Duration = Duration::from_secs(10);
/// DESCRIBE: some cameras wake their encoder first, so it may take nearly all there is.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(16);
/// Each later request.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// From PLAY to the first packet by UDP, before TCP is tried instead: which takes some time, too.
const UDP_LIMIT: Duration = Duration::from_millis(2_500);
const SWITCH_LIMIT: Duration = Duration::from_millis(2_500);
/// Saying goodbye; and to a camera that has been silent.
const TEARDOWN_LIMIT: Duration = Duration::from_millis(1_500);
const SILENT_TEARDOWN_LIMIT: Duration = Duration::from_millis(500);
/// Largest UDP packet.
const DATAGRAM_MAX: usize = 64 << 10;
/// The status of a camera that does not know the transport that it is asked for ([RFC 2326 §11.3.7]).
///
/// [RFC 2326 §11.3.7]: https://datatracker.ietf.org/doc/html/rfc2326#section-11.3.7
const UNSUPPORTED_TRANSPORT: u16 = 461;

struct Rtsp {
    url: SourceUrl,
    /// The URL of requests.
    wire_url: Url,
    carrier: &'static Carrier,
    transport: Transport,
    trust: Option<Trust>,
    confinement: Confinement,
    /// Whether it plays by the other transport only than the one that was asked for.
    /// These two outlive a redirection.
    is_switched: Arc<AtomicBool>,
    lapses: Arc<Lapses>,
    was_answered: AtomicBool,
    /// Calls in a row that nobody answered.
    unanswered: AtomicU32,
    /// What the opening waits for, and since when.
    step: Mutex<(&'static str, Instant)>,
}

/// How a camera ends before it is told to.
enum End {
    Failed(Error),
    Moved(Redirect),
    /// It does not play by this transport; perhaps by the other.
    Unsuited(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Rtsp {
    fn new(url: &SourceUrl, confinement: &Confinement) -> Result<Self, Error> {
        let invalid = |what: &str| Err(Error::new(Verdict::BadUrl, what));
        if url.host().is_empty() {
            return invalid("the camera URL has no host; it should look like rtsp://host:554/path");
        }
        let Some(carrier) = carrier::of(url.scheme()) else {
            return invalid("the camera URL should begin with rtsp://");
        };
        let transport = match url.option("transport") {
            None | Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some(other) => {
                return invalid(&format!(
                    "unknown transport {other:?}: write #transport=tcp or #transport=udp"
                ));
            }
        };
        let pin = match url.option("sha256").map(Fingerprint::parse) {
            Some(None) => {
                return invalid(
                    "#sha256= takes the SHA-256 of the camera's certificate: 64 hexadecimal \
                     digits, with or without colons",
                );
            }
            pin => pin.flatten(),
        };
        let trust = Trust::of(url.scheme(), url.host(), pin);
        if trust.is_none() && pin.is_some() {
            return invalid(
                "#sha256= names a certificate, and this URL has no TLS; write rtsps://, \
                 rtsp+https:// or wss://, or remove it",
            );
        }
        if !carrier.is_plain && transport == Transport::Udp {
            return invalid(
                "a camera behind a web server sends media inside the connection; remove \
                 #transport=udp",
            );
        }
        if trust.is_some() && transport == Transport::Udp {
            return invalid(
                "a camera behind TLS sends media inside the connection; remove #transport=udp",
            );
        }
        Ok(Self {
            url: url.clone(),
            wire_url: carrier::wire_url(url)?,
            carrier,
            transport,
            trust,
            confinement: confinement.clone(),
            is_switched: Arc::default(),
            lapses: Arc::default(),
            was_answered: AtomicBool::new(true),
            unanswered: AtomicU32::new(0),
            step: Mutex::new(("the connection", Instant::now())),
        })
    }

    /// The transport to ask for.
    fn transport(&self) -> Transport {
        match (self.transport, self.is_switched.load(Ordering::Relaxed)) {
            (Transport::Tcp, false) | (Transport::Udp, true) => Transport::Tcp,
            (Transport::Udp, false) | (Transport::Tcp, true) => Transport::Udp,
        }
    }

    /// Whether the other transport could be asked for.
    fn can_switch(&self) -> bool {
        self.carrier.is_plain && self.trust.is_none()
    }

    /// What the opening waits for from now on.
    fn begin(&self, step: &'static str) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = (step, Instant::now());
    }

    /// What to tell those for whom the opening takes too long.
    fn slow(&self) -> Error {
        let (step, begun) = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        diagnose::silent(&self.url, step, begun.elapsed())
    }

    /// Connects by the carrier of the URL.
    async fn connect(&self, end: Instant) -> Result<(Session, Ends), Error> {
        self.begin("the name server");
        self.was_answered.store(true, Ordering::Relaxed);
        // Some cameras take their time; they are not to be missed for ever.
        let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed);
        let limit = if unanswered.is_multiple_of(PATIENT_CALL) {
            CONNECT_LIMIT
        } else {
            REDIAL_LIMIT
        };
        let found = connect::find(&self.url, &self.confinement, connect::look_up(&self.url));
        // After redirections little time may be left.
        let found = timeout_at(end, found).await.unwrap_or_else(|_| {
            Err(diagnose::silent(
                &self.url,
                "the name server",
                CONNECT_LIMIT,
            ))
        });
        // Nobody is called under a name that is not known.
        let is_unknown = matches!(&found, Err(e) if e.kind() == ErrorKind::Unavailable);
        self.was_answered.store(!is_unknown, Ordering::Relaxed);
        self.begin("the connection");
        let mut dialer = Dialer::new(self.url.clone(), self.trust, found?, limit, end);
        let link = (self.carrier.open)(&mut dialer).await;
        self.was_answered
            .store(dialer.was_answered(), Ordering::Relaxed);
        if dialer.was_answered() {
            self.unanswered.store(0, Ordering::Relaxed);
        }
        let link = link?;
        let connection = Connection::new(link.stream);
        let session = Session::new(connection, self.url.clone(), self.wire_url.clone());
        Ok((session, link.ends))
    }

    /// Describes, sets up and plays, before `end`.
    async fn open(
        &self,
        session: &mut Session,
        ends: Ends,
        end: Instant,
    ) -> Result<(Chosen, Vec<Route>), End> {
        let described = session.describe();
        let described = self
            .step("DESCRIBE", DESCRIBE_LIMIT, end, described)
            .await?;
        let description = Description::parse(&described.sdp);
        let mut chosen =
            Chosen::from(&description).map_err(|note| diagnose::unplayable(&self.url, note))?;
        let controls: Vec<_> = chosen.tracks.iter().map(|t| t.control.as_str()).collect();
        let aggregate = description.session.get("control").unwrap_or_default();
        let (routes, sources) = self
            .set_up(session, ends, end, &described.base, aggregate, &controls)
            .await?;
        for (track, ssrc) in chosen.tracks.iter_mut().zip(sources) {
            track.expected.ssrc = ssrc;
        }
        Ok((chosen, routes))
    }

    /// Sets up the tracks at `controls`, which are relative to `base` as `aggregate` is, and plays them. The
    /// routes, and the sources that the camera names.
    async fn set_up(
        &self,
        session: &mut Session,
        ends: Ends,
        end: Instant,
        base: &str,
        aggregate: &str,
        controls: &[&str],
    ) -> Result<(Vec<Route>, Vec<Option<u32>>), End> {
        let url_of = |control: &str| {
            control_url(base, control)
                .or_else(|| control_url(self.wire_url.as_str(), control))
                .ok_or(Failure::Answer(
                    "its description names a control URL that is none",
                ))
                .map_err(|failure| diagnose::failed(&self.url, "DESCRIBE", failure))
        };
        let aggregate = url_of(aggregate)?;
        session.set_aggregate(aggregate.clone());
        let mut routes = Vec::new();
        let mut sources = Vec::new();
        let transport = self.transport();
        for (control, index) in controls.iter().zip(0..) {
            let opened = Route::open(transport, index, ends.local).await;
            let (mut route, header) = opened.map_err(|e| {
                Error::new(Verdict::ServerFull, "no UDP ports for a camera").with_source(e)
            })?;
            let control = url_of(control)?;
            let setup = session.setup(&control, header);
            let answer = self.step("SETUP", REQUEST_LIMIT, end, setup).await?;
            let agreed = route.agree(&answer, ends.camera).await;
            agreed.map_err(|what| {
                let failure = Failure::Answer(what);
                End::Unsuited(diagnose::failed(&self.url, "SETUP", failure))
            })?;
            sources.push(transport::ssrc(&answer));
            routes.push(route);
        }
        let played = session.play(aggregate);
        match self.step("PLAY", REQUEST_LIMIT, end, played).await {
            // It plays, whatever it says.
            Err(End::Failed(e))
                if e.kind() == ErrorKind::DeadlineExceeded && session.has_early() => {}
            played => played?,
        }
        Ok((routes, sources))
    }

    /// One step of the opening with its deadline, the result in words for people.
    async fn step<T>(
        &self,
        request: &'static str,
        limit: Duration,
        end: Instant,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, End> {
        self.begin(request);
        let begun = Instant::now();
        let until = end.min(begun + limit);
        match timeout_at(until, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failure)) => Err(self.end(request, failure, Duration::ZERO)),
            Err(_) => Err(diagnose::silent(&self.url, request, until - begun).into()),
        }
    }

    fn end(&self, request: &str, failure: Failure, played: Duration) -> End {
        match failure {
            Failure::Moved(location) => End::Moved(Redirect { location, played }),
            Failure::Status(UNSUPPORTED_TRANSPORT, _) => {
                End::Unsuited(diagnose::failed(&self.url, request, failure))
            }
            failure => End::Failed(diagnose::failed(&self.url, request, failure)),
        }
    }

    /// The same as `serve`, and tells who waits if there is nothing to see at `opened_by`.
    async fn serve_telling(
        &self,
        session: &mut Session,
        ends: Ends,
        out: &Publisher,
        opened_by: Instant,
        is_last: bool,
    ) -> Result<(), End> {
        let mut serve = pin!(self.serve(session, ends, out, opened_by, is_last));
        tokio::select! {
            biased;
            end = serve.as_mut() => return end,
            () = sleep_until(opened_by) => {}
        }
        if !out.is_live() {
            let slow = self.slow();
            let verdict = slow.verdict();
            tracing::info!(%verdict, error = %slow.chain(), "camera is slow, still waiting for it");
            out.failed(slow);
        }
        serve.await
    }

    /// Opens the camera and publishes its frames until something breaks. If `is_last`, no other transport is
    /// tried after this one.
    async fn serve(
        &self,
        session: &mut Session,
        ends: Ends,
        out: &Publisher,
        opened_by: Instant,
        is_last: bool,
    ) -> Result<(), End> {
        let end = opened_by + PATIENCE;
        let (chosen, routes) = self.open(session, ends, end).await?;
        tracing::info!(tracks = %chosen, "camera connected");
        self.begin("the first packet");
        let begun = Instant::now();
        let transport = self.transport();
        let mut begin_by = if opened_by < begun + REQUEST_LIMIT {
            begun + OPEN_LIMIT
        } else {
            opened_by
        };
        if transport == Transport::Udp && !is_last {
            begin_by = begin_by.min(begun + UDP_LIMIT);
        }
        let mut buffer = match transport {
            Transport::Tcp => Vec::new(),
            Transport::Udp => vec![0; DATAGRAM_MAX],
        };
        let mut ingest = Ingest::new(
            chosen,
            transport,
            out.latest(),
            out.now() + (begin_by - begun),
        );
        let over = play::play(
            session,
            &routes,
            ends.camera,
            &mut ingest,
            &mut buffer,
            out,
            &self.lapses,
        );
        Err(match over.await {
            Over::Failed(failure) => self.end("media", failure, begun.elapsed()),
            Over::NeverBegan => {
                let error = diagnose::silent(&self.url, "the first packet", begun.elapsed());
                match transport {
                    Transport::Tcp => End::Failed(error),
                    Transport::Udp => End::Unsuited(error),
                }
            }
            Over::Silent(since) => diagnose::silent(&self.url, "media", since).into(),
            Over::Stopped(kind) => diagnose::stopped(&self.url, kind).into(),
        })
    }
}

#[async_trait]
impl Source for Rtsp {
    fn was_answered(&self) -> bool {
        self.was_answered.load(Ordering::Relaxed)
    }

    async fn hears(&self) -> Result<SpeechFormat, Note> {
        self.ask_for_back_channel().await
    }

    async fn listen(&self, turn: &mut Turn, stop: &CancellationToken) -> Result<(), Error> {
        self.pass_on(turn, stop).await
    }

    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let mut opened_by = Instant::now() + OPEN_LIMIT;
        let mut sent_to: Option<Self> = None;
        let mut hops = 0;
        let mut unsuited: Option<Error> = None;
        loop {
            let camera = sent_to.as_ref().unwrap_or(self);
            let is_last = unsuited.is_some() || !camera.can_switch();
            let mut end = camera.attempt(out, stop, opened_by, is_last).await;
            if let Err(End::Unsuited(error)) = end {
                if !is_last {
                    camera.is_switched.fetch_not(Ordering::Relaxed);
                    let transport = camera.transport();
                    tracing::info!(error = %error.chain(), ?transport, "trying the other transport");
                    opened_by = opened_by.max(Instant::now() + SWITCH_LIMIT);
                    unsuited = Some(error);
                    continue;
                }
                end = Err(End::Failed(unsuited.take().unwrap_or(error)));
            }
            let redirect = match end {
                Ok(()) => return Ok(()),
                Err(End::Unsuited(error)) => return Err(error),
                Err(End::Failed(error)) if hops == 0 => return Err(error),
                Err(End::Failed(error)) => return Err(diagnose::after_redirect(&self.url, &error)),
                Err(End::Moved(redirect)) => redirect,
            };
            if redirect.played > Duration::ZERO {
                opened_by = Instant::now() + OPEN_LIMIT;
            }
            // A camera that sends its clients elsewhere now and then is not one that goes in circles.
            hops = if redirect.played > Backoff::PROVEN {
                1
            } else {
                hops + 1
            };
            if hops > redirect::HOPS_MAX {
                let what = format!("more than {} times", redirect::HOPS_MAX);
                return Err(diagnose::astray(&self.url, &what));
            }
            let url = redirect::follow(&camera.url, &redirect.location)?;
            tracing::info!(from = %camera.url, to = %url, "the camera sends us elsewhere");
            let next = Self::new(&url, &self.confinement)
                .map_err(|error| diagnose::after_redirect(&self.url, &error))?;
            sent_to = Some(Self {
                is_switched: Arc::clone(&self.is_switched),
                lapses: Arc::clone(&self.lapses),
                ..next
            });
        }
    }
}

impl Rtsp {
    /// One connection to the camera, closed at the end.
    async fn attempt(
        &self,
        out: &Publisher,
        stop: &CancellationToken,
        opened_by: Instant,
        is_last: bool,
    ) -> Result<(), End> {
        let (mut session, ends) = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            connected = self.connect(opened_by) => connected?,
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            end = self.serve_telling(&mut session, ends, out, opened_by, is_last) => end,
        };
        // A camera with room for one connection must be free before the next attempt.
        let limit = match &end {
            Err(End::Failed(e)) if e.kind() == ErrorKind::DeadlineExceeded => SILENT_TEARDOWN_LIMIT,
            _ => TEARDOWN_LIMIT,
        };
        if timeout(limit, session.teardown()).await.is_err() {
            tracing::debug!("camera did not confirm the end");
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let pin = "0a".repeat(32);
        for (url, told) in [
            ("rtsp+http://h/x#transport=udp", "remove #transport=udp"),
            ("wss://h/x#transport=udp", "remove #transport=udp"),
            ("rtsps://h/x#transport=udp", "remove #transport=udp"),
            ("rtsp://h/x#transport=carrier-pigeon", "unknown transport"),
            ("ws://h/x#rtsp=http://h/y", "#rtsp= takes a path"),
            ("rtsps://h/x#sha256=12ab", "64 hexadecimal digits"),
            ("rtsp+http://h/x#sha256=12ab", "64 hexadecimal digits"),
            (&format!("ws://h/x#sha256={pin}"), "has no TLS"),
            (&format!("rtsp://h/x#sha256={pin}"), "has no TLS"),
        ] {
            let source = SourceUrl::parse(url).unwrap();
            let error = Rtsp::new(&source, &Confinement::default()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
            assert!(error.to_string().contains(told), "{url}: {error}");
        }
    }
}
