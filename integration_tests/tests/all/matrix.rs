//! The fault matrix: every fault of a camera that we know of, over TCP and UDP, with a viewer on.
//!
//! Each row is a camera that misbehaves, a server and a viewer of their own. It passes when the viewer
//! sees the picture again in time: the same peer connection, no sequence number missing, time that goes
//! on, no broken picture, and never two connections to the camera. Where nothing can be shown, the
//! server has to say why in time.
//!
//! The table stays in the cache, at `logs/matrix/table.txt`, with what servers of failed rows have logged.
//! A camera that moves to another address, R21, is among those of `power`, which need a network of
//! their own.

mod rows;

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use integration_tests::{
    alone, network,
    peers::observer::{Observer, Seen},
    scripted::{Camera, Gateway, Quirk, Script, ScriptedCamera, Step, Tunnel, h264_sdp},
    server::Server,
};
use tokio::time::{Instant, sleep};

/// A fault and what is expected of the server.
#[derive(Clone)]
struct Row {
    name: &'static str,
    over: &'static [Over],
    /// What connection `n` of the camera does, counted from 0, made of a camera without fault.
    steps: fn(Camera, usize) -> Vec<Step>,
    act: Act,
    has_sound: bool,
    /// How far RTP time may be from the clock at the end.
    drift: Duration,
    expected: Expected,
    /// Watched for so much longer.
    longer: Duration,
    /// More that has to be true at the end.
    also: fn(&ScriptedCamera, &Seen) -> Result<(), String>,
}

/// How the server reaches the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Tcp,
    Udp,
    Tls,
    /// RTSP over HTTP.
    Http,
    /// RTSP over WebSocket.
    Web,
}

/// What is done to the camera from outside, while it plays.
#[derive(Clone, Copy)]
enum Act {
    /// Nothing: its script has it all.
    Nothing,
    /// The power is off for so many milliseconds.
    Off(u64),
    /// It hangs for so many milliseconds.
    Hang(u64),
    /// The viewer leaves and comes again, several times.
    Flip,
}

#[derive(Clone)]
enum Expected {
    /// Never so many milliseconds without a picture after the fault; or, if it is there from the
    /// beginning, after the first picture.
    Back(u64),
    /// The same, where a first picture may take long.
    Begins { within: u64 },
    /// The first offer is refused with this status in time, and the next one plays.
    Second(u16),
    /// No picture after the fault, for so many milliseconds; the connection stays.
    Dark(u64),
    /// The offer is refused with this status and a text with these words, any of those between `|`.
    Refused(u16, &'static [&'static str]),
}

/// What came of a row.
struct Outcome {
    row: String,
    over: Over,
    expected: String,
    seen: String,
    back: Option<Duration>,
    connections: (usize, usize),
    faults: Vec<String>,
    log: String,
    offered: Instant,
}

/// How long Home Assistant's user waits.
const OPEN: Duration = Duration::from_millis(8_500);
/// How long a row goes on after the picture had to be back.
const AFTER: Duration = Duration::from_secs(2);
/// How long all of it may take.
const WHOLE: Duration = Duration::from_mins(10);
/// Rows at the same time.
const TOGETHER: usize = 14;

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_comes_back_after_every_fault() {
    let _machine = alone().await;
    let only = std::env::var("MATRIX").unwrap_or_default();
    let mut runs = Vec::new();
    for row in rows::all() {
        for over in row.over {
            if format!("{} {over:?}", row.name).contains(&only) {
                runs.push((row.clone(), *over));
            }
        }
    }
    // Those that take longest first, so that they run beside the others.
    runs.sort_by_key(|(row, _)| std::cmp::Reverse(row.length()));
    assert!(!runs.is_empty(), "no row is called {only:?}");
    let begun = Instant::now();
    let outcomes: Vec<_> = stream::iter(runs)
        .map(|(row, over)| run(row, over))
        .buffer_unordered(TOGETHER)
        .collect()
        .await;
    let took = begun.elapsed();
    report(&outcomes, took);
    assert!(took < WHOLE, "{took:?}");
}

async fn run(row: Row, over: Over) -> Outcome {
    let base = Camera::describing(h264_sdp())
        .pace(Duration::from_millis(50), 10)
        .with(Quirk::Reports);
    let steps = row.steps;
    let script = move |number| Script::from(steps(base.clone(), number));
    // Judged below, with the rest.
    let camera = if over == Over::Tls {
        ScriptedCamera::secure_at(address(), script).await
    } else {
        ScriptedCamera::start_at(address(), script).await
    };
    // Judged below, with the rest; a gateway may be late to leave.
    let mut camera = camera.allowing(9);
    let mut url = camera.url_as("viewer", "secret", "/live");
    let mut gateway = None;
    match over {
        Over::Tcp | Over::Tls => {}
        Over::Udp => url.push_str("#transport=udp"),
        Over::Http | Over::Web => {
            let tunnel = if over == Over::Http {
                Tunnel::Http
            } else {
                Tunnel::WebSocket
            };
            let through = Gateway::before(camera.address(), tunnel).await;
            url = through.url(tunnel, "/live");
            gateway = Some(through);
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("porthole.yaml");
    std::fs::write(&file, format!("cameras: {{ camera: {url:?} }}\n")).expect("a place to write");
    let server = Server::start_with(&["--config", &file.to_string_lossy()]).await;
    let url = "camera";
    let offered = Instant::now();
    let watching = Observer::watch(&server, url, row.has_sound).await;
    let took = offered.elapsed();
    let mut outcome = Outcome {
        row: row.name.to_owned(),
        over,
        expected: row.expected.to_string(),
        seen: String::new(),
        back: None,
        connections: (0, 0),
        faults: Vec::new(),
        log: String::new(),
        offered,
    };
    match (watching, &row.expected) {
        (Err(reply), Expected::Refused(status, words)) => {
            let error = reply.error();
            if reply.status != *status || !mentions(&error, words) {
                outcome.faults.push(format!("not {status} {words:?}"));
            }
            if took > OPEN {
                outcome.faults.push(format!("refused after {took:?}"));
            }
            outcome.seen = format!("{}: {error}", reply.status);
        }
        (Err(reply), Expected::Second(status)) => {
            outcome.seen = format!("{}: {}", reply.status, reply.error());
            if reply.status != *status || took > OPEN {
                outcome.faults.push(format!("not {status}, after {took:?}"));
            }
            match Observer::watch(&server, url, row.has_sound).await {
                Ok(second) => watch(&row, &mut camera, &server, url, second, &mut outcome).await,
                Err(reply) => outcome
                    .faults
                    .push(format!("refused again: {}", reply.body)),
            }
        }
        (Err(reply), _) => {
            outcome.seen = format!("{}: {}", reply.status, reply.error());
            outcome.faults.push("refused".into());
        }
        (Ok(_), Expected::Refused(..) | Expected::Second(_)) => {
            outcome.faults.push("not refused".into());
        }
        (Ok(observer), _) => {
            watch(&row, &mut camera, &server, url, observer, &mut outcome).await;
        }
    }
    // An HTTP tunnel is two connections by nature.
    let most = match &gateway {
        Some(gateway) if over == Over::Http => gateway.most_connections().div_ceil(2),
        Some(gateway) => gateway.most_connections(),
        None => camera.most_connections(),
    };
    outcome.connections = (camera.connections(), most);
    if most > 1 {
        outcome.faults.push("two connections at a time".into());
    }
    outcome.log = server.log();
    outcome
}

async fn watch(
    row: &Row,
    camera: &mut ScriptedCamera,
    server: &Server,
    url: &str,
    mut observer: Observer,
    outcome: &mut Outcome,
) {
    let begun = Instant::now();
    let Some(mut start) = observer.picture_after(begun, OPEN).await else {
        outcome.faults.extend(observer.seen().faults);
        outcome.faults.push("never a picture".into());
        return;
    };
    if let Expected::Begins { within } = row.expected {
        let took = start.saturating_duration_since(outcome.offered);
        if took > Duration::from_millis(within) {
            outcome.faults.push(format!("a picture after {took:?}"));
        }
    }
    let limit = Duration::from_millis(match row.expected {
        Expected::Back(limit) | Expected::Dark(limit) => limit,
        _ => rows::UNBROKEN,
    });
    let mut dark = Duration::ZERO;
    match row.act {
        Act::Nothing if (row.steps)(Camera::describing(""), 0).len() > 1 => {
            // The step after the first is the fault.
            let end = Instant::now() + Duration::from_secs(10);
            while camera.began(1).is_empty() && Instant::now() < end {
                sleep(Duration::from_millis(10)).await;
            }
            match camera.began(1).first() {
                Some(at) => start = start.max(*at),
                None => outcome.faults.push("the fault never came".into()),
            }
        }
        Act::Nothing => {}
        Act::Off(_) | Act::Hang(_) => {
            sleep(Duration::from_secs(1)).await;
            start = Instant::now();
            dark = row.act.length();
            if let Act::Off(_) = row.act {
                camera.off().await;
                sleep(dark).await;
                camera.on().await;
            } else {
                camera.freeze();
                sleep(dark).await;
                camera.thaw();
            }
        }
        Act::Flip => {
            for _ in 0..4 {
                observer.leave().await;
                sleep(Duration::from_secs(2)).await;
                match Observer::watch(server, url, row.has_sound).await {
                    Ok(again) => observer = again,
                    Err(reply) => return outcome.faults.push(reply.body),
                }
                let now = Instant::now();
                start = match observer.picture_after(now, OPEN).await {
                    Some(at) => at,
                    None => return outcome.faults.push("never a picture again".into()),
                };
            }
        }
    }
    tokio::time::sleep_until(start + limit + row.longer + AFTER).await;
    let (seen, now) = (observer.seen(), Instant::now());
    let back = seen.longest_gap(start, now);
    outcome.back = Some(back.saturating_sub(dark));
    if let Expected::Dark(_) = row.expected {
        outcome.back = None;
        // What was on its way may still come.
        let after = start + AFTER;
        let pictures = seen.shown.iter().filter(|shown| shown.at > after).count();
        if pictures > 0 {
            outcome.faults.push(format!("{pictures} pictures"));
        }
    } else if back > limit {
        outcome.faults.push(format!("{back:?} without a picture"));
    }
    if seen.ended.is_some() {
        outcome.faults.push("the connection ended".into());
    }
    if seen.drift() > row.drift {
        outcome
            .faults
            .push(format!("time is off by {:?}", seen.drift()));
    }
    let late = seen.shown.iter().filter(|shown| shown.at + AFTER > now);
    let count = late.count();
    outcome.seen = format!("{} pictures, {count} at the end", seen.shown.len());
    outcome.faults.extend(seen.faults.iter().take(3).cloned());
    outcome.faults.extend((row.also)(camera, &seen).err());
    if let Act::Flip = row.act {
        observer.leave().await;
        sleep(Duration::from_secs(13)).await;
        if camera.open_connections() > 0 || camera.requests_of("TEARDOWN").len() != 1 {
            outcome
                .faults
                .push("not closed 13 s after the last viewer".into());
        }
    }
}

/// One for each camera, which nobody else uses: a port of 127.0.0.1 may be taken while it is off.
fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 100).unwrap_or(0);
    (Ipv4Addr::new(127, 100 + process, high, low), 8554).into()
}

fn mentions(text: &str, words: &[&str]) -> bool {
    let text = text.to_lowercase();
    let has = |word: &&str| {
        word.split('|')
            .any(|word| text.contains(&word.to_lowercase()))
    };
    words.iter().all(has)
}

fn report(outcomes: &[Outcome], took: Duration) {
    let mut table = format!(
        "\n{:<44} {:<4} {:<22} {:>8} {:>5}  seen\n",
        "fault", "by", "expected", "back/ms", "conn"
    );
    let mut failed = Vec::new();
    let mut sorted: Vec<_> = outcomes.iter().collect();
    sorted.sort_by_key(|outcome| &outcome.row);
    for outcome in sorted {
        let back = outcome
            .back
            .map_or("-".to_owned(), |back| back.as_millis().to_string());
        let (all, most) = outcome.connections;
        let mut verdict = outcome.seen.clone();
        if !outcome.faults.is_empty() {
            verdict = format!("FAILED: {}; {verdict}", outcome.faults.join("; "));
            failed.push(outcome);
        }
        let _ = writeln!(
            table,
            "{:<44} {:<4} {:<22} {back:>8} {all:>3}/{most} {verdict}",
            outcome.row,
            format!("{:?}", outcome.over),
            outcome.expected,
        );
    }
    let (rows, good) = (outcomes.len(), outcomes.len() - failed.len());
    let _ = writeln!(table, "{good} of {rows} in {took:.0?}");
    network::say(&table);
    let folder = integration_tests::cache().join("logs/matrix");
    std::fs::create_dir_all(&folder).expect("the cache can be written to");
    std::fs::write(folder.join("table.txt"), &table).expect("the cache can be written to");
    for outcome in &failed {
        let name = format!("{} {:?}.log", outcome.row.replace('/', " "), outcome.over);
        std::fs::write(folder.join(name), &outcome.log).expect("the cache can be written to");
    }
    assert!(failed.is_empty(), "{} of {rows} rows failed", failed.len());
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Back(limit) => write!(f, "back in {limit} ms"),
            Self::Begins { within } => write!(f, "plays in {within} ms"),
            Self::Second(status) => write!(f, "{status}, then plays"),
            Self::Dark(time) => write!(f, "dark for {time} ms"),
            Self::Refused(status, words) => write!(f, "{status} {}", words.join(" ")),
        }
    }
}

impl Row {
    /// About how long it takes.
    fn length(&self) -> Duration {
        let limit = match self.expected {
            Expected::Back(limit) | Expected::Dark(limit) => Duration::from_millis(limit),
            _ => OPEN,
        };
        limit + self.longer + self.act.length()
    }
}

impl Act {
    fn length(self) -> Duration {
        Duration::from_millis(match self {
            Self::Nothing => 0,
            Self::Off(time) | Self::Hang(time) => time,
            Self::Flip => 25_000,
        })
    }
}
