//! [`Echo`]: a program that prints the URL of a camera.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{child::Children, not_started};
use crate::{
    base::{Error, Program, SourceUrl, Verdict},
    hub::Publisher,
    source::{Confinement, Source, rtsp},
};

/// How long it may take to print a URL: less than those wait who want to watch.
const PRINT_LIMIT: Duration = Duration::from_secs(5);
/// What it may print, in bytes: a URL.
const PRINT_MAX: u64 = 8 << 10;

/// A camera whose URL a program tells, anew for each attempt.
pub(super) struct Echo {
    url: SourceUrl,
    program: Program,
    /// The camera of the last attempt.
    camera: Mutex<Option<Arc<dyn Source>>>,
}

impl Echo {
    pub(super) fn new(url: SourceUrl, program: Program) -> Self {
        Self {
            url,
            program,
            camera: Mutex::default(),
        }
    }

    /// The camera that the program names now.
    async fn ask(&self) -> Result<Arc<dyn Source>, Error> {
        let (mut children, output) =
            Children::read(&self.program).map_err(|(name, e)| not_started(&self.url, &name, e))?;
        let printed = {
            let mut read = pin!(first_line(output));
            let told = async {
                tokio::select! {
                    biased;
                    line = read.as_mut() => return line,
                    _ = children.ended() => {}
                }
                read.await
            };
            timeout(PRINT_LIMIT, told).await
        };
        children.end().await;
        let error = |verdict, what: &str| {
            let said = children.said(&self.program);
            let evidence = said.last().map_or("", String::as_str);
            Error::new(verdict, format!("camera {}: {what}", self.url)).with_evidence(evidence)
        };
        let line = printed.map_err(|_| {
            let what = "the program has printed no URL within 5 s; run it by hand";
            error(Verdict::ProgramSilent, what)
        })?;
        if line.is_empty() {
            let what = "the program has printed nothing; it should print the URL of a camera";
            return Err(error(Verdict::ProgramFailed, what));
        }
        // Not repeated: it may have a password.
        let what = "the program has printed what is no URL of a camera; it should print one that looks like \
                    rtsp://user:password@host:554/path";
        let camera = SourceUrl::parse(&line).map_err(|_| error(Verdict::ProgramFailed, what))?;
        if !rtsp::KIND.schemes.contains(&camera.scheme()) {
            return Err(error(Verdict::ProgramFailed, what));
        }
        tracing::info!(%camera, "the program names a camera");
        (rtsp::KIND.open)(&camera, &Confinement::of_operator(&camera))
    }
}

/// The first line that is not empty; nothing at the end, or if there is none in what is too long.
async fn first_line(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(output) = output {
        let mut output = output.take(PRINT_MAX);
        loop {
            let whole = text.split_inclusive(|byte| *byte == b'\n');
            let mut whole =
                whole.filter(|line| line.ends_with(b"\n") && !line.trim_ascii().is_empty());
            if whole.next().is_some() || !matches!(output.read_buf(&mut text).await, Ok(1..)) {
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim);
    lines
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

#[async_trait]
impl Source for Echo {
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let camera = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            camera = self.ask() => camera?,
        };
        *self.camera.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&camera));
        camera.run(out, stop).await
    }

    fn was_answered(&self) -> bool {
        let camera = self.camera.lock().unwrap_or_else(PoisonError::into_inner);
        camera.as_ref().is_none_or(|camera| camera.was_answered())
    }
}
