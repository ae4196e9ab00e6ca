//! What every layer speaks: errors, tasks, secrets, identifiers, back-off, logs.

pub mod backoff;
pub mod error;
pub mod id;
mod masked;
pub mod redact;
pub mod source_text;
pub mod source_url;
pub mod tasks;
pub mod tracing;

pub use error::{Error, ErrorKind};
pub use id::SessionId;
pub use redact::{Credentials, Secret};
pub use source_text::{Meaning, SourceText};
pub use source_url::SourceUrl;
pub use tasks::Tasks;
