//! [`Order`]: pictures that are sent in another order than shown.

use crate::media::{
    assembler::Reordered,
    nal::{SliceType, is_reference},
};

/// Finds B pictures that a browser cannot show. It shows pictures as they come, and takes one that
/// belongs before the last for a fault, from which it recovers at the next key frame only.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// When the last picture that was kept is shown, in the camera's RTP time.
    latest: Option<i64>,
    seen: Reordered,
}

impl Order {
    /// Whether a picture that is shown at `time` is to be left out. B pictures are predicted from what is
    /// shown later and so is sent before them; then their time is less than that of the last one. Some
    /// cameras stamp pictures as they send them, so a B picture that nothing is predicted from is always
    /// left out. B pictures that come in order and are needed stay.
    pub(super) fn leaves_out(&self, time: i64, first_slice: &[u8]) -> bool {
        SliceType::of(first_slice) == Some(SliceType::B)
            && (!is_reference(first_slice) || self.latest.is_some_and(|latest| time < latest))
    }

    /// A picture was kept.
    pub(super) fn keep(&mut self, time: i64) {
        self.latest = Some(time);
        if self.seen.left_out > 0 {
            self.seen.pictures += 1;
        }
    }

    /// A picture was left out.
    pub(super) fn leave_out(&mut self, first_slice: &[u8]) {
        self.seen.pictures += 1;
        self.seen.left_out += 1;
        self.seen.references += u64::from(is_reference(first_slice));
    }

    pub(super) fn seen(&self) -> Reordered {
        self.seen
    }
}
