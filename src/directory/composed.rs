//! [`Directory::compose`]: the picture of one source and the sound of another as one hub, once for all who
//! want the same two.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::watch;
use tracing::Instrument;

use super::{Directory, Inner, Lease};
use crate::{
    base::{Error, Secret, SourceUrl},
    hub::{self, Composition, Hub},
};

/// Those that run, by picture and sound.
pub(super) type Table = HashMap<(Secret, Secret), Composed>;

pub(super) struct Composed {
    /// Tells it from a later one of the same two.
    number: u64,
    hub: Hub,
    leases: watch::Sender<usize>,
}

impl Directory {
    /// A hub with the picture of one source and the sound of another. It keeps running, and both of them,
    /// at least as long as the lease. It does not linger itself, as they do.
    ///
    /// # Errors
    /// Those of [`lease`](Self::lease), for each.
    pub fn compose(&self, picture: &SourceUrl, sound: &SourceUrl) -> Result<Lease, Error> {
        let parts = [self.lease(picture)?, self.lease(sound)?];
        let key = (picture.key(), sound.key());
        let mut table = self.inner.composed();
        let composed = table.entry(key.clone()).or_insert_with(|| {
            let (composition, hub) = hub::compose(parts[0].hub(), parts[1].hub());
            let (leases, wanted) = watch::channel(0);
            let number = self.inner.number();
            let keeper = Keeper {
                number,
                key,
                wanted,
                _parts: parts,
                inner: Arc::clone(&self.inner),
            };
            let span = tracing::info_span!("composition", picture = %picture, sound = %sound);
            let work = keeper.keep(composition).instrument(span);
            self.inner.tasks.spawn("composition", work);
            Composed {
                number,
                hub,
                leases,
            }
        });
        composed.leases.send_modify(|leases| *leases += 1);
        Ok(Lease {
            hub: composed.hub.clone(),
            leases: composed.leases.clone(),
        })
    }
}

/// Runs one composition for as long as it is wanted.
struct Keeper {
    number: u64,
    key: (Secret, Secret),
    wanted: watch::Receiver<usize>,
    _parts: [Lease; 2],
    inner: Arc<Inner>,
}

impl Keeper {
    async fn keep(mut self, composition: Composition) {
        let mut work = std::pin::pin!(composition.run());
        loop {
            let is_over = tokio::select! {
                biased;
                // One of the two is closed for good.
                () = &mut work => true,
                // An error means that nobody can want it any more.
                wanted = self.wanted.wait_for(|leases| *leases == 0) => wanted.is_err(),
            };
            // Under the lock, so that nobody takes a lease meanwhile.
            let mut table = self.inner.composed();
            if is_over || *self.wanted.borrow() == 0 {
                remove(&mut table, &self.key, self.number);
                return;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // After a panic the entry would stand for what nobody runs.
        remove(&mut self.inner.composed(), &self.key, self.number);
    }
}

fn remove(table: &mut Table, key: &(Secret, Secret), number: u64) {
    if table.get(key).is_some_and(|entry| entry.number == number) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{base::Tasks, hub::Next, media::Kind};

    const LINGER: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn two_sources_are_composed_once_for_all_and_closed_after_the_last() {
        let directory = Directory::new(Tasks::on_current_runtime(), LINGER);
        let [a, b] = ["demo:", "demo:?2"].map(|text| SourceUrl::parse(text).unwrap());
        let first = directory.compose(&a, &b).unwrap();
        let second = directory.compose(&a, &b).unwrap();
        let other = directory.compose(&b, &a).unwrap();
        assert_eq!(first.hub().id(), second.hub().id());
        assert_ne!(first.hub().id(), other.hub().id());
        drop(other);
        assert_eq!(directory.list().len(), 2);
        let mut frames = first.hub().subscribe().0;
        let mut kinds = Vec::new();
        while !(kinds.contains(&Kind::Video) && kinds.contains(&Kind::Audio)) {
            let Next::Frame(frame) = frames.next().await else {
                panic!("it plays");
            };
            kinds.push(frame.codec.kind());
        }
        drop(first);
        tokio::time::sleep(LINGER * 2).await;
        assert_eq!(directory.inner.composed().len(), 1);
        drop(second);
        while !matches!(frames.next().await, Next::Ended) {}
        assert!(directory.inner.composed().is_empty());
        // Its parts linger, as every source.
        assert_eq!(directory.list().len(), 2);
        tokio::time::sleep(LINGER * 2).await;
        assert!(directory.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_composition_ends_when_the_server_stops() {
        let directory = Directory::new(Tasks::on_current_runtime(), LINGER);
        let [a, b] = ["demo:", "demo:?2"].map(|text| SourceUrl::parse(text).unwrap());
        let lease = directory.compose(&a, &b).unwrap();
        assert!(directory.inner.tasks.drain(Duration::from_secs(1)).await);
        lease.hub().closed().await;
        assert!(directory.inner.composed().is_empty());
    }
}
