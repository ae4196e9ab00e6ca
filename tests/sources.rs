//! What real browsers get of cameras with several sources. Their offers belong to others, so they are not in
//! this repository: `CORPUS_DIR`, or `../shared/corpus`, is where they are looked for.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use porthole::{
    base::{Note, Verdict},
    hub::{Converted, Decision, Known, LeftOut, Tracks},
    media::{Codec, Kind, Track, TrackId},
    webrtc::{
        Offer,
        negotiate::{negotiate, select},
    },
};

/// Offers by the names of their files; none, and it says so, where there is no corpus.
fn offers() -> Option<BTreeMap<String, Offer>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let corpus =
        std::env::var_os("CORPUS_DIR").map_or_else(|| root.join("../shared/corpus"), PathBuf::from);
    let Ok(folder) = fs::read_dir(corpus.join("offers")) else {
        let _ = writeln!(io::stderr(), "real offers NOT TESTED: no corpus here");
        return None;
    };
    let files = folder.map(|entry| entry.expect("the folder can be listed").path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "sdp"));
    let parsed = files.filter_map(|path| {
        let text = fs::read(&path).expect("a file of the corpus can be read");
        let offer = Offer::parse(&String::from_utf8_lossy(&text)).ok()?;
        Some((path.file_stem()?.to_string_lossy().into_owned(), offer))
    });
    Some(parsed.collect())
}

fn tracks(codecs: &[Codec]) -> Tracks {
    let usable = codecs.iter().zip(0..).map(|(codec, id)| Track {
        id: TrackId(id),
        codec: *codec,
    });
    Tracks {
        usable: usable.collect(),
        ..Tracks::default()
    }
}

fn h264() -> Codec {
    Codec::H264("42c01f".parse().ok())
}

/// A main stream with a picture that browsers do not take, and sound that has to be converted.
fn main_stream() -> Tracks {
    let converted = Converted {
        track: Track {
            id: Converted::id_of(TrackId(1)),
            codec: Codec::Opus,
        },
        from: "AAC".to_owned(),
    };
    let left_out = LeftOut {
        kind: Kind::Video,
        note: Note::new(Verdict::UnsupportedVideo, "the camera's video is MJPEG"),
    };
    Tracks {
        usable: Vec::new(),
        converted: vec![converted],
        left_out: vec![left_out],
    }
}

fn open(tracks: Tracks) -> Known {
    Known::Open(Arc::new(tracks))
}

/// What is sent, as `H264 from 1`, or what is done instead.
fn outcome(sources: &[Known], offer: &Offer) -> String {
    match select(sources, offer, false) {
        Ok(Decision::Made(selection)) => {
            let mut sent: Vec<_> = selection
                .plan
                .sendings()
                .map(|sending| {
                    let from = match sending.track.kind() {
                        Kind::Video => selection.picture,
                        Kind::Audio => selection.sound,
                    };
                    format!(
                        "{} from {}",
                        sending.track.codec,
                        from.expect("it is of a source")
                    )
                })
                .collect();
            sent.sort();
            sent.join(", ")
        }
        Ok(Decision::Ask(index)) => format!("ask {index}"),
        Ok(Decision::Wait) => "wait".to_owned(),
        Err(e) => e.verdict().to_string(),
    }
}

#[test]
fn browsers_get_what_they_take_of_the_first_source_that_has_it() {
    let Some(offers) = offers() else {
        return;
    };
    let sub = || open(tracks(&[h264(), Codec::Pcmu]));
    let mixed = [open(main_stream()), sub()];
    let asking = [open(main_stream()), Known::Unasked];
    let silent = [open(tracks(&[h264()])), sub()];
    let both = "H264 from 1, opus from 0";
    let beside = "H264 from 0, PCMU from 1";
    // Of a main stream that needs the other's picture, before that is known, and of one without sound.
    for (name, [of_mixed, of_asking, of_silent]) in [
        (
            "chromium156_ha_frontend_recvonly_av_nongathered",
            [both, "ask 1", beside],
        ),
        (
            "chromium156_go2rtc_card_video_audio_sendrecv_mic",
            [both, "ask 1", beside],
        ),
        (
            "chromium156_video_only_recvonly",
            ["H264 from 1", "ask 1", "H264 from 0"],
        ),
        (
            "chromium156_bundlepolicy_maxbundle_rtcpmux_require",
            ["H264 from 1", "ask 1", "H264 from 0"],
        ),
        (
            "chromium156_audio_only_recvonly",
            ["opus from 0", "opus from 0", "PCMU from 1"],
        ),
        (
            "chromium156_vp8_only_prefs",
            ["unsupported-video", "ask 1", "browser-video"],
        ),
        (
            "chromium156_inactive",
            ["unsupported-video", "unsupported-video", "nothing-to-play"],
        ),
        ("firefox_70_recvonly", [both, "ask 1", beside]),
        ("safari_13_macos_aiortc", [both, "ask 1", beside]),
        ("aiortc_recvonly_av", [both, "ask 1", beside]),
    ] {
        let offer = offers
            .get(name)
            .unwrap_or_else(|| panic!("{name} is there"));
        assert_eq!(outcome(&mixed, offer), of_mixed, "{name}, mixed");
        assert_eq!(outcome(&asking, offer), of_asking, "{name}, asking");
        assert_eq!(outcome(&silent, offer), of_silent, "{name}, silent");
    }
}

#[test]
fn one_source_is_negotiated_as_ever_and_a_second_takes_nothing_from_it() {
    let Some(offers) = offers() else {
        return;
    };
    assert!(offers.len() > 30, "{}", offers.len());
    let all = || tracks(&[h264(), Codec::Opus, Codec::Pcmu]);
    for (name, offer) in &offers {
        let alone = negotiate(&all(), offer).map(|plan| plan.sections);
        for sources in [
            vec![open(all())],
            vec![open(all()), open(tracks(&[h264(), Codec::Pcma]))],
        ] {
            let selected = select(&sources, offer, false);
            match (&alone, selected) {
                (Ok(sections), Ok(Decision::Made(selection))) => {
                    if selection.sound != Some(1) {
                        assert_eq!(*sections, selection.plan.sections, "{name}");
                    }
                }
                (Err(expected), Err(told)) => {
                    assert_eq!(expected.verdict(), told.verdict(), "{name}");
                }
                (expected, told) => panic!("{name}: {expected:?}, {told:?}"),
            }
        }
    }
}
