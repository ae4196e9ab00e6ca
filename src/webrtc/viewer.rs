//! The life of one viewer: from the answer to the end.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, Next},
    media::{Frame, Kind},
    webrtc::{
        lane::Lane,
        peer::{Peer, PeerState},
    },
};

/// How long a browser may take from the answer to a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long one frame may wait for its place in the engine's queue.
const SEND_LIMIT: Duration = Duration::from_secs(2);

/// Why a viewer's session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The browser never connected.
    NeverConnected,
    /// The browser closed the connection, or vanished.
    PeerGone,
    /// The connection takes no packets any more.
    Stuck,
    /// The source is gone for good.
    SourceEnded,
    /// The camera sends another codec than was agreed on; the viewer has to ask anew.
    SourceChanged,
    /// We were asked to stop.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverConnected => "never connected",
            Self::PeerGone => "viewer left",
            Self::Stuck => "connection is stuck",
            Self::SourceEnded => "camera closed",
            Self::SourceChanged => "camera changed its codec",
            Self::Stopped => "stopped",
        })
    }
}

/// What a viewer got, for the line that ends its session in the log.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    /// Frames sent.
    pub frames: u64,
    /// Frames that the viewer was too slow for.
    pub missed: u64,
    /// From the answer to the connection.
    pub connected_after: Option<Duration>,
    /// From the answer to the first picture, or the first sound if there is none.
    pub first_frame_after: Option<Duration>,
}

/// Plays `hub` to `peer` until one of the two ends or `stop` fires; then closes the peer.
///
/// `connected` is called once, when the browser is there.
pub async fn play(
    hub: &Hub,
    peer: Peer,
    lanes: &mut [Lane],
    connected: impl FnOnce(),
    stop: &CancellationToken,
) -> (End, Summary) {
    let mut summary = Summary::default();
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Stopped,
        end = feed(hub, &peer, lanes, connected, &mut summary) => end,
    };
    peer.close().await;
    (end, summary)
}

async fn feed(
    hub: &Hub,
    peer: &Peer,
    lanes: &mut [Lane],
    connected: impl FnOnce(),
    summary: &mut Summary,
) -> End {
    let answered = Instant::now();
    match timeout(CONNECT_LIMIT, peer.settled()).await {
        Ok(PeerState::Connected) => {}
        Ok(_) | Err(_) => return End::NeverConnected,
    }
    connected();
    summary.connected_after = Some(answered.elapsed());
    tracing::info!(after = ?answered.elapsed(), "viewer connected");
    // Subscribed only now, so that the viewer starts level with the camera.
    let mut frames = hub.subscribe();
    let hub_start = SystemTime::now() - hub.now();
    let has_video = lanes.iter().any(|lane| lane.codec.kind() == Kind::Video);
    let first_kind = if has_video { Kind::Video } else { Kind::Audio };
    let mut gone = std::pin::pin!(peer.gone());
    loop {
        let next = tokio::select! {
            biased;
            () = &mut gone => return End::PeerGone,
            next = frames.next() => next,
        };
        let frame = match next {
            Next::Frame(frame) => frame,
            Next::Behind(missed) => {
                summary.missed += missed;
                for lane in lanes.iter_mut() {
                    lane.gate.close();
                }
                tracing::debug!(missed, "viewer is behind");
                continue;
            }
            Next::Ended => return End::SourceEnded,
        };
        let Some(index) = lanes.iter().position(|lane| lane.track == frame.track) else {
            continue;
        };
        let lane = &mut lanes[index];
        if !lane.codec.is_like(frame.codec) {
            return End::SourceChanged;
        }
        if !lane.gate.admits(frame.random_access) {
            continue;
        }
        let sent = timeout(SEND_LIMIT, send(peer, index, lane, &frame, hub_start)).await;
        if !matches!(sent, Ok(true)) {
            return End::Stuck;
        }
        summary.frames += 1;
        if frame.codec.kind() == first_kind {
            summary
                .first_frame_after
                .get_or_insert_with(|| answered.elapsed());
        }
    }
}

/// Whether the frame, and the report that goes with it, could be handed over.
async fn send(
    peer: &Peer,
    index: usize,
    lane: &mut Lane,
    frame: &Frame,
    start: SystemTime,
) -> bool {
    let last = frame.payloads.len().saturating_sub(1);
    for (number, payload) in frame.payloads.iter().enumerate() {
        let header = lane.header(frame, payload.len(), number == last);
        if !peer.send(index, lane, header, payload.clone()).await {
            return false;
        }
    }
    match lane.report(frame, start) {
        Some(report) => peer.report(index, lane, report).await,
        None => true,
    }
}
