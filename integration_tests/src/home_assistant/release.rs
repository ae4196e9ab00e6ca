//! [`Release`]: which Home Assistant.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// A release of Home Assistant that `integration_tests/run` installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 2024.3.3: knows the integration `rtsp_to_webrtc`, and a card that waits for all candidates.
    March2024,
    /// 2025.1.4: knows `rtsp_to_webrtc` and `go2rtc`. Not installed where there is no Python 3.13.
    January2025,
}

impl Release {
    /// As its makers write it.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::March2024 => "2024.3.3",
            Self::January2025 => "2025.1.4",
        }
    }

    /// Whether it is installed; if not, it says so.
    ///
    /// # Panics
    /// When it is not and this is CI, unless the machine lacks the Python for it.
    #[must_use]
    pub fn installed(self) -> bool {
        let name = format!("Home Assistant {}", self.version());
        (self == Self::March2024 || has_python_3_13(&self.folder(), &name))
            && crate::tools::has(
                &self.program().to_string_lossy(),
                &["--version"],
                &format!("{name}, which integration_tests/run installs"),
            )
    }

    pub(super) fn program(self) -> PathBuf {
        self.folder().join("bin/hass")
    }

    fn folder(self) -> PathBuf {
        crate::cache().join(format!("home_assistant_{}", self.version()))
    }
}

/// Whether an environment for Python 3.13 was begun; if not, it says what is not tested for lack of it.
///
/// No failure even in CI: Debian 12 has no such Python. Where there is one and the installation failed,
/// `integration_tests/run` has failed and left the folder.
#[must_use]
pub fn has_python_3_13(environment: &Path, what: &str) -> bool {
    let found = environment.is_dir();
    if !found {
        // Not `eprintln!`, which is shown of tests that fail.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: {what}, which integration_tests/run installs where there is Python 3.13"
        );
    }
    found
}
