//! [`Backoff`]: how long to wait before the next attempt. Pure: no clock, randomness from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Waits between attempts: at once, then half a second, then a growing wait, each with ±20 %
/// jitter so that cameras behind one power cut are not all asked in the same instant.
///
/// While somebody watches, a camera that reboots should be back on screen in a moment. An attempt
/// at a dead address costs next to nothing, so the waits stay short.
#[derive(Debug)]
pub struct Backoff {
    attempt: usize,
    random: SmallRng,
}

impl Backoff {
    /// The waits before jitter, in milliseconds; the last one repeats.
    const WAITS: [u64; 6] = [0, 500, 500, 1_000, 1_000, 2_000];

    /// How long a source must run for the waits to start over.
    pub const PROVEN: Duration = Duration::from_secs(5);

    /// Waits that start from none, with jitter drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            attempt: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let last = Self::WAITS.len() - 1;
        let wait = Self::WAITS[self.attempt.min(last)];
        self.attempt += 1;
        let jitter = self.random.random_range(0.8..=1.2);
        Duration::from_millis(wait).mul_f64(jitter)
    }

    /// Starts over, after a source that ran well.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_the_waits_grow_to_two_seconds() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits[0], Duration::ZERO);
        for (i, wait) in waits.iter().enumerate() {
            let expected = Duration::from_millis(Backoff::WAITS[i.min(5)]);
            assert!(
                *wait >= expected.mul_f64(0.8) && *wait <= expected.mul_f64(1.2),
                "wait {i} is {wait:?}"
            );
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(), Duration::ZERO);
    }
}
