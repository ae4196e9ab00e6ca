//! The `porthole` binary: reads the configuration, runs the server until it is told to stop.
//!
//! Exit codes: 0 clean, 1 start failed, 2 something did not end in time, 64 bad configuration.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use porthole::{
    App,
    base::{Error, ErrorKind, tracing as logs},
    config::{Cli, Config},
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
    let config = match cli.layers().and_then(Config::from_layers) {
        Ok(config) => config,
        Err(e) => return complain(&e),
    };
    logs::start(config.log);
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            let error = Error::new(ErrorKind::Internal, "cannot start the runtime");
            return complain(&error.with_source(e));
        }
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
