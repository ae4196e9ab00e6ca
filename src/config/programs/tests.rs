use super::*;
use crate::{
    base::Secret,
    config::{Config, Layer},
};

/// What becomes of a camera that is written so, beside the cameras `door`, by RTSP, and `page`, which is a
/// program; with some templates of its own.
fn source(text: &str) -> Result<SourceText, Error> {
    let mut faults = Vec::new();
    let layer = Layer::parse("ffmpeg: {h264/own: '-c:v h264_own -q \"a b\"', turned: '-vf hflip'}");
    let programs = Programs::new(layer.unwrap().ffmpeg, Some(true), &mut faults);
    assert!(faults.is_empty());
    programs.source(text, |name| match name {
        "door" => Some("rtsp://u:hunter2@h/x#transport=udp"),
        "page" => Some("ffmpeg:http://h/mjpg#video=h264"),
        _ => None,
    })
}

/// The words of its commands; none if it needs no program.
fn commands(text: &str) -> Option<Vec<String>> {
    let source = source(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let program = source.camera()?.program()?.clone();
    let command = |words: &Vec<Secret>| {
        words
            .iter()
            .map(Secret::reveal)
            .collect::<Vec<_>>()
            .join(" ")
    };
    Some(program.commands().iter().map(command).collect())
}

#[test]
fn what_needs_no_ffmpeg_is_opened_without() {
    for text in [
        "rtsp://h/x",
        "ffmpeg:rtsp://h/x",
        "ffmpeg:rtsp://h/x#audio=opus",
        "ffmpeg:rtsps://h/x#video=copy#audio=opus#query=log_level=debug",
        "ffmpeg:ws://h/x",
        "ffmpeg:demo:",
        "ffmpeg:door#audio=opus",
        "ffmpeg:nobody#audio=opus",
    ] {
        assert_eq!(commands(text), None, "{text}");
    }
}

#[test]
fn options_become_the_command_line_of_ffmpeg() {
    let begin = "ffmpeg -hide_banner -nostdin -v error ";
    let end = " -f rtsp -rtsp_transport tcp {output}";
    let quick = "-fflags nobuffer -flags low_delay ";
    let of = |text: &str| {
        let [command] = &commands(text).unwrap()[..] else {
            panic!("{text}");
        };
        let inner = command
            .strip_prefix(begin)
            .and_then(|rest| rest.strip_suffix(end));
        let inner = inner.unwrap_or_else(|| panic!("{command}"));
        inner
            .replace(quick, "")
            .replace(&Templates::default().get("h264").join(" "), "H264")
    };
    for (text, command) in [
        (
            "ffmpeg:rtsp://u:p@h/x#video=h264",
            "-rtsp_transport tcp -i rtsp://u:p@h/x H264 -an -vf select=st(0\\,max(ld(0)\\,key))",
        ),
        (
            "ffmpeg:rtspx://h/x#video=h264#audio=copy#input=rtsp/udp",
            "-rtsp_transport udp -i rtsps://h/x H264 -c:a copy -vf select=st(0\\,max(ld(0)\\,key))",
        ),
        (
            "ffmpeg:door#video=h264/own#raw=turned",
            "-rtsp_transport tcp -i rtsp://u:hunter2@h/x -c:v h264_own -q a b -an -vf hflip",
        ),
        (
            "ffmpeg:http://h/live.m3u8",
            "-i http://h/live.m3u8 -c:v copy -c:a copy",
        ),
        (
            "ffmpeg:http://h/mjpg/1#video=h264",
            "-use_wallclock_as_timestamps 1 -i http://h/mjpg/1 H264 -an",
        ),
        (
            "ffmpeg:rtmp://h/app/key#audio=pcmu",
            "-i rtmp://h/app/key -vn -c:a pcm_mulaw -ar:a 8000 -ac:a 1",
        ),
        (
            "ffmpeg:/a b/c.mp4#input=loop#rotate=90#width=640",
            "-re -stream_loop -1 -i file:/a b/c.mp4 H264 -c:a copy -vf scale=640:-2,transpose=1",
        ),
        (
            "ffmpeg:./x#input=-ss '1 2' -i {input}#rotate=-90",
            "-ss 1 2 -i file:./x H264 -c:a copy -vf transpose=2",
        ),
        (
            "ffmpeg:virtual?video=testsrc2&size=720&rate=10&audio=sine#video=h264",
            "-re -f lavfi -i testsrc2=size=1280x720:rate=10 -f lavfi -i sine H264 -an",
        ),
        (
            "ffmpeg:device?video=/dev/video0&input_format=mjpeg#video=h264",
            "-f v4l2 -input_format mjpeg -i /dev/video0 H264 -an",
        ),
    ] {
        assert_eq!(of(text), command, "{text}");
    }
}

#[test]
fn a_command_publishes_or_is_read_by_ffmpeg() {
    let publishing = commands("exec:publish --to '{output}' \"a b\"").unwrap();
    assert_eq!(publishing, ["publish --to {output} a b"]);
    let writing = commands("exec:/opt/write -#input=annexb#video=copy").unwrap();
    assert_eq!(writing[0], "/opt/write -");
    assert!(
        writing[1].contains("-f h264 -i pipe:0 -c:v copy -an"),
        "{writing:?}"
    );
    assert_eq!(commands("echo:tell me").unwrap(), ["tell me"]);
}

#[test]
fn what_cannot_be_run_is_refused_with_what_to_write() {
    for (text, told) in [
        ("ffmpeg:http://h/x#video=av2", "no codec"),
        ("ffmpeg:http://h/x#video=copy#rotate=90", "#video=h264"),
        ("ffmpeg:http://h/x#video=h264#rotate=45", "#rotate="),
        ("ffmpeg:http://h/x#width=wide", "#width="),
        ("ffmpeg:rtsp://h/x#video=h264#hardware", "h264/vaapi"),
        ("ffmpeg:http://h/x#vide=h264", "not known"),
        ("ffmpeg:http://h/x#raw='", "open quote"),
        ("ffmpeg:nobody#video=h264", "name of a camera"),
        ("ffmpeg:page#video=h264", "not an rtsp:// URL"),
        ("ffmpeg:ws://h/x#video=h264", "through its web server"),
        ("ffmpeg:device?x=y", "video="),
        ("exec:", "missing"),
        ("exec:a '", "open quote"),
        ("exec:a {output}#video=h264", "remove them"),
    ] {
        let error = source(text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.to_string().contains(told), "{text}: {error}");
    }
}

#[test]
fn commands_are_off_until_the_file_switches_them_on() {
    let ask = |text: &str| Config::from_layers([Layer::parse(text).unwrap()]);
    for scheme in ["exec", "echo"] {
        let camera = format!("cameras: {{a: '{scheme}:true {{output}}'}}");
        let error = ask(&camera).unwrap_err().to_string();
        assert!(
            error.contains("exec: true") && error.contains("cameras.a.url"),
            "{error}"
        );
        assert!(ask(&format!("exec: false\n{camera}")).is_err());
        assert!(ask(&format!("exec: true\n{camera}")).is_ok());
    }
    let text = "ffmpeg: {output: '-f null'}\ncameras: {a: 'ffmpeg:http://h/x'}";
    assert!(ask(text).unwrap_err().to_string().contains("{output}"));
}

#[test]
fn nothing_secret_is_shown() {
    for text in [
        "ffmpeg:http://u:hunter2@h/mjpg?pwd=hunter2#video=h264",
        "ffmpeg:rtmp://h/app/hunter2",
        "ffmpeg:srt://h:1?passphrase=hunter2",
        "ffmpeg:door#video=h264",
        "ffmpeg:/clip.mp4#raw=-metadata key=hunter2",
        "exec:/bin/publish --password hunter2 {output}",
        "exec:u:hunter2@x {output}",
        "echo:curl https://u:hunter2@h",
    ] {
        let source = source(text).unwrap();
        let url = source.camera().unwrap();
        let shown = format!("{source} {source:?} {url} {url:?} {:?}", url.program());
        assert!(
            !shown.contains("hunter2") && url.program().is_some(),
            "{shown}"
        );
        assert!(shown.contains(text.split(':').next().unwrap()), "{shown}");
    }
    let layer = Layer::parse("ffmpeg: {global: '-headers hunter2'}").unwrap();
    assert!(!format!("{layer:?}").contains("hunter2"));
}

#[test]
fn the_same_text_from_the_network_is_another_source() {
    for text in ["exec:publish {output}", "ffmpeg:http://h/x", "echo:tell"] {
        let configured = source(text).unwrap().camera().unwrap().clone();
        assert!(configured.program().is_some());
        let Ok(asked) = SourceText::parse(text) else {
            continue;
        };
        let asked = asked.camera().unwrap();
        assert!(asked.program().is_none() && *asked != configured, "{text}");
        assert_ne!(asked.key(), configured.key(), "{text}");
    }
}
