//! [`Registry`]: cameras with a name, those of the configuration and those that clients register.

mod state;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use self::state::StateFile;
use crate::{
    base::{Error, ErrorKind, SourceText, SourceUrl, Tasks},
    config::{Camera, Config, DEMO},
    directory::{Directory, Lease},
    source,
};

/// Cameras that clients may register.
const REGISTERED_MAX: usize = 1_024;
/// Cameras that clients may keep open: half of those that can be.
const PRELOADS_MAX: usize = 64;
/// Sources of one camera.
const SOURCES_MAX: usize = 8;
/// Longest name, in bytes. Home Assistant's have a platform and an identifier, percent-encoded.
const NAME_MAX: usize = 512;

/// Names of cameras to what they are. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    directory: Directory,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// What was remembered and cannot be used now. It is remembered further, until a client says
    /// otherwise.
    unusable: Mutex<Vec<state::Saved>>,
    /// Told after each change of what clients have registered.
    changed: watch::Sender<()>,
}

struct Entry {
    camera: Camera,
    /// Of the configuration, which clients cannot change.
    is_configured: bool,
    /// What a client wants kept open, in its own words.
    preload: Option<String>,
    /// Keeps the camera open while nobody watches.
    held: Option<Lease>,
}

/// A camera as [`Registry::list`] shows it.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What it is.
    pub camera: Camera,
    /// Whether it is of the configuration, which clients cannot change.
    pub is_configured: bool,
}

impl Named {
    /// Whether it is the test picture that every server has.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.name == DEMO && self.camera.url.scheme() == "demo"
    }
}

/// What became of a request to register a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was not there before.
    Added,
    /// It has other sources now. Who watches goes on watching what was there.
    Changed,
    /// It was so already: nothing happened to anybody.
    Unchanged,
    /// The configuration has a camera of this name, which stays as it is.
    Configured,
}

impl Registry {
    /// The cameras of `config`, and those that its data folder remembers. Cameras that are to be open
    /// always are opened.
    ///
    /// # Errors
    /// `InvalidArgument` for a camera of the configuration that nothing opens, `Unavailable` when the
    /// data folder cannot be used.
    pub fn new(config: &Config, directory: &Directory, tasks: &Tasks) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, camera) in &config.cameras {
            for url in camera.urls() {
                source::open(&url).map_err(|e| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        format!("cameras.{name}.url: {e}"),
                    )
                })?;
            }
            let held = (!camera.on_demand)
                .then(|| directory.lease(&camera.url))
                .transpose()?;
            entries.insert(
                name.clone(),
                Entry {
                    camera: camera.clone(),
                    is_configured: true,
                    preload: None,
                    held,
                },
            );
        }
        let (changed, changes) = watch::channel(());
        let registry = Self {
            inner: Arc::new(Inner {
                directory: directory.clone(),
                entries: Mutex::new(entries),
                unusable: Mutex::default(),
                changed,
            }),
        };
        if let Some(folder) = &config.data {
            let file = StateFile::open(folder)?;
            registry.restore(file.read()?);
            let written = state::saved(&registry);
            let work = state::keep(
                file,
                registry.clone(),
                written,
                changes,
                tasks.stop().clone(),
            );
            tasks.spawn("registry", work);
        }
        Ok(registry)
    }

    fn restore(&self, saved: Vec<state::Saved>) {
        for one in saved {
            if let Err(e) = self.restore_one(&one) {
                tracing::warn!(camera = %one.name, error = %e, "a remembered camera cannot be used");
                self.unusable().push(one);
            }
        }
    }

    fn restore_one(&self, saved: &state::Saved) -> Result<(), Error> {
        let camera = Camera {
            on_demand: saved.on_demand,
            audio: saved.audio,
            ..Camera::from_sources(&saved.sources)?
        };
        if self.put(&saved.name, camera)? == Put::Configured {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the configuration has a camera of this name",
            ));
        }
        let Some(query) = &saved.preload else {
            return Ok(());
        };
        if let Err(e) = self.preload(&saved.name, query) {
            // It plays when asked for; that it is not open before is less than to forget it.
            tracing::warn!(camera = %saved.name, error = %e, "a camera cannot be preloaded");
        }
        Ok(())
    }

    fn unusable(&self) -> MutexGuard<'_, Vec<state::Saved>> {
        let unusable = self.inner.unusable.lock();
        unusable.unwrap_or_else(PoisonError::into_inner)
    }

    /// The camera of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Camera> {
        self.lock().get(name).map(|entry| entry.camera.clone())
    }

    /// The camera that has this URL, with its settings.
    #[must_use]
    pub fn with_url(&self, url: &SourceUrl) -> Option<Camera> {
        let entries = self.lock();
        let found = entries.values().find(|entry| entry.camera.url == *url);
        found.map(|entry| entry.camera.clone())
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Named> {
        let entries = self.lock();
        let named = entries.iter().map(|(name, entry)| Named {
            name: name.clone(),
            camera: entry.camera.clone(),
            is_configured: entry.is_configured,
        });
        named.collect()
    }

    /// Gives `camera` a name, or the camera of that name other sources. Doing so again with the same
    /// sources disturbs nobody.
    ///
    /// # Errors
    /// `InvalidArgument` for a name or a source that cannot be one, `PermissionDenied` for a source that
    /// only the configuration may have, `ResourceExhausted` when there are too many.
    pub fn put(&self, name: &str, camera: Camera) -> Result<Put, Error> {
        check_name(name)?;
        if camera.sources.len() > SOURCES_MAX {
            let message = format!("a camera has at most {SOURCES_MAX} sources");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        for url in camera.urls() {
            self.inner.directory.check(&url)?;
        }
        let put = {
            let mut entries = self.lock();
            match entries.get_mut(name) {
                Some(entry) if entry.is_configured => return Ok(Put::Configured),
                Some(entry) if is_same(&entry.camera, &camera) => return Ok(Put::Unchanged),
                Some(entry) => {
                    let held = self.hold(&camera, entry.preload.is_some())?;
                    (entry.camera, entry.held) = (camera, held);
                    Put::Changed
                }
                None => {
                    let registered = entries.values().filter(|e| !e.is_configured).count();
                    if registered >= REGISTERED_MAX {
                        return Err(Error::new(
                            ErrorKind::ResourceExhausted,
                            format!(
                                "{REGISTERED_MAX} cameras are registered, which is the limit; \
                                 delete some"
                            ),
                        ));
                    }
                    let held = self.hold(&camera, false)?;
                    entries.insert(
                        name.to_owned(),
                        Entry {
                            camera,
                            is_configured: false,
                            preload: None,
                            held,
                        },
                    );
                    Put::Added
                }
            }
        };
        self.unusable().retain(|saved| saved.name != name);
        self.inner.changed.send_replace(());
        Ok(put)
    }

    /// Forgets the camera of this name; who watches goes on watching.
    ///
    /// # Errors
    /// `NotFound`, and `PermissionDenied` for a camera of the configuration.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        {
            let mut entries = self.lock();
            let entry = entries.get(name).ok_or_else(unknown)?;
            if entry.is_configured {
                return Err(Error::new(
                    ErrorKind::PermissionDenied,
                    "this camera is of the configuration; remove it there",
                ));
            }
            entries.remove(name);
        }
        self.inner.changed.send_replace(());
        Ok(())
    }

    /// Keeps the first source of the camera of this name open until [`Registry::unload`]. `query` is what the client said
    /// of it, for [`Registry::preloads`].
    ///
    /// # Errors
    /// `NotFound`, and those of [`Directory::lease`].
    pub fn preload(&self, name: &str, query: &str) -> Result<(), Error> {
        {
            let mut entries = self.lock();
            let others =
                |(other, entry): &(&String, &Entry)| *other != name && entry.preload.is_some();
            if entries.iter().filter(others).count() >= PRELOADS_MAX {
                return Err(Error::new(
                    ErrorKind::ResourceExhausted,
                    format!("{PRELOADS_MAX} cameras are preloaded, which is the limit; end some"),
                ));
            }
            let entry = entries.get_mut(name).ok_or_else(unknown)?;
            entry.held = self.hold(&entry.camera, true)?;
            entry.preload = Some(query.chars().take(NAME_MAX).collect());
        }
        self.inner.changed.send_replace(());
        Ok(())
    }

    /// Ends what [`Registry::preload`] began; false when there was nothing.
    #[must_use]
    pub fn unload(&self, name: &str) -> bool {
        let was_preloaded = {
            let mut entries = self.lock();
            entries.get_mut(name).is_some_and(|entry| {
                if entry.camera.on_demand {
                    entry.held = None;
                }
                entry.preload.take().is_some()
            })
        };
        self.inner.changed.send_replace(());
        was_preloaded
    }

    /// What is preloaded: names, and what clients said of them.
    #[must_use]
    pub fn preloads(&self) -> Vec<(String, String)> {
        let entries = self.lock();
        let preloads = entries
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), entry.preload.clone()?)));
        preloads.collect()
    }

    fn hold(&self, camera: &Camera, is_preloaded: bool) -> Result<Option<Lease>, Error> {
        (is_preloaded || !camera.on_demand)
            .then(|| self.inner.directory.lease(&camera.url))
            .transpose()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing panics between two changes that belong together.
        self.inner
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().keys()).finish()
    }
}

fn unknown() -> Error {
    Error::new(ErrorKind::NotFound, "there is no camera with this name")
}

fn is_same(one: &Camera, other: &Camera) -> bool {
    (one.on_demand, one.audio) == (other.on_demand, other.audio) && one.sources == other.sources
}

fn check_name(name: &str) -> Result<(), Error> {
    // Whoever registers a camera by its URL masks that first.
    let may_be_secret = match SourceText::parse(name) {
        Ok(source) => source.to_string() != name,
        Err(_) => name.contains("://") && name.contains('@') && !name.contains("://***@"),
    };
    let fault = if name.is_empty() {
        "is empty"
    } else if may_be_secret {
        "may hold a password; give it another one"
    } else if name.len() > NAME_MAX {
        "is longer than 512 bytes"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("the camera's name {fault}"),
    ))
}

#[cfg(test)]
mod tests;
