//! Cameras that go and come back while somebody watches: how long until the picture does.
//!
//! In the suite a few rounds, each dark for 5 s. `POWER_CYCLES=25` makes it 25 rounds of each kind, and
//! as many with cameras dark for 90 s; that takes four minutes.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use integration_tests::{
    network::{self, Host, isolated_for, link},
    peers::observer::Observer,
    scripted::{Camera, Quirk, Script, ScriptedCamera, h264_sdp},
    server::Server,
};
use tokio::time::{Instant, sleep};

/// What happens to a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its plug is pulled: no packet comes or goes.
    PowerCycled,
    /// Its connections are reset, and its port is closed.
    Reset,
    /// It stops in the middle of everything, and goes on there.
    Stalled,
    /// It is reset, and comes back at another address of the same name.
    Moved,
}

const FATES: [Fate; 4] = [Fate::PowerCycled, Fate::Reset, Fate::Stalled, Fate::Moved];

/// Rounds of each kind in the suite.
const FEW: usize = 3;

/// Where the picture comes from, as all programs on this machine know it.
type Names = Arc<Mutex<Vec<(String, String)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_comes_back_is_shown_at_once() {
    if !network::installed() {
        return;
    }
    let asked = std::env::var("POWER_CYCLES").ok();
    let rounds = asked.as_ref().and_then(|rounds| rounds.parse().ok());
    let test = "power::a_camera_that_comes_back_is_shown_at_once";
    let window = Duration::from_mins(if rounds.is_some() { 5 } else { 0 });
    isolated_for(test, window, async || {
        let (this, router) = (Host::viewer(), Host::new("router"));
        link(
            (&this, "lan0", "192.168.77.10/24"),
            (&router, "lan0", "192.168.77.1/24"),
        );
        this.firewall(
            "table inet plugs {
                set pulled { type ipv4_addr; }
                chain input {
                    type filter hook input priority 0;
                    ip saddr @pulled drop
                    ip daddr @pulled drop
                }
            }",
        );
        dark_for(Duration::from_secs(5), rounds.unwrap_or(FEW)).await;
        if let Some(rounds) = rounds {
            dark_for(Duration::from_secs(90), rounds).await;
        }
    })
    .await;
}

/// All rounds at the same time, each with a camera and a viewer of its own, at one server.
async fn dark_for(dark: Duration, rounds: usize) {
    let server = Server::start().await;
    let names = Names::default();
    let runs = (0..rounds * FATES.len()).map(|index| {
        let fate = FATES[index % FATES.len()];
        round(&server, fate, index, dark, &names)
    });
    let results = join_all(runs).await;
    let mut report = String::new();
    let mut all = Vec::new();
    for fate in FATES {
        let of_fate = results.iter().filter(|(one, _)| *one == fate);
        let mut times: Vec<_> = of_fate.map(|(_, time)| *time).collect();
        times.sort();
        all.extend(times.iter().copied());
        let _ = writeln!(report, "{fate:?}, dark for {dark:?}: {}", line(&times));
    }
    all.sort();
    let (median, late) = (percentile(&all, 50), percentile(&all, 95));
    let _ = writeln!(report, "all {}: p50 {median:?}, p95 {late:?}", all.len());
    network::say(&report);
    let missing = all.iter().filter(|time| time.is_none()).count();
    assert_eq!(
        missing,
        0,
        "pictures that never came back:\n{report}{}",
        tail(&server.log())
    );
    let (judged, limit) = if dark < Duration::from_mins(1) {
        (late, Duration::from_millis(1_500))
    } else {
        (percentile(&all, 100), Duration::from_secs(3))
    };
    assert!(
        judged <= Some(limit),
        "{judged:?}, more than {limit:?}:\n{report}"
    );
}

/// The time from the moment at which the camera answers again to the first new picture.
async fn round(
    server: &Server,
    fate: Fate,
    index: usize,
    dark: Duration,
    names: &Names,
) -> (Fate, Option<Duration>) {
    // Not all in step.
    sleep(Duration::from_millis(
        u64::try_from(index).unwrap_or(0) * 137 % 2_000,
    ))
    .await;
    let home = u8::try_from(index).expect("there are not so many");
    let (first, second) = (
        Ipv4Addr::new(127, 77, 1, home),
        Ipv4Addr::new(127, 77, 2, home),
    );
    let camera = Camera::describing(h264_sdp())
        .pace(Duration::from_millis(50), 20)
        .with(Quirk::Reports);
    let script = move |_| Script::from(camera.clone());
    let mut camera = ScriptedCamera::start_at((first, 554).into(), script).await;
    let url = if fate == Fate::Moved {
        let name = format!("camera{index}.test");
        resolves(names, &name, first);
        format!("rtsp://{name}/live")
    } else {
        camera.url("/live")
    };
    let watching = Observer::watch(server, &url, false).await;
    let observer = watching.unwrap_or_else(|refusal| panic!("{fate:?}: {}", refusal.body));
    let begun = Instant::now();
    let seen = observer.picture_after(begun, Duration::from_secs(10)).await;
    assert!(seen.is_some(), "{fate:?}: no picture to begin with");
    sleep(Duration::from_secs(3)).await;
    let plug = |verb: &str| {
        Host::viewer().run(&format!(
            "nft {verb} element inet plugs pulled {{ {first} }}"
        ));
    };
    match fate {
        Fate::PowerCycled => {
            plug("add");
            camera.off().await;
            sleep(dark).await;
            camera.on().await;
            plug("delete");
        }
        Fate::Reset => {
            camera.off().await;
            sleep(dark).await;
            camera.on().await;
        }
        Fate::Stalled => {
            camera.freeze();
            sleep(dark).await;
            camera.thaw();
        }
        Fate::Moved => {
            camera.off().await;
            resolves(names, &format!("camera{index}.test"), second);
            sleep(dark).await;
            camera.on_at(IpAddr::V4(second)).await;
        }
    }
    let answers = Instant::now();
    let limit = Duration::from_secs(30);
    let back = observer.picture_after(answers, limit).await;
    sleep(Duration::from_secs(1)).await;
    let faults = observer.seen().faults;
    assert!(faults.is_empty(), "{fate:?}: {faults:?}");
    (fate, back.map(|back| back - answers))
}

/// From now on `name` is `address`.
fn resolves(names: &Names, name: &str, address: Ipv4Addr) {
    let mut names = names.lock().expect("no round panics with it");
    names.retain(|(_, known)| known != name);
    names.push((address.to_string(), name.to_owned()));
    let all: Vec<_> = names
        .iter()
        .map(|(address, name)| (address.as_str(), name.as_str()))
        .collect();
    Host::knows_names(&all);
}

fn percentile(sorted: &[Option<Duration>], percent: usize) -> Option<Duration> {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    // None, which never came back, is sorted first.
    let missing = sorted.iter().filter(|time| time.is_none()).count();
    *sorted.get(place + missing)?
}

fn line(times: &[Option<Duration>]) -> String {
    let shown = times.iter().map(|time| match time {
        Some(time) => time.as_millis().to_string(),
        None => "never".to_owned(),
    });
    let shown: Vec<_> = shown.collect();
    format!("{} ms", shown.join(" "))
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
