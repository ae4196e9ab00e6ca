//! [`Layer`]: one source of settings, every one of them optional, and how files are read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    access::{AuthLayer, RtspToWebLayer},
    media::{IceServerLayer, IceUrl, OneOrMore},
};
use crate::base::{Error, ErrorKind, tracing::Level};

/// Largest configuration file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Settings from one place, unchecked. What is absent there changes nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Where HTTP listens.
    pub listen: Option<String>,
    /// Where media listens.
    pub media_listen: Option<String>,
    /// Further addresses by which browsers reach the media port.
    pub media_addresses: Option<Vec<String>>,
    /// STUN and TURN servers.
    pub ice_servers: Option<Vec<IceServerLayer>>,
    /// How much is logged.
    pub log: Option<Level>,
    /// Origins of web pages, beside our own, that may use the API.
    pub allowed_origins: Option<Vec<String>>,
    /// Names by which this server may be called, beside those of a private network.
    pub allowed_hosts: Option<Vec<String>>,
    /// Cameras with a name.
    pub cameras: Option<BTreeMap<String, CameraLayer>>,
    /// The program that cameras beginning with `ffmpeg:` are read by, and pieces of its command line.
    pub ffmpeg: Option<FfmpegLayer>,
    /// Whether cameras may be commands.
    pub exec: Option<bool>,
    /// Where cameras that clients have registered are kept.
    pub data: Option<PathBuf>,
    /// Who may use the API.
    pub auth: Option<AuthLayer>,
    /// The dialect of RTSPtoWeb.
    pub rtsp_to_web: Option<RtspToWebLayer>,
    /// What is not used, and why.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// A camera as it is written: a URL, or a map with one.
#[derive(Clone, Deserialize)]
#[serde(from = "Written")]
pub struct CameraLayer {
    /// Where it is, with its credentials; perhaps other forms of it.
    pub url: OneOrMore,
    /// Whether it is closed while nobody watches.
    pub on_demand: Option<bool>,
    /// Whether its sound is sent.
    pub audio: Option<bool>,
}

impl std::fmt::Debug for CameraLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CameraLayer(***)")
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a camera should be a URL, a list of them, or a map with `url` and perhaps `on_demand`, `audio`"
)]
enum Written {
    Short(OneOrMore),
    Long(LongCamera),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongCamera {
    #[serde(alias = "sources")]
    url: OneOrMore,
    on_demand: Option<bool>,
    audio: Option<bool>,
}

impl From<Written> for CameraLayer {
    fn from(written: Written) -> Self {
        match written {
            Written::Short(url) => Self {
                url,
                on_demand: None,
                audio: None,
            },
            Written::Long(long) => Self {
                url: long.url,
                on_demand: long.on_demand,
                audio: long.audio,
            },
        }
    }
}

/// Pieces of ffmpeg's command line by their names.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct FfmpegLayer(pub(super) BTreeMap<String, String>);

impl std::fmt::Debug for FfmpegLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FfmpegLayer(***)")
    }
}

/// The keys by which RTSPtoWebRTC's own file is known.
#[derive(Default, Deserialize)]
struct Probe {
    server: Option<IgnoredAny>,
    streams: Option<IgnoredAny>,
}

/// RTSPtoWebRTC's `config.json`. It holds more, written by accident; unknown keys are passed over.
#[derive(Default, Deserialize)]
struct Foreign {
    #[serde(default)]
    server: ForeignServer,
    #[serde(default)]
    streams: BTreeMap<String, ForeignStream>,
}

#[derive(Default, Deserialize)]
struct ForeignServer {
    http_port: Option<String>,
    ice_servers: Option<Vec<String>>,
    ice_username: Option<String>,
    ice_credential: Option<String>,
    webrtc_port_min: Option<u16>,
    webrtc_port_max: Option<u16>,
}

impl ForeignServer {
    /// Its servers, and what of them and of the ports is not used. A file that has served for
    /// years is no reason not to start.
    fn ice(&self) -> (Vec<IceServerLayer>, Vec<String>) {
        let mut notes = Vec::new();
        let has_login = [&self.ice_username, &self.ice_credential]
            .iter()
            .all(|half| half.as_ref().is_some_and(|half| !half.is_empty()));
        let mut urls = Vec::new();
        for (i, text) in self.ice_servers.iter().flatten().enumerate() {
            match IceUrl::parse(text) {
                None => notes.push(format!(
                    "server.ice_servers[{i}] is not used: it should look like stun:host:3478 or \
                     turn:host:3478"
                )),
                Some(url) if url.service.is_turn() && !has_login => notes.push(format!(
                    "server.ice_servers[{i}] is not used: a TURN server needs ice_username and \
                     ice_credential"
                )),
                Some(_) => urls.push(text.clone()),
            }
        }
        let range = [self.webrtc_port_min, self.webrtc_port_max];
        if range.into_iter().flatten().any(|port| port != 0) {
            notes.push(
                "server.webrtc_port_min and webrtc_port_max are not used: one port serves all \
                 viewers, see media_listen"
                    .to_owned(),
            );
        }
        let servers = (!urls.is_empty()).then(|| IceServerLayer {
            urls: OneOrMore::More(urls),
            username: self.ice_username.clone(),
            credential: self.ice_credential.clone(),
        });
        (servers.into_iter().collect(), notes)
    }
}

#[derive(Deserialize)]
struct ForeignStream {
    url: String,
    #[serde(default)]
    on_demand: bool,
    #[serde(default)]
    disable_audio: bool,
}

impl From<Foreign> for Layer {
    fn from(foreign: Foreign) -> Self {
        let camera = |stream: ForeignStream| CameraLayer {
            url: OneOrMore::One(stream.url),
            on_demand: Some(stream.on_demand),
            audio: Some(!stream.disable_audio),
        };
        let cameras = foreign
            .streams
            .into_iter()
            .map(|(name, s)| (name, camera(s)));
        let (ice_servers, notes) = foreign.server.ice();
        Self {
            listen: foreign.server.http_port,
            ice_servers: Some(ice_servers),
            notes,
            cameras: Some(cameras.collect()),
            ..Self::default()
        }
    }
}

impl Layer {
    /// Reads a file of YAML or JSON, ours or RTSPtoWebRTC's.
    ///
    /// # Errors
    /// `InvalidArgument` with the place of the fault.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |e: std::io::Error| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("cannot read the configuration file {}: {e}", path.display()),
            )
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the configuration file {} is larger than 1 MiB",
                    path.display()
                ),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|e| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{}: {e}", path.display()),
            )
        })
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// `InvalidArgument` with line and column of the fault, without the text that stands there: it
    /// may be a password.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fault = |e: serde_saphyr::Error| {
            let place = e.location().map_or_else(String::new, |at| {
                format!("line {}, column {}: ", at.line(), at.column())
            });
            let what = e.without_snippet().to_string();
            // The library tells the place at the end of the sentence as well.
            let what = what.split(" at line ").next().unwrap_or_default();
            Error::new(ErrorKind::InvalidArgument, format!("{place}{what}"))
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let probe: Probe = serde_saphyr::from_str(text).unwrap_or_default();
        if probe.server.is_some() || probe.streams.is_some() {
            let foreign: Foreign = serde_saphyr::from_str(text).map_err(fault)?;
            return Ok(foreign.into());
        }
        serde_saphyr::from_str(text).map_err(fault)
    }

    /// This layer under `over`: what `over` has wins.
    #[must_use]
    pub fn under(mut self, over: Self) -> Self {
        self.notes.extend(over.notes);
        Self {
            listen: over.listen.or(self.listen),
            media_listen: over.media_listen.or(self.media_listen),
            media_addresses: over.media_addresses.or(self.media_addresses),
            ice_servers: over.ice_servers.or(self.ice_servers),
            notes: self.notes,
            log: over.log.or(self.log),
            allowed_origins: over.allowed_origins.or(self.allowed_origins),
            allowed_hosts: over.allowed_hosts.or(self.allowed_hosts),
            cameras: over.cameras.or(self.cameras),
            ffmpeg: over.ffmpeg.or(self.ffmpeg),
            exec: over.exec.or(self.exec),
            data: over.data.or(self.data),
            auth: over.auth.or(self.auth),
            rtsp_to_web: over.rtsp_to_web.or(self.rtsp_to_web),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_rtsptowebrtc_is_understood() {
        let text = r#"{
          "server": {"http_port": ":8084", "ice_servers": ["stun:x:1"], "webrtc_port_min": 0},
          "streams": {
            "front": {"url": "rtsp://u:p@h/1", "on_demand": true, "disable_audio": true, "debug": false},
            "back": {"url": "rtsp://h/2", "Codecs": null, "Cl": {}}
          },
          "LastError": null
        }"#;
        let layer = Layer::parse(text).unwrap();
        assert_eq!(layer.listen.as_deref(), Some(":8084"));
        let cameras = layer.cameras.unwrap();
        assert_eq!(
            (cameras["front"].on_demand, cameras["front"].audio),
            (Some(true), Some(false))
        );
        assert_eq!(
            (cameras["back"].on_demand, cameras["back"].audio),
            (Some(false), Some(true))
        );
    }

    #[test]
    fn the_ice_servers_of_rtsptowebrtc_are_used_and_its_port_range_is_not() {
        let text = r#"{
          "server": {
            "ice_servers": ["stun:x.example", "turn:y.example", "nonsense"],
            "ice_username": "me", "ice_credential": "hunter2",
            "webrtc_port_min": 60000, "webrtc_port_max": 61000
          },
          "streams": {}
        }"#;
        let config = crate::config::Config::from_layers([Layer::parse(text).unwrap()]).unwrap();
        let [server] = &config.ice_servers[..] else {
            panic!("{:?}", config.ice_servers)
        };
        assert_eq!(server.urls.len(), 2);
        assert!(server.credentials.is_some());
        let notes = config.notes.join("\n");
        assert!(
            notes.contains("ice_servers[2]") && notes.contains("webrtc_port_min"),
            "{notes}"
        );
        let text = r#"{"server": {"ice_servers": ["turn:y.example"], "webrtc_port_min": 0}}"#;
        let layer = Layer::parse(text).unwrap();
        assert!(layer.ice_servers.unwrap().is_empty());
        assert_eq!(layer.notes.len(), 1);
    }

    #[test]
    fn a_camera_that_is_none_is_told_what_it_should_be() {
        let error = Layer::parse("cameras:\n  a: rtsp://h/x\n  b: {c: 1}\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("line 3") && text.contains("a map with `url`"),
            "{text}"
        );
        assert!(!text.contains("Written"), "{text}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_without_its_text() {
        let error = Layer::parse("listen: :1\nlisten_to: rtsp://u:hunter2@h\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("line 2") && text.contains("listen_to"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}
