//! Processes that a server has started, as the kernel lists them, and the [`Trace`] of those that it starts.

use std::{fs, path::PathBuf};

use crate::server::Server;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The number of its parent.
    pub parent: u32,
    /// `R`, `S`, `T`, `Z` and so on.
    pub state: char,
    /// Its command line, words separated by spaces.
    pub command: String,
}

/// Every process of this machine.
fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("the kernel lists processes");
    let read = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Some(Process {
            pid,
            parent,
            state,
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        })
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

/// The processes that `server` has started, and those that these have.
#[must_use]
pub fn of(server: &Server) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![server.pid()];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// Those of `processes` that are still there; zombies as well, unless only the machine's first process has not
/// noticed yet.
#[must_use]
pub fn left_of(processes: &[Process]) -> Vec<Process> {
    let is_one = |process: &Process| {
        let same = |known: &Process| known.pid == process.pid;
        let is_of_machine = process.state == 'Z' && process.parent == 1;
        processes.iter().any(same) && !is_of_machine && !process.command.contains("porthole")
    };
    all().into_iter().filter(is_one).collect()
}

/// What a server executes, as `strace` has it.
#[derive(Debug)]
pub struct Trace {
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Trace {
    /// An empty one; none where `strace` is not installed.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !crate::tools::has("strace", &["-V"], "strace") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("trace");
        Some(Self {
            _folder: folder,
            file,
        })
    }

    /// Starts a server that is traced from its first instruction.
    pub async fn start(&self, arguments: &[&str]) -> Server {
        let file = self.file.to_string_lossy();
        let wrapper = [
            // The server stays our child, and does not wait for the tracer at other calls.
            "strace",
            "-D",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            "trace=execve,execveat",
            "-o",
            &file,
        ];
        Server::start_under(&wrapper, arguments).await
    }

    /// What was executed, but for the server itself.
    ///
    /// # Panics
    /// When the server itself is not among it: then nothing was traced.
    #[must_use]
    pub fn executed(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let mut lines = text.lines().filter(|line| line.contains("exec"));
        let own = lines.next().unwrap_or_default();
        assert!(own.contains("porthole"), "nothing is traced: {text}");
        lines.map(str::to_owned).collect()
    }
}
