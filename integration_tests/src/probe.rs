//! [`Probed`]: what `porthole probe` makes of a camera.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::process::Command;

/// A run of `porthole probe`.
#[derive(Debug)]
pub struct Probed {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

impl Probed {
    /// Runs `porthole probe` with these arguments to its end.
    ///
    /// # Panics
    /// When it cannot be started, or runs for longer than 30 s.
    pub async fn run(arguments: &[&str]) -> Self {
        let begun = Instant::now();
        let output = Command::new(crate::server::binary())
            .arg("probe")
            .args(arguments)
            .env_remove("PORTHOLE_CONFIG")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(30), output)
            .await
            .expect("a probe ends by itself")
            .expect("the program can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
            took: begun.elapsed(),
        }
    }

    /// The report of a run with `--json`.
    ///
    /// # Panics
    /// When it printed something else.
    #[must_use]
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|e| panic!("no JSON ({e}): {}{}", self.out, self.err))
    }

    /// The codes of what it found to be wrong.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let report = self.report();
        let findings = report["findings"].as_array().into_iter().flatten();
        findings
            .map(|finding| finding["code"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The sentences that belong to [`Self::findings`], on one line.
    #[must_use]
    pub fn advice(&self) -> String {
        let report = self.report();
        let findings = report["findings"].as_array().into_iter().flatten();
        let sentences: Vec<_> = findings
            .filter_map(|finding| finding["sentence"].as_str())
            .collect();
        sentences.join(" | ")
    }
}
