//! [`Addresses`]: which candidates an answer names. Looked up in the background, so that an offer
//! never waits for it, except for a name that is new.

mod candidate;
mod gather;
mod interfaces;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, HostPort, MediaAddress};

pub use candidate::{Candidate, Kind, Transport};
use gather::Requested;
use interfaces::Interface;

/// How soon a new interface is in an answer.
const INTERFACES_EVERY: Duration = Duration::from_secs(2);

/// How long the addresses of a name are good.
const NAME_LIFETIME: Duration = Duration::from_mins(1);

/// How soon a name without an address is looked up again.
const NAME_RETRY: Duration = Duration::from_secs(5);

/// How long a look-up may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// How long an offer waits for a name that nobody has asked for before.
const FIRST_LOOK_UP_WAIT: Duration = Duration::from_millis(150);

/// Names that clients asked for, the most that are remembered.
const REQUESTED_MAX: usize = 64;

/// Look-ups at once: each holds a thread.
const LOOK_UPS_MAX: usize = 8;

/// What the media sockets are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The port, UDP and TCP.
    pub port: u16,
    /// The only address; none means every one.
    pub only: Option<IpAddr>,
    /// Whether IPv4 comes through.
    pub ipv4: bool,
    /// Whether IPv6 comes through.
    pub ipv6: bool,
}

impl Bound {
    /// What a socket with this local address hears. `[::]` is taken to hear IPv4 too.
    #[must_use]
    pub fn at(local: SocketAddr) -> Self {
        let ip = local.ip();
        Self {
            port: local.port(),
            only: (!ip.is_unspecified()).then_some(ip),
            // Around one address there may be others in front, of either family.
            ipv4: true,
            ipv6: !ip.is_unspecified() || ip.is_ipv6(),
        }
    }
}

/// What is known of our addresses.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    interfaces: Vec<Interface>,
    names: BTreeMap<String, LookedUp>,
    /// As STUN servers see the media port.
    mapped: Vec<SocketAddr>,
    /// By the number of the relay.
    relayed: Vec<Option<SocketAddr>>,
}

/// A name that was looked up.
#[derive(Debug, Clone)]
struct LookedUp {
    /// None when that failed.
    addresses: Vec<IpAddr>,
    good_until: Instant,
}

/// Our addresses, kept up to date by [`Addresses::run`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Addresses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    configured: Vec<MediaAddress>,
    stun: Vec<HostPort>,
    known: watch::Sender<Snapshot>,
    wanted: mpsc::Sender<String>,
    /// Taken by [`Addresses::run`].
    wishes: Mutex<mpsc::Receiver<String>>,
}

impl Addresses {
    /// The interfaces of now; all else becomes known once [`Self::run`] runs.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let addresses = Self::with(config.media_addresses.clone(), stun_servers(config));
        addresses.read_interfaces();
        addresses
    }

    fn with(configured: Vec<MediaAddress>, stun: Vec<HostPort>) -> Self {
        let (wanted, wishes) = mpsc::channel(REQUESTED_MAX);
        Self(Arc::new(Shared {
            configured,
            stun,
            known: watch::Sender::default(),
            wanted,
            wishes: Mutex::new(wishes),
        }))
    }

    /// The candidates for an answer, highest priority first, for a client whose request came to
    /// `requested`: the host, perhaps with a port, of its header `Host` or `X-Forwarded-Host`. It
    /// may be any text. Never waits.
    #[must_use]
    pub fn candidates(&self, bound: Bound, requested: Option<&str>) -> Vec<Candidate> {
        let requested = requested.and_then(Requested::parse);
        let known = self.0.known.borrow();
        gather::candidates(&known, &self.0.configured, bound, requested.as_ref())
    }

    /// Sees to it that the name in `requested` is looked up. Waits for that at most 150 ms, and not
    /// at all for a name that is known, an address, or what is neither.
    pub async fn resolve(&self, requested: &str) {
        let Some(Requested::Name(name)) = Requested::parse(requested) else {
            return;
        };
        let mut known = self.0.known.subscribe();
        let (is_known, is_stale) = match known.borrow().names.get(&name) {
            Some(entry) => (true, entry.good_until <= Instant::now()),
            None => (false, true),
        };
        if is_stale {
            // Full means that many others are being looked up; this one will be asked for again.
            let _ = self.0.wanted.try_send(name.clone());
        }
        if !is_known {
            let arrival = known.wait_for(|snapshot| snapshot.names.contains_key(&name));
            let _ = timeout(FIRST_LOOK_UP_WAIT, arrival).await;
        }
    }

    /// The STUN servers to ask by the media port: of each one its first address of either family.
    #[must_use]
    pub fn stun_servers(&self) -> Vec<SocketAddr> {
        let known = self.0.known.borrow();
        let mut servers = Vec::new();
        for server in &self.0.stun {
            let addresses: Vec<IpAddr> = match server.host.parse() {
                Ok(ip) => vec![ip],
                Err(_) => known
                    .names
                    .get(&server.host)
                    .map_or_else(Vec::new, |entry| entry.addresses.clone()),
            };
            for first in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
                if let Some(ip) = addresses.iter().find(|ip| first(ip)) {
                    let address = SocketAddr::new(*ip, server.port);
                    if !servers.contains(&address) {
                        servers.push(address);
                    }
                }
            }
        }
        servers
    }

    /// Takes note of how STUN servers see the media port.
    pub fn set_mapped(&self, mapped: Vec<SocketAddr>) {
        self.0.known.send_if_modified(|known| {
            let is_news = known.mapped != mapped;
            known.mapped = mapped;
            is_news
        });
    }

    /// Takes note of the address that the relay with this number has for us, if it has one.
    pub fn set_relayed(&self, relay: u8, address: Option<SocketAddr>) {
        let at = usize::from(relay);
        self.0.known.send_if_modified(|known| {
            if known.relayed.len() <= at {
                known.relayed.resize(at + 1, None);
            }
            let is_news = known.relayed[at] != address;
            known.relayed[at] = address;
            is_news
        });
    }

    /// The addresses that relays have for us, with their numbers.
    #[must_use]
    pub fn relayed(&self) -> Vec<(u8, SocketAddr)> {
        let known = self.0.known.borrow();
        (0..)
            .zip(&known.relayed)
            .filter_map(|(relay, address)| Some((relay, (*address)?)))
            .collect()
    }

    fn read_interfaces(&self) {
        let interfaces = interfaces::read();
        self.0.known.send_if_modified(|known| {
            let is_news = known.interfaces != interfaces;
            if is_news {
                tracing::debug!(count = interfaces.len(), "network addresses changed");
                known.interfaces = interfaces;
            }
            is_news
        });
    }

    /// Keeps everything up to date until `stop` fires. To be run once, in a task of its own.
    pub async fn run(self, stop: CancellationToken) {
        let mut wishes = self.0.wishes.lock().await;
        let mut look_ups = LookUps::default();
        let mut tick = tokio::time::interval(INTERFACES_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {
                    self.read_interfaces();
                    for name in self.own_names() {
                        self.look_up(&mut look_ups, name);
                    }
                }
                Some(name) = wishes.recv() => self.look_up(&mut look_ups, name),
                Some((name, addresses)) = look_ups.running.next() => {
                    look_ups.names.retain(|running| *running != name);
                    self.learn(name, addresses, Instant::now());
                }
            }
        }
    }

    /// The names in the configuration.
    fn own_names(&self) -> Vec<String> {
        let configured = self
            .0
            .configured
            .iter()
            .filter_map(|address| match address {
                MediaAddress::Name(name, _) => Some(name),
                _ => None,
            });
        let servers = self.0.stun.iter().map(|server| &server.host);
        configured
            .chain(servers.filter(|host| host.parse::<IpAddr>().is_err()))
            .cloned()
            .collect()
    }

    /// Begins to look `name` up unless its addresses are still good.
    fn look_up(&self, look_ups: &mut LookUps, name: String) {
        let now = Instant::now();
        let is_fresh = match self.0.known.borrow().names.get(&name) {
            Some(entry) => now < entry.good_until,
            None => false,
        };
        if is_fresh || look_ups.names.contains(&name) || look_ups.names.len() >= LOOK_UPS_MAX {
            return;
        }
        look_ups.names.push(name.clone());
        look_ups.running.push(Box::pin(async move {
            let look_up = async {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await.ok()?;
                Some(found.map(|at| at.ip().to_canonical()).collect())
            };
            let addresses = timeout(LOOK_UP_LIMIT, look_up).await.ok().flatten();
            (name, addresses.unwrap_or_default())
        }));
    }

    /// Remembers the answer for `name`; a failure leaves the addresses that were good before.
    fn learn(&self, name: String, mut addresses: Vec<IpAddr>, now: Instant) {
        let own = self.own_names();
        if addresses.is_empty() && own.contains(&name) {
            tracing::debug!(%name, "the name cannot be found");
        }
        addresses.sort_unstable();
        addresses.dedup();
        self.0.known.send_modify(|known| {
            if addresses.is_empty() {
                let good_until = now + NAME_RETRY;
                known
                    .names
                    .entry(name)
                    .and_modify(|entry| entry.good_until = good_until)
                    .or_insert(LookedUp {
                        addresses,
                        good_until,
                    });
            } else {
                let good_until = now + NAME_LIFETIME;
                let entry = LookedUp {
                    addresses,
                    good_until,
                };
                known.names.insert(name, entry);
            }
            while known.names.len() > REQUESTED_MAX + own.len() {
                let oldest = known
                    .names
                    .iter()
                    .filter(|(name, _)| !own.contains(name))
                    .min_by_key(|(_, entry)| entry.good_until)
                    .map(|(name, _)| name.clone());
                let Some(oldest) = oldest else { break };
                known.names.remove(&oldest);
            }
        });
    }
}

/// Look-ups under way.
#[derive(Default)]
struct LookUps {
    names: Vec<String>,
    running: FuturesUnordered<BoxFuture<'static, (String, Vec<IpAddr>)>>,
}

/// The STUN servers of the configuration, each once.
fn stun_servers(config: &Config) -> Vec<HostPort> {
    let of_addresses = config
        .media_addresses
        .iter()
        .filter_map(|address| match address {
            MediaAddress::Stun(server) => Some(server),
            _ => None,
        });
    let of_ice_servers = config
        .ice_servers
        .iter()
        .flat_map(|server| &server.urls)
        .filter(|url| !url.service.is_turn())
        .map(|url| &url.server);
    let mut servers: Vec<HostPort> = Vec::new();
    for server in of_addresses.chain(of_ice_servers) {
        if !servers.contains(server) {
            servers.push(server.clone());
        }
    }
    servers
}

#[cfg(test)]
mod tests;
