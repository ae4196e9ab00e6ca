//! ICE ([RFC 8445]): [`Agent`] finds a path to one browser and watches over it, without sockets.
//!
//! A full agent: checks of its own with trickled candidates ([RFC 8838]), consent ([RFC 7675]),
//! restarts and both roles. It is not that of the family, because `rtc-ice` weighs the roles before
//! the integrity, answers a nomination only after a check of its own, keeps to the first nomination,
//! and checks all pairs at once; a server wants a connection sooner and strangers to have no say.
//!
//! - `stun`: messages. [`ufrag_of`] tells which agent a datagram is for.
//! - `candidate`: candidate lines and priorities.
//! - `agent`: what arrives, and which path is selected.
//! - `pair`: one path and the state of its checks.
//! - `checks`: what is sent, and when.
//! - `consent`: the selected path, and when it is lost.
//!
//! [RFC 7675]: https://datatracker.ietf.org/doc/html/rfc7675
//! [RFC 8445]: https://datatracker.ietf.org/doc/html/rfc8445
//! [RFC 8838]: https://datatracker.ietf.org/doc/html/rfc8838

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

mod agent;
mod candidate;
mod checks;
mod consent;
mod credentials;
mod pair;
mod stun;
#[cfg(test)]
mod tests;

pub use agent::Agent;
pub use candidate::{Kind, RemoteCandidate};
pub use credentials::Credentials;
pub use stun::{is_stun, ufrag_of};

/// How a datagram travels between this server and a remote address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// From the shared socket.
    Udp,
    /// Over a TCP connection that the remote opened to us (RFC 6544).
    Tcp,
    /// Through the relay (TURN) with this number.
    Relay(u8),
}

/// Relays that an agent uses at most: each doubles the checks.
pub const RELAYS_MAX: u8 = 4;
/// Relays with smaller numbers are everybody's, all others only of the agents that are given them.
pub const SHARED_RELAYS: u8 = 4;

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Relay(_) => "relay",
        })
    }
}

/// A way to the remote. Paths are equal if transport and remote are, IPv4-mapped or not.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// What carries the datagrams.
    pub transport: Transport,
    /// The remote's address.
    pub remote: SocketAddr,
    /// Our address, at which the remote's datagrams arrive and from which ours should leave.
    pub local: Option<IpAddr>,
}

impl Path {
    fn identity(&self) -> (Transport, IpAddr, u16) {
        let ip = self.remote.ip().to_canonical();
        (self.transport, ip, self.remote.port())
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Path {}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// What an [`Agent`] has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// From now on everything is sent here. Comes again whenever that changes, and at the end of a
    /// restart.
    Selected(Path),
    /// The remote was never reached, or has not answered for too long. Nothing follows.
    Lost,
}
