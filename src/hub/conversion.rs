//! [`Conversion`]: sound that browsers do not take, made into a track of the same hub; once however many
//! need it, and only as long as somebody does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{broadcast, watch};

use super::{Converted, Hub, Publisher, Shared};
use crate::media::{
    Codec, Frame, Part, TrackId,
    audio::{Converter, Format, SoundPacket},
};

/// How long sound is converted when nobody needs it any more: viewers come back, and a player that
/// loads a page anew is one of them.
const LINGER: Duration = Duration::from_secs(5);

/// A packet of sound as the camera sends it.
#[derive(Debug, Clone)]
pub struct Sound {
    /// The camera's track.
    pub track: TrackId,
    /// What it is.
    pub format: Format,
    /// The packet.
    pub packet: SoundPacket,
}

/// Proof that somebody needs converted sound.
#[derive(Debug)]
pub struct Demand(Arc<Shared>);

impl Demand {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        shared.demand.send_modify(|demand| *demand += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.0.demand.send_modify(|demand| *demand -= 1);
    }
}

impl Publisher {
    /// Hands over sound to be converted, if somebody needs it. Never waits.
    pub fn hear(&self, sound: impl FnOnce() -> Sound) {
        if self.sounds.receiver_count() > 0 {
            // An error means that nobody needs it any more.
            let _ = self.sounds.send(Arc::new(sound()));
        }
    }

    /// What converts the sound of this hub, to be run by a task of its own.
    #[must_use]
    pub fn conversion(&self, hub: Hub) -> Conversion {
        Conversion::new(hub, self.sounds.downgrade())
    }
}

impl Hub {
    /// Has the sound converted for as long as the result lives, and a little longer.
    #[must_use]
    pub fn convert(&self) -> Demand {
        match &self.parts {
            Some(parts) => parts.sound.convert(),
            None => Demand::of(&self.shared),
        }
    }

    /// Whether sound is needed that has to be converted.
    #[must_use]
    pub fn is_converting(&self) -> bool {
        *self.shared.demand.borrow() > 0
    }
}

/// Converts the sound of one hub.
pub struct Conversion {
    hub: Hub,
    /// Weak, so that a hub ends with its publisher.
    sounds: broadcast::WeakSender<Arc<Sound>>,
    demand: watch::Receiver<usize>,
    /// What is being converted, and in which attempt of the source it came.
    current: Option<(u64, TrackId, Format, Converter)>,
}

impl Conversion {
    pub(super) fn new(hub: Hub, sounds: broadcast::WeakSender<Arc<Sound>>) -> Self {
        let demand = hub.shared.demand.subscribe();
        Self {
            hub,
            sounds,
            demand,
            current: None,
        }
    }

    /// Works until the hub is closed.
    pub async fn run(mut self) {
        let hub = self.hub.clone();
        tokio::select! {
            () = hub.closed() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        while self.demand.wait_for(|demand| *demand > 0).await.is_ok() {
            let Some(mut sounds) = self.sounds.upgrade().map(|sounds| sounds.subscribe()) else {
                return;
            };
            tracing::debug!("sound is converted from now on");
            let mut demand = self.demand.clone();
            let mut unneeded = std::pin::pin!(unneeded(&mut demand));
            let mut is_after_loss = false;
            loop {
                let sound = tokio::select! {
                    biased;
                    () = &mut unneeded => break,
                    sound = sounds.recv() => sound,
                };
                match sound {
                    Ok(sound) => self.convert(&sound, std::mem::take(&mut is_after_loss)),
                    Err(broadcast::error::RecvError::Lagged(_)) => is_after_loss = true,
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
            self.current = None;
            tracing::debug!("nobody needs converted sound any more");
        }
    }

    fn convert(&mut self, sound: &Sound, is_after_loss: bool) {
        let attempt = self.hub.attempts();
        let Sound { track, format, .. } = *sound;
        let current = self.current.take();
        let mut converter = match current {
            Some((of, of_track, of_format, converter))
                if (of, of_track, of_format) == (attempt, track, format) =>
            {
                converter
            }
            _ => Converter::new(format),
        };
        let mut packet = sound.packet.clone();
        packet.is_after_loss |= is_after_loss;
        let hub = &self.hub;
        // What cameras send meets decoders that are not ours.
        let converted = catch_unwind(AssertUnwindSafe(|| {
            converter.push(&packet, |block| {
                hub.publish(Frame {
                    track: Converted::id_of(track),
                    codec: Codec::Opus,
                    time: block.time,
                    captured: block.captured,
                    random_access: true,
                    part: Part::WHOLE,
                    payloads: Box::new([block.payload]),
                });
            });
            converter
        }));
        let Ok(converter) = converted else {
            tracing::error!(%format, "a packet of sound broke its conversion off");
            return;
        };
        self.current = Some((attempt, track, format, converter));
    }
}

/// Returns when nobody has needed converted sound for a while.
async fn unneeded(demand: &mut watch::Receiver<usize>) {
    loop {
        if demand.wait_for(|demand| *demand == 0).await.is_err() {
            return;
        }
        let needed = demand.wait_for(|demand| *demand > 0);
        if tokio::time::timeout(LINGER, needed).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        base::Tasks,
        hub::{self, Next, Subscription},
        media::{
            MediaTime,
            audio::{Channels, Coding},
        },
    };

    const TRACK: TrackId = TrackId(1);

    fn speak(out: &Publisher, number: i64) -> bool {
        let mut heard = false;
        out.hear(|| {
            heard = true;
            Sound {
                track: TRACK,
                format: Format {
                    coding: Coding::L16(16_000, Channels::Mono),
                    clock_rate: 16_000,
                },
                packet: SoundPacket {
                    time: MediaTime(number * 320),
                    captured: Duration::from_millis(20) * u32::try_from(number).unwrap(),
                    is_after_loss: false,
                    marker: true,
                    payload: Bytes::from(vec![3; 640]),
                },
            }
        });
        heard
    }

    async fn next(frames: &mut Subscription) -> Option<Frame> {
        let next = tokio::time::timeout(Duration::from_secs(1), frames.next()).await;
        match next {
            Ok(Next::Frame(frame)) => Some((*frame).clone()),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sound_is_converted_once_and_only_while_somebody_needs_it() {
        let (out, hub) = hub::hub();
        let tasks = Tasks::on_current_runtime();
        let task = tasks.spawn("conversion", out.conversion(hub.clone()).run());
        let mut frames = hub.subscribe().0;
        tokio::task::yield_now().await;
        assert!(!speak(&out, 0));
        let (first, second) = (hub.convert(), hub.convert());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(hub.is_converting());
        let mut times = Vec::new();
        for number in 0..10 {
            assert!(speak(&out, number));
            while let Some(frame) = next(&mut frames).await {
                assert_eq!(
                    (frame.track, frame.codec),
                    (Converted::id_of(TRACK), Codec::Opus)
                );
                times.push(frame.time.0);
            }
        }
        assert!(times.len() > 7 && times.windows(2).all(|pair| pair[1] - pair[0] == 960));
        drop(first);
        tokio::time::sleep(LINGER * 2).await;
        assert!(speak(&out, 10));
        drop(second);
        tokio::time::sleep(LINGER / 2).await;
        assert!(speak(&out, 11));
        let third = hub.convert();
        tokio::time::sleep(LINGER * 2).await;
        assert!(speak(&out, 12));
        drop(third);
        tokio::time::sleep(LINGER + Duration::from_millis(1)).await;
        assert!(!speak(&out, 13) && !hub.is_converting());
        drop(out);
        task.await.unwrap();
    }
}
