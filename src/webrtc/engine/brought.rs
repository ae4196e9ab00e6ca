//! [`Engine::gather`]: further addresses of ours by the STUN and TURN servers that an offer brings.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{join, join_all};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Control, Engine, Inner, JOIN_LIMIT};
use crate::{
    config::{HostPort, IceServer},
    webrtc::{
        addresses::{Candidate, Kind, Transport},
        admission::Reach,
        ice::RELAYS_MAX,
        inbox::Event,
        relay::lent::{Lease, Wanted},
        status::{State, Status},
        stun_client::Reply,
    },
};

/// STUN servers of one offer that are asked; one address of each family.
const STUN_MAX: usize = 4;
/// How long a relay is waited for. Checks end after 15 s.
const LIMIT: Duration = Duration::from_secs(15);
/// Candidates that wait for the client.
const WAITING_MAX: usize = 32;
/// Places of mapped and relayed addresses behind those that an answer has.
const MAPPED: u16 = 50;
const RELAYED: u16 = 100;

/// ICE servers that came with an offer.
#[derive(Debug, Clone)]
pub struct Brought {
    /// The servers.
    pub servers: Vec<IceServer>,
    /// Where the offer came from.
    pub client: Option<IpAddr>,
    /// What can be reached from there.
    pub reach: Reach,
    /// By which name or address the client has reached this server.
    pub host: Option<String>,
}

struct Gathering {
    inner: Arc<Inner>,
    control: Control,
    brought: Brought,
    /// Of which addresses the client has been told.
    known: Mutex<Vec<(Transport, IpAddr, u16)>>,
    tell: mpsc::Sender<String>,
}

impl Engine {
    /// Asks the servers that came with a viewer's offer, in the background, and lends it their relays
    /// until it ends. Gives the addresses that are found, as candidate lines without `a=candidate:`, as
    /// they come.
    #[must_use]
    pub fn gather(&self, control: &Control, brought: Brought) -> mpsc::Receiver<String> {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        if brought.servers.is_empty() {
            return told;
        }
        let inner = &self.inner;
        let answered = inner
            .addresses
            .candidates(inner.bound, brought.host.as_deref());
        let known = answered
            .iter()
            .filter_map(|one| Some((one.transport, one.ip()?, one.port)));
        let gathering = Gathering {
            known: Mutex::new(known.collect()),
            inner: Arc::clone(inner),
            control: control.clone(),
            brought,
            tell,
        };
        inner.tasks.spawn("ice-servers", gathering.run());
        told
    }
}

impl Gathering {
    async fn run(self) {
        let stop = self.inner.tasks.stop().clone();
        let mut status = self.control.status.clone();
        let work = join(self.ask_stun(), self.borrow_relays());
        let leases = tokio::select! {
            () = ended(&mut status) => return,
            () = stop.cancelled() => return,
            ((), leases) = work => leases,
        };
        if leases.is_empty() {
            return;
        }
        // The client's side sees that nothing more comes.
        drop(self);
        tokio::select! {
            () = ended(&mut status) => {}
            () = stop.cancelled() => {}
        }
        drop(leases);
    }

    async fn ask_stun(&self) {
        let mut servers: Vec<&HostPort> = Vec::new();
        for url in self.brought.servers.iter().flat_map(|server| &server.urls) {
            if !url.service.is_turn() && !servers.contains(&&url.server) {
                servers.push(&url.server);
            }
        }
        servers.truncate(STUN_MAX);
        join_all(
            (0..)
                .zip(servers)
                .map(|(i, server)| self.ask_one(i, server)),
        )
        .await;
    }

    async fn ask_one(&self, number: u16, server: &HostPort) {
        let found = self.inner.admission.find(server, self.brought.reach).await;
        let of_family = |is_ipv4: bool| found.iter().find(move |at| at.is_ipv4() == is_ipv4);
        let asked = [true, false].map(|is_ipv4| {
            let server = of_family(is_ipv4)?;
            self.inner.port.ask(*server)
        });
        for mut reply in asked.into_iter().flatten() {
            let is_over = |reply: &Reply| *reply != Reply::Pending;
            let reply = reply.wait_for(is_over).await.map(|reply| *reply);
            if let Ok(Reply::Mapped(address)) = reply {
                self.mapped(MAPPED + number, address);
            }
        }
    }

    /// Tells of an address as a STUN server sees it, unless it is in the answer.
    fn mapped(&self, rank: u16, address: SocketAddr) {
        self.candidate(Kind::Srflx, Transport::Udp, address, rank);
        // TCP takes the same way when the port outside is ours: then it is forwarded or kept.
        if address.port() == self.inner.bound.port {
            self.candidate(Kind::Srflx, Transport::TcpPassive, address, rank);
        }
    }

    async fn borrow_relays(&self) -> Vec<Lease> {
        let shared = self.inner.addresses.relayed();
        let used = shared.iter().map(|(number, _)| number + 1).max();
        let room = RELAYS_MAX.saturating_sub(used.unwrap_or(0));
        let wanted = self.brought.servers.iter().filter_map(|server| {
            let mut urls = server.urls.clone();
            urls.retain(|url| url.service.is_turn());
            let credentials = server.credentials.clone()?;
            let reach = self.brought.reach;
            (!urls.is_empty()).then_some(Wanted {
                urls,
                credentials,
                reach,
            })
        });
        let leases = wanted
            .take(usize::from(room))
            .filter_map(|wanted| self.inner.port.relays().borrow(wanted));
        let ready = join_all(leases.map(|lease| self.use_relay(lease))).await;
        ready.into_iter().flatten().collect()
    }

    /// Lets the viewer use a relay once it is there. One that comes to nothing is given back.
    async fn use_relay(&self, lease: Lease) -> Option<Lease> {
        // Each on its own: one that is slow must not take away another that is used.
        let address = timeout(LIMIT, lease.ready()).await.ok()??;
        let event = Event::Relay {
            viewer: self.control.viewer,
            relay: lease.number(),
            client: self.brought.client,
        };
        // The agent first: the browser's checks are for it.
        let told = timeout(JOIN_LIMIT, self.control.fan.send(event)).await;
        told.ok()?.ok()?;
        let rank = RELAYED + u16::from(lease.number());
        self.candidate(Kind::Relay, Transport::Udp, address, rank);
        Some(lease)
    }

    fn candidate(&self, kind: Kind, transport: Transport, at: SocketAddr, rank: u16) {
        let ip = at.ip().to_canonical();
        let this = (transport, ip, at.port());
        // Nothing panics between two changes that belong together.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&this) {
            return;
        }
        known.push(this);
        drop(known);
        let mut candidate = Candidate::new(kind, transport, ip.to_string(), at.port(), rank);
        // Those of the answer are counted from one.
        candidate.foundation = 2 * u32::from(rank) + u32::from(transport == Transport::TcpPassive);
        tracing::debug!(%candidate, "by a server of the offer");
        // A client that does not read has hung up, or will be.
        let _ = self.tell.try_send(candidate.to_string());
    }
}

async fn ended(status: &mut watch::Receiver<Status>) {
    let is_over = |status: &Status| matches!(status.state, State::Ended(_));
    // An error means that the viewer is gone without a word.
    let _ = status.wait_for(is_over).await;
}
