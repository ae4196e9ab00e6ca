//! The command line and the environment variables that stand for it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::Layer;
use crate::base::{Error, tracing::Level};

/// Any IP camera, live in any browser: serves RTSP cameras over WebRTC.
///
/// With no option at all it serves the built-in demo camera, and any rtsp:// URL that a client
/// sends, on port 8083.
#[derive(Debug, Clone, Default, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Where HTTP listens [default: all interfaces, port 8083]
    #[arg(long, env = "PORTHOLE_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// Where media listens, UDP and TCP [default: all interfaces, port 8555]
    #[arg(long, env = "PORTHOLE_MEDIA_LISTEN", value_name = "ADDR:PORT")]
    pub media_listen: Option<String>,

    /// A public address of the media port: IP, IP:PORT, NAME, NAME:PORT or stun:HOST; repeatable
    #[arg(
        long = "media-address",
        env = "PORTHOLE_MEDIA_ADDRESSES",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    pub media_addresses: Vec<String>,

    /// How much to log, to standard error [default: info]
    #[arg(long, env = "PORTHOLE_LOG", value_name = "LEVEL", global = true)]
    pub log: Option<Level>,

    /// A file of YAML or JSON with named cameras and settings; RTSPtoWebRTC's config.json works too
    #[arg(long, env = "PORTHOLE_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// A folder in which cameras that clients register outlive a restart [default: they do not]
    #[arg(long, env = "PORTHOLE_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

/// What this program does beside serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Look at one camera: what it sends, what browsers play of it, and what to change
    ///
    /// Takes 4 to 15 seconds and has at most one connection to the camera at any time. The report goes to
    /// standard output. Exit codes: 0 browsers play the camera, 1 they do not, or it cannot be reached,
    /// 64 there is no such camera or option.
    Probe(ProbeArguments),
}

/// What to look at, and how to tell it.
#[derive(Debug, Clone, Args)]
pub struct ProbeArguments {
    /// A camera's URL, or the name of one in the file of --config
    #[arg(value_name = "URL|NAME")]
    pub camera: String,

    /// Report as JSON, and say nothing meanwhile
    #[arg(long)]
    pub json: bool,
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
        let mut addresses = self.media_addresses;
        // What an empty variable is split into.
        addresses.retain(|address| !address.trim().is_empty());
        let typed = Layer {
            listen: self.listen,
            media_listen: self.media_listen,
            media_addresses: Some(addresses).filter(|some| !some.is_empty()),
            log: self.log,
            data: self.data,
            ..Layer::default()
        };
        Ok([file, typed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_addresses_are_repeated_or_separated_by_commas() {
        let layers = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(std::iter::once(&"porthole").chain(arguments)).unwrap();
            let [_, typed] = cli.layers().unwrap();
            typed.media_addresses
        };
        let expected = Some(vec!["192.0.2.1".to_owned(), "stun:h".to_owned()]);
        let repeated = ["--media-address", "192.0.2.1", "--media-address", "stun:h"];
        assert_eq!(layers(&repeated), expected);
        assert_eq!(layers(&["--media-address", "192.0.2.1,stun:h"]), expected);
        assert_eq!(layers(&["--media-address", ""]), None);
        assert_eq!(layers(&[]), None);
    }
}
