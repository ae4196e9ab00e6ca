//! [`Relays`]: TURN servers ([RFC 8656]), for browsers that no direct way leads to. One allocation
//! on each configured server, shared by all viewers and kept alive in the background; and for offers that
//! bring servers of their own, see [`lent`].
//!
//! [RFC 8656]: https://datatracker.ietf.org/doc/html/rfc8656

mod allocation;
pub mod lent;
mod link;
mod peers;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::RngExt;
use rtc_dtls::crypto_provider::{RTCCryptoProvider, default_provider};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    addresses::Addresses,
    admission::Admission,
    ice::{RELAYS_MAX, SHARED_RELAYS},
};
use crate::{
    base::{Credentials, Error, ErrorKind, Tasks},
    config::{Config, IceUrl},
};
use allocation::{Allocation, Fault};
use lent::{Lease, Lent, Wanted};
use link::Link;

// All that are configured can be used by each agent.
const _: () = assert!(RELAYS_MAX <= SHARED_RELAYS);

/// Datagrams and permissions that wait to be sent; more are dropped.
const OUTGOING_MAX: usize = 512;

/// Datagrams that wait for the engine; more are dropped.
const INCOMING_MAX: usize = 1024;

/// The first wait before a server is asked again; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest such wait.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How long an allocation must last for the waits to start over.
const PROVEN: Duration = Duration::from_mins(1);

/// How soon a server is asked again that refused us.
const WAIT_REFUSED: Duration = Duration::from_mins(5);

/// A datagram of a peer that came through a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The number of the relay, to answer through.
    pub relay: u8,
    /// Who sent it, as the relay sees it.
    pub peer: SocketAddr,
    /// What was sent.
    pub datagram: Bytes,
}

/// All relays: those of the configuration, and those that are lent to offers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relays {
    wishes: Arc<[mpsc::Sender<Wish>]>,
    lent: Lent,
    addresses: Addresses,
}

#[derive(Debug)]
enum Wish {
    Send(SocketAddr, Bytes),
    Permit(IpAddr),
}

impl Relays {
    /// Begins to use the TURN servers of `config`, and on demand those that `admission` admits, until
    /// `tasks` stop. What peers send comes out of
    /// the receiver, which nobody needs to read when there are no relays.
    ///
    /// # Errors
    /// `Internal` when this build has no cryptography, which relays need.
    pub fn start(
        config: &Config,
        tasks: &Tasks,
        addresses: &Addresses,
        admission: &Admission,
    ) -> Result<(Self, mpsc::Receiver<Relayed>), Error> {
        let (incoming, received) = mpsc::channel(INCOMING_MAX);
        let crypto = default_provider().map_err(|e| {
            Error::new(ErrorKind::Internal, "no cryptography for TURN").with_source(e)
        })?;
        let mut wishes = Vec::new();
        let servers = config.ice_servers.iter().filter_map(|server| {
            let mut urls = server.urls.clone();
            urls.retain(|url| url.service.is_turn());
            let credentials = server.credentials.clone()?;
            (!urls.is_empty()).then_some((urls, credentials))
        });
        for (number, (urls, credentials)) in (0_u8..).zip(servers) {
            if number == RELAYS_MAX {
                tracing::warn!("of the TURN servers only the first {RELAYS_MAX} are used");
                break;
            }
            let (wish, wished) = mpsc::channel(OUTGOING_MAX);
            wishes.push(wish);
            let relay = Relay {
                number,
                urls,
                credentials,
                crypto: Arc::clone(&crypto),
                patience: None,
                report: {
                    let addresses = addresses.clone();
                    Box::new(move |relayed| addresses.set_relayed(number, relayed))
                },
                wished,
                incoming: incoming.clone(),
            };
            tasks.spawn("relay", relay.run(tasks.stop().clone()));
        }
        let relays = Self {
            wishes: wishes.into(),
            lent: Lent::new(incoming, crypto, admission, tasks),
            addresses: addresses.clone(),
        };
        Ok((relays, received))
    }

    /// Sends `datagram` to `peer` through `relay`. Never waits; drops it when much else waits, or
    /// the relay has no allocation. A peer that was not permitted before is now.
    pub fn send(&self, relay: u8, peer: SocketAddr, datagram: &[u8]) {
        let wish = Wish::Send(canonical(peer), Bytes::copy_from_slice(datagram));
        self.wish(relay, wish);
    }

    /// Lets `peer` send to us through `relay`: to be called for each remote candidate of an offer,
    /// so that its checks pass.
    pub fn permit(&self, relay: u8, peer: IpAddr) {
        self.wish(relay, Wish::Permit(peer.to_canonical()));
    }

    /// Borrows a relay for an offer, as long as the result lives; see [`Lent::borrow`].
    #[must_use]
    pub fn borrow(&self, wanted: Wanted) -> Option<Lease> {
        self.lent.borrow(wanted)
    }

    /// The addresses that configured relays have for us, with the numbers of the relays.
    #[must_use]
    pub fn relayed(&self) -> Vec<(u8, SocketAddr)> {
        self.addresses.relayed()
    }

    fn wish(&self, relay: u8, wish: Wish) {
        let shared = self.wishes.get(usize::from(relay));
        if let Some(wishes) = shared.or_else(|| self.lent.wishes(relay)) {
            let _ = wishes.try_send(wish);
        }
    }
}

/// One server, in its task.
struct Relay {
    number: u8,
    urls: Vec<IceUrl>,
    credentials: Credentials,
    crypto: Arc<dyn RTCCryptoProvider>,
    /// How long the first answer with an address may take; none means as long as requests are repeated.
    patience: Option<Duration>,
    /// Told the address, or that there is none any more.
    report: Box<dyn Fn(Option<SocketAddr>) + Send>,
    wished: mpsc::Receiver<Wish>,
    incoming: mpsc::Sender<Relayed>,
}

impl Relay {
    async fn run(mut self, stop: CancellationToken) {
        let mut wait = WAIT_MIN;
        let urls = self.urls.clone();
        for url in urls.iter().cycle() {
            let mut since = None;
            let fault = tokio::select! {
                () = stop.cancelled() => return,
                link = Link::connect(url) => match link {
                    Ok(link) => self.serve(url, link, &stop, &mut since).await,
                    Err(e) => Some(Fault::Lost(e.to_string())),
                },
            };
            (self.report)(None);
            let Some(fault) = fault else { return };
            if since.is_some_and(|since: Instant| since.elapsed() >= PROVEN) {
                wait = WAIT_MIN;
            }
            let (why, pause) = match fault {
                Fault::Refused(why) => (why, WAIT_REFUSED),
                Fault::Lost(why) => (why, wait),
            };
            tracing::warn!(server = %url.server, %why, "no relay; asking again in {pause:?}");
            wait = (wait * 2).min(WAIT_MAX);
            let pause = pause.mul_f64(rand::rng().random_range(1.0..1.2));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.idle(pause) => {}
            }
        }
    }

    /// Waits, and drops what is to be sent meanwhile.
    async fn idle(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.drop_wishes() => {}
        }
    }

    /// Drops what is to be sent, for ever.
    async fn drop_wishes(&mut self) {
        while self.wished.recv().await.is_some() {}
        std::future::pending::<()>().await;
    }

    /// Gets an allocation, `since` when it has one, and relays, until something breaks; none when
    /// told to stop.
    async fn serve(
        &mut self,
        url: &IceUrl,
        mut link: Link,
        stop: &CancellationToken,
        since: &mut Option<Instant>,
    ) -> Option<Fault> {
        let mut allocation = Allocation::new(
            Instant::now(),
            self.credentials.clone(),
            Arc::clone(&self.crypto),
            link.is_udp(),
        );
        let limit = self.patience.map(|patience| Instant::now() + patience);
        loop {
            while let Some(datagram) = allocation.poll_transmit() {
                if let Err(e) = link.send(&datagram).await {
                    return Some(Fault::Lost(e.to_string()));
                }
            }
            if let Some(fault) = allocation.fault() {
                return Some(fault.clone());
            }
            if let Some(relayed) = allocation.relayed()
                && since.is_none()
            {
                *since = Some(Instant::now());
                tracing::info!(server = %url.server, %relayed, "relay ready");
                (self.report)(Some(relayed));
            }
            let limit = limit.filter(|_| since.is_none());
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return Some(Fault::Lost("it takes too long".to_owned()));
            }
            let next = limit
                .into_iter()
                .fold(allocation.poll_timeout(), Instant::min);
            let timeout = sleep_until(next.into());
            tokio::select! {
                () = stop.cancelled() => {
                    allocation.release();
                    while let Some(datagram) = allocation.poll_transmit() {
                        let _ = link.send(&datagram).await;
                    }
                    return None;
                }
                () = timeout => allocation.handle_timeout(Instant::now()),
                Some(wish) = self.wished.recv() => match wish {
                    Wish::Send(peer, datagram) => allocation.send(Instant::now(), peer, &datagram),
                    Wish::Permit(peer) => allocation.permit(Instant::now(), peer),
                },
                message = link.receive() => match message {
                    Ok(message) => {
                        if let Some((peer, datagram)) = allocation.handle(Instant::now(), &message) {
                            let relay = self.number;
                            let relayed = Relayed { relay, peer, datagram };
                            let _ = self.incoming.try_send(relayed);
                        }
                    }
                    Err(e) => return Some(Fault::Lost(e.to_string())),
                },
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
