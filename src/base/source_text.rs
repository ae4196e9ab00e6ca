//! [`SourceText`]: a source as clients and files write it, of which a camera's URL is one form.

use std::fmt;

use super::{Error, ErrorKind, Secret, SourceUrl};

/// What go2rtc's clients put before what a converter is to read.
const CONVERTER: &str = "ffmpeg:";
/// Words in options after `#` that tell of a secret there.
const SECRET_WORDS: [&str; 6] = ["pass", "token", "auth", "secret", "key", "user"];

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
        let (location, _) = split(text);
        let meaning = match text.strip_prefix(CONVERTER) {
            Some(_) if location.is_empty() => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    "after ffmpeg: the URL or the name of a camera is missing",
                ));
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

/// What is between the prefix of a converter and the options after `#`, and these options.
fn split(text: &str) -> (&str, &str) {
    match text.strip_prefix(CONVERTER) {
        Some(rest) => rest.split_once('#').unwrap_or((rest, "")),
        None => (text, ""),
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
    /// As it was written if that holds no secret, which clients compare with what they have sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.reveal();
        let shown = self.camera().map(SourceUrl::to_string);
        let is_masked = shown.as_ref().is_some_and(|shown| shown.contains("***"));
        let (_, options) = text.split_once('#').unwrap_or((text, ""));
        let options = options.to_ascii_lowercase();
        let is_secret = SECRET_WORDS.iter().any(|word| options.contains(word));
        if !is_masked && !is_secret {
            return f.write_str(text);
        }
        if text.starts_with(CONVERTER) {
            f.write_str(CONVERTER)?;
        }
        match (&self.meaning, shown) {
            (Meaning::FormOf(name), _) => f.write_str(name),
            (_, Some(shown)) => f.write_str(&shown),
            (_, None) => Ok(()),
        }
    }
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
        assert!(!shown("ffmpeg:door#header=token:hunter2").contains("hunter2"));
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
