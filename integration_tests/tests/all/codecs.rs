//! The codec matrix: every codec of a camera's picture with every codec of its sound, at every kind of receiver.
//!
//! Each cell ends in pictures that show the right numbers and a tone of the right frequency, or in a verdict that
//! names what to change: nothing is black or silent without a reason. What should be in which cell is in
//! [`expected`].
//!
//! The table stays in the cache, at `logs/codecs/table.txt`, with what servers of failed rows have logged.
//! `CODECS=MJPEG` runs the rows with that in their names.

mod expected;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use futures::{StreamExt as _, future::join_all, stream};
use integration_tests::{
    browser::{Browser, Page, Watch},
    camera::Camera,
    network,
    peers::{self, View},
    server::Server,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use expected::{Receiver, Sound, VIDEOS, Video};
use seen::{ENOUGH, Seen};

/// Of the picture's number.
const BLOCK: u32 = 16;
/// Pictures' codecs at the same time, each with a process of cameras and a server.
const TOGETHER: usize = 1;
/// How long a receiver has from the answer on.
const LIMIT: Duration = Duration::from_secs(15);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_mins(4);

/// A camera and what its receivers got.
struct Row {
    name: String,
    video: Video,
    sound: Sound,
    seen: Vec<(Receiver, Seen)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_is_seen_and_heard_or_it_is_told_what_to_change() {
    if peers::aiortc().is_none() || peers::webrtcbin().is_none() {
        return;
    }
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let only = std::env::var("CODECS").unwrap_or_default();
    let browser = Browser::start().await;
    let begun = Instant::now();
    let groups: Vec<_> = stream::iter(VIDEOS)
        .map(|video| run(video, &only, &browser))
        .buffered(TOGETHER)
        .collect()
        .await;
    let took = begun.elapsed();
    report(&groups, took);
    assert!(took < WHOLE, "{took:?}");
}

/// All sounds with one picture, each a camera of its own; with the server's log.
async fn run(video: &Video, only: &str, browser: &Browser) -> (Vec<Row>, String) {
    let rows = video.sounds.iter().map(|sound| Row {
        name: format!("{}, {}", video.name, sound.name),
        video: *video,
        sound: *sound,
        seen: Vec::new(),
    });
    let mut rows: Vec<_> = rows.filter(|row| row.name.contains(only)).collect();
    if rows.is_empty() {
        return (rows, String::new());
    }
    let setups = rows.iter().enumerate().map(|(number, row)| {
        let setup = (row.sound.of)((row.video.camera)().tiny());
        (format!("/{number}"), setup)
    });
    let camera = Camera::many(&setups.collect::<Vec<_>>()).await;
    let cameras = rows.iter().enumerate().map(|(number, row)| {
        let url = camera.url_at(&format!("/{number}"));
        (row.name.clone(), (video.sources)(&url))
    });
    let cameras: BTreeMap<_, _> = cameras.collect();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.json");
    let settings = json!({ "cameras": cameras });
    std::fs::write(&file, settings.to_string()).expect("a file can be made in it");
    let server = Server::start_with(&["--config", &file.to_string_lossy()]).await;
    let page = browser.viewers_of(&server).await;
    let cameras: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.sound))
        .collect();
    let all = join_all(
        video
            .expected
            .iter()
            .map(|(receiver, _)| watch(*receiver, &cameras, &server, &page)),
    )
    .await;
    let noted = verdicts_of_cameras(&server).await;
    page.close().await;
    for ((receiver, _), seen) in video.expected.iter().zip(all) {
        for (row, mut seen) in rows.iter_mut().zip(seen) {
            let codes = noted.get(&row.name).cloned().unwrap_or_default();
            if seen.status == 200 {
                seen.codes.extend(codes);
            }
            row.seen.push((*receiver, seen));
        }
    }
    (rows, server.log())
}

/// What a kind of receiver gets of each camera, all at once.
async fn watch(
    receiver: Receiver,
    cameras: &[(&str, Sound)],
    server: &Server,
    page: &Page,
) -> Vec<Seen> {
    let watch = Watch::audio_and_video().blocks_of(BLOCK);
    match receiver {
        Receiver::Chromium => in_browser(page, cameras, &watch).await,
        Receiver::WithoutH264 => in_browser(page, cameras, &watch.without("video/H264")).await,
        Receiver::Aiortc => {
            let views: Vec<_> = cameras
                .iter()
                .map(|(camera, sound)| (*camera, view(sound)))
                .collect();
            let all = peers::aiortc_at_all(server, &views, BLOCK, ENOUGH, LIMIT).await;
            all.iter().map(Seen::in_aiortc).collect()
        }
        Receiver::Webrtcbin => {
            let program = peers::webrtcbin_with_h265(2 * ENOUGH)
                .expect("it was there a moment ago")
                .with_blocks_of(BLOCK);
            let all = cameras.iter().map(async |(camera, sound)| {
                let mut tries = 0;
                loop {
                    let (reply, received) = program.ask(server, camera, &view(sound)).await;
                    let seen = Seen::in_webrtcbin(&reply, &received);
                    tries += 1;
                    // A packet that a busy machine is late with costs it all pictures to the next key frame.
                    if seen.faults_of_media(sound).is_empty() || reply.status != 200 || tries == 3 {
                        return seen;
                    }
                }
            });
            // A process each.
            stream::iter(all).buffered(2).collect().await
        }
    }
}

/// What programs ask for: aiortc takes no answer that refuses anything of it.
fn view(sound: &Sound) -> View {
    match sound.heard_as {
        Some(_) => View::default(),
        None => View::video(),
    }
}

/// Asked for both, as Home Assistant does.
async fn in_browser(page: &Page, cameras: &[(&str, Sound)], watch: &Watch) -> Vec<Seen> {
    join_all(cameras.iter().map(async |(camera, sound)| {
        let viewer = page.watch(camera, watch.clone()).await;
        let end = Instant::now() + LIMIT;
        loop {
            let report = viewer.report().await;
            if report.status != 200 {
                return Seen::in_browser(&report, 0.0);
            }
            let mut tone = 0.0;
            if report.tracks.iter().any(|kind| kind == "audio") {
                tone = viewer.pitch().await;
            } else {
                sleep(Duration::from_secs(2)).await;
            }
            let seen = Seen::in_browser(&viewer.report().await, tone);
            // On a busy machine it may take a while.
            if seen.faults_of_media(sound).is_empty() || Instant::now() > end {
                return seen;
            }
        }
    }))
    .await
}

/// The codes of what `GET /cameras` tells that viewers lack, by the camera's name.
async fn verdicts_of_cameras(server: &Server) -> BTreeMap<String, Vec<String>> {
    let cameras = server.get("/cameras").await.json();
    let all = cameras["cameras"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let told = all.map(|camera| {
        let verdicts = camera["verdicts"].as_array().expect("a list").iter();
        let codes = verdicts.map(|verdict| text(&verdict["code"]));
        (text(&camera["name"]), codes.collect())
    });
    told.collect()
}

fn report(groups: &[(Vec<Row>, String)], took: Duration) {
    let mut table = format!("\n{:<28}", "camera");
    for receiver in Receiver::ALL {
        let _ = write!(table, " {:<44}", receiver.name());
    }
    table.truncate(table.trim_end().len());
    table.push('\n');
    let (mut cells, mut failed) = (0, 0);
    let mut logs = Vec::new();
    for (rows, log) in groups {
        let before = failed;
        for row in rows {
            let _ = write!(table, "{:<28}", row.name);
            let mut complaints = String::new();
            for receiver in Receiver::ALL {
                let seen = row.seen.iter().find(|(at, _)| *at == receiver);
                let summary = seen.map_or("-".to_owned(), |(_, seen)| seen.summary());
                let _ = write!(table, " {summary:<44}");
                let Some((_, seen)) = seen else { continue };
                cells += 1;
                let expected = row.video.at(receiver).expect("what was tried is expected");
                let faults = seen.faults(expected, receiver, &row.sound);
                if !faults.is_empty() {
                    failed += 1;
                    let (name, faults) = (receiver.name(), faults.join("; "));
                    let _ = writeln!(complaints, "  FAILED at {name}: {faults}; {}", seen.error);
                }
            }
            table.truncate(table.trim_end().len());
            let _ = write!(table, "\n{complaints}");
        }
        if failed > before {
            logs.push((rows[0].video.name, log));
        }
    }
    let good = cells - failed;
    let _ = writeln!(table, "{good} of {cells} in {took:.0?}");
    let seen = groups
        .iter()
        .flat_map(|(rows, _)| rows)
        .flat_map(|row| &row.seen);
    let refusals: BTreeSet<_> = seen.map(|(_, seen)| seen.refusal()).collect();
    for refusal in refusals.iter().filter(|refusal| !refusal.is_empty()) {
        let _ = writeln!(table, "{refusal}");
    }
    network::say(&table);
    let folder = integration_tests::cache().join("logs/codecs");
    std::fs::create_dir_all(&folder).expect("the cache can be written to");
    std::fs::write(folder.join("table.txt"), &table).expect("the cache can be written to");
    for (name, log) in logs {
        std::fs::write(folder.join(format!("{name}.log")), log)
            .expect("the cache can be written to");
    }
    assert!(cells > 0, "no row is called so");
    assert!(failed == 0, "{failed} of {cells} cells failed");
}
