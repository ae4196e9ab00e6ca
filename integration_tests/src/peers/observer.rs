//! [`Observer`]: a viewer that stays, and tells when each picture came and whether it was whole.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, net::Protocol, net::Receive};
use str0m::{
    change::SdpAnswer,
    media::{Direction, MediaKind},
    rtp::RtpPacket,
};
use tokio::{net::UdpSocket, sync::Notify, task::JoinSet, time::Instant};

use crate::{
    scripted::{Checker, Size},
    server::{Reply, Server, answer_of},
};

/// A viewer of one [`ScriptedCamera`](crate::scripted::ScriptedCamera)'s picture, on str0m; dropped, it
/// vanishes without a word.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    leaving: Arc<Notify>,
    running: JoinSet<()>,
}

/// A picture that came whole.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// When its last packet came.
    pub at: Instant,
    /// Its RTP time, without wrap.
    pub time: i64,
    /// What the camera drew.
    pub size: Size,
}

/// What came until now.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Pictures that a decoder shows as the camera sent them, in order.
    pub shown: Vec<Shown>,
    /// What is wrong with the rest: numbers that jump, pictures that a decoder would show broken.
    pub faults: Vec<String>,
    /// Bytes of the largest RTP payload.
    pub largest: usize,
    /// Packets of sound.
    pub sounds: Vec<Instant>,
    /// When the connection ended, if it did.
    pub ended: Option<Instant>,
}

impl Observer {
    /// Offers to watch a camera, with sound if it `has_sound`: str0m takes no refusal of a section.
    ///
    /// # Errors
    /// The server's refusal.
    ///
    /// # Panics
    /// When str0m does not understand the answer.
    pub async fn watch(server: &Server, camera: &str, has_sound: bool) -> Result<Self, Reply> {
        let mut rtc = Box::new(
            RtcConfig::new()
                .set_rtp_mode(true)
                .enable_pcma(true, false)
                .build(std::time::Instant::now()),
        );
        let socket = UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        rtc.add_local_candidate(
            Candidate::host(address, Protocol::Udp).expect("an address of this machine"),
        );
        let mut changes = rtc.sdp_api();
        let video = changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        if has_sound {
            changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = changes.apply().expect("sections were added");
        let reply = server.offer(camera, &offer.to_sdp_string()).await;
        if reply.status != 200 {
            return Err(reply);
        }
        let answer = answer_of(&reply);
        let answer = SdpAnswer::from_sdp_string(&answer)
            .unwrap_or_else(|e| panic!("str0m cannot read the answer: {e}\n{answer}"));
        rtc.sdp_api()
            .accept_answer(pending, answer)
            .expect("the answer fits the offer");
        let seen = Arc::<Mutex<Seen>>::default();
        let leaving = Arc::<Notify>::default();
        let viewer = Viewer {
            rtc,
            socket,
            is_video: Box::new(move |mid| mid == video),
            pictures: Pictures::default(),
            seen: Arc::clone(&seen),
        };
        let mut running = JoinSet::new();
        running.spawn(viewer.run(Arc::clone(&leaving)));
        Ok(Self {
            seen,
            leaving,
            running,
        })
    }

    /// Says goodbye, as a browser does whose page is closed.
    pub async fn leave(mut self) {
        self.leaving.notify_one();
        while self.running.join_next().await.is_some() {}
    }

    /// What came until now.
    ///
    /// # Panics
    /// When the viewer has panicked.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("the viewer does not panic").clone()
    }

    /// Waits for a picture that came after `start`, and gives its time. None if it does not come within
    /// `limit` from now.
    ///
    /// # Panics
    /// When the viewer has panicked.
    pub async fn picture_after(&self, start: Instant, limit: Duration) -> Option<Instant> {
        let end = Instant::now() + limit;
        loop {
            let found = {
                let seen = self.seen.lock().expect("the viewer does not panic");
                let later = seen.shown.iter().find(|shown| shown.at > start);
                later.map(|shown| shown.at)
            };
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Seen {
    /// The longest time without a picture between `start` and `end`.
    #[must_use]
    pub fn longest_gap(&self, start: Instant, end: Instant) -> Duration {
        let mut last = start;
        let mut longest = Duration::ZERO;
        let times = self.shown.iter().map(|shown| shown.at);
        for at in times.filter(|at| *at > start && *at < end).chain([end]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }

    /// How far RTP time has gone ahead of the clock or stayed behind it, from the first picture to the
    /// last.
    #[must_use]
    pub fn drift(&self) -> Duration {
        let Some((first, last)) = self.shown.first().zip(self.shown.last()) else {
            return Duration::ZERO;
        };
        let ticks = u64::try_from(last.time - first.time).unwrap_or(0);
        Duration::from_micros(ticks * 100 / 9).abs_diff(last.at - first.at)
    }
}

struct Viewer {
    rtc: Box<Rtc>,
    socket: UdpSocket,
    is_video: Box<dyn Fn(str0m::media::Mid) -> bool + Send>,
    pictures: Pictures,
    seen: Arc<Mutex<Seen>>,
}

impl Viewer {
    async fn run(mut self, leaving: Arc<Notify>) {
        let mut buffer = vec![0; 2000];
        let local = self
            .socket
            .local_addr()
            .expect("a bound socket has an address");
        while self.rtc.is_alive() {
            let wake = self.drain().await;
            let receive = self.socket.recv_from(&mut buffer);
            let received = tokio::select! {
                received = tokio::time::timeout_at(wake.into(), receive) => received,
                () = leaving.notified() => {
                    let _ = self.rtc.close();
                    self.drain().await;
                    break;
                }
            };
            let now = std::time::Instant::now();
            let input = match received {
                Ok(Ok((length, source))) => {
                    match Receive::new(Protocol::Udp, source, local, &buffer[..length]) {
                        Ok(datagram) => Input::Receive(now, datagram),
                        Err(_) => continue,
                    }
                }
                Ok(Err(_)) | Err(_) => Input::Timeout(now),
            };
            if self.rtc.handle_input(input).is_err() {
                break;
            }
        }
        self.seen().ended = Some(Instant::now());
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("the test does not panic with it")
    }

    /// Does everything that str0m wants done, and tells when it wants to be asked again.
    async fn drain(&mut self) -> std::time::Instant {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => return at,
                Ok(Output::Transmit(transmit)) => {
                    let sent = self
                        .socket
                        .send_to(&transmit.contents, transmit.destination);
                    // A port that is closed already is no reason to stop.
                    drop(sent.await);
                }
                Ok(Output::Event(Event::RtpPacket(packet))) => self.take(&packet),
                Ok(Output::Event(_)) => {}
                Err(e) => {
                    self.seen().faults.push(format!("str0m: {e}"));
                    self.rtc.disconnect();
                    return std::time::Instant::now();
                }
            }
        }
    }

    fn take(&mut self, packet: &RtpPacket) {
        let mid = packet.header.ext_vals.mid;
        let mid = mid.or_else(|| {
            let mut api = self.rtc.direct_api();
            Some(api.stream_rx(&packet.header.ssrc)?.mid())
        });
        if mid.is_some_and(|mid| (self.is_video)(mid)) {
            let mut seen = self.seen.lock().expect("the test does not panic with it");
            self.pictures.take(packet, &mut seen);
        } else {
            self.seen().sounds.push(Instant::now());
        }
    }
}

/// Makes pictures of the packets of one track.
#[derive(Default)]
struct Pictures {
    ssrc: Option<u32>,
    /// Packets that came before those that they follow, by their number without wrap.
    waiting: BTreeMap<i64, (bool, i64, Vec<u8>)>,
    next: Option<i64>,
    units: Vec<Vec<u8>>,
    fragment: Vec<u8>,
    /// Of the last picture.
    time: Option<i64>,
    checker: Checker,
}

/// Packets that a missing one is waited for.
const PATIENCE: usize = 100;

impl Pictures {
    fn take(&mut self, packet: &RtpPacket, seen: &mut Seen) {
        let header = &packet.header;
        let ssrc = *self.ssrc.get_or_insert(*header.ssrc);
        if ssrc != *header.ssrc {
            seen.faults.push("another synchronization source".into());
            self.ssrc = Some(*header.ssrc);
        }
        let number = i64::try_from(*packet.seq_no).unwrap_or(i64::MAX);
        let time = i64::try_from(packet.time.numer()).unwrap_or(i64::MAX);
        let next = *self.next.get_or_insert(number);
        if number < next {
            return;
        }
        seen.largest = seen.largest.max(packet.payload.len());
        let content = (header.marker, time, packet.payload.to_vec());
        self.waiting.insert(number, content);
        if self.waiting.len() > PATIENCE {
            let first = *self.waiting.keys().next().expect("there are many");
            let missing = first - next;
            seen.faults
                .push(format!("{missing} sequence numbers missing"));
            self.next = Some(first);
            self.units.clear();
        }
        while let Some(next) = self.next
            && let Some((marker, time, payload)) = self.waiting.remove(&next)
        {
            self.next = Some(next + 1);
            self.unpack(&payload);
            if marker {
                self.finish(time, seen);
            }
        }
    }

    fn finish(&mut self, time: i64, seen: &mut Seen) {
        if let Some(last) = self.time.replace(time)
            && time <= last
        {
            let back = last - time;
            seen.faults.push(format!("time goes back by {back} ticks"));
        }
        match self.checker.take(&std::mem::take(&mut self.units)) {
            Ok(Some(size)) => seen.shown.push(Shown {
                at: Instant::now(),
                time,
                size,
            }),
            Ok(None) => {}
            Err(fault) => seen.faults.push(fault),
        }
    }

    /// The NAL units of a payload (RFC 6184 §5.2): one, several, or a piece of one.
    fn unpack(&mut self, payload: &[u8]) {
        match payload {
            [header, rest @ ..] if header & 0x1F == 24 => {
                let mut rest = rest;
                while let Some((length, more)) = rest.split_first_chunk() {
                    let length = usize::from(u16::from_be_bytes(*length)).min(more.len());
                    let (unit, more) = more.split_at(length);
                    self.units.push(unit.to_vec());
                    rest = more;
                }
            }
            [indicator, header, rest @ ..] if indicator & 0x1F == 28 => {
                if header & 0x80 != 0 {
                    self.fragment = vec![indicator & 0xE0 | header & 0x1F];
                }
                self.fragment.extend(rest);
                if header & 0x40 != 0 {
                    self.units.push(std::mem::take(&mut self.fragment));
                }
            }
            [] => {}
            unit => self.units.push(unit.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(start: Instant, millis: &[u64], ticks: &[i64]) -> Seen {
        let shown = millis.iter().zip(ticks).map(|(at, time)| Shown {
            at: start + Duration::from_millis(*at),
            time: *time,
            size: Size::Dot,
        });
        Seen {
            shown: shown.collect(),
            ..Seen::default()
        }
    }

    #[test]
    fn gaps_are_counted_from_the_fault_to_the_end() {
        let start = Instant::now();
        let seen = seen(start, &[0, 100, 900, 1_000], &[0, 9_000, 81_000, 90_000]);
        let at = |millis| start + Duration::from_millis(millis);
        for (from, to, gap) in [
            (0, 1_050, 800),
            (300, 1_050, 600),
            (950, 1_050, 50),
            (950, 3_000, 2_000),
        ] {
            let expected = Duration::from_millis(gap);
            assert_eq!(
                seen.longest_gap(at(from), at(to)),
                expected,
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn time_that_runs_away_is_seen() {
        let start = Instant::now();
        let drift = |ticks: &[i64]| seen(start, &[0, 500, 1_000], ticks).drift().as_millis();
        assert_eq!(drift(&[7, 45_007, 90_007]), 0);
        assert_eq!(drift(&[0, 0, 0]), 1_000);
        assert_eq!(drift(&[0, 45_000, 270_000]), 2_000);
        assert_eq!(Seen::default().drift(), Duration::ZERO);
    }

    #[test]
    fn units_come_out_of_packets_as_they_went_in() {
        let mut pictures = Pictures::default();
        for payload in [
            &[0x67, 1][..],
            &[0x78, 0, 2, 0x67, 2, 0, 1, 0x68],
            &[0x7C, 0x85, 3],
            &[0x7C, 0x05, 4],
            &[0x7C, 0x45, 5],
            &[],
        ] {
            pictures.unpack(payload);
        }
        let expected: [&[u8]; 4] = [&[0x67, 1], &[0x67, 2], &[0x68], &[0x65, 3, 4, 5]];
        assert_eq!(pictures.units, expected);
    }
}
