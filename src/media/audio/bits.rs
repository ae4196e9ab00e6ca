//! [`Bits`]: reads a buffer bit by bit, the most significant first, as MPEG-4 writes them.

/// A place in a buffer. Reading past its end gives nothing.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// The next `count` bits, at most 32; none if there are fewer.
    pub(super) fn read(&mut self, count: usize) -> Option<u32> {
        if count > self.left() {
            return None;
        }
        let mut value = 0;
        for at in self.at..self.at + count {
            let bit = (self.data[at / 8] >> (7 - at % 8)) & 1;
            value = value << 1 | u32::from(bit);
        }
        self.at += count;
        Some(value)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        if count > self.left() {
            return None;
        }
        self.at += count;
        Some(())
    }

    /// The next `count` bytes into `out`, from wherever in a byte the place is.
    pub(super) fn copy(&mut self, count: usize, out: &mut Vec<u8>) -> Option<()> {
        if count.checked_mul(8)? > self.left() {
            return None;
        }
        let (first, shift) = (self.at / 8, self.at % 8);
        if shift == 0 {
            out.extend_from_slice(&self.data[first..first + count]);
        } else {
            let pairs = self.data[first..].windows(2).take(count);
            out.extend(pairs.map(|pair| pair[0] << shift | pair[1] >> (8 - shift)));
        }
        self.at += count * 8;
        Some(())
    }

    /// To the beginning of the next byte, unless it is there.
    pub(super) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// Bits that have been read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes_are_read_across_bytes_and_never_past_the_end() {
        let mut bits = Bits::new(&[0b1010_0110, 0x5a, 0xc3]);
        assert_eq!((bits.read(3), bits.flag()), (Some(0b101), Some(false)));
        let mut copied = Vec::new();
        assert_eq!(bits.copy(2, &mut copied), Some(()));
        assert_eq!(copied, [0x65, 0xac]);
        assert_eq!(
            (bits.left(), bits.read(5), bits.copy(1, &mut copied)),
            (4, None, None)
        );
        bits.align();
        assert_eq!(
            (bits.left(), bits.position(), bits.read(0), bits.flag()),
            (0, 24, Some(0), None)
        );
    }
}
