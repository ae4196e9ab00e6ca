//! What one published frame costs with more and more subscribers, and what cutting it costs.

#![expect(missing_docs, reason = "criterion's macro writes a public function")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use porthole::{
    hub::{Next, hub},
    media::{
        Codec, Frame, MediaTime, TrackId,
        rtp::{PAYLOAD_MAX, h264::cut_access_unit},
    },
};

/// A picture of a camera with about 6 Mbit/s at 25 pictures per second.
const PICTURE: usize = 30_000;

fn frame(payloads: &[Bytes]) -> Frame {
    Frame {
        track: TrackId(0),
        codec: Codec::H264(None),
        time: MediaTime(0),
        captured: Duration::ZERO,
        random_access: true,
        part: Part::WHOLE,
        payloads: Box::from(payloads),
    }
}

fn fanout(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers can be built");
    let payloads = cut_access_unit(&[Bytes::from(vec![0x65; PICTURE])], PAYLOAD_MAX);
    let mut group = c.benchmark_group("publish and receive one frame");
    for viewers in [1_usize, 10, 100, 500] {
        let (publisher, hub) = hub();
        let mut subscriptions: Vec<_> = (0..viewers).map(|_| hub.subscribe().0).collect();
        group.throughput(Throughput::Elements(viewers as u64));
        group.bench_function(BenchmarkId::from_parameter(viewers), |b| {
            b.iter(|| {
                publisher.publish(frame(&payloads));
                runtime.block_on(async {
                    for subscription in &mut subscriptions {
                        let next = subscription.next().await;
                        assert!(matches!(black_box(next), Next::Frame(_)));
                    }
                });
            });
        });
    }
    group.finish();
}

fn cutting(c: &mut Criterion) {
    let unit = [Bytes::from(vec![0x65; PICTURE])];
    let mut group = c.benchmark_group("cut one access unit");
    group.throughput(Throughput::Bytes(PICTURE as u64));
    group.bench_function("30 kB", |b| {
        b.iter(|| cut_access_unit(black_box(&unit), PAYLOAD_MAX));
    });
    group.finish();
}

criterion_group!(benches, fanout, cutting);
criterion_main!(benches);
