//! Heads of RTSP messages, put in order before they are parsed.
//!
//! Cameras leave out the reason of a status, send headers without a value, end lines with a line feed
//! alone, put a space before a colon. None of that matters, so none of it is in the way.

use retina::rtsp::{msg::Message, parse::Parser};

/// Longest first line before it is clear that it is none, in bytes: URLs of cloud cameras are long.
const FIRST_LINE_MAX: usize = 8 << 10;

/// Lines looked at; no camera sends more than twenty.
const LINES_MAX: usize = 128;

/// Whether `bytes` can be the beginning of a message, as far as they go.
pub(super) fn begins_like_one(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let is_whole = line.len() < bytes.len();
    let known = line.len().min(5);
    if line[..known] == b"RTSP/"[..known] {
        return true;
    }
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_method = method
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    let is_request = !is_whole || line.windows(6).any(|window| window == b" RTSP/");
    is_method && method.len() <= 20 && is_request && line.len() <= FIRST_LINE_MAX
}

/// How long the head at the beginning of `bytes` is, with the empty line at its end.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start + bytes[start..].iter().position(|byte| *byte == b'\n')? + 1;
        if matches!(&bytes[start..end], b"\n" | b"\r\n") {
            return Some(end);
        }
        start = end;
    }
}

/// The message of a whole head, and the length of its body, if it says so.
pub(super) fn parse(head: &[u8]) -> Option<(Message, Option<usize>)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut clean = first_line(lines.next()?)?;
    let mut body = None;
    for line in lines.take(LINES_MAX) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"Content-Length") {
            // Taken here, so that a strange one does not cost the whole message.
            body = Some(number(value));
            continue;
        }
        let is_name = !name.is_empty()
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
        if is_name && !value.is_empty() {
            clean.extend_from_slice(name);
            clean.extend_from_slice(b": ");
            clean.extend(value.iter().map(|byte| {
                if matches!(byte, b' '..=b'~') {
                    *byte
                } else {
                    b'?'
                }
            }));
            clean.extend_from_slice(b"\r\n");
        }
    }
    clean.extend_from_slice(b"\r\n");
    let (message, _) = Parser::default().feed(&mut &clean[..]).ok()??;
    Some((message, body))
}

/// The first line as the standard has it.
fn first_line(line: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    if !text.starts_with("RTSP/") {
        return Some(format!("{text}\r\n").into_bytes());
    }
    let status = words.nth(1)?;
    let reason: Vec<_> = words.collect();
    let reason = if reason.is_empty() {
        "-".to_owned()
    } else {
        reason.join(" ")
    };
    let plain = reason.replace(|c: char| !(' '..='~').contains(&c), "?");
    Some(format!("RTSP/1.0 {status} {plain}\r\n").into_bytes())
}

/// The digits at the beginning; a length that is said twice is said with a comma between.
fn number(value: &[u8]) -> usize {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: usize, digit| {
        number
            .saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(head: &str) -> (u16, String, usize) {
        assert_eq!(length(head.as_bytes()), Some(head.len()), "{head:?}");
        let Some((Message::Response(response), body)) = parse(head.as_bytes()) else {
            panic!("no response: {head:?}");
        };
        let sequence = response.headers.get("CSeq").map(ToString::to_string);
        (
            response.status_code.as_u16(),
            sequence.unwrap_or_default(),
            body.unwrap_or(0),
        )
    }

    #[test]
    fn what_cameras_do_to_heads_does_not_matter() {
        let expected = (200, "2".to_owned(), 45);
        for head in [
            "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 45\r\n\r\n",
            "RTSP/1.0 200\r\nCseq:2\r\nContent-length : 45\r\n\r\n",
            "RTSP/1.0 200 OK\nCSeq: 2\nContent-Length: 45, 45\n\n",
            "RTSP/1.0  200  \u{6b63}\u{5e38}\r\nDate:\r\nnonsense\r\nCSeq: 2\r\nA B: c\r\n\
             Server: Cam\u{e9}ra\r\nContent-Length: 45\r\n\r\n",
        ] {
            assert_eq!(response(head), expected, "{head:?}");
        }
    }

    #[test]
    fn a_request_of_the_camera_is_read() {
        let head = b"GET_PARAMETER rtsp://h/x RTSP/1.0\r\nCSeq: 9\r\n\r\n";
        assert!(begins_like_one(head) && begins_like_one(b"GET_P"));
        let Some((Message::Request(request), None)) = parse(head) else {
            panic!("no request");
        };
        assert_eq!(request.method.to_string(), "GET_PARAMETER");
    }

    #[test]
    fn other_protocols_are_known_by_their_first_line() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 400 Bad\r\n",
            b"<html>",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03",
        ] {
            assert!(
                !begins_like_one(bytes),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert!(begins_like_one(b"") && begins_like_one(b"RT") && begins_like_one(b"RTSP/1.0 200"));
        assert!(parse(b"RTSP/1.0 abc\r\n\r\n").is_none());
    }
}
