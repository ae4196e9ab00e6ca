//! What is measured, each in its file, and what they share.

mod churn;
mod flood;
mod halfopen;
mod hello;
mod join;
mod load;
mod slow;

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::camera::Cameras;
use crate::cli::Scenario;
use crate::farm::{Farm, Joined};
use crate::measure::float;
use crate::report::{Report, Sample, progress};
use crate::server::{Running, Server, Surroundings};
use crate::signalling::Target;
use crate::viewer::{Record, lock};

/// A viewer that has nothing to see by then counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often what is waited for is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What scenarios work with.
pub(crate) struct Context<'a> {
    pub(crate) cameras: &'a Cameras,
    pub(crate) farm: &'a Farm,
    pub(crate) servers: &'a [Server],
    pub(crate) reps: usize,
    pub(crate) audio: bool,
    pub(crate) folder: &'a Path,
}

/// Runs the scenario with all servers.
pub(crate) fn run(scenario: &Scenario, context: &Context) -> Report {
    match scenario {
        Scenario::Load(options) => load::run(options, context),
        Scenario::Join(options) => join::run(options, context),
        Scenario::Churn(options) => churn::run(options, context),
        Scenario::Halfopen(options) => halfopen::run(options, context),
        Scenario::Slow(options) => slow::run(options, context),
        Scenario::Hello(options) => hello::run(options, context),
        Scenario::Flood(options) => flood::run(options, context),
    }
}

impl Context<'_> {
    /// Measures each server once per repetition, in another order each time.
    fn each(
        &self,
        title: String,
        cameras: usize,
        measure: impl Fn(&Running, usize, &mut Sample) -> Result<(), String>,
    ) -> Report {
        let mut report = Report::new(title);
        for repetition in 0..self.reps {
            for turn in 0..self.servers.len() {
                let server = &self.servers[(repetition + turn) % self.servers.len()];
                let mut sample = Sample::of(&server.name);
                progress(&format!("repetition {}, {} …", repetition + 1, server.name));
                let around = Surroundings {
                    cameras: self.cameras,
                    count: cameras,
                    audio: self.audio,
                    address: self.farm.address(),
                    folder: self.folder,
                };
                let result = server
                    .start(&around)
                    .and_then(|running| measure(&running, repetition, &mut sample));
                if let Err(error) = result {
                    sample.failed = true;
                    sample.note(format!("failed: {error}"));
                    progress(&format!("{}: {error}", server.name));
                }
                self.farm.clear();
                report.add(sample);
            }
        }
        report
    }

    /// Lets viewers join one after the other, each without waiting for the one before.
    fn join_all(
        &self,
        target: &Target,
        viewers: impl IntoIterator<Item = usize>,
        ramp: Duration,
    ) -> Vec<Result<Joined, String>> {
        let begin = Instant::now();
        thread::scope(|scope| {
            let threads: Vec<_> = viewers
                .into_iter()
                .zip(0..)
                .map(|(camera, index)| {
                    scope.spawn(move || {
                        sleep_until(begin + ramp * index);
                        self.farm.join(target, camera, |_: &[SocketAddr]| ())
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err("the thread of a viewer panicked".into()))
                })
                .collect()
        })
    }
}

/// Those that were answered; a sentence about each kind of failure goes to the sample.
fn answered(results: Vec<Result<Joined, String>>, sample: &mut Sample) -> Vec<Joined> {
    let mut joined = Vec::new();
    let mut failed = 0;
    let mut last = String::new();
    for result in results {
        match result {
            Ok(one) => joined.push(one),
            Err(error) => {
                failed += 1;
                last = error;
            }
        }
    }
    if failed > 0 {
        sample.note(format!("{failed} viewers were not answered: {last}"));
    }
    joined
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Waits until the record has what is asked for, or its viewer has failed.
fn wait_for(joined: &Joined, patience: Duration, has: impl Fn(&Record) -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        let record = lock(&joined.record);
        if has(&record) {
            return true;
        }
        if record.error.is_some() || Instant::now() > end {
            return false;
        }
        drop(record);
        thread::sleep(POLL);
    }
}

/// Waits for the first live picture of all; returns how many have one.
fn wait_live(viewers: &[Joined], patience: Duration) -> usize {
    let end = Instant::now() + patience;
    viewers
        .iter()
        .filter(|joined| {
            let left = end.saturating_duration_since(Instant::now());
            wait_for(joined, left, |record| record.live_ns.is_some())
        })
        .count()
}

/// Lets all begin to count anew.
fn begin(viewers: &[Joined]) {
    for joined in viewers {
        lock(&joined.record).begin();
    }
}

/// Copies of all records.
fn records(viewers: &[Joined]) -> Vec<Record> {
    viewers
        .iter()
        .map(|joined| lock(&joined.record).clone())
        .collect()
}

/// Percent of the packets that were numbered and did not come; `None` if nothing came.
fn lost_percent(records: &[Record]) -> Option<f64> {
    let expected: u64 = records.iter().map(Record::expected).sum();
    let lost: u64 = records.iter().map(Record::lost).sum();
    (expected > 0).then(|| float(lost) * 100.0 / float(expected))
}

/// All values of one kind.
fn pool<'a>(records: &'a [Record], values: impl Fn(&'a Record) -> &'a [f64]) -> Vec<f64> {
    records
        .iter()
        .flat_map(|record| values(record).iter().copied())
        .collect()
}
