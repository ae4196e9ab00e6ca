//! One connection of a scripted camera: one task from accept to close.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Power, Seen,
    answer::{self, Desk},
    media::{Media, Packet, Random, Way},
    message::{Inbox, Request},
    packing,
    quirk::Quirk,
    script::{Camera, Script, Step, Until},
    wire::Wire,
};

/// A connection and its place in the script.
pub(super) struct Connection {
    pub(super) wire: Box<dyn Wire>,
    pub(super) number: usize,
    /// The two ends.
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) seen: Arc<Seen>,
}

struct Play {
    connection: Connection,
    inbox: Inbox,
    /// Of the description that was served last.
    media: Option<Media>,
    /// From PLAY on, until TEARDOWN.
    playing: Option<Playing>,
    /// How many bytes the present step may still send, if that is limited.
    allowance: Option<usize>,
    /// How many RTP packets the present step has sent.
    packets: usize,
}

struct Playing {
    ticks: Interval,
    since: Instant,
    /// The number of the frame that was due then.
    first: u32,
    pace: Duration,
    /// The last sign of life.
    heard: Instant,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Gone,
}

impl Connection {
    /// Does the steps of `script` and closes. A peer that goes or talks nonsense ends it early, and so
    /// does the end of power, by a reset.
    pub(super) async fn play(self, script: Script, mut power: watch::Receiver<Power>) {
        let (seen, number) = (Arc::clone(&self.seen), self.number);
        seen.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(Arc::clone(&seen), number);
        let mut play = Play {
            inbox: Inbox::new(number),
            connection: self,
            media: None,
            playing: None,
            allowance: None,
            packets: 0,
        };
        {
            let mut steps = std::pin::pin!(play.steps(script));
            while is_on(&mut power).await {
                tokio::select! {
                    biased;
                    changed = power.changed() => if changed.is_err() {
                        return;
                    },
                    () = &mut steps => return,
                }
            }
        }
        let _ = play.connection.wire.cut();
    }
}

/// Waits while nothing moves. False when there is no power any more.
async fn is_on(power: &mut watch::Receiver<Power>) -> bool {
    let awake = power.wait_for(|power| *power != Power::Frozen).await;
    awake.is_ok_and(|power| *power == Power::On)
}

/// Counts a connection as open as long as it lives.
struct Open(Arc<Seen>, usize);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        if let Some((owner, ended @ None)) = &mut *self.0.session()
            && *owner == self.1
        {
            *ended = Some(Instant::now());
        }
    }
}

impl Play {
    async fn steps(&mut self, script: Script) {
        for (index, step) in script.0.into_iter().enumerate() {
            self.connection.seen.begin(self.connection.number, index);
            if !matches!(self.take(step).await, Ok(Then::Next)) {
                break;
            }
        }
    }

    async fn take(&mut self, step: Step) -> io::Result<Then> {
        match step {
            Step::Serve(camera, until) => return self.serve_until(&camera, until).await,
            Step::Say(bytes) => self.say(&bytes).await?,
            Step::Garbage(length) => {
                let mut random = Random(0xBAD);
                let bytes = (0..length).map(|_| u8::try_from(random.below(256)).unwrap_or(0));
                self.say(&bytes.collect::<Vec<_>>()).await?;
            }
            Step::Ask(method) => self.say(&answer::question(method)).await?,
            Step::Bye => {
                let goodbyes = self.media.as_ref().map(|media| media.rtcp(packing::bye));
                self.send(&goodbyes.unwrap_or_default()).await?;
            }
            Step::Jump(jump) => {
                if let Some(media) = &mut self.media {
                    media.jump(jump);
                }
            }
            Step::Wait(time) => sleep(time).await,
            Step::Listen => {
                if !self.inbox.listen(&mut *self.connection.wire).await? {
                    return Ok(Then::Gone);
                }
            }
            Step::Stall => {
                while self.inbox.listen(&mut *self.connection.wire).await? {}
                return Ok(Then::Gone);
            }
            Step::HalfClose => self.connection.wire.shutdown().await?,
            Step::Reset => {
                self.connection.wire.cut()?;
                return Ok(Then::Gone);
            }
        }
        Ok(Then::Next)
    }

    async fn serve_until(&mut self, camera: &Camera, until: Until) -> io::Result<Then> {
        let (mut requests, mut frames, mut packets) = (usize::MAX, usize::MAX, usize::MAX);
        let mut time = Duration::MAX;
        match until {
            Until::Gone => {}
            Until::Requests(limit) => requests = limit,
            Until::Frames(limit) => frames = limit,
            Until::Packets(limit) => packets = limit,
            Until::Bytes(limit) => self.allowance = Some(limit),
            Until::Elapsed(limit) => time = limit,
        }
        self.packets = 0;
        let (mut answered, mut sent) = (0, 0);
        let serve = async {
            while answered < requests && sent < frames && self.packets < packets {
                match self.event(camera).await? {
                    Event::Gone => return Ok(Then::Gone),
                    Event::Answered => answered += 1,
                    Event::Sent => sent += 1,
                    Event::Exhausted => break,
                }
            }
            Ok(Then::Next)
        };
        let served = timeout(time, serve).await;
        self.allowance = None;
        served.unwrap_or(Ok(Then::Next))
    }

    /// Answers the next request or sends the next frame, whichever comes first.
    async fn event(&mut self, camera: &Camera) -> io::Result<Event> {
        let media = self.media.get_or_insert_with(|| Media::of(&camera.sdp));
        let has_frames = media.frames < camera.frames;
        let patience = answer::patience(camera).zip(self.playing.as_ref());
        let lost = patience.map(|(patience, playing)| playing.heard + patience);
        let tick = async {
            match &mut self.playing {
                Some(playing) if has_frames => playing.ticks.tick().await,
                _ => std::future::pending().await,
            }
        };
        let patience = async {
            match lost {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = self.inbox.request(&mut *self.connection.wire) => match request? {
                Some(request) => self.answer(camera, request).await,
                None => Ok(Event::Gone),
            },
            () = patience => Ok(Event::Gone),
            at = tick => {
                let slot = self.playing.as_ref().map_or(0, |playing| playing.slot(at));
                if let Ok(more) = self.send_frame(camera, slot).await {
                    return Ok(if more { Event::Sent } else { Event::Exhausted });
                }
                // The peer has closed; its TEARDOWN may still be here to be read.
                self.playing = None;
                Ok(Event::Sent)
            }
        }
    }

    async fn answer(&mut self, camera: &Camera, mut request: Request) -> io::Result<Event> {
        let Some(media) = &mut self.media else {
            return Ok(Event::Gone);
        };
        let connection = &self.connection;
        let mut desk = Desk {
            camera,
            media,
            local: connection.local,
            peer: connection.peer,
            seen: &connection.seen,
        };
        let reply = desk.reply(&mut request).await;
        let method = request.method.clone();
        let plays = method == "PLAY" && request.status == 200;
        let is_life = answer::is_sign_of_life(camera, &request);
        let has_begun = self.playing.is_some();
        connection.seen.record(request);
        match &mut self.playing {
            Some(playing) if is_life => playing.heard = Instant::now(),
            _ => {}
        }
        if method == "TEARDOWN" || method == "PAUSE" {
            self.playing = None;
        }
        sleep(camera.delay).await;
        let is_ignored = matches!(method.as_str(), "OPTIONS" | "GET_PARAMETER")
            && has_begun
            && camera.has(Quirk::IgnoresKeepalives);
        if is_ignored {
            return Ok(Event::Answered);
        }
        let early = camera.quirks.iter().fold(0, early);
        if plays {
            for slot in 0..early {
                self.send_frame(camera, slot).await?;
            }
        }
        if matches!(method.as_str(), "SETUP" | "PLAY") {
            self.send_old(camera).await?;
        }
        let more = self.write(&reply).await?;
        if plays {
            self.playing = Some(Playing::at(camera.pace, early));
            self.send_old(camera).await?;
        }
        Ok(if more {
            Event::Answered
        } else {
            Event::Exhausted
        })
    }

    /// False when the allowance is used up.
    async fn send_frame(&mut self, camera: &Camera, slot: u32) -> io::Result<bool> {
        let packets = self.media.as_mut().map(|media| media.next(camera, slot));
        self.send(&packets.unwrap_or_default()).await
    }

    async fn send_old(&mut self, camera: &Camera) -> io::Result<()> {
        let mut packets = Vec::new();
        for quirk in &camera.quirks {
            if let (Quirk::OldSession(count), Some(media)) = (quirk, &self.media) {
                packets.extend((0..*count).map(|number| Packet {
                    track: 0,
                    is_rtcp: false,
                    bytes: media.tracks[0].old_packet(number),
                }));
            }
        }
        self.send(&packets).await.map(|_| ())
    }

    /// Sends packets the way that was set up for them. False when the allowance is used up.
    async fn send(&mut self, packets: &[Packet]) -> io::Result<bool> {
        let mut interleaved = Vec::new();
        let Some(media) = &self.media else {
            return Ok(true);
        };
        for packet in packets {
            self.packets += usize::from(!packet.is_rtcp);
            let place = usize::from(packet.is_rtcp);
            match media.tracks[packet.track]
                .setup
                .as_ref()
                .map(|(_, way)| way)
            {
                Some(Way::Channel(channel)) => {
                    let length = u16::try_from(packet.bytes.len()).expect("packets have 16 bits");
                    let channel = channel.wrapping_add(u8::from(packet.is_rtcp));
                    interleaved.extend([b'$', channel]);
                    interleaved.extend(length.to_be_bytes());
                    interleaved.extend(&packet.bytes);
                }
                Some(Way::Ports(sockets, to)) => {
                    // Where nobody listens any more, the kernel says so with the next packet.
                    let _ = sockets[place].send_to(&packet.bytes, to[place]).await;
                }
                Some(Way::Nowhere) | None => {}
            }
        }
        if interleaved.is_empty() {
            return Ok(true);
        }
        self.write(&interleaved).await
    }

    /// Sends what the allowance permits. False when that is used up.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let length = self
            .allowance
            .map_or(bytes.len(), |left| left.min(bytes.len()));
        self.say(&bytes[..length]).await?;
        self.allowance = self.allowance.map(|left| left - length);
        Ok(self.allowance != Some(0))
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.wire.write_all(bytes).await?;
        self.connection.wire.flush().await
    }
}

/// What happened on a connection that serves.
enum Event {
    Answered,
    Sent,
    /// The allowance is used up.
    Exhausted,
    Gone,
}

impl Playing {
    fn at(pace: Duration, first: u32) -> Self {
        let mut ticks = interval(pace);
        // What a camera cannot send in time it does not send at all.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let now = Instant::now();
        Self {
            ticks,
            since: now,
            first,
            pace,
            heard: now,
        }
    }

    /// How many frames were due before `at`.
    fn slot(&self, at: Instant) -> u32 {
        let elapsed = at.saturating_duration_since(self.since) + self.pace / 2;
        let due = elapsed.as_nanos() / self.pace.as_nanos();
        self.first + u32::try_from(due).unwrap_or(0)
    }
}

/// Frames that are sent before PLAY is answered.
fn early(most: u32, quirk: &Quirk) -> u32 {
    match quirk {
        Quirk::FramesBeforePlay(count) => *count,
        _ => most,
    }
}
