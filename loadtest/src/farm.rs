//! Threads that serve the viewers: one per core, each with its share of the sockets.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Inbox, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::janus;
use crate::measure::unix_ns;
use crate::receive::Receiver;
use crate::signalling::{self, Session, Target};
use crate::viewer::{self, Opening, SharedRecord, Viewer, lock};

/// The data of the event that wakes a thread for a command.
const WAKE: u64 = u64::MAX;
/// With more viewers than this per thread, datagrams are read in batches; the kernel has stamped them before.
const BATCH_ABOVE: usize = 8;
const BATCH_PAUSE: Duration = Duration::from_millis(1);

enum Command {
    Add(u64, Box<Viewer>),
    Remove { id: u64, goodbye: bool },
    Pause(u64),
    Clear,
}

struct Shard {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

/// All viewers.
pub(crate) struct Farm {
    shards: Vec<Shard>,
    ids: AtomicU64,
    address: IpAddr,
}

/// A viewer that has been answered.
pub(crate) struct Joined {
    id: u64,
    pub(crate) port: u16,
    pub(crate) record: SharedRecord,
    session: Session,
}

impl Farm {
    /// Starts the threads. The viewers bind sockets on this address.
    pub(crate) fn start(address: IpAddr, threads: usize) -> io::Result<Self> {
        let mut shards = Vec::new();
        for index in 0..threads.max(1) {
            let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?);
            let epoll = Epoll::new(EpollCreateFlags::empty())?;
            epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
            let (commands, inbox) = channel();
            let of_thread = Arc::clone(&wake);
            thread::Builder::new()
                .name(format!("viewers-{index}"))
                .spawn(move || {
                    Worker {
                        epoll,
                        wake: of_thread,
                        inbox,
                        viewers: HashMap::new(),
                        paused: Vec::new(),
                    }
                    .run();
                })?;
            shards.push(Shard { commands, wake });
        }
        Ok(Self {
            shards,
            ids: AtomicU64::new(0),
            address,
        })
    }

    /// The address of the viewers.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    fn send(&self, id: u64, command: Command) {
        let shards = u64::try_from(self.shards.len()).unwrap_or(1);
        let shard = &self.shards[usize::try_from(id % shards).unwrap_or(0)];
        // The threads live as long as the farm.
        let _ = shard.commands.send(command);
        let _ = shard.wake.write(1);
    }

    /// Offers and is answered; the rest goes on by itself. `before` gets the server's addresses before the viewer
    /// sends anything to them.
    ///
    /// # Errors
    /// What the server said instead of an answer.
    pub(crate) fn join(
        &self,
        target: &Target,
        camera: usize,
        before: impl FnOnce(&[SocketAddr]),
    ) -> Result<Joined, String> {
        let mut opening = Opening::new(self.address)?;
        let record = Arc::clone(&opening.record);
        // Made before the clock starts: only the server's work counts.
        let offer = if target.is_janus() {
            None
        } else {
            Some(opening.offer(target.audio)?)
        };
        lock(&record).offered_ns = unix_ns();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (viewer, session) = if let Some(offer) = offer {
            let (answer, session) = signalling::offer(target, camera, &offer)?;
            lock(&record).answered_ns = Some(unix_ns());
            let viewer = opening.accept_answer(&answer)?;
            before(&viewer::candidates(&answer));
            (viewer, session)
        } else {
            let (offer, session) = janus::watch(target, camera)?;
            lock(&record).answered_ns = Some(unix_ns());
            let (viewer, answer) = opening.accept_offer(&offer)?;
            before(&viewer::candidates(&offer));
            janus::start(&session, &answer)?;
            (viewer, session)
        };
        let port = viewer
            .socket
            .local_addr()
            .map_or(0, |address| address.port());
        self.send(id, Command::Add(id, Box::new(viewer)));
        Ok(Joined {
            id,
            port,
            record,
            session,
        })
    }

    /// Ends a viewer: with goodbye over media and signalling, or without a word.
    pub(crate) fn leave(&self, joined: &Joined, goodbye: bool) {
        self.send(
            joined.id,
            Command::Remove {
                id: joined.id,
                goodbye,
            },
        );
        if goodbye {
            joined.session.leave();
        }
    }

    /// Forgets all viewers, without a word: their server is gone.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let _ = shard.commands.send(Command::Clear);
            let _ = shard.wake.write(1);
        }
    }

    /// Lets a viewer stop reading and answering, with its socket open.
    pub(crate) fn pause(&self, joined: &Joined) {
        self.send(joined.id, Command::Pause(joined.id));
    }
}

struct Worker {
    epoll: Epoll,
    wake: Arc<EventFd>,
    inbox: Inbox<Command>,
    viewers: HashMap<u64, Box<Viewer>>,
    paused: Vec<Box<Viewer>>,
}

impl Worker {
    fn run(mut self) {
        let mut receiver = Receiver::new();
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                self.execute(command);
            }
            let now = Instant::now();
            let mut next = now + Duration::from_millis(100);
            self.viewers.retain(|_, viewer| !viewer.is_over());
            for viewer in self.viewers.values_mut() {
                if viewer.deadline <= now {
                    viewer.tick(now);
                }
                next = next.min(viewer.deadline);
            }
            let wait = next.saturating_duration_since(Instant::now()).as_millis() + 1;
            let ready = self
                .epoll
                .wait(&mut events, u16::try_from(wait).unwrap_or(100))
                .unwrap_or(0);
            for event in &events[..ready] {
                if event.data() == WAKE {
                    // Only resets the counter.
                    let _ = self.wake.read();
                } else if let Some(viewer) = self.viewers.get_mut(&event.data()) {
                    read_all(&mut receiver, viewer);
                }
            }
            if self.viewers.len() > BATCH_ABOVE {
                thread::sleep(BATCH_PAUSE);
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Add(id, mut viewer) => {
                if let Err(error) = self
                    .epoll
                    .add(&*viewer.socket, EpollEvent::new(EpollFlags::EPOLLIN, id))
                {
                    lock(&viewer.record).error = Some(format!("epoll: {error}"));
                }
                viewer.tick(Instant::now());
                self.viewers.insert(id, viewer);
            }
            Command::Remove { id, goodbye } => {
                if let Some(mut viewer) = self.viewers.remove(&id)
                    && goodbye
                {
                    viewer.close();
                }
            }
            Command::Clear => {
                self.viewers.clear();
                self.paused.clear();
            }
            Command::Pause(id) => {
                if let Some(viewer) = self.viewers.remove(&id) {
                    // It is in `viewers` no more, so that only its events must end.
                    let _ = self.epoll.delete(&*viewer.socket);
                    self.paused.push(viewer);
                }
            }
        }
    }
}

fn read_all(receiver: &mut Receiver, viewer: &mut Viewer) {
    let socket = Arc::clone(&viewer.socket);
    while receiver.receive(&socket, |time, source, content| {
        viewer.datagram(time, source, content);
    }) {}
}
