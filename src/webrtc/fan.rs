//! [`Fan`]: the task that carries one camera to its viewers, or to a part of them. It takes each frame
//! once and sends it to all of its viewers before it takes the next.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, Next, Subscription},
    media::Frame,
    webrtc::{
        arena::Arena,
        history::Histories,
        ice::Path,
        inbox::{Event, Load, Place},
        port::{Port, Route},
        status::End,
        viewer::{Step, Viewer},
    },
};

/// Datagrams and requests that wait for a fan.
pub const INBOX: usize = 1024;
/// Taken from the inbox before frames have their turn.
const TURN: usize = 64;
/// How long a fan without viewers stays.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// Longest time between looks at the clock.
const TICK: Duration = Duration::from_secs(1);

struct Seat {
    viewer: Box<Viewer>,
    names: Vec<String>,
    route: Route,
    hopes: Vec<Path>,
    due: Instant,
    _place: Place,
}

/// Carries a camera to viewers.
pub struct Fan {
    hub: Hub,
    port: Arc<Port>,
    inbox: mpsc::Receiver<Event>,
    /// For the table of who is where.
    address: mpsc::Sender<Event>,
    /// How many viewers have been given to this fan.
    load: Load,
    histories: Histories,
    /// Bytes of the histories, as the hub was told.
    kept: usize,
    seats: HashMap<u64, Seat>,
    arena: Arena,
    full: Vec<Path>,
    epoch: Instant,
    hub_start: SystemTime,
    /// The camera's connection of which the histories are.
    attempt: u64,
    next: Instant,
    /// Since when there has been no viewer.
    idle: Option<Instant>,
}

impl Drop for Fan {
    fn drop(&mut self) {
        self.account(0);
        // After a panic nobody else would know.
        let ids: Vec<u64> = self.seats.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Fan {
    /// A fan of `hub`, to be told by the result.
    #[must_use]
    pub fn new(hub: Hub, port: Arc<Port>, load: Load) -> (Self, mpsc::Sender<Event>) {
        let (address, inbox) = mpsc::channel(INBOX);
        let fan = Self {
            hub_start: SystemTime::now() - hub.now(),
            attempt: hub.attempts(),
            hub,
            port,
            inbox,
            address: address.clone(),
            load,
            histories: Histories::default(),
            kept: 0,
            seats: HashMap::new(),
            arena: Arena::default(),
            full: Vec::new(),
            epoch: now(),
            next: now(),
            idle: Some(now()),
        };
        (fan, address)
    }

    /// Works until there has been no viewer for a while, the camera is gone for good, or `stop` fires.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut frames, pictures) = self.hub.subscribe();
        for picture in &pictures {
            self.histories.entry(picture.track).push(picture);
        }
        drop(pictures);
        let end = self.work(&mut frames, &stop).await;
        self.finish(end).await;
    }

    async fn work(&mut self, frames: &mut Subscription, stop: &CancellationToken) -> End {
        let sleep = tokio::time::sleep_until(self.next.into());
        let mut sleep = std::pin::pin!(sleep);
        loop {
            if sleep.deadline().into_std() != self.next {
                sleep.as_mut().reset(self.next.into());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                next = frames.next() => match next {
                    Next::Frame(frame) => self.publish(&frame).await,
                    Next::Behind(missed) => self.lag(missed),
                    Next::Ended => return End::SourceEnded,
                },
                event = self.inbox.recv() => {
                    if let Some(event) = event {
                        self.take(event);
                    }
                }
                () = &mut sleep => {}
            }
            // Each has its turn, whichever was first: a flood of one must not starve the others.
            for _ in 0..TURN {
                match self.inbox.try_recv() {
                    Ok(event) => self.take(event),
                    Err(_) => break,
                }
                if self.arena.is_full() {
                    self.flush().await;
                }
            }
            if self.next <= now() {
                self.tick().await;
            }
            self.flush().await;
            if self.is_done() {
                return End::Stopped;
            }
        }
    }

    /// Whether there has been nobody for a while, and nobody is on the way here.
    fn is_done(&mut self) -> bool {
        if !self.seats.is_empty() {
            self.idle = None;
            return false;
        }
        let idle = *self.idle.get_or_insert_with(now);
        idle + IDLE_LIMIT <= now() && self.load.close()
    }

    /// After the camera was connected anew, nobody is shown what was before.
    fn notice_attempts(&mut self) {
        let attempt = self.hub.attempts();
        if self.attempt != attempt {
            self.attempt = attempt;
            self.histories.interrupt();
        }
    }

    /// Runs `act` on a viewer, and does what follows from it.
    fn with(&mut self, id: u64, act: impl FnOnce(&mut Viewer, &mut Step<'_>) -> Option<Path>) {
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        let mut step = Step {
            now: now(),
            epoch: self.epoch,
            hub_start: self.hub_start,
            histories: &self.histories,
            arena: &mut self.arena,
        };
        if let Some(path) = act(&mut seat.viewer, &mut step) {
            self.port.table.address(&path, seat.route.clone());
        }
        seat.due = seat.viewer.next_timeout();
        self.next = self.next.min(seat.due);
        if seat.viewer.end().is_some() {
            self.remove(id);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Join {
                viewer,
                name,
                state,
                hopes,
                place,
            } => {
                self.notice_attempts();
                let route = Route::new(self.address.clone(), viewer);
                self.port.table.name(name.clone(), route.clone());
                for path in &hopes {
                    self.port.table.maybe(path, route.clone());
                }
                let seat = Seat {
                    viewer: state,
                    names: vec![name],
                    route,
                    hopes,
                    due: now(),
                    _place: place,
                };
                self.seats.insert(viewer, seat);
                self.with(viewer, |viewer, step| {
                    viewer.handle_timeout(step);
                    None
                });
            }
            Event::Datagram {
                viewer, path, data, ..
            } => {
                self.with(viewer, |viewer, step| viewer.handle(step, path, &data));
            }
            Event::Candidate { viewer, candidate } => {
                let ip = candidate.address.ip();
                for (relay, _) in self.port.relays().relayed() {
                    self.port.relays().permit(relay, ip);
                }
                let port = Arc::clone(&self.port);
                self.with(viewer, |viewer, step| {
                    for relay in viewer.ice().relays() {
                        port.relays().permit(*relay, ip);
                    }
                    viewer.ice().add_remote(step.now, candidate);
                    viewer.handle_timeout(step);
                    None
                });
            }
            Event::Relay {
                viewer,
                relay,
                client,
            } => {
                let port = Arc::clone(&self.port);
                self.with(viewer, |viewer, step| {
                    // Browsers hide their addresses behind names, and come from where they asked.
                    for ip in viewer.ice().remotes().chain(client) {
                        port.relays().permit(relay, ip);
                    }
                    viewer.ice().add_relay(step.now, relay);
                    viewer.handle_timeout(step);
                    None
                });
            }
            Event::Restart {
                viewer,
                local,
                remote,
            } => {
                let Some(seat) = self.seats.get_mut(&viewer) else {
                    return;
                };
                seat.names.push(local.ufrag.clone());
                self.port
                    .table
                    .name(local.ufrag.clone(), seat.route.clone());
                self.with(viewer, |viewer, step| {
                    viewer.ice().restart(step.now, local, remote);
                    viewer.handle_timeout(step);
                    None
                });
            }
            Event::Leave { viewer } => self.with(viewer, |viewer, step| {
                viewer.close(step, End::Stopped);
                None
            }),
        }
    }

    /// Sends a frame to everybody.
    async fn publish(&mut self, frame: &Arc<Frame>) {
        self.notice_attempts();
        let entry = self.histories.entry(frame.track).push(frame);
        let Some(history) = self.histories.of(frame.track) else {
            return;
        };
        let mut ended = Vec::new();
        let at = now();
        for (id, seat) in &mut self.seats {
            let mut step = Step {
                now: at,
                epoch: self.epoch,
                hub_start: self.hub_start,
                histories: &self.histories,
                arena: &mut self.arena,
            };
            seat.viewer.advance(&mut step, history, &entry);
            // Sent at once: the arena stays in the processor's cache.
            self.port.send(&mut self.arena, &mut self.full).await;
            if !self.full.is_empty() {
                self.full.clear();
                seat.viewer.lose_place();
            }
            if let Some(pace) = seat.viewer.next_pace() {
                seat.due = seat.due.min(pace);
                self.next = self.next.min(pace);
            }
            if seat.viewer.end().is_some() {
                ended.push(*id);
            }
        }
        for id in ended {
            self.remove(id);
        }
    }

    /// We were too slow, and frames are lost for everybody.
    fn lag(&mut self, missed: u64) {
        tracing::debug!(missed, "viewers are behind");
        self.histories.interrupt();
        for seat in self.seats.values_mut() {
            seat.viewer.resume(&self.histories);
        }
    }

    /// Tells the hub how much is kept.
    fn account(&mut self, bytes: usize) {
        self.hub.keeps(self.kept, bytes);
        self.kept = bytes;
    }

    /// Does what is due.
    async fn tick(&mut self) {
        let now = now();
        self.account(self.histories.bytes());
        let due: Vec<u64> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.due <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.with(id, |viewer, step| {
                viewer.handle_timeout(step);
                None
            });
            self.flush().await;
        }
        let all = self.seats.values().map(|seat| seat.due);
        self.next = all.fold(now + TICK, Instant::min);
    }

    async fn flush(&mut self) {
        self.port.send(&mut self.arena, &mut self.full).await;
        for path in self.full.drain(..) {
            for seat in self.seats.values_mut() {
                if seat.viewer.paths().contains(&path) {
                    seat.viewer.lose_place();
                }
            }
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(seat) = self.seats.remove(&id) {
            let paths = seat.viewer.paths().iter().chain(&seat.hopes);
            self.port.table.remove(id, &seat.names, paths);
        }
    }

    /// Says goodbye to everybody.
    async fn finish(&mut self, end: End) {
        self.inbox.close();
        // Who was on the way here is told too.
        while let Ok(event) = self.inbox.try_recv() {
            if matches!(event, Event::Join { .. }) {
                self.take(event);
            }
        }
        let ids: Vec<u64> = self.seats.keys().copied().collect();
        for id in ids {
            self.with(id, |viewer, step| {
                viewer.close(step, end);
                None
            });
        }
        self.flush().await;
    }
}
