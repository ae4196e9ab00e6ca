//! [`StateFile`]: registered cameras on disk, readable by their owner alone, written whole or not at
//! all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::base::{Error, ErrorKind};

const NAME: &str = "cameras.json";
/// Changes that come together are written together.
const GATHER: Duration = Duration::from_millis(200);
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// The file as a whole.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    cameras: Vec<Saved>,
}

/// A registered camera as it is remembered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) sources: Vec<String>,
    #[serde(default = "yes")]
    pub(super) on_demand: bool,
    #[serde(default = "yes")]
    pub(super) audio: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) preload: Option<String>,
}

fn yes() -> bool {
    true
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The sources have passwords.
        write!(f, "Saved({:?})", self.name)
    }
}

/// Where registered cameras are kept.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    folder: PathBuf,
}

impl StateFile {
    /// Makes the folder if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| fault(folder, "cannot be made", &e))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// What is remembered. A file that cannot be understood is put aside, so that it is not lost, and
    /// the server starts without it.
    pub(super) fn read(&self) -> Result<Vec<Saved>, Error> {
        let text = match fs::read(self.path()) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(fault(&self.path(), "cannot be read", &e)),
        };
        match serde_json::from_slice::<Contents>(&text) {
            Ok(contents) => Ok(contents.cameras),
            Err(e) => {
                let aside = self.folder.join(format!("{NAME}.broken"));
                // Its text may stand in the error, and has passwords.
                tracing::error!(
                    line = e.line(),
                    column = e.column(),
                    aside = %aside.display(),
                    "the file of registered cameras cannot be understood and is put aside"
                );
                fs::rename(self.path(), &aside)
                    .map_err(|e| fault(&aside, "cannot be written", &e))?;
                Ok(Vec::new())
            }
        }
    }

    /// Writes all anew: another file first, which then takes the place of the old one.
    fn write(&self, cameras: Vec<Saved>) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&Contents { cameras })?;
        let fresh = self.folder.join(format!(".{NAME}.new"));
        // One that was left behind may have other permissions.
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path())?;
        // Some file systems cannot do it for a folder, and have it done all the same.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

fn fault(path: &Path, what: &str, e: &io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("the data folder: {} {what}: {e}", path.display()),
    )
}

/// Writes down what is not as in `written` until the server stops, and once more then.
pub(super) async fn keep(
    file: StateFile,
    registry: Registry,
    mut written: Vec<Saved>,
    mut changes: watch::Receiver<()>,
    stop: CancellationToken,
) {
    let mut has_failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY), if has_failed => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let _ = tokio::time::timeout(GATHER, stop.cancelled()).await;
            }
        }
        let now = saved(&registry);
        has_failed = false;
        if now != written {
            let (file, cameras) = (file.clone(), now.clone());
            match spawn_blocking(move || file.write(cameras)).await {
                Ok(Ok(())) => written = now,
                Ok(Err(e)) => {
                    has_failed = true;
                    tracing::error!(error = %e, "registered cameras cannot be written down");
                }
                Err(_) => tracing::error!("writing registered cameras down broke off"),
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

pub(super) fn saved(registry: &Registry) -> Vec<Saved> {
    let entries = registry.lock();
    let registered = entries.iter().filter(|(_, entry)| !entry.is_configured);
    let saved = registered.map(|(name, entry)| Saved {
        name: name.clone(),
        sources: entry
            .camera
            .sources
            .iter()
            .map(|source| source.reveal().to_owned())
            .collect(),
        on_demand: entry.camera.on_demand,
        audio: entry.camera.audio,
        preload: entry.preload.clone(),
    });
    let saved: Vec<_> = saved.collect();
    drop(entries);
    saved
        .into_iter()
        .chain(registry.unusable().clone())
        .collect()
}
