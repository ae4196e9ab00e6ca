//! One viewer stops reading, or something else happens to it.

use std::process::Command;
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
    let what = options.act.as_deref().unwrap_or("one stops reading");
    let title = format!(
        "slow: {} viewers, after {} s: {what}",
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
        match &options.act {
            None => context.farm.pause(slow),
            Some(command) => act(command)?,
        }
        watch("after", options, others, sample);
        Ok(())
    })
}

/// Has a shell do it.
fn act(command: &str) -> Result<(), String> {
    let status = Command::new("sh").args(["-c", command]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("--act ended with {status}")),
        Err(error) => Err(format!("--act cannot be run: {error}")),
    }
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
