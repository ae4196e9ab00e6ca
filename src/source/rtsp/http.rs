//! What the carriers through a web server share: its answers, and its login.

use std::{fmt, io};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use url::Position;

use super::{authentication::Authentication, connection::ByteStream, head};
use crate::base::SourceUrl;

/// How requests name this program.
pub(super) const USER_AGENT: &str = concat!("Porthole/", env!("CARGO_PKG_VERSION"));

/// Largest head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// The head of an answer, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: String,
    /// What each `WWW-Authenticate` asks for.
    pub(super) challenges: Vec<String>,
    /// `Sec-WebSocket-Accept`.
    pub(super) accept: String,
    /// `Sec-WebSocket-Protocol`.
    pub(super) protocol: String,
}

/// Reads the head of an answer; what comes behind it stays in `buffer`.
///
/// # Errors
/// `UnexpectedEof` when the server hangs up, `InvalidData` when it does not speak HTTP.
pub(super) async fn read_head(
    stream: &mut dyn ByteStream,
    buffer: &mut BytesMut,
) -> io::Result<Head> {
    loop {
        if let Some(head) = take_head(buffer)? {
            return Ok(head);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Takes the head of an answer out of `buffer`, if all of it is there.
pub(super) fn take_head(buffer: &mut BytesMut) -> io::Result<Option<Head>> {
    let known = buffer.len().min(5);
    if buffer[..known] != b"HTTP/"[..known] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match head::length(buffer) {
        Some(length) => {
            let head = Head::parse(&buffer.split_to(length));
            head.map(Some).ok_or(io::ErrorKind::InvalidData.into())
        }
        None if buffer.len() > HEAD_MAX => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(None),
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let mut head = Self {
            status: lines.next()?.split_whitespace().nth(1)?.parse().ok()?,
            ..Self::default()
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let (name, value) = (name.trim(), value.trim().to_owned());
            if name.eq_ignore_ascii_case("Content-Type") {
                head.content_type = value.to_ascii_lowercase();
            } else if name.eq_ignore_ascii_case("WWW-Authenticate") {
                head.challenges.push(value);
            } else if name.eq_ignore_ascii_case("Sec-WebSocket-Accept") {
                head.accept = value;
            } else if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
                head.protocol = value;
            }
        }
        Some(head)
    }
}

/// A web server's refusal, where it becomes known while media or RTSP is waited for.
#[derive(Debug)]
pub(super) struct Refused(pub(super) u16);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the web server answered {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// The login at a camera's web server, with the credentials of the URL.
pub(super) struct Login {
    source: SourceUrl,
    authentication: Option<Authentication>,
    answered: usize,
}

impl Login {
    pub(super) fn new(source: SourceUrl) -> Self {
        Self {
            source,
            authentication: None,
            answered: 0,
        }
    }

    /// Takes up a challenge; false when there is none that we can answer, and when one was answered
    /// before: asking again with the same password may lock the account. Only one that says that the
    /// nonce was too old is answered again, once.
    pub(super) fn challenged(&mut self, challenges: &[String]) -> bool {
        if self.source.credentials().is_none() {
            return false;
        }
        let Some(new) = Authentication::strongest(&challenges.join(", ")) else {
            return false;
        };
        if self.answered > usize::from(new.is_stale()) {
            return false;
        }
        self.answered += 1;
        self.authentication = Some(new);
        true
    }

    /// The header with the login for a request; empty before there was a challenge.
    pub(super) fn header(&mut self, method: &str, target: &str) -> String {
        let value = self.authorization(method, target);
        value.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"))
    }

    /// The value of `Authorization`.
    fn authorization(&mut self, method: &str, target: &str) -> Option<String> {
        let credentials = self.source.credentials()?;
        let authentication = self.authentication.as_mut()?;
        authentication.respond(credentials, method, target)
    }
}

/// Path and query, as a request names them.
pub(super) fn target(source: &SourceUrl) -> &str {
    let target = &source.request_url()[Position::BeforePath..Position::AfterQuery];
    if target.is_empty() { "/" } else { target }
}

/// Host and port, as a request names them.
pub(super) fn authority(source: &SourceUrl) -> &str {
    &source.request_url()[Position::BeforeHost..Position::BeforePath]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> (io::Result<Head>, BytesMut) {
        let mut buffer = BytesMut::new();
        let mut stream = bytes;
        let mut stream = tokio::io::join(&mut stream, tokio::io::sink());
        (read_head(&mut stream, &mut buffer).await, buffer)
    }

    #[tokio::test]
    async fn a_head_is_read_and_nothing_behind_it() {
        let (head, rest) = read(
            b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\
              content-type : Text/HTML\nwww-authenticate: Digest realm=\"b\"\r\n\r\n$\x00",
        )
        .await;
        let expected = Head {
            status: 401,
            content_type: "text/html".to_owned(),
            challenges: vec![
                "Basic realm=\"a\"".to_owned(),
                "Digest realm=\"b\"".to_owned(),
            ],
            ..Head::default()
        };
        assert_eq!(head.unwrap(), expected);
        assert_eq!(&rest[..], b"$\x00");
    }

    #[tokio::test]
    async fn what_is_not_http_and_what_never_ends_is_given_up() {
        let endless = [b"HTTP/1.0 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(4_000)].concat();
        for (bytes, kind) in [
            (&b"RTSP/1.0 400 Bad\r\n\r\n"[..], io::ErrorKind::InvalidData),
            (b"HTTP/1.0 abc\r\n\r\n", io::ErrorKind::InvalidData),
            (&endless, io::ErrorKind::InvalidData),
            (b"HTTP/1.0 200", io::ErrorKind::UnexpectedEof),
            (b"", io::ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(read(bytes).await.0.unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn a_challenge_is_answered_once_and_only_with_credentials() {
        let source = |text: &str| SourceUrl::parse(text).unwrap();
        let basic = ["Basic realm=\"cam\"".to_owned()];
        let mut login = Login::new(source("ws://h/x"));
        assert!(!login.challenged(&basic));
        let mut login = Login::new(source("ws://user:p%40ss@h/x"));
        assert!(login.authorization("GET", "/x").is_none());
        assert!(login.challenged(&basic));
        assert_eq!(
            login.authorization("GET", "/x").unwrap(),
            "Basic dXNlcjpwQHNz"
        );
        assert!(!login.challenged(&basic));
    }

    #[test]
    fn only_a_nonce_that_was_too_old_is_answered_again_and_once() {
        let digest = |nonce: &str, stale: bool| {
            let challenge = format!("Digest realm=\"cam\", nonce=\"{nonce}\", stale={stale}");
            [challenge, "Basic realm=\"cam\"".to_owned()]
        };
        let mut login = Login::new(SourceUrl::parse("ws://user:p@h/x").unwrap());
        assert!(login.challenged(&digest("one", false)));
        assert!(!login.challenged(&digest("two", false)));
        assert!(login.challenged(&digest("three", true)));
        let answer = login.authorization("POST", "/x").unwrap();
        assert!(answer.contains("nonce=\"three\""), "{answer}");
        assert!(!login.challenged(&digest("four", true)));
    }
}
