//! [`Order`]: pictures that are sent in another order than shown.

use super::{NalType, ParameterSets, nal::temporal_id, syntax::order_count};
use crate::media::assembler::Reordered;

/// Finds pictures that a browser cannot show, as it shows them as they come. Of H.265 the type of a slice
/// does not tell: encoders that never look ahead code all slices as B. So it goes by the order count, in
/// which pictures are shown, and by the type of pictures that lead a random access point.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The order count of the last picture that was kept, since its random access point.
    latest: Option<i64>,
    /// That of the picture from which the next counts are told (H.265 §8.3.1).
    anchor: Option<i64>,
    seen: Reordered,
}

impl Order {
    /// Whether a picture is to be left out: it is shown before one that was sent first.
    pub(super) fn leaves_out(&self, first_slice: &[u8], sets: &ParameterSets) -> bool {
        let Some(kind) = NalType::of(first_slice) else {
            return false;
        };
        let is_late = || {
            let count = self.count(first_slice, sets);
            count
                .zip(self.latest)
                .is_some_and(|(count, latest)| count < latest)
        };
        kind.is_leading() || !kind.is_random_access() && is_late()
    }

    /// A picture was kept.
    pub(super) fn keep(&mut self, first_slice: &[u8], sets: &ParameterSets) {
        self.latest = self.count(first_slice, sets);
        self.follow(first_slice, sets);
        if self.seen.left_out > 0 {
            self.seen.pictures += 1;
        }
    }

    /// A picture was left out.
    pub(super) fn leave_out(&mut self, first_slice: &[u8], sets: &ParameterSets) {
        self.follow(first_slice, sets);
        let kind = NalType::of(first_slice);
        let is_needed = |kind: NalType| kind.is_reference() && !kind.is_leading();
        self.seen.pictures += 1;
        self.seen.left_out += 1;
        self.seen.references += u64::from(kind.is_some_and(is_needed));
    }

    pub(super) fn seen(&self) -> Reordered {
        self.seen
    }

    /// The order count of a picture. Each random access point begins anew: what is sent after it and shown
    /// before is left out by its type, so nothing is compared across it.
    fn count(&self, first_slice: &[u8], sets: &ParameterSets) -> Option<i64> {
        let (low, bits) = order_count(first_slice, sets)?;
        let (low, whole) = (i64::from(low), 1_i64 << bits);
        if NalType::of(first_slice)?.is_random_access() {
            return Some(low);
        }
        // The count nearest to the anchor's that ends with these bits.
        let anchor = self.anchor?;
        let same = anchor - anchor.rem_euclid(whole) + low;
        Some(match same - anchor {
            ahead if ahead > whole / 2 => same - whole,
            behind if behind <= -whole / 2 => same + whole,
            _ => same,
        })
    }

    fn follow(&mut self, first_slice: &[u8], sets: &ParameterSets) {
        let counts = |kind: NalType| kind.is_reference() && !kind.is_leading();
        if temporal_id(first_slice) == 0 && NalType::of(first_slice).is_some_and(counts) {
            self.anchor = self.count(first_slice, sets);
        }
    }
}
