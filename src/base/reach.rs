//! [`allowed`]: which addresses and ports are not called for who is not trusted.
//!
//! A list of what is allowed cannot be: cameras are at private addresses, at public ones, and behind
//! programs on this machine. So this names what never is a camera, nor a server for ICE.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why an address is refused. It tells a class and not what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No camera is ever at such an address.
    Never,
    /// A link-local address, and no interface of this machine has one.
    LinkLocal,
    /// A port of this server: a loop.
    Ourselves,
    /// A port of a protocol in which requests of ours could do harm.
    Port,
}

/// What this machine has itself.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Ports on which this server listens.
    pub ports: &'a [u16],
    /// Addresses of the interfaces.
    pub addresses: &'a [IpAddr],
}

/// Where clouds answer the machines that they run, some with passwords.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Ports that browsers do not call either ([Fetch §2.9]), without 554, which is RTSP's. In order.
///
/// [Fetch §2.9]: https://fetch.spec.whatwg.org/#port-blocking
const BAD_PORTS: [u16; 82] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Whether a camera that nobody trusted has named may be at `address`.
///
/// # Errors
/// Why not.
pub fn allowed(address: SocketAddr, own: &Own<'_>) -> Result<(), Refusal> {
    if BAD_PORTS.binary_search(&address.port()).is_ok() {
        return Err(Refusal::Port);
    }
    let ip = address.ip().to_canonical();
    let inside = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => embedded(ip).map(IpAddr::V4),
    };
    for ip in std::iter::once(ip).chain(inside) {
        if METADATA.contains(&ip) || is_reserved(ip) {
            return Err(Refusal::Never);
        }
        let is_ours = || ip.is_loopback() || own.addresses.iter().any(|a| a.to_canonical() == ip);
        if own.ports.contains(&address.port()) && is_ours() {
            return Err(Refusal::Ourselves);
        }
        let has_network = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4() && is_link_local(*own);
        if is_link_local(ip) && !own.addresses.iter().any(has_network) {
            return Err(Refusal::LinkLocal);
        }
    }
    Ok(())
}

/// What the interfaces of this machine have, read anew each time: they come and go.
#[must_use]
pub fn addresses_of_this_machine() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(if_addrs::Interface::ip).collect()
}

/// Addresses that mean nobody, everybody, or nothing yet.
fn is_reserved(ip: IpAddr) -> bool {
    match ip {
        // 224/4 is multicast, 240/4 reserved, its last one broadcast.
        IpAddr::V4(ip) => matches!(ip.octets()[0], 0 | 224..),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The IPv4 address to which a translator or the end of a tunnel would pass on what is for `ip`.
#[must_use]
#[expect(
    clippy::match_same_arms,
    reason = "each form is of a standard of its own"
)]
pub fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        // Only ::, which is refused, and ::1, which is loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (RFC 4291 §2.5.5.1) and IPv4-translated (RFC 7915).
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low] => Some(of(high, low)),
        // NAT64: the well-known prefix (RFC 6052) and those for local use (RFC 8215).
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => Some(of(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(of(high, low)),
        // Teredo (RFC 4380) writes the client inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(of(!high, !low)),
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal::*, *};

    /// HTTP on 8083 and media on 8555; a machine at home with an address of each family.
    const OWN: Own<'static> = Own {
        ports: &[8083, 8555],
        addresses: &[
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(Ipv4Addr::new(192, 168, 1, 5)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5)),
        ],
    };

    /// Addresses by what becomes of them.
    const TABLE: &[(Result<(), Refusal>, &[&str])] = &[
        (
            Ok(()),
            &[
                "192.168.1.20:554",
                "192.168.1.20:8554",
                "10.0.0.7:322",
                "172.16.3.4:7441",
                "100.64.0.9:554",
                "100.100.100.201:554",
                "203.0.113.9:8555",
                "8.8.8.8:554",
                "223.255.255.254:554",
                "1.0.0.1:10554",
                "127.0.0.1:8554",
                "127.0.0.53:554",
                "[::1]:8554",
                "192.168.1.5:8554",
                "192.168.1.6:8083",
                "192.168.1.20:80",
                "192.168.1.20:443",
                "192.168.1.20:65535",
                "[fd00:ec2::255]:554",
                "[fd12:3456::1]:554",
                "[2001:db8::9]:8083",
                "[2606:4700::1]:554",
                "[::ffff:192.168.1.20]:554",
                "[64:ff9b::192.168.1.20]:554",
                "[64:ff9b::8.8.8.8]:554",
                "[2002:c0a8:114::1]:554",
            ],
        ),
        (
            Err(Never),
            &[
                // Clouds, also as translators and tunnels write them.
                "169.254.169.254:554",
                "169.254.169.254:80",
                "169.254.170.2:554",
                "169.254.170.23:554",
                "100.100.100.200:554",
                "168.63.129.16:554",
                "192.0.0.192:554",
                "[fd00:ec2::254]:554",
                "[fd00:ec2::23]:554",
                "[fd20:ce::254]:554",
                "[::ffff:169.254.169.254]:554",
                "[::ffff:a9fe:a9fe]:80",
                "[::169.254.169.254]:554",
                "[::ffff:0:169.254.169.254]:554",
                "[64:ff9b::169.254.169.254]:554",
                "[64:ff9b::a9fe:a9fe]:80",
                "[64:ff9b::100.100.100.200]:554",
                "[64:ff9b:1::169.254.169.254]:554",
                "[64:ff9b:1:fffe:0:1:a9fe:a9fe]:554",
                "[2002:a9fe:a9fe::]:554",
                "[2002:a9fe:a9fe::1]:554",
                "[2001:0:102:304:0:0:5601:5601]:554",
                "[2001:db8::5efe:a9fe:a9fe]:554",
                "[2001:db8::200:5efe:169.254.169.254]:554",
                "[::ffff:100.100.100.200]:554",
                // Nobody, everybody, nothing yet.
                "0.0.0.0:554",
                "0.0.0.0:8083",
                "0.1.2.3:554",
                "0.255.255.255:8554",
                "224.0.0.1:554",
                "239.255.255.250:554",
                "232.1.2.3:8554",
                "240.0.0.1:554",
                "250.1.2.3:554",
                "255.255.255.254:554",
                "255.255.255.255:554",
                "[::]:554",
                "[ff02::1]:554",
                "[ff05::2]:554",
                "[ff0e::1234]:8554",
                "[::ffff:0.0.0.0]:554",
                "[::ffff:255.255.255.255]:554",
                "[::ffff:224.0.0.1]:554",
                "[64:ff9b::]:554",
                "[64:ff9b::0.0.0.0]:8083",
                "[64:ff9b::255.255.255.255]:554",
                "[2002:e000:1::]:554",
            ],
        ),
        (
            Err(Ourselves),
            &[
                "127.0.0.1:8083",
                "127.0.0.1:8555",
                "127.8.9.10:8083",
                "[::1]:8083",
                "[::1]:8555",
                "192.168.1.5:8083",
                "192.168.1.5:8555",
                "[2001:db8::5]:8083",
                "[::ffff:127.0.0.1]:8083",
                "[::ffff:192.168.1.5]:8555",
                "[::127.0.0.1]:8083",
                "[64:ff9b::192.168.1.5]:8083",
                "[64:ff9b::127.0.0.1]:8555",
                "[2002:c0a8:105::]:8083",
            ],
        ),
        (
            Err(LinkLocal),
            &[
                "169.254.1.1:554",
                "169.254.255.255:554",
                "[fe80::1]:554",
                "[febf::1]:554",
                "[::ffff:169.254.1.1]:554",
                "[64:ff9b::169.254.1.1]:554",
            ],
        ),
        (
            Err(Port),
            &[
                "192.168.1.20:0",
                "192.168.1.20:1",
                "192.168.1.20:21",
                "192.168.1.20:22",
                "192.168.1.20:23",
                "192.168.1.20:25",
                "192.168.1.20:53",
                "192.168.1.20:110",
                "192.168.1.20:143",
                "192.168.1.20:389",
                "192.168.1.20:465",
                "192.168.1.20:587",
                "192.168.1.20:2049",
                "192.168.1.20:5060",
                "192.168.1.20:6000",
                "192.168.1.20:6667",
                "192.168.1.20:10080",
                "127.0.0.1:25",
                "[::1]:22",
                "[2001:db8::9]:6697",
            ],
        ),
    ];

    fn ask(address: &str, own: &Own<'_>) -> Result<(), Refusal> {
        allowed(address.parse().unwrap(), own)
    }

    #[test]
    fn cameras_are_let_through_and_nothing_else() {
        for (expected, addresses) in TABLE {
            for address in *addresses {
                assert_eq!(ask(address, &OWN), *expected, "{address}");
            }
        }
        let cases: usize = TABLE.iter().map(|(_, addresses)| addresses.len()).sum();
        assert!(cases >= 80, "{cases}");
    }

    #[test]
    fn link_local_cameras_are_reached_from_such_a_network() {
        let own = |address: &str| [address.parse::<IpAddr>().unwrap()];
        let with = |addresses: &[IpAddr], camera: &str| {
            ask(
                camera,
                &Own {
                    ports: &[],
                    addresses,
                },
            )
        };
        assert_eq!(with(&own("169.254.7.7"), "169.254.1.1:554"), Ok(()));
        assert_eq!(with(&own("fe80::7"), "[fe80::1]:554"), Ok(()));
        assert_eq!(with(&own("fe80::7"), "169.254.1.1:554"), Err(LinkLocal));
        assert_eq!(with(&own("169.254.7.7"), "[fe80::1]:554"), Err(LinkLocal));
        assert_eq!(with(&own("169.254.7.7"), "169.254.169.254:554"), Err(Never));
    }

    #[test]
    fn the_list_of_ports_is_in_order_and_leaves_rtsp_out() {
        assert!(BAD_PORTS.is_sorted_by(|a, b| a < b));
        assert!(!BAD_PORTS.contains(&554) && !BAD_PORTS.contains(&8554));
    }
}
