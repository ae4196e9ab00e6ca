//! The files in Home Assistant's folder.

use std::path::Path;

use serde_json::json;

/// Writes what a user would have after setting it up, with the URL of `go2rtc` if there shall be one.
pub(super) fn write(folder: &Path, port: u16, cameras: &[(&str, &str)], go2rtc: Option<&str>) {
    let entities: Vec<_> = cameras
        .iter()
        .map(|(name, url)| json!({ "platform": "ffmpeg", "name": name, "input": url }))
        .collect();
    // JSON is YAML.
    let mut configuration = json!({
        "homeassistant": {
            "name": "Home",
            "latitude": 0,
            "longitude": 0,
            "elevation": 0,
            "unit_system": "metric",
            "time_zone": "UTC",
            "country": "CH",
            "currency": "CHF",
            "auth_providers": [{
                "type": "trusted_networks",
                "trusted_networks": ["127.0.0.1/32"],
                "allow_bypass_login": true,
            }],
        },
        "http": { "server_host": "127.0.0.1", "server_port": port },
        "frontend": {},
        "stream": {},
        "ffmpeg": {},
        "camera": entities,
        "lovelace": { "mode": "yaml" },
        "logger": { "default": "info" },
    });
    if let Some(url) = go2rtc {
        configuration["go2rtc"] = json!({ "url": url });
    }
    let cards: Vec<_> = cameras
        .iter()
        .map(|(name, _)| {
            json!({
                "type": "picture-entity",
                "entity": format!("camera.{name}"),
                "camera_view": "live",
            })
        })
        .collect();
    let dashboard = json!({ "title": "Home", "views": [{ "title": "Cameras", "cards": cards }] });
    let onboarding = json!({
        "version": 4,
        "minor_version": 1,
        "key": "onboarding",
        "data": { "done": ["user", "core_config", "analytics", "integration"] },
    });
    let group = |id: &str, name: &str| json!({ "id": id, "name": name });
    let auth = json!({
        "version": 1,
        "minor_version": 1,
        "key": "auth",
        "data": {
            "users": [{
                "id": "0123456789abcdef0123456789abcdef",
                "group_ids": ["system-admin"],
                "is_owner": true,
                "is_active": true,
                "name": "Owner",
                "system_generated": false,
                "local_only": false,
            }],
            "groups": [
                group("system-admin", "Administrators"),
                group("system-users", "Users"),
                group("system-read-only", "Read Only"),
            ],
            "credentials": [],
            "refresh_tokens": [],
        },
    });
    let storage = folder.join(".storage");
    std::fs::create_dir(&storage).expect("a new folder is empty");
    for (file, content) in [
        (folder.join("configuration.yaml"), configuration),
        (folder.join("ui-lovelace.yaml"), dashboard),
        (storage.join("onboarding"), onboarding),
        (storage.join("auth"), auth),
    ] {
        std::fs::write(file, content.to_string()).expect("a file can be made in it");
    }
}
