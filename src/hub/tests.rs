use super::*;
use crate::base::ErrorKind;
use crate::media::{Codec, MediaTime, Part, Track, TrackId};

fn frame(number: i64) -> Frame {
    Frame {
        track: TrackId(0),
        codec: Codec::Pcmu,
        time: MediaTime(number),
        captured: Duration::ZERO,
        random_access: true,
        part: Part::WHOLE,
        payloads: Box::new([]),
    }
}

#[tokio::test]
async fn a_slow_subscriber_learns_its_loss_and_disturbs_nobody() {
    let (publisher, hub) = hub();
    let (mut slow, mut quick) = (hub.subscribe().0, hub.subscribe().0);
    for number in 0..108 {
        publisher.publish(frame(number));
        assert!(matches!(quick.next().await, Next::Frame(f) if f.time.0 == number));
    }
    assert!(matches!(slow.next().await, Next::Behind(44)));
    publisher.publish(frame(108));
    assert!(matches!(slow.next().await, Next::Frame(f) if f.time.0 == 108));
    let (one, _other) = (hub.watch(), hub.watch());
    assert_eq!(hub.viewers(), 2);
    drop(one);
    assert_eq!(hub.viewers(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_failure_does_not_answer_a_new_question() {
    let (publisher, hub) = hub();
    publisher.connecting();
    publisher.failed(Error::new(ErrorKind::Unavailable, "first"));
    let limit = Duration::from_secs(5);
    // Nothing newer is known after all that time.
    let asked = Instant::now();
    assert_eq!(hub.ready(limit).await.unwrap_err().to_string(), "first");
    assert_eq!(asked.elapsed(), limit);
    publisher.connecting();
    let late = hub.ready(limit).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    let (told, ()) = tokio::join!(hub.ready(limit), async {
        publisher.failed(Error::new(ErrorKind::Unavailable, "second"));
    });
    assert_eq!(told.unwrap_err().to_string(), "second");
    publisher.announce(Tracks::default());
    assert!(hub.ready(limit).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_camera_without_pictures_is_in_trouble_until_they_come() {
    let (publisher, hub) = hub();
    let verdict = || hub.trouble().map(|trouble| trouble.verdict);
    let picture = |number| Frame {
        codec: Codec::H264(None),
        ..frame(number)
    };
    let tracks = Tracks {
        usable: vec![Track {
            id: TrackId(0),
            codec: Codec::H264(None),
        }],
        ..Tracks::default()
    };
    publisher.connecting();
    publisher.announce(tracks.clone());
    tokio::time::advance(QUIET.saturating_sub(LATELY)).await;
    assert_eq!(verdict(), None);
    publisher.heard();
    tokio::time::advance(LATELY).await;
    publisher.heard();
    assert_eq!(verdict(), Some(Verdict::NoKeyFrame));
    publisher.publish(picture(1));
    assert_eq!(verdict(), None);
    tokio::time::advance(QUIET).await;
    assert_eq!(verdict(), Some(Verdict::Stalled));
    publisher.failed(Error::new(Verdict::ConnectionLost, "unplugged"));
    publisher.connecting();
    assert_eq!(verdict(), Some(Verdict::ConnectionLost));
    publisher.announce(tracks);
    assert_eq!(verdict(), None);
    publisher.announce(Tracks::default());
    tokio::time::advance(QUIET).await;
    assert_eq!(verdict(), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_key_picture_gets_it_or_learns_why_not() {
    let (publisher, hub) = hub();
    let picture = |number| Frame {
        codec: Codec::H264(None),
        ..frame(number)
    };
    publisher.connecting();
    let (found, ()) = tokio::join!(hub.next_key_picture(), async {
        publisher.publish(frame(1));
        publisher.publish(picture(2));
    });
    assert_eq!(found.unwrap()[0].time.0, 2);
    publisher.connecting();
    let (failed, ()) = tokio::join!(hub.next_key_picture(), async {
        tokio::task::yield_now().await;
        publisher.failed(Error::new(ErrorKind::Unavailable, "unplugged"));
    });
    assert_eq!(failed.unwrap_err().to_string(), "unplugged");
    publisher.connecting();
    let (ended, ()) = tokio::join!(hub.next_key_picture(), async {
        tokio::task::yield_now().await;
        drop(publisher);
    });
    assert_eq!(ended.unwrap_err().verdict(), Verdict::CameraClosed);
    hub.closed().await;
}
