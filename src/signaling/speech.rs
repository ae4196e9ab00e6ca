//! [`arrange`]: who may speak, and who is told why not.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    config::Camera,
    hub::{Hub, Speaker},
    webrtc::{Offer, Plan, hearing},
};

/// From the offer until it must be known whether the camera listens: all else takes little, and clients wait
/// 8 s.
const KNOWN_BY: Duration = Duration::from_millis(7_700);
/// How long it is waited for. The picture waits, too.
const LIMIT: Duration = Duration::from_millis(3_200);

/// Lets the viewer speak, if it offers to and the camera listens; else `plan` notes why not. The camera is
/// asked when it plays already: its picture comes first.
pub(super) async fn arrange(
    hub: &Hub,
    camera: &Camera,
    offer: &Offer,
    plan: &mut Plan,
    begun: Instant,
) -> Option<Speaker> {
    let section = hearing::wanted(offer, plan).filter(|_| camera.audio)?;
    let limit = LIMIT.min(KNOWN_BY.saturating_sub(begun.elapsed()));
    // Each has the whole time: one that is silent must not take that of the other.
    let asked = hub
        .sources()
        .map(async |source| (source, source.hears(limit).await));
    let mut refusal = None;
    for (source, heard) in join_all(asked).await {
        match heard {
            Ok(format) => {
                return hearing::hear(offer, plan, section, format).then(|| source.speaker());
            }
            Err(note) => {
                refusal.get_or_insert(note);
            }
        }
    }
    plan.notes.extend(refusal);
    None
}
