//! [`SourceText`]: a source as clients and files write it, of which a camera's URL is one form.

use std::fmt;

use super::{Error, Program, Secret, SourceUrl, Verdict, masked::SECRET_PARTS};

/// What go2rtc's clients put before what a converter is to read.
pub(crate) const CONVERTER: &str = "ffmpeg:";
/// Longest text accepted, in bytes: as long as a URL.
const TEXT_MAX: usize = 4096;

/// A source as it was written, and what it means to us.
///
/// Beside a plain URL this takes go2rtc's notation: `ffmpeg:URL#video=…#audio=…` asks for a converted
/// form of a camera, and `ffmpeg:NAME#audio=opus` for one of a camera that has a name already. Both are
/// hints: the camera is opened once, and what its viewers need of it is decided for each offer.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    text: Secret,
    meaning: Meaning,
}

/// What a [`SourceText`] stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A camera.
    Camera(SourceUrl),
    /// Another form of the camera of this name.
    FormOf(String),
}

impl SourceText {
    /// Reads what a client or a file has written.
    ///
    /// # Errors
    /// `InvalidArgument` for what is neither; see [`SourceUrl::parse`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |sentence| Err(Error::new(Verdict::BadUrl, sentence));
        if text.len() > TEXT_MAX {
            return invalid("a source is longer than 4096 bytes");
        }
        if text.chars().any(char::is_control) {
            return invalid(
                "a source contains control characters such as line breaks; remove them",
            );
        }
        let (location, _) = split(text);
        let meaning = match text.strip_prefix(CONVERTER) {
            Some(_) if location.is_empty() => {
                return invalid("after ffmpeg: the URL or the name of a camera is missing");
            }
            Some(_) if !location.contains("://") && !location.ends_with(':') => {
                Meaning::FormOf(location.to_owned())
            }
            Some(_) => Meaning::Camera(SourceUrl::parse(location)?),
            None => Meaning::Camera(SourceUrl::parse(text)?),
        };
        Ok(Self {
            text: Secret::new(text),
            meaning,
        })
    }

    /// What `program` plays, as `text` has it.
    #[must_use]
    pub fn of_program(text: &str, program: Program) -> Self {
        Self {
            text: Secret::new(text),
            meaning: Meaning::Camera(SourceUrl::of_program(program)),
        }
    }

    /// What it stands for.
    #[must_use]
    pub fn meaning(&self) -> &Meaning {
        &self.meaning
    }

    /// The camera, if it names one by its URL.
    #[must_use]
    pub fn camera(&self) -> Option<&SourceUrl> {
        match &self.meaning {
            Meaning::Camera(url) => Some(url),
            Meaning::FormOf(_) => None,
        }
    }

    /// The text as it was written, with its credentials: never print it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.reveal()
    }
}

/// What is between the prefix of a converter and the options after `#`, and these options. A `#` before
/// the `@` of a login is of its password.
pub(crate) fn split(text: &str) -> (&str, &str) {
    let rest = text.strip_prefix(CONVERTER).unwrap_or(text);
    let Some(first) = rest.find('#') else {
        return (rest, "");
    };
    let authority = rest[..first].split_once("://").map(|(_, begun)| begun);
    let is_login = authority.is_some_and(|begun| !begun.contains(['/', '@']));
    let login_end = rest.rfind('@').filter(|at| is_login && *at > first);
    let from = login_end.unwrap_or(first);
    match rest[from..].find('#') {
        Some(at) => (&rest[..from + at], &rest[from + at + 1..]),
        None => (rest, ""),
    }
}

impl From<SourceUrl> for SourceText {
    fn from(url: SourceUrl) -> Self {
        Self {
            text: Secret::new(url.to_string()),
            meaning: Meaning::Camera(url),
        }
    }
}

impl fmt::Display for SourceText {
    /// As it was written if that can hold no secret, which clients compare with what they have sent;
    /// otherwise what [`SourceUrl`] shows, without options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(program) = self.camera().and_then(SourceUrl::program) {
            return f.write_str(program.shown());
        }
        let text = self.text.reveal();
        let (location, options) = split(text);
        let shown = match &self.meaning {
            Meaning::Camera(url) => url.to_string(),
            Meaning::FormOf(name) => name.clone(),
        };
        // Of a URL without `//` nothing but the scheme is shown.
        let is_plain =
            location.contains("://") && !location.contains('@') && !shown.contains("***");
        if (location == shown || is_plain) && !may_be_secret(options) {
            return f.write_str(text);
        }
        if text.starts_with(CONVERTER) {
            f.write_str(CONVERTER)?;
        }
        f.write_str(&shown)
    }
}

/// Whether there may be a secret in options: one by its name, or a URL with a login.
fn may_be_secret(options: &str) -> bool {
    let options = options.to_ascii_lowercase();
    options.contains('@') || SECRET_PARTS.iter().any(|part| options.contains(part))
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        SourceText::parse(text).unwrap().to_string()
    }

    #[test]
    fn a_converter_around_a_camera_is_the_camera() {
        let plain = SourceUrl::parse("rtsp://u:p@h/x").unwrap();
        for text in [
            "rtsp://u:p@h/x",
            "ffmpeg:rtsp://u:p@h/x",
            "ffmpeg:rtsp://u:p@h/x#video=h264#audio=copy#raw=-vf hflip",
        ] {
            let source = SourceText::parse(text).unwrap();
            assert_eq!(source.camera(), Some(&plain), "{text}");
            assert!(!source.to_string().contains("u:p"), "{source}");
        }
    }

    #[test]
    fn a_converter_around_a_name_is_a_hint() {
        let text = "ffmpeg:camera.front_door#audio=opus#query=log_level=debug";
        let source = SourceText::parse(text).unwrap();
        assert_eq!(
            source.meaning(),
            &Meaning::FormOf("camera.front_door".to_owned())
        );
        assert_eq!(source.to_string(), text);
    }

    #[test]
    fn what_holds_no_secret_is_shown_letter_by_letter() {
        for text in [
            "rtsp://H:554/a?x=1#transport=udp",
            "ffmpeg:rtsp://h/a#video=copy",
            "demo:",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(
            shown("ffmpeg:rtsp://u:p@h/a#video=copy"),
            "ffmpeg:rtsp://***@h/a"
        );
        assert!(
            !shown("rtsp://h/a#header=Auth: hunter2".trim_end_matches(" hunter2")).contains("Auth")
        );
        for secret in [
            "ffmpeg:door#header=token:hunter2",
            "rtsp:u:hunter2@h",
            "ring:?refresh_token=hunter2",
            "ffmpeg:rtsp://u:12#hunter2@h/x",
            "ffmpeg:rtsp://h/x#raw=-i rtsp://u:hunter2@h",
            "ffmpeg:door#x=u:hunter2@h",
            "ffmpeg:rtsp://h/x#pwd=hunter2",
            "rtsp://h/x#sig=hunter2",
        ] {
            assert!(
                !shown(secret).contains("hunter2"),
                "{secret}: {}",
                shown(secret)
            );
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "ffmpeg:",
            "ffmpeg:#audio=opus",
            "ffmpeg:://x",
            "nonsense",
        ] {
            assert!(SourceText::parse(text).is_err(), "{text}");
        }
    }
}
