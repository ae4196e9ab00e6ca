//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::server::Server;

/// Load for WebRTC camera servers: many viewers at once, from cameras that this program brings along.
///
/// Each server is started anew for each repetition, and the servers take turns, so that what else the machine does
/// hits all of them alike. Tables show medians. Porthole is always measured, unless --no-porthole says otherwise:
///
///   cargo build --release && cargo run --release -p loadtest -- load --viewers 100 --janus
///
///   loadtest join --server 'name=go2rtc,flavor=go2rtc,url=http://127.0.0.1:1984/api/webrtc?src={rtsp},cmd=go2rtc -c go2rtc.yaml'
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, verbatim_doc_comment, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of all scenarios.
#[derive(Debug, Args)]
#[command(next_help_heading = "Servers, cameras and output")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the command line"
)]
pub(crate) struct Common {
    /// Porthole's executable
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "target/release/porthole"
    )]
    pub(crate) porthole: PathBuf,
    /// Leave Porthole out
    #[arg(long, global = true)]
    pub(crate) no_porthole: bool,
    /// Measure Janus, too, with a configuration that is made for it; --janus=PATH names its executable
    #[arg(long, global = true, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "janus")]
    pub(crate) janus: Option<PathBuf>,
    /// Another server: name=N,flavor=whep|go2rtc|rtsptowebrtc,url=U,(pid=P|cmd=C), cmd last
    ///
    /// In the URL, {rtsp} is the percent-encoded URL of the viewer's camera and {i} its number. In the command,
    /// {rtsp} is the URL of camera 0. With pid=, a server that runs already is measured and not restarted, so that
    /// its RSS before the first viewer may be too high.
    #[arg(
        long = "server",
        global = true,
        value_name = "SPEC",
        verbatim_doc_comment
    )]
    pub(crate) servers: Vec<Server>,
    /// Repetitions
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) reps: usize,
    /// Write all samples to this file, too
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Video of each camera, in Mbit/s
    #[arg(long, global = true, value_name = "MBIT", default_value_t = 2.0)]
    pub(crate) bitrate: f64,
    /// Seconds from one key frame to the next
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) gop: f64,
    /// Cameras begin each session with a key frame; most real ones do not
    #[arg(long, global = true)]
    pub(crate) join_at_key: bool,
    /// Pictures come over a link of so many Mbit/s, as from a camera; latency counts from the arrival of their last
    /// byte. Without it a picture is there at once
    #[arg(long, global = true, value_name = "MBIT")]
    pub(crate) link: Option<f64>,
    /// Cameras have no sound, and viewers ask for none
    #[arg(long, global = true)]
    pub(crate) no_audio: bool,
    /// Port of the cameras' RTSP server; 0 takes any
    #[arg(long, global = true, value_name = "PORT", default_value_t = 18554)]
    pub(crate) rtsp_port: u16,
    /// IPv4 address of the viewers, and of Janus [default: that of the first interface other than loopback]
    #[arg(long, global = true, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,
    /// Threads that serve the viewers [default: one per core]
    #[arg(long, global = true)]
    pub(crate) threads: Option<usize>,
    /// Keep the folder with the servers' logs and configurations, as is done if one of them fails
    #[arg(long, global = true)]
    pub(crate) keep: bool,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Steady load: CPU, memory, loss and latency with N viewers
    Load(Load),
    /// Time to the answer, the connection and the first live picture, warm and cold
    Join(Join),
    /// Viewers that come and go: does the server's memory grow?
    Churn(Churn),
    /// Offers that never become connections: what do they cost, and does a viewer get through?
    Halfopen(Halfopen),
    /// One viewer stops reading, or suffers otherwise: do the others notice?
    Slow(Slow),
    /// A stranger sends handshake messages to the media port while viewers connect
    ///
    /// The stranger begins 5 ms before the viewer, which the times to the connection include.
    Hello(Hello),
    /// A stranger floods the media port while a viewer watches
    Flood(Flood),
}

/// Options of `load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Viewers
    #[arg(long, default_value_t = 50)]
    pub(crate) viewers: usize,
    /// Cameras; viewer i watches camera i modulo this
    #[arg(long, default_value_t = 1)]
    pub(crate) cameras: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seconds from the last viewer's first picture until then
    #[arg(long, default_value_t = 3.0)]
    pub(crate) warm_up: f64,
    /// Milliseconds from one viewer's offer to the next one's
    #[arg(long, default_value_t = 20)]
    pub(crate) ramp_ms: u64,
}

/// Options of `join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// Viewers of a camera that others watch, one after the other, at random moments of the group of pictures
    #[arg(long, default_value_t = 20)]
    pub(crate) warm: usize,
    /// Viewers of cameras that nobody has watched before
    #[arg(long, default_value_t = 5)]
    pub(crate) cold: usize,
    /// All of them come so many milliseconds before a key frame, up to a third of them more
    #[arg(long, value_name = "MS")]
    pub(crate) before_key: Option<f64>,
}

/// Options of `churn`.
#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// Viewers in total
    #[arg(long, default_value_t = 2000)]
    pub(crate) joins: usize,
    /// Viewers at a time
    #[arg(long, default_value_t = 10)]
    pub(crate) at_once: usize,
    /// Milliseconds that a viewer stays after its first packet
    #[arg(long, default_value_t = 100)]
    pub(crate) stay_ms: u64,
    /// Of a hundred viewers, how many leave without a goodbye
    #[arg(long, default_value_t = 0)]
    pub(crate) vanish: usize,
    /// The viewer after which memory is compared with that after the last one
    #[arg(long, default_value_t = 1000)]
    pub(crate) mark: usize,
}

/// Options of `halfopen`.
#[derive(Debug, Args)]
pub(crate) struct Halfopen {
    /// Offers that never connect
    #[arg(long, default_value_t = 500)]
    pub(crate) offers: usize,
    /// Offers of an earlier round, before memory is read for the first time
    #[arg(long, default_value_t = 500)]
    pub(crate) first: usize,
    /// How many at a time
    #[arg(long, default_value_t = 20)]
    pub(crate) at_once: usize,
    /// Seconds until memory is read for the last time
    #[arg(long, default_value_t = 30.0)]
    pub(crate) after: f64,
}

/// Options of `slow`.
#[derive(Debug, Args)]
pub(crate) struct Slow {
    /// Viewers, of which one stops reading
    #[arg(long, default_value_t = 50)]
    pub(crate) viewers: usize,
    /// Seconds before that, and after it
    #[arg(long, default_value_t = 15.0)]
    pub(crate) seconds: f64,
    /// A shell command to run then, instead of a viewer that stops reading
    ///
    /// It may stop or shape a viewer that another process runs.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) act: Option<String>,
}

/// Options of `hello`.
#[derive(Debug, Args)]
pub(crate) struct Hello {
    /// Connections, one after the other
    #[arg(long, default_value_t = 20)]
    pub(crate) handshakes: usize,
    /// The stranger's datagrams per second
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u64,
}

/// Options of `flood`.
#[derive(Debug, Args)]
pub(crate) struct Flood {
    /// Viewers that watch
    #[arg(long, default_value_t = 5)]
    pub(crate) viewers: usize,
    /// The stranger's datagrams per second
    #[arg(long, default_value_t = 10_000)]
    pub(crate) rate: u64,
    /// Seconds without flood, and with it
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
}
