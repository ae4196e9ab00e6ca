//! Who may watch: Basic [RFC 7617] and Digest with MD5 [RFC 2617], which is what cameras speak.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::{Digest as _, Md5};

use super::message::Request;

const REALM: &str = "scripted camera";

/// How a password is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Sent in base64.
    Basic,
    /// Hashed with MD5 and a nonce, without `qop`, as most cameras do.
    Digest,
}

/// The one account of a camera.
#[derive(Debug, Clone)]
pub struct Login {
    user: String,
    password: String,
    scheme: Scheme,
}

impl Login {
    /// An account.
    #[must_use]
    pub fn new(user: &str, password: &str, scheme: Scheme) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            scheme,
        }
    }

    /// The value of `WWW-Authenticate`.
    pub(super) fn challenge(&self, connection: usize) -> String {
        match self.scheme {
            Scheme::Basic => format!("Basic realm=\"{REALM}\""),
            Scheme::Digest => {
                format!("Digest realm=\"{REALM}\", nonce=\"{}\"", nonce(connection))
            }
        }
    }

    /// Whether the request comes from who knows the password.
    pub(super) fn admits(&self, request: &Request) -> bool {
        let Some((scheme, proof)) = request
            .header("Authorization")
            .and_then(|value| value.split_once(' '))
        else {
            return false;
        };
        match self.scheme {
            Scheme::Basic => {
                scheme.eq_ignore_ascii_case("basic")
                    && proof.trim() == BASE64.encode(format!("{}:{}", self.user, self.password))
            }
            Scheme::Digest => scheme.eq_ignore_ascii_case("digest") && self.digests(proof, request),
        }
    }

    fn digests(&self, proof: &str, request: &Request) -> bool {
        let parts = parameters(proof);
        let get = |name: &str| {
            let found = parts.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map_or("", |(_, value)| value.as_str())
        };
        let nonce = nonce(request.connection);
        let account = md5_hex(&format!("{}:{REALM}:{}", self.user, self.password));
        let target = md5_hex(&format!("{}:{}", request.method, request.uri));
        get("username") == self.user
            && get("realm") == REALM
            && get("nonce") == nonce
            && get("uri") == request.uri
            && get("response") == md5_hex(&format!("{account}:{nonce}:{target}"))
    }
}

/// Different for every connection, so that an answer of an earlier one is worth nothing.
fn nonce(connection: usize) -> String {
    md5_hex(&format!("connection {connection}"))
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Splits `a="1", b=2` at the commas outside quotes.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .filter_map(|part| part.split_once('='))
    .map(|(name, value)| {
        (
            name.trim().to_owned(),
            value.trim().trim_matches('"').to_owned(),
        )
    })
    .collect()
}
