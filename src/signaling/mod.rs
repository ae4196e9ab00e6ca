//! How an offer arrives and its answer leaves: one file for each dialect, one line each in
//! [`FLAVOURS`]; and [`accept`], which all of them share.
//!
//! To add one: write `signaling/<name>.rs` with a `FLAVOUR`, add it to [`FLAVOURS`].

pub mod credentials;
mod encoding;
pub mod go2rtc;
pub mod rtsp_to_web;
pub mod rtsp_to_webrtc;
mod speech;
pub mod whep;

use std::{net::IpAddr, time::Duration};

use actix_web::web::ServiceConfig;
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    base::{Error, ErrorKind, Meaning, Note, SessionId, SourceText, Stage},
    config::Camera,
    context::{Context, OFFERS_MAX},
    directory::Lease,
    hub::{Hub, Known, Tracks},
    media::Track,
    session::{Asked, Health, Registration},
    webrtc::{
        self, Request,
        negotiate::{self, Selection, Sending},
        status::{End, State},
    },
};

/// Every dialect served.
pub const FLAVOURS: &[Flavour] = &[
    rtsp_to_webrtc::FLAVOUR,
    go2rtc::FLAVOUR,
    rtsp_to_web::FLAVOUR,
    whep::FLAVOUR,
];

/// A signaling dialect.
#[derive(Debug)]
pub struct Flavour {
    /// Its name in documentation and logs.
    pub name: &'static str,
    /// Each method and path pattern that it serves, as `openapi.yaml` writes them.
    pub routes: &'static [(&'static str, &'static str)],
    /// Mounts them.
    pub mount: fn(&mut ServiceConfig),
}

/// An offer as every dialect gives it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What it asks for; see [`find`] and [`named`].
    pub target: Target,
    /// The session description.
    pub sdp: String,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// By which name or address, with or without a port, the client has reached this server.
    pub host: Option<String>,
    /// The dialect.
    pub flavour: &'static str,
}

/// A camera that a client asks for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name that the client used, or the URL without credentials.
    pub name: String,
    /// The camera.
    pub camera: Camera,
}

/// What every dialect answers with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The session description.
    pub sdp: String,
    /// The session that plays.
    pub session: SessionId,
    /// The camera's tracks that can be sent to a browser, in the camera's order.
    pub tracks: Vec<Track>,
    /// For the person who watches: what is missing and why.
    pub notes: Vec<Note>,
}

/// How long a camera may take: a little more than its own deadline, so that its own words are told.
/// With all else this stays below 8 s from offer to answer; Home Assistant gives up after 10.
const SOURCE_LIMIT: Duration = Duration::from_millis(7_300);

/// How often a viewer is looked at for what the log should tell.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a browser may take to connect after the answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Answers an offer and plays the camera to whoever sent it.
///
/// # Errors
/// Whatever is wrong with the offer, the camera, or both together; within 8 s.
pub async fn accept(context: &Context, offer: Offer) -> Result<Answer, Error> {
    if context.tasks.stop().is_cancelled() {
        return Err(Error::new(
            ErrorKind::Cancelled,
            "the server is shutting down",
        ));
    }
    let _place = place(context)?;
    let work = answer(context.clone(), offer);
    context.tasks.run("offer", work).await?
}

/// A place among the requests that may wait for a camera at once.
fn place(context: &Context) -> Result<SemaphorePermit<'_>, Error> {
    context.offers.try_acquire().map_err(|_| {
        Error::new(
            ErrorKind::ResourceExhausted,
            format!("{OFFERS_MAX} offers are being answered, which is the limit; try again"),
        )
    })
}

/// The camera that a client names, by its name or by its URL.
///
/// # Errors
/// `NotFound` for an unknown name, `InvalidArgument` for a broken URL.
pub fn find(context: &Context, source: &str) -> Result<Target, Error> {
    if let Some(camera) = context.registry.get(source) {
        let name = source.to_owned();
        return Ok(Target { name, camera });
    }
    if !source.contains(':') {
        return named(context, source);
    }
    let source = SourceText::parse(source)?;
    match source.meaning() {
        Meaning::FormOf(name) => named(context, name),
        Meaning::Camera(url) => {
            // Home Assistant sends URLs only: the settings of a camera count for its URL as well.
            let known = context.registry.with_url(url);
            Ok(Target {
                name: url.to_string(),
                camera: known.unwrap_or_else(|| url.clone().into()),
            })
        }
    }
}

/// The camera of this name.
///
/// # Errors
/// `NotFound`.
pub fn named(context: &Context, name: &str) -> Result<Target, Error> {
    /// Names that an error tells at most, and letters of each.
    const TOLD: usize = 8;
    const LETTERS: usize = 64;
    let found = context.registry.get(name).map(|camera| Target {
        name: name.to_owned(),
        camera,
    });
    found.ok_or_else(|| {
        let all = context.registry.list();
        let known: Vec<_> = all
            .iter()
            .take(TOLD)
            .map(|named| named.name.chars().take(LETTERS).collect::<String>())
            .collect();
        let more = if all.len() > TOLD { ", …" } else { "" };
        Error::new(
            ErrorKind::NotFound,
            format!(
                "there is no camera with this name; known are {}{more}",
                known.join(", ")
            ),
        )
    })
}

/// Tells the log of a request that is refused. What is wrong with cameras, their sources tell, and less often
/// than viewers ask.
fn log_refusal(error: &Error) {
    let verdict = error.verdict();
    if error.kind() == ErrorKind::Internal {
        tracing::error!(%verdict, error = %error.chain(), "request failed");
    } else if verdict.stage() == Stage::Offer || error.kind() == ErrorKind::NotAcceptable {
        tracing::info!(%verdict, error = %error.chain(), "offer refused");
    } else {
        tracing::debug!(%verdict, error = %error.chain(), "request refused");
    }
}

/// Waits until a camera has announced its tracks. The camera stays open for a while afterwards.
///
/// # Errors
/// What is wrong with the camera.
pub async fn tracks(context: &Context, camera: &Camera) -> Result<Tracks, Error> {
    let _place = place(context)?;
    let (urls, deadline) = (camera.urls(), Instant::now() + SOURCE_LIMIT);
    let decide = |known: &[Known]| negotiate::overview(known, !camera.audio);
    let (tracks, _) = context.directory.open(&urls, deadline, decide).await?;
    Ok(tracks)
}

/// What a viewer of `camera` gets, and the lease of the hub that it comes from.
async fn choose(
    context: &Context,
    camera: &Camera,
    offer: &webrtc::Offer,
) -> Result<(Selection, Lease), Error> {
    let (urls, deadline) = (camera.urls(), Instant::now() + SOURCE_LIMIT);
    let decide = |known: &[Known]| negotiate::select(known, offer, !camera.audio);
    let (selection, mut opened) = context.directory.open(&urls, deadline, decide).await?;
    let lease = match (selection.picture, selection.sound) {
        (Some(picture), Some(sound)) if picture != sound => {
            context.directory.compose(&urls[picture], &urls[sound])?
        }
        (Some(only), _) | (None, Some(only)) => opened
            .take(only)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a source was not opened"))?,
        (None, None) => return Err(Error::new(ErrorKind::Internal, "no source was chosen")),
    };
    if urls.len() > 1 {
        let number = |index: Option<usize>| index.map(|index| index + 1);
        tracing::info!(
            camera = %camera.url,
            picture = number(selection.picture),
            sound = number(selection.sound),
            of = urls.len(),
            "sources chosen"
        );
    }
    Ok((selection, lease))
}

async fn answer(context: Context, offer: Offer) -> Result<Answer, Error> {
    let parsed = webrtc::Offer::parse(&offer.sdp)?;
    let begun = Instant::now();
    let Target { name, camera } = offer.target;
    let (selection, lease) = choose(&context, &camera, &parsed).await?;
    let hub = lease.hub().clone();
    let Selection {
        tracks, mut plan, ..
    } = selection;
    let speaker = speech::arrange(&hub, &camera, &parsed, &mut plan, begun).await;
    let is_converted = |sending: &Sending| tracks.is_converted(sending.track.id);
    let conversion = plan.sendings().any(is_converted).then(|| hub.convert());
    let stop = context.tasks.stop().child_token();
    let asked = Asked {
        source: &camera.url,
        camera: &name,
        flavour: offer.flavour,
    };
    let registration = context.sessions.register(&asked, stop.clone())?;
    let session = registration.id();
    let request = Request {
        offer: &parsed,
        plan: &plan,
        hub: &hub,
        speaker,
        client: offer.client,
        host: offer.host.as_deref(),
    };
    let (viewer, sdp) = context.engine.answer(request).await?;
    let lacks = plan.notes.iter().map(|note| note.diagnosis.clone());
    let health = Health::new(&viewer, &hub, lacks.collect(), Instant::now());
    registration.follow(health.clone(), Some(viewer.control()));
    let span = tracing::info_span!(
        "session",
        session = %session.short(),
        flavour = offer.flavour,
        source = %camera.url,
    );
    let watch = async move {
        follow(viewer, &hub, &registration, &health, &stop).await;
        // The camera is wanted, and the session listed, until here.
        drop((lease, registration, conversion));
    };
    context.tasks.spawn("viewer", watch.instrument(span));
    Ok(Answer {
        sdp,
        session,
        tracks: tracks.playable(),
        notes: plan.notes,
    })
}

/// Follows a viewer to its end, which `stop` brings about as well, and tells the log of it.
async fn follow(
    mut viewer: webrtc::Session,
    hub: &Hub,
    registration: &Registration,
    health: &Health,
    stop: &CancellationToken,
) {
    let begun = Instant::now();
    let watched = async {
        // ICE gives up earlier, unless its client begins anew again and again.
        let settled = timeout(CONNECT_LIMIT, viewer.settled()).await;
        if settled != Ok(State::Connected) {
            return;
        }
        registration.connected();
        let _watching = hub.watch();
        tracing::info!(after = ?viewer.status().connected_after, "viewer connected");
        viewer.ended().await;
    };
    tokio::select! {
        () = watched => {}
        () = stop.cancelled() => {}
        () = tell_troubles(health) => {}
    }
    viewer.close().await;
    let status = viewer.status();
    let reason = match status.state {
        State::Ended(end) => end,
        State::Connecting | State::Connected => End::Stopped,
    };
    tracing::info!(
        verdict = %reason.verdict(),
        %reason,
        duration = ?begun.elapsed(),
        frames = status.frames,
        skipped = status.skipped,
        packets = status.packets,
        bytes = status.bytes,
        resent = status.resent,
        missed = status.missed,
        first_frame = ?status.first_frame_after,
        "viewer gone"
    );
}

/// Tells the log what is wrong with a viewer, each time that it is something else. Never ends.
async fn tell_troubles(health: &Health) {
    let mut told = None;
    let mut ticks = interval(TROUBLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if health.is_over() {
            // The end has a line of its own.
            std::future::pending::<()>().await;
        }
        let now = health.diagnosis();
        let verdict = now.as_ref().map(|diagnosis| diagnosis.verdict);
        if verdict == told {
            continue;
        }
        told = verdict;
        if let Some(diagnosis) = now {
            tracing::info!(
                verdict = %diagnosis.verdict,
                evidence = diagnosis.evidence(),
                "viewer has trouble"
            );
        } else {
            tracing::info!("viewer has no trouble any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{Tasks, Verdict},
        config::{Config, Layer},
    };

    #[tokio::test]
    async fn a_server_that_shuts_down_takes_no_offers() {
        let config = Config::from_layers([Layer::default()]).unwrap();
        let context = Context::new(config, Tasks::on_current_runtime()).unwrap();
        context.tasks.stop().cancel();
        let offer = Offer {
            target: named(&context, "demo").unwrap(),
            sdp: String::new(),
            client: None,
            host: None,
            flavour: "test",
        };
        let refused = accept(&context, offer).await.unwrap_err();
        assert_eq!(refused.verdict(), Verdict::ShuttingDown);
    }

    #[test]
    fn no_two_flavours_claim_a_method_and_path() {
        let mut routes: Vec<_> = FLAVOURS.iter().flat_map(|flavour| flavour.routes).collect();
        let all = routes.len();
        routes.sort_unstable();
        routes.dedup();
        assert_eq!(routes.len(), all);
    }
}
