//! [`Backoff`]: how long to wait before the next attempt. Pure: no clock, randomness from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Waits between attempts, each with ±20 % jitter so that cameras behind one power cut are not all asked in
/// the same instant.
///
/// A camera that answers and then fails is asked at once, after half a second, then ever more rarely, up to
/// every ten seconds: an attempt costs it work. Where nobody answers at all, there is nobody to be spared,
/// and a camera that is switched on again should be back on screen in a moment: see
/// [`redial`](Self::redial).
#[derive(Debug)]
pub struct Backoff {
    attempt: usize,
    random: SmallRng,
}

impl Backoff {
    /// The waits before jitter, in milliseconds; the last one repeats.
    const WAITS: [u64; 6] = [0, 500, 1_000, 2_000, 4_000, 8_000];

    /// From one call that nobody answers to the next, before jitter.
    const REDIAL: Duration = Duration::from_millis(800);

    /// How long media must have flowed for the waits to start over.
    pub const PROVEN: Duration = Duration::from_secs(5);

    /// Waits that start from none, with jitter drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            attempt: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// The wait before the next attempt, after one that was answered.
    pub fn next_wait(&mut self) -> Duration {
        let last = Self::WAITS.len() - 1;
        let wait = Self::WAITS[self.attempt.min(last)];
        self.attempt += 1;
        Duration::from_millis(wait).mul_f64(self.jitter())
    }

    /// The wait before the next attempt, after one that nobody answered and that took `tried`. It says
    /// nothing about the camera's health, so the other waits stay as they are.
    pub fn redial(&mut self, tried: Duration) -> Duration {
        let wait = Self::REDIAL.mul_f64(self.jitter());
        wait.saturating_sub(tried)
    }

    /// Starts over, after a source that ran well.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    fn jitter(&mut self) -> f64 {
        self.random.random_range(0.8..=1.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_the_waits_grow_to_at_most_ten_seconds() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert_eq!(waits[0], Duration::ZERO);
        for (i, wait) in waits.iter().enumerate() {
            let expected = Duration::from_millis(Backoff::WAITS[i.min(5)]);
            assert!(
                *wait >= expected.mul_f64(0.8) && *wait <= expected.mul_f64(1.2),
                "wait {i} is {wait:?}"
            );
            assert!(*wait <= Duration::from_secs(10));
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(), Duration::ZERO);
    }

    #[test]
    fn where_nobody_answers_is_called_every_second_however_long_a_call_takes() {
        let mut backoff = Backoff::new(7);
        for _ in 0..50 {
            let waits = [0, 300, 2_000].map(Duration::from_millis);
            for (tried, wait) in waits.map(|tried| (tried, backoff.redial(tried))) {
                let period = tried + wait;
                assert!(tried > Duration::from_secs(1) || period < Duration::from_secs(1));
                assert!(period >= Duration::from_millis(640));
            }
        }
        assert_eq!(backoff.next_wait(), Duration::ZERO);
    }
}
