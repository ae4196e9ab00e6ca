//! From what is known of our addresses to the candidates of one answer. Pure.

use std::net::{IpAddr, SocketAddr};

use super::{
    Bound, Snapshot,
    candidate::{Candidate, Kind, Transport},
    interfaces::{is_routable, usable},
};
use crate::config::{
    MediaAddress,
    media::{dns_name, split_port},
};

/// Most candidates of an answer. Each costs the browser a check every 50 ms, and before they are
/// through nothing plays.
const CANDIDATES_MAX: usize = 12;

/// Most addresses of one name.
const PER_NAME_MAX: usize = 4;

/// By what a client asked for us: the host of its HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Requested {
    Ip(IpAddr),
    Name(String),
}

impl Requested {
    /// Reads `host[:port]`, which comes from the network. None for what leads nobody here, such as
    /// `localhost`, and for what is neither an address nor a DNS name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, _) = split_port(text)?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return is_routable(ip).then_some(Self::Ip(ip));
        }
        let name = dns_name(host)?;
        let last = name.rsplit('.').next()?;
        // Multicast DNS takes longer than we wait, and our interfaces are known without it.
        (!matches!(last, "localhost" | "local" | "invalid" | "test" | "onion"))
            .then_some(Self::Name(name))
    }
}

/// What may become candidates, in the order of preference within one type.
struct Gathered {
    found: Vec<(Worth, Candidate)>,
    bound: Bound,
    rank: u16,
}

/// What an address counts when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// One of the first interfaces.
    First,
    /// Told to us or found out, for a way that no interface shows.
    Other,
    /// A further interface.
    Further,
}

impl Worth {
    /// The place in the order of what is kept. TCP is for when UDP does not pass, so UDP comes
    /// first; and a network that stops it is less often the own one than one in between.
    fn place(self, transport: Transport) -> u8 {
        match (transport, self) {
            (Transport::Udp, Self::First) => 0,
            (Transport::Udp, Self::Other) => 1,
            (Transport::Udp, Self::Further) => 2,
            (Transport::TcpPassive, Self::Other) => 3,
            (Transport::TcpPassive, Self::First) => 4,
            (Transport::TcpPassive, Self::Further) => 5,
        }
    }
}

impl Gathered {
    /// Adds an address over `transports`, unless it is there or nothing of ours can be behind it.
    fn add(&mut self, kind: Kind, transports: &[Transport], at: SocketAddr, worth: Worth) {
        let ip = at.ip().to_canonical();
        let is_bound = match ip {
            IpAddr::V4(_) => self.bound.ipv4,
            IpAddr::V6(_) => self.bound.ipv6,
        };
        // A relay is reached by a socket of its own.
        if is_bound || kind == Kind::Relay {
            self.push(kind, transports, &ip.to_string(), at.port(), worth);
        }
    }

    fn push(
        &mut self,
        kind: Kind,
        transports: &[Transport],
        address: &str,
        port: u16,
        worth: Worth,
    ) {
        for &transport in transports {
            let is_known = self.found.iter().any(|(_, known)| {
                known.transport == transport && known.port == port && known.address == address
            });
            if !is_known {
                let candidate = Candidate::new(kind, transport, address, port, self.rank);
                self.found.push((worth, candidate));
            }
        }
        self.rank += 1;
    }

    /// The best of them, highest priority first.
    fn finish(mut self) -> Vec<Candidate> {
        self.found
            .sort_by_key(|(worth, candidate)| worth.place(candidate.transport));
        self.found.truncate(CANDIDATES_MAX);
        let mut kept: Vec<_> = self.found.into_iter().map(|(_, kept)| kept).collect();
        kept.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
        for (foundation, candidate) in (1..).zip(&mut kept) {
            candidate.foundation = foundation;
        }
        kept
    }
}

/// The candidates for a client that asked for `requested`, highest priority first.
pub(super) fn candidates(
    snapshot: &Snapshot,
    configured: &[MediaAddress],
    bound: Bound,
    requested: Option<&Requested>,
) -> Vec<Candidate> {
    const BOTH: &[Transport] = &[Transport::Udp, Transport::TcpPassive];
    let mut gathered = Gathered {
        found: Vec::new(),
        bound,
        rank: 0,
    };
    let own = match bound.only {
        Some(ip) => vec![ip],
        None => usable(&snapshot.interfaces),
    };
    for (i, &ip) in own.iter().enumerate() {
        let worth = if i < 2 { Worth::First } else { Worth::Further };
        gathered.add(Kind::Host, BOTH, (ip, bound.port).into(), worth);
    }
    let host = |gathered: &mut Gathered, ip: IpAddr, port: Option<u16>| {
        let at = (ip, port.unwrap_or(bound.port)).into();
        gathered.add(Kind::Host, BOTH, at, Worth::Other);
    };
    for address in configured {
        match address {
            MediaAddress::Ip(ip, port) => {
                host(&mut gathered, *ip, *port);
            }
            MediaAddress::Name(name, port) => {
                for ip in snapshot.looked_up(name) {
                    host(&mut gathered, ip, *port);
                }
            }
            MediaAddress::Stun(_) => {}
        }
    }
    match requested {
        // Also one of our own that is not usually of use, such as that of a container bridge: this
        // client has just reached us by it.
        Some(Requested::Ip(ip)) if bound.only.is_none_or(|only| only != *ip) => {
            host(&mut gathered, *ip, None);
        }
        Some(Requested::Name(name)) => {
            for ip in snapshot.looked_up(name) {
                host(&mut gathered, ip, None);
            }
            if name.contains('.') {
                // The client's name server may tell another address than ours does. Chromium and
                // Safari ask it; Firefox passes over the line.
                gathered.push(Kind::Host, &BOTH[..1], name, bound.port, Worth::Other);
            }
        }
        _ => {}
    }
    for &mapped in &snapshot.mapped {
        // TCP takes the same way when the port outside is ours: then it is forwarded or kept.
        let transports = if mapped.port() == bound.port {
            BOTH
        } else {
            &BOTH[..1]
        };
        gathered.add(Kind::Srflx, transports, mapped, Worth::Other);
    }
    for relayed in snapshot.relayed.iter().flatten() {
        gathered.add(Kind::Relay, &BOTH[..1], *relayed, Worth::Other);
    }
    gathered.finish()
}

impl Snapshot {
    /// The addresses of `name`, as far as they are known and of use.
    fn looked_up(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let entry = self.names.get(name);
        entry
            .into_iter()
            .flat_map(|entry| entry.addresses.iter().copied())
            .filter(|ip| is_routable(*ip))
            .take(PER_NAME_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Instant};

    use super::super::{LookedUp, interfaces::tests::interface};
    use super::*;

    const BOUND: Bound = Bound {
        port: 8555,
        only: None,
        ipv4: true,
        ipv6: true,
    };

    fn snapshot(interfaces: &[(&str, &str)], names: &[(&str, &[&str])]) -> Snapshot {
        let entry = |addresses: &[&str]| LookedUp {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            good_until: Instant::now(),
        };
        let names = names
            .iter()
            .map(|(name, addresses)| ((*name).to_owned(), entry(addresses)));
        Snapshot {
            interfaces: interfaces
                .iter()
                .map(|(name, ip)| interface(name, ip))
                .collect(),
            names: names.collect::<BTreeMap<_, _>>(),
            ..Snapshot::default()
        }
    }

    fn told(
        snapshot: &Snapshot,
        configured: &[MediaAddress],
        bound: Bound,
        host: &str,
    ) -> Vec<String> {
        let requested = Requested::parse(host);
        let found = candidates(snapshot, configured, bound, requested.as_ref());
        assert!(found.is_sorted_by(|a, b| a.priority > b.priority));
        let shown = |c: &Candidate| {
            let transport = match c.transport {
                Transport::Udp => "udp",
                Transport::TcpPassive => "tcp",
            };
            format!("{transport} {} {}", c.address, c.port)
        };
        found.iter().map(shown).collect()
    }

    const LAN: &[(&str, &str)] = &[("lo", "127.0.0.1"), ("eth0", "192.168.1.2")];

    #[test]
    fn a_host_at_home_names_its_address_over_udp_and_tcp() {
        let snapshot = snapshot(LAN, &[]);
        for host in [
            "192.168.1.2:8083",
            "localhost:8083",
            "127.0.0.1",
            "[::1]:8083",
            "nas.local",
            "",
        ] {
            let found = told(&snapshot, &[], BOUND, host);
            assert_eq!(
                found,
                ["udp 192.168.1.2 8555", "tcp 192.168.1.2 8555"],
                "{host}"
            );
        }
    }

    #[test]
    fn the_address_by_which_the_client_came_is_named() {
        let container = snapshot(&[("eth0", "172.17.0.2")], &[]);
        let found = told(&container, &[], BOUND, "192.168.1.9:8083");
        assert_eq!(
            found,
            [
                "udp 172.17.0.2 8555",
                "udp 192.168.1.9 8555",
                "tcp 172.17.0.2 8555",
                "tcp 192.168.1.9 8555"
            ]
        );
        let bridged = snapshot(&[("eth0", "192.168.1.2"), ("docker0", "172.17.0.1")], &[]);
        let found = told(&bridged, &[], BOUND, "172.17.0.1");
        assert!(found.contains(&"udp 172.17.0.1 8555".to_owned()));
    }

    #[test]
    fn a_name_is_looked_up_and_named_itself_if_it_has_a_dot() {
        let snapshot = snapshot(
            LAN,
            &[
                ("cams.example.org", &["203.0.113.7", "127.0.0.1"]),
                ("porthole", &["172.18.0.5"]),
            ],
        );
        let found = told(&snapshot, &[], BOUND, "Cams.example.org:8083");
        assert_eq!(
            found,
            [
                "udp 192.168.1.2 8555",
                "udp 203.0.113.7 8555",
                "udp cams.example.org 8555",
                "tcp 192.168.1.2 8555",
                "tcp 203.0.113.7 8555"
            ]
        );
        let found = told(&snapshot, &[], BOUND, "porthole:8083");
        assert!(found.contains(&"udp 172.18.0.5 8555".to_owned()));
        assert!(!found.iter().any(|line| line.contains("porthole")));
    }

    #[test]
    fn nonsense_for_a_host_is_passed_over() {
        for host in [
            "a b.example",
            "x\r\na=b.example",
            "ü.example",
            "224.0.0.1",
            "0.0.0.0",
            "[::]",
            "169.254.1.1",
            "1.2.3",
            "h:x",
            "a_b.example",
            "*.example",
        ] {
            assert_eq!(Requested::parse(host), None, "{host}");
        }
        assert_eq!(Requested::parse(&format!("{}.org", "a".repeat(64))), None);
        let mapped = Requested::parse("[::ffff:192.0.2.1]");
        assert_eq!(mapped, Some(Requested::Ip("192.0.2.1".parse().unwrap())));
    }

    #[test]
    fn configured_addresses_follow_those_of_interfaces_with_their_own_port() {
        let configured = [
            MediaAddress::Ip("203.0.113.7".parse().unwrap(), Some(18555)),
            MediaAddress::Name("home.example".to_owned(), None),
        ];
        let snapshot = snapshot(LAN, &[("home.example", &["203.0.113.8"])]);
        let found = told(&snapshot, &configured, BOUND, "");
        assert_eq!(
            found[..3],
            [
                "udp 192.168.1.2 8555",
                "udp 203.0.113.7 18555",
                "udp 203.0.113.8 8555"
            ]
        );
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn mapped_and_relayed_addresses_come_last() {
        let mut snapshot = snapshot(LAN, &[]);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        snapshot.mapped = vec![
            at("203.0.113.7:40000"),
            at("[::ffff:203.0.113.9]:8555"),
            at("192.168.1.2:8555"),
        ];
        snapshot.relayed = vec![None, Some(at("198.51.100.1:50000"))];
        let found = told(&snapshot, &[], BOUND, "");
        assert_eq!(
            found,
            [
                "udp 192.168.1.2 8555",
                "udp 203.0.113.7 40000",
                "udp 203.0.113.9 8555",
                "tcp 192.168.1.2 8555",
                "tcp 203.0.113.9 8555",
                "udp 198.51.100.1 50000"
            ]
        );
    }

    #[test]
    fn one_bound_address_and_one_family_are_respected() {
        let snapshot = snapshot(
            &[
                ("eth0", "192.168.1.2"),
                ("eth1", "192.168.2.2"),
                ("eth0", "2001:db8::1"),
            ],
            &[],
        );
        let only = Bound::at("127.0.0.1:8555".parse().unwrap());
        assert_eq!(
            told(&snapshot, &[], only, "localhost"),
            ["udp 127.0.0.1 8555", "tcp 127.0.0.1 8555"]
        );
        let ipv4 = Bound {
            ipv6: false,
            ..BOUND
        };
        assert_eq!(told(&snapshot, &[], ipv4, "").len(), 4);
    }

    #[test]
    fn twelve_are_enough_and_tcp_yields_first() {
        let interfaces: Vec<_> = (1..=9)
            .map(|i| (format!("eth{i}"), format!("10.0.{i}.1")))
            .chain((1..=9).map(|i| (format!("eth{i}"), format!("2001:db8::{i}"))))
            .collect();
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|(name, ip)| (name.as_str(), ip.as_str()))
            .collect();
        let snapshot = snapshot(&interfaces, &[]);
        let found = told(&snapshot, &[], BOUND, "203.0.113.7");
        assert_eq!(found.len(), 12);
        let tcp: Vec<_> = found
            .iter()
            .filter(|line| line.starts_with("tcp"))
            .collect();
        assert_eq!(tcp, ["tcp 203.0.113.7 8555"]);
    }
}
