use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::*;
use crate::config::Layer;

fn registry(settings: &str, data: Option<&Path>) -> (Registry, Directory, Tasks) {
    let mut config = Config::from_layers([Layer::parse(settings).unwrap()]).unwrap();
    config.data = data.map(Path::to_owned);
    let tasks = Tasks::on_current_runtime();
    let directory = Directory::new(tasks.clone(), Duration::from_secs(10));
    let registry = Registry::new(&config, &directory, &tasks).unwrap();
    (registry, directory, tasks)
}

fn camera(sources: &[&str]) -> Camera {
    Camera::from_sources(sources).unwrap()
}

#[tokio::test]
async fn the_same_sources_again_change_nothing() {
    let (registry, ..) = registry("", None);
    let both = ["rtsp://u:p@h/x", "ffmpeg:camera.door#audio=opus"];
    assert_eq!(
        registry.put("camera.door", camera(&both)).unwrap(),
        Put::Added
    );
    assert_eq!(
        registry.put("camera.door", camera(&both)).unwrap(),
        Put::Unchanged
    );
    let other = camera(&["rtsp://u:p@h/y"]);
    assert_eq!(
        registry.put("camera.door", other.clone()).unwrap(),
        Put::Changed
    );
    assert_eq!(registry.get("camera.door").unwrap().url, other.url);
    assert_eq!(registry.put("demo", other).unwrap(), Put::Configured);
}

#[tokio::test]
async fn names_of_home_assistant_stay_as_they_are() {
    let (registry, ..) = registry("", None);
    for name in [
        "camera.front_door",
        "onvif_00%3A11%23profile_1",
        "SVVE======",
        "a/b c",
    ] {
        registry.put(name, camera(&["rtsp://h/x"])).unwrap();
        assert!(
            registry.list().iter().any(|named| named.name == name),
            "{name}"
        );
        registry.remove(name).unwrap();
        assert!(registry.get(name).is_none());
    }
    for name in [
        "",
        "a\nb",
        &"x".repeat(513),
        "rtsp://u:hunter2@h/x",
        "rtsp://u:p w@h/x",
        "rtsp://h/x?token=hunter2",
    ] {
        let error = registry.put(name, camera(&["rtsp://h/x"])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}");
    }
    assert_eq!(
        registry.remove("nobody").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        registry.remove("demo").unwrap_err().kind(),
        ErrorKind::PermissionDenied
    );
}

#[tokio::test]
async fn there_is_a_limit() {
    let (registry, ..) = registry("", None);
    for n in 0..REGISTERED_MAX {
        registry
            .put(&n.to_string(), camera(&["rtsp://h/x"]))
            .unwrap();
    }
    let error = registry
        .put("one more", camera(&["rtsp://h/x"]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(
        registry.put("7", camera(&["rtsp://h/x"])).unwrap(),
        Put::Unchanged
    );
}

#[tokio::test(start_paused = true)]
async fn a_preloaded_camera_stays_open() {
    let (registry, directory, _tasks) = registry("", None);
    registry.put("a", camera(&["demo:"])).unwrap();
    registry.preload("a", "video&audio").unwrap();
    assert_eq!(
        registry.preloads(),
        [("a".to_owned(), "video&audio".to_owned())]
    );
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(directory.list().len(), 1);
    assert!(registry.unload("a") && !registry.unload("a"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(directory.list().is_empty());
    assert_eq!(
        registry.preload("b", "").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn what_clients_register_outlives_a_restart_and_is_for_its_owner_alone() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let folder = place.join(format!("registry-{:032x}", rand::random::<u128>()));
    {
        let (registry, _, tasks) = registry("cameras: {fixed: 'rtsp://h/f'}", Some(&folder));
        registry
            .put(
                "door",
                camera(&["rtsp://u:hunter2@h/x", "ffmpeg:door#audio=opus"]),
            )
            .unwrap();
        registry.preload("door", "video").unwrap();
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }
    let file = folder.join("cameras.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("hunter2") && !text.contains("fixed"),
        "{text}"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
    {
        let (registry, _, tasks) = registry("", Some(&folder));
        assert_eq!(registry.get("door").unwrap().sources.len(), 2);
        assert_eq!(registry.preloads().len(), 1);
        assert!(registry.get("fixed").is_none());
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }
    fs::write(&file, "{ nonsense").unwrap();
    let (registry, ..) = registry("", Some(&folder));
    assert!(registry.get("door").is_none());
    assert!(folder.join("cameras.json.broken").exists() && !file.exists());
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_is_remembered_further() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let folder = place.join(format!("registry-{:032x}", rand::random::<u128>()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("cameras.json");
    let text = r#"{"cameras": [
        {"name": "typo", "sources": ["rstp://h/x"], "preload": "video"},
        {"name": "twice", "sources": ["rtsp://h/remembered"], "preload": "video"}
    ]}"#;
    fs::write(&file, text).unwrap();
    {
        let settings = "cameras: {twice: 'rtsp://h/configured'}";
        let (registry, directory, tasks) = registry(settings, Some(&folder));
        assert!(registry.get("typo").is_none() && registry.preloads().is_empty());
        assert!(
            directory.list().is_empty(),
            "the configured camera is not preloaded"
        );
        registry.put("new", camera(&["rtsp://h/n"])).unwrap();
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }
    let text = fs::read_to_string(&file).unwrap();
    for part in ["rstp://h/x", "rtsp://h/remembered", "rtsp://h/n"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (registry, _, tasks) = registry("", Some(&folder));
    assert!(registry.get("twice").is_some());
    registry.put("typo", camera(&["rtsp://h/right"])).unwrap();
    assert!(tasks.drain(Duration::from_secs(5)).await);
    assert!(!fs::read_to_string(&file).unwrap().contains("rstp"));
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_preloaded_camera_that_gets_another_url_is_held_by_that() {
    let (registry, directory, _tasks) = registry("", None);
    registry.put("a", camera(&["demo:"])).unwrap();
    registry.preload("a", "video").unwrap();
    registry
        .put("a", camera(&["rtsp://127.0.0.1:1/x"]))
        .unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let open: Vec<_> = directory.list().iter().map(|open| open.url.key()).collect();
    assert_eq!(open, [registry.get("a").unwrap().url.key()]);
    let always = Camera {
        on_demand: false,
        ..camera(&["demo:"])
    };
    registry.put("b", always).unwrap();
    registry.preload("b", "video").unwrap();
    assert!(registry.unload("b"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(directory.list().len(), 2, "it is open always");
}
