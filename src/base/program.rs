//! [`Program`]: what the operator's file has to be run for a camera, in a form that cannot print its secrets.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::{Secret, masked::SECRET_PARTS};

/// Shortest secret that is looked for inside words of a program.
const INSIDE_MIN: usize = 4;

/// What a word of a command stands for until the command is run: the address to which it publishes.
pub const OUTPUT: &str = "{output}";

/// Commands to be run for one camera, each of which reads what the one before it writes.
///
/// Nothing that comes from the network can be made into one: only the configuration makes them.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    kind: ProgramKind,
    commands: Vec<Vec<Secret>>,
    shown: String,
}

/// What becomes of a program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// ffmpeg, which publishes media.
    Ffmpeg,
    /// Any program that publishes media.
    Exec,
    /// One that prints the URL of a camera.
    Echo,
}

impl ProgramKind {
    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg",
            Self::Exec => "exec",
            Self::Echo => "echo",
        }
    }
}

impl Program {
    /// A program of `commands`, none of which is empty; `shown` is what people may see of it, without the
    /// scheme.
    #[must_use]
    pub fn new(kind: ProgramKind, commands: Vec<Vec<String>>, shown: &str) -> Self {
        let secret = |command: Vec<String>| command.into_iter().map(Secret::new).collect();
        Self {
            kind,
            commands: commands.into_iter().map(secret).collect(),
            shown: format!("{}:{shown}", kind.scheme()),
        }
    }

    /// What becomes of its output.
    #[must_use]
    pub fn kind(&self) -> ProgramKind {
        self.kind
    }

    /// The words of each command.
    #[must_use]
    pub fn commands(&self) -> &[Vec<Secret>] {
        &self.commands
    }

    /// What people may see of it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What tells it from others. Contains what is secret.
    pub(super) fn key(&self) -> String {
        // No other URL has such a character.
        let mut key = format!("{}\0", self.kind.scheme());
        for word in self.commands.iter().flatten() {
            key.push_str(word.reveal());
            key.push('\0');
        }
        key
    }

    /// What a program says, without URLs and without the logins of the URLs that it was given, and words
    /// with them.
    #[must_use]
    pub fn without_secrets(&self, said: &str) -> String {
        let words = self.commands.iter().flatten();
        let secrets: Vec<_> = words.flat_map(|word| logins(word.reveal())).collect();
        let is_secret = |word: &str| {
            let of = |secret: &String| {
                word == secret || secret.len() >= INSIDE_MIN && word.contains(secret.as_str())
            };
            word.contains("://") || word.contains('@') && word.len() > 1 || secrets.iter().any(of)
        };
        let words = said.split_whitespace().filter(|word| !is_secret(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// User names and passwords of the URLs in `word`, and what is secret in their queries, as they stand there and
/// decoded.
fn logins(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for pair in word.split(['?', '&', ';']).skip(1) {
        let (key, value) = pair.split_once('=').unwrap_or_default();
        let key = key.to_ascii_lowercase();
        if SECRET_PARTS.iter().any(|part| key.contains(part)) {
            found.push(value.to_owned());
            found.push(percent_decode_str(value).decode_utf8_lossy().into_owned());
        }
    }
    for (_, rest) in word
        .match_indices("://")
        .map(|(at, _)| word.split_at(at + 3))
    {
        let end = rest.find("://").unwrap_or(rest.len());
        let Some((login, _)) = rest[..end].rsplit_once('@') else {
            continue;
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        for half in [user, password] {
            found.push(half.to_owned());
            found.push(percent_decode_str(half).decode_utf8_lossy().into_owned());
        }
    }
    found.retain(|secret| !secret.is_empty());
    found
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_told_without_the_secrets_that_it_was_given() {
        let words = [
            "ffmpeg",
            "-i",
            "http://ann:hunter%32@h/x?usr=a&pwd=swordfish",
        ]
        .map(str::to_owned);
        let program = Program::new(ProgramKind::Ffmpeg, vec![words.to_vec()], "http://***@h/x");
        for (said, told) in [
            (
                "http://ann:hunter%32@h/x: Connection refused",
                "Connection refused",
            ),
            ("login ann with (hunter2) failed", "login with failed"),
            ("refused: pwd=swordfish", "refused:"),
            (
                "[rtsp @ 0x55] method DESCRIBE failed",
                "[rtsp @ 0x55] method DESCRIBE failed",
            ),
        ] {
            assert_eq!(program.without_secrets(said), told);
        }
        assert_eq!(format!("{program:?}"), "ffmpeg:http://***@h/x");
    }
}
