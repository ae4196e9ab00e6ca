//! `rtsp://` cameras, also inside TLS: one connection from DESCRIBE to TEARDOWN, RTP packets to frames.
//!
//! `connection` frames messages over a stream of bytes, `session` speaks the protocol, `transport`
//! and `packet` bring RTP in order, `ingest` makes frames of it.

mod authentication;
mod connect;
mod connection;
mod diagnose;
mod head;
mod ingest;
#[cfg(test)]
mod mutations;
mod packet;
mod redirect;
mod session;
mod tls;
mod tracks;
mod transport;

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{
    connection::{ByteStream, Connection},
    ingest::Ingest,
    redirect::Redirect,
    session::{Failure, Session},
    tls::Trust,
    tracks::{Chosen, control_url},
    transport::{Arrived, Route, Transport},
};
use super::{Confinement, Source, SourceKind};
use crate::{
    base::{Error, ErrorKind, SourceUrl, backoff::Backoff},
    hub::Publisher,
    media::sdp::Description,
};

/// Opens `rtsp://` URLs, and with TLS `rtsps://` and `rtspx://`.
pub const KIND: SourceKind = SourceKind {
    name: "rtsp",
    schemes: &["rtsp", "rtsps", "rtspx"],
    open: |url, confinement| Ok(Arc::new(Rtsp::new(url, confinement)?)),
};

/// From looking up the name until the first media. Home Assistant gives up after 10 s.
const OPEN_LIMIT: Duration = Duration::from_secs(7);
/// Finding the address, making the connection, and agreeing on TLS, each.
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
    transport: Transport,
    tls: Option<Trust>,
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

/// The two ends of the connection to a camera.
#[derive(Debug, Clone, Copy)]
struct Ends {
    local: IpAddr,
    camera: IpAddr,
}

impl Rtsp {
    fn new(url: &SourceUrl, confinement: &Confinement) -> Result<Self, Error> {
        if url.host().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the camera URL has no host; it should look like rtsp://host:554/path",
            ));
        }
        let transport = match url.option("transport") {
            None | Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("unknown transport {other:?}: write #transport=tcp or #transport=udp"),
                ));
            }
        };
        let tls = Trust::of(url.scheme(), url.host());
        if tls.is_some() && transport == Transport::Udp {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "a camera behind TLS sends media inside the connection; remove #transport=udp",
            ));
        }
        Ok(Self {
            url: url.clone(),
            transport,
            tls,
            confinement: confinement.clone(),
        })
    }

    /// Connects, and agrees on TLS if the URL wants that.
    async fn connect(&self, end: Instant) -> Result<(Session, Ends), Error> {
        let lookup = connect::look_up(&self.url);
        let connected = connect::connect(&self.url, &self.confinement, lookup);
        // After redirections little time may be left.
        let stream = timeout_at(end, connected).await.unwrap_or_else(|_| {
            let what = "the connection";
            Err(diagnose::silent(&self.url, what, CONNECT_LIMIT))
        })?;
        let ends = stream
            .set_nodelay(true)
            .and_then(|()| Ok((stream.local_addr()?.ip(), stream.peer_addr()?.ip())));
        let (local, camera) = ends.map_err(|e| diagnose::unreachable(&self.url, e))?;
        let stream: Box<dyn ByteStream> = match self.tls {
            None => Box::new(stream),
            Some(trust) => {
                let handshake = tls::secure(stream, self.url.host(), trust);
                let until = end.min(Instant::now() + CONNECT_LIMIT);
                match timeout_at(until, handshake).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(e)) => return Err(diagnose::insecure(&self.url, e)),
                    Err(_) => return Err(diagnose::silent(&self.url, "TLS", CONNECT_LIMIT)),
                }
            }
        };
        let connection = Connection::new(stream);
        Ok((
            Session::new(connection, self.url.clone()),
            Ends { local, camera },
        ))
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
        let chosen = Chosen::from(&description).map_err(|what| {
            Error::new(
                ErrorKind::NotAcceptable,
                format!("camera {}: {what}", self.url),
            )
        })?;
        let url_of = |control: &str| {
            control_url(&described.base, control)
                .or_else(|| control_url(session::wire_url(&self.url).as_str(), control))
                .ok_or(Failure::Answer(
                    "its description names a control URL that is none",
                ))
                .map_err(|failure| diagnose::failed(&self.url, "DESCRIBE", failure))
        };
        let aggregate = url_of(description.session.get("control").unwrap_or_default())?;
        session.set_aggregate(aggregate.clone());
        let mut routes = Vec::new();
        for (track, index) in chosen.tracks.iter().zip(0..) {
            let opened = Route::open(self.transport, index, ends.local).await;
            let (mut route, header) = opened.map_err(|e| {
                Error::new(ErrorKind::ResourceExhausted, "no UDP ports for a camera").with_source(e)
            })?;
            let control = url_of(&track.control)?;
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
        Ok((chosen, routes))
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
