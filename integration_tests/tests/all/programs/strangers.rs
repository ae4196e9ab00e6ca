//! Whatever a client sends, it has no program run: traced by the kernel, with programs in the configuration
//! for which nobody asks.

use std::fmt::Write as _;

use super::*;
use integration_tests::{offer, processes::Trace, server::Reply};

/// What a client might try. The last ones are in the configuration, letter by letter.
fn sources(clip: &Path) -> Vec<String> {
    let clip = clip.display();
    [
        "exec:touch /tmp/x".to_owned(),
        "exec:touch%20/tmp/x".to_owned(),
        "EXEC:touch".to_owned(),
        "echo:true".to_owned(),
        "echo:echo rtsp://127.0.0.1:9/x".to_owned(),
        "ffmpeg:virtual?video#video=h264".to_owned(),
        "ffmpeg:device?video=/dev/video0".to_owned(),
        "ffmpeg:http://127.0.0.1:9/mjpg#video=h264".to_owned(),
        "ffmpeg:rtsp://127.0.0.1:9/x#video=h264#raw=-vf hflip".to_owned(),
        "ffmpeg:demo:#video=h264".to_owned(),
        "ffmpeg:demo#video=h264#input=x".to_owned(),
        "ffmpeg:stranger#video=h264".to_owned(),
        format!("ffmpeg:{clip}#input=loop"),
        "exec:/nowhere/{output}".to_owned(),
        "exec:sleep 77 {output}".to_owned(),
        "echo:sleep 77".to_owned(),
    ]
    .to_vec()
}

#[tokio::test]
async fn no_request_starts_a_program() {
    let Some(trace) = Trace::new() else {
        return;
    };
    let clip = Camera::h264().small().clip().await;
    let sources = sources(&clip);
    let [.., file, bare, exec, echo] = &sources[..] else {
        panic!("no sources")
    };
    let cameras = json!({
        "private-file": file,
        "private-bare": bare,
        "private-exec": exec,
        "private-echo": echo,
    });
    let mut settings: Value =
        json!({"rtsp_to_web": {}, "media_listen": "127.0.0.1:0", "exec": true});
    settings["cameras"] = cameras;
    let data = tempfile::tempdir().expect("a folder can be made");
    settings["data"] = json!(data.path());
    let written = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(written.path(), settings.to_string()).expect("it can be written");
    let server = trace
        .start(&["--config", &written.path().to_string_lossy()])
        .await;
    let mut asked = 0;
    for source in &sources {
        asked += ask(&server, source).await.len();
    }
    assert!(asked >= sources.len() * 8, "{asked} requests");
    assert_eq!(trace.executed(), [] as [String; 0]);
    assert_eq!(server.get("/health").await.json()["panics"], 0);
    // The same server, and the same trace, when the operator's camera is asked for by its name.
    let reply = server.offer("private-file", &offer::probe()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let executed = trace.executed().join("\n");
    assert!(
        executed.contains("ffmpeg"),
        "the trace sees programs: {executed:?}"
    );
}

/// Every way of naming a camera that there is.
async fn ask(server: &Server, source: &str) -> Vec<Reply> {
    let query = |text: &str| {
        text.bytes().fold(String::new(), |mut query, byte| {
            let _ = write!(query, "%{byte:02X}");
            query
        })
    };
    let (sdp, text) = (offer::probe(), query(source));
    let url = |path: String| server.url(&path);
    let http = server.http();
    let stream =
        json!({"uuid": "stranger", "name": "s", "channels": {"0": {"name": "c", "url": source}}});
    let requests = vec![
        http.put(url(format!("/api/streams?name=stranger&src={text}"))),
        http.patch(url(format!("/api/streams?name=stranger&src={text}"))),
        http.put(url(format!("/api/streams?src={text}"))),
        http.put(url(format!("/api/streams?name=both&src=demo:&src={text}"))),
        http.put(url(format!("/api/preload?src={text}"))),
        http.put(url("/api/preload?src=stranger".to_owned())),
        http.post(url(format!("/api/webrtc?src={text}")))
            .body(sdp.clone()),
        http.post(url("/api/webrtc?src=stranger".to_owned()))
            .body(sdp.clone()),
        http.get(url(format!("/api/frame.jpeg?src={text}"))),
        http.get(url("/api/frame.jpeg?src=both".to_owned())),
        http.post(url("/stream/stranger/add".to_owned()))
            .json(&stream),
        http.post(url("/stream/stranger/channel/0/webrtc".to_owned()))
            .form(&[("data", &sdp)]),
        http.get(url("/stream/stranger/channel/0/codec".to_owned())),
        http.get(url("/stream/codec/stranger".to_owned())),
        http.post(url(format!("/whep/{text}")))
            .header("Content-Type", "application/sdp")
            .body(sdp.clone()),
        http.get(url("/cameras".to_owned())),
    ];
    let mut replies = vec![server.offer(source, &sdp).await];
    for request in requests {
        replies.push(server.send(request).await);
    }
    replies
}
