//! One HTTP/1.1 request per connection: all that signalling needs.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longer than any server thinks about an offer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the server said.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body, as text.
    pub(crate) body: String,
}

impl Response {
    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body of a success.
    ///
    /// # Errors
    /// A text with the status, if it is none of the 200s.
    pub(crate) fn success(self) -> Result<Self, String> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let body: String = self.body.trim().chars().take(200).collect();
        Err(format!("HTTP {}: {body}", self.status))
    }
}

/// Splits `http://host:port/path`.
pub(crate) fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("{url} does not begin with http://"))?;
    let cut = rest.find('/').unwrap_or(rest.len());
    Ok((
        &rest[..cut],
        if cut == rest.len() { "/" } else { &rest[cut..] },
    ))
}

/// Sends a request and reads the response to its end.
///
/// # Errors
/// A text, if there is no connection or no response within 20 s.
pub(crate) fn request(method: &str, url: &str, kind: &str, body: &str) -> Result<Response, String> {
    let (host, path) = split_url(url)?;
    let text = exchange(method, host, path, kind, body)
        .map_err(|error| format!("{method} {url}: {error}"))?;
    parse(&text).ok_or_else(|| format!("{method} {url}: this is no HTTP response"))
}

fn exchange(method: &str, host: &str, path: &str, kind: &str, body: &str) -> io::Result<Vec<u8>> {
    let with_port = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let address = with_port
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut text = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(text),
            read => text.extend_from_slice(&buffer[..read]),
        }
        // Some servers keep the connection open in spite of the header.
        if is_complete(&text) {
            return Ok(text);
        }
    }
}

fn head_len(text: &[u8]) -> Option<usize> {
    text.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn is_complete(text: &[u8]) -> bool {
    let Some(head) = head_len(text) else {
        return false;
    };
    let lower = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return text.ends_with(b"0\r\n\r\n");
    }
    lower
        .lines()
        .find_map(|line| {
            line.strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .is_some_and(|length| text.len() >= head + length)
}

fn parse(text: &[u8]) -> Option<Response> {
    let head_len = head_len(text)?;
    let head = String::from_utf8_lossy(&text[..head_len]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(key, value)| key == "transfer-encoding" && value.contains("chunked"));
    let body = if chunked {
        unchunk(&text[head_len..])?
    } else {
        text[head_len..].to_vec()
    };
    Some(Response {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn unchunk(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_len = text.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&text[..line_len]).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(text.get(line_len + 2..line_len + 2 + length)?);
        text = text.get(line_len + 2 + length + 2..)?;
    }
}

/// Text for a query or a form field (RFC 3986, 2.1).
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lengths_and_chunks() {
        let plain = b"HTTP/1.1 201 Created\r\nLocation: /a\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_complete(plain) && !is_complete(&plain[..plain.len() - 1]));
        let response = parse(plain).unwrap();
        assert_eq!(
            (
                response.status,
                response.body.as_str(),
                response.header("location")
            ),
            (201, "abc", Some("/a"))
        );
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert!(is_complete(chunked));
        assert_eq!(parse(chunked).unwrap().body, "abc");
    }

    #[test]
    fn splits_urls() {
        assert_eq!(split_url("http://a:1/b?c"), Ok(("a:1", "/b?c")));
        assert_eq!(split_url("http://a:1"), Ok(("a:1", "/")));
        assert!(split_url("https://a").is_err());
    }

    #[test]
    fn encodes_reserved_characters() {
        assert_eq!(percent_encode("rtsp://a/b+c"), "rtsp%3A%2F%2Fa%2Fb%2Bc");
    }
}
