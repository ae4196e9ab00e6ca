//! What a camera should not send, and some do: the converter goes on.

use super::super::*;
use super::{MONO_16, adts, au_packet, format, packet};
use crate::media::MediaTime;

/// The same numbers each time (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }

    fn damage(&mut self, payload: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let place = self.below(payload.len().max(1));
            match self.below(5) {
                0 => payload.truncate(place),
                1 => payload.insert(place.min(payload.len()), self.byte()),
                2 => payload.extend_from_within(..place.min(payload.len())),
                _ => {
                    let byte = self.byte();
                    if let Some(there) = payload.get_mut(place) {
                        *there = byte;
                    }
                }
            }
        }
    }
}

#[test]
fn damaged_packets_never_break_it_and_never_stop_its_clock() {
    let formats = [
        format("mpeg4-generic/16000/1", "config=1408"),
        format(
            "mpeg4-generic/16000/1",
            "mode=generic;config=1408;sizelength=9;ctsdeltalength=3;auxiliarydatasizelength=5",
        ),
        format("MP4A-LATM/16000/1", "cpresent=0;config=400028103fc0"),
        format("MP4A-LATM/16000/1", ""),
        format("G722/8000", ""),
        format("G726-24/8000", ""),
        format("AAL2-G726-40/8000", ""),
        format("L16/44100/2", ""),
        format("PCMA/16000/2", ""),
    ];
    let units = adts(MONO_16);
    for (seed, format) in (1..).zip(formats) {
        let mut dice = Dice(seed);
        let mut converter = Converter::new(format);
        let (mut last, mut clock) = (i64::MIN, 0);
        for number in 0..600 {
            let mut payload = if dice.below(3) == 0 {
                (0..dice.below(300)).map(|_| dice.byte()).collect()
            } else {
                let unit = units[number % units.len()];
                let latm = matches!(format.coding, Coding::Latm(..));
                let length = u8::try_from(unit.len()).unwrap_or(255);
                if latm {
                    [&[length], unit].concat()
                } else {
                    au_packet(&[unit])
                }
            };
            if dice.below(2) == 0 {
                dice.damage(&mut payload);
            }
            clock += 1_024;
            let mut packet = packet(clock, format.clock_rate, payload);
            match dice.below(20) {
                0 => {
                    packet.time =
                        MediaTime(i64::try_from(dice.below(1 << 30)).unwrap() - (1 << 29));
                }
                1 => packet.time = MediaTime([i64::MIN, i64::MAX, -1][dice.below(3)]),
                2 => packet.is_after_loss = true,
                3 => packet.marker = false,
                _ => {}
            }
            converter.push(&packet, |block| {
                assert!(
                    block.time.0 > last,
                    "{format}: {} after {last}",
                    block.time.0
                );
                last = block.time.0;
                assert!(!block.payload.is_empty());
            });
        }
    }
}

/// One packet must not be made into hours of silence.
#[test]
fn a_jump_in_time_gives_a_second_of_blocks_at_most() {
    for jump in [8_000 * 3, 1 << 40, -(1 << 40), i64::MAX, i64::MIN] {
        let format = format("L16/8000", "");
        let mut converter = Converter::new(format);
        let mut count = 0;
        for time in [0, 160, jump, jump.wrapping_add(160)] {
            converter.push(&packet(time, 8_000, vec![0; 320]), |_| count += 1);
        }
        assert!(count <= 51, "{jump}: {count}");
    }
}
