//! [`arrange`]: who may speak, and who is told why not.

use std::time::Duration;

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
    match hub.hears(limit).await {
        Ok(format) => hearing::hear(offer, plan, section, format).then(|| hub.speaker()),
        Err(note) => {
            plan.notes.push(note);
            None
        }
    }
}
