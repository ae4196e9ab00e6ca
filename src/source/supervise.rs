//! Runs a source again and again while it is wanted.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Source;
use crate::{
    base::{Error, ErrorKind, backoff::Backoff},
    hub::Publisher,
};

/// How long a lasting failure stands before the camera is asked again, the first time and later.
/// Some cameras lock an account for half an hour after five wrong passwords.
const LASTING_WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];

/// Runs `source` until `stop` fires. After a failure it waits and tries again; after a refusal it
/// waits long. Each change of state is announced through `out`.
pub async fn supervise(
    source: &dyn Source,
    out: &Publisher,
    mut backoff: Backoff,
    stop: &CancellationToken,
) {
    // The first attempt is made at once, whatever the back-off says.
    backoff.reset();
    let mut failures = 0_u64;
    loop {
        out.connecting();
        let begun = Instant::now();
        let end = source.run(out, stop).await;
        if stop.is_cancelled() {
            return;
        }
        if begun.elapsed() > Backoff::PROVEN {
            backoff.reset();
            failures = 0;
        }
        let error = end
            .err()
            .unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "the camera ended the stream"));
        let wait = if error.kind().is_lasting() {
            LASTING_WAITS[usize::from(failures > 0)]
        } else {
            backoff.next_wait()
        };
        failures += 1;
        // The first failure of a row, then ever fewer, so that a camera that is switched off for the
        // night does not fill a disk.
        if failures.is_power_of_two() {
            tracing::warn!(error = %error.chain(), failures, ?wait, "source failed, will try again");
        }
        out.failed(error);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::hub::hub;

    struct Failing {
        kind: ErrorKind,
        attempts: AtomicU64,
    }

    #[async_trait]
    impl Source for Failing {
        async fn run(&self, _out: &Publisher, _stop: &CancellationToken) -> Result<(), Error> {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(self.kind, "on purpose"))
        }
    }

    async fn attempts_within(kind: ErrorKind, time: Duration) -> u64 {
        let (out, _hub) = hub();
        let source = Failing {
            kind,
            attempts: AtomicU64::new(0),
        };
        let stop = CancellationToken::new();
        let _ = tokio::time::timeout(time, supervise(&source, &out, Backoff::new(1), &stop)).await;
        source.attempts.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_tried_again_after_half_a_minute_and_then_rarely() {
        let attempts = |time| attempts_within(ErrorKind::SourceRefused, time);
        assert_eq!(attempts(Duration::from_secs(29)).await, 1);
        assert_eq!(attempts(Duration::from_mins(5)).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_is_away_is_tried_every_few_seconds() {
        let tries = attempts_within(ErrorKind::Unavailable, Duration::from_mins(1)).await;
        assert!((25..50).contains(&tries), "{tries}");
    }
}
