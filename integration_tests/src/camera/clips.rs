//! What cameras show and sound like: clips made by ffmpeg once and kept in [`crate::cache`].

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex},
};

use tokio::{process::Command, sync::OnceCell};

/// Length of a clip.
pub(super) const SECONDS: u32 = 24;
/// Pictures per second.
pub(super) const FPS: u32 = 25;

/// Changes with the recipes below, so that a cache of an older version is not used.
const RECIPE: u32 = 1;

/// Bits of a picture's number, each a block of 32x32 pixels, least significant first.
const BITS: u32 = 11;
const BLOCK: u32 = 32;

/// The video track of a camera.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture {
    pub(super) codec: &'static str,
    pub(super) size: Size,
    pub(super) gop_seconds: u32,
    /// H.264 and H.265 only; the profile of H.264 is Main if there are any, and Baseline if not.
    pub(super) b_frames: BFrames,
    /// H.264 only: High 4:2:2.
    pub(super) professional: bool,
    /// H.264 without B-frames only: `main` or `high` instead of Baseline.
    pub(super) profile: Option<&'static str>,
}

/// B-frames of H.264 or H.265, up to three in a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum BFrames {
    None,
    /// No other picture is made of them.
    Disposable,
    /// Other pictures, P-frames among them, are made of some of them.
    References,
}

/// How large a picture is, in pixels and so in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// With a picture's number in blocks of half the size.
    Tiny,
    Small,
    Hd,
    FullHd,
}

/// The audio track of a camera: a tone with a beep each second.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sound {
    Pcmu,
    Pcma,
    Opus,
    Aac {
        rate: u32,
        channels: u8,
    },
    /// AAC as `MP4A-LATM`.
    Latm {
        rate: u32,
        channels: u8,
    },
    L16 {
        rate: u32,
    },
    G722,
    G726,
}

impl Picture {
    /// The clip, made now if need be.
    pub(super) async fn file(&self) -> PathBuf {
        let Self {
            codec,
            size,
            gop_seconds,
            b_frames,
            professional,
            profile,
        } = *self;
        let block = match size {
            Size::Tiny => BLOCK / 2,
            _ => BLOCK,
        };
        let (size, noise, rate) = match size {
            Size::Tiny => (
                "320x240",
                4,
                "-preset veryfast -b:v 200k -maxrate 250k -bufsize 200k",
            ),
            Size::Small => (
                "640x360",
                4,
                "-preset veryfast -b:v 500k -maxrate 600k -bufsize 500k",
            ),
            Size::Hd => (
                "1280x720",
                8,
                "-preset veryfast -b:v 2M -maxrate 2500k -bufsize 2M",
            ),
            // A buffer of two pictures keeps key frames from taking what the others need.
            Size::FullHd => (
                "1920x1080",
                20,
                "-preset ultrafast -b:v 14M -maxrate 14M -bufsize 1M",
            ),
        };
        let source = format!("testsrc2=size={size}:rate={FPS}:duration={SECONDS}");
        let format = match codec {
            "mjpeg" => "yuvj420p",
            _ if professional => "yuv422p",
            _ => "yuv420p",
        };
        let filters = format!(
            "noise=alls={noise}:allf=t,{},format={format}",
            number_strip(block)
        );
        let gop = gop_seconds * FPS;
        let (suffix, profile) = match b_frames {
            BFrames::None if professional => ("-422", "-profile:v high422 -bf 0"),
            BFrames::None => match profile {
                Some("high") => ("-high", "-profile:v high -bf 0"),
                Some(_) => ("-main", "-profile:v main -bf 0"),
                None => ("", "-profile:v baseline"),
            },
            BFrames::Disposable => (
                "-b",
                "-profile:v main -bf 3 -x264-params b-pyramid=none:b-adapt=0",
            ),
            BFrames::References => (
                "-b-references",
                "-profile:v main -bf 3 -refs 3 -x264-params b-pyramid=normal:b-adapt=0",
            ),
        };
        let encoder = match codec {
            "h264" => {
                format!("-c:v libx264 {profile} {rate} -g {gop} -keyint_min {gop} -sc_threshold 0")
            }
            "h265" => {
                // As most encoders: with pictures that lead the random access point, if there are B-frames.
                let b_frames = match b_frames {
                    BFrames::None => "bframes=0",
                    BFrames::Disposable => "bframes=3:b-adapt=0:b-pyramid=0:open-gop=1",
                    BFrames::References => "bframes=3:b-adapt=0:b-pyramid=1:open-gop=1",
                };
                format!(
                    "-c:v libx265 -preset ultrafast -b:v 2M -x265-params \
                     keyint={gop}:min-keyint={gop}:scenecut=0:{b_frames}:log-level=error"
                )
            }
            // RTP carries no Huffman tables: they have to be the standard ones.
            _ => "-c:v mjpeg -huffman default -q:v 12".to_owned(),
        };
        let mut arguments = vec!["-f", "lavfi", "-i", &source, "-vf", &filters];
        arguments.extend(encoder.split_whitespace());
        clip(&format!("{codec}{suffix}-{size}-{gop}"), &arguments).await
    }
}

impl Sound {
    pub(super) fn codec(self) -> &'static str {
        match self {
            Self::Pcmu => "pcmu",
            Self::Pcma => "pcma",
            Self::Opus => "opus",
            Self::Aac { .. } => "aac",
            Self::Latm { .. } => "latm",
            Self::L16 { .. } => "l16",
            Self::G722 => "g722",
            Self::G726 => "g726",
        }
    }

    /// The clip, made now if need be.
    pub(super) async fn file(self, tone: u32) -> PathBuf {
        let aac = |rate, channels| {
            let name = match (rate, channels) {
                (48_000, 2) => "aac".to_owned(),
                _ => format!("aac-{rate}-{channels}"),
            };
            (name, format!("-ar {rate} -ac {channels} -c:a aac -b:a 64k"))
        };
        let samples = |rate| {
            (
                format!("samples-{rate}"),
                format!("-ar {rate} -ac 1 -c:a pcm_s16le"),
            )
        };
        let (name, encoder) = match self {
            Self::Pcmu => (
                "pcmu".to_owned(),
                "-ar 8000 -ac 1 -c:a pcm_mulaw".to_owned(),
            ),
            Self::Pcma => ("pcma".to_owned(), "-ar 8000 -ac 1 -c:a pcm_alaw".to_owned()),
            Self::Opus => (
                "opus".to_owned(),
                "-ar 48000 -ac 2 -c:a libopus -b:a 64k -frame_duration 20".to_owned(),
            ),
            Self::Aac { rate, channels } | Self::Latm { rate, channels } => aac(rate, channels),
            Self::L16 { rate } => samples(rate),
            Self::G722 => samples(16_000),
            Self::G726 => samples(8_000),
        };
        let name = match tone {
            440 => name,
            _ => format!("{name}-{tone}"),
        };
        let source = format!("sine=frequency={tone}:beep_factor=4:duration={SECONDS}");
        let mut arguments = vec!["-f", "lavfi", "-i", &source];
        arguments.extend(encoder.split_whitespace());
        clip(&name, &arguments).await
    }
}

/// The filters that write a picture's number into its top left corner: a row of bits, white for one,
/// and below it the row of their complements, by which a reader knows that it reads right.
fn number_strip(block: u32) -> String {
    let mut filters = format!(
        "drawbox=w={}:h={}:color=black:t=fill",
        BITS * block,
        2 * block
    );
    for bit in 0..BITS {
        let is_one = format!("mod(floor(n/{}),2)", 1 << bit);
        for (row, shown) in [(0, is_one.clone()), (1, format!("1-{is_one}"))] {
            let (x, y) = (bit * block, row * block);
            write!(
                filters,
                ",drawbox=x={x}:y={y}:w={block}:h={block}:color=white:t=fill:enable='{shown}'"
            )
            .expect("a string takes all text");
        }
    }
    filters
}

/// The file of this name, made by ffmpeg if the cache lacks it, once however many tests ask.
async fn clip(name: &str, arguments: &[&str]) -> PathBuf {
    type Clips = Mutex<HashMap<String, Arc<OnceCell<PathBuf>>>>;
    static CLIPS: LazyLock<Clips> = LazyLock::new(Mutex::default);
    let once = Arc::clone(
        CLIPS
            .lock()
            .expect("no test panics with the lock")
            .entry(name.to_owned())
            .or_default(),
    );
    once.get_or_init(|| make(name, arguments)).await.clone()
}

async fn make(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = crate::cache().join("media");
    tokio::fs::create_dir_all(&folder)
        .await
        .expect("a folder in the cache can be made");
    let file = folder.join(format!("{name}-v{RECIPE}.mkv"));
    if file.is_file() {
        return file;
    }
    // Under another name until it is whole: a second run of the tests may look for it meanwhile.
    let unfinished = folder.join(format!("{name}-{}.mkv", std::process::id()));
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(&unfinished)
        .output()
        .await
        .expect("ffmpeg is installed");
    assert!(
        output.status.success(),
        "ffmpeg cannot make {name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    tokio::fs::rename(&unfinished, &file)
        .await
        .expect("a file can be renamed in its folder");
    file
}
