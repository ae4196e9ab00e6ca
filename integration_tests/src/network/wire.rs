//! [`Wire`]: a cable on which packets take their time, and some never arrive.

use std::time::Duration;

use super::{Host, Process};

/// Debian's interpreter, as for cameras.
const PYTHON: &str = "/usr/bin/python3";

/// A long cable between two machines, cut when dropped.
#[derive(Debug)]
pub struct Wire {
    process: Process,
}

impl Wire {
    /// Lays it between the viewer and another machine, as [`super::link`] does. Each packet takes
    /// `delay`, in each direction; of those of UDP, `loss` percent are lost, the same ones in each run.
    ///
    /// # Panics
    /// When this machine cannot make TAP devices.
    pub async fn lay(
        viewer: (&str, &str),
        other: (&Host, &str, &str),
        delay: Duration,
        loss: u32,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = Host::viewer().command(PYTHON);
        command
            .arg(crate::folder().join("src/network/wire.py"))
            .args(["--device", "end0", "--device", "end1"])
            .arg(format!("--delay={}", delay.as_secs_f64()))
            .arg(format!("--loss={}", f64::from(loss) / 100.0));
        let process = Process::start(command, folder);
        crate::eventually("the wire is laid", Duration::from_secs(5), async || {
            let log = process.log();
            if log.contains("ready") {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await;
        let here = Host::viewer();
        here.gives("end0", &here, viewer.0, viewer.1);
        here.gives("end1", other.0, other.1, other.2);
        Self { process }
    }

    /// What it carried and lost until a second ago, and how late it was at worst.
    #[must_use]
    pub fn account(&self) -> String {
        let log = self.process.log();
        log.lines().last().unwrap_or_default().to_owned()
    }

    /// Whether this machine can have one.
    ///
    /// # Panics
    /// When it cannot and this is CI; elsewhere it says so.
    #[must_use]
    pub fn installed() -> bool {
        let opens = "open('/dev/net/tun', 'r+b', buffering=0)";
        crate::tools::has(
            PYTHON,
            &["-c", opens],
            "python3 and the kernel's module tun",
        )
    }
}
