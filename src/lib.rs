//! Porthole: any IP camera, live in any browser.
//!
//! A client posts an SDP offer and the name or URL of a camera; Porthole opens the camera, once for
//! all viewers, and answers with a peer connection that plays it.
//!
//! Modules import downwards only; `tests/architecture.rs` holds them to it:
//!
//! ```text
//!              main
//!               |
//!              app - probe      the server; a look at one camera, which is all that it sees
//!               |
//!              http
//!               |
//!           signaling           dialects around one offer and one answer
//!               |
//!            context            what they share
//!            /     \
//!     registry     stills       cameras with a name; pictures that stand still
//!            |     |
//!     directory   session       names to running hubs; who watches
//!            \     /
//!            source             what produces media
//!               |
//!            webrtc             what carries it to browsers
//!               |
//!              hub              where one source meets its viewers
//!            /     \
//!        media    config        pure; data
//!            \     /
//!             base              errors, tasks, secrets, logs
//! ```

pub mod app;
pub mod base;
pub mod config;
pub mod context;
pub mod directory;
pub mod http;
pub mod hub;
pub mod media;
pub mod probe;
pub mod registry;
pub mod session;
pub mod signaling;
pub mod source;
pub mod stills;
pub mod webrtc;

pub use app::App;
