//! The rows about RTP and about what cameras write oddly.

use integration_tests::scripted::{
    Jump, Quirk, Size,
    Step::{self, Bye, Reset},
    Until::{Frames, Gone},
    h264_and_pcma_sdp, h264_sdp, sdp_of,
};

use super::{
    super::{
        Expected::{Back, Dark},
        Over::{Tcp, Udp},
        Row,
    },
    AGAIN, EVERY, Steps, UNBROKEN, WATCHDOG, always, ends_wide, jump, one_connection, row,
    small_packets, sound_alone_goes_on, sound_goes_on,
};

pub(super) fn media() -> Vec<Row> {
    let quirk = |name, limit, steps: Steps| row(name, Back(limit), steps);
    vec![
        quirk("R4 3 % lost", 2_500, always!(c => c.with(Quirk::Loses(30)))).longer(5_000),
        quirk(
            "R4 5 % out of order",
            UNBROKEN,
            always!(c => c.with(Quirk::Swaps(50))),
        )
        .over(&[Udp])
        .longer(5_000),
        quirk(
            "R4 5 % doubled",
            UNBROKEN,
            always!(c => c.with(Quirk::Doubles(50))),
        ),
        quirk("R6 another resolution", UNBROKEN, |c, _| {
            let wide = c.clone().size(Size::Wide);
            vec![c.until(Frames(30)), wide.until(Gone)]
        })
        .over(EVERY)
        .also(|camera, seen| one_connection(camera).and(ends_wide(seen))),
        quirk(
            "R6 another resolution after a reset",
            AGAIN,
            |c, n| match n {
                0 => vec![c.until(Frames(30)), Reset],
                _ => vec![c.playing(sdp_of(Size::Wide)).size(Size::Wide).until(Gone)],
            },
        )
        .also(|_, seen| ends_wide(seen)),
        row("R6 MPEG-4 after a reset", Dark(5_000), |c, n| match n {
            0 => vec![c.until(Frames(30)), Reset],
            _ => vec![c.playing(sdp_with("MP4V-ES")).until(Gone)],
        })
        .also(|camera, _| match camera.requests_of("DESCRIBE").len() {
            2 => Ok(()),
            many => Err(format!("described {many} times")),
        }),
        // It sends none, so by UDP the other transport would be tried.
        row("R6 H.265 after a reset", Dark(5_000), |c, n| match n {
            0 => vec![c.until(Frames(30)), Reset],
            _ => vec![c.playing(sdp_with("H265")).until(Gone)],
        })
        .over(&[Tcp])
        .also(|camera, _| match camera.requests_of("DESCRIBE").len() {
            2 => Ok(()),
            many => Err(format!("described {many} times")),
        }),
        quirk(
            "R7 sequence and time wrap",
            UNBROKEN,
            always!(c => c.with(Quirk::NearWrap)),
        ),
        quirk(
            "R7 time jumps an hour ahead",
            UNBROKEN,
            jump!(Jump {
                seconds: 3_600,
                ..Jump::default()
            }),
        ),
        quirk(
            "R7 time jumps an hour back",
            UNBROKEN,
            jump!(Jump {
                seconds: -3_600,
                ..Jump::default()
            }),
        ),
        quirk(
            "R7 time jumps 5 s ahead",
            UNBROKEN,
            jump!(Jump {
                seconds: 5,
                ..Jump::default()
            }),
        )
        .drifting(10_000),
        quirk(
            "R7 time jumps 5 s back",
            UNBROKEN,
            jump!(Jump {
                seconds: -5,
                ..Jump::default()
            }),
        ),
        quirk(
            "R7 sequence jumps",
            UNBROKEN,
            jump!(Jump {
                packets: 20_000,
                ..Jump::default()
            }),
        ),
        quirk(
            "R7 sequence jumps back",
            UNBROKEN,
            jump!(Jump {
                packets: 65_336,
                ..Jump::default()
            }),
        ),
        quirk(
            "R7 another source",
            UNBROKEN,
            jump!(Jump {
                packets: 777,
                seconds: -77,
                source: true
            }),
        ),
        quirk(
            "R7 the same time always",
            UNBROKEN,
            always!(c => c.with(Quirk::ConstantTime)),
        ),
        quirk(
            "R7 clock fast by 1 %",
            UNBROKEN,
            always!(c => c.with(Quirk::FastClock(10))),
        ),
        quirk(
            "R7 clock slow by 1 %",
            UNBROKEN,
            always!(c => c.with(Quirk::FastClock(-10))),
        ),
        quirk(
            "R8 packets of 60,000 bytes",
            UNBROKEN,
            always!(c => c.size(Size::Large)),
        )
        .over(EVERY)
        .also(|_, seen| small_packets(seen)),
        quirk(
            "R8 fragments of 9,000 bytes",
            UNBROKEN,
            always!(c => {
                c.size(Size::Large).with(Quirk::Fragments(9_000))
            }),
        )
        .also(|_, seen| small_packets(seen)),
        quirk("R8 60,000 bytes after small ones", UNBROKEN, |c, _| {
            let large = c.clone().size(Size::Large);
            vec![c.until(Frames(30)), large.until(Gone)]
        })
        .also(|_, seen| small_packets(seen)),
        quirk("R9 picture stops, sound goes on", WATCHDOG, |c, n| {
            let c = c.playing(h264_and_pcma_sdp());
            match n {
                0 => vec![
                    c.clone().until(Frames(30)),
                    c.silencing("video").until(Gone),
                ],
                _ => vec![c.until(Gone)],
            }
        })
        .with_sound()
        .also(|_, seen| sound_goes_on(seen)),
        row(
            "R9 no picture any more, sound goes on",
            Dark(25_000),
            |c, n| {
                let c = c.playing(h264_and_pcma_sdp());
                let mute = c.clone().silencing("video").until(Gone);
                match n {
                    0 => vec![c.until(Frames(30)), mute],
                    _ => vec![mute],
                }
            },
        )
        .with_sound()
        .also(sound_alone_goes_on),
        quirk("R9 sound stops, picture goes on", UNBROKEN, |c, _| {
            let c = c.playing(h264_and_pcma_sdp());
            vec![
                c.clone().until(Frames(30)),
                c.silencing("audio").until(Gone),
            ]
        })
        .with_sound()
        .longer(12_000),
        quirk("RTCP BYE, and it goes on", AGAIN, |c, _| {
            vec![c.clone().until(Frames(30)), Bye, c.until(Gone)]
        }),
        quirk("RTCP BYE, and nothing more", WATCHDOG, |c, n| match n {
            0 => vec![c.clone().until(Frames(30)), Bye, c.frames(0).until(Gone)],
            _ => vec![c.until(Gone)],
        }),
    ]
}

pub(super) fn oddities() -> Vec<Row> {
    let quirk = |name, steps: Steps| row(name, Back(UNBROKEN), steps);
    vec![
        quirk(
            "marked SEI ends every frame",
            always!(c => c.with(Quirk::MarkedSei)),
        ),
        quirk(
            "the same with slices and fragments",
            always!(c => {
                c.size(Size::Large)
                    .with(Quirk::MarkedSei)
                    .with(Quirk::Slices(3))
                    .with(Quirk::Fragments(1_400))
            }),
        ),
        quirk(
            "marked SPS, PPS, SEI, then IDR",
            always!(c => c.with(Quirk::MarkedEach)),
        ),
        quirk("marked SPS", always!(c => c.with(Quirk::MarkedSps))),
        quirk("nothing is marked", always!(c => c.with(Quirk::Unmarked))),
        quirk(
            "SEI with a time of its own",
            always!(c => c.with(Quirk::LoneSei)),
        ),
        quirk(
            "several slices",
            always!(c => c.size(Size::Large).with(Quirk::Slices(8))),
        ),
        quirk(
            "parameter sets in one packet",
            always!(c => c.with(Quirk::Aggregates)),
        ),
        quirk(
            "parameter sets in the SDP alone",
            always!(c => c.with(Quirk::NoSets)),
        ),
        quirk(
            "padding and header extensions",
            always!(c => c.with(Quirk::Padding)),
        ),
        quirk(
            "RTP of an old session first",
            always!(c => c.with(Quirk::OldSession(20))),
        ),
        quirk(
            "RTP before the answer to PLAY",
            always!(c => c.with(Quirk::FramesBeforePlay(12))),
        ),
        quirk(
            "no Content-Length",
            always!(c => c.with(Quirk::NoContentLength)),
        ),
        quirk(
            "Content-Length 2 too large",
            always!(c => c.with(Quirk::WrongContentLength(2))),
        ),
        quirk(
            "Content-Length 2 too small",
            always!(c => c.with(Quirk::WrongContentLength(-2))),
        ),
        quirk("Cseq", always!(c => c.with(Quirk::LowerCaseCseq))),
        quirk(
            "no space after the colon",
            always!(c => c.with(Quirk::NoSpaceAfterColon)),
        ),
        quirk("Session: id;timeout=30", always!(c => c.timeout(30))),
        quirk(
            "blanks and capitals in Session",
            always!(c => c.with(Quirk::OddSession)),
        ),
        quirk("no RTP-Info", always!(c => c.with(Quirk::NoRtpInfo))),
        quirk(
            "RTP-Info with a wrong rtptime",
            always!(c => c.with(Quirk::WrongRtpInfo)),
        ),
        quirk(
            "other channels than asked for",
            always!(c => c.with(Quirk::OtherChannels)),
        )
        .over(&[Tcp]),
    ]
}

/// A description of another codec, which nobody here can draw.
fn sdp_with(codec: &str) -> String {
    String::from_utf8_lossy(&h264_sdp()).replace("H264", codec)
}
