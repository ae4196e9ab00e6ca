//! [`Programs`]: which sources of the configuration are programs to be run, and what their commands are.
//!
//! `ffmpeg:`, `exec:` and `echo:` in go2rtc's notation. This is the only place that makes a [`Program`], so
//! nothing that comes from the network can.

mod input;
mod templates;

use self::{
    input::Input,
    templates::{Templates, words},
};
use super::file::FfmpegLayer;
use crate::base::{
    Error, Program, ProgramKind, SourceText, SourceUrl, Verdict,
    program::OUTPUT,
    source_text::{CONVERTER, split},
};

/// Schemes of cameras that are opened without a program.
const OWN_SCHEMES: [&str; 7] = [
    "rtsp",
    "rtsps",
    "rtspx",
    "rtsp+http",
    "rtsp+https",
    "ws",
    "wss",
];

/// What may stand after `#`. `query` is for another server.
const OPTIONS: [&str; 8] = [
    "video", "audio", "rotate", "width", "height", "raw", "input", "query",
];

/// A filter that passes on nothing before the first key frame: ffmpeg decodes H.265 from anywhere, and what
/// refers to pictures that it never had is grey.
const SINCE_KEY_FRAME: &str = r"select=st(0\,max(ld(0)\,key))";

/// What the configuration says of programs.
#[derive(Debug, Default)]
pub(super) struct Programs {
    templates: Templates,
    /// Whether commands may be written in it.
    exec: bool,
}

/// Options after `#`, in their order.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn of(text: &'a str) -> Self {
        let parts = text.split('#').filter(|part| !part.is_empty());
        Self(
            parts
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(key, _)| *key == name)?;
        Some(value)
    }

    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        let of_name = self.0.iter().filter(move |(key, _)| *key == name);
        of_name.map(|(_, value)| *value)
    }

    /// Whether they change the picture, or how it is read: nothing that is done without a program.
    fn needs_program(&self) -> bool {
        self.all("video").any(|codec| codec != "copy")
            || ["rotate", "width", "height", "raw", "input", "hardware"]
                .iter()
                .any(|name| self.get(name).is_some())
    }
}

impl Programs {
    /// What the keys `ffmpeg` and `exec` say.
    pub(super) fn new(
        written: Option<FfmpegLayer>,
        exec: Option<bool>,
        faults: &mut Vec<String>,
    ) -> Self {
        Self {
            templates: Templates::new(written.map(|layer| layer.0).unwrap_or_default(), faults),
            exec: exec.unwrap_or(false),
        }
    }

    /// A source as the configuration has it. `first_of` gives the first source of the camera of a name.
    ///
    /// # Errors
    /// `InvalidArgument` for what is neither a camera nor a program that can be run.
    pub(super) fn source<'a>(
        &self,
        text: &str,
        first_of: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<SourceText, Error> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let program = match scheme {
            "exec" => Some(self.exec(rest)?),
            "echo" => Some(self.echo(rest)?),
            _ if text.starts_with(CONVERTER) => self.ffmpeg(text, first_of)?,
            _ => None,
        };
        match program {
            Some(program) => Ok(SourceText::of_program(text, program)),
            None => SourceText::parse(text),
        }
    }

    /// `ffmpeg:INPUT#…`, if that needs ffmpeg.
    fn ffmpeg<'a>(
        &self,
        text: &str,
        first_of: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<Program>, Error> {
        let (location, options) = split(text);
        let options = Options::of(options);
        let first = first_of(location);
        // What is opened without ffmpeg as well is a hint, and so is a name that nobody has.
        let is_hint = first.is_some() || !input::is_other(location);
        if location.is_empty() || location.ends_with(':') || is_hint && !options.needs_program() {
            return Ok(None);
        }
        let location = match first {
            Some(first) if is_own_source(first) => split(first).0,
            Some(_) => {
                return Err(fault(
                    "ffmpeg: names a camera whose first source is not an rtsp:// URL; write instead what \
                     ffmpeg should read",
                ));
            }
            None => location,
        };
        let input = Input::of(location)?;
        let command = self.command(&input, &options)?;
        let shown = input.shown();
        Ok(Some(Program::new(
            ProgramKind::Ffmpeg,
            vec![command],
            &shown,
        )))
    }

    /// `exec:COMMAND`, which publishes to `{output}`, or writes to its standard output what ffmpeg reads.
    fn exec(&self, text: &str) -> Result<Program, Error> {
        let (command, options) = text.split_once('#').unwrap_or((text, ""));
        let command = self.words_of_command("exec", command)?;
        let shown = shown(&command);
        let commands = if command.iter().any(|word| word.contains(OUTPUT)) {
            if !options.is_empty() {
                return Err(fault(
                    "options after # are for commands that write to their standard output; this one \
                     publishes to {output}: remove them",
                ));
            }
            vec![command]
        } else {
            let reader = self.command(&Input::pipe(), &Options::of(options))?;
            vec![command, reader]
        };
        Ok(Program::new(ProgramKind::Exec, commands, &shown))
    }

    /// `echo:COMMAND`, which prints the URL of a camera.
    fn echo(&self, text: &str) -> Result<Program, Error> {
        let command = self.words_of_command("echo", text)?;
        let shown = shown(&command);
        Ok(Program::new(ProgramKind::Echo, vec![command], &shown))
    }

    fn words_of_command(&self, scheme: &str, text: &str) -> Result<Vec<String>, Error> {
        if !self.exec {
            return Err(fault(&format!(
                "{scheme}: runs a command on this machine, which is off; write `exec: true` beside \
                 cameras to switch it on"
            )));
        }
        let command = words(text)
            .ok_or_else(|| fault(&format!("the command after {scheme}: has an open quote")))?;
        if command.first().is_none_or(String::is_empty) {
            return Err(fault(&format!("after {scheme}: the command is missing")));
        }
        Ok(command)
    }

    /// The command of ffmpeg that reads `input` and publishes it.
    fn command(&self, input: &Input<'_>, options: &Options<'_>) -> Result<Vec<String>, Error> {
        check(options)?;
        let templates = &self.templates;
        let mut filters = filters(options)?;
        let wants = |name| options.all(name).next();
        let (video, audio) = (wants("video"), wants("audio"));
        let changed = (!filters.is_empty()).then_some("h264");
        let video = video.or(changed).or(audio.is_none().then_some("copy"));
        // What programs write has sound that cannot be copied, such as the AAC of MPEG-TS.
        let plain = if input.is_pipe() { "opus" } else { "copy" };
        let audio = audio.or(options.get("video").is_none().then_some(plain));
        if video == Some("copy") && !filters.is_empty() {
            return Err(fault(
                "a picture that is copied cannot be turned or scaled; write #video=h264",
            ));
        }
        // Who else's template may have filters of its own.
        if input.is_rtsp() && video == Some("h264") {
            filters.insert(0, SINCE_KEY_FRAME.to_owned());
        }
        let mut command = vec![templates.bin().to_owned()];
        command.extend(templates.get("global"));
        match options.get("input") {
            Some(own) => command.extend(input.by(&templates.named_or_written(own, "#input=")?)),
            None => command.extend(input.by(&templates.get(input.template()))),
        }
        command.extend(templates.codec("video", video)?);
        command.extend(templates.codec("audio", audio)?);
        if !filters.is_empty() {
            command.extend(["-vf".to_owned(), filters.join(",")]);
        }
        for raw in options.all("raw") {
            command.extend(templates.named_or_written(raw, "#raw=")?);
        }
        command.extend(templates.get("output"));
        if !command.iter().any(|word| word.contains(OUTPUT)) {
            return Err(fault("the template ffmpeg.output has no {output} in it"));
        }
        Ok(command)
    }
}

fn check(options: &Options<'_>) -> Result<(), Error> {
    let unknown = options.0.iter().find(|(name, _)| !OPTIONS.contains(name));
    match unknown {
        Some(("hardware", _)) => Err(fault(
            "#hardware is not known; write a template of your own, such as `h264/vaapi` in ffmpeg, and \
             #video=h264/vaapi",
        )),
        // Not repeated: it may be a part of a password.
        Some(_) => Err(fault(&format!(
            "an option after # is not known; known are {}",
            OPTIONS.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Filters of ffmpeg for the options that change the picture.
fn filters(options: &Options<'_>) -> Result<Vec<String>, Error> {
    let size = |name| {
        let text = options.get(name);
        // Even, as H.264 wants it; the other side follows.
        text.map_or(Ok("-2".to_owned()), |text| {
            let number = text.parse::<u16>().ok().filter(|n| *n > 0);
            number
                .map(|n| n.to_string())
                .ok_or_else(|| fault(&format!("#{name}= takes a number of pixels")))
        })
    };
    let mut filters = Vec::new();
    if options.get("width").or(options.get("height")).is_some() {
        filters.push(format!("scale={}:{}", size("width")?, size("height")?));
    }
    match options.get("rotate") {
        None | Some("0") => {}
        Some("90") => filters.push("transpose=1".to_owned()),
        Some("180") => filters.push("hflip,vflip".to_owned()),
        Some("270" | "-90") => filters.push("transpose=2".to_owned()),
        Some(_) => return Err(fault("#rotate= takes 90, 180, 270 or -90")),
    }
    Ok(filters)
}

/// Whether `location` is a camera that is opened without a program.
fn is_own(location: &str) -> bool {
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        OWN_SCHEMES
            .iter()
            .any(|own| scheme.eq_ignore_ascii_case(own))
    })
}

/// The same for a source as it is written.
fn is_own_source(text: &str) -> bool {
    is_own(split(text).0) && SourceText::parse(text).is_ok()
}

/// The name of the program that a command runs.
fn shown(command: &[String]) -> String {
    let first = command.first().map_or("", String::as_str);
    let name = first.rsplit('/').next().unwrap_or_default();
    // What looks like a login is none to show.
    let is_plain = !name.contains(['@', '=', ':']);
    (if is_plain { name } else { "***" }).to_owned()
}

fn fault(what: &str) -> Error {
    Error::new(Verdict::BadUrl, what)
}

/// What people may see of a URL, whatever its scheme.
fn shown_url(text: &str) -> String {
    let scheme = text.split("://").next().unwrap_or_default();
    match SourceUrl::parse(text) {
        Ok(url) if is_own(text) || matches!(scheme, "http" | "https") => url.to_string(),
        // Others have keys in their paths.
        Ok(url) => format!("{scheme}://{}/***", url.host()),
        Err(_) => format!("{scheme}://***"),
    }
}

#[cfg(test)]
mod tests;
