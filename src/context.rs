//! [`Context`]: what signaling and outputs share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    base::{Error, Tasks},
    config::Config,
    directory::Directory,
    registry::Registry,
    session::Sessions,
    source::Confinement,
    stills::Stills,
    webrtc::Engine,
};

/// The parts of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// How it is configured.
    pub config: Arc<Config>,
    /// Cameras with a name.
    pub registry: Registry,
    /// Running cameras.
    pub directory: Directory,
    /// Their pictures.
    pub stills: Stills,
    /// Those who watch.
    pub sessions: Sessions,
    /// What connects them.
    pub engine: Engine,
    /// A place for each offer that may be worked on at once.
    pub offers: Arc<Semaphore>,
    /// Where work is done.
    pub tasks: Tasks,
}

/// Offers that are worked on at once.
pub const OFFERS_MAX: usize = 128;

impl Context {
    /// The parts of a server with `config`, whose HTTP port must be the one it has. The media port works, and cameras that are to be open
    /// always are opened.
    ///
    /// Must be called on the media runtime.
    ///
    /// # Errors
    /// `Unavailable` when the media port is taken, and those of [`Registry::new`].
    pub fn new(config: Config, tasks: Tasks) -> Result<Self, Error> {
        let engine = Engine::start(&config, &tasks)?;
        let confinement = Confinement::new(&config, engine.port());
        let directory = Directory::new(tasks.clone(), config.linger).confined(confinement);
        Ok(Self {
            engine,
            registry: Registry::new(&config, &directory, &tasks)?,
            directory,
            stills: Stills::new(tasks.clone()),
            config: Arc::new(config),
            sessions: Sessions::default(),
            offers: Arc::new(Semaphore::new(OFFERS_MAX)),
            tasks,
        })
    }
}
