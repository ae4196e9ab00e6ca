//! The networks that people have.
//!
//! Addresses: 192.168.77.0/24 is a home, 203.0.113.0/24 and 198.51.100.0/24 are the Internet.

use super::{Host, link};

/// The viewer's address at home.
pub const VIEWER: &str = "192.168.77.10";
/// The server's address at home.
pub const SERVER: &str = "192.168.77.20";
/// There is nobody; it makes the default route that all homes have.
pub const GATEWAY: &str = "192.168.77.1";

/// The container's address, where only its host reaches it.
pub const CONTAINER: &str = "172.17.0.2";

/// What is published for media.
pub const MEDIA: &str = "meta l4proto { tcp, udp } th dport 8555";

/// Viewer and server on one LAN; gives the server's machine.
///
/// # Panics
/// When a machine of this name is there already.
#[must_use]
pub fn home() -> Host {
    let (viewer, server) = (Host::viewer(), Host::new("server"));
    link(
        (&viewer, "lan0", &format!("{VIEWER}/24")),
        (&server, "lan0", &format!("{SERVER}/24")),
    );
    viewer.default_route(GATEWAY);
    server.default_route(GATEWAY);
    server
}

/// A machine in the viewer's LAN with a container behind it, as a container engine makes it: a bridge,
/// the published ports, and a way out. Gives the machine and the container.
///
/// # Panics
/// When a machine of this name is there already.
#[must_use]
pub fn container_host(published: &[&str]) -> (Host, Host) {
    let host = home();
    let container = Host::new("container");
    link(
        (&host, "plug0", "169.254.0.1/30"),
        (&container, "eth0", &format!("{CONTAINER}/16")),
    );
    // A plug of a bridge has no address of its own; the bridge has.
    host.run("ip address flush dev plug0");
    host.run("ip link add docker0 type bridge");
    host.run("ip link set plug0 master docker0");
    host.run("ip link set docker0 up");
    host.takes("docker0", "172.17.0.1/16");
    container.default_route("172.17.0.1");
    host.routes();
    let published = published
        .iter()
        .map(|matching| format!("fib daddr type local iifname lan0 {matching} dnat to {CONTAINER}"))
        .collect::<Vec<_>>()
        .join("; ");
    host.firewall(&format!(
        "table ip containers {{
           chain published {{ type nat hook prerouting priority dstnat; {published}; }}
           chain out {{
             type nat hook postrouting priority srcnat;
             ip saddr 172.17.0.0/16 oifname != docker0 masquerade
           }}
           chain between {{
             type filter hook forward priority filter; policy drop;
             iifname docker0 accept
             ct status dnat accept
             ct state established,related accept
           }}
         }}"
    ));
    (host, container)
}

/// Viewer and server, and between them a machine that lets nothing through but HTTP. Gives that machine
/// and the server's.
///
/// # Panics
/// When a machine of this name is there already.
#[must_use]
pub fn apart() -> (Host, Host) {
    let (viewer, relay, server) = (Host::viewer(), Host::new("relay"), Host::new("server"));
    link(
        (&viewer, "lan0", "203.0.113.10/24"),
        (&relay, "lan0", "203.0.113.1/24"),
    );
    link(
        (&relay, "lan1", "198.51.100.1/24"),
        (&server, "lan0", "198.51.100.20/24"),
    );
    viewer.default_route("203.0.113.1");
    server.default_route("198.51.100.1");
    relay.routes();
    relay.firewall(
        "table ip apart {
           chain through {
             type filter hook forward priority filter; policy drop;
             tcp dport 8083 accept
             tcp sport 8083 accept
           }
         }",
    );
    (relay, server)
}

/// The server at home behind a router, the viewer on the Internet. The router forwards HTTP of its address
/// 203.0.113.1, and media on port 8556 of its address 203.0.113.2. Gives the server's machine.
///
/// # Panics
/// When a machine of this name is there already.
#[must_use]
pub fn behind_router() -> Host {
    let (viewer, router, server) = (Host::viewer(), Host::new("router"), Host::new("server"));
    link(
        (&viewer, "lan0", "203.0.113.10/24"),
        (&router, "wan0", "203.0.113.1/24"),
    );
    router.takes("wan0", "203.0.113.2/24");
    link(
        (&router, "lan0", "192.168.77.1/24"),
        (&server, "lan0", "192.168.77.20/24"),
    );
    viewer.default_route("203.0.113.1");
    server.default_route(GATEWAY);
    router.routes();
    router.firewall(
        "table ip home {
           chain forwarded {
             type nat hook prerouting priority dstnat;
             iifname wan0 ip daddr 203.0.113.1 tcp dport 8083 dnat to 192.168.77.20
             iifname wan0 ip daddr 203.0.113.2 meta l4proto { tcp, udp } th dport 8556 dnat to 192.168.77.20
           }
           chain hidden { type nat hook postrouting priority srcnat; oifname wan0 masquerade; }
           chain kept_out {
             type filter hook forward priority filter; policy drop;
             iifname lan0 accept
             ct status dnat accept
             ct state established,related accept
           }
         }",
    );
    server
}
