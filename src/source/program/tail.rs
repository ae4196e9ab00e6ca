//! [`Tail`]: the last of what a program complains of.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, sleep_until},
};

/// What is kept, in bytes: some lines.
const KEPT_MAX: usize = 4 << 10;
/// What is read at once, and how often at most: about 1.6 MB/s. Who complains faster waits.
const READ_SIZE: usize = 16 << 10;
const PACE: Duration = Duration::from_millis(10);
/// Lines that are told.
const LINES_MAX: usize = 5;

/// The last bytes of an endless text.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: Vec<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT_MAX)..];
        let room = KEPT_MAX - bytes.len();
        let surplus = self.kept.len().saturating_sub(room);
        self.kept.drain(..surplus);
        self.kept.extend_from_slice(bytes);
    }

    /// Reads on until the end of `from`. Cancelling it loses nothing that is kept.
    pub(super) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let next = Instant::now() + PACE;
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => self.push(&buffer[..read]),
            }
            sleep_until(next).await;
        }
    }

    /// The last lines that are not empty, printable.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let printable = text.replace(|c: char| c.is_control() && c != '\n', " ");
        let lines = printable.lines().map(str::trim);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
        last.iter().map(|line| (*line).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_the_last_lines_are_kept() {
        let mut tail = Tail::default();
        for n in 0..100_000 {
            tail.push(format!("line {n}\r\n\n").as_bytes());
            assert!(tail.kept.len() <= KEPT_MAX);
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.last().unwrap(), "line 99999");
        tail.push(&vec![b'x'; 1 << 20]);
        assert_eq!(tail.kept.len(), KEPT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_complains_without_end_is_read_slowly() {
        let mut tail = Tail::default();
        let mut flood = tokio::io::repeat(b'!');
        let begun = Instant::now();
        let reading = tail.read(&mut flood);
        let timed = tokio::time::timeout(Duration::from_secs(10), reading).await;
        assert!(timed.is_err() && begun.elapsed() >= Duration::from_secs(10));
        assert_eq!(tail.kept.len(), KEPT_MAX);
    }
}
