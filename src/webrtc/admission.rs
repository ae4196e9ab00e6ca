//! [`Admission`]: which STUN and TURN servers of an offer are asked, and how often.
//!
//! Whoever can make an offer names hosts and ports. None of them is called that only this server can
//! reach, and none often: `docs/decisions/0020-servers-that-offers-bring.md`.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::lookup_host, sync::Semaphore, time::timeout};

use crate::{
    base::reach::{Own, Refusal, addresses_of_this_machine, allowed, embedded},
    config::HostPort,
};

/// How long looking up a name may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(3);
/// Look-ups at once: each holds a thread.
const LOOK_UPS_MAX: usize = 4;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Calls are counted for so long.
const WINDOW: Duration = Duration::from_secs(30);
/// Calls of one address in that time, whatever the port.
const CALLS_OF_ONE_MAX: usize = 10;
/// Calls of all addresses in that time.
const CALLS_MAX: usize = 40;

/// What the one who made an offer can reach without our help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Hosts of the Internet.
    Public,
    /// Hosts of private networks as well: it is in one itself.
    Private,
}

impl Reach {
    /// Of who sent a request from `client`, and not through a proxy, which would hide where it is.
    #[must_use]
    pub fn of(client: Option<IpAddr>, is_forwarded: bool) -> Self {
        match client {
            Some(ip) if !is_forwarded && (is_private(ip) || ip.to_canonical().is_loopback()) => {
                Self::Private
            }
            _ => Self::Public,
        }
    }
}

/// Lets servers of offers be called, or not. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Ports on which this server listens.
    ports: Arc<[u16]>,
    look_ups: Arc<Semaphore>,
    calls: Arc<Mutex<Calls>>,
    /// For tests with servers on this machine.
    #[cfg(test)]
    is_open: bool,
}

impl Admission {
    /// For a server that listens on `ports`.
    #[must_use]
    pub fn new(ports: &[u16]) -> Self {
        Self {
            ports: ports.into(),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
            calls: Arc::default(),
            #[cfg(test)]
            is_open: false,
        }
    }

    /// One that lets all servers be called.
    #[cfg(test)]
    pub(crate) fn open() -> Self {
        Self {
            is_open: true,
            ..Self::new(&[])
        }
    }

    /// Looks a server up; its addresses that may be called for who has this `reach`. They are looked
    /// at, and then called, without another look-up.
    pub async fn find(&self, server: &HostPort, reach: Reach) -> Vec<SocketAddr> {
        let look_up = async {
            let _place = self.look_ups.acquire().await.ok()?;
            let found = lookup_host((server.host.as_str(), server.port)).await;
            found.ok().map(Iterator::collect::<Vec<_>>)
        };
        let mut found = match server.host.parse() {
            Ok(ip) => vec![SocketAddr::new(ip, server.port)],
            Err(_) => timeout(LOOK_UP_LIMIT, look_up)
                .await
                .ok()
                .flatten()
                .unwrap_or_default(),
        };
        let own = addresses_of_this_machine();
        found.retain(|address| match self.admits(*address, reach, &own) {
            Ok(()) => true,
            Err(reason) => {
                tracing::debug!(%address, ?reason, "this server of an offer is not asked");
                false
            }
        });
        found.truncate(ADDRESSES_MAX);
        found
    }

    /// Counts a call; false when there have been too many lately.
    #[must_use]
    pub fn may_call(&self, now: Instant, address: SocketAddr) -> bool {
        // Nothing panics between two changes that belong together.
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let may = calls.count(now, address.ip().to_canonical());
        if !may {
            tracing::debug!(%address, "too many calls lately; this server of an offer is not asked");
        }
        may
    }

    fn admits(&self, address: SocketAddr, reach: Reach, own: &[IpAddr]) -> Result<(), Refused> {
        #[cfg(test)]
        if self.is_open {
            return Ok(());
        }
        let own = Own {
            ports: &self.ports,
            addresses: own,
        };
        allowed(address, &own).map_err(Refused::Always)?;
        let ip = address.ip().to_canonical();
        let inside = match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => embedded(ip).map(IpAddr::V4),
        };
        for ip in std::iter::once(ip).chain(inside) {
            if ip.is_loopback() || is_link_local(ip) {
                return Err(Refused::Near);
            }
            if is_private(ip) && reach == Reach::Public {
                return Err(Refused::Private);
            }
        }
        Ok(())
    }
}

/// Why a server is not asked.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// For who else is not trusted either.
    Always(Refusal),
    /// This machine, or a link-local network: browsers would reach no server there.
    Near,
    /// In a private network, and the offer came from outside.
    Private,
}

/// When which addresses were called.
#[derive(Debug, Default)]
struct Calls(VecDeque<(Instant, IpAddr)>);

impl Calls {
    fn count(&mut self, now: Instant, ip: IpAddr) -> bool {
        while let Some((at, _)) = self.0.front()
            && now.saturating_duration_since(*at) >= WINDOW
        {
            self.0.pop_front();
        }
        let of_one = self.0.iter().filter(|(_, called)| *called == ip).count();
        let may = self.0.len() < CALLS_MAX && of_one < CALLS_OF_ONE_MAX;
        if may {
            self.0.push_back((now, ip));
        }
        may
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// [RFC 1918], [RFC 6598] and [RFC 4193].
///
/// [RFC 1918]: https://datatracker.ietf.org/doc/html/rfc1918
/// [RFC 4193]: https://datatracker.ietf.org/doc/html/rfc4193
/// [RFC 6598]: https://datatracker.ietf.org/doc/html/rfc6598
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[IpAddr] = &[
        IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5)),
        // A machine in a link-local network: cameras may be there, servers of offers may not.
        IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 7, 7)),
    ];

    fn ask(address: &str, reach: Reach) -> Result<(), Refused> {
        let admission = Admission::new(&[8083, 8555]);
        admission.admits(address.parse().unwrap(), reach, OWN)
    }

    #[test]
    fn nobody_has_loopback_link_local_metadata_or_our_own_ports_asked() {
        for address in [
            "127.0.0.1:3478",
            "[::1]:3478",
            "[::ffff:127.0.0.1]:3478",
            "[64:ff9b::127.0.0.1]:3478",
            "169.254.7.8:3478",
            "[fe80::1]:3478",
            "169.254.169.254:3478",
            "[fd00:ec2::254]:3478",
            "[64:ff9b::169.254.169.254]:80",
            "0.0.0.0:3478",
            "[::]:3478",
            "224.0.0.1:3478",
            "239.255.255.250:1900",
            "[ff02::1]:3478",
            "255.255.255.255:3478",
            "192.168.1.5:8083",
            "192.168.1.5:8555",
            "203.0.113.9:53",
            "203.0.113.9:25",
        ] {
            for reach in [Reach::Public, Reach::Private] {
                assert!(ask(address, reach).is_err(), "{address} {reach:?}");
            }
        }
    }

    #[test]
    fn private_hosts_are_asked_for_who_is_in_a_private_network() {
        for address in [
            "10.0.0.7:3478",
            "172.16.0.7:3478",
            "192.168.1.5:3478",
            "100.64.0.7:3478",
            "[fd12:3456::7]:3478",
            "[::ffff:192.168.1.7]:3478",
            "[64:ff9b::192.168.1.7]:3478",
        ] {
            assert_eq!(
                ask(address, Reach::Public),
                Err(Refused::Private),
                "{address}"
            );
            assert_eq!(ask(address, Reach::Private), Ok(()), "{address}");
        }
        for address in ["203.0.113.9:3478", "198.51.100.1:80", "[2001:db8::9]:443"] {
            assert_eq!(ask(address, Reach::Public), Ok(()), "{address}");
        }
    }

    #[test]
    fn who_comes_through_a_proxy_counts_as_from_outside() {
        let reach = |ip: &str, is_forwarded| Reach::of(Some(ip.parse().unwrap()), is_forwarded);
        for inside in [
            "192.168.1.7",
            "127.0.0.1",
            "::1",
            "100.64.0.1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(reach(inside, false), Reach::Private, "{inside}");
            assert_eq!(reach(inside, true), Reach::Public, "{inside}");
        }
        for outside in ["203.0.113.9", "2001:db8::9", "169.254.1.1"] {
            assert_eq!(reach(outside, false), Reach::Public, "{outside}");
        }
        assert_eq!(Reach::of(None, false), Reach::Public);
    }

    #[test]
    fn calls_are_counted_for_half_a_minute() {
        let mut calls = Calls::default();
        let start = Instant::now();
        let ip = |last| IpAddr::from([203, 0, 113, last]);
        let granted = (0..20).filter(|_| calls.count(start, ip(1))).count();
        assert_eq!(granted, CALLS_OF_ONE_MAX);
        let granted = (2..100)
            .filter(|last| calls.count(start, ip(*last)))
            .count();
        assert_eq!(granted, CALLS_MAX - CALLS_OF_ONE_MAX);
        assert!(calls.count(start + WINDOW, ip(1)));
        assert_eq!(calls.0.len(), 1);
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up_and_a_name_of_this_machine_is_refused() {
        let admission = Admission::new(&[]);
        let find = async |host: &str| {
            let host = host.to_owned();
            let server = HostPort { host, port: 3478 };
            admission.find(&server, Reach::Private).await
        };
        let expected: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        assert_eq!(find("192.0.2.1").await, [expected]);
        assert!(find("localhost").await.is_empty());
    }
}
