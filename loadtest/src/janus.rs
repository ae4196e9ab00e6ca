//! Janus with its streaming plugin: the configuration, and the conversation over its HTTP transport.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::http::request;
use crate::signalling::{Session, Target};

/// Camera `i` is the mountpoint with this id more.
const FIRST_MOUNTPOINT: usize = 1000;
/// Long polls without the event before this is given up; each lasts 30 s at most.
const POLLS: usize = 20;
/// Plugins that would only open ports here.
const OFF: [&str; 11] = [
    "audiobridge",
    "duktape",
    "echotest",
    "lua",
    "nosip",
    "recordplay",
    "sip",
    "textroom",
    "videocall",
    "videoroom",
    "voicemail",
];
const TRANSPORTS_OFF: [&str; 5] = ["websockets", "rabbitmq", "mqtt", "nanomsg", "pfunix"];

fn libraries(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("libjanus_{name}.so"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Writes a configuration with a mountpoint for each of the cameras, for `janus -F folder`.
pub(crate) fn configure(
    folder: &Path,
    address: IpAddr,
    port: u16,
    cameras: &[String],
    audio: bool,
) -> io::Result<()> {
    let (plugins, transports) = (libraries(&OFF), libraries(&TRANSPORTS_OFF));
    fs::write(
        folder.join("janus.jcfg"),
        format!(
            "general: {{ debug_level = 3; session_timeout = 0; }}\n\
             nat: {{ ice_enforce_list = \"{address}\"; }}\n\
             media: {{ ipv6 = false; rtp_port_range = \"20000-39999\"; }}\n\
             plugins: {{ disable = \"{plugins}\"; }}\n\
             transports: {{ disable = \"{transports}\"; }}\n\
             events: {{ broadcast = false; }}\n"
        ),
    )?;
    fs::write(
        folder.join("janus.transport.http.jcfg"),
        format!(
            "general: {{ json = \"compact\"; base_path = \"/janus\"; http = true; ip = \"127.0.0.1\"; port = {port}; \
             https = false; }}\nadmin: {{ admin_http = false; }}\n"
        ),
    )?;
    let mountpoints: Vec<String> = cameras
        .iter()
        .enumerate()
        .map(|(index, url)| {
            let id = FIRST_MOUNTPOINT + index;
            // The last key frame for a new viewer, so that Janus is at its best.
            format!(
                "cam{index}: {{ type = \"rtsp\"; id = {id}; url = \"{url}\"; video = true; audio = {audio}; \
                 videobufferkf = true; }}\n"
            )
        })
        .collect();
    let general = "general: { rtp_port_range = \"10000-19999\"; }\n";
    fs::write(
        folder.join("janus.plugin.streaming.jcfg"),
        format!("{general}{}", mountpoints.concat()),
    )
}

fn post(url: &str, mut message: Value) -> Result<Value, String> {
    message["transaction"] = format!("{:08x}", rand::random::<u32>()).into();
    let body = request("POST", url, "application/json", &message.to_string())?
        .success()?
        .body;
    let reply: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    if reply["janus"] == "error" {
        return Err(format!("Janus: {}", reply["error"]["reason"]));
    }
    Ok(reply)
}

fn id(reply: &Value) -> Result<u64, String> {
    reply["data"]["id"]
        .as_u64()
        .ok_or_else(|| "Janus gave no id".into())
}

/// A session with a handle of the streaming plugin: their URLs.
fn attach(url: &str) -> Result<(String, String), String> {
    let session = format!("{url}/{}", id(&post(url, json!({"janus": "create"}))?)?);
    let handle = id(&post(
        &session,
        json!({"janus": "attach", "plugin": "janus.plugin.streaming"}),
    )?)?;
    let handle = format!("{session}/{handle}");
    Ok((session, handle))
}

/// Asks to watch a camera; returns Janus' offer.
pub(crate) fn watch(target: &Target, camera: usize) -> Result<(String, Session), String> {
    let (session, handle) = attach(&target.url)?;
    let body = json!({"request": "watch", "id": FIRST_MOUNTPOINT + camera});
    post(&handle, json!({"janus": "message", "body": body}))?;
    for _ in 0..POLLS {
        let text = request("GET", &format!("{session}?maxev=1"), "text/plain", "")?
            .success()?
            .body;
        let event: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if let Some(sdp) = event["jsep"]["sdp"].as_str() {
            let of_janus = Some((session, handle));
            return Ok((
                sdp.to_owned(),
                Session {
                    resource: None,
                    janus: of_janus,
                },
            ));
        }
        if let Some(error) = event["plugindata"]["data"]["error"].as_str() {
            return Err(format!("Janus: {error}"));
        }
    }
    Err("Janus made no offer".into())
}

/// Sends the answer, which makes Janus begin.
pub(crate) fn start(session: &Session, answer: &str) -> Result<(), String> {
    let (_, handle) = session
        .janus
        .as_ref()
        .ok_or("this is no session of Janus")?;
    let jsep = json!({"type": "answer", "sdp": answer});
    post(
        handle,
        json!({"janus": "message", "body": {"request": "start"}, "jsep": jsep}),
    )
    .map(drop)
}

/// Makes Janus open a camera that is not in its configuration, as for the first viewer of a camera.
pub(crate) fn open(target: &Target, camera: usize) -> Result<(), String> {
    let (session, handle) = attach(&target.url)?;
    let body = json!({
        "request": "create", "type": "rtsp", "id": FIRST_MOUNTPOINT + camera, "url": target.rtsp(camera),
        "video": true, "audio": target.audio, "videobufferkf": true
    });
    let reply = post(&handle, json!({"janus": "message", "body": body}));
    let _ = destroy(&session);
    match reply?["plugindata"]["data"]["error"].as_str() {
        Some(error) => Err(format!("Janus: {error}")),
        None => Ok(()),
    }
}

/// Ends a session with all it has.
pub(crate) fn destroy(session: &str) -> Result<(), String> {
    post(session, json!({"janus": "destroy"})).map(drop)
}
