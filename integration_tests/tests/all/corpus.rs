//! Offers of real browsers and descriptions of real cameras: each is served or refused with a reason.
//!
//! They belong to others, so they are not in this repository; see
//! [`integration_tests::corpus`] for where they are looked for.

mod answer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use integration_tests::{
    offer,
    scripted::ScriptedCamera,
    server::{Reply, Server, answer_of},
};

use self::answer::Description;

/// Nobody waits for a camera here: the picture comes from the server itself.
const OFFER_LIMIT: Duration = Duration::from_secs(1);
/// Home Assistant gives up after 10 s.
const CAMERA_LIMIT: Duration = Duration::from_millis(8_500);
/// Cameras of the corpus whose description we must accept, or tell what they send, out of 120.
const UNDERSTOOD_MIN: usize = 112;
/// How many cameras are asked at the same time.
const AT_ONCE: usize = 8;

/// What came of one file: a line for people, and everything that is wrong.
struct Outcome {
    file: String,
    summary: String,
    faults: Vec<String>,
}

/// The files of a folder of the corpus by name; none, and it says so, where there is no corpus.
fn files(folder: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let Some(corpus) = integration_tests::corpus() else {
        say(&format!(
            "NOT TESTED: {folder}: no corpus here, CORPUS_DIR says where it is"
        ));
        return None;
    };
    let read = |path: &Path| {
        let name = path
            .file_name()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        (
            name,
            std::fs::read(path).expect("a file of the corpus can be read"),
        )
    };
    let files = std::fs::read_dir(corpus.join(folder))
        .expect("the corpus has this folder")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sdp"))
        .map(|path| read(&path))
        .collect::<BTreeMap<_, _>>();
    assert!(!files.is_empty(), "no files in {folder}");
    Some(files)
}

#[expect(
    clippy::print_stderr,
    reason = "the person who runs the tests reads it there"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Tells all outcomes, also in a file of the cache, and fails if one of them has a fault or the server has
/// suffered.
async fn conclude(server: &Server, folder: &str, outcomes: &[Outcome]) {
    let count = |condition: fn(&Outcome) -> bool| outcomes.iter().filter(|o| condition(o)).count();
    let refused = count(|outcome| outcome.summary.starts_with("refused"));
    let faulty = count(|outcome| !outcome.faults.is_empty());
    let mut table = format!(
        "{folder}: {} files, {refused} refused, {faulty} with faults\n",
        outcomes.len()
    );
    for Outcome {
        file,
        summary,
        faults,
    } in outcomes
    {
        let _ = writeln!(table, "{file:60} {summary}");
        for fault in faults {
            let _ = writeln!(table, "{:60} FAULT: {fault}", "");
        }
    }
    say(&table);
    let path = integration_tests::cache().join(format!("corpus_{folder}.txt"));
    std::fs::write(path, &table).expect("the cache can be written");
    assert_eq!(server.get("/health").await.status, 200);
    let log = server.log();
    let panic = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panic, None);
    assert_eq!(faulty, 0, "files with faults, see the table above");
}

/// The error of a refusal; or what is wrong with the refusal.
fn refusal(reply: &Reply, gateway: bool) -> Result<String, String> {
    let expected =
        matches!(reply.status, 400..=499) || gateway && matches!(reply.status, 502 | 504);
    if !expected {
        return Err(format!("status {}: {}", reply.status, reply.body));
    }
    let json = serde_json::from_str::<serde_json::Value>(&reply.body).unwrap_or_default();
    match json["error"].as_str() {
        Some(text) if !text.is_empty() && reply.content_type.starts_with("application/json") => {
            Ok(format!("refused: {} {text}", reply.status))
        }
        _ => Err(format!(
            "no error text in {} {}",
            reply.content_type, reply.body
        )),
    }
}

/// What the answer to an offer sends, `refused`, or what is wrong with it.
fn judge(offer: &str, reply: &Reply) -> (String, Vec<String>) {
    let mut faults = Vec::new();
    if reply.took > OFFER_LIMIT {
        faults.push(format!("took {:?}", reply.took));
    }
    if reply.status != 200 {
        let summary = match refusal(reply, false) {
            Ok(text) => text,
            Err(fault) => {
                faults.push(fault);
                "failed".to_owned()
            }
        };
        return (summary, faults);
    }
    let sdp = answer_of(reply);
    faults.extend(answer::faults(offer, &sdp));
    let sent = Description::parse(&sdp).sent();
    if sent.is_empty() {
        faults.push("an answer that sends nothing".to_owned());
    }
    if !faults.is_empty() {
        faults.push(format!("the answer was {sdp:?}"));
    }
    let summary = format!("{}, {} ms", sent.join(" "), reply.took.as_millis());
    (summary, faults)
}

/// What must come of an offer that this project's makers had a browser make for each purpose.
fn expected_of(file: &str) -> Option<&'static [&'static str]> {
    let name = file.strip_prefix("chromium156_")?.strip_suffix(".sdp")?;
    Some(match name {
        "datachannel_only" | "inactive" | "av1_only_prefs" | "vp8_only_prefs" => &["refused"],
        "audio_only_recvonly" => &["audio"],
        _ => &["video"],
    })
}

#[tokio::test]
async fn every_offer_of_the_corpus_is_answered_or_refused_within_a_second() {
    let Some(files) = files("offers") else {
        return;
    };
    let _machine = integration_tests::alone().await;
    let server = Server::start().await;
    let mut outcomes = Vec::new();
    for (file, bytes) in files {
        let offer = String::from_utf8(bytes).expect("the offers are UTF-8");
        let reply = server.offer("demo:", &offer).await;
        let (summary, mut faults) = judge(&offer, &reply);
        for expected in expected_of(&file).unwrap_or_default() {
            if !summary.contains(expected) {
                faults.push(format!("expected {expected}"));
            }
        }
        outcomes.push(Outcome {
            file,
            summary,
            faults,
        });
    }
    conclude(&server, "offers", &outcomes).await;
}

#[tokio::test]
async fn every_camera_of_the_corpus_is_watched_or_refused_with_a_reason() {
    let Some(files) = files("camera_sdp") else {
        return;
    };
    let _machine = integration_tests::alone().await;
    let server = &Server::start().await;
    let asked = stream::iter(files).map(|(file, sdp)| ask(server, file, sdp));
    let mut outcomes = asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    outcomes.sort_by(|a, b| a.file.cmp(&b.file));
    let understood = outcomes
        .iter()
        .filter(|o| is_understood(&o.summary))
        .count();
    say(&format!(
        "of {} cameras it is known what they send: {understood}",
        outcomes.len()
    ));
    conclude(server, "camera_sdp", &outcomes).await;
    assert!(understood >= UNDERSTOOD_MIN, "{understood}");
}

/// Whether it plays, or would if it sent anything, or the refusal names a codec that browsers do not play.
fn is_understood(summary: &str) -> bool {
    let unknown = ["unknown format", "neither video nor audio"];
    // All that it describes was set up and begun; the scripted camera has no pictures of its codec to send.
    let is_accepted = summary.contains("it accepted PLAY and sent no media");
    is_accepted
        || !summary.starts_with("refused")
        || summary.contains("browsers cannot play") && unknown.iter().all(|u| !summary.contains(u))
}

/// Offers to watch a camera that describes itself with `sdp`.
async fn ask(server: &Server, file: String, sdp: Vec<u8>) -> Outcome {
    let names = encodings(&sdp);
    let camera = ScriptedCamera::describing(sdp).await;
    // What takes H.265 is offered where that is described, and what does not elsewhere.
    let offer = if names.contains("h265") {
        offer::probe_with_h265()
    } else {
        offer::probe()
    };
    let reply = server.offer(&camera.url("/stream"), &offer).await;
    let mut faults = Vec::new();
    if reply.took > CAMERA_LIMIT {
        faults.push(format!("took {:?}", reply.took));
    }
    let summary = if reply.status == 200 {
        let tracks = reply.json()["tracks"].to_string();
        faults.extend(answer::faults(&offer, &answer_of(&reply)));
        let has_video = names.contains("h264") || names.contains("h265");
        if has_video && !tracks.contains("video") {
            faults.push(format!("{names:?} described, {tracks} played"));
        }
        format!("{tracks} of {names:?}, {} ms", reply.took.as_millis())
    } else {
        refusal(&reply, true).unwrap_or_else(|fault| {
            faults.push(fault);
            "failed".to_owned()
        })
    };
    Outcome {
        file,
        summary,
        faults,
    }
}

/// The encoding names of a camera's description, in lower case.
fn encodings(sdp: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(sdp).to_lowercase();
    let names = text.lines().filter_map(|line| {
        let (_, map) = line.trim().strip_prefix("a=rtpmap:")?.split_once(' ')?;
        Some(map.trim().split('/').next()?.to_owned())
    });
    names.collect()
}
