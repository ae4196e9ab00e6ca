//! Steady load.

use std::collections::BTreeMap;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::{Context, PATIENCE, answered, begin, lost_percent, pool, records, wait_live};
use crate::cli::Load;
use crate::farm::Joined;
use crate::measure::{self, float, median, percentile};
use crate::report::{Report, Sample};
use crate::server::Running;
use crate::viewer::{Record, lock};

/// How often memory is read.
const MEMORY_STEP: Duration = Duration::from_millis(100);
/// Above this share of all cores, times are those of the queue and not of the server.
const SATURATED: f64 = 90.0;

pub(super) fn run(options: &Load, context: &Context) -> Report {
    let cameras = options.cameras.clamp(1, options.viewers.max(1));
    let title = format!(
        "load: {} viewers, {cameras} cameras, {} s",
        options.viewers, options.seconds
    );
    context.each(title, cameras, |server, _, sample| {
        let before_kib = server.rss_kib();
        // The first viewer of each camera waits for the camera; the others find it open.
        let first = context.join_all(
            &server.target,
            0..cameras,
            Duration::from_millis(options.ramp_ms),
        );
        let mut viewers = answered(first, sample);
        wait_live(&viewers, PATIENCE);
        let others = (cameras..options.viewers).map(|viewer| viewer % cameras);
        let others = context.join_all(
            &server.target,
            others,
            Duration::from_millis(options.ramp_ms),
        );
        let cold = viewers.len();
        viewers.extend(answered(others, sample));
        let live = wait_live(&viewers, PATIENCE);
        thread::sleep(Duration::from_secs_f64(options.warm_up));

        sample.value("viewers with a live picture", Some(float(live)));
        window(options, server, &viewers, before_kib, sample);
        times(&viewers, cold, sample);
        Ok(())
    })
}

/// Watches for some seconds.
fn window(
    options: &Load,
    server: &Running,
    viewers: &[Joined],
    before_kib: u64,
    sample: &mut Sample,
) {
    let ports: Vec<u16> = viewers.iter().map(|joined| joined.port).collect();
    let own = process::id();
    begin(viewers);
    let start = Instant::now();
    let (cpu, own_cpu) = (server.cpu_ns(), measure::cpu_ns(own));
    let (busy, total) = measure::machine_ticks();
    let drops = measure::socket_drops(&ports);
    let mut most_kib = server.rss_kib();
    while start.elapsed().as_secs_f64() < options.seconds {
        thread::sleep(MEMORY_STEP);
        most_kib = most_kib.max(server.rss_kib());
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = float(server.cpu_ns().saturating_sub(cpu));
    let own_cpu = float(measure::cpu_ns(own).saturating_sub(own_cpu));
    let (busy_after, total_after) = measure::machine_ticks();
    let drops = measure::socket_drops(&ports).saturating_sub(drops);
    let records = records(viewers);

    let receiving = records.iter().filter(|record| record.packets > 0).count();
    let packets = float(records.iter().map(|record| record.packets).sum::<u64>());
    let per_viewer = |value: f64| (receiving > 0).then(|| value / float(receiving) / seconds);
    let latencies = pool(&records, |record| &record.latencies);
    sample.value("CPU ms/viewer-s", per_viewer(cpu / 1e6));
    sample.value(
        "CPU µs/packet",
        (packets > 0.0).then(|| cpu / 1e3 / packets),
    );
    sample.value(
        "KiB RSS/viewer",
        (receiving > 0).then(|| float(most_kib.saturating_sub(before_kib)) / float(receiving)),
    );
    sample.value("RSS MiB", Some(float(most_kib) / 1024.0));
    sample.value("packets/viewer-s", per_viewer(packets));
    sample.value(
        "Mbit/s per viewer",
        per_viewer(float(records.iter().map(|record| record.bytes).sum::<u64>()) * 8e-6),
    );
    sample.value("packets lost %", lost_percent(&records));
    sample.value(
        "packets late",
        Some(float(records.iter().map(Record::late).sum::<u64>())),
    );
    sample.value(
        "pictures/viewer-s",
        per_viewer(float(
            records.iter().map(|record| record.frames).sum::<u64>(),
        )),
    );
    sample.value("latency p50 ms", percentile(&latencies, 0.5));
    sample.value("latency p99 ms", percentile(&latencies, 0.99));
    let machine = float(busy_after - busy) * 100.0 / float((total_after - total).max(1));
    sample.value("viewers' and cameras' CPU %", Some(own_cpu / 1e7 / seconds));
    sample.value("machine busy %", Some(machine));
    if machine > SATURATED {
        sample.note("the machine was saturated: take times and loss with care");
    }
    if drops > 0 {
        sample.note(format!(
            "{drops} packets were lost in the sockets of this program, not by the server"
        ));
    }
    let mut profiles: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        *profiles
            .entry(record.srtp.unwrap_or("unknown"))
            .or_default() += 1;
    }
    sample.note(format!(
        "SRTP {}",
        profiles.into_keys().collect::<Vec<_>>().join(", ")
    ));
    if let Some(error) = records.iter().find_map(|record| record.error.as_deref()) {
        sample.note(format!("a viewer ended: {error}"));
    }
}

/// How long the beginning took.
fn times(viewers: &[Joined], cold: usize, sample: &mut Sample) {
    let of = |viewers: &[Joined], moment: fn(&Record) -> Option<i64>| -> Vec<f64> {
        viewers
            .iter()
            .filter_map(|joined| {
                let record = lock(&joined.record);
                record.since_offer(moment(&record))
            })
            .collect()
    };
    let answers = of(viewers, |record| record.answered_ns);
    sample.value("answer p50 ms", percentile(&answers, 0.5));
    sample.value("answer p95 ms", percentile(&answers, 0.95));
    sample.value(
        "first live picture, cold ms",
        median(&of(&viewers[..cold], |record| record.live_ns)),
    );
    sample.value(
        "first live picture, warm ms",
        median(&of(&viewers[cold..], |record| record.live_ns)),
    );
}
