//! [`Input`]: what ffmpeg is to read.

use std::fmt::Write as _;

use url::form_urlencoded;

use super::{fault, is_own, shown_url, templates::words};
use crate::base::Error;

/// What ffmpeg is to read, and how.
pub(super) struct Input<'a> {
    kind: Kind,
    location: &'a str,
    /// Words of its own, for devices and test pictures.
    words: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rtsp,
    Http,
    Mjpeg,
    Url,
    File,
    Pipe,
    /// It has words of its own.
    Made,
}

/// Whether `location` is none of a camera that is opened without ffmpeg, and not the name of one.
pub(super) fn is_other(location: &str) -> bool {
    !is_own(location)
        && (location.contains('/') || location.starts_with("device?") || is_virtual(location))
}

fn is_virtual(location: &str) -> bool {
    location == "virtual" || location.starts_with("virtual?")
}

impl<'a> Input<'a> {
    /// What stands between `ffmpeg:` and the options.
    pub(super) fn of(location: &'a str) -> Result<Self, Error> {
        let input = |kind| {
            Ok(Self {
                kind,
                location,
                words: Vec::new(),
            })
        };
        let made = |words| {
            Ok(Self {
                kind: Kind::Made,
                location,
                words,
            })
        };
        if let Some((scheme, rest)) = location.split_once("://") {
            let rest = rest.to_ascii_lowercase();
            let is_mjpeg = rest.contains("mjpg") || rest.contains("mjpeg");
            return input(match scheme.to_ascii_lowercase().as_str() {
                "rtsp" | "rtsps" | "rtspx" => Kind::Rtsp,
                _ if is_own(location) => {
                    return Err(fault(
                        "ffmpeg reads rtsp:// and rtsps:// of a camera, and not RTSP through its web server",
                    ));
                }
                "http" | "https" if is_mjpeg => Kind::Mjpeg,
                "http" | "https" => Kind::Http,
                _ => Kind::Url,
            });
        }
        if is_virtual(location) {
            return made(virtual_words(
                location.strip_prefix("virtual?").unwrap_or_default(),
            ));
        }
        if let Some(query) = location.strip_prefix("device?") {
            return made(device_words(query)?);
        }
        if location.contains('/') {
            return input(Kind::File);
        }
        Err(fault(
            "after ffmpeg: stands neither a URL, nor the path of a file with a / in it, nor the name of a \
             camera",
        ))
    }

    /// Whether it comes by RTSP, and begins anywhere between two key frames.
    pub(super) fn is_rtsp(&self) -> bool {
        self.kind == Kind::Rtsp
    }

    /// What another program writes.
    pub(super) fn pipe() -> Self {
        Self {
            kind: Kind::Pipe,
            location: "pipe:0",
            words: Vec::new(),
        }
    }

    /// Whether another program writes it.
    pub(super) fn is_pipe(&self) -> bool {
        self.kind == Kind::Pipe
    }

    /// The name of the template for it.
    pub(super) fn template(&self) -> &'static str {
        match self.kind {
            Kind::Rtsp => "rtsp",
            Kind::Http => "http",
            Kind::Mjpeg => "mjpeg",
            Kind::Url => "url",
            Kind::File => "file",
            Kind::Pipe => "pipe",
            Kind::Made => "",
        }
    }

    /// The words by which ffmpeg reads it, out of those of a template.
    pub(super) fn by(&self, template: &[String]) -> Vec<String> {
        if self.kind == Kind::Made && template.is_empty() {
            return self.words.clone();
        }
        // ffmpeg knows TLS by one scheme, and checks no certificate unless it is told to.
        let location = self.location.replacen("rtspx://", "rtsps://", 1);
        // A file whose name begins with `-` would be an option, and one with a colon a protocol.
        let location = match self.kind {
            Kind::File => format!("file:{location}"),
            _ => location,
        };
        let words = template.iter();
        words
            .map(|word| word.replace("{input}", &location))
            .collect()
    }

    /// What people may see of it.
    pub(super) fn shown(&self) -> String {
        if self.location.contains("://") {
            return shown_url(self.location);
        }
        self.location.to_owned()
    }
}

/// A test picture, and perhaps a test tone: `video=testsrc&size=1280x720&rate=25&audio=sine`.
fn virtual_words(query: &str) -> Vec<String> {
    let mut words = vec!["-re".to_owned()];
    let get = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let audio = get("audio");
    if get("video").is_some() || audio.is_none() {
        let source = get("video").filter(|name| !name.is_empty());
        let mut graph = source.unwrap_or("testsrc".into()).into_owned();
        let mut separator = if graph.contains('=') { ':' } else { '=' };
        for option in ["size", "rate", "duration", "decimals", "color"] {
            if let Some(value) = get(option) {
                let value = match &*value {
                    "720" => "1280x720",
                    "1080" => "1920x1080",
                    other => other,
                };
                let _ = write!(graph, "{separator}{option}={value}");
                separator = ':';
            }
        }
        words.extend(["-f", "lavfi", "-i"].map(str::to_owned));
        words.push(graph);
    }
    if let Some(audio) = audio {
        let graph = if audio.is_empty() {
            "sine".into()
        } else {
            audio
        };
        words.extend(["-f", "lavfi", "-i"].map(str::to_owned));
        words.push(graph.into_owned());
    }
    words
}

/// A device of this machine: `video=/dev/video0&video_size=1280x720&framerate=25&input_format=mjpeg`, and
/// `audio=hw:0`.
fn device_words(query: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let (mut video, mut audio) = (None, None);
    let mut options = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "video" => video = Some(value.into_owned()),
            "audio" => audio = Some(value.into_owned()),
            _ if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                options.extend([format!("-{name}"), value.into_owned()]);
            }
            _ => return Err(fault("an option of ffmpeg:device? is none of ffmpeg's")),
        }
    }
    if let Some(video) = &video {
        words.extend(words_of("-f v4l2"));
        words.append(&mut options);
        words.extend(["-i".to_owned(), video.clone()]);
    }
    if let Some(audio) = &audio {
        words.extend(words_of("-f alsa"));
        words.append(&mut options);
        words.extend(["-i".to_owned(), audio.clone()]);
    }
    if words.is_empty() {
        return Err(fault(
            "ffmpeg:device? needs video= or audio=, as in ffmpeg:device?video=/dev/video0#video=h264",
        ));
    }
    Ok(words)
}

fn words_of(text: &str) -> Vec<String> {
    words(text).unwrap_or_default()
}
