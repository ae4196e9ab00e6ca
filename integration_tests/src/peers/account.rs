//! [`Account`]: which RTP packets of a track came.

use std::collections::HashSet;

use super::Stream;

/// Keeps account of one track's RTP packets.
///
/// For less than 32768 packets, which is more than any test here takes.
#[derive(Debug, Default)]
pub struct Account {
    first: Option<u16>,
    /// Distances from the first.
    seen: HashSet<u16>,
    frames: u64,
}

impl Account {
    /// Notes a packet. The marker ends a picture; each packet of sound is a frame.
    pub fn note(&mut self, sequence: u16, ends_frame: bool) {
        let first = *self.first.get_or_insert(sequence);
        let distance = sequence.wrapping_sub(first);
        // What overtook the first packet on its way is not missed by anybody.
        if distance < 1 << 15 && self.seen.insert(distance) && ends_frame {
            self.frames += 1;
        }
    }

    /// The sum of it.
    #[must_use]
    pub fn stream(&self) -> Stream {
        let packets = self.seen.len() as u64;
        let span = self
            .seen
            .iter()
            .max()
            .map_or(0, |last| u64::from(*last) + 1);
        Stream {
            packets,
            missing: span - packets,
            frames: self.frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_counted_and_repeats_are_not() {
        let mut account = Account::default();
        for sequence in [65_534, 65_535, 65_535, 1, 2, 65_533] {
            account.note(sequence, sequence == 2);
        }
        let expected = Stream {
            packets: 4,
            missing: 1,
            frames: 1,
        };
        assert_eq!(account.stream(), expected);
        account.note(0, false);
        assert_eq!(account.stream().missing, 0);
        assert_eq!(Account::default().stream(), Stream::default());
    }
}
