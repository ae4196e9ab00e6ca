//! What the tests share on one machine: programs of others, and the machine itself.

use std::process::{Command, Stdio};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The machine for one test: decoding video in several tests at once would measure the machine.
#[derive(Debug)]
#[must_use = "the machine is given back when this is dropped"]
pub struct Alone {
    _permit: SemaphorePermit<'static>,
}

/// Waits until no other test of this process runs that asked for this.
///
/// # Panics
/// Never.
pub async fn alone() -> Alone {
    static MACHINE: Semaphore = Semaphore::const_new(1);
    Alone {
        _permit: MACHINE.acquire().await.expect("nobody closes it"),
    }
}

/// Whether a program can be run with these arguments.
///
/// # Panics
/// When it cannot and this is CI (`CI` is set); elsewhere it says what is not tested for lack of
/// which Debian `packages`.
#[must_use]
pub fn has(program: &str, arguments: &[&str], packages: &str) -> bool {
    let found = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        let text = format!("{program} does not run here, it comes with {packages}");
        assert!(std::env::var_os("CI").is_none(), "{text}");
        say(&format!("NOT TESTED: {text}"));
    }
    found
}

#[expect(
    clippy::print_stderr,
    reason = "the person who runs the tests reads it there"
)]
fn say(text: &str) {
    eprintln!("{text}");
}
