//! Programs that die, hang, complain or are not there.

use super::*;
use integration_tests::{browser::Viewer, server::signal};

/// The processes of `server` that run ffmpeg, once there are some.
async fn running(server: &Server) -> Vec<Process> {
    eventually("a program runs", Duration::from_secs(10), || async {
        let mut found = processes::of(server);
        found.retain(|process| process.command.starts_with("ffmpeg"));
        if found.is_empty() {
            Err("none".to_owned())
        } else {
            Ok(found)
        }
    })
    .await
}

async fn goes_on(viewer: &Viewer, limit: Duration) {
    viewer.new_frames_within(limit).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = viewer.report().await;
    let recent = report
        .shown
        .iter()
        .filter(|shown| shown.at + Duration::from_secs(1) > report.now);
    assert!(recent.count() >= 10, "{}", report.summary());
}

#[tokio::test]
async fn a_program_that_is_killed_or_hangs_is_started_again_for_the_same_viewer() {
    let Some(_machine) = super::super::cameras_and_browser().await else {
        return;
    };
    let clip = Camera::h264().small().clip().await;
    let mut server = server(&json!({"door": format!("exec:{}", publishing(&clip))})).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page.watch("door", Watch::video()).await;
    viewer.frames_within(Duration::from_secs(12)).await;
    let mut seen = Vec::new();
    // The stall is noticed after 5 s of silence.
    for (name, limit) in [("KILL", 6), ("STOP", 14), ("KILL", 6)] {
        let [process] = &running(&server).await[..] else {
            panic!("{:?}", processes::of(&server));
        };
        seen.push(process.clone());
        signal(process.pid, name).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        goes_on(&viewer, Duration::from_secs(limit)).await;
        let now = processes::of(&server);
        assert!(now.len() == 1 && zombies(&now).is_empty(), "{now:?}");
        assert_eq!(processes::left_of(&seen), [], "after {name}");
    }
    let log = server.log();
    assert!(
        log.contains("killed by signal 9") && log.contains("verdict=stalled"),
        "{log}"
    );
    // Nobody has left: it is ended with the server.
    seen.extend(processes::of(&server));
    let (status, took) = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(took <= Duration::from_secs(3), "{took:?}");
    assert_eq!(processes::left_of(&seen), []);
}

#[tokio::test]
async fn a_program_that_complains_without_end_plays_and_costs_nothing() {
    let Some(_machine) = super::super::cameras_and_browser().await else {
        return;
    };
    let clip = Camera::h264().small().clip().await;
    let inner = publishing(&clip).replace('\'', "");
    let flood = format!("exec:sh -c 'yes complaint >&2 & exec {inner}'");
    let mut server = server(&json!({"door": flood})).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page.watch("door", Watch::video()).await;
    viewer.frames_within(Duration::from_secs(12)).await;
    let (time, memory) = cost(&server);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (later, more) = cost(&server);
    goes_on(&viewer, Duration::from_secs(2)).await;
    let report = viewer.report().await;
    report
        .frames_are_right()
        .unwrap_or_else(|e| panic!("{e}; {}", report.summary()));
    // In 5 s of one core; a pipe holds 64 KiB.
    assert!(later - time < 1.0, "{} s of CPU time", later - time);
    assert!(more < memory + 20_000, "{memory} kB, then {more} kB");
    assert!(
        server.log().len() < 200_000,
        "{} bytes of log",
        server.log().len()
    );
    let seen = processes::of(&server);
    assert!(
        seen.iter()
            .any(|process| process.command.starts_with("yes")),
        "{seen:?}"
    );
    viewer.close().await;
    all_gone(&server, GONE).await;
    assert_eq!(processes::left_of(&seen), []);
    server.terminate().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_program_is_told() {
    if !integration_tests::tools::has("ffmpeg", &["-version"], "ffmpeg") {
        return;
    }
    let url = format!("http://ann:{CANARY}@127.0.0.1:9/mjpg");
    let cameras = json!({
        "missing": "exec:/nowhere/ffmpeg -i x {output}",
        "refused": format!("ffmpeg:{url}#video=h264"),
        "fails": "exec:sh -c 'echo no such device >&2; exit 7'",
        "silent": "exec:sh -c ': {output}; exec sleep 1000'",
    });
    let server = server(&cameras).await;
    for (camera, status, told) in [
        ("missing", 502, ["program-missing", "install it"]),
        ("refused", 502, ["program-failed", "Connection refused"]),
        (
            "fails",
            502,
            ["program-failed", "exit status 7: no such device"],
        ),
        ("silent", 504, ["program-silent", "published nothing"]),
    ] {
        let reply = server
            .offer(camera, &integration_tests::offer::probe())
            .await;
        assert_eq!(reply.status, status, "{camera}: {}", reply.body);
        assert!(
            told.iter().all(|part| reply.body.contains(part)),
            "{camera}: {}",
            reply.body
        );
        assert!(
            reply.took < Duration::from_millis(8_500),
            "{camera}: {:?}",
            reply.took
        );
    }
    all_gone(&server, GONE + Duration::from_secs(10)).await;
    assert!(!server.log().contains(CANARY), "{}", server.log());
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_no_ffmpeg_behind() {
    let Some(_machine) = super::super::cameras_and_browser().await else {
        return;
    };
    let clip = Camera::h264().small().clip().await;
    let server = server(&json!({"door": format!("ffmpeg:{}#input=loop", clip.display())})).await;
    let browser = Browser::start().await;
    let page = browser.viewers_of(&server).await;
    let viewer = page.watch("door", Watch::video()).await;
    viewer.frames_within(Duration::from_secs(12)).await;
    let seen = running(&server).await;
    signal(server.pid(), "KILL").await;
    eventually("ffmpeg notices", Duration::from_secs(5), || async {
        let left = processes::left_of(&seen);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

/// Seconds of CPU time, and kilobytes of memory, of the server alone.
fn cost(server: &Server) -> (f64, u64) {
    let read = |name: &str| {
        let path = format!("/proc/{}/{name}", server.pid());
        std::fs::read_to_string(path).expect("the server runs")
    };
    let stat = read("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("the kernel's format");
    let fields: Vec<_> = rest.split(' ').collect();
    // User and system time in hundredths of a second; `proc_pid_stat(5)` counts from 1.
    let ticks = |at: usize| fields[at - 3].parse::<f64>().expect("a number");
    let status = read("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    ((ticks(14) + ticks(15)) / 100.0, memory.expect("a number"))
}

#[tokio::test]
async fn the_first_process_of_a_container_buries_what_programs_leave() {
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
    let installed = integration_tests::tools::has("unshare", &["--pid", "--fork", "true"], "root");
    if !installed || !integration_tests::camera::installed() {
        return;
    }
    let clip = Camera::h264().small().clip().await;
    let inner = publishing(&clip).replace('\'', "");
    let file = settings(&json!({"door": format!("exec:sh -c 'sleep 1000 & exec {inner}'")}));
    let path = file.path().to_string_lossy().into_owned();
    let server = Server::start_under(&wrapper, &["--config", &path]).await;
    let reply = server.get("/api/frame.jpeg?src=door").await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let runs = |name: &'static str| {
        let all = processes::of(&server);
        all.iter()
            .filter(|process| process.command.starts_with(name))
            .count()
    };
    assert_eq!((runs("ffmpeg"), runs("sleep")), (1, 1));
    eventually("only the server is left", GONE, || async {
        let left = processes::of(&server);
        if left.len() == 1 {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}
