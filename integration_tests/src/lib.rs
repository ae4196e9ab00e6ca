//! The harness: Porthole's own binary, cameras of other makers, a real browser.
//!
//! Nothing here links against Porthole: the tests see what a user sees.

pub mod browser;
pub mod camera;
pub mod firefox;
pub mod home_assistant;
pub mod network;
pub mod offer;
pub mod peers;
pub mod probe;
pub mod processes;
pub mod scripted;
pub mod server;
pub mod tools;

pub use tools::alone;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of this crate, where its scripts and fixtures are.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Scratch space that survives between runs: generated media, virtual environments, screenshots.
///
/// `TEST_CACHE`, or `.cache/tests` in the repository.
///
/// # Panics
/// When the folder cannot be made.
#[must_use]
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("TEST_CACHE")
        .map_or_else(|| folder().join("../.cache/tests"), PathBuf::from);
    std::fs::create_dir_all(&cache).expect("the cache folder can be made");
    cache
        .canonicalize()
        .expect("a folder that exists has a path")
}

/// Real offers and camera descriptions, if this machine has them: `CORPUS_DIR`, or `../shared/corpus`
/// beside the repository. A test without it says so and passes.
#[must_use]
pub fn corpus() -> Option<PathBuf> {
    let found = std::env::var_os("CORPUS_DIR")
        .map_or_else(|| folder().join("../../shared/corpus"), PathBuf::from);
    found.is_dir().then_some(found)
}

/// Asks `check` again and again until it gives something, for at most `limit`.
///
/// # Panics
/// When the time is over, with `what` and the last state that `check` told.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let end = tokio::time::Instant::now() + limit;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(state) => assert!(
                tokio::time::Instant::now() < end,
                "{what}: not within {limit:?}; last seen: {state}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
