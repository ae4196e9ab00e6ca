//! `rtsp://` cameras: one connection from DESCRIBE to TEARDOWN, RTP packets to frames.

mod diagnose;
mod ingest;
mod tracks;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use retina::client::{
    Credentials, InitialSequenceNumberPolicy, InitialTimestampPolicy, PacketItem, PlayOptions,
    Playing, Session, SessionGroup, SessionIdPolicy, SessionOptions, SetupOptions, TeardownPolicy,
    Transport, UnknownRtcpSsrcPolicy,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::{ingest::Ingest, tracks::Chosen};
use super::{Source, SourceKind};
use crate::{
    base::{Error, ErrorKind, SourceUrl},
    hub::Publisher,
    media::sdp::Description,
};

/// Opens `rtsp://` URLs.
pub const KIND: SourceKind = SourceKind {
    name: "rtsp",
    schemes: &["rtsp"],
    open: |url| Ok(Arc::new(Rtsp::new(url)?)),
};

/// From the first packet to the camera until its first media. Home Assistant gives up after 10 s.
const OPEN_LIMIT: Duration = Duration::from_secs(7);
/// Finding the host's address.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);
/// Connecting and describing; the connection itself cannot be timed apart.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(5);
/// Each later request.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Silence after which a camera counts as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Saying goodbye.
const TEARDOWN_LIMIT: Duration = Duration::from_millis(1_500);

struct Rtsp {
    url: SourceUrl,
    transport: Transport,
}

impl Rtsp {
    fn new(url: &SourceUrl) -> Result<Self, Error> {
        let transport = match url.option("transport") {
            None | Some("tcp") => Transport::Tcp(<_>::default()),
            Some("udp") => Transport::Udp(<_>::default()),
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("unknown transport {other:?}: write #transport=tcp or #transport=udp"),
                ));
            }
        };
        Ok(Self {
            url: url.clone(),
            transport,
        })
    }

    /// Connects, describes, sets up and plays, before `end`.
    async fn open(
        &self,
        group: &Arc<SessionGroup>,
        end: Instant,
    ) -> Result<(Session<Playing>, Chosen), Error> {
        self.resolve().await?;
        let credentials = self.url.credentials().map(|c| Credentials {
            username: c.user.reveal().to_owned(),
            password: c.password.reveal().to_owned(),
        });
        let options = SessionOptions::default()
            .creds(credentials)
            .user_agent(concat!("Porthole/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(Arc::clone(group))
            .session_id(SessionIdPolicy::UseFirst)
            .teardown(TeardownPolicy::Always);
        let describe = Session::describe(self.url.request_url().clone(), options);
        let mut session = self.step("DESCRIBE", DESCRIBE_LIMIT, end, describe).await?;
        let description = Description::parse(&String::from_utf8_lossy(session.sdp()));
        let chosen = Chosen::from(session.streams(), &description).map_err(|what| {
            Error::new(
                ErrorKind::NotAcceptable,
                format!("camera {}: {what}", self.url),
            )
        })?;
        for track in &chosen.tracks {
            let options = SetupOptions::default().transport(self.transport.clone());
            let setup = session.setup(track.stream, options);
            self.step("SETUP", REQUEST_LIMIT, end, setup).await?;
        }
        // Real cameras leave out or invent these values; media goes by its own packets.
        let options = PlayOptions::default()
            .initial_timestamp(InitialTimestampPolicy::Permissive)
            .initial_seq(InitialSequenceNumberPolicy::Ignore)
            .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
        let session = self
            .step("PLAY", REQUEST_LIMIT, end, session.play(options))
            .await?;
        Ok((session, chosen))
    }

    async fn resolve(&self) -> Result<(), Error> {
        let (host, port) = (self.url.host(), self.url.port());
        let bare = host.trim_matches(['[', ']']);
        let lookup = tokio::net::lookup_host((bare, port));
        let found = match tokio::time::timeout(RESOLVE_LIMIT, lookup).await {
            Ok(Ok(mut addresses)) => addresses.next().is_some(),
            Ok(Err(_)) => false,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!(
                        "camera {}: the name server did not answer for {host} within {} s; write \
                         the camera's IP address instead of its name",
                        self.url,
                        RESOLVE_LIMIT.as_secs()
                    ),
                ));
            }
        };
        if found {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "camera {}: the host {host} cannot be found; check the name, or write the \
                 camera's IP address",
                self.url
            ),
        ))
    }

    /// One step of the opening with its deadline, the result in words for people.
    async fn step<T>(
        &self,
        request: &str,
        limit: Duration,
        end: Instant,
        work: impl Future<Output = Result<T, retina::Error>>,
    ) -> Result<T, Error> {
        let until = end.min(Instant::now() + limit);
        match timeout_at(until, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(e)) => Err(diagnose::failed(&self.url, request, &e)),
            Err(_) => Err(diagnose::silent(&self.url, request, limit)),
        }
    }

    async fn play(
        &self,
        session: &mut Session<Playing>,
        chosen: Chosen,
        out: &Publisher,
        opened_by: Instant,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut ingest = Ingest::new(chosen);
        let mut first = true;
        loop {
            let silent_at = if first {
                opened_by
            } else {
                Instant::now() + SILENCE_LIMIT
            };
            let item = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                item = timeout_at(silent_at, session.next()) => item,
            };
            match item {
                Ok(Some(Ok(item))) => {
                    first &= !matches!(item, PacketItem::Rtp(_));
                    ingest.take(item, out);
                }
                Ok(Some(Err(e))) => return Err(diagnose::failed(&self.url, "PLAY", &e)),
                Ok(None) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!("camera {} ended the stream", self.url),
                    ));
                }
                Err(_) if first => {
                    return Err(diagnose::silent(&self.url, "the first packet", OPEN_LIMIT));
                }
                Err(_) => return Err(diagnose::silent(&self.url, "media", SILENCE_LIMIT)),
            }
        }
    }
}

#[async_trait]
impl Source for Rtsp {
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let group = Arc::<SessionGroup>::default();
        let opened_by = Instant::now() + OPEN_LIMIT;
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            opened = self.open(&group, opened_by) => opened.map(Some),
        };
        let end = match opened {
            Ok(Some((mut session, chosen))) => {
                tracing::info!(source = %self.url, tracks = %chosen, "camera connected");
                let end = self.play(&mut session, chosen, out, opened_by, stop).await;
                drop(session);
                end
            }
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        // A camera with room for one connection must be free before the next attempt.
        let goodbye = tokio::time::timeout(TEARDOWN_LIMIT, group.await_teardown()).await;
        if !matches!(goodbye, Ok(Ok(()))) {
            tracing::debug!(source = %self.url, "camera did not confirm the end");
        }
        end
    }
}
