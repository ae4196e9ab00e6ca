//! Which addresses of this machine a browser can be expected to reach.

use std::net::{IpAddr, Ipv6Addr};

/// Most IPv6 addresses that are named. A provider's prefix, the router's own prefix and privacy
/// extensions easily make ten, of which any works if one does.
const IPV6_MAX: usize = 4;

/// Most IPv4 addresses that are named.
const IPV4_MAX: usize = 6;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    /// Whether its link is there.
    pub(super) is_up: bool,
    pub(super) age: Age,
}

/// How long an IPv6 address will be of use; IPv4 addresses are all [`Age::Lasting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    Lasting,
    /// Of the privacy extensions ([RFC 8981]): replaced every day.
    ///
    /// [RFC 8981]: https://datatracker.ietf.org/doc/html/rfc8981
    Temporary,
    /// On its way out, or not yet proven to be the only one on its network.
    Unusable,
}

/// Reads the addresses that this machine has now; none on failure.
pub(super) fn read() -> Vec<Interface> {
    let ages = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let known = interfaces.into_iter().map(|interface| Interface {
        ip: interface.ip(),
        is_up: interface.is_oper_up(),
        age: match interface.ip() {
            IpAddr::V4(_) => Age::Lasting,
            IpAddr::V6(ip) => age(&ages, ip),
        },
        name: interface.name,
    });
    known.collect()
}

/// The age of `ip` in Linux's table, whose lines are address, index, prefix, scope, flags (all in
/// hexadecimal) and name.
fn age(table: &str, ip: Ipv6Addr) -> Age {
    const TEMPORARY: u32 = 0x01;
    const DUPLICATE: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    let address = format!("{:032x}", u128::from(ip));
    let flags = table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == address).then_some(())?;
        u32::from_str_radix(fields.nth(3)?, 16).ok()
    });
    match flags.unwrap_or(0) {
        flags if flags & (DUPLICATE | DEPRECATED | TENTATIVE) != 0 => Age::Unusable,
        flags if flags & TEMPORARY != 0 => Age::Temporary,
        _ => Age::Lasting,
    }
}

/// The addresses to name, best first.
///
/// IPv4 goes before IPv6: in a home, the private IPv4 address stays, while many providers change
/// the IPv6 prefix once a day, which would end every connection over it.
pub(super) fn usable(interfaces: &[Interface]) -> Vec<IpAddr> {
    let ordinary = |i: &&Interface| is_routable(i.ip) && i.age != Age::Unusable;
    let tests: [&dyn Fn(&&Interface) -> bool; 4] = [
        &|i| ordinary(i) && i.is_up && !is_container_bridge(&i.name),
        // Something is better than nothing: a machine whose only network is that of its containers,
        // or which is alone.
        &|i| ordinary(i) && i.is_up,
        &ordinary,
        &|i| i.ip.is_loopback(),
    ];
    let mut found: Vec<&Interface> = Vec::new();
    for test in tests {
        found = interfaces.iter().filter(test).collect();
        if !found.is_empty() {
            break;
        }
    }
    found.sort_by_key(|i| (i.ip.is_ipv6(), i.age));
    let (mut ipv4, mut ipv6) = (0, 0);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in found.into_iter().map(|i| i.ip) {
        let (count, limit) = match ip {
            IpAddr::V4(_) => (&mut ipv4, IPV4_MAX),
            IpAddr::V6(_) => (&mut ipv6, IPV6_MAX),
        };
        if *count < limit && !addresses.contains(&ip) {
            *count += 1;
            addresses.push(ip);
        }
    }
    addresses
}

/// Whether others can have a route to `ip`. A link-local IPv6 address means nothing without its
/// interface, which a candidate cannot name; IPv4's go along with it.
pub(super) fn is_routable(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local)
}

/// Whether an interface is the inner side of a container engine or a hypervisor, by its name.
fn is_container_bridge(name: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "br-", "cali", "cbr", "cni", "docker", "flannel", "hassio", "lxc", "lxdbr", "podman",
        "veth", "virbr",
    ];
    BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::webrtc::addresses) fn interface(name: &str, ip: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            ip: ip.parse().unwrap(),
            is_up: true,
            age: Age::Lasting,
        }
    }

    fn named(list: &[(&str, &str)]) -> Vec<String> {
        let all: Vec<_> = list.iter().map(|(name, ip)| interface(name, ip)).collect();
        usable(&all).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn real_interfaces_and_vpns_are_named_and_bridges_are_not() {
        let found = named(&[
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("br-0a1b2c", "172.18.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::1"),
            ("eth0", "192.168.1.2"),
            ("wlan0", "169.254.3.4"),
            ("wg0", "10.8.0.1"),
            ("br0", "192.168.7.2"),
        ]);
        assert_eq!(
            found,
            ["192.168.1.2", "10.8.0.1", "192.168.7.2", "2001:db8::1"]
        );
    }

    #[test]
    fn what_there_is_is_used_when_nothing_better_is() {
        assert_eq!(
            named(&[("lo", "127.0.0.1"), ("docker0", "172.17.0.1")]),
            ["172.17.0.1"]
        );
        assert_eq!(
            named(&[("lo", "127.0.0.1"), ("eth0", "fe80::1")]),
            ["127.0.0.1"]
        );
        assert!(named(&[]).is_empty());
        let mut down = interface("eth0", "192.0.2.1");
        down.is_up = false;
        assert_eq!(usable(&[down.clone()]), [down.ip]);
        assert_eq!(usable(&[down, interface("wlan0", "192.0.2.2")]).len(), 1);
    }

    #[test]
    fn lasting_ipv6_addresses_come_first_and_four_are_enough() {
        let mut all: Vec<_> = (1..=6)
            .map(|i| interface("eth0", &format!("2001:db8::{i}")))
            .collect();
        all[0].age = Age::Unusable;
        all[1].age = Age::Temporary;
        let expected = ["2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"];
        assert_eq!(
            usable(&all),
            expected.map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert_eq!(usable(&all[1..3])[1], all[1].ip);
    }

    #[test]
    fn ages_are_read_from_the_table_of_linux() {
        let table = "20010db8000000000000000000000001 02 40 00 01     eth0\n\
                     20010db8000000000000000000000002 02 40 00 21     eth0\n\
                     20010db8000000000000000000000003 02 40 00 80     eth0\n";
        let age = |ip: &str| age(table, ip.parse().unwrap());
        assert_eq!(age("2001:db8::1"), Age::Temporary);
        assert_eq!(age("2001:db8::2"), Age::Unusable);
        assert_eq!(age("2001:db8::3"), Age::Lasting);
        assert_eq!(age("2001:db8::4"), Age::Lasting);
    }
}
