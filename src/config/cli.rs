//! The command line and the environment variables that stand for it.

use std::path::PathBuf;

use clap::Parser;

use super::Layer;
use crate::base::{Error, tracing::Level};

/// Any IP camera, live in any browser: serves RTSP cameras over WebRTC.
///
/// With no option at all it serves the built-in demo camera, and any rtsp:// URL that a client
/// sends, on port 8083.
#[derive(Debug, Clone, Default, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// Where HTTP listens [default: all interfaces, port 8083]
    #[arg(long, env = "PORTHOLE_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// How much to log, to standard error [default: info]
    #[arg(long, env = "PORTHOLE_LOG", value_name = "LEVEL")]
    pub log: Option<Level>,

    /// A file of YAML or JSON with named cameras and settings; RTSPtoWebRTC's config.json works too
    #[arg(long, env = "PORTHOLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Cli {
    /// The layers that were asked for, in rising order of weight: the file, then the command line.
    ///
    /// # Errors
    /// `InvalidArgument` when the file cannot be read.
    pub fn layers(self) -> Result<[Layer; 2], Error> {
        let file = self
            .config
            .as_deref()
            .map_or_else(|| Ok(Layer::default()), Layer::read)?;
        let typed = Layer {
            listen: self.listen,
            log: self.log,
            ..Layer::default()
        };
        Ok([file, typed])
    }
}
