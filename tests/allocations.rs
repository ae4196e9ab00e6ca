//! What every packet goes through takes no memory from the allocator, however many viewers there are.

#[path = "../benches/support/mod.rs"]
mod support;

use allocation_counter::measure;
use porthole::webrtc::{arena::Arena, srtp::Profile};
use support::{Camera, Network, Viewer};

#[test]
fn packets_are_written_sealed_and_sent_without_allocating() {
    for profile in [Profile::Gcm, Profile::Cm] {
        let mut camera = Camera::new();
        let mut network = Network::new(100);
        let mut viewers: Vec<_> = network
            .addresses()
            .map(|address| Viewer::new(profile, &camera, address))
            .collect();
        let mut arena = Arena::default();
        let mut fan_out = |camera: &Camera| {
            let mut sent = 0;
            for viewer in &mut viewers {
                sent += viewer.send(camera, u64::MAX, &mut arena);
                network.send(&mut arena);
            }
            sent
        };
        let packets = camera.payloads().len() as u64;
        // Until every viewer's log of what it was sent is as long as it gets.
        for _ in 0..120 {
            camera.take_picture();
            fan_out(&camera);
        }
        for _ in 0..5 {
            camera.take_picture();
            let mut sent = 0;
            let allocated = measure(|| sent = fan_out(&camera));
            assert_eq!(
                (sent, allocated.count_total),
                (100 * packets, 0),
                "{profile:?}"
            );
        }
        assert_eq!(network.reached(), 100);
    }
}
