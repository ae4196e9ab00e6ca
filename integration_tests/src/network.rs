//! Networks between server and viewer: homes, routers, containers, firewalls and long wires.
//!
//! ```no_run
//! # async fn example() {
//! use integration_tests::network::{Host, Server, isolated, link};
//! isolated("example", async || {
//!     let (viewer, server) = (Host::viewer(), Host::new("server"));
//!     link((&viewer, "lan0", "192.168.77.10/24"), (&server, "lan0", "192.168.77.20/24"));
//!     let server = Server::start(&server, &[]).await;
//! })
//! .await;
//! # }
//! ```

mod host;
mod service;
pub mod topology;
mod view;
mod wire;

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

pub use host::{Host, link};
pub use service::{Process, Proxy, Server, Turn};
pub use view::{View, quiet_page, settings};
pub use wire::Wire;

/// Names the test that a process runs in namespaces of its own.
const INSIDE: &str = "ISOLATED_TEST";

/// Of one test, so that one that hangs does not hold up the others. Half a minute more than its window
/// for a test that watches for longer.
const LIMIT: Duration = Duration::from_mins(2);

/// Of `unshare`: namespaces that end, with all that was made in them, when the test's process ends,
/// however it ends.
const OWN_NAMESPACES: &[&str] = &[
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// Runs a test where nothing but loopback can be reached, and nobody is disturbed by what it does to
/// interfaces and routes. `test` is the path of the calling test, as `cargo test -- --list` has it.
///
/// The test program starts itself again for this, with namespaces for network, mounts and processes of
/// its own; there it comes here a second time and runs `body`.
///
/// # Panics
/// When the test fails, with its output; or when it takes longer than two minutes.
pub async fn isolated(test: &str, body: impl AsyncFnOnce()) {
    isolated_for(test, Duration::ZERO, body).await;
}

/// The same for a test that watches for `window`, and may take that much longer.
///
/// # Panics
/// As [`isolated`] does.
pub async fn isolated_for(test: &str, window: Duration, body: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).as_deref() == Some(OsStr::new(test)) {
        furnish();
        body().await;
        return;
    }
    let _machine = crate::alone().await;
    let program = std::env::current_exe().expect("a program has a path");
    let run = Command::new("unshare")
        .args(OWN_NAMESPACES)
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT + window, run)
        .await
        .unwrap_or_else(|_| panic!("{test} takes longer than {:?}", LIMIT + window))
        .expect("unshare can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    // No test of this name would be a success otherwise.
    let passed = output.status.success() && said.contains("1 passed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(passed, "{test} failed:\n{said}\n{errors}");
    say(errors.trim_end());
}

/// Whether this machine can make networks, and has what stands in them.
///
/// # Panics
/// When it has not and this is CI; elsewhere it says what is missing.
#[must_use]
pub fn installed() -> bool {
    let has = crate::tools::has;
    let mut namespaces = OWN_NAMESPACES.to_vec();
    namespaces.push("true");
    has("unshare", &namespaces, "util-linux, and wants to be root")
        && has("ip", &["-Version"], "iproute2")
        && has("nft", &["--version"], "nftables")
}

/// Makes the new namespaces a place to live in: loopback, a folder for the names of more of them, and no
/// way to ask any name server.
fn furnish() {
    let viewer = Host::viewer();
    viewer.run("mount -t tmpfs tmpfs /run");
    viewer.run("ip link set lo up");
    Host::knows_names(&[]);
    if Path::new("/etc/resolv.conf").exists() {
        viewer.run("mount --bind /dev/null /etc/resolv.conf");
    }
}

/// Tells the person who runs the tests.
#[expect(
    clippy::print_stderr,
    reason = "the person who runs the tests reads it there"
)]
pub fn say(text: &str) {
    eprintln!("{text}");
}
