//! Opaque identifiers.

use std::fmt;

/// Names one session: 128 random bits, so that nobody can guess another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u128);

impl SessionId {
    /// A fresh identifier.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The identifier that was written as `text`; none if no identifier is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_whole = text.len() == 32 && text.bytes().all(is_digit);
        let number = is_whole.then(|| u128::from_str_radix(text, 16).ok());
        number.flatten().map(Self)
    }

    /// Enough of it to tell sessions apart in logs and lists, and to end one by; too little to speak for its
    /// client.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_read_as_it_is_written_and_not_otherwise() {
        let id = SessionId::random();
        let text = id.to_string();
        assert_eq!(SessionId::parse(&text), Some(id));
        let small = SessionId(7);
        assert_eq!(SessionId::parse(&small.to_string()), Some(small));
        for wrong in [
            "",
            "7",
            &format!("+{}", &text[1..]),
            &format!("{text}0"),
            &"F".repeat(32),
            &"ö".repeat(16),
        ] {
            assert_eq!(SessionId::parse(wrong), None, "{wrong}");
        }
    }
}
