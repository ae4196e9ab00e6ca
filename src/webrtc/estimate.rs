//! [`Estimate`]: what a viewer's path takes, by what the viewer reports, and which pictures are left out
//! when that is less than the camera sends.
//!
//! A path that takes everything is never measured, and browsers guess low for many seconds. So their
//! guesses count only while there are signs of a path that is full: heavy loss, or packets that wait
//! in a queue. Loss alone, as on a bad radio link, is repaired and sets no limit below a tenth.

use std::time::{Duration, Instant};

/// A path is too slow below this part of what is sent to it.
const TOO_SLOW: f64 = 0.85;
/// Loss that repair does not outweigh any more, as congestion control of browsers has it.
const LOSS_MAX: f64 = 0.10;
/// Loss at which more may be tried.
const LOSS_FINE: f64 = 0.02;
/// Packets that wait so much longer than others wait in a queue that grows.
const QUEUE_MAX: Duration = Duration::from_millis(250);
const QUEUE_FINE: Duration = Duration::from_millis(60);
/// How long a sign of a full path is believed.
const SIGN: Duration = Duration::from_secs(3);
/// How fast a limit is lifted, per second.
const GROWTH: f64 = 1.15;
/// The lowest limit: sound, and a key frame now and then.
const FLOOR: f64 = 64_000.0;
/// Over which time rates are measured.
const WINDOW: Duration = Duration::from_secs(1);
/// What is remembered of a loss after a report without one.
const FADING: f64 = 0.8;
/// Loss for which pictures are held back, and for which they are held back longer.
const LOSS_SEEN: f64 = 0.003;
const LOSS_OFTEN: f64 = 0.03;
/// How long a browser takes to see that a packet is missing, and to ask again if nothing came.
const SEEN_AFTER: Duration = Duration::from_millis(60);
const ASKS_AGAIN: Duration = Duration::from_millis(120);
/// Packets of which the loss is a measure.
const PACKETS_MIN: u32 = 50;
/// How much may be sent at once after a pause.
const DEPTH: f64 = 0.5;

/// What one viewer's path takes.
#[derive(Debug)]
pub struct Estimate {
    /// In bits per second; none while the path takes everything.
    limit: Option<f64>,
    /// Bits that may be sent.
    credit: f64,
    credited: Instant,
    window: Instant,
    window_bits: f64,
    /// Bits per second sent of late.
    rate: f64,
    /// Complaints in a row.
    complaints: u32,
    raised: Instant,
    /// When there was last a sign of a full path.
    sign: Option<Instant>,
    /// Part of the packets lost, as it was of late.
    lost: f64,
    /// The last report that was heeded: when, packets lost, highest sequence number.
    reported: Option<(Instant, u32, u32)>,
    /// The shortest round trip of late, and when it was seen.
    shortest_trip: Option<(Duration, Instant)>,
    /// The shortest way of late, in microseconds between the two clocks, and when it was seen.
    shortest: Option<(i64, Instant)>,
}

impl Estimate {
    /// No limit.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            limit: None,
            credit: 0.0,
            credited: now,
            window: now,
            window_bits: 0.0,
            rate: 0.0,
            complaints: 0,
            raised: now,
            sign: None,
            lost: 0.0,
            reported: None,
            shortest_trip: None,
            shortest: None,
        }
    }

    /// What the path takes, in bits per second; none while it takes everything.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// How long pictures should be held back so that lost packets come in time, with a round trip of
    /// `rtt`: nothing where nothing is lost; else for one request that is lost too, or two.
    #[must_use]
    pub fn hold_back(&self, rtt: Duration) -> Duration {
        if self.lost < LOSS_SEEN {
            return Duration::ZERO;
        }
        let rounds = if self.lost < LOSS_OFTEN { 1 } else { 2 };
        SEEN_AFTER + rtt + ASKS_AGAIN.max(rtt) * rounds
    }

    /// This much was sent.
    pub fn sent(&mut self, now: Instant, bytes: usize) {
        let bits = bits(bytes);
        self.window_bits += bits;
        self.credit -= bits;
        let elapsed = now.saturating_duration_since(self.window);
        if elapsed >= WINDOW {
            self.rate = self.window_bits / elapsed.as_secs_f64();
            self.window_bits = 0.0;
            self.window = now;
        }
    }

    /// Whether another picture may begin.
    pub fn admits(&mut self, now: Instant) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        let elapsed = now.saturating_duration_since(self.credited).as_secs_f64();
        self.credited = now;
        // Debts are forgotten too: a key frame may be larger than all credit.
        self.credit = (self.credit + elapsed * limit).clamp(-4.0 * limit, DEPTH * limit);
        self.credit > 0.0
    }

    /// The viewer's own estimate.
    pub fn bitrate(&mut self, now: Instant, bits_per_second: f32) {
        let told = f64::from(bits_per_second);
        let is_full = self.sign.is_some_and(|sign| sign + SIGN > now);
        if is_full && told < self.limit.unwrap_or(self.rate * TOO_SLOW) {
            self.complain(now, told);
        }
    }

    /// A round trip, by a report of the viewer.
    pub fn round_trip(&mut self, now: Instant, trip: Duration) {
        let shortest = match self.shortest_trip {
            Some((shortest, seen)) if seen + WINDOW * 30 > now && shortest <= trip => shortest,
            _ => {
                self.shortest_trip = Some((trip, now));
                trip
            }
        };
        if trip > shortest + QUEUE_MAX {
            self.sign = Some(now);
            // Until the queue is shorter, less than it takes.
            self.complain(now, self.limit.unwrap_or(self.rate) * TOO_SLOW);
        }
    }

    /// A receiver report: packets lost until now, and the highest sequence number. Browsers report
    /// whenever they have something to ask, so a single report may be about a handful of packets.
    pub fn loss(&mut self, now: Instant, total: u32, highest: u32) {
        let Some((since, lost_before, highest_before)) = self.reported else {
            self.reported = Some((now, total, highest));
            return;
        };
        let packets = highest.wrapping_sub(highest_before);
        if since + WINDOW > now || packets < PACKETS_MIN {
            return;
        }
        self.reported = Some((now, total, highest));
        let lost = f64::from(total.saturating_sub(lost_before)) / f64::from(packets);
        self.lost = lost.max(self.lost * FADING);
        if lost > LOSS_MAX {
            self.sign = Some(now);
            self.complain(now, self.rate * (1.0 - lost));
        } else if lost < LOSS_FINE {
            self.relax(now);
        }
    }

    /// Packets arrived: when each was sent, its size, and when it arrived on the viewer's clock in
    /// microseconds. `epoch` is any moment in the past.
    pub fn arrivals(&mut self, now: Instant, epoch: Instant, packets: &[(Instant, u16, i64)]) {
        let (Some(first), Some(last)) = (packets.first(), packets.last()) else {
            return;
        };
        let way = |(sent, _, arrived): &(Instant, u16, i64)| {
            let sent = sent.saturating_duration_since(epoch).as_micros();
            arrived - i64::try_from(sent).unwrap_or(i64::MAX)
        };
        let (first_way, last_way) = (way(first), way(last));
        let shortest = match self.shortest {
            // Clocks drift apart: the past is forgotten.
            Some((shortest, seen)) if seen + WINDOW * 10 > now && shortest <= last_way => shortest,
            _ => {
                self.shortest = Some((last_way.min(first_way), now));
                last_way.min(first_way)
            }
        };
        let queue = Duration::from_micros(u64::try_from(last_way - shortest).unwrap_or(0));
        let seconds = Duration::from_micros(u64::try_from(last.2 - first.2).unwrap_or(0));
        if queue > QUEUE_MAX && seconds > Duration::from_millis(20) {
            let bytes: usize = packets[1..]
                .iter()
                .map(|(_, size, _)| usize::from(*size))
                .sum();
            self.complain(now, TOO_SLOW * bits(bytes) / seconds.as_secs_f64());
        } else if queue < QUEUE_FINE {
            self.complaints = 0;
            self.relax(now);
        }
    }

    fn complain(&mut self, now: Instant, told: f64) {
        if self.rate == 0.0 {
            return;
        }
        self.complaints += 1;
        if self.limit.is_none() {
            if self.complaints < 2 {
                return;
            }
            self.credit = 0.0;
            self.credited = now;
            tracing::debug!(limit = told, rate = self.rate, "a viewer's path is full");
        }
        self.raised = now;
        self.limit = Some(told.max(FLOOR));
    }

    /// Nothing speaks against more: the limit grows, until it is none.
    fn relax(&mut self, now: Instant) {
        self.complaints = 0;
        let Some(limit) = self.limit else {
            return;
        };
        let elapsed = now.saturating_duration_since(self.raised).as_secs_f64();
        self.raised = now;
        let grown = limit * GROWTH.powf(elapsed.min(2.0));
        self.limit = Some(grown);
    }

    /// The camera sends `demand` bits per second: a limit beyond that is none.
    pub fn compare(&mut self, demand: f64) {
        if self.limit.is_some_and(|limit| limit > demand * 1.2) {
            self.limit = None;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of packets are small")]
fn bits(bytes: usize) -> f64 {
    bytes as f64 * 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(40);

    /// Sends 2 Mbit/s for `seconds`.
    fn send(estimate: &mut Estimate, now: &mut Instant, seconds: u32) {
        for _ in 0..seconds * 25 {
            *now += TICK;
            estimate.sent(*now, 10_000);
        }
    }

    #[test]
    fn a_path_that_takes_everything_has_no_limit() {
        let mut now = Instant::now();
        let mut estimate = Estimate::new(now);
        send(&mut estimate, &mut now, 3);
        for told in [3e6, 1e6, 3e6, 1e6, 3e6_f32] {
            estimate.bitrate(now, told);
        }
        // One in twenty is lost: that is repaired. Reports on few packets say nothing.
        for second in 0..10 {
            now += WINDOW;
            estimate.loss(now, second * 10, second * 200);
            estimate.loss(now + TICK, second * 10 + 3, second * 200 + 9);
        }
        assert_eq!(estimate.limit(), None);
        assert!(estimate.admits(now));
        let rtt = Duration::from_millis(40);
        assert!(estimate.hold_back(rtt) > Duration::from_millis(300));
        for second in 10..40 {
            estimate.loss(now + WINDOW * second, 100, second * 200);
        }
        assert_eq!(estimate.hold_back(rtt), Duration::ZERO);
    }

    #[test]
    fn a_slow_path_is_given_what_it_takes_and_more_when_it_recovers() {
        let mut now = Instant::now();
        let mut estimate = Estimate::new(now);
        send(&mut estimate, &mut now, 3);
        estimate.round_trip(now, Duration::from_millis(40));
        estimate.round_trip(now, Duration::from_millis(400));
        estimate.bitrate(now, 1e6);
        assert_eq!(estimate.limit(), Some(1e6));
        let mut sent = 0;
        for _ in 0..250 {
            now += TICK;
            if estimate.admits(now) {
                estimate.sent(now, 10_000);
                sent += 1;
            }
        }
        assert!((120..140).contains(&sent), "{sent} of 250 pictures");
        for second in 0..20 {
            now += Duration::from_secs(1);
            estimate.loss(now, 0, second * 200);
            estimate.compare(2e6);
        }
        assert_eq!(estimate.limit(), None);
    }

    #[test]
    fn heavy_loss_and_growing_queues_set_a_limit() {
        let epoch = Instant::now();
        let mut now = epoch;
        let mut estimate = Estimate::new(now);
        send(&mut estimate, &mut now, 3);
        for second in 0..3 {
            assert_eq!(estimate.limit(), None);
            estimate.loss(now + WINDOW * second, second * 80, second * 200);
        }
        assert!(
            estimate
                .limit()
                .is_some_and(|limit| (1.0e6..1.5e6).contains(&limit))
        );
        let mut estimate = Estimate::new(now);
        send(&mut estimate, &mut now, 3);
        // Each packet waits 20 ms longer than the one before: 100 kbit/s arrive.
        for n in 0..40 {
            let packets: Vec<_> = (0..5_i64)
                .map(|i| {
                    let number = n * 5 + i;
                    let sent = epoch + TICK * u32::try_from(number).unwrap();
                    (sent, 750, number * 60_000)
                })
                .collect();
            estimate.arrivals(now, epoch, &packets);
        }
        assert!(
            estimate
                .limit()
                .is_some_and(|limit| (64e3..120e3).contains(&limit))
        );
    }
}
