//! Candidates of the remote, and priorities (RFC 8445 §5.1.2, §6.1.2.3).

use std::net::{IpAddr, SocketAddr};

use super::Transport;

/// How an agent came by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An interface of its own.
    Host,
    /// As a server sees it.
    ServerReflexive,
    /// As the other agent sees it.
    PeerReflexive,
    /// A TURN server's.
    Relayed,
}

/// An address at which the remote might be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Only [`Transport::Udp`] can be checked: we open no TCP connections, and relays are ours.
    pub transport: Transport,
    /// Where to.
    pub address: SocketAddr,
    /// The remote's preference.
    pub priority: u32,
    /// How the remote came by it.
    pub kind: Kind,
}

impl RemoteCandidate {
    /// Reads a candidate line (RFC 8839 §5.1), with or without `a=` and `candidate:`.
    ///
    /// `None` for what cannot be checked: other components than the first, TCP (browsers only offer
    /// to connect, from port 9), names instead of addresses, unknown types.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        let _foundation = words.next()?;
        let component = words.next()?;
        let protocol = words.next()?;
        let priority = words.next()?.parse().ok()?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        if component != "1" || !protocol.eq_ignore_ascii_case("udp") || words.next()? != "typ" {
            return None;
        }
        let kind = match words.next()? {
            "host" => Kind::Host,
            "srflx" => Kind::ServerReflexive,
            "prflx" => Kind::PeerReflexive,
            "relay" => Kind::Relayed,
            _ => return None,
        };
        Some(Self {
            transport: Transport::Udp,
            address: SocketAddr::new(ip.to_canonical(), port),
            priority,
            kind,
        })
    }
}

/// Type preferences that RFC 8445 §5.1.2.2 recommends, and one for TCP below all of UDP but relays.
const HOST: u32 = 126;
const PEER_REFLEXIVE: u32 = 110;
const TCP: u32 = 90;
const RELAYED: u32 = 0;

fn priority(preference: u32, local: u32) -> u32 {
    preference << 24 | local << 8 | 255
}

/// The priority of our candidate behind a transport.
pub(super) fn local_priority(transport: Transport) -> u32 {
    match transport {
        Transport::Udp => priority(HOST, 0xffff),
        Transport::Tcp => priority(TCP, 0xffff),
        Transport::Relay(number) => priority(RELAYED, 0xffff - u32::from(number)),
    }
}

/// What a request tells about the address it comes from, should the remote not know it.
pub(super) fn reflexive_priority(transport: Transport) -> u32 {
    local_priority(transport) & 0x00ff_ffff | PEER_REFLEXIVE << 24
}

/// RFC 8445 §6.1.2.3, so that both sides sort pairs alike.
pub(super) fn pair_priority(controlling: bool, local: u32, remote: u32) -> u64 {
    let (of_controlling, of_controlled) = if controlling {
        (local, remote)
    } else {
        (remote, local)
    };
    let (low, high) = (local.min(remote), local.max(remote));
    u64::from(low) << 32 | u64::from(high) << 1 | u64::from(of_controlling > of_controlled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_lines_of_browsers_are_read() {
        let chromium = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr \
                        0.0.0.0 rport 0 generation 0 ufrag 4aFj network-cost 999";
        let parsed = RemoteCandidate::parse(chromium).unwrap();
        assert_eq!(
            parsed.address,
            "203.0.113.7:46154".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(parsed.priority, 1_677_729_535);
        assert_eq!(parsed.kind, Kind::ServerReflexive);
        for line in [
            "a=candidate:0 1 UDP 2122252543 2001:db8::5 61665 typ host",
            "candidate:0 1 UDP 2122252543 2001:db8::5 61665 typ host",
            "0 1 udp 2122252543 2001:db8::5 61665 typ host\r\n",
        ] {
            let parsed = RemoteCandidate::parse(line).unwrap();
            assert_eq!(
                parsed.address,
                "[2001:db8::5]:61665".parse::<SocketAddr>().unwrap()
            );
            assert_eq!(parsed.kind, Kind::Host);
        }
    }

    #[test]
    fn what_cannot_be_checked_is_left_out() {
        for line in [
            "",
            "candidate:",
            "candidate:1 1 udp",
            "candidate:1 2 udp 1 192.0.2.1 5000 typ host",
            "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
            "candidate:1 1 udp 1 0b1c7e9e-6d7a-4f43-8b0c-1f2e3d4c5b6a.local 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 0 typ host",
            "candidate:1 1 udp 1 192.0.2.1 70000 typ host",
            "candidate:1 1 udp 4294967296 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 5000 typ moon",
            "candidate:1 1 udp 1 192.0.2.1 5000",
        ] {
            assert_eq!(RemoteCandidate::parse(line), None, "{line}");
        }
    }

    #[test]
    fn both_sides_sort_a_pair_alike() {
        let (ours, theirs) = (local_priority(Transport::Udp), 41_885_695);
        assert_eq!(
            pair_priority(true, ours, theirs),
            pair_priority(false, theirs, ours)
        );
        assert!(local_priority(Transport::Udp) > local_priority(Transport::Tcp));
        assert!(local_priority(Transport::Tcp) > local_priority(Transport::Relay(0)));
        assert_eq!(reflexive_priority(Transport::Udp) >> 24, PEER_REFLEXIVE);
    }
}
