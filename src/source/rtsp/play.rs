//! [`play`]: packets of an open session to the hub, until something breaks.

use std::{net::IpAddr, pin::pin, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::{
    ingest::Ingest,
    session::{Failure, Session},
    stall::{Health, Lapses},
    transport::{self, Arrived, Route, track_of},
};
use crate::{hub::Publisher, media::Kind};

/// Packets that are taken without a pause before the time is looked at.
const BUSY: u32 = 256;

/// Why it is over.
#[derive(Debug)]
pub(super) enum Over {
    /// The session failed.
    Failed(Failure),
    /// No media came in time.
    NeverBegan,
    /// It has stopped, so long ago.
    Silent(Duration),
    /// The track of this kind has stopped, others go on; another connection may help.
    Stopped(Kind),
}

/// Publishes what comes on `routes` from `camera`. `buffer` has room for a datagram, or none where
/// everything comes inside the connection.
pub(super) async fn play(
    session: &mut Session,
    routes: &[Route],
    camera: IpAddr,
    ingest: &mut Ingest,
    buffer: &mut [u8],
    out: &Publisher,
    lapses: &Lapses,
) -> Over {
    // The hub's clock, as the runtime's.
    let start = Instant::now() - out.now();
    let types = ingest.payload_types();
    // One timer for all that is due. It is only set anew when it has fired, or something is due sooner.
    let mut watch = pin!(sleep_until(start + out.now()));
    let mut busy = 0;
    loop {
        let next = next_packet(session, routes, &types, camera, buffer);
        let mut next = pin!(next);
        let arrived = if let Some(arrived) = next.as_mut().now_or_never() {
            Some(arrived)
        } else {
            ingest.dry(out);
            busy = 0;
            tokio::select! {
                biased;
                arrived = next => Some(arrived),
                () = watch.as_mut() => None,
            }
        };
        let is_due = match arrived {
            Some(Ok(Some(arrived))) => {
                ingest.take(arrived, out);
                busy += 1;
                busy % BUSY == 0 && watch.deadline() <= Instant::now()
            }
            // A packet on a channel that nobody asked for.
            Some(Ok(None)) => {
                busy += 1;
                busy % BUSY == 0 && watch.deadline() <= Instant::now()
            }
            Some(Err(failure)) => return Over::Failed(failure),
            None => true,
        };
        let waits = ingest.waits_until();
        if is_due {
            ingest.expire(out);
            let now = out.now();
            let due = match ingest.health(now) {
                Health::Well(due) => due,
                Health::NeverBegan => return Over::NeverBegan,
                Health::Silent(since) => return Over::Silent(since),
                Health::Stopped(kind) if lapses.note(kind) => return Over::Stopped(kind),
                Health::Stopped(kind) => {
                    ingest.give_up(kind, out);
                    now
                }
            };
            lapses.forgive(ingest.pulses(), now);
            let due = ingest.waits_until().map_or(due, |waits| waits.min(due));
            watch.as_mut().reset(start + due);
        } else if let Some(waits) = waits.filter(|waits| start + *waits < watch.deadline()) {
            watch.as_mut().reset(start + waits);
        }
    }
}

/// The next packet, however it comes; the session is kept alive meanwhile. `types` are the payload types of
/// the tracks at `routes`, as far as they are known.
pub(super) async fn next_packet(
    session: &mut Session,
    routes: &[Route],
    types: &[Option<u8>],
    camera: IpAddr,
    buffer: &mut [u8],
) -> Result<Option<Arrived>, Failure> {
    let interleaved = tokio::select! {
        interleaved = session.next() => interleaved?,
        arrived = transport::receive(routes, camera, buffer), if !buffer.is_empty() => {
            return Ok(Some(arrived));
        }
    };
    let place = track_of(routes, types, interleaved.channel, &interleaved.packet);
    Ok(place.map(|(track, control)| Arrived {
        track,
        control,
        packet: interleaved.packet,
    }))
}
