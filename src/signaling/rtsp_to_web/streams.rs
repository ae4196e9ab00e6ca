//! [`Streams`]: the registry as streams of channels.

use std::collections::BTreeMap;

use super::{
    body::{Channel, ChannelBody, Stream, StreamBody},
    envelope::Fault,
};
use crate::{
    base::{Error, ErrorKind},
    config::Camera,
    context::Context,
    hub::State,
    registry::Put,
    signaling::Target,
};

/// The registered cameras, seen as streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams<'a> {
    context: &'a Context,
}

impl<'a> Streams<'a> {
    pub(super) fn of(context: &'a Context) -> Self {
        Self { context }
    }

    /// All streams by name. The built-in camera is left out: a server where nobody has added anything
    /// is empty.
    pub(super) fn list(self) -> BTreeMap<String, Stream> {
        let mut streams = BTreeMap::<_, Stream>::new();
        let status = self.status();
        for named in self.context.registry.list() {
            if named.is_built_in() {
                continue;
            }
            let (id, number) = stream_of(&named.name);
            let stream = streams.entry(id.to_owned()).or_default();
            id.clone_into(&mut stream.name);
            let channel = Channel::of(&named.camera, status(&named.camera));
            stream.channels.insert(number, channel);
        }
        streams
    }

    /// One of them.
    pub(super) fn info(self, id: &str) -> Result<Stream, Fault> {
        let found = self.cameras(id);
        if found.is_empty() {
            return Err(Fault::StreamNotFound);
        }
        let status = self.status();
        let channels = found.iter();
        let channels =
            channels.map(|(number, camera)| (*number, Channel::of(camera, status(camera))));
        Ok(Stream {
            name: id.to_owned(),
            channels: channels.collect(),
        })
    }

    /// One channel, as it is listed.
    pub(super) fn channel_info(self, id: &str, channel: &str) -> Result<Channel, Fault> {
        let target = self.channel(id, channel)?;
        Ok(Channel::of(&target.camera, self.status()(&target.camera)))
    }

    /// One channel, to be played.
    pub(super) fn channel(self, id: &str, channel: &str) -> Result<Target, Fault> {
        let name = number(channel).map(|number| name_of(id, number));
        let found = name.and_then(|name| {
            let camera = self.context.registry.get(&name)?;
            Some(Target { name, camera })
        });
        found.ok_or_else(|| self.missing(id))
    }

    /// A new stream with its channels: all of them or none.
    pub(super) fn add(self, id: &str, body: &StreamBody) -> Result<(), Fault> {
        if !self.cameras(id).is_empty() {
            return Err(Fault::StreamExists);
        }
        let channels = prepared(body, &BTreeMap::new())?;
        for (number, camera) in &channels {
            if let Err(fault) = self.put(id, *number, camera) {
                for before in channels.keys().take_while(|before| *before < number) {
                    // It was put a moment ago, or somebody else has removed it.
                    let _ = self.context.registry.remove(&name_of(id, *before));
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Changes these channels of a stream. Others stay, unlike in the original, where they go: clients name
    /// the first one alone whenever they see its password masked.
    pub(super) fn edit(self, id: &str, body: &StreamBody) -> Result<(), Fault> {
        let before = self.cameras(id);
        if before.is_empty() {
            return Err(Fault::StreamNotFound);
        }
        let channels = prepared(body, &before)?;
        for (number, camera) in &channels {
            self.put(id, *number, camera)?;
        }
        Ok(())
    }

    /// Forgets a stream with all its channels; who watches goes on watching.
    pub(super) fn delete(self, id: &str) -> Result<(), Fault> {
        let found = self.cameras(id);
        if found.is_empty() {
            return Err(Fault::StreamNotFound);
        }
        for number in found.keys() {
            self.context.registry.remove(&name_of(id, *number))?;
        }
        Ok(())
    }

    /// A new channel of a stream that is there.
    pub(super) fn add_channel(
        self,
        id: &str,
        channel: &str,
        body: &ChannelBody,
    ) -> Result<(), Fault> {
        let found = self.cameras(id);
        let number = checked(channel)?;
        if found.is_empty() {
            return Err(Fault::StreamNotFound);
        }
        if found.contains_key(&number) {
            return Err(Fault::ChannelExists);
        }
        self.put(id, number, &body.camera(None)?)
    }

    /// Changes a channel.
    pub(super) fn edit_channel(
        self,
        id: &str,
        channel: &str,
        body: &ChannelBody,
    ) -> Result<(), Fault> {
        let before = self.channel(id, channel)?.camera;
        self.put(id, checked(channel)?, &body.camera(Some(&before))?)
    }

    /// Forgets a channel, and the stream with its last one.
    pub(super) fn delete_channel(self, id: &str, channel: &str) -> Result<(), Fault> {
        let target = self.channel(id, channel)?;
        Ok(self.context.registry.remove(&target.name)?)
    }

    fn put(self, id: &str, number: u32, camera: &Camera) -> Result<(), Fault> {
        let registry = &self.context.registry;
        let name = name_of(id, number);
        match registry.put(&name, camera.clone())? {
            // The last is success all the same: a client that gets an error shows no picture.
            Put::Added | Put::Changed | Put::Unchanged | Put::Configured => Ok(()),
        }
    }

    /// The cameras of a stream by the numbers of their channels; none if there is no such stream.
    fn cameras(self, id: &str) -> BTreeMap<u32, Camera> {
        let named = self.context.registry.list().into_iter();
        let of_stream = named.filter_map(|named| {
            let rest = named.name.strip_prefix(id)?;
            let number = match rest.strip_prefix('/') {
                Some(channel) => number(channel).filter(|number| *number > 0),
                None => rest.is_empty().then_some(0),
            };
            Some((number?, named.camera))
        });
        of_stream.collect()
    }

    fn missing(self, id: &str) -> Fault {
        if self.cameras(id).is_empty() {
            Fault::StreamNotFound
        } else {
            Fault::ChannelNotFound
        }
    }

    /// Tells of each camera whether media flows from it.
    fn status(self) -> impl Fn(&Camera) -> u8 {
        let open = self.context.directory.list();
        move |camera| {
            let urls = camera.urls();
            let mut open = open.iter().filter(|open| urls.contains(&open.url));
            u8::from(open.any(|open| matches!(open.state, State::Live(_))))
        }
    }
}

/// A channel's number as clients write it, without sign or leading zeros: two texts are never one
/// channel.
fn number(channel: &str) -> Option<u32> {
    let number = channel.parse::<u32>().ok()?;
    (number.to_string() == channel).then_some(number)
}

fn checked(channel: &str) -> Result<u32, Fault> {
    let found = number(channel);
    found.ok_or_else(|| invalid("channels have numbers here: 0, and 1, 2, … for further ones"))
}

/// The name under which a channel is registered.
fn name_of(id: &str, number: u32) -> String {
    match number {
        0 => id.to_owned(),
        _ => format!("{id}/{number}"),
    }
}

/// The stream and the channel that a registered camera is listed as.
fn stream_of(name: &str) -> (&str, u32) {
    // A URL that ends in a number is no channel of another one.
    let parts = name
        .rsplit_once('/')
        .filter(|(id, _)| !id.is_empty() && !id.contains("://"));
    let further = parts.and_then(|(id, channel)| Some((id, number(channel)?)));
    further
        .filter(|(_, number)| *number > 0)
        .unwrap_or((name, 0))
}

/// The channels of `body` as cameras, `before` being those that are there.
fn prepared(
    body: &StreamBody,
    before: &BTreeMap<u32, Camera>,
) -> Result<BTreeMap<u32, Camera>, Fault> {
    let channels = body.channels.iter().flatten().map(|(channel, body)| {
        let number = checked(channel)?;
        Ok((number, body.camera(before.get(&number))?))
    });
    let channels = channels.collect::<Result<BTreeMap<_, _>, Fault>>()?;
    if channels.is_empty() {
        return Err(invalid(
            "the stream has no channels; give one as {\"channels\": {\"0\": {\"url\": \"rtsp://…\"}}}",
        ));
    }
    Ok(channels)
}

fn invalid(message: &str) -> Fault {
    Fault::Other(Error::new(ErrorKind::InvalidArgument, message))
}
