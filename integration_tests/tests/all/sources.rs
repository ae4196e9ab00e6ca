//! Cameras with several sources: picture and sound each come from the first that has it for the browser.

use std::time::{Duration, Instant};

use integration_tests::{
    browser::{Browser, Page, Viewer, Watch},
    camera::{self, Camera},
    eventually, offer,
    peers::{self, View},
    scripted::ScriptedCamera,
    server::{Server, answer_of},
};
use serde_json::{Value, json};

use super::{go2rtc::put, signaling::configured::Configured};

/// The tones of cameras, so that it can be heard which one sounds.
const LOW: u32 = 440;
const HIGH: u32 = 700;

/// A server that has one camera, `door`, with these sources.
async fn door(sources: &[&str]) -> Configured {
    let text = json!({ "cameras": { "door": sources } });
    Configured::start("config.json", &text.to_string()).await
}

async fn watch(page: &Page) -> Viewer {
    let viewer = page.watch("door", Watch::audio_and_video()).await;
    viewer.frames_within(Duration::from_secs(8)).await;
    viewer
}

/// Asserts that a viewer sees pictures of `camera` as they are now, and hears `tone` in `codec`.
async fn plays(viewer: &Viewer, camera: &Camera, codec: &str, tone: u32) {
    let pitch = viewer.pitch().await;
    let report = viewer.report().await;
    let now = camera.frames_sent();
    assert!(
        (pitch - f64::from(tone)).abs() < 4.0,
        "{pitch} Hz; {}",
        report.summary()
    );
    assert_eq!(report.audio_codec, codec, "{}", report.summary());
    report
        .frames_are_right()
        .unwrap_or_else(|e| panic!("{e}: {}", report.summary()));
    let last = report.shown.last().expect("pictures were shown");
    let age = camera.age_of(last.number.unwrap_or_default());
    assert!(
        age <= u64::from(Camera::FPS) + (camera.frames_sent() - now),
        "the last picture is {age} pictures old; {}",
        report.summary()
    );
}

/// What `GET /cameras` tells of `door`.
async fn told(server: &Server) -> Value {
    let cameras = server.get("/cameras").await.json();
    let all = cameras["cameras"].as_array().expect("a list");
    let found = all.iter().find(|camera| camera["name"] == "door");
    found.expect("it has a name").clone()
}

/// The codes of verdicts on all viewers.
async fn verdicts(server: &Server) -> Vec<String> {
    let sessions = server.get("/sessions").await.json();
    let all = sessions["sessions"].as_array().expect("a list").iter();
    let codes = all.map(|session| session["verdict"]["code"].as_str().unwrap_or_default());
    codes.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_picture_is_of_one_source_and_the_sound_of_another() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let main = Camera::h264().start().await;
    let sub = Camera::h264()
        .small()
        .with_pcmu()
        .with_tone(HIGH)
        .start()
        .await;
    let configured = door(&[&main.url(), &sub.url()]).await;
    let server = &configured.server;
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let viewers = [watch(&page).await, watch(&page).await];
    for viewer in &viewers {
        plays(viewer, &main, "audio/PCMU", HIGH).await;
        let report = viewer.report().await;
        assert_eq!(report.width, 1280, "{}", report.summary());
        assert!(report.longest_gap_after_first_second() < Duration::from_millis(500));
    }
    assert_eq!((main.connections(), sub.connections()), (1, 1));
    let told = told(server).await;
    assert_eq!(
        (&told["state"], &told["viewers"]),
        (&json!("live"), &json!(2))
    );
    for source in told["sources"].as_array().expect("a list") {
        assert_eq!(
            (&source["state"], &source["viewers"]),
            (&json!("live"), &json!(2)),
            "{told}"
        );
    }
    // Who wants no sound has the picture of the same connection, and who wants no picture the sound.
    let silent = page.watch("door", Watch::video()).await;
    silent.frames_within(Duration::from_secs(2)).await;
    let heard = page.watch("door", Watch::audio()).await;
    assert!((heard.pitch().await - f64::from(HIGH)).abs() < 4.0);
    assert_eq!((main.connections(), sub.connections()), (1, 1));
    assert!(!server.log().contains("panic"));
}

#[tokio::test]
async fn a_picture_that_no_browser_takes_is_replaced_and_its_sound_converted() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let main = Camera::mjpeg()
        .with_aac_of(16_000, 1)
        .with_tone(HIGH)
        .start()
        .await;
    let sub = Camera::h264()
        .small()
        .with_pcmu()
        .with_tone(LOW)
        .start()
        .await;
    let configured = door(&[&main.url(), &sub.url()]).await;
    let server = &configured.server;
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let viewer = watch(&page).await;
    plays(&viewer, &sub, "audio/opus", HIGH).await;
    assert_eq!((main.connections(), sub.connections()), (1, 1));
    let converting = json!([
        { "from": "AAC 16000 Hz mono", "to": "opus", "active": true },
        { "from": "PCMU 8000 Hz mono", "to": "opus", "active": false },
    ]);
    assert_eq!(told(server).await["conversions"], converting);
    // Nothing is missing, so nothing is told.
    assert_eq!(verdicts(server).await, [""]);
    let jpeg = server.get("/api/frame.jpeg?src=door").await;
    assert_eq!((jpeg.status, &*jpeg.content_type), (200, "image/jpeg"));
    assert_eq!((main.connections(), sub.connections()), (1, 1));
    viewer.close().await;
    eventually("nothing is converted", Duration::from_secs(5), || async {
        let told = told(server).await;
        let is_over = told["conversions"][0]["active"] == false && told["viewers"] == 0;
        is_over.then_some(()).ok_or(told.to_string())
    })
    .await;
    eventually("both are closed", Duration::from_secs(15), || async {
        let open = (main.open_connections(), sub.open_connections());
        (open == (0, 0)).then_some(()).ok_or(format!("{open:?}"))
    })
    .await;
}

/// Each gets the best picture that it takes, and all the same sound.
#[tokio::test]
async fn a_main_stream_in_h265_and_a_sub_stream_in_h264_serve_two_viewers_at_once() {
    let Some(program) = peers::webrtcbin_with_h265(100) else {
        return;
    };
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let main = Camera::h265().with_aac_of(16_000, 1).with_tone(HIGH);
    let sub = Camera::h264().small().with_pcmu().with_tone(LOW);
    let (main, sub) = (main.start().await, sub.start().await);
    let configured = door(&[&main.url(), &sub.url()]).await;
    let server = &configured.server;
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let viewer = watch(&page).await;
    let view = View::default();
    let (received, ()) = tokio::join!(
        program.watch(server, "door", &view),
        plays(&viewer, &sub, "audio/opus", HIGH)
    );
    assert!(received.is_whole(&view), "{received:?}");
    let last = received.numbers.last().expect("a hundred of them");
    let age = main.age_of(*last);
    assert!(
        age < u64::from(Camera::FPS),
        "{age} pictures ago: {received:?}"
    );
    let report = viewer.report().await;
    assert_eq!(report.video_codec, "video/H264", "{}", report.summary());
    assert_eq!(verdicts(server).await[0], "");
    let told = told(server).await;
    assert_eq!(told["conversions"][0]["active"], true, "{told}");
    assert_eq!((main.connections(), sub.connections()), (1, 1));
}

#[tokio::test]
async fn each_part_of_a_picture_with_foreign_sound_may_restart() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let mut main = Camera::h264().small().start().await;
    let mut sub = Camera::h264()
        .small()
        .with_pcmu()
        .with_tone(HIGH)
        .start()
        .await;
    let configured = door(&[&main.url(), &sub.url()]).await;
    let server = &configured.server;
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let viewer = watch(&page).await;
    plays(&viewer, &main, "audio/PCMU", HIGH).await;

    sub.kill().await;
    eventually(
        "that it has no sound is told",
        Duration::from_secs(10),
        || async {
            let codes = verdicts(server).await;
            let is_told = codes.iter().all(|code| !code.is_empty());
            is_told.then_some(()).ok_or(codes.join(" "))
        },
    )
    .await;
    viewer.new_frames_within(Duration::from_secs(2)).await;
    sub.restart().await;
    eventually("all is well", Duration::from_secs(10), || async {
        let codes = verdicts(server).await;
        (codes == [""]).then_some(()).ok_or(codes.join(" "))
    })
    .await;
    plays(&viewer, &main, "audio/PCMU", HIGH).await;

    main.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!((viewer.pitch().await - f64::from(HIGH)).abs() < 4.0);
    assert_ne!(verdicts(server).await, [""]);
    main.restart().await;
    viewer.new_frames_within(Duration::from_secs(10)).await;
    plays(&viewer, &main, "audio/PCMU", HIGH).await;
}

#[tokio::test]
async fn a_first_source_that_is_dead_is_passed_over_until_it_is_back() {
    let Some(_machine) = super::cameras_and_browser().await else {
        return;
    };
    let mut main = Camera::h264().start().await;
    let sub = Camera::h264().small().start().await;
    main.kill().await;
    let configured = door(&[&main.url(), &sub.url()]).await;
    let server = &configured.server;
    let browser = Browser::start().await;
    let page = browser.viewers_of(server).await;
    let first = watch(&page).await;
    assert_eq!(first.report().await.width, 640);
    assert_eq!(verdicts(server).await, ["other-source"]);
    assert!(told(server).await["sources"][0]["verdict"]["code"] == "port-closed");
    // Nobody waits for what is known to be off, nor for the sound that it might have.
    let second = page.watch("door", Watch::audio_and_video()).await;
    let took = second.frames_within(Duration::from_secs(8)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    second.close().await;
    main.restart().await;
    // The first who comes then is not made wait for it, and whoever comes later has it.
    let widths = eventually(
        "the first source is played",
        Duration::from_secs(20),
        || async {
            let viewer = watch(&page).await;
            let width = viewer.report().await.width;
            viewer.close().await;
            (width == 1280).then_some(()).ok_or(width.to_string())
        },
    );
    widths.await;
    // Who watches is left alone.
    first.new_frames_within(Duration::from_secs(1)).await;
    assert_eq!(first.report().await.width, 640);
    assert_eq!(sub.connections(), 1);
}

#[tokio::test]
async fn a_source_that_never_answers_costs_the_first_viewer_two_seconds_and_others_none() {
    if !camera::installed() {
        return;
    }
    let silent = ScriptedCamera::silent().await;
    let sub = Camera::h264().small().with_pcmu().start().await;
    let configured = door(&[&silent.url("/live"), &sub.url()]).await;
    let server = &configured.server;
    let begun = Instant::now();
    let reply = server.offer("door", &offer::probe()).await;
    let took = begun.elapsed();
    assert!(answer_of(&reply).contains("H264"), "{}", reply.body);
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
    let notes = reply.json()["notes"].to_string();
    assert!(notes.contains("source 1 of 2"), "{notes}");
    // Once its failure is known.
    eventually("it is known", Duration::from_secs(20), || async {
        let told = told(server).await;
        let is_known = !told["sources"][0]["verdict"].is_null();
        is_known.then_some(()).ok_or(told.to_string())
    })
    .await;
    let begun = Instant::now();
    let reply = server.offer("door", &offer::probe()).await;
    let took = begun.elapsed();
    assert!(answer_of(&reply).contains("H264"), "{}", reply.body);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn where_no_source_answers_the_reason_is_told_in_time() {
    let silent = [
        ScriptedCamera::silent().await,
        ScriptedCamera::silent().await,
    ];
    let closing = ScriptedCamera::closing().await;
    let sources = [silent[0].url("/a"), closing.url("/b"), silent[1].url("/c")];
    let configured = door(&sources.each_ref().map(String::as_str)).await;
    let begun = Instant::now();
    let reply = configured.server.offer("door", &offer::probe()).await;
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let (error, told) = (reply.error(), reply.json());
    assert_eq!(told["verdict"]["code"], "camera-timeout", "{told}");
    for part in ["source 1: ", "source 2: ", "source 3: "] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[tokio::test]
async fn sources_that_home_assistant_registers_are_one_connection_each() {
    if !camera::installed() {
        return;
    }
    let main = Camera::h264().start().await;
    let sub = Camera::h264().small().with_pcmu().start().await;
    let server = Server::start().await;
    let hint = "ffmpeg:camera.front#audio=opus#query=log_level=debug";
    let again = format!("ffmpeg:{}#video=copy", main.url());
    put(
        &server,
        "camera.front",
        &[&main.url(), hint, &again, &sub.url()],
    )
    .await;
    for _ in 0..5 {
        let reply = server.offer("camera.front", &offer::probe()).await;
        let answer = answer_of(&reply);
        assert!(
            answer.contains("H264") && answer.contains("PCMU/8000"),
            "{answer}"
        );
        assert_eq!(reply.json()["notes"], json!([]), "{}", reply.body);
    }
    assert_eq!((main.connections(), sub.connections()), (1, 1));
    let listed = server.get("/api/streams").await.json();
    let producers = listed["camera.front"]["producers"].as_array();
    assert_eq!(producers.map(Vec::len), Some(4), "{listed}");
}

/// Whoever registers a camera chooses addresses, with each of its sources.
#[tokio::test]
async fn no_source_of_a_registered_camera_leads_to_the_server_itself() {
    if !camera::installed() {
        return;
    }
    let main = Camera::h264().start().await;
    let server = Server::start().await;
    let own = server.url("/").replace("http://", "rtsp://");
    put(&server, "camera.front", &[&main.url(), &own]).await;
    let reply = server.offer("camera.front", &offer::probe()).await;
    assert!(answer_of(&reply).contains("H264"), "{}", reply.body);
    assert_eq!(verdicts(&server).await, ["other-source"]);
    let log = server.log();
    assert!(log.contains("forbidden-address"), "{log}");
    let query = format!(
        "/api/streams?name=x&src={}&src=ws://127.0.0.1:9/x",
        main.url()
    );
    let put = server.http().put(server.url(&query));
    assert_eq!(server.send(put).await.status, 403);
}
