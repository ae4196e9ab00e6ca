//! Where one source meets its subscribers: [`Publisher`] writes, [`Hub`] and [`Subscription`] read.
//!
//! Frames go round in one ring for all tracks, in the order of their arrival. A subscriber that is
//! slow learns how many frames it lost; the publisher never waits. Whoever subscribes gets the pictures
//! since the last key frame first, so that nobody waits for the next one.

mod composed;
pub mod conversion;
mod gop;
mod known;
mod speech;
mod subscription;
mod tracks;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use self::{composed::Parts, gop::Gop, speech::Floor};
pub use self::{
    composed::{Composition, compose},
    conversion::{Conversion, Sound},
    known::{Decision, Failure, Known, first, first_soon},
    speech::{Heard, Listener, Speaker, Speech, Turn, Wanted},
    subscription::{Next, Subscription},
    tracks::{Converted, LeftOut, Tracks},
};
use crate::{
    base::{Diagnosis, Error, Verdict},
    media::{Frame, Kind},
};

/// Frames kept for subscribers that are behind: about a second of 25 pictures and 50 blocks of sound.
/// Whoever is further behind has to catch up with the live edge anyway.
const RING: usize = 64;

/// Without a new picture for so long, a camera that plays is in trouble.
const QUIET: Duration = Duration::from_secs(5);
/// Packets that came so lately show that it still sends.
const LATELY: Duration = Duration::from_secs(2);

/// What a source is doing, as subscribers and people see it.
#[derive(Debug, Clone)]
pub enum State {
    /// An attempt is under way.
    Connecting,
    /// Media flows.
    Live(Arc<Tracks>),
    /// The last attempt failed; another follows unless the camera refused.
    Failed(Error),
}

/// Makes both ends of a hub. Its clock starts now.
#[must_use]
pub fn hub() -> (Publisher, Hub) {
    hub_since(Instant::now())
}

/// The same with a clock that began at `start`.
fn hub_since(start: Instant) -> (Publisher, Hub) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (frames, _) = broadcast::channel(RING);
    let (state, _) = watch::channel((0, State::Connecting));
    let (sounds, _) = broadcast::channel(RING);
    let shared = Arc::new(Shared {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        start,
        bytes: AtomicU64::new(0),
        kept: AtomicUsize::new(0),
        latest: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        pictured: AtomicU64::new(0),
        step: AtomicU64::new(0),
        announced: AtomicU64::new(u64::MAX),
        failure: Mutex::default(),
        gop: Mutex::default(),
        viewers: AtomicUsize::new(0),
        listeners: AtomicUsize::new(0),
        demand: watch::Sender::new(0),
        floor: Floor::default(),
    });
    let hub = Hub {
        frames: frames.downgrade(),
        state: state.subscribe(),
        shared: Arc::clone(&shared),
        parts: None,
    };
    (
        Publisher {
            frames,
            sounds,
            state,
            shared,
        },
        hub,
    )
}

#[derive(Debug)]
struct Shared {
    id: u64,
    start: Instant,
    bytes: AtomicU64,
    kept: AtomicUsize,
    /// In nanoseconds since the start.
    latest: AtomicU64,
    /// When a packet of video came last, and when a picture was handed out; in nanoseconds since the start.
    heard: AtomicU64,
    pictured: AtomicU64,
    /// About how long it is from one part of a picture to the next, in nanoseconds.
    step: AtomicU64,
    /// When this attempt's tracks were announced; never, if they were not.
    announced: AtomicU64,
    /// Why the last attempt failed, until there are tracks again.
    failure: Mutex<Option<Failure>>,
    /// Also held while a frame is handed out, so that who subscribes gets each picture once.
    gop: Mutex<Gop>,
    viewers: AtomicUsize,
    /// Those who watch the picture of another source and hear the sound of this one.
    listeners: AtomicUsize,
    /// How many need sound that is converted.
    demand: watch::Sender<usize>,
    floor: Floor,
}

impl Shared {
    fn publish(&self, frames: &broadcast::Sender<Arc<Frame>>, frame: Frame) {
        let bytes = frame.len() as u64;
        let time = frame.time.elapsed(frame.codec.clock_rate()).as_nanos();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        self.latest.fetch_max(time, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if frame.codec.kind() == Kind::Video {
            let now = self.nanoseconds();
            let step = now.saturating_sub(self.pictured.swap(now, Ordering::Relaxed));
            let mean = self.step.load(Ordering::Relaxed);
            self.step.store((mean * 7 + step) / 8, Ordering::Relaxed);
        }
        let frame = Arc::new(frame);
        let mut gop = self.gop();
        gop.push(&frame);
        // An error means that nobody subscribes now.
        let _ = frames.send(frame);
    }

    fn gop(&self) -> MutexGuard<'_, Gop> {
        // Nothing panics between two changes that belong together.
        self.gop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, in nanoseconds since the start.
    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The writing end, held by the task that runs the source.
#[derive(Debug)]
pub struct Publisher {
    frames: broadcast::Sender<Arc<Frame>>,
    sounds: broadcast::Sender<Arc<Sound>>,
    /// Number of the attempt, and what has become of it.
    state: watch::Sender<(u64, State)>,
    shared: Arc<Shared>,
}

impl Publisher {
    /// Time since the hub's start: what arrival times are counted in.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// A new attempt begins.
    pub fn connecting(&self) {
        self.shared.gop().clear();
        self.shared.announced.store(u64::MAX, Ordering::Relaxed);
        self.state
            .send_modify(|(attempt, state)| (*attempt, *state) = (*attempt + 1, State::Connecting));
    }

    /// Whether media flows, or did until now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state.borrow().1, State::Live(_))
    }

    /// The camera has described itself and media is about to flow.
    pub fn announce(&self, tracks: Tracks) {
        let tracks = Arc::new(tracks);
        if !self.is_live() {
            // From here on pictures are missed.
            let now = self.shared.nanoseconds();
            self.shared.pictured.store(now, Ordering::Relaxed);
            self.shared.step.store(0, Ordering::Relaxed);
            self.shared.announced.store(now, Ordering::Relaxed);
            *self.shared.failure() = None;
        }
        self.state
            .send_modify(|(_, state)| *state = State::Live(tracks));
    }

    /// Whether anybody watches, or would if there were something to see.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        let shared = &self.shared;
        [&shared.viewers, &shared.listeners]
            .iter()
            .any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// The attempt has ended; or it goes on, for the next who asks, and those who have waited until now
    /// are told why they get nothing.
    pub fn failed(&self, error: Error) {
        *self.shared.failure() = Some(Failure::now(error.diagnosis().clone()));
        self.state
            .send_modify(|(_, state)| *state = State::Failed(error));
    }

    /// A packet of video has come, perhaps of no use.
    pub fn heard(&self) {
        let now = self.shared.nanoseconds();
        self.shared.heard.store(now, Ordering::Relaxed);
    }

    /// The latest media time of all frames published until now.
    #[must_use]
    pub fn latest(&self) -> Duration {
        Duration::from_nanos(self.shared.latest.load(Ordering::Relaxed))
    }

    /// For how long media has flowed in this attempt.
    #[must_use]
    pub fn played(&self) -> Duration {
        let announced = self.shared.announced.load(Ordering::Relaxed);
        self.latest()
            .saturating_sub(Duration::from_nanos(announced))
    }

    /// Hands a frame to every subscriber. Never waits.
    pub fn publish(&self, frame: Frame) {
        self.shared.publish(&self.frames, frame);
    }
}

/// The reading end, shared by all who want this source.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Weak, so that subscriptions end with the publisher.
    frames: broadcast::WeakSender<Arc<Frame>>,
    state: watch::Receiver<(u64, State)>,
    shared: Arc<Shared>,
    /// Of a hub that has picture and sound of two others.
    parts: Option<Arc<Parts>>,
}

impl Hub {
    /// What the source is doing now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().1.clone()
    }

    /// What is wrong with the camera now; none while its pictures come, or its sound if it has no picture.
    #[must_use]
    pub fn trouble(&self) -> Option<Diagnosis> {
        if let Some(parts) = &self.parts {
            return parts.picture.trouble();
        }
        match &self.state.borrow().1 {
            State::Failed(error) => return Some(error.diagnosis().clone()),
            State::Connecting => return self.failure().map(|failure| failure.diagnosis),
            State::Live(tracks) if tracks.usable.iter().all(|t| t.kind() != Kind::Video) => {
                return None;
            }
            State::Live(_) => {}
        }
        let now = self.shared.nanoseconds();
        let since = |last: &AtomicU64| {
            Duration::from_nanos(now.saturating_sub(last.load(Ordering::Relaxed)))
        };
        let quiet = since(&self.shared.pictured);
        let step = Duration::from_nanos(self.shared.step.load(Ordering::Relaxed));
        if quiet < QUIET.max(step * 3) {
            return None;
        }
        Some(if since(&self.shared.heard) < LATELY {
            Verdict::NoKeyFrame.into()
        } else {
            let evidence = format!("no media for {} s", quiet.as_secs());
            Diagnosis::seen(Verdict::Stalled, &evidence)
        })
    }

    /// What is known by now to be left out, the first of it; none unless the camera plays.
    #[must_use]
    pub fn lacks(&self) -> Option<Diagnosis> {
        match &self.parts {
            Some(parts) => parts.lacks(),
            None => self.left_out(|_| true),
        }
    }

    fn lacks_of(&self, kind: Kind) -> Option<Diagnosis> {
        self.left_out(|left_out| left_out.kind == kind)
    }

    fn left_out(&self, is_told: impl Fn(&LeftOut) -> bool) -> Option<Diagnosis> {
        let State::Live(tracks) = &self.state.borrow().1 else {
            return None;
        };
        let first = tracks.left_out.iter().find(|left_out| is_told(left_out))?;
        Some(first.note.diagnosis.clone())
    }

    /// The failure of the last attempt, until there are tracks again.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.shared.failure().clone()
    }

    /// Tells it from every other hub of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The number of attempts begun until now.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.state.borrow().0
    }

    /// Time since the hub's start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Waits until tracks are known, at most `limit`. The failure of the attempt that is under way,
    /// or of the next one, ends the wait; so does a refusal by the last one.
    ///
    /// # Errors
    /// The failure of the source, or `DeadlineExceeded`.
    pub async fn ready(&self, limit: Duration) -> Result<Arc<Tracks>, Error> {
        let mut state = self.state.clone();
        let since = match &*state.borrow() {
            (attempt, State::Connecting) => attempt.saturating_sub(1),
            (attempt, _) => *attempt,
        };
        let settled = state.wait_for(|(attempt, state)| match state {
            State::Connecting => false,
            State::Live(_) => true,
            State::Failed(e) => *attempt > since || e.kind().is_refusal(),
        });
        let settled = tokio::time::timeout(limit, settled).await;
        match settled {
            Ok(Ok(state)) => match &state.1 {
                State::Live(tracks) => Ok(Arc::clone(tracks)),
                State::Failed(error) => Err(error.clone()),
                State::Connecting => unreachable!("not settled"),
            },
            Ok(Err(_)) => Err(closed_meanwhile()),
            Err(_) => Err(match self.state() {
                // Of an attempt that goes on although it has failed those who came before.
                State::Failed(error) => error,
                State::Connecting | State::Live(_) => Error::new(
                    Verdict::CameraTimeout,
                    format!(
                        "the camera announced no tracks within {} s",
                        limit.as_secs_f64().round()
                    ),
                ),
            }),
        }
    }

    /// Follows the frames from now on, and gives the pictures that a decoder needs for them.
    #[must_use]
    pub fn subscribe(&self) -> (Subscription, Vec<Arc<Frame>>) {
        let gop = self.shared.gop();
        let frames = self
            .frames
            .upgrade()
            .map_or_else(|| broadcast::channel(1).1, |frames| frames.subscribe());
        (Subscription { frames }, gop.pictures())
    }

    /// The same as [`ready`](Self::ready) until `deadline`.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready).
    pub async fn ready_by(&self, deadline: Instant) -> Result<Arc<Tracks>, Error> {
        let limit = deadline.saturating_duration_since(Instant::now());
        self.ready(limit).await
    }

    /// All parts of the last picture from which decoding can begin, if one has arrived in this attempt.
    #[must_use]
    pub fn key_picture(&self) -> Option<Vec<Arc<Frame>>> {
        self.shared.gop().key_picture()
    }

    /// The same, and waits for it as long as the attempt lasts.
    ///
    /// # Errors
    /// The failure of the source.
    pub async fn next_key_picture(&self) -> Result<Vec<Arc<Frame>>, Error> {
        let (mut frames, _) = self.subscribe();
        let mut state = self.state.clone();
        loop {
            if let Some(picture) = self.key_picture() {
                return Ok(picture);
            }
            let failed = state.wait_for(|(_, state)| matches!(state, State::Failed(_)));
            tokio::select! {
                next = frames.next() => if matches!(next, Next::Ended) {
                    return Err(closed_meanwhile());
                },
                Ok(state) = failed => if let State::Failed(error) = &state.1 {
                    return Err(error.clone());
                },
            }
        }
    }

    /// Returns when the source is gone for good.
    pub async fn closed(&self) {
        // The publisher never gets to such a state, so only its end ends the wait.
        let _ = self.state.clone().wait_for(|_| false).await;
    }

    /// Counts a viewer for as long as the result lives.
    #[must_use]
    pub fn watch(&self) -> Watching {
        let (viewed, heard) = match &self.parts {
            Some(parts) => (&parts.picture, Some(&parts.sound)),
            None => (self, None),
        };
        viewed.shared.viewers.fetch_add(1, Ordering::Relaxed);
        if let Some(heard) = heard {
            heard.shared.listeners.fetch_add(1, Ordering::Relaxed);
        }
        Watching {
            viewed: Arc::clone(&viewed.shared),
            heard: heard.map(|heard| Arc::clone(&heard.shared)),
        }
    }

    /// Publishes what is made of other frames of this hub.
    fn publish(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            self.shared.publish(&frames, frame);
        }
    }

    /// How many watch now.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.shared.viewers.load(Ordering::Relaxed)
    }

    /// How many hear its sound now, to the picture of another source.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.listeners.load(Ordering::Relaxed)
    }

    /// One of those who keep packets for viewers has `after` bytes of them, instead of `before`.
    pub fn keeps(&self, before: usize, after: usize) {
        if let Some(parts) = &self.parts {
            return parts.picture.keeps(before, after);
        }
        // Wraps both ways, so the sum is right.
        self.shared
            .kept
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Media bytes that are kept for viewers: to be sent again, and for those who come later.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.shared.kept.load(Ordering::Relaxed)
    }

    /// Media bytes published since the start.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

fn closed_meanwhile() -> Error {
    Error::new(Verdict::CameraClosed, "the camera was closed meanwhile")
}

/// One viewer of a [`Hub`].
#[derive(Debug)]
pub struct Watching {
    viewed: Arc<Shared>,
    /// Where the sound comes from, if that is another source.
    heard: Option<Arc<Shared>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.viewed.viewers.fetch_sub(1, Ordering::Relaxed);
        if let Some(heard) = &self.heard {
            heard.listeners.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
