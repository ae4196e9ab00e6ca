//! One viewer stops reading.

use std::thread;
use std::time::Duration;

use super::{Context, PATIENCE, answered, begin, lost_percent, pool, records, wait_live};
use crate::cli::Slow;
use crate::farm::Joined;
use crate::measure::{float, percentile};
use crate::report::{Report, Sample};
use crate::viewer::Record;

const RAMP: Duration = Duration::from_millis(20);

pub(super) fn run(options: &Slow, context: &Context) -> Report {
    let title = format!(
        "slow: one of {} viewers stops reading after {} s",
        options.viewers, options.seconds
    );
    context.each(title, 1, |server, _, sample| {
        let all = context.join_all(&server.target, vec![0; options.viewers], RAMP);
        let viewers = answered(all, sample);
        let live = wait_live(&viewers, PATIENCE);
        sample.value("viewers with a live picture", Some(float(live)));
        let Some((slow, others)) = viewers.split_first() else {
            return Err("there is no viewer".into());
        };
        watch("before", options, others, sample);
        context.farm.pause(slow);
        watch("after", options, others, sample);
        Ok(())
    })
}

fn watch(when: &str, options: &Slow, others: &[Joined], sample: &mut Sample) {
    begin(others);
    thread::sleep(Duration::from_secs_f64(options.seconds));
    let records = records(others);
    let intervals = pool(&records, |record| &record.intervals);
    let latencies = pool(&records, |record| &record.latencies);
    let missed: u64 = records.iter().map(|record| record.frames_missed).sum();
    sample.value(
        &format!("{when}: picture interval p50 ms"),
        percentile(&intervals, 0.5),
    );
    sample.value(
        &format!("{when}: picture interval p99 ms"),
        percentile(&intervals, 0.99),
    );
    sample.value(
        &format!("{when}: picture interval max ms"),
        percentile(&intervals, 1.0),
    );
    sample.value(
        &format!("{when}: latency p99 ms"),
        percentile(&latencies, 0.99),
    );
    sample.value(&format!("{when}: pictures missed"), Some(float(missed)));
    sample.value(&format!("{when}: packets lost %"), lost_percent(&records));
    let ended = records
        .iter()
        .filter(|record: &&Record| record.error.is_some())
        .count();
    if ended > 0 {
        sample.note(format!("{ended} of the others ended {when}"));
    }
}
