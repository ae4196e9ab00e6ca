//! RTSP cameras: one session from DESCRIBE to TEARDOWN, RTP packets to frames.
//!
//! `dial` connects, also inside TLS, and a `carrier` makes a stream of bytes of it, also through a web
//! server. `connection` frames messages over that, `session` speaks the protocol, `transport` and
//! `packet` bring RTP in order, `ingest` makes frames of it.

mod authentication;
mod carrier;
mod connect;
mod connection;
mod diagnose;
mod dial;
mod head;
mod http;
mod ingest;
pub mod inspect;
#[cfg(test)]
mod mutations;
mod packet;
mod redirect;
mod session;
mod tls;
mod tracks;
mod transport;
mod tunnel;
mod websocket;

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{
    carrier::Carrier,
    connection::Connection,
    dial::{Dialer, Ends},
    ingest::Ingest,
    redirect::Redirect,
    session::{Failure, Session},
    tls::{Fingerprint, Trust},
    tracks::{Chosen, control_url},
    transport::{Arrived, Route, Transport},
};
use super::{Confinement, Source, SourceKind};
use crate::{
    base::{Error, ErrorKind, SourceUrl, backoff::Backoff},
    hub::Publisher,
    media::sdp::Description,
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
/// DESCRIBE: some cameras wake their encoder first, so it may take nearly all there is.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(6);
/// Each later request.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Silence after which a camera counts as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Saying goodbye.
const TEARDOWN_LIMIT: Duration = Duration::from_millis(1_500);
/// Largest UDP packet.
const DATAGRAM_MAX: usize = 64 << 10;

struct Rtsp {
    url: SourceUrl,
    /// The URL of requests.
    wire_url: Url,
    carrier: &'static Carrier,
    transport: Transport,
    trust: Option<Trust>,
    confinement: Confinement,
}

/// How a camera ends before it is told to.
enum End {
    Failed(Error),
    Moved(Redirect),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Rtsp {
    fn new(url: &SourceUrl, confinement: &Confinement) -> Result<Self, Error> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidArgument, what));
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
        })
    }

    /// Connects by the carrier of the URL.
    async fn connect(&self, end: Instant) -> Result<(Session, Ends), Error> {
        let found = connect::find(&self.url, &self.confinement, connect::look_up(&self.url));
        // After redirections little time may be left.
        let addresses = timeout_at(end, found).await.unwrap_or_else(|_| {
            Err(diagnose::silent(
                &self.url,
                "the name server",
                CONNECT_LIMIT,
            ))
        })?;
        let mut dialer = Dialer::new(self.url.clone(), self.trust, addresses, end);
        let link = (self.carrier.open)(&mut dialer).await?;
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
        let chosen =
            Chosen::from(&description).map_err(|what| diagnose::unplayable(&self.url, &what))?;
        let controls: Vec<_> = chosen.tracks.iter().map(|t| t.control.as_str()).collect();
        let aggregate = description.session.get("control").unwrap_or_default();
        let routes = self
            .set_up(session, ends, end, &described.base, aggregate, &controls)
            .await?;
        Ok((chosen, routes))
    }

    /// Sets up the tracks at `controls`, which are relative to `base` as `aggregate` is, and plays them.
    async fn set_up(
        &self,
        session: &mut Session,
        ends: Ends,
        end: Instant,
        base: &str,
        aggregate: &str,
        controls: &[&str],
    ) -> Result<Vec<Route>, End> {
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
        for (control, index) in controls.iter().zip(0..) {
            let opened = Route::open(self.transport, index, ends.local).await;
            let (mut route, header) = opened.map_err(|e| {
                Error::new(ErrorKind::ResourceExhausted, "no UDP ports for a camera").with_source(e)
            })?;
            let control = url_of(control)?;
            let setup = session.setup(&control, header);
            let chosen = self.step("SETUP", REQUEST_LIMIT, end, setup).await?;
            route
                .agree(&chosen, ends.camera)
                .await
                .map_err(|what| diagnose::failed(&self.url, "SETUP", Failure::Answer(what)))?;
            routes.push(route);
        }
        self.step("PLAY", REQUEST_LIMIT, end, session.play(aggregate))
            .await?;
        Ok(routes)
    }

    /// One step of the opening with its deadline, the result in words for people.
    async fn step<T>(
        &self,
        request: &str,
        limit: Duration,
        end: Instant,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, End> {
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
            failure => End::Failed(diagnose::failed(&self.url, request, failure)),
        }
    }

    /// Opens the camera and publishes its frames until something breaks.
    async fn serve(
        &self,
        session: &mut Session,
        ends: Ends,
        out: &Publisher,
        opened_by: Instant,
    ) -> Result<(), End> {
        let (chosen, routes) = self.open(session, ends, opened_by).await?;
        tracing::info!(tracks = %chosen, "camera connected");
        let begun = Instant::now();
        let mut ingest = Ingest::new(chosen, out.latest());
        let mut buffer = match self.transport {
            Transport::Tcp => Vec::new(),
            Transport::Udp => vec![0; DATAGRAM_MAX],
        };
        let (mut silent_at, mut waiting_for, mut limit) =
            (opened_by, "the first packet", OPEN_LIMIT);
        loop {
            let next = next_packet(session, &routes, ends.camera, &mut buffer);
            let mut next = std::pin::pin!(next);
            let arrived = if let Some(arrived) = next.as_mut().now_or_never() {
                Ok(arrived)
            } else {
                ingest.dry(out);
                timeout_at(silent_at, next).await
            };
            match arrived {
                Ok(Ok(Some(arrived))) => {
                    if ingest.take(&arrived, out) {
                        (waiting_for, limit) = ("media", SILENCE_LIMIT);
                        silent_at = Instant::now() + SILENCE_LIMIT;
                    }
                }
                // A packet on a channel that nobody asked for.
                Ok(Ok(None)) => {}
                Ok(Err(failure)) => return Err(self.end("media", failure, begun.elapsed())),
                Err(_) => return Err(diagnose::silent(&self.url, waiting_for, limit).into()),
            }
        }
    }
}

/// The next packet, however it comes; the session is kept alive meanwhile.
async fn next_packet(
    session: &mut Session,
    routes: &[Route],
    camera: IpAddr,
    buffer: &mut [u8],
) -> Result<Option<Arrived>, Failure> {
    let interleaved = tokio::select! {
        interleaved = session.next() => interleaved?,
        arrived = transport::receive(routes, camera, buffer), if !buffer.is_empty() => {
            return Ok(Some(arrived));
        }
    };
    Ok(routes.iter().enumerate().find_map(|(track, route)| {
        let Route::Channels(rtp, rtcp) = route else {
            return None;
        };
        let control = *rtcp == interleaved.channel;
        (control || *rtp == interleaved.channel).then(|| Arrived {
            track,
            control,
            packet: interleaved.packet.clone(),
        })
    }))
}

#[async_trait]
impl Source for Rtsp {
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let mut opened_by = Instant::now() + OPEN_LIMIT;
        let mut sent_to: Option<Self> = None;
        let mut hops = 0;
        loop {
            let camera = sent_to.as_ref().unwrap_or(self);
            let redirect = match camera.attempt(out, stop, opened_by).await {
                Ok(()) => return Ok(()),
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
            sent_to = Some(Self::new(&url, &self.confinement)?);
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
    ) -> Result<(), End> {
        let (mut session, ends) = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            connected = self.connect(opened_by) => connected?,
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            end = self.serve(&mut session, ends, out, opened_by) => end,
        };
        // A camera with room for one connection must be free before the next attempt.
        if timeout(TEARDOWN_LIMIT, session.teardown()).await.is_err() {
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
