//! [`Context`]: what signaling and outputs share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{base::Tasks, config::Config, directory::Directory, session::Sessions};

/// The parts of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// How it is configured.
    pub config: Arc<Config>,
    /// Running cameras.
    pub directory: Directory,
    /// Those who watch.
    pub sessions: Sessions,
    /// A place for each offer that may be worked on at once.
    pub offers: Arc<Semaphore>,
    /// Where work is done.
    pub tasks: Tasks,
}

/// Offers that are worked on at once.
pub const OFFERS_MAX: usize = 128;

impl Context {
    /// The parts of a server with `config`, with nothing running yet.
    #[must_use]
    pub fn new(config: Config, tasks: Tasks) -> Self {
        Self {
            directory: Directory::new(tasks.clone(), config.linger),
            config: Arc::new(config),
            sessions: Sessions::default(),
            offers: Arc::new(Semaphore::new(OFFERS_MAX)),
            tasks,
        }
    }
}
