//! The time until a viewer sees something.

use std::thread;

use super::{Context, PATIENCE, wait_for};
use crate::cli::Join;
use crate::farm::Joined;
use crate::janus;
use crate::measure::{float, percentile, unix_ns};
use crate::report::{Report, Sample};
use crate::server::Running;
use crate::viewer::{Record, lock};

/// Cameras from this number on have never been watched.
const UNSEEN: usize = 1000;

pub(super) fn run(options: &Join, context: &Context) -> Report {
    // All servers are asked at the same phases of the group of pictures.
    let gop = context.cameras.gop().as_secs_f64();
    let phases: Vec<f64> = (0..options.warm.max(options.cold))
        .map(|_| {
            let random: f64 = rand::random();
            options.before_key.map_or(random, |milliseconds| {
                milliseconds * (1.0 + random / 3.0) / 1e3 / gop
            })
        })
        .collect();
    let title = format!(
        "join: {} warm, {} cold, a key frame each {gop} s",
        options.warm, options.cold
    );
    context.each(title, 1, |server, repetition, sample| {
        let watcher = context.farm.join(&server.target, 0, |_| ())?;
        if !wait_for(&watcher, PATIENCE, |record| record.live_ns.is_some()) {
            return Err("the viewer that keeps the camera open got no live picture".into());
        }
        let mut warm = Vec::new();
        for phase in &phases[..options.warm] {
            thread::sleep(context.cameras.until_phase(0, *phase));
            warm.extend(one(context, server, 0, false, sample));
        }
        columns("warm", options.warm, &warm, sample);
        let mut cold = Vec::new();
        if server.target.opens_any_camera() {
            for (index, phase) in phases[..options.cold].iter().enumerate() {
                let camera = UNSEEN + repetition * options.cold + index;
                thread::sleep(context.cameras.until_phase(camera, *phase));
                cold.extend(one(context, server, camera, true, sample));
            }
        } else {
            sample.note("its URL has no {rtsp}, so that it cannot be asked for further cameras: no cold joins");
        }
        columns("cold", options.cold, &cold, sample);
        let after_key = cold.iter().filter_map(|record| {
            let waited = record.live_ns? - record.key_ns?.max(record.offered_ns);
            Some(float(waited) / 1e6)
        });
        spread("cold: live picture after the key frame", &after_key.collect::<Vec<_>>(), sample);
        context.farm.leave(&watcher, true);
        Ok(())
    })
}

/// Lets a viewer come, wait for its picture and go.
fn one(
    context: &Context,
    server: &Running,
    camera: usize,
    cold: bool,
    sample: &mut Sample,
) -> Option<Record> {
    let begin_ns = unix_ns();
    if cold
        && server.target.is_janus()
        && let Err(error) = janus::open(&server.target, camera)
    {
        sample.note(format!("a camera was not opened: {error}"));
        return None;
    }
    let joined: Joined = match context.farm.join(&server.target, camera, |_| ()) {
        Ok(joined) => joined,
        Err(error) => {
            sample.note(format!("a viewer was not answered: {error}"));
            return None;
        }
    };
    if cold {
        lock(&joined.record).offered_ns = begin_ns;
    }
    wait_for(&joined, PATIENCE, |record| record.live_ns.is_some());
    context.farm.leave(&joined, true);
    let record = lock(&joined.record).clone();
    if record.live_ns.is_none() {
        let why = record.error.as_deref().unwrap_or("it waited for 15 s");
        sample.note(format!("a viewer got no live picture: {why}"));
    }
    Some(record)
}

/// When something happened, if it did.
type Moment = fn(&Record) -> Option<i64>;

fn columns(kind: &str, wanted: usize, records: &[Record], sample: &mut Sample) {
    if wanted == 0 {
        return;
    }
    let steps: [(&str, Moment); 4] = [
        ("answer", |record| record.answered_ns),
        ("connected", |record| record.connected_ns),
        ("first packet", |record| record.first_packet_ns),
        ("live picture", |record| record.live_ns),
    ];
    for (step, moment) in steps {
        let times: Vec<f64> = records
            .iter()
            .filter_map(|record| record.since_offer(moment(record)))
            .collect();
        spread(&format!("{kind}: {step}"), &times, sample);
    }
}

fn spread(what: &str, times: &[f64], sample: &mut Sample) {
    for (name, fraction) in [("p50", 0.5), ("p95", 0.95), ("max", 1.0)] {
        sample.value(&format!("{what} {name} ms"), percentile(times, fraction));
    }
}
