//! The rows, by the numbers of the failure model that the project's documentation has.
#![expect(clippy::too_many_lines, reason = "tables have a line for every row")]

mod streams;

use std::time::Duration;

use integration_tests::{
    peers::observer::Seen,
    scripted::{
        Camera, Carrier, Nonces, Quirk, Scheme, ScriptedCamera, Size,
        Step::{self, Ask, Garbage, HalfClose, Reset, Say, Stall},
        Until::{Bytes, Frames, Gone, Requests},
    },
};

use super::{
    Act::{self, Flip, Hang, Off},
    Expected::{self, Back, Begins, Dark, Refused, Second},
    Over::{self, Http, Tcp, Tls, Udp, Web},
    Row,
};

/// Without a picture for as long as nobody notices on a busy machine, in milliseconds.
pub(super) const UNBROKEN: u64 = 800;
/// Connecting again after a camera has hung up.
const AGAIN: u64 = 1_500;
/// The same after silence, which is noticed after 10 s.
const WATCHDOG: u64 = 10_000 + AGAIN;

const BOTH: &[Over] = &[Tcp, Udp];
const EVERY: &[Over] = &[Tcp, Udp, Tls, Http, Web];
/// All but those that need more ports.
const STREAMS: &[Over] = &[Tcp, Tls, Http, Web];

type Steps = fn(Camera, usize) -> Vec<Step>;

/// The fault comes once, after a second and a half; later connections are good.
macro_rules! once {
    ($camera:ident => $($step:expr),+) => {
        |$camera, connection| match connection {
            0 => vec![$camera.clone().until(Frames(30)), $($step),+],
            _ => vec![$camera.until(Gone)],
        }
    };
}

/// The camera is like this from the beginning.
macro_rules! always {
    ($camera:ident => $changed:expr) => {
        |$camera, _| vec![$changed.until(Gone)]
    };
}

/// The numbers of the stream jump after a second and a half.
macro_rules! jump {
    ($jump:expr) => {
        |camera, _| {
            let before = camera.clone().until(Frames(30));
            vec![before, Step::Jump($jump), camera.until(Gone)]
        }
    };
}

use {always, jump};

pub(super) fn all() -> Vec<Row> {
    [
        connections(),
        protocol(),
        streams::media(),
        streams::oddities(),
    ]
    .concat()
}

fn connections() -> Vec<Row> {
    vec![
        row("R1 reset", Back(AGAIN), once!(_c => Reset)).over(EVERY),
        row("R1 orderly close", Back(AGAIN), |c, n| match n {
            0 => vec![c.until(Frames(30)), Step::Wait(Duration::ZERO)],
            _ => vec![c.until(Gone)],
        })
        .over(EVERY),
        row("R1 reset within a packet", Back(AGAIN), |c, n| match n {
            0 => vec![c.until(Bytes(10_000)), Reset],
            _ => vec![c.until(Gone)],
        })
        .over(STREAMS),
        row(
            "R1 half-close, then nothing",
            Back(AGAIN),
            once!(_c => HalfClose, Stall),
        ),
        row("R1 power off for 5 s", Back(5_000 + AGAIN), plain).act(Off(5_000)),
        row("R1 power off for 25 s", Back(25_000 + AGAIN), plain).act(Off(25_000)),
        row(
            "R1 reset, and again at every start",
            Back(5_000),
            |c, n| match n {
                0 => vec![c.until(Frames(30)), Reset],
                1 => vec![Reset],
                2 => vec![c.until(Requests(1)), Reset],
                3 => vec![c.until(Requests(2)), Reset],
                _ => vec![c.until(Gone)],
            },
        ),
        row(
            "R2 strict session timeout of 4 s",
            Back(UNBROKEN),
            |c, _| vec![strict(c.clone()).until(Frames(10)), strict(c).until(Gone)],
        )
        .also(|camera, _| one_connection(camera))
        .longer(10_000),
        row(
            "R2 the same without GET_PARAMETER",
            Back(UNBROKEN),
            |c, _| {
                let c = strict(c).refusing("GET_PARAMETER", 405);
                vec![c.clone().until(Frames(10)), c.until(Gone)]
            },
        )
        .also(|camera, _| one_connection(camera))
        .longer(10_000),
        row("R2 signs of life ignored", Back(UNBROKEN), |c, _| {
            vec![c.timeout(4).with(Quirk::IgnoresKeepalives).until(Gone)]
        })
        .also(|camera, _| one_connection(camera))
        .longer(10_000),
        row(
            "R2 454 to a sign of life, no media",
            Back(2_000 + AGAIN),
            |c, n| match n {
                0 => {
                    let c = c.timeout(4);
                    let lost = c
                        .clone()
                        .refusing("GET_PARAMETER", 454)
                        .refusing("OPTIONS", 454);
                    vec![c.until(Frames(30)), lost.frames(0).until(Gone)]
                }
                _ => vec![c.until(Gone)],
            },
        ),
        row("R3 silence", Back(WATCHDOG), once!(_c => Stall)).over(EVERY),
        row(
            "R3 media stops, replies go on",
            Back(WATCHDOG),
            |c, n| match n {
                0 => vec![c.clone().until(Frames(30)), c.frames(0).until(Gone)],
                _ => vec![c.until(Gone)],
            },
        ),
        row("R3 hangs for 4 s and goes on", Back(4_000 + AGAIN), plain).act(Hang(4_000)),
        row("R3 hangs for 15 s", Back(15_000 + AGAIN), plain).act(Hang(15_000)),
        row(
            "R11 room for one, reset, held for 3 s",
            Back(3_000 + 2_400 + AGAIN),
            |c, n| {
                let c = c.single(Duration::from_secs(3));
                match n {
                    0 => vec![c.until(Frames(30)), Reset],
                    _ => vec![c.until(Gone)],
                }
            },
        ),
        row("R11 room for one, media stops", Back(WATCHDOG), |c, n| {
            let c = c.single(Duration::from_secs(30));
            match n {
                0 => vec![c.clone().until(Frames(30)), c.frames(0).until(Gone)],
                _ => vec![c.until(Gone)],
            }
        }),
        row("R11 room for one, half-close", Back(AGAIN), |c, n| {
            let c = c.single(Duration::from_secs(30));
            match n {
                0 => vec![c.clone().until(Frames(30)), HalfClose, c.until(Gone)],
                _ => vec![c.until(Gone)],
            }
        }),
        row(
            "R25 viewers come and go, room for one",
            Back(UNBROKEN),
            |c, _| vec![c.single(Duration::from_secs(30)).until(Gone)],
        )
        .act(Flip)
        .also(|camera, _| one_connection(camera)),
    ]
}

fn protocol() -> Vec<Row> {
    vec![
        row(
            "R5 garbage of 3 kB in RTSP",
            Back(2_000 + AGAIN),
            |c, n| match n {
                0 => vec![c.clone().until(Frames(30)), Garbage(3_000), c.until(Gone)],
                _ => vec![c.until(Gone)],
            },
        ),
        row(
            "R5 garbage of 100 kB in RTSP",
            Back(2_000 + AGAIN),
            |c, n| match n {
                0 => vec![c.clone().until(Frames(30)), Garbage(100_000), c.until(Gone)],
                _ => vec![c.until(Gone)],
            },
        ),
        row(
            "R5 a web page in RTSP",
            Back(2_000 + AGAIN),
            |c, n| match n {
                0 => {
                    let page =
                        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Sorry</html>\r\n";
                    vec![c.clone().until(Frames(30)), Say(page.into()), c.until(Gone)]
                }
                _ => vec![c.until(Gone)],
            },
        ),
        row(
            "R5 interleaved frame with wrong length",
            Back(2_000 + AGAIN),
            |c, n| match n {
                0 => {
                    let frame = b"$\x00\xFF\xF0abc".to_vec();
                    vec![c.clone().until(Frames(30)), Say(frame), c.until(Gone)]
                }
                _ => vec![c.until(Gone)],
            },
        ),
        row(
            "R5 interleaved frame that is no RTP",
            Back(UNBROKEN),
            |c, _| {
                let frame = b"$\x00\x00\x05hello$\x07\x00\x03you$\x01\x00\x02me".to_vec();
                vec![c.clone().until(Frames(30)), Say(frame), c.until(Gone)]
            },
        )
        .also(|camera, _| one_connection(camera)),
        row(
            "R5 a web page instead of RTSP",
            Refused(502, &["not RTSP"]),
            |_, _| {
                vec![
                    Step::Listen,
                    Say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
                ]
            },
        ),
        row("R10 a new nonce every 3 s", Back(UNBROKEN), |c, _| {
            let c = c
                .timeout(4)
                .requiring("viewer", "secret", Scheme::DigestAuth);
            vec![
                c.nonces(Nonces::Lasting(Duration::from_secs(3)))
                    .until(Gone),
            ]
        })
        .also(|camera, _| one_connection(camera))
        .longer(10_000),
        row("R10 a nonce for each request", Back(UNBROKEN), |c, _| {
            let c = c.timeout(4).requiring("viewer", "secret", Scheme::Sha256);
            vec![c.nonces(Nonces::Once).until(Gone)]
        })
        .also(|camera, _| one_connection(camera))
        .longer(6_000),
        row(
            "R10 another password",
            Refused(502, &["refused the user name or password"]),
            always!(c => c.requiring("viewer", "other", Scheme::Digest)),
        ),
        row("R10 the password is changed", Dark(10_000), |c, n| {
            let was = if n == 0 { "secret" } else { "changed" };
            let c = c.requiring("viewer", was, Scheme::Digest);
            match n {
                0 => vec![c.until(Frames(30)), Reset],
                _ => vec![c.until(Gone)],
            }
        })
        .also(|camera, _| tried_once(camera)),
        row("R10 from Basic to Digest", Back(AGAIN), |c, n| match n {
            0 => {
                let c = c.requiring("viewer", "secret", Scheme::Basic);
                vec![c.until(Frames(30)), Reset]
            }
            _ => vec![c.requiring("viewer", "secret", Scheme::Digest).until(Gone)],
        }),
        row(
            "two WWW-Authenticate headers",
            Back(UNBROKEN),
            always!(c => c.requiring("viewer", "secret", Scheme::Strongest)),
        ),
        row(
            "453 to SETUP",
            Refused(502, &["453"]),
            always!(c => c.refusing("SETUP", 453)),
        ),
        row(
            "404 to DESCRIBE",
            Refused(502, &["404"]),
            always!(c => c.refusing("DESCRIBE", 404)),
        ),
        row(
            "454 to PLAY",
            Refused(502, &["454"]),
            always!(c => c.refusing("PLAY", 454)),
        ),
        row(
            "461 to SETUP",
            Refused(502, &["461"]),
            always!(c => c.refusing("SETUP", 461)),
        ),
        row(
            "461 to TCP",
            Begins { within: 8_500 },
            always!(c => c.only(Carrier::Udp)),
        )
        .over(&[Tcp]),
        row(
            "461 to UDP",
            Begins { within: 8_500 },
            always!(c => c.only(Carrier::Tcp)),
        )
        .over(&[Udp]),
        row(
            "UDP in answer to SETUP with TCP",
            Begins { within: 8_500 },
            always!(c => c.with(Quirk::UdpForTcp)),
        )
        .over(&[Tcp]),
        row(
            "UDP is lost",
            Begins { within: 8_500 },
            always!(c => c.with(Quirk::UdpLost)),
        )
        .over(&[Udp]),
        row(
            "R24 slow at every step",
            Begins { within: 8_500 },
            always!(c => c.slow(Duration::from_millis(1_200))),
        ),
        row(
            "R24 slower than anybody waits",
            Second(504),
            always!(c => c.slow(Duration::from_millis(2_500))),
        ),
        row(
            "R24 hangs at DESCRIBE",
            Refused(504, &["did not answer"]),
            always!(c => c.slow(Duration::from_mins(1))),
        ),
        row(
            "TEARDOWN by the camera, then close",
            Back(AGAIN),
            once!(_c => Ask("TEARDOWN")),
        ),
        row(
            "TEARDOWN by the camera, then nothing",
            Back(AGAIN),
            |c, n| match n {
                0 => vec![
                    c.clone().until(Frames(30)),
                    Ask("TEARDOWN"),
                    c.frames(0).until(Gone),
                ],
                _ => vec![c.until(Gone)],
            },
        ),
        row("OPTIONS by the camera", Back(UNBROKEN), |c, _| {
            vec![c.clone().until(Frames(30)), Ask("OPTIONS"), c.until(Gone)]
        })
        .also(|camera, _| one_connection(camera)),
        row(
            "OPTIONS by the camera at the start",
            Back(UNBROKEN),
            |c, _| vec![Ask("OPTIONS"), c.until(Gone)],
        ),
    ]
}

fn row(name: &'static str, expected: Expected, steps: Steps) -> Row {
    Row {
        name,
        over: BOTH,
        steps,
        act: Act::Nothing,
        has_sound: false,
        drift: Duration::from_secs(1),
        expected,
        longer: Duration::ZERO,
        also: |_, _| Ok(()),
    }
}

impl Row {
    fn over(self, over: &'static [Over]) -> Self {
        Self { over, ..self }
    }

    fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }

    fn with_sound(self) -> Self {
        Self {
            has_sound: true,
            ..self
        }
    }

    /// As far as the model lets a camera's clock stray before it is placed anew, in milliseconds.
    fn drifting(self, time: u64) -> Self {
        let drift = Duration::from_millis(time);
        Self { drift, ..self }
    }

    fn also(self, also: fn(&ScriptedCamera, &Seen) -> Result<(), String>) -> Self {
        Self { also, ..self }
    }

    /// Watches for so many milliseconds more.
    fn longer(self, time: u64) -> Self {
        let longer = Duration::from_millis(time);
        Self { longer, ..self }
    }
}

fn plain(camera: Camera, _: usize) -> Vec<Step> {
    vec![camera.until(Gone)]
}

fn strict(camera: Camera) -> Camera {
    camera.timeout(4).with(Quirk::StrictTimeout)
}

/// Since the first connection ended: cameras lock accounts.
fn tried_once(camera: &ScriptedCamera) -> Result<(), String> {
    let requests = camera.requests();
    let wrong = requests
        .iter()
        .filter(|request| request.connection > 0 && request.header("Authorization").is_some());
    match wrong.count() {
        0 | 1 => Ok(()),
        many => Err(format!("the wrong password {many} times")),
    }
}

fn one_connection(camera: &ScriptedCamera) -> Result<(), String> {
    match camera.connections() {
        1 => Ok(()),
        many => Err(format!("{many} connections, one after the other")),
    }
}

fn ends_wide(seen: &Seen) -> Result<(), String> {
    match seen.shown.last().map(|shown| shown.size) {
        Some(Size::Wide) => Ok(()),
        other => Err(format!("{other:?} at the end")),
    }
}

fn small_packets(seen: &Seen) -> Result<(), String> {
    match seen.largest {
        0..=1_200 => Ok(()),
        large => Err(format!("a payload of {large} bytes")),
    }
}

fn sound_alone_goes_on(camera: &ScriptedCamera, seen: &Seen) -> Result<(), String> {
    let second = Duration::from_secs(1);
    let last = seen.sounds.last().map(tokio::time::Instant::elapsed);
    match (last, camera.connections()) {
        (Some(last), 0..=2) if last < second => Ok(()),
        (last, many) => Err(format!("sound {last:?} ago, {many} connections")),
    }
}

fn sound_goes_on(seen: &Seen) -> Result<(), String> {
    let (sound, shown) = (seen.sounds.last(), seen.shown.last());
    let late = |(sound, shown): (&tokio::time::Instant, _)| *sound + Duration::from_secs(1) > shown;
    let goes_on = sound.zip(shown.map(|shown| shown.at)).is_some_and(late);
    goes_on.then_some(()).ok_or("the sound has ended".into())
}
