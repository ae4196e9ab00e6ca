//! Packets of lanes as they leave, and as they are found again.

use super::*;
use crate::{
    media::{Part, Track},
    webrtc::{
        history::tests::{part, picture},
        ice::Transport,
        srtp::Profile,
    },
};

fn lane(codec: Codec, rtx: Option<u8>) -> Lane {
    Lane::new(&Sending {
        track: Track {
            id: TrackId(0),
            codec,
        },
        payload_type: 98,
        rtpmap: String::new(),
        fmtp: String::new(),
        feedback: Vec::new(),
        rtx,
        extensions: Extensions::default(),
    })
}

/// Runs `act` with something to send to, and gives the packets: payload type, marker, sequence
/// number, timestamp.
fn packets<T>(act: impl FnOnce(&mut Out<'_>) -> T) -> (T, Vec<(u8, bool, u16, u32)>) {
    let provider = rtc_crypto::default_provider().unwrap();
    let mut sealer = Sealer::new(Profile::Gcm, &[1; 16], &[2; 12], provider.crypto()).unwrap();
    let mut arena = Arena::default();
    let path = Path {
        transport: Transport::Udp,
        remote: ([192, 0, 2, 1], 9).into(),
        local: None,
    };
    let result = act(&mut Out {
        arena: &mut arena,
        sealer: &mut sealer,
        path,
        stamps: &mut Stamps::default(),
    });
    let mut seen = Vec::new();
    for batch in arena.batches() {
        for packet in arena.bytes[batch.range.clone()].chunks(batch.segment) {
            seen.push((
                packet[1] & 0x7f,
                packet[1] & 0x80 != 0,
                u16::from_be_bytes([packet[2], packet[3]]),
                u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]),
            ));
        }
    }
    (result, seen)
}

#[test]
fn numbers_have_no_gaps_and_times_keep_their_distance() {
    let mut lane = lane(Codec::H264(None), None);
    let mut history = History::default();
    history.push(&picture(0, true, &[50, 50]));
    history.push(&picture(40, false, &[50]));
    lane.go_live(0);
    let (sent, seen) = packets(|out| lane.send(&history, u64::MAX, out));
    assert_eq!((sent, lane.sent()), (Some(3), (3, 150)));
    let (_, _, number, time) = seen[0];
    assert_eq!(
        seen,
        [
            (98, false, number, time),
            (98, true, number + 1, time),
            (98, true, number + 2, time.wrapping_add(3_600)),
        ]
    );
}

#[test]
fn a_late_viewer_gets_the_group_squeezed_before_the_live_picture() {
    let mut lane = lane(Codec::H264(None), None);
    let mut history = History::default();
    for n in 0..5 {
        history.push(&picture(n * 40, n == 1, &[50]));
    }
    lane.start(&history);
    let (sent, early) = packets(|out| lane.send(&history, 3, out));
    assert_eq!((sent, lane.feed), (Some(3), Feed::Behind));
    assert!(!lane.has_caught_up(&history));
    history.push(&picture(200, false, &[50]));
    let (_, late) = packets(|out| lane.send(&history, 9, out));
    assert!(lane.has_caught_up(&history));
    let start = early[0].3;
    let steps: Vec<_> = early
        .iter()
        .chain(&late)
        .map(|p| p.3.wrapping_sub(start))
        .collect();
    assert_eq!(steps, [0, 90, 180, 270, 270 + 3_600]);
}

#[test]
fn a_replay_in_the_middle_stays_behind_what_was_seen() {
    let mut lane = lane(Codec::H264(None), None);
    let mut history = History::default();
    history.push(&picture(0, true, &[50]));
    for n in 1..100 {
        history.push(&picture(n * 40, false, &[50]));
    }
    lane.go_live(99);
    let (_, seen) = packets(|out| lane.send(&history, 9, out));
    lane.replay(&history);
    assert_eq!(lane.feed, Feed::Closed, "there is no time between");
    history.push(&picture(4_000, false, &[50]));
    lane.replay(&history);
    let (sent, again) = packets(|out| lane.send(&history, 1_000, out));
    assert_eq!(sent, Some(101));
    let mut before = seen[0];
    for packet in again {
        assert_eq!(packet.2, before.2.wrapping_add(1));
        let step = packet.3.wrapping_sub(before.3);
        assert!((1..=3_600).contains(&step), "{step}");
        before = packet;
    }
    assert_eq!(before.3.wrapping_sub(seen[0].3), 3_600);
}

#[test]
fn lost_packets_are_found_across_jumps_and_sent_once_for_each_loss() {
    let now = Instant::now();
    let rtt = Duration::from_millis(50);
    for rtx in [None, Some(99)] {
        let mut lane = lane(Codec::H264(None), rtx);
        let mut history = History::default();
        for n in 0..10 {
            history.push(&picture(n * 40, true, &[50, 60]));
        }
        lane.go_live(0);
        let (_, first) = packets(|out| lane.send(&history, 3, out));
        lane.go_live(10);
        let (_, second) = packets(|out| lane.send(&history, 100, out));
        for original in [first[1], second[1], second[4]] {
            let (result, seen) = packets(|out| lane.resend(original.2, &history, now, rtt, out));
            assert_eq!(result, Resent::Sent);
            assert_eq!((seen[0].1, seen[0].3), (original.1, original.3));
            let expected = rtx.map_or((98, true), |rtx| (rtx, false));
            assert_eq!((seen[0].0, seen[0].2 == original.2), expected);
            let again = packets(|out| lane.resend(original.2, &history, now, rtt, out)).0;
            assert_eq!(again, Resent::Already);
            let later = packets(|out| lane.resend(original.2, &history, now + rtt, rtt, out)).0;
            assert_eq!(later, Resent::Sent);
        }
        let unknown = second[9].2.wrapping_add(1);
        let missing = packets(|out| lane.resend(unknown, &history, now, rtt, out)).0;
        assert_eq!(missing, Resent::Missing);
    }
}

#[test]
fn reports_of_two_lanes_agree_on_the_time_of_capture() {
    let (mut video, mut audio) = (lane(Codec::H264(None), None), lane(Codec::Pcmu, None));
    let frame = |millis: i64| {
        let mut frame = (*part(millis, true, Part::WHOLE, &[1])).clone();
        frame.captured = Duration::from_millis(millis.unsigned_abs());
        frame
    };
    let mut history = History::default();
    history.push(&std::sync::Arc::new(frame(500)));
    for lane in [&mut video, &mut audio] {
        lane.go_live(0);
        packets(|out| lane.send(&history, 1, out));
    }
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let now = Instant::now();
    let a = video.report(&frame(500), start, now).unwrap();
    let b = audio.report(&frame(500), start, now).unwrap();
    assert_eq!(a.ntp, b.ntp);
    assert_eq!(a.ntp >> 32, 1_700_000_000 + NTP_EPOCH);
    assert!(video.report(&frame(1_499), start, now).is_none());
    assert!(video.report(&frame(1_500), start, now).is_some());
}

#[test]
fn a_replay_that_meets_the_next_key_frame_goes_on_there() {
    let mut lane = lane(Codec::H264(None), None);
    let mut history = History::default();
    for n in 0..100 {
        history.push(&picture(n * 40, n == 0, &[50]));
    }
    lane.start(&history);
    let (_, early) = packets(|out| lane.send(&history, 10, out));
    let key = history.push(&picture(4_000, true, &[50]));
    // The group before is forgotten with it, but for the last second.
    let (sent, _) = packets(|out| lane.send(&history, 10, out));
    assert_eq!(sent, None);
    lane.go_live(key.first);
    let (sent, live) = packets(|out| lane.send(&history, 10, out));
    assert_eq!(sent, Some(1));
    let (last, next) = (early[9], live[0]);
    assert_eq!(next.2, last.2.wrapping_add(1));
    assert!((1..=4_000 * 90).contains(&next.3.wrapping_sub(last.3)));
}
