//! [`Viewer`]: one connection to a browser, without sockets, tasks or clocks: ICE, DTLS, and what is
//! sent when. A [`Fan`](super::fan) drives it.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::{
    media::{Codec, Kind},
    webrtc::{
        answer::STREAM,
        arena::Arena,
        channel::Channels,
        dtls::{self, Dtls},
        ear::Ear,
        estimate::Estimate,
        extension::Stamps,
        feedback::{self, Feedback, Reception},
        history::{Entry, Histories, History},
        ice::{self, Agent, Path},
        lane::{Feed, Lane, Out, Resent},
        srtp::Keys,
        status::{End, State, Status},
    },
};

/// How long the handshake may take once there is a path.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Time between parts of a replay.
const PACE: Duration = Duration::from_millis(2);
/// Packets of one part. On a short way as many as one call takes, about 250 Mbit/s; on a longer one
/// about 90 Mbit/s, and half of it on a long one, and where packets are missing.
const PACE_NEAR: u64 = 56;
const PACE_MIDDLE: u64 = 20;
const PACE_FAR: u64 = 10;
const NEAR: Duration = Duration::from_millis(3);
const FAR: Duration = Duration::from_millis(10);
/// How often a decoder may begin anew by request.
const REPLAY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the status is brought up to date.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// A browser that leaves two questions without an answer, one second apart, counts as silent.
const SILENT: Duration = Duration::from_millis(1_900);
/// For how long a path counts as slow after pictures were left out.
const SLOW_FOR: Duration = Duration::from_secs(5);
/// Packets sent again in one second at most: a viewer must not make us send many times the stream.
const RESENT_MAX: u32 = 2_000;
/// Round trip before any was measured.
const RTT_UNKNOWN: Duration = Duration::from_millis(30);
/// Addresses that a viewer may have been seen at.
const PATHS_MAX: usize = 8;

/// What a viewer needs of its surroundings for one step.
#[derive(Debug)]
pub struct Step<'a> {
    /// The time.
    pub now: Instant,
    /// Any moment before all others.
    pub epoch: Instant,
    /// The wall time at which the hub's clock began.
    pub hub_start: SystemTime,
    /// What can be sent.
    pub histories: &'a Histories,
    /// Where packets are written.
    pub arena: &'a mut Arena,
}

/// One connection to a browser.
#[derive(Debug)]
pub struct Viewer {
    ice: Agent,
    dtls: Dtls,
    keys: Option<Keys>,
    channels: Option<Channels>,
    lanes: Vec<Lane>,
    ear: Option<Ear>,
    /// Addresses that ICE has validated and that lead to this viewer.
    paths: Vec<Path>,
    selected: Option<Path>,
    stamps: Stamps,
    estimate: Estimate,
    born: Instant,
    handshake_until: Option<Instant>,
    next_pace: Option<Instant>,
    next_status: Instant,
    wants_replay: bool,
    replayed: Option<Instant>,
    resent_now: u32,
    /// When pictures were last left out for want of bandwidth.
    slow: Option<Instant>,
    status: Status,
    told: watch::Sender<Status>,
}

impl Viewer {
    /// A viewer that waits for a browser, and may speak to an `ear`. `told` is told of its status.
    #[must_use]
    pub fn new(
        now: Instant,
        ice: Agent,
        dtls: Dtls,
        lanes: Vec<Lane>,
        channels: Option<Channels>,
        ear: Option<Ear>,
        told: watch::Sender<Status>,
    ) -> Self {
        Self {
            ice,
            dtls,
            keys: None,
            channels,
            lanes,
            ear,
            paths: Vec::new(),
            selected: None,
            stamps: Stamps::default(),
            estimate: Estimate::new(now),
            born: now,
            handshake_until: None,
            next_pace: None,
            next_status: now + STATUS_INTERVAL,
            wants_replay: false,
            replayed: None,
            resent_now: 0,
            slow: None,
            status: Status::default(),
            told,
        }
    }

    /// Whether and why it is over.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.status.state {
            State::Ended(end) => Some(end),
            State::Connecting | State::Connected => None,
        }
    }

    /// Addresses that lead to this viewer.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Its ICE agent, for candidates that come later, and restarts.
    pub fn ice(&mut self) -> &mut Agent {
        &mut self.ice
    }

    /// Takes a datagram. Gives the path if it is known by now to lead to this viewer.
    pub fn handle(&mut self, step: &mut Step<'_>, path: Path, datagram: &[u8]) -> Option<Path> {
        // RFC 7983 §7: the first byte tells protocols apart.
        let known = match datagram.first() {
            Some(0..=3) => {
                let leads_here = self.ice.handle(step.now, path, datagram) && self.note(path);
                self.pump(step);
                return leads_here.then_some(path);
            }
            Some(20..=63 | 128..=191) => self.ice.accepts(&path),
            _ => false,
        };
        if !known {
            return None;
        }
        if datagram[0] < 64 {
            for event in self.dtls.handle(step.now, datagram) {
                self.shook(step, event);
                if self.end().is_some() {
                    // Who is not the one of the offer gets nothing more.
                    return None;
                }
            }
        } else if !feedback::is_rtcp(datagram) {
            if let (Some(ear), Some(keys)) = (&mut self.ear, &mut self.keys) {
                ear.take(step.now, &mut keys.control, datagram);
            }
        } else if let Some(keys) = &mut self.keys
            && let Some(compound) = keys.control.open(datagram)
        {
            for feedback in feedback::read(compound) {
                self.heed(step, feedback);
            }
        }
        self.pump(step);
        None
    }

    /// Whether `path` is validated; it is remembered then, if need be instead of the oldest one.
    fn note(&mut self, path: Path) -> bool {
        if !self.ice.accepts(&path) {
            return false;
        }
        if !self.paths.contains(&path) {
            if self.paths.len() >= PATHS_MAX
                && let Some(oldest) = self.paths.iter().position(|p| Some(*p) != self.selected)
            {
                self.paths.remove(oldest);
            }
            self.paths.push(path);
        }
        true
    }

    fn shook(&mut self, step: &mut Step<'_>, event: dtls::Event) {
        match event {
            dtls::Event::Connected(keys) => {
                self.keys = Some(*keys);
                self.handshake_until = None;
                self.status.state = State::Connected;
                self.status.connected_after = Some(step.now - self.born);
                self.publish();
                // The end of our handshake goes first: media before it could not be opened.
                self.pump(step);
                for lane in &mut self.lanes {
                    match step.histories.of(lane.track) {
                        Some(history) => lane.start(history),
                        None => lane.go_live(0),
                    }
                    if lane.feed == Feed::Behind {
                        self.next_pace = Some(step.now);
                        self.replayed = Some(step.now);
                    }
                }
                self.replay(step);
            }
            dtls::Event::Data(data) => {
                if let Some(channels) = &mut self.channels {
                    channels.handle(step.now, data);
                }
            }
            dtls::Event::Closed => self.finish(End::Left),
            dtls::Event::Refused => self.finish(End::Refused),
        }
    }

    fn finish(&mut self, end: End) {
        if self.end().is_none() {
            self.status.state = State::Ended(end);
            self.publish();
        }
    }

    /// Says goodbye and is over.
    pub fn close(&mut self, step: &mut Step<'_>, end: End) {
        self.dtls.close(step.now);
        self.pump(step);
        self.finish(end);
    }

    /// Takes up what ICE, DTLS and the data channels have to say and to send.
    fn pump(&mut self, step: &mut Step<'_>) {
        while let Some(event) = self.ice.poll_event() {
            match event {
                ice::Event::Selected(path) => {
                    if self.selected.is_none() {
                        self.handshake_until = Some(step.now + HANDSHAKE_LIMIT);
                    }
                    self.selected = Some(path);
                    self.status.path = Some(path);
                    self.publish();
                }
                ice::Event::Lost => {
                    let never = self.status.state == State::Connecting;
                    self.finish(if never {
                        End::NeverConnected
                    } else {
                        End::Vanished
                    });
                }
            }
        }
        while let Some((path, datagram)) = self.ice.poll_transmit() {
            step.arena.datagram(path, &datagram);
        }
        if let Some(channels) = &mut self.channels {
            while let Some(data) = channels.poll_transmit(step.now) {
                self.dtls.send(step.now, &data);
            }
        }
        // Without a path yet it waits.
        if let Some(path) = self.selected {
            while let Some(datagram) = self.dtls.poll_transmit() {
                step.arena.datagram(path, &datagram);
            }
        }
    }

    fn heed(&mut self, step: &mut Step<'_>, feedback: Feedback) {
        match feedback {
            Feedback::Lost { ssrc, sequences } => self.resend(step, ssrc, &sequences),
            Feedback::KeyFrame { ssrc } => {
                let of_video = |lane: &Lane| lane.ssrc == ssrc && lane.kind() == Kind::Video;
                if self.lanes.iter().any(of_video) {
                    self.status.key_frame_requests += 1;
                    self.wants_replay = true;
                }
            }
            Feedback::Bitrate(bits) => self.estimate.bitrate(step.now, bits),
            Feedback::Arrivals(arrivals) => {
                let arrived: Vec<_> = arrivals
                    .into_iter()
                    .filter_map(|(number, when)| {
                        let (sent, size) = self.stamps.reported(number)?;
                        Some((sent, size, when?))
                    })
                    .collect();
                self.estimate.arrivals(step.now, step.epoch, &arrived);
            }
            Feedback::Reception(reception) => self.reception(step, reception),
        }
    }

    fn reception(&mut self, step: &Step<'_>, reception: Reception) {
        let now = step.now;
        let Some(lane) = self.lanes.iter().find(|lane| lane.ssrc == reception.ssrc) else {
            return;
        };
        if let Some(trip) = lane.round_trip(now, &reception) {
            self.status.rtt = Some(trip);
            self.estimate.round_trip(now, trip);
        }
        if lane.kind() == Kind::Video || self.lanes.len() == 1 {
            self.status.loss = f32::from(reception.fraction_lost) / 256.0;
            let rate = f64::from(lane.codec.clock_rate());
            self.status.jitter = Duration::from_secs_f64(f64::from(reception.jitter) / rate);
            self.estimate
                .loss(now, reception.total_lost, reception.highest);
            let rtt = self.status.rtt.unwrap_or(RTT_UNKNOWN);
            self.stamps.hold_back(self.estimate.hold_back(rtt));
        }
    }

    fn resend(&mut self, step: &mut Step<'_>, ssrc: u32, sequences: &[u16]) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.selected) else {
            return;
        };
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.ssrc == ssrc) else {
            return;
        };
        let Some(history) = step.histories.of(lane.track) else {
            return;
        };
        let rtt = self.ice.rtt().unwrap_or(RTT_UNKNOWN);
        self.stamps.set(step.now, step.epoch);
        let before = step.arena.bytes.len();
        let mut out = Out {
            arena: step.arena,
            sealer: &mut keys.sealer,
            path,
            stamps: &mut self.stamps,
        };
        for sequence in sequences {
            if self.resent_now >= RESENT_MAX {
                break;
            }
            match lane.resend(*sequence, history, step.now, rtt, &mut out) {
                Resent::Sent => {
                    self.status.resent += 1;
                    self.resent_now += 1;
                }
                Resent::Already => {}
                Resent::Missing => self.status.missed += 1,
            }
        }
        self.estimate
            .sent(step.now, step.arena.bytes.len() - before);
    }

    /// The camera has sent `entry`, which is in `history` already.
    pub fn advance(&mut self, step: &mut Step<'_>, history: &History, entry: &Entry) {
        if self.status.state != State::Connected {
            return;
        }
        let frame = &*entry.frame;
        let Some(place) = self.lanes.iter().position(|lane| lane.track == frame.track) else {
            return;
        };
        if !self.lanes[place].codec.is_like(frame.codec) {
            return self.close(step, End::SourceChanged);
        }
        if self.lanes[place].kind() == Kind::Video {
            self.admit(step.now, place, history, entry);
        }
        if self.lanes[place].feed != Feed::Live {
            return;
        }
        self.send(step, place, history, u64::MAX);
        if frame.part.last {
            self.count_frames(step.now, frame.codec, 1);
        }
        if let Some(report) = self.lanes[place].report(frame, step.hub_start, step.now) {
            let ssrc = self.lanes[place].ssrc;
            if let Some(compound) = feedback::sender_report(ssrc, report, STREAM)
                && let (Some(keys), Some(path)) = (&mut self.keys, self.selected)
                && let Some(sealed) = keys.control.seal(&compound)
            {
                step.arena.datagram(path, &sealed);
            }
        }
    }

    /// Decides at the beginning of a picture whether it is sent.
    fn admit(&mut self, now: Instant, place: usize, history: &History, entry: &Entry) {
        if !entry.frame.part.first {
            return;
        }
        if entry.frame.random_access {
            self.estimate.compare(history.bitrate());
        }
        let lane = &mut self.lanes[place];
        match lane.feed {
            // A replay ends here too: what is left of it is late, and about to be forgotten.
            Feed::Closed | Feed::Behind
                if entry.frame.random_access && self.estimate.admits(now) =>
            {
                lane.go_live(entry.first);
                self.wants_replay = false;
            }
            Feed::Behind => {}
            Feed::Closed => {
                self.status.skipped += 1;
                if entry.frame.random_access {
                    self.slow = Some(now);
                }
            }
            Feed::Live => {
                if !self.estimate.admits(now) {
                    // Whole pictures, up to one from which a decoder can go on.
                    lane.feed = Feed::Closed;
                    self.status.skipped += 1;
                    self.slow = Some(now);
                } else if self.wants_replay
                    && self
                        .replayed
                        .is_none_or(|last| last + REPLAY_INTERVAL <= now)
                {
                    self.wants_replay = false;
                    if !entry.frame.random_access {
                        self.replayed = Some(now);
                        lane.replay(history);
                        self.next_pace = (lane.feed == Feed::Behind).then_some(now);
                    }
                }
            }
        }
    }

    /// Sends up to `limit` packets of a lane; gives how many.
    fn send(&mut self, step: &mut Step<'_>, place: usize, history: &History, limit: u64) -> u64 {
        let (Some(keys), Some(path)) = (&mut self.keys, self.selected) else {
            return 0;
        };
        self.stamps.set(step.now, step.epoch);
        let before = step.arena.bytes.len();
        let mut out = Out {
            arena: step.arena,
            sealer: &mut keys.sealer,
            path,
            stamps: &mut self.stamps,
        };
        let lane = &mut self.lanes[place];
        let sent = lane.send(history, limit, &mut out).unwrap_or_else(|| {
            // The camera has gone on too far meanwhile.
            lane.feed = Feed::Closed;
            0
        });
        self.estimate
            .sent(step.now, step.arena.bytes.len() - before);
        sent
    }

    /// Sends the next part of every replay that is due.
    fn replay(&mut self, step: &mut Step<'_>) {
        if self.next_pace.is_none_or(|due| due > step.now) {
            return;
        }
        self.next_pace = None;
        let limit = match self.ice.rtt() {
            _ if self.status.resent > 0 => PACE_FAR,
            Some(rtt) if rtt < NEAR => PACE_NEAR,
            Some(rtt) if rtt > FAR => PACE_FAR,
            _ => PACE_MIDDLE,
        };
        for place in 0..self.lanes.len() {
            let lane = &self.lanes[place];
            if lane.feed != Feed::Behind {
                continue;
            }
            let Some(history) = step.histories.of(lane.track) else {
                continue;
            };
            let codec = lane.codec;
            self.send(step, place, history, limit);
            let lane = &mut self.lanes[place];
            if lane.feed == Feed::Behind && lane.has_caught_up(history) {
                lane.go_live(history.end());
                self.count_frames(step.now, codec, 1);
            } else if lane.feed == Feed::Behind {
                self.next_pace = Some(step.now + PACE);
            }
        }
    }

    fn count_frames(&mut self, now: Instant, codec: Codec, frames: u64) {
        self.status.frames += frames;
        let has_video = self.lanes.iter().any(|lane| lane.kind() == Kind::Video);
        let counts = if has_video { Kind::Video } else { Kind::Audio };
        if codec.kind() == counts && self.status.first_frame_after.is_none() {
            self.status.first_frame_after = Some(now - self.born);
        }
    }

    /// Frames of the camera were missed, or packets could not be handed over: pictures go on with the
    /// next key frame.
    pub fn lose_place(&mut self) {
        for lane in &mut self.lanes {
            if lane.kind() == Kind::Video && lane.feed != Feed::Closed {
                lane.feed = Feed::Closed;
                self.status.skipped += 1;
            }
        }
    }

    /// Sound goes on at the live edge after frames were missed.
    pub fn resume(&mut self, histories: &Histories) {
        self.lose_place();
        for lane in &mut self.lanes {
            if lane.kind() == Kind::Audio
                && lane.feed == Feed::Live
                && let Some(history) = histories.of(lane.track)
            {
                lane.go_live(history.end());
            }
        }
    }

    /// When the next part of a replay is due.
    #[must_use]
    pub fn next_pace(&self) -> Option<Instant> {
        self.next_pace
    }

    /// When [`Viewer::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        [
            self.ice.next_timeout(),
            self.dtls.next_timeout(),
            self.channels.as_ref().and_then(Channels::next_timeout),
            self.handshake_until,
            self.next_pace,
        ]
        .into_iter()
        .flatten()
        .fold(self.next_status, Instant::min)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, step: &mut Step<'_>) {
        self.ice.handle_timeout(step.now);
        self.dtls.handle_timeout(step.now);
        if let Some(channels) = &mut self.channels {
            channels.handle_timeout(step.now);
        }
        self.pump(step);
        if self.handshake_until.is_some_and(|until| until <= step.now) {
            return self.finish(End::Refused);
        }
        if self.next_status <= step.now {
            if self.told.is_closed() {
                return self.close(step, End::Stopped);
            }
            self.next_status = step.now + STATUS_INTERVAL;
            self.resent_now = 0;
            self.status.is_silent = self.ice.unanswered(step.now) >= SILENT;
            self.status.is_slow = self.slow.is_some_and(|slow| slow + SLOW_FOR > step.now);
            if let Some(ear) = &self.ear {
                self.status.speech = ear.heard(step.now);
            }
            self.publish();
        }
        if self.status.state == State::Connected {
            self.replay(step);
        }
    }

    fn publish(&mut self) {
        self.status.rtt = self.ice.rtt().or(self.status.rtt);
        self.status.limit = self.estimate.limit();
        let sent = self.lanes.iter().map(Lane::sent);
        (self.status.packets, self.status.bytes) =
            sent.fold((0, 0), |(p, b), (packets, bytes)| (p + packets, b + bytes));
        self.told.send_replace(self.status);
    }
}
