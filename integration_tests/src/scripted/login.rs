//! Who may watch: Basic [RFC 7617] and Digest [RFC 2617, RFC 7616], in the forms that cameras speak.

use std::{fmt::Write as _, sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use tokio::time::Instant;

use super::message::Request;

const REALM: &str = "scripted camera";

/// How a password is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Sent in base64.
    Basic,
    /// Hashed with MD5 and a nonce, without `qop`, as most cameras do.
    Digest,
    /// The same with `qop=auth`: a nonce of the client and a count go in.
    DigestAuth,
    /// SHA-256 with `qop=auth`.
    Sha256,
    /// SHA-256 without `qop`, so that only the algorithm tells it from MD5.
    Sha256Bare,
    /// Asks for Basic, MD5 and SHA-256 in a header each, in this order, and takes SHA-256 alone.
    Strongest,
}

/// How long a nonce is good. An answer with an old one is called stale if it is right otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonces {
    /// As long as the connection.
    OfConnection,
    /// For the request after the challenge, and none else.
    Once,
    /// Until the next turn of a clock, which all connections share.
    Lasting(Duration),
}

/// The one account of a camera.
#[derive(Debug, Clone)]
pub struct Login {
    user: String,
    password: String,
    scheme: Scheme,
    pub(super) nonces: Nonces,
}

impl Login {
    /// An account.
    #[must_use]
    pub fn new(user: &str, password: &str, scheme: Scheme) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            scheme,
            nonces: Nonces::OfConnection,
        }
    }

    /// The `WWW-Authenticate` headers in the answer to `request`.
    pub(super) fn challenges(&self, request: &Request) -> String {
        let nonce = self.nonce(request);
        let stale = if self.is_stale(request) {
            ", stale=true"
        } else {
            ""
        };
        let digest = |more: &str| {
            format!(
                "WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"{nonce}\"{more}{stale}\r\n"
            )
        };
        let basic = format!("WWW-Authenticate: Basic realm=\"{REALM}\"\r\n");
        match self.scheme {
            Scheme::Basic => basic,
            Scheme::Digest => digest(""),
            Scheme::DigestAuth => digest(", qop=\"auth\""),
            Scheme::Sha256 => digest(", algorithm=SHA-256, qop=\"auth,auth-int\""),
            Scheme::Sha256Bare => digest(", algorithm=\"SHA-256\""),
            Scheme::Strongest => {
                basic + &digest(", qop=\"auth\"") + &digest(", algorithm=SHA-256, qop=\"auth\"")
            }
        }
    }

    /// Whether the request comes from who knows the password, and the nonce if there is one.
    pub(super) fn admits(&self, request: &Request) -> bool {
        if self.scheme == Scheme::Basic {
            let Some((scheme, proof)) = authorization(request) else {
                return false;
            };
            return scheme.eq_ignore_ascii_case("basic")
                && proof.trim() == BASE64.encode(format!("{}:{}", self.user, self.password));
        }
        let expected = match self.nonces {
            // The one that was told with the answer before.
            Nonces::Once => nonce(&format!(
                "{} {}",
                request.connection,
                number(request).saturating_sub(1)
            )),
            _ => self.nonce(request),
        };
        self.digests(request) == Some(expected)
    }

    fn is_stale(&self, request: &Request) -> bool {
        self.nonces != Nonces::OfConnection && self.digests(request).is_some()
    }

    /// The nonce that goes out with the answer to `request`.
    fn nonce(&self, request: &Request) -> String {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        nonce(&match self.nonces {
            Nonces::OfConnection => format!("connection {}", request.connection),
            Nonces::Once => format!("{} {}", request.connection, number(request)),
            Nonces::Lasting(time) => {
                let age = request.at.saturating_duration_since(*START);
                format!("turn {}", age.as_millis() / time.as_millis())
            }
        })
    }

    /// The nonce with which the request proves to know the password, if it does.
    fn digests(&self, request: &Request) -> Option<String> {
        let (scheme, proof) = authorization(request)?;
        let parts = parameters(proof);
        let get = |name: &str| {
            let found = parts.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.as_str())
        };
        let (hash, algorithm): (fn(&str) -> String, _) = match self.scheme {
            Scheme::Basic | Scheme::Digest | Scheme::DigestAuth => (md5_hex, "MD5"),
            Scheme::Sha256 | Scheme::Sha256Bare | Scheme::Strongest => (sha256_hex, "SHA-256"),
        };
        let has_quality = !matches!(self.scheme, Scheme::Digest | Scheme::Sha256Bare);
        let nonce = get("nonce");
        let account = hash(&format!("{}:{REALM}:{}", self.user, self.password));
        let target = hash(&format!("{}:{}", request.method, request.uri));
        let between = if has_quality {
            format!("{nonce}:{}:{}:auth", get("nc"), get("cnonce"))
        } else {
            nonce.to_owned()
        };
        let said = match get("algorithm") {
            "" => "MD5",
            said => said,
        };
        let is_right = scheme.eq_ignore_ascii_case("digest")
            && get("username") == self.user
            && get("realm") == REALM
            && get("uri") == request.uri
            && said == algorithm
            && has_quality == (get("qop") == "auth")
            && get("response") == hash(&format!("{account}:{between}:{target}"));
        is_right.then(|| nonce.to_owned())
    }
}

fn authorization(request: &Request) -> Option<(&str, &str)> {
    request.header("Authorization")?.split_once(' ')
}

fn number(request: &Request) -> u32 {
    let number = request.header("CSeq").and_then(|cseq| cseq.parse().ok());
    number.unwrap_or_default()
}

/// Different for every text, so that an answer to another one is worth nothing.
fn nonce(text: &str) -> String {
    md5_hex(text)
}

fn md5_hex(text: &str) -> String {
    hex(&Md5::digest(text))
}

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Splits `a="1", b=2` at the commas outside quotes, and takes quotes and backslashes away.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => {
                is_escaped = true;
                continue;
            }
            '"' => {
                is_quoted = !is_quoted;
                continue;
            }
            ',' if !is_quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(c);
    }
    let pairs = parts.iter().filter_map(|part| part.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}
