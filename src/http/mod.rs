//! HTTP: the server, its defences, the page, and what is asked about the server itself.

pub mod guard;
pub mod page;
pub mod server;
pub mod status;
