//! The servers that are measured: started by this program, or running already.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::camera::Cameras;
use crate::http::split_url;
use crate::signalling::{Flavour, Target};
use crate::{janus, measure};

/// A server that has not opened its port by then is not coming.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What a server does after it has opened its port is over by then.
const SETTLE: Duration = Duration::from_millis(500);
/// Janus connects to its cameras after it has opened its port.
const SETTLE_JANUS: Duration = Duration::from_millis(2500);
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// A server to measure.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Porthole(PathBuf),
    Janus(PathBuf),
    Command {
        flavour: Flavour,
        url: String,
        command: String,
    },
    Process {
        flavour: Flavour,
        url: String,
        pid: u32,
    },
}

/// Reads `name=…,flavor=…,url=…,(pid=…|cmd=…)`; `cmd` goes last and may have commas.
impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, command) = match text.split_once("cmd=") {
            Some((head, command)) => (head.trim_end_matches(','), Some(command.to_owned())),
            None => (text, None),
        };
        let field = |name: &str| {
            let prefix = format!("{name}=");
            head.split(',')
                .find_map(|part| part.trim().strip_prefix(&prefix).map(str::to_owned))
        };
        let required = |name: &str| field(name).ok_or_else(|| format!("{name}= is missing"));
        let (name, url) = (required("name")?, required("url")?);
        let flavour = required("flavor")
            .or_else(|error| required("flavour").map_err(|_| error))?
            .parse()?;
        split_url(&url)?;
        let kind = match (command, field("pid")) {
            (Some(command), _) => Kind::Command {
                flavour,
                url,
                command,
            },
            (None, Some(pid)) => Kind::Process {
                flavour,
                url,
                pid: pid.parse().map_err(|_| format!("pid={pid} is no number"))?,
            },
            (None, None) => return Err("pid= or cmd= is missing".into()),
        };
        Ok(Self { name, kind })
    }
}

/// What a server needs to know to be started.
pub(crate) struct Surroundings<'a> {
    pub(crate) cameras: &'a Cameras,
    /// Cameras that exist before the first viewer comes.
    pub(crate) count: usize,
    pub(crate) audio: bool,
    /// Where media goes to and comes from.
    pub(crate) address: IpAddr,
    /// Where servers write their logs.
    pub(crate) folder: &'a Path,
}

/// A server that runs; stopped when dropped, if this program has started it.
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) target: Target,
    child: Option<Child>,
}

impl Server {
    /// Porthole, from this executable.
    pub(crate) fn porthole(path: PathBuf) -> Self {
        Self {
            name: "Porthole".into(),
            kind: Kind::Porthole(path),
        }
    }

    /// Janus, from this executable.
    pub(crate) fn janus(path: PathBuf) -> Self {
        Self {
            name: "Janus".into(),
            kind: Kind::Janus(path),
        }
    }

    /// Starts the server and waits until it takes requests.
    ///
    /// # Errors
    /// A text that tells where the server's log is.
    pub(crate) fn start(&self, around: &Surroundings) -> Result<Running, String> {
        let folder = around.folder.join(&self.name);
        let log_path = folder.join("log");
        let fail = |error: io::Error| format!("{}: {error}", self.name);
        fs::create_dir_all(&folder).map_err(fail)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(fail)?;
        let (flavour, url, command, settle) = match &self.kind {
            Kind::Process { flavour, url, pid } => {
                return Ok(Running {
                    pid: *pid,
                    target: around.target(*flavour, url),
                    child: None,
                });
            }
            Kind::Porthole(path) => {
                let port = free_port().map_err(fail)?;
                let mut command = Command::new(path);
                command
                    .arg("--listen")
                    .arg(format!("127.0.0.1:{port}"))
                    .arg("--log")
                    .arg("warn");
                if has_media_port(path)? {
                    let media_port = free_port().map_err(fail)?;
                    command
                        .arg("--media-listen")
                        .arg(format!("0.0.0.0:{media_port}"));
                }
                (
                    Flavour::RtspToWebrtc,
                    format!("http://127.0.0.1:{port}/stream"),
                    command,
                    SETTLE,
                )
            }
            Kind::Janus(path) => {
                let port = free_port().map_err(fail)?;
                let urls: Vec<String> = (0..around.count)
                    .map(|camera| around.cameras.url(camera))
                    .collect();
                janus::configure(&folder, around.address, port, &urls, around.audio)
                    .map_err(fail)?;
                let mut command = Command::new(path);
                command.arg("-F").arg(&folder);
                (
                    Flavour::Janus,
                    format!("http://127.0.0.1:{port}/janus"),
                    command,
                    SETTLE_JANUS,
                )
            }
            Kind::Command {
                flavour,
                url,
                command,
            } => {
                let line = command.replace("{rtsp}", &around.cameras.url(0));
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("exec {line}"));
                (*flavour, url.clone(), shell, SETTLE)
            }
        };
        let mut command = command;
        let errors = log.try_clone().map_err(fail)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.name))?;
        let target = around.target(flavour, &url);
        let mut running = Running {
            pid: child.id(),
            target,
            child: Some(child),
        };
        running
            .wait(&url)
            .map_err(|error| format!("{error}; its log is {}", log_path.display()))?;
        thread::sleep(settle);
        Ok(running)
    }
}

impl Surroundings<'_> {
    fn target(&self, flavour: Flavour, url: &str) -> Target {
        let camera = self.cameras.url(0);
        let camera = camera.trim_end_matches('0').to_owned();
        Target {
            flavour,
            url: url.to_owned(),
            camera,
            audio: self.audio,
        }
    }
}

impl Running {
    fn wait(&mut self, url: &str) -> Result<(), String> {
        let (host, _) = split_url(url)?;
        let begin = Instant::now();
        while TcpStream::connect(host).is_err() {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten())
            {
                return Err(format!("it ended with {status}"));
            }
            if begin.elapsed() > START_LIMIT {
                return Err(format!("it does not listen on {host}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// KiB in RAM now.
    pub(crate) fn rss_kib(&self) -> u64 {
        measure::rss_kib(self.pid)
    }

    /// Nanoseconds on CPU until now.
    pub(crate) fn cpu_ns(&self) -> u64 {
        measure::cpu_ns(self.pid)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // A process that is gone already is as good as stopped.
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < STOP_LIMIT {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A port that neither TCP nor UDP uses now.
fn free_port() -> io::Result<u16> {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
}

/// Whether this Porthole has one port for all media, which must not clash with another one's.
fn has_media_port(path: &Path) -> Result<bool, String> {
    let output = Command::new(path).arg("--help").output().map_err(|error| {
        format!(
            "{} cannot be started: {error}; build it, or name it with --porthole",
            path.display()
        )
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("--media-listen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers_of_the_command_line() {
        let server: Server = "name=a,flavor=whep,url=http://h:1/{i},cmd=run --x=1,2 {rtsp}"
            .parse()
            .unwrap();
        assert_eq!(server.name, "a");
        assert!(
            matches!(server.kind, Kind::Command { command, .. } if command == "run --x=1,2 {rtsp}")
        );
        let server: Server = "name=a,flavor=go2rtc,url=http://h:1/,pid=12"
            .parse()
            .unwrap();
        assert!(matches!(server.kind, Kind::Process { pid: 12, .. }));
        for wrong in [
            "flavor=whep,url=http://h/,pid=1",
            "name=a,flavor=x,url=http://h/,pid=1",
            "name=a,flavor=whep,url=http://h/",
        ] {
            assert!(wrong.parse::<Server>().is_err(), "{wrong}");
        }
    }
}
