//! H.265: which of the offered formats a camera gets, and who is told what.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use super::*;

/// As Chrome offers it where the device decodes 8 and 10 bits: each profile with its highest level.
const CHROME: &str = "a=rtpmap:96 VP8/90000\
    |a=rtpmap:49 H265/90000|a=fmtp:49 level-id=156;profile-id=1;tier-flag=0;tx-mode=SRST\
    |a=rtcp-fb:49 nack|a=rtcp-fb:49 nack pli|a=rtcp-fb:49 goog-remb|a=rtcp-fb:49 ccm fir\
    |a=rtpmap:50 rtx/90000|a=fmtp:50 apt=49\
    |a=rtpmap:51 H265/90000|a=fmtp:51 level-id=120;profile-id=2;tier-flag=0;tx-mode=SRST";
/// As Safari does.
const SAFARI: &str = "a=rtpmap:35 H265/90000|a=rtcp-fb:35 nack|a=rtcp-fb:35 nack pli";

const MAIN: u8 = ProfileTierLevel::MAIN;
const MAIN_10: u8 = ProfileTierLevel::MAIN_10;

fn camera(profile: u8, level: u8) -> Codec {
    Codec::H265(Some(ProfileTierLevel {
        profile,
        high_tier: false,
        level,
    }))
}

/// The payload type, and whether there is a note.
fn sent(camera: Codec, media: &str, section: &str) -> (Option<u8>, bool) {
    let plan = plan(&[camera], &[(media, section)]).unwrap();
    let verdicts = plan.notes.iter().map(|note| note.diagnosis.verdict);
    assert!(
        verdicts
            .clone()
            .all(|verdict| verdict == Verdict::VideoProfile)
    );
    (payload_types(&plan)[0], verdicts.count() > 0)
}

#[test]
fn each_profile_and_level_finds_its_payload_type() {
    for (profile, level, expected) in [
        (MAIN, 93, (Some(49), false)),
        (MAIN, 156, (Some(49), false)),
        (MAIN_10, 120, (Some(51), false)),
        (ProfileTierLevel::MAIN_STILL_PICTURE, 93, (Some(49), false)),
        // More than is announced, and what nobody announces.
        (MAIN, 180, (Some(49), true)),
        (MAIN_10, 153, (Some(51), true)),
        (4, 120, (Some(49), true)),
    ] {
        let sent = sent(camera(profile, level), "video 96 49 50 51", CHROME);
        assert_eq!(sent, expected, "profile {profile}, level {level}");
    }
    assert_eq!(
        sent(Codec::H265(None), "video 96 49 50 51", CHROME),
        (Some(49), false)
    );
}

#[test]
fn the_answer_has_the_parameters_of_the_offer() {
    let plan = plan(&[camera(MAIN, 120)], &[("video 96 49 50 51", CHROME)]).unwrap();
    let sending = plan.sendings().next().unwrap();
    assert_eq!(sending.rtpmap, "H265/90000");
    assert_eq!(
        sending.fmtp,
        "level-id=156;profile-id=1;tier-flag=0;tx-mode=SRST"
    );
    assert_eq!(sending.rtx, Some(50));
    assert_eq!(
        sending.feedback,
        ["nack", "nack pli", "ccm fir", "goog-remb"]
    );
}

#[test]
fn a_browser_that_says_nothing_of_its_decoder_gets_every_level_of_main() {
    assert_eq!(
        sent(camera(MAIN, 153), "video 35", SAFARI),
        (Some(35), false)
    );
    assert_eq!(
        sent(camera(MAIN_10, 120), "video 35", SAFARI),
        (Some(35), true)
    );
}

#[test]
fn the_high_tier_is_told_from_the_main_tier() {
    let high = "a=rtpmap:60 H265/90000|a=fmtp:60 profile-id=1;tier-flag=1;level-id=120";
    let both = format!("a=rtpmap:49 H265/90000|a=fmtp:49 level-id=120|{high}");
    let camera = Codec::H265(Some(ProfileTierLevel {
        profile: MAIN,
        high_tier: true,
        level: 120,
    }));
    assert_eq!(sent(camera, "video 49 60", &both), (Some(60), false));
    assert_eq!(sent(camera, "video 49", &both), (Some(49), true));
}

#[test]
fn several_rtp_streams_for_one_picture_are_not_taken() {
    for mode in ["MRST", "MRMT"] {
        let section = format!("a=rtpmap:49 H265/90000|a=fmtp:49 tx-mode={mode}");
        for camera in [camera(MAIN, 93), Codec::H265(None)] {
            let error = plan(&[camera], &[("video 49", &section)]).unwrap_err();
            assert_eq!(error.verdict(), Verdict::BrowserVideo);
        }
    }
}

#[test]
fn a_browser_without_h265_is_told_what_to_set_in_the_camera() {
    let error = plan(&[camera(MAIN, 93)], &[("video 98", H264)]).unwrap_err();
    assert_eq!(error.verdict(), Verdict::BrowserVideo);
    let text = error.to_string();
    for part in [
        "is H265",
        "takes only H264",
        "set it to H264 in the camera",
        "second stream",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Sound alone can be asked for.
    let plan = plan(&[camera(MAIN, 93), Codec::Pcmu], &[("audio 0", "")]);
    assert!(plan.is_ok());
}

#[test]
fn hostile_parameters_do_no_harm() {
    for fmtp in [
        "level-id=;profile-id=;tier-flag=",
        "level-id=-1;profile-id=256;tier-flag=x",
        "level-id=99999999999999999999",
        "=;;;tx-mode",
    ] {
        let section = format!("a=rtpmap:49 H265/90000|a=fmtp:49 {fmtp}");
        let _ = plan(&[camera(MAIN, 93)], &[("video 49", &section)]);
    }
}

#[test]
fn browsers_of_the_corpus_get_h265_if_they_offer_it() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let corpus =
        std::env::var_os("CORPUS_DIR").map_or(root.join("../shared/corpus"), PathBuf::from);
    let entries = fs::read_dir(corpus.join("offers")).into_iter().flatten();
    let (mut with, mut without) = (0, 0);
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let Ok(offer) = Offer::parse(&text) else {
            continue;
        };
        let planned = negotiate(&tracks(&[camera(MAIN, 120)]), &offer);
        if text.contains("H265/90000") {
            with += 1;
            let plan = planned.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let sending = plan.sendings().next().unwrap();
            assert_eq!(sending.rtpmap, "H265/90000", "{}", path.display());
        } else {
            without += 1;
            assert!(planned.is_err(), "{}", path.display());
        }
    }
    if with + without == 0 {
        let _ = writeln!(io::stderr(), "real browsers NOT TESTED: no corpus here");
    } else {
        assert!(with >= 1 && without >= 40, "{with} with, {without} without");
    }
}
