//! [`Port`]: the one port over which all viewers send and receive, by UDP and by TCP ([RFC 6544]).
//!
//! Tasks read from the sockets and hand each datagram to the fan of its viewer; fans send from where
//! they are. A full socket is waited for a few milliseconds; what it does not take then is lost.
//!
//! [RFC 6544]: https://datatracker.ietf.org/doc/html/rfc6544

mod table;
mod tcp;
mod udp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

pub use self::table::{Route, Table};
use self::{tcp::Connections, udp::Udp};
use crate::{
    base::{Error, ErrorKind, Tasks},
    config::{Listen, MediaListen},
    webrtc::{
        addresses::{Addresses, Bound},
        arena::Arena,
        ice::{Path, Transport, is_stun},
        relay::{Relayed, Relays},
        stun_client::{Reply, StunKeeper},
    },
};

/// How often it is looked whether a STUN server is to be asked.
const KEEPER_TICK: Duration = Duration::from_millis(500);
/// How long a full socket is waited for: a link of 1 Gbit/s sends 2.5 MB in that time.
const PATIENCE: Duration = Duration::from_millis(20);
/// Times that a free port is looked for.
const TRIES: usize = 8;

/// The media port.
#[derive(Debug)]
pub struct Port {
    udp: Vec<Udp>,
    tcp: Connections,
    relays: Relays,
    keeper: Mutex<StunKeeper>,
    number: u16,
    /// Which viewer a datagram is for.
    pub table: Table,
    /// What came and was for nobody.
    pub ignored: AtomicU64,
    /// Packets that a socket did not take.
    pub dropped: AtomicU64,
}

/// The sockets of the media port before anything runs on them.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
    number: u16,
}

impl Sockets {
    /// Takes the port for UDP and TCP, over IPv4 and IPv6 as far as the machine has them. If nobody
    /// asked for just this port and it is taken, a free one.
    ///
    /// # Errors
    /// `Unavailable` when the port cannot be had.
    pub fn bind(listen: MediaListen) -> Result<Self, Error> {
        let wanted = listen.at.port();
        let failed = |e: io::Error| {
            Error::new(
                ErrorKind::Unavailable,
                format!(
                    "cannot listen for media on port {wanted} (UDP and TCP); set media_listen to \
                     another one, or end the program that has it"
                ),
            )
            .with_source(e)
        };
        match Self::at(listen.at, wanted) {
            Ok(sockets) => Ok(sockets),
            Err(e) if listen.is_default => {
                let sockets = Self::at(listen.at, 0).map_err(failed)?;
                tracing::warn!(
                    error = %e,
                    "media port {wanted} is taken; {} is used until the next start",
                    sockets.number
                );
                Ok(sockets)
            }
            Err(e) => Err(failed(e)),
        }
    }

    fn at(listen: Listen, port: u16) -> io::Result<Self> {
        let addresses: Vec<IpAddr> = match listen {
            Listen::Everywhere(_) => {
                vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            }
            Listen::At(address) => vec![address.ip()],
        };
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..if port == 0 { TRIES } else { 1 } {
            match Self::all(&addresses, port) {
                Ok(sockets) => return Ok(sockets),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// All sockets on one port number; the first address decides which, if it is 0.
    fn all(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut sockets = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            number: port,
        };
        for ip in addresses {
            let address = SocketAddr::new(*ip, sockets.number);
            let bound = udp::bind(address).and_then(|udp| {
                let number = udp.local_addr()?.port();
                Ok((udp, tcp::bind(SocketAddr::new(*ip, number))?, number))
            });
            match bound {
                Ok((udp, tcp, number)) => {
                    sockets.number = number;
                    sockets.udp.push(udp);
                    sockets.tcp.push(tcp);
                }
                // A machine without IPv6, or without IPv4.
                Err(e) if addresses.len() > 1 && is_without_family(&e) => {
                    tracing::debug!(address = %ip, error = %e, "not available");
                }
                Err(e) => return Err(e),
            }
        }
        if sockets.udp.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(sockets)
    }

    /// What can reach them.
    #[must_use]
    pub fn bound(&self) -> Bound {
        let locals = || {
            self.udp
                .iter()
                .filter_map(|socket| socket.local_addr().ok())
        };
        Bound {
            port: self.number,
            only: locals()
                .map(|local| local.ip())
                .find(|ip| !ip.is_unspecified()),
            ipv4: locals().any(|local| local.is_ipv4()),
            ipv6: locals().any(|local| local.is_ipv6()),
        }
    }
}

fn is_without_family(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        // EAFNOSUPPORT has no kind of its own.
        || e.raw_os_error() == Some(97)
}

impl Port {
    /// Starts to read from the sockets; must be called on the media runtime.
    ///
    /// # Errors
    /// `Internal` when the runtime does not take the sockets.
    pub fn start(
        sockets: Sockets,
        relays: Relays,
        mut relayed: mpsc::Receiver<Relayed>,
        addresses: &Addresses,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Error> {
        let failed = |e: io::Error| Error::new(ErrorKind::Internal, "media socket").with_source(e);
        let udp: io::Result<Vec<_>> = sockets.udp.into_iter().map(Udp::new).collect();
        let port = Arc::new(Self {
            udp: udp.map_err(failed)?,
            tcp: Connections::default(),
            relays,
            keeper: Mutex::new(StunKeeper::new(addresses.clone())),
            number: sockets.number,
            table: Table::default(),
            ignored: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        for index in 0..port.udp.len() {
            let (reader, stop) = (Arc::clone(&port), tasks.stop().clone());
            let work = async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = reader.udp[index].read(&reader) => {}
                }
            };
            tasks.spawn("media-udp", work);
        }
        let (keeper, stop) = (Arc::clone(&port), tasks.stop().clone());
        tasks.spawn("media-stun", async move {
            let mut tick = tokio::time::interval(KEEPER_TICK);
            while tokio::select! { () = stop.cancelled() => false, _ = tick.tick() => true } {
                keeper.ask_stun_servers();
            }
        });
        let (reader, stop) = (Arc::clone(&port), tasks.stop().clone());
        tasks.spawn("media-relays", async move {
            while let Some(arrival) =
                tokio::select! { () = stop.cancelled() => None, arrival = relayed.recv() => arrival }
            {
                let path = Path {
                    transport: Transport::Relay(arrival.relay),
                    remote: arrival.peer,
                    local: None,
                };
                reader.deliver(path, &arrival.datagram);
            }
        });
        for listener in sockets.tcp {
            tcp::listen(Arc::clone(&port), listener, tasks).map_err(failed)?;
        }
        Ok(port)
    }

    /// The port number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The relays that packets may go through.
    #[must_use]
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Asks a STUN server that an offer has brought how it sees this port; none when too many were asked
    /// lately.
    #[must_use]
    pub fn ask(&self, server: SocketAddr) -> Option<watch::Receiver<Reply>> {
        let reply = self.keeper().ask(Instant::now().into_std(), server);
        self.ask_stun_servers();
        reply
    }

    fn keeper(&self) -> MutexGuard<'_, StunKeeper> {
        // Nothing panics between two changes that belong together.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is due to the servers that tell our public address.
    fn ask_stun_servers(&self) {
        let now = Instant::now().into_std();
        loop {
            let due = self.keeper().poll(now);
            let Some((server, request)) = due else { return };
            let path = Path {
                transport: Transport::Udp,
                remote: server,
                local: None,
            };
            if let Some(udp) = self.udp_to(&path) {
                udp.send(&path, &request, request.len());
            }
        }
    }

    fn udp_to(&self, path: &Path) -> Option<&Udp> {
        let fits = |udp: &&Udp| udp.is_ipv4() == path.remote.is_ipv4();
        self.udp.iter().find(fits)
    }

    /// Hands a datagram to its viewer, if it is for one. Whoever sends more than is taken loses it.
    pub fn deliver(&self, path: Path, datagram: &[u8]) -> bool {
        let route = self.table.find(&path, datagram);
        let delivered =
            route.is_some_and(|route| route.accept(path, Bytes::copy_from_slice(datagram)));
        if !delivered && !self.is_of_a_stun_server(&path, datagram) {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
        delivered
    }

    fn is_of_a_stun_server(&self, path: &Path, datagram: &[u8]) -> bool {
        let now = || Instant::now().into_std();
        path.transport == Transport::Udp
            && is_stun(datagram)
            && self.keeper().handle(now(), path.remote, datagram)
    }

    /// Sends everything in `arena`, and empties it. Waits a little for a socket that is full; what it
    /// does not take by then is lost. Gives the paths whose media was lost.
    pub async fn send(&self, arena: &mut Arena, full: &mut Vec<Path>) {
        let mut patience = None;
        while let Some((batch, bytes)) = arena.next() {
            let path = batch.path;
            let (taken, socket) = match path.transport {
                Transport::Udp => match self.udp_to(&path) {
                    Some(udp) => (udp.send(&path, bytes, batch.segment), Some(udp)),
                    None => (bytes.len(), None),
                },
                Transport::Tcp => (self.tcp.send(batch, bytes), None),
                Transport::Relay(relay) => {
                    for packet in bytes.chunks(batch.segment) {
                        self.relays.send(relay, path.remote, packet);
                    }
                    (bytes.len(), None)
                }
            };
            let is_done = taken == bytes.len();
            arena.sent(taken);
            if is_done {
                continue;
            }
            if let Some(udp) = socket {
                let until = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                if timeout_at(until, udp.writable()).await.is_ok() {
                    continue;
                }
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if arena.next().is_some_and(|(batch, _)| batch.media) {
                full.push(path);
            }
            arena.skip();
        }
        arena.clear();
    }
}
