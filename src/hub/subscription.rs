//! [`Subscription`]: one reader's place among the frames of a hub.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::media::Frame;

/// What [`Subscription::next`] gives.
#[derive(Debug, Clone)]
pub enum Next {
    /// The next frame.
    Frame(Arc<Frame>),
    /// This many frames were overwritten before they were read.
    Behind(u64),
    /// The source is gone for good.
    Ended,
}

/// One reader's place in the ring.
#[derive(Debug)]
pub struct Subscription {
    pub(super) frames: broadcast::Receiver<Arc<Frame>>,
}

impl Subscription {
    /// The next frame, or what happened instead. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Next {
        match self.frames.recv().await {
            Ok(frame) => Next::Frame(frame),
            Err(broadcast::error::RecvError::Lagged(frames)) => {
                // What is left in the ring is nearly lost too: on with what is live.
                self.frames = self.frames.resubscribe();
                Next::Behind(frames)
            }
            Err(broadcast::error::RecvError::Closed) => Next::Ended,
        }
    }
}
