//! The life of one viewer: from the answer to the end.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, Next},
    media::{Frame, Kind, MediaTime},
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

/// How long a replay may take; the largest group needs about one second.
const REPLAY_LIMIT: Duration = Duration::from_secs(2);
/// Time between replayed pictures, in ticks of the video clock: 1 ms.
const REPLAY_STEP: i64 = 90;
/// Packets sent before each pause: together about 90 Mbit/s, which wired and wireless homes take.
const REPLAY_BURST: u32 = 20;
const REPLAY_PAUSE: Duration = Duration::from_millis(2);

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
    let (mut frames, pictures) = hub.subscribe();
    let hub_start = SystemTime::now() - hub.now();
    let has_video = lanes.iter().any(|lane| lane.codec.kind() == Kind::Video);
    let first_kind = if has_video { Kind::Video } else { Kind::Audio };
    let mut gone = std::pin::pin!(peer.gone());
    let replayed = tokio::select! {
        biased;
        () = &mut gone => return End::PeerGone,
        replayed = timeout(REPLAY_LIMIT, replay(peer, lanes, &pictures)) => replayed,
    };
    match replayed {
        Ok(0) => {}
        Ok(pictures) => {
            summary.frames += pictures;
            summary.first_frame_after = Some(answered.elapsed());
        }
        // A part of a group is of no use: the next key frame is.
        Err(_) => close_gates(lanes),
    }
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
                close_gates(lanes);
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

fn close_gates(lanes: &mut [Lane]) {
    for lane in lanes {
        lane.gate.close();
    }
}

/// Sends the pictures since the last key frame at once, so that the viewer need not wait for the next
/// one: as fast as a home network takes it, with times so close before the live edge that the browser
/// decodes all and shows the last. Gives how many were sent; 0 also when there is no lane for them.
async fn replay(peer: &Peer, lanes: &mut [Lane], pictures: &[Arc<Frame>]) -> u64 {
    let Some(live) = pictures.last() else {
        return 0;
    };
    let lane = lanes
        .iter()
        .position(|lane| lane.track == live.track && lane.codec.is_like(live.codec));
    let Some(index) = lane else { return 0 };
    let lane = &mut lanes[index];
    let (mut sent, mut in_burst) = (0, 0);
    for (picture, behind) in pictures.iter().zip((0..pictures.len()).rev()) {
        let behind = i64::try_from(behind).unwrap_or(0) * REPLAY_STEP;
        let time = MediaTime(live.time.0 - behind);
        lane.gate.admits(picture.random_access);
        let last = picture.payloads.len().saturating_sub(1);
        for (number, payload) in picture.payloads.iter().enumerate() {
            let header = lane.header(time, payload.len(), number == last);
            if !peer.send(index, lane, header, payload.clone()).await {
                return sent;
            }
            in_burst += 1;
            if in_burst == REPLAY_BURST {
                in_burst = 0;
                tokio::time::sleep(REPLAY_PAUSE).await;
            }
        }
        sent += 1;
    }
    sent
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
        let header = lane.header(frame.time, payload.len(), number == last);
        if !peer.send(index, lane, header, payload.clone()).await {
            return false;
        }
    }
    match lane.report(frame, start) {
        Some(report) => peer.report(index, lane, report).await,
        None => true,
    }
}
