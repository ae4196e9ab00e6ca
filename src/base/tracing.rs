//! Log set-up, done once by `main`.

use tracing_subscriber::{EnvFilter, fmt};

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only what somebody must act on.
    Error,
    /// Also what is degraded.
    Warn,
    /// Also each life that begins or ends: cameras, viewers.
    #[default]
    Info,
    /// Also each step of a protocol.
    Debug,
    /// Also each frame.
    Trace,
}

/// Sends logs of this program at `level` to standard error.
///
/// Libraries stay at errors: their lower levels print whole protocol messages, which carry
/// credentials.
pub fn start(level: Level) {
    let own = format!("{level:?}").to_lowercase();
    let libraries = if level == Level::Error {
        "off"
    } else {
        "error"
    };
    // Anybody can send what is no HTTP, which that library tells as an error.
    let filter = EnvFilter::new(format!("{libraries},actix_http=off,porthole={own}"));
    fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}
