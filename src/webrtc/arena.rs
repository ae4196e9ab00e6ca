//! [`Arena`]: where packets are written and sealed before they are sent, one behind the other, so that
//! the kernel takes those of equal size in one call (generic segmentation offload).

use std::ops::Range;

use crate::webrtc::ice::Path;

/// Most packets of one call (`UDP_MAX_SEGMENTS` of older kernels).
const SEGMENTS_MAX: usize = 64;
/// Most bytes of one call: what an IP packet can hold, less its headers.
const BATCH_MAX: usize = 65_000;

/// From this size on an arena is to be emptied before more is written: one burst to one viewer. A
/// bigger one would leave the processor's cache, and is given back.
const FULL: usize = 68 << 10;

/// Packets of equal size, of which the last may be shorter, to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where they go.
    pub path: Path,
    /// Where they lie in [`Arena::bytes`].
    pub range: Range<usize>,
    /// Size of all packets but the last one.
    pub segment: usize,
    /// Whether they are media, which may be left out when nothing can be sent.
    pub media: bool,
}

/// Packets that wait to be sent.
#[derive(Debug, Default)]
pub struct Arena {
    /// Where all of them are. Only ever appended to.
    pub bytes: Vec<u8>,
    batches: Vec<Batch>,
    start: usize,
    /// Batches that were sent.
    done: usize,
}

impl Arena {
    /// Begins a packet, which is then appended to `bytes`.
    pub fn begin(&mut self) {
        self.start = self.bytes.len();
    }

    /// The packet begun last.
    pub fn packet(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Forgets the packet begun last.
    pub fn cancel(&mut self) {
        self.bytes.truncate(self.start);
    }

    /// Ends a packet of media.
    pub fn end(&mut self, path: Path) {
        let end = self.bytes.len();
        let size = end - self.start;
        if let Some(last) = self.batches.last_mut() {
            let length = last.range.len();
            let fits = last.media
                && last.path == path
                && last.range.end == self.start
                && size <= last.segment
                // A shorter one was the last of its batch.
                && length.is_multiple_of(last.segment)
                && length / last.segment < SEGMENTS_MAX
                && length + size <= BATCH_MAX;
            if fits {
                last.range.end = end;
                return;
            }
        }
        self.batches.push(Batch {
            path,
            range: self.start..end,
            segment: size,
            media: true,
        });
    }

    /// A datagram that is no media.
    pub fn datagram(&mut self, path: Path, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.batches.push(Batch {
            path,
            range: start..self.bytes.len(),
            segment: datagram.len().max(1),
            media: false,
        });
    }

    /// Whether it is time to send.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// What is to be sent, in order.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.batches[self.done..]
    }

    /// The next batch to send, and its packets.
    #[must_use]
    pub fn next(&self) -> Option<(&Batch, &[u8])> {
        let batch = self.batches.get(self.done)?;
        Some((batch, &self.bytes[batch.range.clone()]))
    }

    /// The first `bytes` of the next batch were sent.
    pub fn sent(&mut self, bytes: usize) {
        if let Some(batch) = self.batches.get_mut(self.done) {
            batch.range.start += bytes;
            if batch.range.is_empty() {
                self.done += 1;
            }
        }
    }

    /// The next batch is not sent, nor what is left of it.
    pub fn skip(&mut self) {
        self.done += 1;
    }

    /// Forgets everything that was sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.batches.clear();
        self.done = 0;
        self.bytes.shrink_to(FULL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::ice::Transport;

    fn path(port: u16) -> Path {
        Path {
            transport: Transport::Udp,
            remote: ([192, 0, 2, 1], port).into(),
            local: None,
        }
    }

    fn put(arena: &mut Arena, port: u16, size: usize) {
        arena.begin();
        arena.bytes.resize(arena.bytes.len() + size, 1);
        arena.end(path(port));
    }

    fn shapes(arena: &Arena) -> Vec<(usize, usize)> {
        let batches = arena.batches().iter();
        batches.map(|b| (b.range.len(), b.segment)).collect()
    }

    #[test]
    fn equal_packets_share_a_batch_and_a_shorter_one_ends_it() {
        let mut arena = Arena::default();
        for size in [30, 100, 100, 100, 60, 60, 100] {
            put(&mut arena, 1, size);
        }
        put(&mut arena, 2, 100);
        arena.datagram(path(2), &[0; 100]);
        put(&mut arena, 2, 100);
        assert_eq!(
            shapes(&arena),
            [
                (30, 30),
                (360, 100),
                (60, 60),
                (100, 100),
                (100, 100),
                (100, 100),
                (100, 100)
            ]
        );
    }

    #[test]
    fn batches_hold_what_the_kernel_takes() {
        let mut arena = Arena::default();
        for _ in 0..130 {
            put(&mut arena, 1, 1_200);
        }
        assert!(shapes(&arena).iter().all(|(length, _)| *length <= 65_000));
        arena.clear();
        for _ in 0..65 {
            put(&mut arena, 1, 100);
        }
        assert_eq!(shapes(&arena), [(6_400, 100), (100, 100)]);
    }

    #[test]
    fn what_was_sent_is_not_sent_again() {
        let mut arena = Arena::default();
        (0..4).for_each(|_| put(&mut arena, 1, 100));
        put(&mut arena, 2, 100);
        arena.sent(300);
        assert_eq!(
            arena
                .next()
                .map(|(batch, bytes)| (batch.segment, bytes.len())),
            Some((100, 100))
        );
        arena.sent(100);
        assert_eq!(arena.next().map(|(batch, _)| batch.path), Some(path(2)));
        arena.skip();
        assert!(arena.next().is_none());
    }

    #[test]
    fn a_cancelled_packet_leaves_nothing() {
        let mut arena = Arena::default();
        put(&mut arena, 1, 10);
        arena.begin();
        arena.bytes.push(1);
        arena.cancel();
        put(&mut arena, 1, 10);
        assert_eq!(shapes(&arena), [(20, 10)]);
    }
}
