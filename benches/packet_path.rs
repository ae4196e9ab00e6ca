//! What a picture costs on its way from the camera to viewers: cutting it into payloads, handing it to
//! the camera's fans, writing and sealing its packets for each viewer, and sending them.

#![expect(missing_docs, reason = "criterion's macro writes a public function")]

mod support;

use std::{hint::black_box, net::Ipv4Addr, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use porthole::{
    hub::{Next, hub},
    media::rtp::{PAYLOAD_MAX, h264::cut_access_unit},
    webrtc::{arena::Arena, srtp::Profile},
};
use rtc_crypto::AeadAlgorithm;
use support::{Camera, Network, Viewer, access_unit};

const VIEWERS: [usize; 4] = [1, 10, 100, 500];
/// All packets of a picture, whatever it has.
const WHOLE: u64 = u64::MAX;

/// A picture of 6 Mbit/s at 25 per second, and a key frame of 4K.
fn cutting(c: &mut Criterion) {
    let mut group = c.benchmark_group("cutting");
    for size in [30_000, 200_000] {
        let unit = access_unit(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| cut_access_unit(black_box(&unit), PAYLOAD_MAX));
        });
    }
    group.finish();
}

/// A camera has a fan for each processor at most, and each of them subscribes to the hub.
fn hub_to_fans(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers can be built");
    let camera = Camera::new();
    let mut group = c.benchmark_group("hub");
    for fans in [1_usize, 4, 16] {
        let (publisher, hub) = hub();
        let mut subscriptions: Vec<_> = (0..fans).map(|_| hub.subscribe().0).collect();
        group.throughput(Throughput::Elements(fans as u64));
        group.bench_function(BenchmarkId::from_parameter(fans), |b| {
            b.iter(|| {
                publisher.publish(camera.picture());
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

/// One picture for one viewer, and what of it is the copy and the cipher alone.
fn sealing(c: &mut Criterion) {
    let mut group = c.benchmark_group("sealing");
    let mut camera = Camera::new();
    let packets = camera.payloads().len();
    group.throughput(Throughput::Elements(packets as u64));
    for (name, profile) in [("AES-128-GCM", Profile::Gcm), ("AES-CM", Profile::Cm)] {
        let mut arena = Arena::default();
        let mut viewer = Viewer::new(profile, &camera, (Ipv4Addr::LOCALHOST, 9).into());
        group.bench_function(name, |b| {
            b.iter(|| {
                camera.take_picture();
                assert_eq!(viewer.send(&camera, WHOLE, &mut arena), packets as u64);
                black_box(&arena.bytes);
                arena.clear();
            });
        });
    }
    let provider = rtc_crypto::default_provider().expect("this build has cryptography");
    let mut cipher = provider
        .crypto()
        .new_aead(AeadAlgorithm::Aes128Gcm, &[1; 16])
        .expect("this build has the cipher");
    let (header, tag) = ([0x80; 12 + 16], [0; 16]);
    let mut bytes = Vec::new();
    group.bench_function("copy and AES-128-GCM alone", |b| {
        b.iter(|| {
            bytes.clear();
            for payload in camera.payloads() {
                let start = bytes.len();
                bytes.extend_from_slice(&header);
                bytes.extend_from_slice(payload);
                bytes.extend_from_slice(&tag);
                let (header, rest) = bytes[start..].split_at_mut(header.len());
                let (payload, tag) = rest.split_at_mut(payload.len());
                // The same number each time would be fatal anywhere else.
                let sealed = cipher.seal_in_place(&[3; 12], header, payload, tag);
                sealed.expect("the lengths are right");
            }
            black_box(&bytes);
        });
    });
    group.finish();
}

/// How the packets of one picture get from the arena to the viewer.
#[derive(Clone, Copy)]
enum Sending {
    /// Not at all.
    Nowhere,
    /// As the server does it: all at once, if the kernel can cut them apart.
    AtOnce,
    /// Each by itself.
    OneByOne,
}

/// One picture for each of many viewers.
fn fan_out(c: &mut Criterion) {
    let ways = [
        ("written and sealed", Sending::Nowhere),
        ("and sent at once", Sending::AtOnce),
        ("and sent one by one", Sending::OneByOne),
    ];
    for (name, sending) in ways {
        let mut group = c.benchmark_group(format!("fan-out, {name}"));
        for count in VIEWERS {
            let mut camera = Camera::new();
            let mut network = Network::new(count);
            let mut viewers: Vec<_> = network
                .addresses()
                .map(|address| Viewer::new(Profile::Gcm, &camera, address))
                .collect();
            let mut arena = Arena::default();
            group.throughput(Throughput::Elements(
                (count * camera.payloads().len()) as u64,
            ));
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                b.iter(|| {
                    camera.take_picture();
                    for viewer in &mut viewers {
                        publish(viewer, &camera, sending, &mut arena, &mut network);
                    }
                });
                let reached = network.reached();
                assert!(reached == count || matches!(sending, Sending::Nowhere));
            });
        }
        group.finish();
    }
}

fn publish(
    viewer: &mut Viewer,
    camera: &Camera,
    sending: Sending,
    arena: &mut Arena,
    network: &mut Network,
) {
    match sending {
        Sending::Nowhere => {
            viewer.send(camera, WHOLE, arena);
            black_box(&arena.bytes);
            arena.clear();
        }
        Sending::AtOnce => {
            viewer.send(camera, WHOLE, arena);
            network.send(arena);
        }
        Sending::OneByOne => {
            while viewer.send(camera, 1, arena) > 0 {
                network.send(arena);
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = cutting, hub_to_fans, sealing, fan_out
}
criterion_main!(benches);
