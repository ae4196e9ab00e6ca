mod h265;

use super::*;
use crate::base::ErrorKind;
use crate::{
    hub::{Converted, LeftOut},
    media::TrackId,
    webrtc::offer::tests::offer_of,
};

const H264: &str = "a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=1;profile-level-id=42e01f\
    |a=rtcp-fb:98 nack|a=rtcp-fb:98 nack pli|a=rtcp-fb:98 goog-remb";

fn tracks(codecs: &[Codec]) -> Tracks {
    Tracks {
        usable: codecs
            .iter()
            .zip(0..)
            .map(|(codec, id)| Track {
                id: TrackId(id),
                codec: *codec,
            })
            .collect(),
        ..Tracks::default()
    }
}

fn video(profile: &str) -> Codec {
    Codec::H264(profile.parse().ok())
}

fn plan(codecs: &[Codec], sections: &[(&str, &str)]) -> Result<Plan, Error> {
    negotiate(&tracks(codecs), &Offer::parse(&offer_of(sections)).unwrap())
}

fn payload_types(plan: &Plan) -> Vec<Option<u8>> {
    let of = |section: &SectionPlan| match section {
        SectionPlan::Send(sending) => Some(sending.payload_type),
        _ => None,
    };
    plan.sections.iter().map(of).collect()
}

#[test]
fn the_offers_order_payload_types_and_feedback_are_kept() {
    let plan = plan(
        &[video("42c01f"), Codec::Pcmu],
        &[
            ("audio 111 0 8", "a=rtpmap:111 opus/48000/2"),
            ("video 96 98", H264),
            ("application webrtc-datachannel", "a=sctp-port:5000"),
        ],
    )
    .unwrap();
    assert_eq!(payload_types(&plan), [Some(0), Some(98), None]);
    assert_eq!(plan.sections[2], SectionPlan::Data);
    let video = plan.sendings().nth(1).unwrap();
    assert_eq!(video.feedback, ["nack", "nack pli", "goog-remb"]);
    assert_eq!(video.rtpmap, "H264/90000");
    assert!(plan.notes.is_empty());
}

#[test]
fn sound_is_converted_only_for_who_does_not_take_it_as_it_is() {
    let mut tracks = tracks(&[video("42c01f"), Codec::Pcma]);
    let made = |id| Track {
        id: Converted::id_of(TrackId(id)),
        codec: Codec::Opus,
    };
    let converted = |id| Converted {
        track: made(id),
        from: "PCMA 8000 Hz mono".to_owned(),
    };
    tracks.converted = vec![converted(1)];
    let sent = |tracks: &Tracks, audio| {
        let offer = Offer::parse(&offer_of(&[audio, ("video 98", H264)])).unwrap();
        let plan = negotiate(tracks, &offer).unwrap();
        let of = |sending: &Sending| {
            tracks
                .is_converted(sending.track.id)
                .then_some(sending.track)
        };
        (payload_types(&plan)[0], plan.sendings().find_map(of))
    };
    let opus = "a=rtpmap:111 opus/48000/2";
    assert_eq!(sent(&tracks, ("audio 111 0 8", opus)), (Some(8), None));
    assert_eq!(
        sent(&tracks, ("audio 111", opus)),
        (Some(111), Some(made(1)))
    );
    assert_eq!(sent(&tracks, ("audio 0", "")), (None, None));
    // A camera with AAC has nothing that goes as it is.
    tracks.usable.truncate(1);
    assert_eq!(
        sent(&tracks, ("audio 111 0 8", opus)),
        (Some(111), Some(made(1)))
    );
    let playable: Vec<_> = tracks
        .playable()
        .iter()
        .map(|track| track.codec.name())
        .collect();
    assert_eq!(playable, ["H264", "opus"]);
}

#[test]
fn repair_and_reports_are_agreed_on_with_what_they_need() {
    let section = format!(
        "{H264}|a=rtcp-fb:98 transport-cc|a=rtpmap:99 rtx/90000|a=fmtp:99 apt=98\
         |a=extmap:2 {ABS_SEND_TIME}|a=extmap:3/sendrecv {TRANSPORT_SEQUENCE}|a=extmap:5 {PLAYOUT_DELAY}"
    );
    let agreed = |section: &str| {
        let plan = plan(&[video("42c01f")], &[("video 98 99", section)]).unwrap();
        let sending = plan.sendings().next().unwrap().clone();
        (sending.rtx, sending.extensions, sending.feedback.join(","))
    };
    let all = Extensions {
        abs_send_time: Some(2),
        transport_sequence: None,
        playout_delay: Some(5),
    };
    let (rtx, extensions, feedback) = agreed(&section);
    assert_eq!((rtx, extensions), (Some(99), all));
    assert_eq!(feedback, "nack,nack pli,goog-remb");
    let (_, extensions, feedback) = agreed(&section.replace("goog-remb", "x"));
    assert_eq!(extensions.transport_sequence, Some(3));
    assert_eq!(feedback, "nack,nack pli,transport-cc");
    let (rtx, extensions, feedback) = agreed(&section.replace("apt=98", "apt=97"));
    assert_eq!((rtx, extensions), (None, Extensions::default()));
    assert_eq!(feedback, "nack,nack pli,goog-remb");
}

#[test]
fn each_profile_finds_its_payload_type() {
    let section = "a=rtpmap:1 H264/90000|a=fmtp:1 profile-level-id=42001f;packetization-mode=1\
        |a=rtpmap:2 H264/90000|a=fmtp:2 profile-level-id=42e01f;packetization-mode=0\
        |a=rtpmap:3 H264/90000|a=fmtp:3 profile-level-id=42e01f;packetization-mode=1\
        |a=rtpmap:4 H264/90000|a=fmtp:4 profile-level-id=4d001f;packetization-mode=1\
        |a=rtpmap:5 H264/90000|a=fmtp:5 profile-level-id=64001f;packetization-mode=1";
    for (camera, expected) in [("42001e", 1), ("42c028", 3), ("4d0028", 4), ("640033", 5)] {
        let plan = plan(&[video(camera)], &[("video 1 2 3 4 5", section)]).unwrap();
        assert_eq!(payload_types(&plan), [Some(expected)], "{camera}");
        assert!(plan.notes.is_empty(), "{camera}");
    }
}

/// What Chromium offers on machines without a hardware decoder.
#[test]
fn the_high_profile_is_sent_as_one_that_decodes_it() {
    let section = "a=rtpmap:4 H264/90000|a=fmtp:4 profile-level-id=4d001f;packetization-mode=1\
        |a=rtpmap:6 H264/90000|a=fmtp:6 profile-level-id=f4001f;packetization-mode=1";
    for (camera, expected) in [("640028", 6), ("4d0028", 4), ("f40028", 6)] {
        let plan = plan(&[video(camera)], &[("video 4 6", section)]).unwrap();
        assert_eq!(payload_types(&plan), [Some(expected)], "{camera}");
        assert!(plan.notes.is_empty(), "{camera}: {:?}", plan.notes);
    }
}

#[test]
fn a_profile_that_nobody_announced_is_tried_with_a_note() {
    let plan = plan(&[video("640028")], &[("video 98", H264)]).unwrap();
    assert_eq!(payload_types(&plan), [Some(98)]);
    assert!(plan.notes[0].sentence.contains("High"), "{:?}", plan.notes);
    assert_eq!(plan.notes[0].diagnosis.verdict, Verdict::VideoProfile);
}

#[test]
fn a_picture_that_cannot_be_shown_is_an_error_that_names_both_sides() {
    let offers: [&[(&str, &str)]; 2] = [
        &[("video 96", "a=rtpmap:96 VP8/90000"), ("audio 0", "")],
        &[(
            "video 98",
            "a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=0",
        )],
    ];
    for offer in offers {
        let error = plan(&[video("42c01f"), Codec::Pcmu], offer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAcceptable);
        assert!(error.to_string().contains("H264"), "{error}");
    }
}

#[test]
fn what_an_offer_takes_is_named_once() {
    let section = "a=rtpmap:96 VP8/90000|a=rtpmap:97 AV1/90000|a=rtpmap:98 VP8/90000";
    let error = plan(&[video("42c01f")], &[("video 96 97 98", section)]).unwrap_err();
    assert!(error.to_string().contains("only VP8, AV1;"), "{error}");
}

#[test]
fn sound_that_does_not_fit_is_left_out_with_a_note() {
    let plan = plan(
        &[video("42c01f"), Codec::Opus],
        &[("video 98", H264), ("audio 0", "")],
    )
    .unwrap();
    assert_eq!(payload_types(&plan), [Some(98), None]);
    let note = &plan.notes[0];
    assert!(note.sentence.contains("opus") && note.sentence.contains("PCMU"));
    assert_eq!(note.diagnosis.verdict, Verdict::BrowserAudio);
}

#[test]
fn a_client_that_states_no_packetization_mode_comes_after_one_that_does() {
    let silent = "a=rtpmap:97 H264/90000";
    let both = format!("{silent}|a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=1");
    for (section, expected) in [(silent, 97), (both.as_str(), 98)] {
        for camera in [video("42c01f"), Codec::H264(None)] {
            let plan = plan(&[camera], &[("video 97 98", section)]).unwrap();
            assert_eq!(payload_types(&plan), [Some(expected)]);
        }
    }
}

#[test]
fn a_camera_whose_picture_cannot_be_sent_is_not_played_as_sound_alone() {
    let mut tracks = tracks(&[Codec::Pcmu]);
    tracks.left_out.push(LeftOut {
        kind: Kind::Video,
        note: Note::new(Verdict::UnsupportedVideo, "the camera's video is JPEG"),
    });
    let offer = |sections| Offer::parse(&offer_of(sections)).unwrap();
    let error = negotiate(&tracks, &offer(&[("video 98", H264), ("audio 0", "")])).unwrap_err();
    assert!(error.to_string().contains("JPEG"), "{error}");
    assert!(negotiate(&tracks, &offer(&[("audio 0", "")])).is_ok());
}

#[test]
fn a_camera_without_video_plays_its_sound_with_a_note() {
    let offer = |sections| Offer::parse(&offer_of(sections)).unwrap();
    let both = offer(&[("video 98", H264), ("audio 0", "")]);
    let plan = negotiate(&tracks(&[Codec::Pcmu]), &both).unwrap();
    assert_eq!(plan.notes[0].diagnosis.verdict, Verdict::NoVideo);
    let picture = offer(&[("video 98", H264)]);
    let error = negotiate(&tracks(&[Codec::Pcmu]), &picture).unwrap_err();
    assert_eq!(error.verdict(), Verdict::NoVideo);
    let none = offer(&[("video 98", "a=inactive")]);
    let error = negotiate(&tracks(&[Codec::Pcmu]), &none).unwrap_err();
    assert_eq!(error.verdict(), Verdict::NothingToPlay);
}

#[test]
fn one_section_of_each_kind_is_enough() {
    let plan = plan(
        &[video("42c01f")],
        &[("video 98", H264), ("video 98", H264)],
    )
    .unwrap();
    assert_eq!(payload_types(&plan), [Some(98), None]);
}

#[test]
fn sections_on_transports_of_their_own_get_only_the_picture() {
    let text =
        offer_of(&[("audio 0", ""), ("video 98", H264)]).replace("a=group:BUNDLE 0 1", "a=x");
    let plan = negotiate(
        &tracks(&[video("42c01f"), Codec::Pcmu]),
        &Offer::parse(&text).unwrap(),
    )
    .unwrap();
    assert_eq!(payload_types(&plan), [None, Some(98)]);
}

#[test]
fn an_offer_that_receives_nothing_is_refused() {
    for offer in [
        ("video 98", "a=inactive"),
        ("application webrtc-datachannel", ""),
    ] {
        let error = plan(&[video("42c01f")], &[offer]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAcceptable);
    }
}
