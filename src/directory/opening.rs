//! [`Directory::open`]: the sources of one camera, opened one after the other as far as they are needed.

use std::time::Duration;

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Directory, Lease};
use crate::{
    base::{Diagnosis, Error, ErrorKind, SourceUrl},
    hub::{Decision, Failure, Hub, Known, State},
};

/// How long a source is waited for before the next one is opened beside it. Cameras announce their tracks
/// within a second, and within three while they wake up; who has to wait for one that is switched off
/// should see the other one soon.
const PATIENCE: Duration = Duration::from_secs(2);

/// The leases of those sources that were opened, by their place.
#[derive(Debug)]
pub struct Opened(Vec<Option<Lease>>);

impl Opened {
    /// The lease of source number `index`, given once.
    pub fn take(&mut self, index: usize) -> Option<Lease> {
        self.0.get_mut(index)?.take()
    }
}

/// What one waits for of a source.
enum Event {
    /// It is open, or cannot be opened.
    Settled(Known),
    /// It takes long.
    Late,
}

impl Directory {
    /// Opens those of `urls` that `decide` asks for, which is told what is known of each whenever that is
    /// more than before, until it has decided. At `deadline` nothing is unsettled any more. What was
    /// opened goes on opening meanwhile, and lingers if it is not taken from the result.
    ///
    /// # Errors
    /// Those of `decide`.
    pub async fn open<T>(
        &self,
        urls: &[SourceUrl],
        deadline: Instant,
        decide: impl Fn(&[Known]) -> Result<Decision<T>, Error>,
    ) -> Result<(T, Opened), Error> {
        let mut known = vec![Known::Unasked; urls.len()];
        let mut leases: Vec<_> = urls.iter().map(|_| None).collect();
        let mut waits: FuturesUnordered<BoxFuture<'static, (usize, Event)>> =
            FuturesUnordered::new();
        loop {
            match decide(&known)? {
                Decision::Made(result) => return Ok((result, Opened(leases))),
                Decision::Ask(index) => match self.lease(&urls[index]) {
                    Ok(lease) => {
                        let hub = lease.hub().clone();
                        let failed = self.failed_lately(&urls[index], &hub);
                        known[index] = if failed.is_some() {
                            Known::Late(failed)
                        } else {
                            waits.push(Box::pin(async move {
                                tokio::time::sleep(PATIENCE).await;
                                (index, Event::Late)
                            }));
                            Known::Opening
                        };
                        waits.push(Box::pin(async move {
                            let known = match hub.ready_by(deadline).await {
                                Ok(tracks) => Known::Open(tracks),
                                Err(e) => Known::Failed(e),
                            };
                            (index, Event::Settled(known))
                        }));
                        leases[index] = Some(lease);
                    }
                    Err(e) => known[index] = Known::Failed(e),
                },
                Decision::Wait => match waits.next().await {
                    Some((index, Event::Settled(settled))) => known[index] = settled,
                    Some((index, Event::Late)) => {
                        if matches!(known[index], Known::Opening) {
                            known[index] = Known::Late(None);
                        }
                    }
                    None => {
                        let what = "a camera is waited for that nobody opens";
                        return Err(Error::new(ErrorKind::Internal, what));
                    }
                },
            }
        }
    }

    /// Why the source at `url` failed a moment ago, if nothing better is known of it now.
    fn failed_lately(&self, url: &SourceUrl, hub: &Hub) -> Option<Diagnosis> {
        if matches!(hub.state(), State::Live(_)) {
            return None;
        }
        let before = || self.inner.failures().get(&url.key()).cloned();
        let failure = hub.failure().or_else(before);
        failure
            .filter(Failure::is_recent)
            .map(|failure| failure.diagnosis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{Tasks, Verdict},
        hub::first,
        media::Kind,
    };

    const LIMIT: Duration = Duration::from_secs(7);

    fn after(time: Duration) -> Instant {
        tokio::time::sleep(time).deadline()
    }

    fn directory() -> Directory {
        Directory::new(Tasks::on_current_runtime(), Duration::from_secs(10))
    }

    fn urls(texts: &[&str]) -> Vec<SourceUrl> {
        let parsed = texts.iter().map(|text| SourceUrl::parse(text).unwrap());
        parsed.collect()
    }

    /// Opens until there is a picture, and tells of which source, and what is known then.
    async fn picture(directory: &Directory, texts: &[&str]) -> (Option<usize>, Vec<String>) {
        let urls = urls(texts);
        let decide = |known: &[Known]| {
            let told = known.iter().map(|known| match known {
                Known::Open(_) => "open".to_owned(),
                Known::Failed(e) => e.verdict().to_string(),
                Known::Late(Some(failure)) => format!("late {}", failure.verdict),
                other => format!("{other:?}").to_lowercase(),
            });
            let told: Vec<_> = told.collect();
            let found = first(known, |tracks| tracks.of_kind(Kind::Video).next().is_some());
            Ok(found.map(|found| (found, told)))
        };
        let opened = directory.open(&urls, after(LIMIT), decide).await;
        opened.unwrap().0
    }

    /// A port at which nobody listens, and one where nobody answers who is called.
    async fn closed_and_silent() -> (String, String, tokio::net::TcpListener) {
        let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (closed, silent) = (bind().await.unwrap(), bind().await.unwrap());
        let url = |listener: &tokio::net::TcpListener| {
            format!("rtsp://{}/x", listener.local_addr().unwrap())
        };
        (url(&closed), url(&silent), silent)
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_source_is_not_opened_while_an_earlier_one_will_do() {
        let directory = directory();
        let (found, known) = picture(&directory, &["demo:", "demo:?2"]).await;
        assert_eq!(found, Some(0));
        assert_eq!(known, ["open", "unasked"]);
        assert_eq!(directory.list().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_not_waited_for_long() {
        let directory = directory();
        let (_, silent, _listener) = closed_and_silent().await;
        let begun = after(Duration::ZERO);
        let (found, known) = picture(&directory, &[&silent, "demo:"]).await;
        assert_eq!((found, known[0].as_str()), (Some(1), "late(none)"));
        let took = begun.elapsed();
        assert!((PATIENCE..PATIENCE * 2).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while_and_costs_nobody_time() {
        let tasks = Tasks::on_current_runtime();
        let directory = Directory::new(tasks, Duration::ZERO);
        let (closed, ..) = closed_and_silent().await;
        let both = [closed.as_str(), "demo:"];
        let (found, known) = picture(&directory, &both).await;
        assert_eq!((found, known[0].as_str()), (Some(1), "port-closed"));
        // Also when nobody has it open any more.
        while !directory.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (found, known) = picture(&directory, &both).await;
        assert_eq!((found, known[0].as_str()), (Some(1), "late port-closed"));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_will_do_all_is_settled_in_time() {
        let directory = directory();
        let (_, silent, _listener) = closed_and_silent().await;
        let other = format!("{silent}/other");
        let begun = after(Duration::ZERO);
        let (found, known) = picture(&directory, &[&silent, &other]).await;
        assert_eq!(found, None);
        assert!(
            known.iter().all(|known| known.starts_with("camera-")),
            "{known:?}"
        );
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(10));
        let (found, known) = picture(&directory, &["nonsense://x", "demo:"]).await;
        assert_eq!(
            (found, known[0].as_str()),
            (Some(1), Verdict::BadUrl.code())
        );
    }
}
