//! [`Engine`]: answers offers, and hands viewers to the fans of their cameras.

mod brought;

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

pub use self::brought::Brought;
use crate::{
    base::{Error, ErrorKind, Tasks, Verdict},
    config::Config,
    hub::{Hub, Speaker},
    webrtc::{
        Offer, Plan,
        addresses::{Addresses, Bound},
        admission::Admission,
        answer::{self, LocalTransport, Streams},
        channel::Channels,
        dtls::{Dtls, Identity},
        ear::Ear,
        fan::Fan,
        ice::{Agent, Credentials, Path, RemoteCandidate, Transport},
        inbox::{Event, Load, Place},
        lane::Lane,
        negotiate::SectionPlan,
        offer,
        port::{Port, Sockets},
        relay::Relays,
        status::{End, State, Status},
        viewer::Viewer,
    },
};

/// Viewers of a camera that one task serves alone, before another one is started: the last of them gets
/// a picture about a millisecond after the first. Each task more is another thread to wake up for
/// every frame, which costs more than it helps with fewer viewers.
const SHARE: usize = 100;

/// How long a fan may take to accept a viewer, and to say goodbye to one.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// The WebRTC side of the server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    port: Arc<Port>,
    bound: Bound,
    addresses: Addresses,
    admission: Admission,
    identity: Arc<Identity>,
    fans: Mutex<HashMap<u64, Vec<Handle>>>,
    viewers: AtomicU64,
    fans_max: usize,
    tasks: Tasks,
}

#[derive(Debug, Clone)]
struct Handle {
    inbox: mpsc::Sender<Event>,
    load: Load,
}

/// An offer, and what to answer it with.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the browser offers.
    pub offer: &'a Offer,
    /// What it gets.
    pub plan: &'a Plan,
    /// From where.
    pub hub: &'a Hub,
    /// Who hears it, if the plan lets it speak.
    pub speaker: Option<Speaker>,
    /// Where the offer came from.
    pub client: Option<IpAddr>,
    /// By which name or address, with or without a port, the client has reached this server.
    pub host: Option<&'a str>,
}

/// A viewer that was answered. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    control: Control,
    status: watch::Receiver<Status>,
}

/// What a client may still do with a viewer after the answer. Cheap to clone, and of no effect once the
/// viewer is gone.
#[derive(Debug, Clone)]
pub struct Control {
    viewer: u64,
    fan: mpsc::Sender<Event>,
    status: watch::Receiver<Status>,
}

impl Engine {
    /// Takes the media port and starts to work.
    ///
    /// Must be called on the media runtime.
    ///
    /// # Errors
    /// `Unavailable` when the port is taken.
    pub fn start(config: &Config, tasks: &Tasks) -> Result<Self, Error> {
        let sockets = Sockets::bind(config.media_listen)?;
        let addresses = Addresses::new(config);
        tasks.spawn("addresses", addresses.clone().run(tasks.stop().clone()));
        let bound = sockets.bound();
        let admission = Admission::new(&[config.listen.port(), bound.port]);
        let (relays, relayed) = Relays::start(config, tasks, &addresses, &admission)?;
        let port = Port::start(sockets, relays, relayed, &addresses, tasks)?;
        Ok(Self {
            inner: Arc::new(Inner {
                bound,
                port,
                addresses,
                admission,
                identity: Arc::new(Identity::generate()?),
                fans: Mutex::default(),
                viewers: AtomicU64::new(1),
                fans_max: std::thread::available_parallelism().map_or(1, NonZero::get),
                tasks: tasks.clone(),
            }),
        })
    }

    /// The number of the media port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.inner.port.number()
    }

    /// Answers an offer: gives the viewer, who has yet to connect, and the session description for
    /// the browser. Waits for nothing but a name that was never heard of, for 150 ms at most.
    ///
    /// # Errors
    /// `InvalidArgument` when the offer's transport cannot be used.
    pub async fn answer(&self, request: Request<'_>) -> Result<(Session, String), Error> {
        let inner = &self.inner;
        let Request {
            offer,
            plan,
            hub,
            speaker,
            client,
            host,
        } = request;
        let transport = offer.transport(plan.first(), client)?;
        if let Some(host) = host {
            inner.addresses.resolve(host).await;
        }
        let now = tokio::time::Instant::now().into_std();
        let local = Credentials::random();
        let remote = Credentials {
            ufrag: transport.ufrag,
            password: transport.password,
        };
        let mut ice = Agent::new(now, local.clone(), remote, transport.is_lite);
        let relays = inner.addresses.relayed();
        ice.set_relays(
            now,
            relays
                .iter()
                .map(|(number, _)| number + 1)
                .max()
                .unwrap_or(0),
        );
        let candidates = transport
            .candidates
            .iter()
            .filter_map(|line| RemoteCandidate::parse(line));
        let (mut hosts, mut hopes) = (Vec::new(), Vec::new());
        for candidate in candidates {
            hosts.push(candidate.address.ip());
            // A lite agent checks nothing itself: only our checks find the way.
            if transport.is_lite {
                hopes.push(Path {
                    transport: Transport::Udp,
                    remote: candidate.address,
                    local: None,
                });
            }
            ice.add_remote(now, candidate);
        }
        // Browsers hide their addresses behind names, and come from where they asked.
        hosts.extend(client);
        for (relay, _) in &relays {
            for host in &hosts {
                inner.port.relays().permit(*relay, *host);
            }
        }
        let lanes: Vec<_> = plan.sendings().map(Lane::new).collect();
        let streams: Vec<_> = lanes.iter().map(Streams::from).collect();
        let channels = plan
            .sections
            .contains(&SectionPlan::Data)
            .then(Channels::default);
        let dtls = Dtls::new(Arc::clone(&inner.identity), transport.fingerprint);
        let (told, status) = watch::channel(Status::default());
        let number = inner.viewers.fetch_add(1, Ordering::Relaxed);
        let ear = plan.hearing.clone().zip(speaker);
        let ear = ear.map(|(hearing, speaker)| Ear::new(hearing, speaker));
        let viewer = Box::new(Viewer::new(now, ice, dtls, lanes, channels, ear, told));
        let name = local.ufrag.clone();
        let (fan, place) = self.fan(hub)?;
        let joining = Event::Join {
            viewer: number,
            name,
            state: viewer,
            hopes,
            place,
        };
        let control = Control {
            viewer: number,
            fan: fan.inbox,
            status: status.clone(),
        };
        let session = Session { control, status };
        timeout(JOIN_LIMIT, session.control.fan.send(joining))
            .await
            .map_err(|_| Error::new(ErrorKind::ResourceExhausted, "too many viewers; try again"))?
            .map_err(|_| Error::new(Verdict::CameraClosed, "the camera was closed meanwhile"))?;
        let local = LocalTransport {
            ufrag: local.ufrag,
            password: local.password,
            fingerprint: inner.identity.fingerprint().to_owned(),
            candidates: self.candidates(host),
        };
        Ok((session, answer::write(offer, plan, &local, &streams)))
    }
}

impl Engine {
    /// Where browsers can reach the media port, as candidate lines without `a=`, when the client has
    /// reached this server as `host`.
    #[must_use]
    pub fn candidates(&self, host: Option<&str>) -> Vec<String> {
        let found = self.inner.addresses.candidates(self.inner.bound, host);
        found.iter().map(ToString::to_string).collect()
    }

    /// The fan that a new viewer of `hub` goes to, and its place there.
    fn fan(&self, hub: &Hub) -> Result<(Handle, Place), Error> {
        let inner = &self.inner;
        // Nothing panics between two changes that belong together.
        let mut fans = inner.fans.lock().unwrap_or_else(PoisonError::into_inner);
        fans.retain(|_, of_hub| {
            of_hub.retain(|handle| handle.load.get().is_some() && !handle.inbox.is_closed());
            !of_hub.is_empty()
        });
        let of_hub = fans.entry(hub.id()).or_default();
        let load = |handle: &&Handle| handle.load.get().unwrap_or(usize::MAX);
        if let Some(least) = of_hub.iter().min_by_key(load)
            && (load(&least) < SHARE || of_hub.len() >= inner.fans_max)
            && let Some(place) = least.load.enter()
        {
            return Ok((least.clone(), place));
        }
        let load = Load::default();
        let (fan, inbox) = Fan::new(hub.clone(), Arc::clone(&inner.port), load.clone());
        let place = load
            .enter()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a fan is closed"))?;
        let handle = Handle { inbox, load };
        of_hub.push(handle.clone());
        inner
            .tasks
            .spawn("fan", fan.run(inner.tasks.stop().clone()));
        Ok((handle, place))
    }
}

impl Session {
    /// Waits until media flows, or it is over.
    pub async fn settled(&mut self) -> State {
        let settled = self
            .status
            .wait_for(|status| status.state != State::Connecting)
            .await;
        settled.map_or(State::Ended(End::Stopped), |status| status.state)
    }

    /// Waits until it is over.
    pub async fn ended(&mut self) -> End {
        let is_over = |status: &Status| matches!(status.state, State::Ended(_));
        match self
            .status
            .wait_for(is_over)
            .await
            .map(|status| status.state)
        {
            Ok(State::Ended(end)) => end,
            _ => End::Stopped,
        }
    }

    /// How it fares, from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// What its client may still do with it.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Says goodbye to the browser.
    pub async fn close(&mut self) {
        let event = Event::Leave {
            viewer: self.control.viewer,
        };
        let goodbye = async {
            if self.control.fan.send(event).await.is_ok() {
                self.ended().await;
            }
        };
        // A fan that is too busy finds out by itself that nobody asks any more.
        let _ = timeout(JOIN_LIMIT, goodbye).await;
    }
}

impl Control {
    /// Tries another address of the browser, which its client has found after the offer (trickle,
    /// [RFC 8838]). `line` is a candidate line; false for one that is not tried, such as a name or an
    /// address of nobody.
    ///
    /// [RFC 8838]: https://datatracker.ietf.org/doc/html/rfc8838
    pub async fn add_candidate(&self, line: &str, client: Option<IpAddr>) -> bool {
        let usable = offer::usable(line, client.is_some_and(|ip| ip.is_loopback()));
        let Some(candidate) = usable.and_then(|line| RemoteCandidate::parse(&line)) else {
            return false;
        };
        let event = Event::Candidate {
            viewer: self.viewer,
            candidate,
        };
        matches!(timeout(JOIN_LIMIT, self.fan.send(event)).await, Ok(Ok(())))
    }

    /// Begins ICE anew with the browser's new credentials, and gives ours for the answer; media goes on
    /// meanwhile. None when the viewer is gone.
    pub async fn restart(&self, remote: Credentials) -> Option<Credentials> {
        let local = Credentials::random();
        let event = Event::Restart {
            viewer: self.viewer,
            local: local.clone(),
            remote,
        };
        let sent = timeout(JOIN_LIMIT, self.fan.send(event)).await;
        matches!(sent, Ok(Ok(()))).then_some(local)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A fan that is too busy for it finds out by itself that nobody asks any more.
        let _ = self.control.fan.try_send(Event::Leave {
            viewer: self.control.viewer,
        });
    }
}
