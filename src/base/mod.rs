//! What every layer speaks: errors, verdicts, tasks, secrets, identifiers, back-off, logs.

pub mod backoff;
pub mod error;
pub mod id;
mod masked;
pub mod program;
pub mod reach;
pub mod redact;
pub mod source_text;
pub mod source_url;
pub mod tasks;
pub mod tracing;
pub mod verdict;

pub use error::{Error, ErrorKind};
pub use id::SessionId;
pub use program::{Program, ProgramKind};
pub use redact::{Credentials, Secret};
pub use source_text::{Meaning, SourceText};
pub use source_url::SourceUrl;
pub use tasks::Tasks;
pub use verdict::{Diagnosis, Note, Stage, Verdict};
