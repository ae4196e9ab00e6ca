//! A stranger floods the media port.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Context, PATIENCE, begin, lost_percent, pool, records, wait_live};
use crate::cli::Flood;
use crate::farm::Joined;
use crate::measure::{float, percentile};
use crate::report::{Report, Sample};
use crate::server::Running;
use crate::stranger::{Stranger, junk};

pub(super) fn run(options: &Flood, context: &Context) -> Report {
    let title = format!(
        "flood: {} viewers, {} foreign datagrams per second",
        options.viewers, options.rate
    );
    context.each(title, 1, |server, _, sample| {
        let addresses: Mutex<Vec<SocketAddr>> = Mutex::default();
        let mut viewers = Vec::new();
        for _ in 0..options.viewers {
            viewers.push(context.farm.join(&server.target, 0, |found| {
                if let Ok(mut addresses) = addresses.lock() {
                    addresses.extend(found);
                }
            })?);
        }
        let live = wait_live(&viewers, PATIENCE);
        sample.value("viewers with a live picture", Some(float(live)));
        let mut to = addresses.into_inner().unwrap_or_default();
        to.sort();
        to.dedup();
        if to.is_empty() {
            return Err("the answer has no UDP candidate".into());
        }
        let wait = Duration::from_secs_f64(options.seconds);
        watch("quiet", server, &viewers, sample, || thread::sleep(wait));
        let stranger = Stranger::new(context.farm.address()).map_err(|error| error.to_string())?;
        let traffic = watch("flood", server, &viewers, sample, || {
            let end = Instant::now() + wait;
            stranger.send(&to, options.rate, junk, || Instant::now() < end)
        });
        sample.value("datagrams sent", Some(float(traffic.sent)));
        sample.value("datagrams that came back", Some(float(traffic.received)));
        sample.value(
            "bytes back per byte sent",
            Some(float(traffic.received_bytes) / float(traffic.sent_bytes.max(1))),
        );
        for joined in &viewers {
            context.farm.leave(joined, true);
        }
        Ok(())
    })
}

/// Counts what the viewers get while something happens.
fn watch<T>(
    when: &str,
    server: &Running,
    viewers: &[Joined],
    sample: &mut Sample,
    happen: impl FnOnce() -> T,
) -> T {
    begin(viewers);
    let (start, cpu) = (Instant::now(), server.cpu_ns());
    let result = happen();
    let percent = float(server.cpu_ns().saturating_sub(cpu)) / 1e7 / start.elapsed().as_secs_f64();
    let records = records(viewers);
    let latencies = pool(&records, |record| &record.latencies);
    sample.value(&format!("{when}: CPU %"), Some(percent));
    sample.value(&format!("{when}: packets lost %"), lost_percent(&records));
    sample.value(
        &format!("{when}: pictures missed"),
        Some(float(
            records
                .iter()
                .map(|record| record.frames_missed)
                .sum::<u64>(),
        )),
    );
    sample.value(
        &format!("{when}: latency p50 ms"),
        percentile(&latencies, 0.5),
    );
    sample.value(
        &format!("{when}: latency p99 ms"),
        percentile(&latencies, 0.99),
    );
    if records.iter().any(|record| record.packets == 0) {
        sample.note(format!("a viewer got nothing during {when}"));
    }
    result
}
