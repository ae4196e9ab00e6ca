//! [`inspect`]: a camera is opened, watched for some seconds and left, to tell what there is to know of it.
//!
//! It never has more than one connection to the camera: each question beyond the first, whether the other
//! transport works and whether it can be talked to, is asked by a connection of its own after the last.

mod found;
mod measure;
mod tracks;

use std::{net::IpAddr, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

pub use self::found::{InspectedTrack, Inspection, Measured, Picture, Seconds, Sizes, Trial};
use self::tracks::Tracks;
use super::{
    DATAGRAM_MAX, DESCRIBE_LIMIT, End, OPEN_LIMIT, Rtsp, TEARDOWN_LIMIT, authentication,
    back_channel, diagnose,
    dial::Ends,
    play::next_packet,
    redirect::{self, Redirect},
    session::{Described, Session},
    tracks::Chosen,
    transport::{Route, Transport},
};
use crate::{
    base::{Error, Note, SourceUrl, Verdict},
    media::sdp::Description,
    source::Confinement,
};

/// All of it. People wait for the answer.
pub const LIMIT: Duration = Duration::from_millis(14_500);
/// Kept free for what comes after the watching: the other transport, and the back channel.
const RESERVE: Duration = Duration::from_millis(3_500);
/// From PLAY to the first packet.
const FIRST_PACKET_LIMIT: Duration = Duration::from_secs(4);
/// The same where only this is asked: cameras that send at all do so at once.
const TRIAL_LIMIT: Duration = Duration::from_millis(1_500);
/// From one connection to the next: cameras need a moment to see that the last one has ended.
const PAUSE: Duration = Duration::from_millis(150);

/// Tells `progress` what is done next.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Finds out what there is to know about the camera at `url`, within [`LIMIT`]. A URL of the operator's
/// own may lead anywhere.
///
/// # Errors
/// `InvalidArgument` when it is no camera's URL. What goes wrong with the camera is part of the result.
pub async fn inspect(url: &SourceUrl, progress: Progress<'_>) -> Result<Inspection, Error> {
    let camera = Rtsp::new(url, &Confinement::of_operator(url))?;
    let mut inspector = Inspector {
        found: Inspection {
            asked_for_udp: camera.transport == Transport::Udp,
            ..Inspection::default()
        },
        camera,
        end: Instant::now() + LIMIT,
        progress,
    };
    inspector.run().await;
    Ok(inspector.found)
}

struct Inspector<'a> {
    camera: Rtsp,
    end: Instant,
    found: Inspection,
    progress: Progress<'a>,
}

/// Why a visit to the camera has ended early.
enum Broken {
    /// Another transport would not help.
    ForGood(Error),
    /// Another might.
    ForTransport(Error),
    Moved(Redirect),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::ForGood(error)
    }
}

impl From<End> for Broken {
    fn from(end: End) -> Self {
        match end {
            End::Failed(error) => Self::ForGood(error),
            End::Unsuited(error) => Self::ForTransport(error),
            End::Moved(redirect) => Self::Moved(redirect),
        }
    }
}

impl Inspector<'_> {
    async fn run(&mut self) {
        let first = self.camera.transport;
        let other = match first {
            Transport::Tcp => Transport::Udp,
            Transport::Udp => Transport::Tcp,
        };
        let mut failure = None;
        match self.watch().await {
            Ok(()) => *self.trial(first) = Trial::Works,
            Err(Broken::ForTransport(error)) => {
                *self.trial(first) = Trial::Fails(error.to_string());
                failure = Some(error);
            }
            Err(Broken::ForGood(error)) => {
                self.found.failure = Some(error);
                return;
            }
            Err(Broken::Moved(_)) => return,
        }
        if self.camera.trust.is_none() && self.camera.carrier.is_plain {
            self.camera.transport = other;
            let result = if failure.is_none() {
                self.tell(&format!("asking for {other} instead of {first}"));
                let until = (self.end - Duration::from_millis(500)).min(Instant::now() + RESERVE);
                self.visit(until, Watch::First).await
            } else {
                self.tell(&format!("{first} does not work, asking for {other}"));
                self.watch().await
            };
            *self.trial(other) = match result {
                Ok(()) => Trial::Works,
                Err(Broken::ForGood(e) | Broken::ForTransport(e)) => Trial::Fails(e.to_string()),
                Err(Broken::Moved(_)) => Trial::NotTried,
            };
            self.camera.transport = first;
            if *self.trial(other) == Trial::Works {
                failure = None;
            }
        }
        self.found.failure = self.found.failure.take().or(failure);
        if Instant::now() + Duration::from_secs(1) < self.end {
            self.tell("asking whether it can be talked to");
            self.found.back_channel = self.back_channel().await;
        }
    }

    fn tell(&mut self, what: &str) {
        (self.progress)(what);
    }

    fn trial(&mut self, transport: Transport) -> &mut Trial {
        match transport {
            Transport::Tcp => &mut self.found.tcp,
            Transport::Udp => &mut self.found.udp,
        }
    }

    /// Visits the camera to watch it, wherever it sends us.
    async fn watch(&mut self) -> Result<(), Broken> {
        let until = self.end - RESERVE;
        let first = self.camera.url.clone();
        // As `Source::run` does.
        for hops in 0..=redirect::HOPS_MAX {
            let after = |error| match hops {
                0 => error,
                _ => diagnose::after_redirect(&first, &error),
            };
            let location = match self.visit(until, Watch::All).await {
                Ok(()) => return Ok(()),
                Err(Broken::ForGood(error)) => return Err(Broken::ForGood(after(error))),
                Err(Broken::ForTransport(error)) => return Err(Broken::ForTransport(after(error))),
                Err(Broken::Moved(redirect)) => redirect.location,
            };
            let url = redirect::follow(&self.camera.url, &location)?;
            self.tell(&format!("it sends us to {url}"));
            self.found.redirected_to = Some(url.to_string());
            let transport = self.camera.transport;
            self.camera = Rtsp::new(&url, &self.camera.confinement)?;
            self.camera.transport = transport;
        }
        let what = format!("more than {} times", redirect::HOPS_MAX);
        Err(diagnose::astray(&first, &what).into())
    }

    /// One connection to the camera, closed at the end.
    async fn visit(&mut self, until: Instant, watch: Watch) -> Result<(), Broken> {
        if watch == Watch::All {
            self.tell(&format!("connecting to {}", self.camera.url));
        }
        let opened_by = until.min(Instant::now() + OPEN_LIMIT);
        let (mut session, ends) = self.camera.connect(opened_by).await?;
        self.found.address = Some(ends.camera.to_canonical());
        let result = self.look(&mut session, ends, opened_by, until, watch).await;
        let heard = session.heard().clone();
        self.found.server = self.found.server.take().or(heard.server);
        if let Some(challenges) = heard.challenges {
            self.found.authentication = authentication::schemes(&challenges);
        }
        // A camera with room for one connection must be free before the next one.
        let by = self.end.min(Instant::now() + TEARDOWN_LIMIT);
        let _ = timeout_at(by, session.teardown()).await;
        drop(session);
        sleep(PAUSE).await;
        result
    }

    async fn look(
        &mut self,
        session: &mut Session,
        ends: Ends,
        opened_by: Instant,
        until: Instant,
        watch: Watch,
    ) -> Result<(), Broken> {
        let asked = session.describe();
        let described = self
            .camera
            .step("DESCRIBE", DESCRIBE_LIMIT, opened_by, asked);
        let Described { sdp, base } = described.await?;
        let description = Description::parse(&sdp);
        let mut tracks = Tracks::of(&description);
        if tracks.watched.is_empty() {
            let note = Chosen::from(&description).err().unwrap_or_else(|| {
                let sentence = "it describes neither video nor audio";
                Note::new(Verdict::BadDescription, sentence)
            });
            return Err(diagnose::unplayable(&self.camera.url, note).into());
        }
        let aggregate = description.session.get("control").unwrap_or_default();
        let controls: Vec<_> = tracks.watched.iter().map(|track| track.control).collect();
        let routes = self
            .camera
            .set_up(session, ends, opened_by, &base, aggregate, &controls);
        let routes = routes.await.map_err(|end| match Broken::from(end) {
            Broken::ForGood(error) => Broken::ForTransport(error),
            moved => moved,
        });
        // What was seen by one transport is not forgotten because another one does not work.
        if watch == Watch::All && (routes.is_ok() || self.found.tracks.is_empty()) {
            self.found.tracks = std::mem::take(&mut tracks.all);
        }
        let (routes, _) = routes?;
        if watch == Watch::All {
            let seconds = (until - Instant::now()).as_secs();
            self.tell(&format!("{tracks}: watching, for {seconds} s at the most"));
        }
        let result = self.count(session, &routes, ends.camera, &mut tracks, until, watch);
        let result = result.await;
        if watch == Watch::All {
            for track in &tracks.watched {
                self.found.tracks[track.index].measured = Some(track.meter.measured());
            }
        }
        result
    }

    /// Takes packets until enough is known.
    async fn count(
        &mut self,
        session: &mut Session,
        routes: &[Route],
        camera: IpAddr,
        tracks: &mut Tracks<'_>,
        until: Instant,
        watch: Watch,
    ) -> Result<(), Broken> {
        let mut buffer = match self.camera.transport {
            Transport::Tcp => Vec::new(),
            Transport::Udp => vec![0; DATAGRAM_MAX],
        };
        let types = vec![None; routes.len()];
        let begun = Instant::now();
        let first_limit = match watch {
            Watch::All => FIRST_PACKET_LIMIT,
            Watch::First => TRIAL_LIMIT,
        };
        let first_by = until.min(begun + first_limit);
        let mut has_media = false;
        loop {
            let now = Instant::now();
            if has_media && (watch == Watch::First || tracks.is_enough(now - begun)) {
                return Ok(());
            }
            let wake = if has_media {
                until.min(now + Duration::from_millis(250))
            } else {
                first_by
            };
            let next = next_packet(session, routes, &types, camera, &mut buffer);
            match timeout_at(wake, next).await {
                Ok(Ok(Some(arrived))) => {
                    let track = tracks.watched.get_mut(arrived.track);
                    has_media |= track
                        .is_some_and(|track| track.meter.take(arrived.control, &arrived.packet));
                }
                Ok(Ok(None)) => {}
                Ok(Err(failure)) => {
                    return match self.camera.end("media", failure, begun.elapsed()) {
                        // What was seen is worth telling.
                        End::Failed(error) if has_media => {
                            self.found.failure = Some(error);
                            Ok(())
                        }
                        End::Failed(error) | End::Unsuited(error) => {
                            Err(Broken::ForTransport(error))
                        }
                        End::Moved(redirect) => Err(Broken::Moved(redirect)),
                    };
                }
                Err(_) if has_media && Instant::now() < until => {}
                Err(_) if has_media => return Ok(()),
                Err(_) => {
                    let error = diagnose::silent(&self.camera.url, "the first packet", first_limit);
                    return Err(Broken::ForTransport(error));
                }
            }
        }
    }

    async fn back_channel(&mut self) -> Option<bool> {
        let (mut session, _) = self.camera.connect(self.end).await.ok()?;
        session.require(back_channel::FEATURE);
        match timeout_at(self.end, session.describe()).await.ok()? {
            Ok(described) => {
                let description = Description::parse(&described.sdp);
                let mut sections = description.media.iter();
                Some(sections.any(|s| s.media == "audio" && s.attributes.has("sendonly")))
            }
            // 551, if it goes by the standard.
            Err(super::session::Failure::Status(..)) => Some(false),
            Err(_) => None,
        }
    }
}

/// How long a visit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Until all is known.
    All,
    /// Until the first packet.
    First,
}
