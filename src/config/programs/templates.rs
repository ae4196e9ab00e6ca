//! [`Templates`]: pieces of ffmpeg's command line by their names, which the configuration may change.

use std::{collections::BTreeMap, fmt};

use super::fault;
use crate::base::Error;

/// What a name stands for unless the configuration says otherwise. `{input}` and `{output}` are replaced
/// after it was split into words.
const BUILT_IN: &[(&str, &str)] = &[
    ("bin", "ffmpeg"),
    ("global", "-hide_banner -nostdin -v error"),
    // Inputs.
    (
        "rtsp",
        "-fflags nobuffer -flags low_delay -rtsp_transport tcp -i {input}",
    ),
    (
        "rtsp/udp",
        "-fflags nobuffer -flags low_delay -rtsp_transport udp -i {input}",
    ),
    ("http", "-fflags nobuffer -flags low_delay -i {input}"),
    // Motion JPEG by HTTP has no times of its own.
    (
        "mjpeg",
        "-fflags nobuffer -flags low_delay -use_wallclock_as_timestamps 1 -i {input}",
    ),
    ("url", "-fflags nobuffer -flags low_delay -i {input}"),
    ("file", "-re -i {input}"),
    ("loop", "-re -stream_loop -1 -i {input}"),
    (
        "pipe",
        "-fflags nobuffer -flags low_delay -analyzeduration 2000000 -i {input}",
    ),
    // H.264 alone has none either.
    (
        "annexb",
        "-fflags nobuffer -flags low_delay -use_wallclock_as_timestamps 1 -f h264 -i {input}",
    ),
    // Codecs. B-frames are none that browsers show, and a key frame is due every two seconds.
    (
        "h264",
        "-c:v libx264 -preset:v superfast -tune:v zerolatency -profile:v main -pix_fmt:v yuv420p -bf:v 0 \
         -force_key_frames:v expr:gte(t,n_forced*2)",
    ),
    (
        "opus",
        "-c:a libopus -application:a lowdelay -frame_duration:a 20 -ar:a 48000 -ac:a 2",
    ),
    ("pcmu", "-c:a pcm_mulaw -ar:a 8000 -ac:a 1"),
    ("pcma", "-c:a pcm_alaw -ar:a 8000 -ac:a 1"),
    ("aac", "-c:a aac"),
    ("output", "-f rtsp -rtsp_transport tcp {output}"),
];

/// Pieces of the command line by their names.
#[derive(Default)]
pub(super) struct Templates {
    written: BTreeMap<String, Vec<String>>,
    bin: Option<String>,
}

impl fmt::Debug for Templates {
    /// Their names alone: a piece may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.written.keys()).finish()
    }
}

impl Templates {
    pub(super) fn new(written: BTreeMap<String, String>, faults: &mut Vec<String>) -> Self {
        let mut templates = Self::default();
        for (name, text) in written {
            if name == "bin" {
                // A path, which may have spaces.
                templates.bin = Some(text).filter(|text| !text.trim().is_empty());
                continue;
            }
            match words(&text) {
                Some(words) => {
                    templates.written.insert(name, words);
                }
                None => faults.push(format!("ffmpeg.{name}: has an open quote")),
            }
        }
        templates
    }

    /// The program itself.
    pub(super) fn bin(&self) -> &str {
        self.bin.as_deref().unwrap_or("ffmpeg")
    }

    fn find(&self, name: &str) -> Option<Vec<String>> {
        let built_in = || BUILT_IN.iter().find(|(known, _)| *known == name);
        let written = self.written.get(name).cloned();
        written.or_else(|| words(built_in()?.1))
    }

    /// The words of a piece that is always there.
    pub(super) fn get(&self, name: &str) -> Vec<String> {
        self.find(name).unwrap_or_default()
    }

    /// The piece of this name, or the words of `text` itself, which is the value of `option`.
    pub(super) fn named_or_written(&self, text: &str, option: &str) -> Result<Vec<String>, Error> {
        let written = || words(text).ok_or_else(|| fault(&format!("{option} has an open quote")));
        self.find(text).map_or_else(written, Ok)
    }

    /// The words for a codec of `kind`, which is `video` or `audio`; none leaves the kind out.
    pub(super) fn codec(&self, kind: &str, codec: Option<&str>) -> Result<Vec<String>, Error> {
        let letter = if kind == "video" { 'v' } else { 'a' };
        match codec {
            None => Ok(vec![format!("-{letter}n")]),
            Some("copy") => Ok(vec![format!("-c:{letter}"), "copy".to_owned()]),
            Some(name) => self.find(name).ok_or_else(|| {
                fault(&format!(
                    "#{kind}= names no codec that is known: write copy, h264, opus, pcmu, pcma, aac, or \
                     the name of a template under ffmpeg"
                ))
            }),
        }
    }
}

/// The words of a command line, as a shell splits it without doing anything else; none if a quote is open.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    shlex::split(text)
}
