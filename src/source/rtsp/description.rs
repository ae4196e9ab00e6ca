//! How long a session description is, whatever its camera says.
//!
//! Some cameras leave `Content-Length` out, or count wrongly. The description ends where its lines end.

use std::time::Duration;

use retina::rtsp::msg::Message;

/// How long to wait for more of a description that is shorter than it says, and of one that does not say.
const SHORT: Duration = Duration::from_secs(1);
const UNSAID: Duration = Duration::from_millis(300);

/// How many bytes fewer it may have than it says: one for each line, for a camera that counts line ends as
/// two bytes and sends one.
const LACKING_MAX: usize = 64;

/// Whether the body of `message` is a session description.
pub(super) fn is_one(message: &Message) -> bool {
    let Message::Response(response) = message else {
        return false;
    };
    let kind = response.headers.get("Content-Type");
    response.status_code.is_success()
        && kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("sdp"))
}

/// How long to wait for more of a description that says that it has `said` bytes.
pub(super) fn patience(said: Option<usize>) -> Duration {
    if said.is_some() { SHORT } else { UNSAID }
}

/// How much of `bytes` is the description; none if more may come, which it cannot if `is_quiet`.
pub(super) fn length(bytes: &[u8], said: Option<usize>, is_quiet: bool) -> Option<usize> {
    let rest = said.and_then(|said| bytes.get(said..));
    let begins = |rest: &[u8]| rest.starts_with(b"$") || rest.starts_with(b"RTSP/");
    if let Some(rest) = rest
        && (rest.is_empty() || begins(rest))
    {
        return said;
    }
    let lines = lines(bytes);
    // What lacks more is not counted wrongly but half of it.
    let is_enough = said.is_none_or(|said| said <= lines + LACKING_MAX);
    let is_over = begins(&bytes[lines..]) || rest.is_some() || is_quiet && is_enough;
    // Less than it says that there is does no harm.
    is_over.then(|| lines.max(said.unwrap_or(0).min(bytes.len())))
}

/// The bytes at the beginning that are lines of a description, or empty ones. The last may have no end.
fn lines(bytes: &[u8]) -> usize {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .take_while(|line| matches!(line.trim_ascii(), [] | [b'a'..=b'z', b'=', ..]))
        .map(<[u8]>::len)
        .sum()
}
