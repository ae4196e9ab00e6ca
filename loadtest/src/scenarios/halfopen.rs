//! Offers that never become connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Context, PATIENCE, wait_for};
use crate::cli::Halfopen;
use crate::janus;
use crate::measure::float;
use crate::report::{Report, Sample};
use crate::server::Running;
use crate::signalling::{self, Target};
use crate::viewer::{Opening, lock};

/// How often memory is read.
const MEMORY_STEP: Duration = Duration::from_millis(50);

/// How often a reason was given.
type Refusals = Mutex<BTreeMap<String, usize>>;

pub(super) fn run(options: &Halfopen, context: &Context) -> Report {
    let title = format!("halfopen: {} offers that never connect", options.offers);
    context.each(title, 1, |server, _, sample| {
        let watcher = context.farm.join(&server.target, 0, |_| ())?;
        if !wait_for(&watcher, PATIENCE, |record| record.live_ns.is_some()) {
            return Err("the viewer that keeps the camera open got no live picture".into());
        }
        sample.value("RSS KiB before any", Some(float(server.rss_kib())));
        if options.first > 0 {
            // The first ones page in code and make the allocator's pools; what a leak adds comes after.
            let sent = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..options.at_once.max(1) {
                    scope.spawn(|| send(options.first, &sent, server, context, &Mutex::default()));
                }
            });
            thread::sleep(Duration::from_secs_f64(options.after));
        }
        let before = server.rss_kib();
        sample.value("RSS KiB before", Some(float(before)));
        attack(options, context, server, before, sample);
        context.farm.leave(&watcher, true);
        Ok(())
    })
}

fn attack(
    options: &Halfopen,
    context: &Context,
    server: &Running,
    before: u64,
    sample: &mut Sample,
) {
    let (sent, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let peak = AtomicU64::new(before);
    let refusals = Refusals::default();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(server.rss_kib(), Ordering::Relaxed);
                thread::sleep(MEMORY_STEP);
            }
        });
        let attackers: Vec<_> = (0..options.at_once.max(1))
            .map(|_| scope.spawn(|| send(options.offers, &sent, server, context, &refusals)))
            .collect();
        // Half of them are there when a viewer comes that means it.
        while sent.load(Ordering::Relaxed) < options.offers / 2 {
            thread::sleep(Duration::from_millis(1));
        }
        real_viewer(context, server, "meanwhile", sample);
        for attacker in attackers {
            // Its panic has been printed.
            let _ = attacker.join();
        }
        sample.value(
            "offers per second",
            Some(float(options.offers) / start.elapsed().as_secs_f64()),
        );
        real_viewer(context, server, "with all of them open", sample);
        thread::sleep(Duration::from_secs_f64(options.after));
        over.store(true, Ordering::Relaxed);
    });
    sample.value("RSS KiB peak", Some(float(peak.into_inner())));
    sample.value(
        &format!("RSS KiB {} s later", options.after),
        Some(float(server.rss_kib())),
    );
    let refusals = refusals
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    sample.value(
        "offers refused",
        Some(float(refusals.values().sum::<usize>())),
    );
    for (error, count) in refusals {
        sample.note(format!("refused {count} times: {error}"));
    }
}

/// Sends offers until `limit` have been sent by all who count in `sent`.
fn send(
    limit: usize,
    sent: &AtomicUsize,
    server: &Running,
    context: &Context,
    refusals: &Refusals,
) {
    while sent.fetch_add(1, Ordering::Relaxed) < limit {
        if let Err(error) = offer_only(&server.target, context) {
            let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
            *refusals
                .entry(error.chars().take(100).collect())
                .or_default() += 1;
        }
    }
}

/// An offer, and nothing after the answer.
fn offer_only(target: &Target, context: &Context) -> Result<(), String> {
    if target.is_janus() {
        return janus::watch(target, 0).map(drop);
    }
    let offer = Opening::new(context.farm.address())?.offer(target.audio)?;
    signalling::offer(target, 0, &offer).map(drop)
}

fn real_viewer(context: &Context, server: &Running, when: &str, sample: &mut Sample) {
    let (answer, live) = (
        format!("viewer {when}: answer ms"),
        format!("viewer {when}: live picture ms"),
    );
    match context.farm.join(&server.target, 0, |_| ()) {
        Ok(joined) => {
            wait_for(&joined, PATIENCE, |record| record.live_ns.is_some());
            context.farm.leave(&joined, true);
            let record = lock(&joined.record);
            sample.value(&answer, record.since_offer(record.answered_ns));
            sample.value(&live, record.since_offer(record.live_ns));
            if record.live_ns.is_none() {
                sample.note(format!("the viewer {when} got no live picture"));
            }
        }
        Err(error) => sample.note(format!("the viewer {when} was refused: {error}")),
    }
}
