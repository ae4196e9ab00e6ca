//! The `porthole` binary: reads the configuration, runs the server until it is told to stop; or looks at one
//! camera.
//!
//! Exit codes: 0 clean, 1 start failed, 2 something did not end in time, 64 bad configuration. Of
//! `porthole probe`: 0 browsers play the camera, 1 they do not, 64 there is no such camera.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use porthole::{
    App,
    base::{
        Error, ErrorKind, SourceUrl,
        tracing::{self as logs, Level},
    },
    config::{Cli, Command, Config, ProbeArguments},
    probe,
};
use tokio::signal::unix::{SignalKind, signal};

const BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too; a closed terminal is nothing to tell of.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { BAD_CONFIGURATION } else { 0 });
        }
    };
    if let Some(Command::Probe(arguments)) = &cli.command {
        return probe(&cli, arguments);
    }
    let config = match cli.layers().and_then(Config::from_layers) {
        Ok(config) => config,
        Err(e) => return complain(&e),
    };
    logs::start(config.log);
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => return complain(&e),
    };
    let end = runtime.block_on(run(config));
    // A name server that does not answer holds a thread that nothing can stop.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match end {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(e) => complain(&e),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build();
    runtime.map_err(|e| Error::new(ErrorKind::Internal, "cannot start the runtime").with_source(e))
}

/// Looks at a camera and tells what it saw.
fn probe(cli: &Cli, arguments: &ProbeArguments) -> ExitCode {
    logs::start(cli.log.unwrap_or(Level::Error));
    let looked = camera(cli, &arguments.camera).and_then(|url| {
        let mut progress = |what: &str| {
            if !arguments.json {
                let _ = writeln!(io::stderr(), "{} …", plain(what));
            }
        };
        let runtime = runtime()?;
        let report = runtime.block_on(probe::probe(&url, &mut progress));
        // As for the server: a name server may still hold a thread.
        runtime.shutdown_timeout(Duration::from_millis(100));
        report
    });
    let report = match looked {
        Ok(report) => report,
        Err(e) => return complain(&e),
    };
    let text = if arguments.json {
        escaped(&serde_json::to_string_pretty(&report).unwrap_or_default()) + "\n"
    } else {
        plain(&report.to_string())
    };
    // A reader that has gone has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(!report.plays))
}

/// `text` without what a terminal would obey: a camera has written some of it.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

/// JSON without the control characters that it leaves as they are, and that a terminal obeys.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && c != '\n' {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// The camera that is called so: by its URL, or by its name in the configuration.
fn camera(cli: &Cli, text: &str) -> Result<SourceUrl, Error> {
    if text.contains("://") {
        return SourceUrl::parse(text);
    }
    let config = cli.clone().layers().and_then(Config::from_layers)?;
    let camera = config.cameras.get(text).map(|camera| camera.url.clone());
    // Not repeated: a URL without its beginning may have a password.
    let what = match cli.config {
        Some(_) => "there is no camera of this name in the configuration; write another, or a URL",
        None => "a name needs the file that has it (--config FILE); write that, or a URL",
    };
    camera.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, what))
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that a new user looks for"
)]
async fn run(config: Config) -> Result<bool, Error> {
    let app = App::start(config)?;
    println!(
        "Porthole {} is ready. Open {}",
        env!("CARGO_PKG_VERSION"),
        app.urls().join(" or ")
    );
    app.run(told_to_stop()).await
}

/// Done at the first request to stop; the second one ends the process at once.
async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "it outlives every owner, by design"
    )]
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(130);
    });
}

#[expect(clippy::print_stderr, reason = "logs may not have been started")]
fn complain(error: &Error) -> ExitCode {
    eprintln!("porthole: {}", error.chain());
    let bad = error.kind() == ErrorKind::InvalidArgument;
    ExitCode::from(if bad { BAD_CONFIGURATION } else { 1 })
}
