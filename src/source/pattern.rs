//! The built-in demo camera: a moving picture and a soft tone, with no camera and no network.
//!
//! It loops recordings that `scripts/make_demo.sh` makes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Confinement, Source, SourceKind};
use crate::{
    base::{Error, SourceUrl, Verdict},
    hub::{Publisher, Tracks},
    media::{
        Codec, Frame, MediaTime, Part, Track, TrackId,
        h264::ProfileLevel,
        nal::{NalType, annex_b},
        rtp::{PAYLOAD_MAX, h264::cut_access_unit},
    },
};

/// Opens `demo:`.
pub const KIND: SourceKind = SourceKind {
    name: "pattern",
    schemes: &["demo"],
    only_configured: &[],
    open,
};

/// H.264 Annex B, 25 pictures per second of one slice each, a whole number of groups of pictures.
static PICTURES: &[u8] = include_bytes!("../../assets/demo.h264");
/// Opus packets of 20 ms, each after its length in 16 bits.
static OPUS: &[u8] = include_bytes!("../../assets/demo.opus.bin");
/// G.711 µ-law, 8000 bytes per second.
static PCMU: &[u8] = include_bytes!("../../assets/demo.pcmu");

/// One block of sound; a picture lasts two.
const TICK: Duration = Duration::from_millis(20);
const PCMU_BLOCK: usize = 160;

fn open(url: &SourceUrl, _: &Confinement) -> Result<Arc<dyn Source>, Error> {
    if !matches!(url.request_url().path(), "" | "camera") {
        return Err(Error::new(
            Verdict::BadUrl,
            "there is one demo camera; write demo:",
        ));
    }
    Ok(Arc::new(Pattern::new()))
}

struct Pattern {
    profile: Option<ProfileLevel>,
    pictures: Vec<Picture>,
    opus: Vec<Bytes>,
}

struct Picture {
    random_access: bool,
    payloads: Box<[Bytes]>,
}

impl Pattern {
    fn new() -> Self {
        let mut pictures = Vec::new();
        let mut unit = Vec::new();
        let mut profile = None;
        for nal in annex_b(PICTURES) {
            let kind = NalType::of(nal).expect("units are never empty");
            if kind == NalType::SPS {
                profile = ProfileLevel::of_sps(nal);
            }
            if kind.is_slice() || matches!(kind, NalType::SPS | NalType::PPS) {
                unit.push(Bytes::from_static(nal));
            }
            if kind.is_slice() {
                pictures.push(Picture {
                    random_access: kind == NalType::IDR,
                    payloads: cut_access_unit(&unit, PAYLOAD_MAX),
                });
                unit.clear();
            }
        }
        Self {
            profile,
            pictures,
            opus: length_prefixed(OPUS),
        }
    }

    fn tracks(&self) -> [Track; 3] {
        let codecs = [Codec::H264(self.profile), Codec::Opus, Codec::Pcmu];
        let mut ids = 0..;
        codecs.map(|codec| Track {
            id: TrackId(ids.next().unwrap_or(u8::MAX)),
            codec,
        })
    }

    /// The frames of tick number `tick`.
    fn frames(&self, tick: usize) -> impl Iterator<Item = (Codec, bool, Box<[Bytes]>)> {
        let picture = &self.pictures[tick / 2 % self.pictures.len()];
        let picture = tick.is_multiple_of(2).then(|| {
            (
                Codec::H264(None),
                picture.random_access,
                picture.payloads.clone(),
            )
        });
        let opus = self.opus[tick % self.opus.len()].clone();
        let at = tick % (PCMU.len() / PCMU_BLOCK) * PCMU_BLOCK;
        let pcmu = Bytes::from_static(&PCMU[at..at + PCMU_BLOCK]);
        picture.into_iter().chain([
            (Codec::Opus, true, Box::from([opus])),
            (Codec::Pcmu, true, Box::from([pcmu])),
        ])
    }
}

#[async_trait]
impl Source for Pattern {
    async fn run(&self, out: &Publisher, stop: &CancellationToken) -> Result<(), Error> {
        let tracks = self.tracks();
        out.announce(Tracks {
            usable: tracks.to_vec(),
            ..Tracks::default()
        });
        let (start, begun) = (Instant::now(), out.now());
        for tick in 0.. {
            let since = TICK * tick;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(start + since) => {}
            }
            let captured = begun + since;
            for (codec, random_access, payloads) in self.frames(tick as usize) {
                let Some(track) = tracks.iter().find(|t| t.codec.is_like(codec)) else {
                    continue;
                };
                out.publish(Frame {
                    track: track.id,
                    codec,
                    time: MediaTime::at(captured, codec.clock_rate()),
                    captured,
                    random_access,
                    part: Part::WHOLE,
                    payloads,
                });
            }
        }
        Ok(())
    }
}

fn length_prefixed(mut rest: &'static [u8]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((packet, tail)) = tail.split_at_checked(length) else {
            break;
        };
        packets.push(Bytes::from_static(packet));
        rest = tail;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recordings_are_whole_and_loop_together() {
        let pattern = Pattern::new();
        let seconds = pattern.pictures.len() / 25;
        assert!(seconds >= 10 && pattern.pictures.len().is_multiple_of(25));
        assert!(pattern.pictures[0].random_access);
        let keys = pattern.pictures.iter().filter(|p| p.random_access).count();
        assert!(keys >= seconds / 2, "{keys} key frames in {seconds} s");
        assert_eq!(seconds * 50 % pattern.opus.len(), 0);
        assert_eq!(PCMU.len() % PCMU_BLOCK, 0);
        assert_eq!(
            pattern.profile.unwrap().profile().name(),
            "Constrained Baseline"
        );
        let size = PICTURES.len() + OPUS.len() + PCMU.len();
        assert!(size <= 500_000, "{size} bytes");
    }
}
