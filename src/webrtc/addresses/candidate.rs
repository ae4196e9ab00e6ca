//! [`Candidate`]: one address of ours, as an answer names it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// How a candidate is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP; the browser connects ([RFC 6544]).
    ///
    /// [RFC 6544]: https://datatracker.ietf.org/doc/html/rfc6544
    TcpPassive,
}

/// Where a candidate comes from ([RFC 8445 §5.1.1]).
///
/// [RFC 8445 §5.1.1]: https://datatracker.ietf.org/doc/html/rfc8445#section-5.1.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Of an interface, or told to us.
    Host,
    /// As a STUN server sees us.
    Srflx,
    /// On a TURN server.
    Relay,
}

/// One address of ours, for component 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Another for each: no two of ours share a type, a base and a protocol.
    pub foundation: u32,
    /// How it is reached.
    pub transport: Transport,
    /// Higher is tried sooner; unique within an answer.
    pub priority: u32,
    /// An IP address or a DNS name.
    pub address: String,
    /// The port at that address.
    pub port: u16,
    /// Where it comes from.
    pub kind: Kind,
    /// What it stands for; hidden, as browsers do, so as not to tell strangers about our network.
    pub related: Option<SocketAddr>,
}

impl Candidate {
    /// A candidate whose address stands at place `rank` of all, of which the first is best.
    #[must_use]
    pub fn new(
        kind: Kind,
        transport: Transport,
        address: impl Into<String>,
        port: u16,
        rank: u16,
    ) -> Self {
        let address = address.into();
        Self {
            foundation: 0,
            transport,
            priority: priority(kind, transport, rank),
            port,
            kind,
            related: (kind != Kind::Host).then(|| hidden(&address)),
            address,
        }
    }

    /// The address, unless it is a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

impl fmt::Display for Candidate {
    /// The value of the attribute `candidate` ([RFC 8839 §5.1], [RFC 6544 §4.5]), without its name.
    ///
    /// [RFC 8839 §5.1]: https://datatracker.ietf.org/doc/html/rfc8839#section-5.1
    /// [RFC 6544 §4.5]: https://datatracker.ietf.org/doc/html/rfc6544#section-4.5
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            foundation,
            priority,
            address,
            port,
            ..
        } = self;
        let (transport, tail) = match self.transport {
            Transport::Udp => ("udp", ""),
            Transport::TcpPassive => ("tcp", " tcptype passive"),
        };
        let kind = match self.kind {
            Kind::Host => "host",
            Kind::Srflx => "srflx",
            Kind::Relay => "relay",
        };
        write!(
            f,
            "{foundation} 1 {transport} {priority} {address} {port} typ {kind}"
        )?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        f.write_str(tail)
    }
}

/// [RFC 8445 §5.1.2.1], with [RFC 6544 §4.2] for TCP: its types rank so far below those of UDP that
/// TCP is what is left when UDP does not pass, but goes before a relay.
///
/// [RFC 8445 §5.1.2.1]: https://datatracker.ietf.org/doc/html/rfc8445#section-5.1.2.1
/// [RFC 6544 §4.2]: https://datatracker.ietf.org/doc/html/rfc6544#section-4.2
fn priority(kind: Kind, transport: Transport, rank: u16) -> u32 {
    const COMPONENT: u32 = 256 - 1;
    /// Between the preferences of any two types over UDP and TCP.
    const TCP_BELOW_UDP: u32 = 27;
    let over_udp: u32 = match kind {
        Kind::Host => 126,
        Kind::Srflx => 100,
        Kind::Relay => 0,
    };
    let (of_type, local) = match transport {
        Transport::Udp => (over_udp, 65_535 - u32::from(rank)),
        Transport::TcpPassive => {
            let direction: u32 = if kind == Kind::Host { 4 } else { 2 };
            let other = 8_191 - u32::from(rank).min(8_191);
            (
                over_udp.saturating_sub(TCP_BELOW_UDP),
                (direction << 13) + other,
            )
        }
    };
    (of_type << 24) + (local << 8) + COMPONENT
}

fn hidden(address: &str) -> SocketAddr {
    const DISCARD: u16 = 9;
    match address.parse() {
        Ok(IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, DISCARD).into(),
        _ => (Ipv4Addr::UNSPECIFIED, DISCARD).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: Kind, transport: Transport, rank: u16) -> Candidate {
        Candidate {
            foundation: 1,
            ..Candidate::new(kind, transport, "192.0.2.1", 8555, rank)
        }
    }

    #[test]
    fn candidates_are_written_as_the_standard_has_them() {
        let cases = [
            (
                Kind::Host,
                Transport::Udp,
                "1 1 udp 2130706431 192.0.2.1 8555 typ host",
            ),
            (
                Kind::Host,
                Transport::TcpPassive,
                "1 1 tcp 1671430143 192.0.2.1 8555 typ host tcptype passive",
            ),
            (
                Kind::Srflx,
                Transport::Udp,
                "1 1 udp 1694498815 192.0.2.1 8555 typ srflx raddr 0.0.0.0 rport 9",
            ),
            (
                Kind::Relay,
                Transport::Udp,
                "1 1 udp 16777215 192.0.2.1 8555 typ relay raddr 0.0.0.0 rport 9",
            ),
        ];
        for (kind, transport, line) in cases {
            assert_eq!(candidate(kind, transport, 0).to_string(), line);
        }
    }

    #[test]
    fn udp_goes_before_tcp_and_both_before_a_relay() {
        let order = [
            candidate(Kind::Host, Transport::Udp, 0),
            candidate(Kind::Host, Transport::Udp, 1),
            candidate(Kind::Srflx, Transport::Udp, 0),
            candidate(Kind::Host, Transport::TcpPassive, 0),
            candidate(Kind::Host, Transport::TcpPassive, 1),
            candidate(Kind::Srflx, Transport::TcpPassive, 0),
            candidate(Kind::Relay, Transport::Udp, 0),
        ];
        assert!(order.is_sorted_by(|a, b| a.priority > b.priority));
    }
}
