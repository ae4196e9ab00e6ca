//! Where media comes in: the media port, the addresses by which browsers reach it, ICE servers.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use super::{Listen, listen};
use crate::base::{Credentials, Secret};

/// Where media listens unless told otherwise.
const MEDIA_PORT: u16 = 8555;

/// The port of STUN and TURN servers ([RFC 8489 §8.1], [RFC 8656 §3.1]).
///
/// [RFC 8489 §8.1]: https://datatracker.ietf.org/doc/html/rfc8489#section-8.1
/// [RFC 8656 §3.1]: https://datatracker.ietf.org/doc/html/rfc8656#section-3.1
const STUN_PORT: u16 = 3478;

/// The port of TURN servers over TLS.
const TURNS_PORT: u16 = 5349;

/// Most entries of a list, so that answers and background work stay small.
const LIST_MAX: usize = 16;

/// Where media listens, UDP and TCP on the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaListen {
    /// Addresses and port.
    pub at: Listen,
    /// Whether nobody asked for it: then another port is as good when this one is taken.
    pub is_default: bool,
}

impl Default for MediaListen {
    fn default() -> Self {
        Self {
            at: Listen::Everywhere(MEDIA_PORT),
            is_default: true,
        }
    }
}

/// One way by which browsers reach the media port, or by which it is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaAddress {
    /// An address, and the port outside if it differs from ours.
    Ip(IpAddr, Option<u16>),
    /// A DNS name in lower case, and the port outside if it differs from ours.
    Name(String, Option<u16>),
    /// A STUN server that tells our public address.
    Stun(HostPort),
}

/// A server as it is written: an address or a name, which is looked up when it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// An IP address without brackets, or a DNS name in lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Servers with one login. Porthole itself uses them; players by WHEP are told of the STUN servers, nobody of a login.
#[derive(Debug, Clone)]
pub struct IceServer {
    /// Its URLs: STUN servers are all asked, of TURN servers one, the others when it fails.
    pub urls: Vec<IceUrl>,
    /// The login, which TURN needs.
    pub credentials: Option<Credentials>,
}

/// A `stun:` URL ([RFC 7064]), or a `turn:` or `turns:` URL ([RFC 7065]).
///
/// [RFC 7064]: https://datatracker.ietf.org/doc/html/rfc7064
/// [RFC 7065]: https://datatracker.ietf.org/doc/html/rfc7065
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceUrl {
    /// What it offers, and how it is reached.
    pub service: IceService,
    /// Where it is.
    pub server: HostPort,
}

/// What an ICE server offers, and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceService {
    /// STUN over UDP.
    Stun,
    /// TURN over UDP.
    TurnUdp,
    /// TURN over TCP.
    TurnTcp,
    /// TURN over TLS over TCP.
    TurnTls,
}

impl IceService {
    /// Whether it is a relay.
    #[must_use]
    pub fn is_turn(self) -> bool {
        self != Self::Stun
    }
}

/// ICE servers as they are written.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerLayer {
    /// One URL, or several.
    pub urls: OneOrMore,
    /// The user name for TURN.
    pub username: Option<String>,
    /// The password for TURN.
    pub credential: Option<String>,
}

impl fmt::Debug for IceServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceServerLayer(***)")
    }
}

/// A text, or a list of them.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "expected a URL, or a list of them")]
pub enum OneOrMore {
    /// A text.
    One(String),
    /// A list.
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

/// Reads `media_listen`.
pub(super) fn media_listen(text: Option<&str>) -> Result<MediaListen, String> {
    text.map_or(Ok(MediaListen::default()), |text| {
        listen("media_listen", text).map(|at| MediaListen {
            at,
            is_default: false,
        })
    })
}

/// Reads `media_addresses`; what cannot be read goes to `faults`.
pub(super) fn media_addresses(texts: &[String], faults: &mut Vec<String>) -> Vec<MediaAddress> {
    let mut found = Vec::new();
    for text in texts {
        match media_address(text.trim()) {
            // A user name would be a secret.
            None if text.contains('@') => faults.push(
                "media_addresses: an entry with @ should be an address or a name, without user"
                    .to_owned(),
            ),
            None => faults.push(format!(
                "media_addresses: {text:?} should be an IP address or a DNS name, with a port if \
                 the one outside differs (203.0.113.7, cams.example.org:18555, [2001:db8::7]:8555), \
                 or a STUN server (stun:stun.example.org)"
            )),
            Some(address) => {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
    }
    if found.len() > LIST_MAX {
        faults.push(format!("media_addresses: {LIST_MAX} entries are the limit"));
    }
    found
}

fn media_address(text: &str) -> Option<MediaAddress> {
    if let Some(server) = strip_scheme(text, "stun:") {
        return host_port(server, STUN_PORT).map(MediaAddress::Stun);
    }
    let (host, port) = split_port(text)?;
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => None,
        Ok(ip) => Some(MediaAddress::Ip(ip, port)),
        Err(_) => Some(MediaAddress::Name(dns_name(host)?, port)),
    }
}

/// Reads `ice_servers`; what cannot be read goes to `faults`.
pub(super) fn ice_servers(layers: &[IceServerLayer], faults: &mut Vec<String>) -> Vec<IceServer> {
    let mut servers = Vec::new();
    if layers.len() > LIST_MAX {
        faults.push(format!("ice_servers: {LIST_MAX} entries are the limit"));
    }
    for (i, layer) in layers.iter().enumerate() {
        let texts = layer.urls.as_slice();
        if texts.is_empty() || texts.len() > LIST_MAX {
            faults.push(format!(
                "ice_servers[{i}].urls: should have 1 to {LIST_MAX} URLs"
            ));
        }
        let mut urls = Vec::new();
        for (k, text) in texts.iter().enumerate() {
            match IceUrl::parse(text) {
                Some(url) => urls.push(url),
                // The text stays unprinted: people write passwords into it.
                None => faults.push(format!(
                    "ice_servers[{i}].urls[{k}]: should look like stun:host:3478, \
                     turn:host:3478?transport=udp or turns:host:5349?transport=tcp; user name and \
                     password go into `username` and `credential`"
                )),
            }
        }
        let credentials = credentials(layer);
        if credentials.is_none() && urls.iter().any(|url| url.service.is_turn()) {
            faults.push(format!(
                "ice_servers[{i}]: a TURN server needs `username` and `credential`"
            ));
        }
        servers.push(IceServer { urls, credentials });
    }
    servers
}

fn credentials(layer: &IceServerLayer) -> Option<Credentials> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Some(Credentials {
        user: Secret::new(given(&layer.username)?),
        password: Secret::new(given(&layer.credential)?),
    })
}

impl IceUrl {
    /// Reads one; none when it is no URL of a service that we use.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (base, query) = match text.split_once('?') {
            Some((base, query)) => (base, Some(query)),
            None => (text, None),
        };
        let transport = match query {
            None => None,
            Some(query) => Some(strip_scheme(query, "transport=")?.to_ascii_lowercase()),
        };
        let (service, server, port) = if let Some(server) = strip_scheme(base, "stun:") {
            // Not in the RFC, and written all the same.
            let is_udp = matches!(transport.as_deref(), None | Some("udp"));
            (is_udp.then_some(IceService::Stun)?, server, STUN_PORT)
        } else if let Some(server) = strip_scheme(base, "turn:") {
            let service = match transport.as_deref() {
                None | Some("udp") => IceService::TurnUdp,
                Some("tcp") => IceService::TurnTcp,
                Some(_) => return None,
            };
            (service, server, STUN_PORT)
        } else {
            let server = strip_scheme(base, "turns:")?;
            // DTLS, which `udp` would mean here, is spoken by next to no server.
            let is_tcp = matches!(transport.as_deref(), None | Some("tcp"));
            (is_tcp.then_some(IceService::TurnTls)?, server, TURNS_PORT)
        };
        let server = host_port(server, port)?;
        Some(Self { service, server })
    }
}

/// What follows `scheme`, in any case of letters.
fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let head = text.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme)
        .then(|| &text[scheme.len()..])
}

fn host_port(text: &str, default: u16) -> Option<HostPort> {
    let (host, port) = split_port(text)?;
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => dns_name(host)?,
    };
    let port = port.unwrap_or(default);
    Some(HostPort { host, port })
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address. The host may still be
/// anything; a port is never 0.
#[must_use]
pub fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(port(rest.strip_prefix(':')?)?))),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, rest)) if rest.contains(':') => {
            text.parse::<std::net::Ipv6Addr>().ok()?;
            Some((text, None))
        }
        Some((host, rest)) => Some((host, Some(port(rest)?))),
    }
}

/// A port from digits alone: `parse` would take a sign too.
fn port(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|&port| is_digits && port != 0)
}

/// The DNS name in `text` in lower case and without a final dot: labels of letters, digits and
/// hyphens ([RFC 1123 §2.1]). None for anything else, also for what would be an IPv4 address with
/// a mistake in it.
///
/// [RFC 1123 §2.1]: https://datatracker.ietf.org/doc/html/rfc1123#section-2.1
#[must_use]
pub fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let last = name.rsplit('.').next()?;
    // The WHATWG URL standard's test for an IPv4 address: its last label is a number.
    let is_number = last.bytes().all(|c| c.is_ascii_digit())
        || (last.len() > 2 && last.as_bytes()[..2].eq_ignore_ascii_case(b"0x"))
            && last.bytes().skip(2).all(|c| c.is_ascii_hexdigit());
    (name.len() <= 253 && name.split('.').all(is_label) && !is_number)
        .then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<MediaAddress> {
        media_address(text)
    }

    #[test]
    fn an_address_is_an_ip_a_name_or_a_stun_server() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("203.0.113.7", MediaAddress::Ip(ip("203.0.113.7"), None)),
            (
                "203.0.113.7:18555",
                MediaAddress::Ip(ip("203.0.113.7"), Some(18555)),
            ),
            ("2001:db8::7", MediaAddress::Ip(ip("2001:db8::7"), None)),
            (
                "[2001:db8::7]:9",
                MediaAddress::Ip(ip("2001:db8::7"), Some(9)),
            ),
            (
                "Cams.Example.org.:18555",
                MediaAddress::Name("cams.example.org".to_owned(), Some(18555)),
            ),
            (
                "stun:stun.example.org",
                MediaAddress::Stun(HostPort {
                    host: "stun.example.org".to_owned(),
                    port: 3478,
                }),
            ),
            (
                "STUN:[2001:db8::1]:19302",
                MediaAddress::Stun(HostPort {
                    host: "2001:db8::1".to_owned(),
                    port: 19302,
                }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "a b",
            "1.2.3",
            "1.2.3.4.5",
            "0.0.0.0",
            "224.0.0.1",
            "host:0",
            "host:+5",
            "host:65536",
            "-a.example",
            "a..b",
            "::1]:5",
            "[::1",
            "stun:",
            "http://x",
            "stun:u@h",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
        assert_eq!(dns_name(&"a.".repeat(128)), None);
    }

    #[test]
    fn ice_urls_follow_their_rfcs() {
        let url = |text: &str| {
            IceUrl::parse(text).map(|url| (url.service, url.server.host, url.server.port))
        };
        let some = |service, host: &str, port| Some((service, host.to_owned(), port));
        assert_eq!(
            url("stun:stun.l.example"),
            some(IceService::Stun, "stun.l.example", 3478)
        );
        assert_eq!(
            url("turn:192.0.2.1?transport=UDP"),
            some(IceService::TurnUdp, "192.0.2.1", 3478)
        );
        assert_eq!(
            url("turn:[2001:db8::1]:443?transport=tcp"),
            some(IceService::TurnTcp, "2001:db8::1", 443)
        );
        assert_eq!(
            url("turns:relay.example"),
            some(IceService::TurnTls, "relay.example", 5349)
        );
        for text in [
            "stuns:h",
            "turn://h",
            "turn:u:p@h",
            "turn:h?transport=sctp",
            "turns:h?transport=udp",
            "h:3478",
            "",
        ] {
            assert_eq!(url(text), None, "{text}");
        }
    }

    #[test]
    fn a_server_is_shown_with_its_port() {
        let shown = |text| IceUrl::parse(text).unwrap().server.to_string();
        assert_eq!(shown("stun:h"), "h:3478");
        assert_eq!(shown("stun:[2001:db8::1]"), "[2001:db8::1]:3478");
    }
}
