//! Many viewers at once: what a WebRTC camera server costs, delays and loses, beside others in the same run.
//!
//! ```text
//! cargo build --release
//! cargo run --release -p loadtest -- load --viewers 100 --reps 3 --janus
//! cargo run --release -p loadtest -- join --help
//! ```
//!
//! The program brings its own cameras ([`camera`]) and viewers ([`viewer`]): full ICE, DTLS and SRTP, nothing decoded.
//! Everything runs on this machine; media goes between addresses of its own, which is loopback to the kernel.
//!
//! How the numbers come about:
//!
//! - **CPU** is the time that all threads of the server have been on a core, by `/proc/PID/task/*/schedstat`. On
//!   loopback the kernel's work of receiving counts for the sender.
//! - **RSS per viewer** is the most in the measured seconds less what it was before the first viewer, by viewers.
//! - **Lost** are gaps of sequence numbers per SSRC, counted before decryption. Repeats of their own payload type do
//!   not fill gaps; those under the number of the lost packet do, and count as late.
//! - **Latency** is from the camera's write of a frame's end to the kernel's receive time of the frame's last packet
//!   at the viewer. The end of each frame carries its number and the time of that write.
//! - **Live picture** is the first one that a decoder could show, as all packets since a key frame came without a gap,
//!   and that is less than 150 ms old. Times begin when the offer is sent. For Janus, which makes the offers itself,
//!   they begin with the request for one, "answer" is its offer, and a cold camera is one that it is told to create.
//! - **SRTP** names the profile that was negotiated; the viewers offer AES-GCM with 256 and 128 bits and AES-CM.
//!
//! The viewers take CPU, too: when the machine is saturated, the report says so.

mod camera;
mod cli;
mod dtls;
mod farm;
mod h264;
mod http;
mod janus;
mod measure;
mod media;
mod receive;
mod report;
mod scenarios;
mod server;
mod signalling;
mod stranger;
mod viewer;

use std::fs;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use serde_json::json;

use camera::{Cameras, Settings};
use cli::{Cli, Common};
use farm::Farm;
use scenarios::Context;
use server::Server;

/// Frames per second of the cameras.
const FRAME_RATE: f64 = 25.0;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("loadtest: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The servers that the command line names.
fn servers(common: &Common) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    if !common.no_porthole {
        servers.push(Server::porthole(common.porthole.clone()));
    }
    servers.extend(common.janus.clone().map(Server::janus));
    servers.extend(common.servers.iter().cloned());
    if servers.is_empty() {
        return Err("there is no server to measure".into());
    }
    Ok(servers)
}

fn settings(common: &Common) -> Result<Settings, String> {
    let frames = (common.gop * FRAME_RATE).round();
    if !(1.0..=16_000.0).contains(&frames) {
        return Err(format!(
            "--gop {} is not between 0.04 and 640 seconds",
            common.gop
        ));
    }
    if !(0.05..=100.0).contains(&common.bitrate) {
        return Err(format!(
            "--bitrate {} is not between 0.05 and 100 Mbit/s",
            common.bitrate
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are in range"
    )]
    let (gop, bitrate, link) = (
        frames as u16,
        (common.bitrate * 1e6) as u32,
        common.link.map(|mbit| (mbit * 1e6) as u32),
    );
    Ok(Settings {
        bitrate,
        gop,
        audio: !common.no_audio,
        join_at_key: common.join_at_key,
        link,
    })
}

fn run(cli: &Cli) -> Result<(), String> {
    let common = &cli.common;
    let servers = servers(common)?;
    let port = common.rtsp_port;
    let cameras = Cameras::start(settings(common)?, port).map_err(|error| {
        format!("the cameras cannot listen on port {port}: {error}; --rtsp-port takes another one")
    })?;
    let address = common.bind.unwrap_or_else(receive::own_address);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let farm =
        Farm::start(address, common.threads.unwrap_or(cores)).map_err(|error| error.to_string())?;
    let folder = std::env::temp_dir().join(format!("loadtest-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let context = Context {
        cameras: &cameras,
        farm: &farm,
        servers: &servers,
        reps: common.reps.max(1),
        audio: !common.no_audio,
        folder: &folder,
    };
    let report = scenarios::run(&cli.scenario, &context);
    report::print(&report.markdown());
    if let Some(path) = &common.json {
        let text = json!({"report": report.json(), "arguments": std::env::args().skip(1).collect::<Vec<_>>()});
        fs::write(path, format!("{text:#}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if common.keep || report.has_failures() {
        report::progress(&format!(
            "logs and configurations are in {}",
            folder.display()
        ));
    } else {
        // What stays of it is in the way of nobody.
        let _ = fs::remove_dir_all(&folder);
    }
    Ok(())
}
