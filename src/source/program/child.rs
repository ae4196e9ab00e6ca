//! [`Children`]: the processes of one program, each in a process group of its own, and none of them left
//! behind.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures::future::{join_all, select_all};
use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    process::{Child, ChildStderr, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::tail::Tail;
use crate::base::{Program, Secret, program::OUTPUT};

/// How long a process has to end when it is asked to, before it is ended. Less than the server has to
/// stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long one that was ended may take. Only one that waits for a broken disk takes any time.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// How long the rest of what it complained of is waited for, when it has ended.
const REST_LIMIT: Duration = Duration::from_millis(200);
/// How long those that it has started may take to die when they were killed, and how often that is looked at.
const BURIAL_LIMIT: Duration = Duration::from_millis(500);
const BURIAL_INTERVAL: Duration = Duration::from_millis(10);

/// The processes of one program. When dropped, they are killed.
pub(super) struct Children(Vec<Process>);

/// How a process has ended.
pub(super) struct Ended {
    pub(super) name: String,
    /// In words.
    pub(super) how: String,
    /// The last of what it complained of.
    pub(super) said: Vec<String>,
}

impl Children {
    /// Starts `program`, which publishes to `output`.
    ///
    /// # Errors
    /// When one of its commands cannot be started, with the name of that.
    pub(super) fn start(program: &Program, output: &str) -> Result<Self, (String, io::Error)> {
        let commands = program.commands();
        let mut children = Self(Vec::new());
        let mut input = None;
        for (place, words) in commands.iter().enumerate() {
            let is_last = place + 1 == commands.len();
            let mut process = Process::start(words, output, input.take(), !is_last)?;
            input = process.output();
            children.0.push(process);
        }
        Ok(children)
    }

    /// Starts `program`, whose output is read here.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn read(
        program: &Program,
    ) -> Result<(Self, Option<ChildStdout>), (String, io::Error)> {
        let words = program.commands().first().map_or(&[][..], Vec::as_slice);
        let mut process = Process::start(words, "", None, true)?;
        let output = process.stdout.take();
        Ok((Self(vec![process]), output))
    }

    /// When one of them ends. Reads what all of them complain of meanwhile.
    pub(super) async fn ended(&mut self) -> Ended {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let all = self.0.iter_mut().map(|process| Box::pin(process.ended()));
        select_all(all).await.0
    }

    /// Ends them all: asks first.
    pub(super) async fn end(&mut self) {
        join_all(self.0.iter_mut().map(Process::end)).await;
    }

    /// The last lines of what they complained of.
    pub(super) fn said(&self, program: &Program) -> Vec<String> {
        let lines = self.0.iter().flat_map(|process| process.tail.lines());
        let lines = lines.map(|line| program.without_secrets(&line));
        lines.filter(|line| !line.is_empty()).collect()
    }
}

struct Process {
    name: String,
    child: Child,
    /// Its number, and that of its group.
    group: Option<Pid>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    tail: Tail,
    status: Option<ExitStatus>,
}

impl Process {
    fn start(
        words: &[Secret],
        output: &str,
        input: Option<Stdio>,
        is_read: bool,
    ) -> Result<Self, (String, io::Error)> {
        let mut words = words
            .iter()
            .map(|word| word.reveal().replace(OUTPUT, output));
        let program = words.next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        let stdout = if is_read {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let child = Command::new(&program)
            .args(words)
            .stdin(input.unwrap_or_else(Stdio::null))
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(e) => return Err((name, e)),
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        tracing::debug!(program = %name, process = ?child.id(), "started");
        Ok(Self {
            name,
            group: group.map(Pid::from_raw),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            tail: Tail::default(),
            status: None,
        })
    }

    /// What it writes, for another to read.
    fn output(&mut self) -> Option<Stdio> {
        self.stdout.take()?.try_into().ok()
    }

    /// When it ends.
    async fn ended(&mut self) -> Ended {
        let status = self.wait().await;
        Ended {
            name: self.name.clone(),
            how: in_words(status),
            said: self.tail.lines(),
        }
    }

    /// Waits for its end, and reads what it complains of. Cancelling it loses nothing.
    async fn wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let status = match &mut self.stderr {
                Some(stderr) => tokio::select! {
                    status = self.child.wait() => status,
                    () = async {
                        self.tail.read(stderr).await;
                        // It may close this and go on.
                        std::future::pending::<()>().await;
                    } => return None,
                },
                None => self.child.wait().await,
            };
            self.status = status.ok();
            // Those that it has started do not outlive it.
            self.signal(Signal::SIGKILL);
            self.take_leave().await;
            if let Some(mut stderr) = self.stderr.take() {
                let _ = timeout(REST_LIMIT, self.tail.read(&mut stderr)).await;
            }
        }
        self.status
    }

    async fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::SIGTERM);
        if timeout(GRACE, self.wait()).await.is_ok() {
            return;
        }
        tracing::info!(program = %self.name, "did not end when it was asked to, and is killed");
        self.signal(Signal::SIGKILL);
        if timeout(KILL_LIMIT, self.wait()).await.is_err() {
            tracing::warn!(program = %self.name, "does not end");
        }
    }

    /// Sends a signal to it and to all that it has started.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // There is none any more, if that fails.
            let _ = killpg(group, signal);
        }
    }

    /// Where this is the first process of a container, what was left of the group is ours to bury.
    async fn take_leave(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let any = Pid::from_raw(-group.as_raw());
        let limit = Instant::now() + BURIAL_LIMIT;
        // An error means that none of the group is a child of ours.
        while let Ok(status) = waitpid(any, Some(WaitPidFlag::WNOHANG)) {
            if Instant::now() > limit {
                return;
            }
            if status == WaitStatus::StillAlive {
                // Who was killed takes a moment to die.
                sleep(BURIAL_INTERVAL).await;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::SIGKILL);
        }
    }
}

fn in_words(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("exit status {code}"),
        Some((None, Some(signal))) => format!("killed by signal {signal}"),
        _ => "in an unknown way".to_owned(),
    }
}
