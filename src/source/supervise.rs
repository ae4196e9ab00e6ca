//! Runs a source again and again while it is wanted.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Source;
use crate::{
    base::{Error, ErrorKind, Verdict, backoff::Backoff},
    hub::Publisher,
};

/// How long a refusal stands before the camera is asked again, the first time and later. Some cameras
/// lock an account for half an hour after five wrong passwords.
const REFUSED_WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];

/// How long to wait for a camera that has nothing to show to be set otherwise, and for a name to lead to
/// where we may go; whoever comes meanwhile has perhaps just done so.
const NOTHING_WAIT: Duration = Duration::from_secs(30);

/// How long nobody who comes shortens a wait, so that those who come and go do no harm to the camera.
const REST: Duration = Duration::from_secs(1);

/// Runs `source` until `stop` fires. After a failure it waits and tries again, at once for somebody who
/// comes; after a refusal it waits long, and until somebody wants the source: `wanted` counts who does. Each
/// change of state is announced through `out`.
pub async fn supervise(
    source: &dyn Source,
    out: &Publisher,
    mut backoff: Backoff,
    mut wanted: watch::Receiver<usize>,
    stop: &CancellationToken,
) {
    // The first attempt is made at once, whatever the back-off says.
    backoff.reset();
    let (mut failures, mut refusals) = (0_u64, 0);
    loop {
        out.connecting();
        let begun = Instant::now();
        let end = source.run(out, stop).await;
        if stop.is_cancelled() {
            return;
        }
        if out.played() > Backoff::PROVEN {
            backoff.reset();
            (failures, refusals) = (0, 0);
        }
        let error = end
            .err()
            .unwrap_or_else(|| Error::new(Verdict::CameraEnded, "the camera ended the stream"));
        let kind = error.kind();
        let waits_for_change =
            matches!(kind, ErrorKind::NotAcceptable | ErrorKind::PermissionDenied);
        let wait = if kind.is_refusal() {
            refusals += 1;
            REFUSED_WAITS[usize::from(refusals > 1)]
        } else if waits_for_change {
            NOTHING_WAIT
        } else if !source.was_answered() && out.is_watched() {
            backoff.redial(begun.elapsed())
        } else {
            backoff.next_wait()
        };
        failures += 1;
        // The first failure of a row, then ever fewer, so that a camera that is switched off for the
        // night does not fill a disk.
        if failures.is_power_of_two() {
            tracing::warn!(
                verdict = %error.verdict(),
                error = %error.chain(),
                failures,
                ?wait,
                "source failed, will try again"
            );
        }
        let leases = *wanted.borrow_and_update();
        out.failed(error);
        let visitor = async {
            tokio::time::sleep(REST).await;
            somebody_comes(&mut wanted, leases).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = visitor, if !kind.is_refusal() => {}
        }
        if kind.is_refusal() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // An error means that nobody can want it any more.
                _ = wanted.wait_for(|leases| *leases > 0) => {}
            }
        }
    }
}

/// Returns when there is one more who wants the source than the `leases` there were.
async fn somebody_comes(wanted: &mut watch::Receiver<usize>, mut leases: usize) {
    loop {
        let before = std::mem::replace(&mut leases, *wanted.borrow_and_update());
        if leases > before {
            return;
        }
        if wanted.changed().await.is_err() {
            break;
        }
    }
    // Nobody can come any more.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        hub::{Tracks, hub},
        media::{Codec, Frame, MediaTime, Part, TrackId},
    };

    struct Failing {
        kind: ErrorKind,
        answered: bool,
        attempts: AtomicU64,
    }

    #[async_trait]
    impl Source for Failing {
        async fn run(&self, _out: &Publisher, _stop: &CancellationToken) -> Result<(), Error> {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(self.kind, "on purpose"))
        }

        fn was_answered(&self) -> bool {
            self.answered
        }
    }

    async fn attempts_within(kind: ErrorKind, time: Duration) -> u64 {
        attempts(kind, time, 1).await
    }

    async fn attempts(kind: ErrorKind, time: Duration, leases: usize) -> u64 {
        attempts_at(kind, true, time, leases).await
    }

    async fn attempts_at(kind: ErrorKind, answered: bool, time: Duration, leases: usize) -> u64 {
        let (_leases, wanted) = watch::channel(leases);
        let (out, hub) = hub();
        let _watching = (leases > 0).then(|| hub.watch());
        let source = Failing {
            kind,
            answered,
            attempts: AtomicU64::new(0),
        };
        let stop = CancellationToken::new();
        let _ = tokio::time::timeout(
            time,
            supervise(&source, &out, Backoff::new(1), wanted, &stop),
        )
        .await;
        source.attempts.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_tried_again_after_half_a_minute_and_then_rarely() {
        let tries = |time| attempts_within(ErrorKind::SourceRefused, time);
        assert_eq!(tries(Duration::from_secs(29)).await, 1);
        assert_eq!(tries(Duration::from_mins(5)).await, 2);
        assert_eq!(tries(Duration::from_mins(11)).await, 4);
        let unwanted = attempts(ErrorKind::SourceRefused, Duration::from_hours(1), 0);
        assert_eq!(unwanted.await, 1);
    }

    struct Ending;

    #[async_trait]
    impl Source for Ending {
        async fn run(&self, _out: &Publisher, _stop: &CancellationToken) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_ends_by_itself_is_in_trouble_until_it_plays_again() {
        let (out, hub) = hub();
        let (_leases, wanted) = watch::channel(1);
        let stop = CancellationToken::new();
        let run = supervise(&Ending, &out, Backoff::new(1), wanted, &stop);
        let _ = tokio::time::timeout(Duration::from_secs(1), run).await;
        let trouble = hub.trouble().map(|trouble| trouble.verdict);
        assert_eq!(trouble, Some(Verdict::CameraEnded));
    }

    /// Announces itself, sends pictures for a while and then nothing for ten seconds.
    struct Stalling {
        plays: Duration,
    }

    #[async_trait]
    impl Source for Stalling {
        async fn run(&self, out: &Publisher, _stop: &CancellationToken) -> Result<(), Error> {
            out.announce(Tracks::default());
            let end = Instant::now() + self.plays;
            while Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let codec = Codec::H264(None);
                let time = MediaTime::at(out.now(), codec.clock_rate());
                out.publish(Frame {
                    track: TrackId(0),
                    codec,
                    time,
                    captured: out.now(),
                    random_access: false,
                    part: Part::WHOLE,
                    payloads: Box::new([]),
                });
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            Err(Error::new(Verdict::Stalled, "on purpose"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_stalls_again_and_again_is_called_ever_more_rarely() {
        let calls = async |plays| {
            let (out, hub) = hub();
            let (_leases, wanted) = watch::channel(1);
            let stop = CancellationToken::new();
            let source = Stalling { plays };
            let run = supervise(&source, &out, Backoff::new(1), wanted, &stop);
            let _ = tokio::time::timeout(Duration::from_mins(3), run).await;
            hub.attempts()
        };
        // Each takes eleven seconds, and the waits come to add eight.
        let stalling = calls(Duration::from_secs(1)).await;
        assert!((10..13).contains(&stalling), "{stalling}");
        // One that has played begins anew, each takes sixteen.
        let good = calls(Duration::from_secs(6)).await;
        assert!((11..13).contains(&good), "{good}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_set_the_camera_otherwise_need_not_wait() {
        let (out, hub) = hub();
        let source = Failing {
            kind: ErrorKind::NotAcceptable,
            answered: true,
            attempts: AtomicU64::new(0),
        };
        let stop = CancellationToken::new();
        let (leases, wanted) = watch::channel(1);
        let run = supervise(&source, &out, Backoff::new(1), wanted, &stop);
        let viewers = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(hub.attempts(), 1);
            leases.send_replace(0);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(hub.attempts(), 1);
            leases.send_replace(1);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(hub.attempts(), 2);
        };
        tokio::select! {
            () = run => {}
            () = viewers => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_answers_and_fails_is_spared_and_one_that_is_away_is_called() {
        let minutes = Duration::from_mins(2);
        let kind = ErrorKind::Unavailable;
        let answered = attempts_at(kind, true, minutes, 1).await;
        assert!((15..25).contains(&answered), "{answered}");
        let away = attempts_at(kind, false, minutes, 1).await;
        assert!((125..190).contains(&away), "{away}");
        // Kept ready with nobody watching.
        let unwatched = attempts_at(kind, false, minutes, 0).await;
        assert!((15..25).contains(&unwatched), "{unwatched}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_does_not_wait_for_the_next_attempt() {
        let (out, hub) = hub();
        let source = Failing {
            kind: ErrorKind::Unavailable,
            answered: true,
            attempts: AtomicU64::new(0),
        };
        let stop = CancellationToken::new();
        let (leases, wanted) = watch::channel(1);
        let run = supervise(&source, &out, Backoff::new(1), wanted, &stop);
        let viewers = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            let before = hub.attempts();
            // Many at once are one, and one each second is no more than that.
            for _ in 0..100 {
                leases.send_modify(|leases| *leases += 1);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let attempts = hub.attempts() - before;
            assert!((8..12).contains(&attempts), "{attempts}");
        };
        tokio::select! {
            () = run => {}
            () = viewers => {}
        }
    }
}
