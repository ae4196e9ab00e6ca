//! `rtsp://` cameras, also inside TLS: one connection from DESCRIBE to TEARDOWN, RTP packets to frames.
//!
//! `connection` frames messages over a stream of bytes, `session` speaks the protocol, `transport`
//! and `packet` bring RTP in order, `ingest` makes frames of it.

mod connection;
mod diagnose;
mod head;
mod ingest;
mod packet;
mod session;
mod tls;
mod tracks;
mod transport;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    connection::{ByteStream, Connection},
    ingest::Ingest,
    session::{Failure, Session},
    tls::Trust,
    tracks::{Chosen, control_url},
    transport::{Arrived, Route, Transport},
};
use super::{Source, SourceKind};
use crate::{
    base::{Error, ErrorKind, SourceUrl},
    hub::Publisher,
    media::sdp::Description,
};

/// Opens `rtsp://` URLs, and with TLS `rtsps://` and `rtspx://`.
pub const KIND: SourceKind = SourceKind {
    name: "rtsp",
    schemes: &["rtsp", "rtsps", "rtspx"],
    open: |url| Ok(Arc::new(Rtsp::new(url)?)),
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
}

/// The two ends of the connection to a camera.
#[derive(Debug, Clone, Copy)]
struct Ends {
    local: IpAddr,
    camera: IpAddr,
}

impl Rtsp {
    fn new(url: &SourceUrl) -> Result<Self, Error> {
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
        })
    }

    /// Looks the name up once and connects to an address that was found.
    async fn connect(&self, end: Instant) -> Result<(Session, Ends), Error> {
        let host = self.url.host().trim_matches(['[', ']']);
        let lookup = tokio::net::lookup_host((host, self.url.port()));
        let addresses: Vec<SocketAddr> = match timeout(CONNECT_LIMIT, lookup).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) => Vec::new(),
            Err(_) => {
                return Err(diagnose::silent(
                    &self.url,
                    "the name server",
                    CONNECT_LIMIT,
                ));
            }
        };
        if addresses.is_empty() {
            return Err(diagnose::unknown_host(&self.url));
        }
        let stream = self.dial(&addresses).await?;
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

    /// Connects to the first of `addresses` that answers. Each has its share of the time, so that one
    /// that leads nowhere does not keep us from the next.
    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
        let share = CONNECT_LIMIT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut fault = diagnose::silent(&self.url, "the connection", CONNECT_LIMIT);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => fault = diagnose::unreachable(&self.url, e),
                Err(_) => {}
            }
        }
        Err(fault)
    }

    /// Describes, sets up and plays, before `end`.
    async fn open(
        &self,
        session: &mut Session,
        ends: Ends,
        end: Instant,
    ) -> Result<(Chosen, Vec<Route>), Error> {
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
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let until = end.min(begun + limit);
        match timeout_at(until, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failure)) => Err(diagnose::failed(&self.url, request, failure)),
            Err(_) => Err(diagnose::silent(&self.url, request, until - begun)),
        }
    }

    /// Opens the camera and publishes its frames until something breaks.
    async fn serve(
        &self,
        session: &mut Session,
        ends: Ends,
        out: &Publisher,
        opened_by: Instant,
    ) -> Result<(), Error> {
        let (chosen, routes) = self.open(session, ends, opened_by).await?;
        tracing::info!(tracks = %chosen, "camera connected");
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
                Ok(Err(failure)) => return Err(diagnose::failed(&self.url, "media", failure)),
                Err(_) => return Err(diagnose::silent(&self.url, waiting_for, limit)),
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
        let opened_by = Instant::now() + OPEN_LIMIT;
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
