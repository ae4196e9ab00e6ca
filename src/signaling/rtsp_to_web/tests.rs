use actix_web::http::StatusCode;

use super::*;
use crate::{
    base::Tasks,
    config::{Config, Layer},
};

fn context(settings: &str) -> Context {
    let text = format!("listen: 0\nmedia_listen: 127.0.0.1:0\nrtsp_to_web: {{}}\n{settings}");
    let config = Config::from_layers([Layer::parse(&text).unwrap()]).unwrap();
    Context::new(config, Tasks::on_current_runtime()).unwrap()
}

fn body(text: &str) -> StreamBody {
    serde_json::from_str(text).unwrap()
}

fn one(url: &str) -> StreamBody {
    body(&json!({ "name": "x", "channels": { "0": { "name": "ch1", "url": url } } }).to_string())
}

/// The words of a refusal.
fn words<T>(result: Result<T, Fault>) -> String {
    result.map(drop).unwrap_err().to_string()
}

fn listed(context: &Context) -> Value {
    json!(Streams::of(context).list())
}

#[tokio::test]
async fn what_was_added_is_listed_and_registered_for_every_dialect() {
    let context = context("");
    let streams = Streams::of(&context);
    assert_eq!(listed(&context), json!({}));
    streams
        .add("camera.front_door", &one("rtsp://192.0.2.7:554/live"))
        .unwrap();
    let channel = json!({ "url": "rtsp://192.0.2.7:554/live", "on_demand": true, "audio": true });
    let expected = json!({ "camera.front_door": {
        "name": "camera.front_door",
        "channels": { "0": channel },
    } });
    assert_eq!(listed(&context), expected);
    assert!(context.registry.get("camera.front_door").is_some());
    assert_eq!(
        words(streams.add("camera.front_door", &one("rtsp://192.0.2.7:554/live"))),
        "stream already exists"
    );
    streams.delete("camera.front_door").unwrap();
    assert_eq!(
        words(streams.delete("camera.front_door")),
        "stream not found"
    );
    assert_eq!(listed(&context), json!({}));
}

#[tokio::test]
async fn a_password_is_masked_and_sending_it_again_changes_nothing() {
    let context = context("");
    let streams = Streams::of(&context);
    let url = "rtsp://ann:hunter2@192.0.2.7/live";
    streams
        .add(
            "door",
            &body(&json!({ "channels": { "0": { "url": url, "audio": false } } }).to_string()),
        )
        .unwrap();
    let shown = listed(&context);
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    let masked = shown["door"]["channels"]["0"]["url"].as_str().unwrap();
    for same in [url, masked, ""] {
        streams.edit("door", &one(same)).unwrap();
        let camera = context.registry.get("door").unwrap();
        assert_eq!(camera.sources[0].reveal(), url, "{same}");
        assert!(!camera.audio, "what an edit leaves out stays");
    }
    streams.edit("door", &one("rtsp://192.0.2.8/live")).unwrap();
    assert_eq!(
        context.registry.get("door").unwrap().url.host(),
        "192.0.2.8"
    );
    assert_eq!(words(streams.edit("nobody", &one(url))), "stream not found");
}

#[tokio::test]
async fn other_forms_of_a_camera_survive_an_edit_that_does_not_know_them() {
    let context = context("");
    let sources = ["rtsp://u:p@192.0.2.7/live", "ffmpeg:door#audio=opus"];
    let camera = crate::config::Camera::from_sources(&sources).unwrap();
    context.registry.put("door", camera).unwrap();
    Streams::of(&context)
        .edit("door", &one(sources[0]))
        .unwrap();
    assert_eq!(context.registry.get("door").unwrap().sources.len(), 2);
}

#[tokio::test]
async fn channels_are_cameras_with_numbers() {
    let context = context("");
    let streams = Streams::of(&context);
    let channel = |url: &str| serde_json::from_value::<ChannelBody>(json!({ "url": url })).unwrap();
    assert_eq!(
        words(streams.add_channel("door", "1", &channel("rtsp://h/b"))),
        "stream not found"
    );
    streams.add("door", &one("rtsp://h/a")).unwrap();
    streams
        .add_channel("door", "1", &channel("rtsp://h/b"))
        .unwrap();
    assert_eq!(
        words(streams.add_channel("door", "1", &channel("rtsp://h/b"))),
        "stream channel already exists"
    );
    assert_eq!(streams.channel("door", "1").unwrap().name, "door/1");
    assert_eq!(
        listed(&context)["door"]["channels"]["1"]["url"],
        "rtsp://h/b"
    );
    streams
        .edit_channel("door", "1", &channel("rtsp://h/c"))
        .unwrap();
    assert_eq!(
        json!(streams.channel_info("door", "1").unwrap())["url"],
        "rtsp://h/c"
    );
    // `door/01` or `door/x` would be other cameras, and no channels.
    for other in ["2", "01", "+1", "x", ""] {
        assert_eq!(
            words(streams.channel("door", other)),
            "stream channel not found"
        );
    }
    assert_eq!(words(streams.channel("nobody", "0")), "stream not found");
    assert!(words(streams.add_channel("door", "x", &channel("rtsp://h/b"))).contains("numbers"));
    // Clients edit the first one alone, and often.
    streams.edit("door", &one("rtsp://h/d")).unwrap();
    streams.delete_channel("door", "1").unwrap();
    streams.delete_channel("door", "0").unwrap();
    assert_eq!(words(streams.info("door")), "stream not found");
}

#[tokio::test]
async fn a_camera_of_the_configuration_stays_as_it_is() {
    let context = context("cameras: {yard: 'rtsp://u:p@192.0.2.9/x'}");
    let streams = Streams::of(&context);
    assert!(listed(&context)["yard"].is_object());
    // Home Assistant's client shows no picture after an error.
    for url in ["rtsp://u:p@192.0.2.9/x", "rtsp://192.0.2.10/x"] {
        streams.edit("yard", &one(url)).unwrap();
    }
    for refused in [streams.delete("yard"), streams.delete_channel("yard", "0")] {
        let fault = refused.unwrap_err();
        assert_eq!(fault.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(fault.to_string().contains("configuration"), "{fault}");
    }
    assert_eq!(
        context.registry.get("yard").unwrap().url.host(),
        "192.0.2.9"
    );
}

#[tokio::test]
async fn a_stream_is_added_whole_or_not_at_all() {
    let context = context("");
    let streams = Streams::of(&context);
    for text in [
        "{}",
        r#"{"channels": null}"#,
        r#"{"channels": {}}"#,
        r#"{"channels": {"0": {}}}"#,
        r#"{"channels": {"0": {"url": "rtsp://h/a"}, "1": {"url": "nonsense"}}}"#,
        r#"{"channels": {"0": {"url": "rtsp://h/a"}, "x": {"url": "rtsp://h/b"}}}"#,
        r#"{"channels": {"0": {"url": "gopher://h/a"}}}"#,
    ] {
        let fault = streams.add("door", &body(text)).unwrap_err();
        assert_eq!(fault.status(), StatusCode::BAD_REQUEST, "{text}: {fault}");
        assert_eq!(words(streams.info("door")), "stream not found", "{text}");
    }
    // The name of the second is too long, which the registry alone knows.
    let id = "x".repeat(511);
    let two = body(r#"{"channels": {"0": {"url": "rtsp://h/a"}, "1": {"url": "rtsp://h/b"}}}"#);
    assert!(words(streams.add(&id, &two)).contains("512"));
    assert_eq!(words(streams.info(&id)), "stream not found");
}

#[tokio::test]
async fn only_an_explicit_false_keeps_a_camera_open() {
    let context = context("");
    let streams = Streams::of(&context);
    streams.add("door", &one("demo:")).unwrap();
    assert!(context.directory.list().is_empty());
    let held = r#"{"channels": {"0": {"url": "demo:", "on_demand": false}}}"#;
    streams.edit("door", &body(held)).unwrap();
    assert_eq!(context.directory.list().len(), 1);
}
