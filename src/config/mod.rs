//! [`Config`]: checked and typed. If it exists, it is usable.

mod access;
pub mod cli;
pub mod file;
pub mod media;
mod programs;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use self::programs::Programs;
use crate::base::{Error, ErrorKind, SourceText, SourceUrl, tracing::Level};

pub use access::{Auth, RtspToWeb};
pub use cli::{Cli, Command, ProbeArguments};
pub use file::Layer;
pub use media::{HostPort, IceServer, IceService, IceUrl, MediaAddress, MediaListen};

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
    /// Where media listens.
    pub media_listen: MediaListen,
    /// Further addresses by which browsers reach the media port.
    pub media_addresses: Vec<MediaAddress>,
    /// STUN and TURN servers that Porthole itself uses.
    pub ice_servers: Vec<IceServer>,
    /// How much is logged.
    pub log: Level,
    /// Origins of web pages, beside our own, that may use the API. `*` means any.
    pub allowed_origins: Vec<String>,
    /// Names by which this server may be called, beside those of a private network.
    pub allowed_hosts: Vec<String>,
    /// Cameras with a name.
    pub cameras: BTreeMap<String, Camera>,
    /// Where cameras that clients have registered are kept over a restart; nowhere without it.
    pub data: Option<PathBuf>,
    /// Who may use the API; without it, everybody who reaches it.
    pub auth: Option<Auth>,
    /// The dialect of RTSPtoWeb, which is off without it.
    pub rtsp_to_web: Option<RtspToWeb>,
    /// How long a camera stays connected after its last viewer.
    pub linger: Duration,
    /// What in the files is not used, and why: sentences for the log, which starts later.
    pub notes: Vec<String>,
}

/// Where something listens.
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

    /// The port; 0 means any that is free.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Everywhere(port) => port,
            Self::At(address) => address.port(),
        }
    }

    /// The same place with the port that was found for it.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        match self {
            Self::Everywhere(_) => Self::Everywhere(port),
            Self::At(address) => Self::At(SocketAddr::new(address.ip(), port)),
        }
    }

    /// Whether the two cannot both be had.
    fn collides_with(self, other: Self) -> bool {
        let same_address = match (self, other) {
            (Self::At(a), Self::At(b)) => {
                a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified()
            }
            _ => true,
        };
        same_address && self.port() == other.port() && self.port() != 0
    }
}

/// A camera with a name.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Where it is: the first of its sources that is a camera, under which it is known.
    pub url: SourceUrl,
    /// Every source as it was written, `url` among them.
    pub sources: Vec<SourceText>,
    /// Whether it is closed while nobody watches.
    pub on_demand: bool,
    /// Whether its sound is sent.
    pub audio: bool,
}

impl Camera {
    /// A camera of `sources` as they were written, open while somebody watches and with sound.
    ///
    /// # Errors
    /// `InvalidArgument` when none of them is a camera's URL, or one is nothing.
    pub fn from_sources<S: AsRef<str>>(sources: &[S]) -> Result<Self, Error> {
        let sources = sources
            .iter()
            .map(|text| SourceText::parse(text.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        Self::of(sources)
    }

    /// The same of sources that are read already.
    fn of(sources: Vec<SourceText>) -> Result<Self, Error> {
        let url = sources.iter().find_map(SourceText::camera).cloned();
        let url = url.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "none of the sources is a camera's URL; give one that looks like \
                 rtsp://user:password@host:554/path",
            )
        })?;
        Ok(Self {
            url,
            sources,
            on_demand: true,
            audio: true,
        })
    }
}

impl Camera {
    /// Where its sources are, in their order, each once: what is written as another form of one is the same.
    #[must_use]
    pub fn urls(&self) -> Vec<SourceUrl> {
        let mut urls = Vec::new();
        for url in self.sources.iter().filter_map(SourceText::camera) {
            if !urls.contains(url) {
                urls.push(url.clone());
            }
        }
        urls
    }
}

impl From<SourceUrl> for Camera {
    fn from(url: SourceUrl) -> Self {
        Self {
            sources: vec![url.clone().into()],
            url,
            on_demand: true,
            audio: true,
        }
    }
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
            .map_or(Ok(Listen::Everywhere(HTTP_PORT)), |text| {
                listen("listen", text)
            });
        let listen = listen.unwrap_or_else(|fault| {
            faults.push(fault);
            Listen::Everywhere(HTTP_PORT)
        });
        let media_listen =
            media::media_listen(layer.media_listen.as_deref()).unwrap_or_else(|fault| {
                faults.push(fault);
                MediaListen::default()
            });
        if !media_listen.is_default && listen.collides_with(media_listen.at) {
            faults.push(format!(
                "media_listen: HTTP listens on port {} already; choose another",
                listen.port()
            ));
        }
        let media_addresses = media::media_addresses(
            layer.media_addresses.as_deref().unwrap_or_default(),
            &mut faults,
        );
        let ice_servers = media::ice_servers(
            layer.ice_servers.as_deref().unwrap_or_default(),
            &mut faults,
        );
        let programs = Programs::new(layer.ffmpeg, layer.exec, &mut faults);
        let mut cameras = BTreeMap::new();
        let demo = SourceUrl::parse("demo:").expect("a constant that parses");
        cameras.insert(DEMO.to_owned(), Camera::from(demo));
        let written = layer.cameras.unwrap_or_default();
        let first_of = |name: &str| {
            let first = written.get(name)?.url.as_slice().first();
            first.map(String::as_str)
        };
        for (name, camera) in &written {
            if !is_name(name) {
                faults.push(format!(
                    "cameras: the name {name:?} should have 1 to 128 characters, none of them / ? # % \\"
                ));
                continue;
            }
            let sources = camera.url.as_slice().iter();
            let sources = sources.map(|text| programs.source(text, first_of));
            match sources.collect::<Result<_, _>>().and_then(Camera::of) {
                Ok(checked) => {
                    let camera = Camera {
                        on_demand: camera.on_demand.unwrap_or(true),
                        audio: camera.audio.unwrap_or(true),
                        ..checked
                    };
                    cameras.insert(name.clone(), camera);
                }
                Err(e) => faults.push(format!("cameras.{name}.url: {e}")),
            }
        }
        let auth = access::auth(layer.auth, &mut faults);
        let rtsp_to_web = access::rtsp_to_web(layer.rtsp_to_web, &mut faults);
        if !faults.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, faults.join("\n")));
        }
        let mut notes = layer.notes;
        if auth.is_none() && rtsp_to_web.as_ref().is_some_and(|on| on.login.is_some()) {
            notes.push(
                "rtsp_to_web has a login and the other APIs have none: whoever reaches them lists and \
                 registers the same cameras; give auth one, too"
                    .to_owned(),
            );
        }
        Ok(Self {
            listen,
            media_listen,
            media_addresses,
            ice_servers,
            log: layer.log.unwrap_or_default(),
            allowed_origins: layer.allowed_origins.unwrap_or_default(),
            allowed_hosts: layer.allowed_hosts.unwrap_or_default(),
            cameras,
            data: layer.data.filter(|folder| !folder.as_os_str().is_empty()),
            auth,
            rtsp_to_web,
            linger: LINGER,
            notes,
        })
    }
}

/// Reads `PORT`, `:PORT` or `ADDRESS:PORT`, the value of `key`.
fn listen(key: &str, text: &str) -> Result<Listen, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse();
    if let Ok(port) = port {
        return Ok(Listen::Everywhere(port));
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map(Listen::At).map_err(|_| {
        format!("{key}: {text:?} should be a port, or an address and a port as in 0.0.0.0:8083")
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
        assert_eq!(config.media_listen.at, Listen::Everywhere(8555));
        assert!(config.media_listen.is_default && config.media_addresses.is_empty());
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
        let error = config(
            "listen: here\nmedia_listen: there\nmedia_addresses: [a b]\nice_servers: [{urls: x}]\n\
             cameras:\n  a/b: rtsp://h/x\n  c: nonsense\n",
        )
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "\nmedia_listen",
            "media_addresses",
            "ice_servers[0].urls[0]",
            "a/b",
            "cameras.c.url",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn media_and_http_cannot_share_a_port() {
        assert!(config("listen: 8555").is_ok(), "the default yields");
        assert!(config("media_listen: 8083").is_err());
        assert!(config("listen: 127.0.0.1:9\nmedia_listen: 192.0.2.1:9").is_ok());
        assert!(config("listen: 0\nmedia_listen: 0").is_ok());
        let config = config("media_listen: 127.0.0.1:9").unwrap();
        assert!(!config.media_listen.is_default);
    }

    #[test]
    fn ice_servers_keep_their_secrets() {
        let text = "ice_servers:\n  - urls: stun:a.example\n  - urls: [turn:b.example, turns:b.example]\n    \
                    username: me\n    credential: hunter2\n";
        let checked = config(text).unwrap();
        let turn = &checked.ice_servers[1];
        assert_eq!(turn.urls.len(), 2);
        let credentials = turn.credentials.as_ref().unwrap();
        assert_eq!(credentials.password.reveal(), "hunter2");
        let shown = format!("{checked:?}{:?}", Layer::parse(text).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        for text in [
            "ice_servers: [{urls: turn:b.example}]",
            "ice_servers: [{urls: 'turn:me:hunter2@b.example'}]",
            "media_addresses: ['me:hunter2@b.example']",
            "ice_servers: [{urls: turn:b.example, username: me, credential: [hunter2]}]",
        ] {
            let error = config(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
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
