//! Cameras that are programs: ffmpeg, or any command of the configuration, which publishes media to us by
//! RTSP, or prints the URL of a camera.
//!
//! `child` runs and ends the processes, `tail` keeps the last of what they complain of, `echo` asks for a
//! URL. The media comes in by `rtsp::record`, on an address that only the program is told.

mod child;
mod echo;
mod tail;

use std::{io, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::child::{Children, Ended};
use super::{
    Confinement, Opened, Source, SourceKind,
    rtsp::record::{Recorded, Recording},
};
use crate::{
    base::{Diagnosis, Error, Program, ProgramKind, SourceUrl, Verdict},
    hub::Publisher,
};

/// Runs what the configuration has as `ffmpeg:`, `exec:` or `echo:`.
pub const KIND: SourceKind = SourceKind {
    name: "program",
    schemes: &["ffmpeg", "exec", "echo"],
    only_configured: &["ffmpeg", "exec", "echo"],
    open,
};

/// From the start of a program until it publishes, before those who wait are told that it is slow.
const OPEN_LIMIT: Duration = Duration::from_secs(7);
/// How much longer it may take: some read seconds of a stream before they know what it is.
const PATIENCE: Duration = Duration::from_secs(13);
/// From the first word of its media to the first packet.
const MEDIA_LIMIT: Duration = Duration::from_secs(7);
/// How long a program that has closed the connection has to end by itself, and to say why.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn open(url: &SourceUrl, _: &Confinement) -> Opened {
    let program = url.program().ok_or_else(|| {
        Error::new(
            Verdict::NotAllowed,
            format!(
                "{}: runs a program, which only the configuration file may ask for",
                url.scheme()
            ),
        )
    })?;
    Ok(match program.kind() {
        ProgramKind::Echo => Arc::new(echo::Echo::new(url.clone(), program.clone())),
        ProgramKind::Ffmpeg | ProgramKind::Exec => Arc::new(Running {
            url: url.clone(),
            program: program.clone(),
        }),
    })
}

/// A program that publishes media.
struct Running {
    url: SourceUrl,
    program: Program,
}

#[async_trait]
impl Source for Running {
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let recording = Recording::open(&self.url).await?;
        let mut children = Children::start(&self.program, &recording.address())
            .map_err(|(name, e)| not_started(&self.url, &name, e))?;
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            end = self.play(recording, &mut children, out) => end,
        };
        children.end().await;
        let said = children.said(&self.program);
        if !said.is_empty() {
            tracing::debug!(said = %said.join(" | "), "the program has complained");
        }
        end
    }
}

impl Running {
    /// Publishes what the program does, until something breaks.
    async fn play(
        &self,
        recording: Recording,
        children: &mut Children,
        out: &Publisher,
    ) -> Result<(), Error> {
        let recorded = tokio::select! {
            biased;
            recorded = self.recorded(recording, out) => recorded?,
            ended = children.ended() => return Err(self.ended(&ended)),
        };
        tracing::info!(tracks = %recorded.tracks(), "the program publishes");
        let mut played = pin!(recorded.play(out, MEDIA_LIMIT));
        let error = tokio::select! {
            biased;
            error = played.as_mut() => error,
            ended = children.ended() => return Err(self.ended(&ended)),
        };
        match error.verdict() {
            Verdict::NoMedia => Err(self.silent("published no media", MEDIA_LIMIT)),
            Verdict::ConnectionLost => {
                // It mostly ends with its connection, and says why.
                match timeout(LAST_WORDS, children.ended()).await {
                    Ok(ended) => Err(self.ended(&ended)),
                    Err(_) => Err(self.error(Verdict::CameraEnded, "the program ended the stream")),
                }
            }
            _ => Err(error),
        }
    }

    /// The program's media, within its time; who waits is told if that is long.
    async fn recorded(&self, recording: Recording, out: &Publisher) -> Result<Recorded, Error> {
        let begun = Instant::now();
        let mut recorded = pin!(recording.accept());
        tokio::select! {
            biased;
            recorded = recorded.as_mut() => return recorded,
            () = sleep_until(begun + OPEN_LIMIT) => {}
        }
        let slow = || self.silent("has published nothing", begun.elapsed());
        if !out.is_live() {
            let verdict = slow().verdict();
            tracing::info!(%verdict, "the program is slow, still waiting for it");
            out.failed(slow());
        }
        let recorded = timeout(PATIENCE, recorded).await;
        recorded.unwrap_or_else(|_| Err(slow()))
    }

    fn error(&self, verdict: Verdict, what: &str) -> Error {
        Error::new(verdict, format!("camera {}: {what}", self.url))
    }

    fn silent(&self, what: &str, limit: Duration) -> Error {
        let what = format!(
            "the program {what} within {} s; check what it reads, and run it by hand",
            limit.as_secs()
        );
        self.error(Verdict::ProgramSilent, &what)
    }

    /// One of the processes has ended.
    fn ended(&self, ended: &Ended) -> Error {
        let said = ended.said.iter().map(|line| {
            let line = self.program.without_secrets(line);
            // ffmpeg tells first which part of it speaks, and where that is in memory.
            let told = line.split_once("] ").filter(|_| line.starts_with('['));
            told.map_or(line.clone(), |(_, told)| told.to_owned())
        });
        let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
        let evidence = match &said[..] {
            [] => ended.how.clone(),
            said => format!("{}: {}", ended.how, said.join("; ")),
        };
        let seen = Diagnosis::seen(Verdict::ProgramFailed, &evidence);
        let told = seen.evidence().unwrap_or_default();
        let message = format!(
            "camera {}: the program {} has ended: {told}",
            self.url, ended.name
        );
        Error::new(seen.clone(), message)
    }
}

/// It could not even be started.
fn not_started(url: &SourceUrl, name: &str, cause: io::Error) -> Error {
    let (verdict, what) = match cause.kind() {
        io::ErrorKind::NotFound => (
            Verdict::ProgramMissing,
            format!(
                "the program {name} is not on this machine; install it (on Debian: apt install {name}), or \
                 write its whole path in the configuration file"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            Verdict::ProgramMissing,
            format!("the program {name} must not be run by this user; check its permissions"),
        ),
        _ => (
            Verdict::ProgramFailed,
            format!("the program {name} could not be started"),
        ),
    };
    let evidence = cause.to_string();
    Error::new(verdict, format!("camera {url}: {what}"))
        .with_evidence(&evidence)
        .with_source(cause)
}

#[cfg(test)]
mod tests;
