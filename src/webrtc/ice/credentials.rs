//! [`Credentials`], and the [`Keys`] that come of both sides'.

use std::fmt;

use ring::hmac;

use super::stun;

/// `ice-ufrag` and `ice-pwd` of one side (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the agent in requests.
    pub ufrag: String,
    /// The key of the integrity of requests to this side, and of its responses.
    pub password: String,
}

impl Credentials {
    /// 48 random bits of name and 144 of password.
    #[must_use]
    pub fn random() -> Self {
        Self {
            ufrag: ice_chars(rand::random::<[u8; 8]>()),
            password: ice_chars(rand::random::<[u8; 24]>()),
        }
    }
}

/// Passwords belong into no log.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// Six bits of each byte as one `ice-char` (RFC 8839 §5.4).
fn ice_chars<const N: usize>(random: [u8; N]) -> String {
    const CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    random
        .iter()
        .map(|byte| char::from(CHARS[usize::from(byte & 63)]))
        .collect()
}

/// What is signed with, and by whose name, in one generation.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) local: Credentials,
    remote_ufrag: String,
    /// For requests from the remote and our responses.
    pub(super) ours: hmac::Key,
    /// For our requests and the remote's responses.
    pub(super) theirs: hmac::Key,
}

impl Keys {
    pub(super) fn new(local: Credentials, remote: Credentials) -> Self {
        Self {
            ours: stun::key(&local.password),
            theirs: stun::key(&remote.password),
            remote_ufrag: remote.ufrag,
            local,
        }
    }

    /// The USERNAME of our requests.
    pub(super) fn username(&self) -> String {
        format!("{}:{}", self.remote_ufrag, self.local.ufrag)
    }

    /// Whether a request's USERNAME is meant for us and comes from the remote.
    pub(super) fn matches(&self, username: &[u8]) -> bool {
        username
            .strip_prefix(self.local.ufrag.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"))
            == Some(self.remote_ufrag.as_bytes())
    }
}
