use std::sync::Arc;

use super::*;
use crate::{
    hub::{Converted, LeftOut},
    media::{Codec, Track, TrackId},
    webrtc::offer::tests::offer_of,
};

const H264: (&str, &str) = (
    "video 98",
    "a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=1;profile-level-id=42e01f",
);
const VP8: (&str, &str) = ("video 96", "a=rtpmap:96 VP8/90000");
const SOUND: (&str, &str) = ("audio 111 0 8", "a=rtpmap:111 opus/48000/2");
const OPUS: (&str, &str) = ("audio 111", "a=rtpmap:111 opus/48000/2");
const BROWSER: &[(&str, &str)] = &[H264, SOUND];

/// Sources, the sections of an offer, and what comes of them.
type Row<'a> = (&'a [Known], &'a [(&'a str, &'a str)], &'a str);

/// A source by the names of its tracks: `aac` is one that has to be converted, `h265` and `amr` are left out.
fn open(names: &[&str]) -> Known {
    let mut tracks = Tracks::default();
    for (name, id) in names.iter().zip(0..) {
        let mut usable = |codec| {
            let id = TrackId(id);
            tracks.usable.push(Track { id, codec });
        };
        let left_out = |kind, verdict| LeftOut {
            kind,
            note: Note::new(verdict, format!("the camera has {name}")),
        };
        match *name {
            "h264" => usable(Codec::H264("42c01f".parse().ok())),
            "opus" => usable(Codec::Opus),
            "pcmu" => usable(Codec::Pcmu),
            "aac" => tracks.converted.push(Converted {
                track: Track {
                    id: Converted::id_of(TrackId(id)),
                    codec: Codec::Opus,
                },
                from: "AAC".to_owned(),
            }),
            "h265" => tracks
                .left_out
                .push(left_out(Kind::Video, Verdict::UnsupportedVideo)),
            "amr" => tracks
                .left_out
                .push(left_out(Kind::Audio, Verdict::UnsupportedAudio)),
            other => panic!("{other}"),
        }
    }
    Known::Open(Arc::new(tracks))
}

fn failed(verdict: Verdict) -> Known {
    Known::Failed(Error::new(verdict, "it is off"))
}

/// What comes of it in a line: what is sent from which source, with `*` if converted, and the verdicts of
/// notes; or what is asked or refused.
fn outcome(sources: &[Known], sections: &[(&str, &str)], is_silent: bool) -> String {
    let offer = Offer::parse(&offer_of(sections)).unwrap();
    let selection = match select(sources, &offer, is_silent) {
        Ok(Decision::Made(selection)) => selection,
        Ok(Decision::Ask(index)) => return format!("ask {index}"),
        Ok(Decision::Wait) => return "wait".to_owned(),
        Err(e) => return format!("refused {}: {e}", e.verdict()),
    };
    let Selection {
        picture,
        sound,
        tracks,
        plan,
    } = selection;
    let mut told: Vec<_> = plan
        .sendings()
        .map(|sending| {
            let Track { id, codec } = sending.track;
            let from = match codec.kind() {
                Kind::Video => picture,
                Kind::Audio => sound,
            };
            let is_beside = picture.is_some() && sound.is_some() && picture != sound;
            let is_renumbered = id.0 & 0x40 != 0;
            assert_eq!(is_renumbered, is_beside && codec.kind() == Kind::Audio);
            assert!(tracks.playable().contains(&sending.track));
            let mark = if tracks.is_converted(id) { "*" } else { "" };
            format!("{}:{codec}{mark}", from.expect("it is of a source"))
        })
        .collect();
    told.sort();
    let notes = plan.notes.iter().map(|note| note.diagnosis.verdict.code());
    told.extend(notes.map(str::to_owned));
    told.join(" ")
}

#[test]
fn each_kind_comes_from_the_first_source_that_has_it_for_the_browser() {
    use Known::Unasked;
    let table: &[Row] = &[
        // One source is enough if it has all that is wanted.
        (
            &[open(&["h264", "pcmu"]), Unasked],
            BROWSER,
            "0:H264 0:PCMU",
        ),
        (
            &[open(&["h264", "aac"]), Unasked],
            BROWSER,
            "0:H264 0:opus*",
        ),
        (&[open(&["h264"]), Unasked], &[H264], "0:H264"),
        (&[open(&["opus", "h264"]), Unasked], &[SOUND], "0:opus"),
        // What it lacks is asked of the next one.
        (&[open(&["h264"]), Unasked], BROWSER, "ask 1"),
        (&[open(&["pcmu"]), Unasked], BROWSER, "ask 1"),
        (&[open(&["h265", "aac"]), Unasked], BROWSER, "ask 1"),
        (&[open(&["h264", "amr"]), Unasked], BROWSER, "ask 1"),
        // The second gives the picture, and sound stays with the first that has it, converted or not.
        (
            &[open(&["h265", "aac"]), open(&["h264", "pcmu"])],
            BROWSER,
            "0:opus* 1:H264",
        ),
        (
            &[open(&["h265"]), open(&["h264", "pcmu"])],
            BROWSER,
            "1:H264 1:PCMU",
        ),
        (
            &[open(&["pcmu"]), open(&["h264"])],
            BROWSER,
            "0:PCMU 1:H264",
        ),
        // The second gives the sound.
        (
            &[open(&["h264"]), open(&["h264", "opus"])],
            BROWSER,
            "0:H264 1:opus",
        ),
        (
            &[open(&["h264", "amr"]), open(&["aac"]), Unasked],
            BROWSER,
            "0:H264 1:opus*",
        ),
        // Sound that this browser does not take counts as none.
        (
            &[open(&["h264", "pcmu"]), open(&["opus"])],
            &[H264, OPUS],
            "0:H264 1:opus",
        ),
        // Nobody has any: what the first that says something of it has to say.
        (
            &[open(&["h264"]), open(&["h264", "amr"])],
            BROWSER,
            "0:H264 unsupported-audio",
        ),
        (&[open(&["h264"]), open(&["h264"])], BROWSER, "0:H264"),
        (
            &[open(&["h264"]), open(&["pcmu"])],
            &[H264, OPUS],
            "0:H264 browser-audio",
        ),
        (
            &[open(&["pcmu"]), open(&["opus"])],
            BROWSER,
            "0:PCMU no-video",
        ),
        (&[open(&["h264"]), open(&["pcmu"])], &[SOUND], "1:PCMU"),
    ];
    for (sources, sections, expected) in table {
        assert_eq!(outcome(sources, sections, false), *expected, "{sources:?}");
    }
}

#[test]
fn what_cannot_be_opened_is_passed_over_with_a_note() {
    let off = || failed(Verdict::HostUnreachable);
    let (late, known) = (
        || Known::Late(None),
        || Known::Late(Some(Verdict::PortClosed.into())),
    );
    let foreign = || failed(Verdict::UnsupportedVideo);
    let all = || open(&["h264", "pcmu"]);
    let table: &[(&[Known], &str)] = &[
        (&[Known::Unasked, Known::Unasked], "ask 0"),
        (&[Known::Opening, Known::Unasked], "wait"),
        (&[off(), Known::Unasked], "ask 1"),
        (&[off(), all()], "1:H264 1:PCMU other-source"),
        (&[late(), Known::Unasked], "ask 1"),
        (&[late(), Known::Opening], "wait"),
        (&[late(), all()], "1:H264 1:PCMU other-source"),
        (
            &[known(), all(), Known::Unasked],
            "1:H264 1:PCMU other-source",
        ),
        // One that has nothing for browsers is told of only where something is missing.
        (&[foreign(), all()], "1:H264 1:PCMU"),
        (&[foreign(), open(&["h264"])], "1:H264 other-source"),
        // Nobody who has a picture waits for sound of a source that is late.
        (&[late(), open(&["h264"])], "1:H264 other-source"),
        (&[open(&["h264"]), Known::Opening], "wait"),
        (&[open(&["h264"]), known()], "0:H264 other-source"),
        (&[late(), open(&["pcmu"])], "wait"),
        (&[off(), open(&["h264"])], "1:H264 other-source"),
        (&[open(&["h264"]), off()], "0:H264 other-source"),
        (
            &[open(&["h264"]), known(), open(&["pcmu"])],
            "0:H264 2:PCMU other-source",
        ),
    ];
    for (sources, expected) in table {
        assert_eq!(outcome(sources, BROWSER, false), *expected, "{sources:?}");
    }
    assert_eq!(outcome(&[late(), open(&["h264"])], &[SOUND], false), "wait");
    let offer = Offer::parse(&offer_of(BROWSER)).unwrap();
    let Ok(Decision::Made(selection)) = select(&[off(), all()], &offer, false) else {
        panic!("it plays");
    };
    let note = &selection.plan.notes[0];
    assert_eq!(
        note.sentence,
        "source 1 of 2 of this camera is passed over: it is off"
    );
    assert_eq!(note.diagnosis.evidence(), Some("host-unreachable"));
}

#[test]
fn a_camera_without_a_picture_that_fits_is_refused_for_all_that_is_wrong() {
    let off = || failed(Verdict::HostUnreachable);
    let table: &[Row] = &[
        (&[off()], BROWSER, "refused host-unreachable: it is off"),
        (
            &[off(), failed(Verdict::PortClosed)],
            BROWSER,
            "refused host-unreachable: source 1: it is off; source 2: it is off",
        ),
        (
            &[open(&["h265", "aac"]), off()],
            BROWSER,
            "refused unsupported-video: source 1: the camera has h265; source 2: it is off",
        ),
        // Sound alone is no answer where a picture might have been.
        (
            &[off(), open(&["pcmu"])],
            BROWSER,
            "refused host-unreachable: it is off",
        ),
        (
            &[open(&["pcmu"]), open(&["h265"])],
            BROWSER,
            "refused unsupported-video: the camera has h265",
        ),
        (
            &[off(), open(&["h264"])],
            &[SOUND],
            "refused host-unreachable: it is off",
        ),
    ];
    for (sources, sections, expected) in table {
        assert_eq!(outcome(sources, sections, false), *expected, "{sources:?}");
    }
    let both = [open(&["h264"]), open(&["h264", "pcmu"])];
    let told = outcome(&both, &[VP8, SOUND], false);
    assert!(
        told.starts_with("refused browser-video: source 1: the camera's video is H264"),
        "{told}"
    );
    assert!(told.contains("; source 2: "), "{told}");
    let nothing = outcome(&both, &[("video 98", "a=inactive")], false);
    assert!(
        nothing.starts_with("refused nothing-to-play: the camera has H264"),
        "{nothing}"
    );
}

#[test]
fn for_a_camera_without_sound_no_source_is_asked_for_it() {
    let sources = [open(&["h264", "pcmu"]), Known::Unasked];
    assert_eq!(outcome(&sources, BROWSER, true), "0:H264");
    let sources = [open(&["aac", "h265"]), open(&["h264", "pcmu"])];
    assert_eq!(outcome(&sources, BROWSER, true), "1:H264");
    let told = outcome(&sources, &[SOUND], true);
    assert!(told.starts_with("refused"), "{told}");
}

#[test]
fn sections_on_transports_of_their_own_ask_no_source_for_sound() {
    let text = offer_of(&[H264, SOUND]).replace("a=group:BUNDLE 0 1", "a=x");
    let offer = Offer::parse(&text).unwrap();
    let sources = [open(&["h264"]), Known::Unasked];
    let Ok(Decision::Made(selection)) = select(&sources, &offer, false) else {
        panic!("one source is enough");
    };
    assert_eq!((selection.picture, selection.sound), (Some(0), None));
}

#[test]
fn what_a_camera_has_is_looked_for_in_all_of_its_sources() {
    let told = |sources: &[Known], is_silent| match overview(sources, is_silent) {
        Ok(Decision::Made(tracks)) => {
            let names: Vec<_> = tracks.playable().iter().map(|t| t.codec.name()).collect();
            names.join(" ")
        }
        Ok(next) => format!("{:?}", next.map(|_| ())),
        Err(e) => e.verdict().to_string(),
    };
    let h264 = || open(&["h264"]);
    assert_eq!(told(&[h264(), Known::Unasked], false), "Ask(1)");
    assert_eq!(told(&[h264(), Known::Unasked], true), "H264");
    assert_eq!(told(&[h264(), open(&["aac"])], false), "H264 opus");
    assert_eq!(
        told(&[open(&["h265"]), open(&["h264", "opus"])], false),
        "H264 opus"
    );
    assert_eq!(told(&[failed(Verdict::PortClosed), h264()], false), "H264");
    assert_eq!(told(&[failed(Verdict::PortClosed)], false), "port-closed");
}
