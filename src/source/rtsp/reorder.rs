//! [`Reorder`]: packets that overtook others on their way, back in their order.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::packet::{self, LATE_MAX};

/// Packets that wait for one that is missing, and how long they do. What is later than that is lost: a
/// viewer would see the picture stand still.
const WAITING_MAX: usize = 64;
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The packets of one track that came by UDP. Those that are in order pass through; times are counted from
/// any fixed moment.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// The source, and the number of its packet that is due.
    next: Option<(u32, u16)>,
    /// Packets after the one that is due, in order, each with its number and arrival.
    waiting: VecDeque<(u16, Duration, Bytes)>,
}

impl Reorder {
    /// Takes a packet that has arrived `now`; gives those to `out` whose turn it is. What is doubled or
    /// late passes, too: whoever follows the numbers knows it.
    pub(super) fn push(&mut self, packet: Bytes, now: Duration, out: &mut impl FnMut(Bytes)) {
        let Some((sequence, ssrc)) = packet::place(&packet) else {
            return;
        };
        let ahead = match self.next {
            Some((source, due)) if source == ssrc => sequence.wrapping_sub(due),
            _ => LATE_MAX,
        };
        let behind = ahead.wrapping_neg();
        if ahead == 0 {
            self.next = Some((ssrc, sequence.wrapping_add(1)));
            out(packet);
            if !self.waiting.is_empty() {
                self.release(out);
            }
        } else if ahead < LATE_MAX {
            self.wait(sequence, now, packet);
            if self.waiting.len() > WAITING_MAX {
                self.skip(out);
            }
        } else if behind < LATE_MAX {
            out(packet);
        } else {
            // Another source, or another beginning.
            while !self.waiting.is_empty() {
                self.skip(out);
            }
            self.next = Some((ssrc, sequence.wrapping_add(1)));
            out(packet);
        }
    }

    /// Gives up on packets for which others have waited long enough.
    pub(super) fn expire(&mut self, now: Duration, out: &mut impl FnMut(Bytes)) {
        while self.due().is_some_and(|due| due <= now) {
            self.skip(out);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        let arrivals = self.waiting.iter().map(|(_, arrival, _)| *arrival);
        arrivals.min().map(|arrival| arrival + WAIT_MAX)
    }

    fn wait(&mut self, sequence: u16, now: Duration, packet: Bytes) {
        let Some((_, due)) = self.next else { return };
        let distance = |number: u16| number.wrapping_sub(due);
        // Nearly always it goes to the end.
        let after = self
            .waiting
            .iter()
            .rposition(|(number, ..)| distance(*number) <= distance(sequence));
        if after.is_some_and(|at| self.waiting[at].0 == sequence) {
            return;
        }
        let at = after.map_or(0, |at| at + 1);
        self.waiting.insert(at, (sequence, now, packet));
    }

    /// Goes on with the first that waits, whatever is missing before it.
    fn skip(&mut self, out: &mut impl FnMut(Bytes)) {
        if let (Some((_, due)), Some((sequence, ..))) = (&mut self.next, self.waiting.front()) {
            *due = *sequence;
        }
        self.release(out);
    }

    /// Gives out those whose turn it is.
    fn release(&mut self, out: &mut impl FnMut(Bytes)) {
        while let Some((_, due)) = &mut self.next
            && let Some((_, _, packet)) = self.waiting.pop_front_if(|(number, ..)| number == due)
        {
            *due = due.wrapping_add(1);
            out(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn packet(ssrc: u32, sequence: u16) -> Bytes {
        let [high, low] = sequence.to_be_bytes();
        let mut bytes = vec![0x80, 96, high, low, 0, 0, 0, 0];
        bytes.extend(ssrc.to_be_bytes());
        bytes.into()
    }

    /// The numbers of what comes out when packets arrive at these milliseconds.
    fn order(reorder: &mut Reorder, arriving: &[(u64, u16)]) -> Vec<u16> {
        let mut seen = Vec::new();
        for (at, sequence) in arriving {
            let now = Duration::from_millis(*at);
            let mut out = |packet: Bytes| seen.push(packet::place(&packet).unwrap().0);
            reorder.expire(now, &mut out);
            reorder.push(packet(1, *sequence), now, &mut out);
            assert!(reorder.waiting.len() <= WAITING_MAX);
        }
        seen
    }

    #[test]
    fn what_is_overtaken_waits_at_most_a_tenth_of_a_second_for() {
        let reorder = &mut Reorder::default();
        let seen = order(reorder, &[(0, 65_534), (0, 0), (5, 1), (9, 65_535), (9, 2)]);
        assert_eq!(seen, [65_534, 65_535, 0, 1, 2]);
        assert_eq!(reorder.due(), None);
        assert_eq!(order(reorder, &[(10, 4), (50, 6)]), [0_u16; 0]);
        assert_eq!(reorder.due(), Some(Duration::from_millis(110)));
        // 3 is lost, 5 comes in time, 3 comes when nobody waits for it.
        assert_eq!(order(reorder, &[(110, 5), (111, 3)]), [4, 5, 6, 3]);
    }

    #[test]
    fn no_more_than_64_wait() {
        let reorder = &mut Reorder::default();
        let arriving: Vec<_> = [0].into_iter().chain(2..66).map(|n| (0, n)).collect();
        assert_eq!(order(reorder, &arriving), [0]);
        let all: Vec<_> = (2..=66).collect();
        assert_eq!(order(reorder, &[(0, 66)]), all);
    }

    #[test]
    fn another_source_and_another_beginning_do_not_wait() {
        let reorder = &mut Reorder::default();
        assert_eq!(order(reorder, &[(0, 10), (0, 12)]), [10]);
        assert_eq!(order(reorder, &[(1, 30_000)]), [12, 30_000]);
        let mut seen = 0;
        reorder.push(packet(2, 5), Duration::ZERO, &mut |_| seen += 1);
        reorder.push(packet(2, 6), Duration::ZERO, &mut |_| seen += 1);
        assert_eq!(seen, 2);
    }

    #[test]
    fn whatever_is_swapped_doubled_or_lost_comes_out_in_order_and_once() {
        let mut random = SmallRng::seed_from_u64(5);
        for _ in 0..200 {
            let mut arriving: Vec<(u64, u16)> = Vec::new();
            for number in 0..500_u16 {
                if number > 0 && random.random_ratio(1, 50) {
                    continue;
                }
                let late = random.random_range(0..if number == 0 { 1 } else { 40 });
                arriving.push((u64::from(number) + late, number));
                if random.random_ratio(1, 20) {
                    arriving.push((u64::from(number) + late + 3, number));
                }
            }
            arriving.sort_by_key(|(at, _)| *at);
            let sent: std::collections::BTreeSet<_> = arriving.iter().map(|(_, n)| *n).collect();
            let mut reorder = Reorder::default();
            let mut seen = order(&mut reorder, &arriving);
            reorder.expire(Duration::from_secs(9), &mut |packet| {
                seen.push(packet::place(&packet).unwrap().0);
            });
            // What was doubled comes out late, and is known by that.
            let mut in_order = Vec::new();
            for number in seen {
                if in_order.last().is_none_or(|last| *last < number) {
                    in_order.push(number);
                }
            }
            assert!(in_order.iter().eq(sent.iter()));
        }
    }
}
