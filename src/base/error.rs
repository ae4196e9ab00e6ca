//! [`Error`]: the one error that crosses modules. Its verdict is one of a closed set, and decides what a
//! caller does next.

use std::{fmt, sync::Arc};

use super::{Diagnosis, Verdict};

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed.
    InvalidArgument,
    /// The caller may not, or the URL is not one that we open.
    PermissionDenied,
    /// The camera refused our credentials or path; asking again gives the same.
    SourceRefused,
    /// There is no such camera or session.
    NotFound,
    /// No codec in common.
    NotAcceptable,
    /// The request is larger than a limit that we set.
    TooLarge,
    /// The request did not arrive in time.
    TooSlow,
    /// A limit that we set is reached.
    ResourceExhausted,
    /// The camera cannot be reached or broke off.
    Unavailable,
    /// A named stage took too long.
    DeadlineExceeded,
    /// The server is shutting down.
    Cancelled,
    /// A mistake of ours.
    Internal,
}

impl ErrorKind {
    /// The HTTP status for this kind; a flavour whose standard asks for another says so itself.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::NotAcceptable => 406,
            Self::TooSlow => 408,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::SourceRefused | Self::Unavailable => 502,
            Self::ResourceExhausted | Self::Cancelled => 503,
            Self::DeadlineExceeded => 504,
        }
    }
}

impl ErrorKind {
    /// Whether asking the camera again does harm: it may lock the account.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self == Self::SourceRefused
    }
}

/// A verdict, a sentence for people, and perhaps the cause underneath.
///
/// `Display` gives the sentence; [`Error::chain`] adds the causes. Neither contains credentials:
/// URLs reach messages only as [`SourceUrl`](super::SourceUrl).
#[derive(Clone)]
pub struct Error {
    diagnosis: Diagnosis,
    message: Arc<str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error whose `message` says what was attempted, on what, and what to do about it. A kind in place
    /// of a verdict stands for its plainest verdict.
    pub fn new(diagnosis: impl Into<Diagnosis>, message: impl Into<String>) -> Self {
        Self {
            diagnosis: diagnosis.into(),
            message: Arc::from(message.into()),
            source: None,
        }
    }

    /// Adds the cause underneath.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds what the other side said, such as the camera's status line; see [`Diagnosis::seen`].
    #[must_use]
    pub fn with_evidence(mut self, evidence: &str) -> Self {
        self.diagnosis = Diagnosis::seen(self.verdict(), evidence);
        self
    }

    /// What is wrong, as one of a closed set.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.diagnosis.verdict
    }

    /// The verdict with the evidence, as programs are told.
    #[must_use]
    pub fn diagnosis(&self) -> &Diagnosis {
        &self.diagnosis
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.verdict().kind()
    }

    /// This error and its causes on one line, for logs.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.verdict(), self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_tells_every_cause_once() {
        let io = std::io::Error::other("reset by peer");
        let error = Error::new(ErrorKind::Unavailable, "no RTP for 10 s").with_source(io);
        assert_eq!(error.chain(), "no RTP for 10 s: reset by peer");
        assert_eq!(error.to_string(), "no RTP for 10 s");
        assert_eq!(error.clone().kind().http_status(), 502);
    }
}
