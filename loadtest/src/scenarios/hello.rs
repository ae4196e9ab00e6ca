//! A stranger sends handshake messages while viewers connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Context, wait_for};
use crate::cli::Hello;
use crate::measure::{float, percentile};
use crate::report::Report;
use crate::server::Running;
use crate::stranger::{Stranger, Traffic, handshake};
use crate::viewer::lock;

/// A handshake takes no longer, even with a few lost messages.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) fn run(options: &Hello, context: &Context) -> Report {
    let title = format!(
        "hello: {} handshakes, {} foreign messages per second",
        options.handshakes, options.rate
    );
    context.each(title, 1, |server, _, sample| {
        let watcher = context.farm.join(&server.target, 0, |_| ())?;
        if !wait_for(&watcher, PATIENCE, |record| record.live_ns.is_some()) {
            return Err("the viewer that keeps the camera open got no live picture".into());
        }
        let (mut connected, mut packets, mut times) = (0, 0, Vec::new());
        let mut total = Traffic::default();
        for _ in 0..options.handshakes {
            let one = one(options, context, server)?;
            connected += usize::from(one.connected_ms.is_some());
            packets += usize::from(one.received);
            times.extend(one.connected_ms);
            total.sent += one.traffic.sent;
            total.received += one.traffic.received;
        }
        sample.value("handshakes", Some(float(options.handshakes)));
        sample.value(
            "handshakes broken",
            Some(float(options.handshakes - connected)),
        );
        sample.value(
            "connected without media",
            Some(float(connected - packets.min(connected))),
        );
        sample.value("connected p50 ms", percentile(&times, 0.5));
        sample.value("connected max ms", percentile(&times, 1.0));
        sample.value("foreign messages", Some(float(total.sent)));
        sample.value("answers to the stranger", Some(float(total.received)));
        let ended = lock(&watcher.record).error.is_some();
        if ended {
            sample.note("the viewer that watched all the time was ended");
        }
        context.farm.leave(&watcher, true);
        Ok(())
    })
}

struct Outcome {
    connected_ms: Option<f64>,
    received: bool,
    traffic: Traffic,
}

fn one(options: &Hello, context: &Context, server: &Running) -> Result<Outcome, String> {
    let over = Arc::new(AtomicBool::new(false));
    let mut stranger = None;
    let rate = options.rate;
    let joined = context.farm.join(&server.target, 0, |addresses| {
        if rate > 0 {
            stranger = begin(addresses.to_vec(), rate, Arc::clone(&over), context);
            // The first messages are there before the viewer's.
            thread::sleep(Duration::from_millis(5));
        }
    });
    let waited = joined
        .as_ref()
        .map(|joined| wait_for(joined, PATIENCE, |record| record.first_packet_ns.is_some()));
    over.store(true, Ordering::Relaxed);
    let traffic = stranger
        .and_then(|thread| thread.join().ok())
        .unwrap_or_default();
    let (joined, received) = match (joined.as_ref(), waited) {
        (Ok(joined), Ok(received)) => (joined, received),
        (Err(error), _) | (_, Err(error)) => return Err(error.clone()),
    };
    context.farm.leave(joined, true);
    let record = lock(&joined.record);
    Ok(Outcome {
        connected_ms: record.since_offer(record.connected_ns),
        received,
        traffic,
    })
}

fn begin(
    to: Vec<SocketAddr>,
    rate: u64,
    over: Arc<AtomicBool>,
    context: &Context,
) -> Option<JoinHandle<Traffic>> {
    let stranger = Stranger::new(context.farm.address()).ok()?;
    thread::Builder::new()
        .name("stranger".into())
        .spawn(move || stranger.send(&to, rate, handshake, || !over.load(Ordering::Relaxed)))
        .ok()
}
