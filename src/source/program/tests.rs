use std::{fs, path::Path};

use super::*;
use crate::{
    base::ErrorKind,
    hub::{State, hub},
    source::open_confined,
};

/// A program of shell scripts.
fn program(kind: ProgramKind, scripts: &[&str]) -> Program {
    let command = |script: &&str| ["sh", "-c", script].map(str::to_owned).to_vec();
    Program::new(kind, scripts.iter().map(command).collect(), "sh")
}

fn running(scripts: &[&str]) -> Arc<dyn Source> {
    let url = SourceUrl::of_program(program(ProgramKind::Exec, scripts));
    crate::source::open(&url).unwrap()
}

/// What becomes of one attempt.
async fn attempt(scripts: &[&str]) -> Error {
    let (out, _hub) = hub();
    let run = running(scripts);
    let end = run.run(&out, &CancellationToken::new()).await;
    end.unwrap_err()
}

/// Whether the process of this number runs, and is no zombie.
fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// What a script has written to a file, once it has.
async fn written(path: &Path) -> String {
    for _ in 0..500 {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{} was not written", path.display());
}

#[test]
fn what_the_network_asks_for_is_no_program() {
    for text in ["exec:true", "echo:true", "ffmpeg:x"] {
        let url = SourceUrl::parse(text).unwrap();
        let error = open_confined(&url, &Confinement::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{text}");
        // Even where the operator is trusted with any URL.
        let operator = Confinement::of_operator(&url);
        let error = open_confined(&url, &operator).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{text}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_by_its_name() {
    let words = vec![vec!["/nowhere/ffmpeg".to_owned()]];
    let url = SourceUrl::of_program(Program::new(ProgramKind::Ffmpeg, words, "x"));
    let (out, _hub) = hub();
    let source = crate::source::open(&url).unwrap();
    let error = source
        .run(&out, &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.verdict(), Verdict::ProgramMissing);
    assert!(error.to_string().contains("install it"), "{error}");
}

#[tokio::test]
async fn a_program_that_ends_is_quoted_without_secrets() {
    let error = attempt(&["echo '[x @ 0x1] no http://u:hunter2@h/x here' >&2; exit 3"]).await;
    assert_eq!(error.verdict(), Verdict::ProgramFailed);
    let evidence = error.diagnosis().evidence();
    assert_eq!(evidence, Some("exit status 3: no here"), "{error}");
    assert!(error.to_string().contains("no here") && !error.to_string().contains("hunter2"));
    let error = attempt(&["kill -9 $$"]).await;
    assert_eq!(error.diagnosis().evidence(), Some("killed by signal 9"));
}

#[tokio::test]
async fn whatever_a_program_has_started_ends_with_it() {
    let folder = scratch("ends");
    let file = folder.join("pids");
    // One that does not obey, in the background, and its parent, which does not either.
    let script = format!(
        "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $$ $! > {}; while :; do sleep 1; \
         done",
        file.display()
    );
    let (out, _hub) = hub();
    let stop = CancellationToken::new();
    let source = running(&[&script, "cat > /dev/null; sleep 100"]);
    let (end, pids) = tokio::join!(source.run(&out, &stop), async {
        let pids = written(&file).await;
        assert!(pids.split_whitespace().all(is_alive), "{pids}");
        stop.cancel();
        pids
    });
    assert!(end.is_ok());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!pids.split_whitespace().any(is_alive), "{pids}");
}

#[tokio::test]
async fn a_program_that_is_dropped_is_killed() {
    let folder = scratch("dropped");
    let file = folder.join("pids");
    let script = format!("sleep 100 & echo $$ $! > {}; wait", file.display());
    let (out, _hub) = hub();
    let stop = CancellationToken::new();
    let source = running(&[&script]);
    let pids = tokio::select! {
        end = source.run(&out, &stop) => panic!("{end:?}"),
        pids = written(&file) => pids,
    };
    for _ in 0..100 {
        if !pids.split_whitespace().any(is_alive) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pids} still run");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_program_that_says_nothing_is_told_in_time() {
    // The clock stands still while a process is waited for, and runs when nothing is to be done.
    let (out, hub) = hub();
    let stop = CancellationToken::new();
    let source = running(&["exec sleep 100"]);
    let begun = Instant::now();
    out.connecting();
    let told = async {
        tokio::time::sleep(OPEN_LIMIT + Duration::from_millis(1)).await;
        hub.state()
    };
    let (end, state) = tokio::join!(source.run(&out, &stop), told);
    assert!(matches!(state, State::Failed(e) if e.verdict() == Verdict::ProgramSilent));
    assert_eq!(end.unwrap_err().verdict(), Verdict::ProgramSilent);
    assert!(begun.elapsed() >= OPEN_LIMIT + PATIENCE);
}

#[tokio::test]
async fn a_program_that_prints_no_camera_says_so() {
    let ask = async |script: &str| {
        let url = SourceUrl::of_program(program(ProgramKind::Echo, &[script]));
        let (out, _hub) = hub();
        let source = crate::source::open(&url).unwrap();
        let end = source.run(&out, &CancellationToken::new()).await;
        end.unwrap_err()
    };
    for script in [
        "true",
        "echo no hunter2 >&2",
        "echo hunter2",
        "echo http://u:hunter2@h/x",
        "echo file:///etc/hunter2",
        "echo exec:hunter2",
        "yes ' '",
    ] {
        let error = ask(script).await;
        assert_eq!(error.verdict(), Verdict::ProgramFailed, "{script}: {error}");
        assert!(!error.chain().contains("hunter2"), "{error}");
    }
    let error = ask("echo; echo ' rtsp://127.0.0.1:9/x '; sleep 100").await;
    assert_eq!(error.verdict(), Verdict::PortClosed, "{error}");
}

/// An empty folder for a test.
fn scratch(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/scratch")
        .join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
