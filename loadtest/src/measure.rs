//! Numbers: what a process used, what a sequence of packets lacks, and where in a distribution a value lies.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sequence numbers that [`SequenceCounter`] remembers, to tell a late packet from a repeated one.
const WINDOW: u64 = 1024;

/// Counts the packets of one SSRC by their sequence numbers (RFC 3550, appendix A.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceCounter {
    lowest: u64,
    highest: u64,
    received: u64,
    late: u64,
    seen: [u64; 16],
}

impl SequenceCounter {
    /// Takes the next packet in order of arrival. Repeated packets count once.
    pub(crate) fn push(&mut self, sequence: u16) {
        if self.received == 0 {
            // One cycle up, so that packets from before the first one do not go below zero.
            self.lowest = 0x1_0000 + u64::from(sequence);
            self.highest = self.lowest;
            self.received = 1;
            self.mark(self.lowest);
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a sequence number is the lower 16 bits"
        )]
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead == 0 {
            return;
        }
        if ahead < 0x8000 {
            let new = self.highest + u64::from(ahead);
            for skipped in (self.highest + 1..=new).rev().take(1024) {
                self.clear(skipped);
            }
            self.highest = new;
            self.received += 1;
            self.mark(new);
            return;
        }
        // 0x10000 - ahead numbers behind; the first number is at least that high.
        let old = self.highest + u64::from(ahead) - 0x1_0000;
        if old >= self.lowest && self.highest - old < WINDOW && !self.is_marked(old) {
            self.mark(old);
            self.received += 1;
            self.late += 1;
        }
    }

    /// Packets that the sender numbered between the first and the newest one, both counted.
    pub(crate) fn expected(&self) -> u64 {
        if self.received == 0 {
            0
        } else {
            self.highest - self.lowest + 1
        }
    }

    /// Different packets that arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Those of them that arrived after a newer one: reordered, or repeated under the same number.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    fn bit(extended: u64) -> (usize, u64) {
        let position = extended % WINDOW;
        (
            usize::try_from(position / 64).unwrap_or(0),
            1 << (position % 64),
        )
    }

    fn mark(&mut self, extended: u64) {
        let (word, bit) = Self::bit(extended);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, extended: u64) {
        let (word, bit) = Self::bit(extended);
        self.seen[word] &= !bit;
    }

    fn is_marked(&self, extended: u64) -> bool {
        let (word, bit) = Self::bit(extended);
        self.seen[word] & bit != 0
    }
}

/// The value below which `fraction` (0 to 1) of the values lie, by nearest rank; `None` of nothing.
pub(crate) fn percentile(values: &[f64], fraction: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank, not negative and at most the length"
    )]
    let rank = (float(sorted.len()) * fraction).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .or(sorted.last())
        .copied()
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and nanoseconds stay far below 2^53"
)]
pub(crate) fn float<T: TryInto<i64>>(count: T) -> f64 {
    count.try_into().map_or(f64::NAN, |count| count as f64)
}

/// Nanoseconds since 1970, the clock of the kernel's receive times.
pub(crate) fn unix_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds that all threads of a process that still live have been on a CPU.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    threads
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Memory of a process that is in RAM, in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// Ticks that all CPUs together have been busy, and that have passed.
pub(crate) fn machine_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
    let total: u64 = fields.iter().take(8).sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (total - idle, total)
}

/// Datagrams that the kernel dropped because a socket bound to one of the ports was not read in time.
pub(crate) fn socket_drops(ports: &[u16]) -> u64 {
    let text = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let port = u16::from_str_radix(fields.nth(1)?.rsplit(':').next()?, 16).ok()?;
            if !ports.contains(&port) {
                return None;
            }
            fields.last()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sequences: impl IntoIterator<Item = u16>) -> (u64, u64, u64) {
        let mut counter = SequenceCounter::default();
        for sequence in sequences {
            counter.push(sequence);
        }
        (counter.expected(), counter.received(), counter.late())
    }

    #[test]
    fn a_gap_is_lost() {
        assert_eq!(count([5, 6, 9, 10]), (6, 4, 0));
    }

    #[test]
    fn numbers_go_round() {
        assert_eq!(count([0xfffe, 0xffff, 0, 1]), (4, 4, 0));
        assert_eq!(
            count((0..200_000u32).map(|n| (n & 0xffff) as u16)),
            (200_000, 200_000, 0)
        );
    }

    #[test]
    fn late_packets_fill_their_gap_and_repeated_ones_count_once() {
        assert_eq!(count([1, 2, 4, 3, 3, 4, 5]), (5, 5, 1));
        assert_eq!(count([0xffff, 1, 0]), (3, 3, 1));
    }

    #[test]
    fn packets_before_the_first_do_not_count() {
        assert_eq!(count([10, 9, 8, 11]), (2, 2, 0));
    }

    #[test]
    fn a_late_packet_is_not_mistaken_for_one_of_the_window_before() {
        let mut sequences: Vec<u16> = (0..1024).collect();
        sequences.extend([1025, 1024]);
        assert_eq!(count(sequences), (1026, 1026, 1));
    }

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&values, 1.0), Some(100.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.5), Some(2.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
