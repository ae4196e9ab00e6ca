//! `openapi.yaml` as programs read it: schemathesis makes up requests from it, wrong ones as well, and compares
//! the replies with it.
//!
//! The cameras that it asks for are the demo camera or none: `python/openapi_hooks.py` replaces each camera's
//! URL, as nothing may lead off this machine, and 502 for a camera that cannot be reached is right. Some of them
//! name a program instead, and the kernel tells whether one was run.

use std::{process::Stdio, time::Duration};

use integration_tests::processes::Trace;
use tokio::{process::Command, time::timeout};

/// The cameras of the configuration: one plays, and the others would be run.
const CAMERAS: &str = "cameras: {front-door: 'demo:', program: 'exec:/bin/true-{output}', \
    page: 'ffmpeg:http://127.0.0.1:9/mjpg#video=h264'}\n";
/// What some requests have in place of a camera's URL; the first two are in the configuration as well.
const PROGRAMS: [&str; 4] = [
    "exec:/bin/true-{output}",
    "ffmpeg:http://127.0.0.1:9/mjpg#video=h264",
    "echo:/bin/true",
    "ffmpeg:demo:#video=h264#raw=-y",
];

/// Requests in all, unless `OPENAPI_EXAMPLES` says how many.
const EXAMPLES: usize = 1_000;
/// Those that schemathesis derives from the description itself: examples, limits, what is missing.
const DERIVED: usize = 900;
/// Operations for which chance has something to choose.
const OPERATIONS: usize = 40;
/// How long it may take, at the lowest priority on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(2);
const LIMIT_OF_EXAMPLE: Duration = Duration::from_millis(60);

/// How many requests are to be made up.
fn examples() -> usize {
    std::env::var("OPENAPI_EXAMPLES").map_or(EXAMPLES, |text| {
        text.parse().expect("OPENAPI_EXAMPLES is a number")
    })
}

/// Requests of chance for each operation, so that there are `all` with the derived ones.
fn per_operation(all: usize) -> usize {
    all.saturating_sub(DERIVED).div_ceil(OPERATIONS).max(1)
}

/// The number before ` generated` in what schemathesis prints at the end.
fn generated(report: &str) -> Option<usize> {
    let (before, _) = report.split_once(" generated")?;
    let number = before.rsplit([' ', '\n']).next()?;
    number.replace(',', "").parse().ok()
}

#[tokio::test]
async fn no_request_is_answered_other_than_described() {
    let python = integration_tests::cache().join("schemathesis/bin/python");
    let program = python.to_string_lossy();
    if !integration_tests::tools::has(
        &program,
        &["-c", "import schemathesis"],
        "schemathesis, which integration_tests/run installs",
    ) {
        return;
    }
    let folder = integration_tests::folder();
    let settings = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(
        settings.path(),
        format!("media_listen: 127.0.0.1:0\nrtsp_to_web: {{}}\nexec: true\n{CAMERAS}"),
    )
    .expect("it can be written");
    let settings = settings.path().to_string_lossy();
    let Some(trace) = Trace::new() else {
        return;
    };
    let server = trace.start(&["--config", &settings]).await;

    let wanted = examples();
    let scratch = tempfile::tempdir().expect("a folder can be made");
    let report = scratch.path().join("report");
    let asked = scratch.path().join("asked");
    let written = || std::fs::read_to_string(&report).expect("the report can be read");
    let output = std::fs::File::create(&report).expect("a file can be made");
    let errors = output.try_clone().expect("a file has a second handle");
    // Tests that run beside this one measure time.
    let mut tool = Command::new("nice");
    tool.args(["-n", "19"])
        .arg(&python)
        .args(["-m", "schemathesis.cli"])
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .arg("run")
        .arg(folder.join("../openapi.yaml"))
        .args(["--url", &server.url("")])
        .args(["--max-examples", &per_operation(wanted).to_string()])
        .arg("--no-color")
        .current_dir(scratch.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", folder.join("python"))
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PORTHOLE_URL", server.url(""))
        .env("PROGRAMS", PROGRAMS.join("\n"))
        .env("PROGRAMS_ASKED", &asked)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true);
    let limit = LIMIT + LIMIT_OF_EXAMPLE * u32::try_from(wanted).expect("a number of requests");
    let status = timeout(limit, tool.status()).await;
    let status = status
        .unwrap_or_else(|_| panic!("schemathesis was not done within {limit:?}: {}", written()))
        .expect("an interpreter that was just asked for its modules starts");
    let report = written();
    // None for all these requests, and some for the camera of the configuration.
    assert_eq!(trace.executed(), [] as [String; 0]);
    assert!(status.success(), "{report}");
    let made = generated(&report).unwrap_or_else(|| panic!("no number of requests: {report}"));
    assert!(made >= wanted, "{made} requests: {report}");
    let health = server.get("/health").await.json();
    assert_eq!(health["panics"], 0, "{}", server.log());
    let asked = std::fs::read_to_string(&asked).expect("programs were asked for");
    assert!(asked.lines().count() >= 50, "{asked}");
    server.get("/api/frame.jpeg?src=program").await;
    assert!(!trace.executed().is_empty(), "the trace sees programs");
}
