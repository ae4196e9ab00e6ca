//! What clients send of streams and channels, and what is listed of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, SourceText},
    config::Camera,
    source,
};

/// A stream as clients send it. What is not named here they may send as well, the stream's own name
/// among it: the path names it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamBody {
    pub(super) channels: Option<BTreeMap<String, ChannelBody>>,
}

/// A channel as clients send it. What an edit leaves out stays as it is.
///
/// For a new channel both absent flags mean true, where the original takes them for false: Home
/// Assistant's client sends neither, and its users expect cameras that are closed while nobody watches,
/// and their sound.
#[derive(Deserialize)]
pub(super) struct ChannelBody {
    #[serde(default)]
    url: String,
    on_demand: Option<bool>,
    audio: Option<bool>,
}

impl std::fmt::Debug for ChannelBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may have a password.
        f.write_str("ChannelBody(***)")
    }
}

/// A stream as it is listed.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) channels: BTreeMap<u32, Channel>,
}

/// A channel as it is listed. The original leaves out what is false or 0.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Channel {
    /// As it was written if it has no credentials, which clients compare with what they have.
    url: String,
    #[serde(skip_serializing_if = "is_zero")]
    on_demand: bool,
    #[serde(skip_serializing_if = "is_zero")]
    audio: bool,
    /// 1 while media flows.
    #[serde(skip_serializing_if = "is_zero")]
    status: u8,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ChannelBody {
    /// The camera that this asks for, of one that is there as `before` or not yet.
    ///
    /// # Errors
    /// `InvalidArgument` for a URL that nothing opens.
    pub(super) fn camera(&self, before: Option<&Camera>) -> Result<Camera, Error> {
        let url = self.url.as_str();
        let same = |before: &&Camera| {
            // A client may send what it was shown, or the whole URL; other forms of the camera, which
            // another dialect may have given, stay then.
            let asked = SourceText::parse(url).ok();
            url.is_empty() || shown(before) == url || {
                asked.is_some_and(|asked| asked.camera() == Some(&before.url))
            }
        };
        let mut camera = match before.filter(same) {
            Some(before) => before.clone(),
            None => Camera::from_sources(&[url])?,
        };
        source::open(&camera.url)?;
        let on_demand = before.is_none_or(|before| before.on_demand);
        camera.on_demand = self.on_demand.unwrap_or(on_demand);
        let audio = before.is_none_or(|before| before.audio);
        camera.audio = self.audio.unwrap_or(audio);
        Ok(camera)
    }
}

impl Channel {
    /// Of a camera; `status` is 1 while media flows.
    pub(super) fn of(camera: &Camera, status: u8) -> Self {
        Self {
            url: shown(camera),
            on_demand: camera.on_demand,
            audio: camera.audio,
            status,
        }
    }
}

/// The URL of a camera, without its credentials.
fn shown(camera: &Camera) -> String {
    let mut sources = camera.sources.iter();
    let written = sources.find(|source| source.camera() == Some(&camera.url));
    written.map_or_else(|| camera.url.to_string(), ToString::to_string)
}
