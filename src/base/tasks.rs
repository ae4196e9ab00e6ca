//! [`Tasks`]: the only place that spawns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{Error, ErrorKind};

/// Spawns on the media runtime, with a name; knows what runs and how to stop it.
///
/// HTTP handlers run on one-thread runtimes of their own, where media must not live; so a handler
/// hands its work to this type.
#[derive(Clone, Debug)]
pub struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
    panics: Arc<AtomicU64>,
}

impl Tasks {
    /// Tasks on the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn on_current_runtime() -> Self {
        Self {
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            panics: Arc::default(),
        }
    }

    /// Fires when the server stops. Parts of it take a child of this token.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs `work` in the background. A panic ends that task alone: it is logged and counted.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let panics = Arc::clone(&self.panics);
        let guarded = async move {
            if std::panic::AssertUnwindSafe(work)
                .catch_unwind()
                .await
                .is_err()
            {
                panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(task = name, "task panicked");
            }
        }
        .instrument(tracing::Span::current());
        self.runtime.spawn(self.tracker.track_future(guarded))
    }

    /// Runs `work` on the media runtime and waits for it; gives it up when the caller is dropped.
    ///
    /// # Errors
    /// `Internal` when the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self
            .runtime
            .spawn(self.tracker.track_future(work.in_current_span()));
        let _abort = AbortOnDrop(task.abort_handle());
        task.await.map_err(|e| {
            if e.is_panic() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            Error::new(ErrorKind::Internal, format!("the {name} task broke off")).with_source(e)
        })
    }

    /// How many tasks have panicked since the start.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many tasks are alive.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }

    /// Stops everything and waits for it; false when something still runs after `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_costs_one_task() {
        let tasks = Tasks::on_current_runtime();
        let broken = tasks.spawn("broken", async { panic!("on purpose") });
        assert!(broken.await.is_ok());
        assert_eq!(tasks.panics(), 1);
        assert!(tasks.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test]
    async fn a_caller_that_hangs_up_takes_its_work_along() {
        let tasks = Tasks::on_current_runtime();
        let run = tasks.run("endless", std::future::pending::<()>());
        assert!(
            tokio::time::timeout(Duration::from_millis(10), run)
                .await
                .is_err()
        );
        assert!(tasks.drain(Duration::from_secs(1)).await);
    }
}
