//! [`Host`]: a machine in a network, that is, a network namespace.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// A machine with interfaces, routes and a firewall of its own.
///
/// It lives as long as the test's process, see [`super::isolated`].
#[derive(Debug, Clone)]
pub struct Host {
    /// None for the viewer's, where the test itself runs and with it Chromium.
    name: Option<String>,
}

impl Host {
    /// The machine that the test, its cameras and its browser run on.
    #[must_use]
    pub fn viewer() -> Self {
        Self { name: None }
    }

    /// A further machine, with loopback and nothing else.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::viewer().run(&format!("ip netns add {name}"));
        let host = Self {
            name: Some(name.to_owned()),
        };
        host.run("ip link set lo up");
        host
    }

    /// Gives all machines the same names for addresses, as by `/etc/hosts`. To be called before
    /// programs are started on them.
    ///
    /// # Panics
    /// When the file cannot be replaced, in this test's view of it.
    pub fn knows_names(names: &[(&str, &str)]) {
        let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for (address, name) in names {
            text.push_str(address);
            text.push(' ');
            text.push_str(name);
            text.push('\n');
        }
        std::fs::write("/run/hosts", text).expect("/run is the test's own");
        Self::viewer().run("mount --bind /run/hosts /etc/hosts");
    }

    /// A command to run on this machine. What becomes of the process is up to the caller; its id is
    /// that of the program.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let Some(name) = &self.name else {
            return Command::new(program);
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, program]);
        command
    }

    /// Runs a command, whose words contain no spaces, to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, line: &str) {
        self.run_with(line, "");
    }

    /// Adds rules to the firewall, in the language of `nft`.
    ///
    /// # Panics
    /// When it does not take them.
    pub fn firewall(&self, rules: &str) {
        self.run_with("nft -f -", rules);
    }

    /// Passes packets on from one interface to another.
    ///
    /// # Panics
    /// When the kernel cannot be told so.
    pub fn routes(&self) {
        self.run_with(
            "tee /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
            "1",
        );
    }

    /// The way to everywhere else, through `gateway`, whether or not there is one.
    ///
    /// # Panics
    /// When the gateway's address is in none of the host's networks.
    pub fn default_route(&self, gateway: &str) {
        self.run(&format!("ip route add default via {gateway}"));
    }

    /// Whether something listens on this port of `tcp` or `udp`.
    ///
    /// # Panics
    /// When the kernel cannot be asked.
    #[must_use]
    pub fn listens(&self, transport: &str, port: u16) -> bool {
        let kind = if transport == "tcp" { "-Htnl" } else { "-Hunl" };
        !self
            .run_with(&format!("ss {kind} sport = :{port}"), "")
            .is_empty()
    }

    /// Puts an interface of this machine on another one, where it has this name and address.
    pub(super) fn gives(&self, interface: &str, to: &Self, as_name: &str, address: &str) {
        if let Some(name) = &to.name {
            self.run(&format!("ip link set {interface} netns {name}"));
        }
        to.run(&format!("ip link set {interface} name {as_name}"));
        to.run(&format!("ip link set {as_name} up"));
        to.takes(as_name, address);
    }

    /// Gives an interface an address, with the length of its prefix.
    ///
    /// # Panics
    /// When the host has no such interface, or this address already.
    pub fn takes(&self, interface: &str, address: &str) {
        // Without a second of waiting for somebody who has the same one.
        let family = if address.contains(':') { " nodad" } else { "" };
        self.run(&format!("ip address add {address} dev {interface}{family}"));
    }

    fn run_with(&self, line: &str, input: &str) -> String {
        let mut words = line.split_whitespace();
        let mut process = self
            .command(words.next().expect("a program"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut stdin = process.stdin.take().expect("piped");
        // One that does not read its input says why in its own words.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = process
            .wait_with_output()
            .expect("a child can be waited for");
        assert!(
            output.status.success(),
            "{line}, on {}: {}",
            self.name.as_deref().unwrap_or("the viewer"),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Lays a cable between two machines: for each, its interface and the address there.
///
/// # Panics
/// When one of them has an interface of this name.
pub fn link(one: (&Host, &str, &str), other: (&Host, &str, &str)) {
    let viewer = Host::viewer();
    viewer.run("ip link add end0 type veth peer name end1");
    viewer.gives("end0", one.0, one.1, one.2);
    viewer.gives("end1", other.0, other.1, other.2);
}
