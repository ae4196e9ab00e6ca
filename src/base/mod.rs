//! What every layer speaks: errors, tasks, secrets, identifiers, back-off, logs.

pub mod backoff;
pub mod error;
pub mod id;
pub mod redact;
pub mod tasks;
pub mod tracing;

pub use error::{Error, ErrorKind};
pub use id::SessionId;
pub use redact::{Secret, SourceUrl};
pub use tasks::Tasks;
