//! Viewers that come and go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Context, PATIENCE, wait_for};
use crate::cli::Churn;
use crate::measure::float;
use crate::report::{Report, Sample};
use crate::server::Running;

/// What a server keeps of viewers that have left is over by then.
const AFTERWARDS: Duration = Duration::from_secs(20);

pub(super) fn run(options: &Churn, context: &Context) -> Report {
    let title = format!(
        "churn: {} joins, {} at a time",
        options.joins, options.at_once
    );
    context.each(title, 1, |server, _, sample| {
        // One stays, so that the camera stays open.
        let watcher = context.farm.join(&server.target, 0, |_| ())?;
        if !wait_for(&watcher, PATIENCE, |record| record.live_ns.is_some()) {
            return Err("the viewer that keeps the camera open got no live picture".into());
        }
        sample.value("RSS KiB before", Some(float(server.rss_kib())));
        churn(options, context, server, sample);
        thread::sleep(AFTERWARDS);
        sample.value("RSS KiB 20 s later", Some(float(server.rss_kib())));
        context.farm.leave(&watcher, true);
        Ok(())
    })
}

fn churn(options: &Churn, context: &Context, server: &Running, sample: &mut Sample) {
    let (begun, ended, failed) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let (at_mark_kib, at_end_kib) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..options.at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if number >= options.joins {
                        return;
                    }
                    if !one(options, context, server, number) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    let number = ended.fetch_add(1, Ordering::Relaxed) + 1;
                    if number == options.mark {
                        at_mark_kib.store(server.rss_kib(), Ordering::Relaxed);
                    }
                    if number == options.joins {
                        at_end_kib.store(server.rss_kib(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let at_mark = at_mark_kib.into_inner();
    let name = format!("RSS KiB at viewer {}", options.mark);
    sample.value(&name, (at_mark > 0).then(|| float(at_mark)));
    sample.value(
        "RSS KiB at the last viewer",
        Some(float(at_end_kib.into_inner())),
    );
    sample.value(
        "joins per second",
        Some(float(options.joins) / start.elapsed().as_secs_f64()),
    );
    sample.value("viewers without a packet", Some(float(failed.into_inner())));
}

/// A viewer from its offer to its leave; false if it got nothing.
fn one(options: &Churn, context: &Context, server: &Running, number: usize) -> bool {
    let Ok(joined) = context.farm.join(&server.target, 0, |_| ()) else {
        // A server that is full gets a moment.
        thread::sleep(Duration::from_millis(50));
        return false;
    };
    let received = wait_for(&joined, PATIENCE, |record| record.first_packet_ns.is_some());
    thread::sleep(Duration::from_millis(options.stay_ms));
    context.farm.leave(&joined, number % 100 >= options.vanish);
    received
}
