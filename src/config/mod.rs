//! [`Config`]: checked and typed. If it exists, it is usable.

pub mod cli;
pub mod file;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::base::{Error, ErrorKind, SourceUrl, tracing::Level};

pub use cli::Cli;
pub use file::Layer;

/// Where HTTP listens unless told otherwise: the port of RTSPtoWebRTC, which Home Assistant's
/// documentation names.
const HTTP_PORT: u16 = 8083;

/// How long a camera stays connected after its last viewer. Long enough for a page flip, short
/// enough not to disturb a camera with room for one.
const LINGER: Duration = Duration::from_secs(10);

/// The name of the built-in camera.
pub const DEMO: &str = "demo";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where HTTP listens.
    pub listen: Listen,
    /// How much is logged.
    pub log: Level,
    /// Origins of web pages, beside our own, that may use the API. `*` means any.
    pub allowed_origins: Vec<String>,
    /// Names by which this server may be called, beside those of a private network.
    pub allowed_hosts: Vec<String>,
    /// Cameras with a name.
    pub cameras: BTreeMap<String, Camera>,
    /// How long a camera stays connected after its last viewer.
    pub linger: Duration,
}

/// Where HTTP listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Every address of this machine, IPv6 too if it has it.
    Everywhere(u16),
    /// This one.
    At(SocketAddr),
}

impl Listen {
    /// The addresses to bind, of which the first that can be had is enough.
    #[must_use]
    pub fn addresses(self) -> Vec<SocketAddr> {
        match self {
            // The first takes IPv4 too; the second is for machines without IPv6.
            Self::Everywhere(port) => vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ],
            Self::At(address) => vec![address],
        }
    }
}

/// A camera with a name.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Where it is.
    pub url: SourceUrl,
    /// Whether it is closed while nobody watches.
    pub on_demand: bool,
    /// Whether its sound is sent.
    pub audio: bool,
}

impl Config {
    /// Checks what was typed and written, `layers` in rising order of weight.
    ///
    /// # Errors
    /// `InvalidArgument` with all faults at once, each with its key, value and what was expected.
    ///
    /// # Panics
    /// Never: the built-in camera's URL parses.
    pub fn from_layers(layers: impl IntoIterator<Item = Layer>) -> Result<Self, Error> {
        let layer = layers.into_iter().fold(Layer::default(), Layer::under);
        let mut faults = Vec::new();
        let listen = layer
            .listen
            .as_deref()
            .map_or(Ok(Listen::Everywhere(HTTP_PORT)), listen);
        let listen = listen.unwrap_or_else(|fault| {
            faults.push(fault);
            Listen::Everywhere(HTTP_PORT)
        });
        let mut cameras = BTreeMap::new();
        let demo = SourceUrl::parse("demo:").expect("a constant that parses");
        cameras.insert(
            DEMO.to_owned(),
            Camera {
                url: demo,
                on_demand: true,
                audio: true,
            },
        );
        for (name, camera) in layer.cameras.unwrap_or_default() {
            if !is_name(&name) {
                faults.push(format!(
                    "cameras: the name {name:?} should have 1 to 128 characters, none of them / ? # % \\"
                ));
                continue;
            }
            match SourceUrl::parse(&camera.url) {
                Ok(url) => {
                    let camera = Camera {
                        url,
                        on_demand: camera.on_demand.unwrap_or(true),
                        audio: camera.audio.unwrap_or(true),
                    };
                    cameras.insert(name, camera);
                }
                Err(e) => faults.push(format!("cameras.{name}.url: {e}")),
            }
        }
        if !faults.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, faults.join("\n")));
        }
        Ok(Self {
            listen,
            log: layer.log.unwrap_or_default(),
            allowed_origins: layer.allowed_origins.unwrap_or_default(),
            allowed_hosts: layer.allowed_hosts.unwrap_or_default(),
            cameras,
            linger: LINGER,
        })
    }
}

/// Reads `PORT`, `:PORT` or `ADDRESS:PORT`.
fn listen(text: &str) -> Result<Listen, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse();
    if let Ok(port) = port {
        return Ok(Listen::Everywhere(port));
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map(Listen::At).map_err(|_| {
        format!("listen: {text:?} should be a port, or an address and a port as in 0.0.0.0:8083")
    })
}

/// Whether `name` can stand in a path as one segment.
fn is_name(name: &str) -> bool {
    let strange = |c: char| c.is_control() || "/?#%\\".contains(c);
    (1..=128).contains(&name.len()) && !name.contains(strange) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, Error> {
        Config::from_layers([Layer::parse(text)?])
    }

    #[test]
    fn nothing_is_a_valid_configuration() {
        let config = config("").unwrap();
        assert_eq!(config.listen, Listen::Everywhere(8083));
        assert_eq!(config.cameras.keys().collect::<Vec<_>>(), ["demo"]);
    }

    #[test]
    fn later_layers_win_and_absent_values_change_nothing() {
        let file = Layer::parse("listen: 127.0.0.1:1\nlog: debug\n").unwrap();
        let cli = Layer {
            listen: Some(":2".to_owned()),
            ..Layer::default()
        };
        let config = Config::from_layers([file, cli]).unwrap();
        assert_eq!(
            (config.listen, config.log),
            (Listen::Everywhere(2), Level::Debug)
        );
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let error =
            config("listen: here\ncameras:\n  a/b: rtsp://h/x\n  c: nonsense\n").unwrap_err();
        let text = error.to_string();
        for part in ["listen", "a/b", "cameras.c.url"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn cameras_are_written_short_or_long() {
        let config = config(
            "cameras:\n  door: rtsp://h/x\n  yard:\n    url: rtsp://h/y\n    audio: false\n",
        )
        .unwrap();
        assert!(config.cameras["door"].audio && !config.cameras["yard"].audio);
    }
}
