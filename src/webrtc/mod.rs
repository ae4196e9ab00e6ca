//! Viewers over WebRTC: from an offer and a camera's tracks to packets on the wire.
//!
//! - [`offer`] reads what a browser offers, [`negotiate`] decides what it gets, [`answer`] writes that
//!   down; [`addresses`] knows where we can be reached, [`admission`] whom offers may have us ask.
//! - [`engine`] gives each viewer to the [`fan`] of its camera, a task that takes each frame once and
//!   sends it to all of its viewers, over the one [`port`] that all share.
//! - [`viewer`] is one connection without sockets: [`ice`] and [`dtls`] make it, [`lane`] numbers,
//!   stamps and seals the packets of a [`history`] into an [`arena`], [`feedback`] and [`estimate`] heed
//!   what the browser reports; [`hearing`] and [`ear`] take what a viewer says.
//!
//! `docs/packet-path.md` tells the way of a packet. The types of the crates of the WebRTC family stay
//! inside this module.

pub mod addresses;
pub mod admission;
pub mod answer;
pub mod arena;
pub mod channel;
pub mod dtls;
pub mod ear;
pub mod engine;
pub mod estimate;
pub mod extension;
pub mod fan;
pub mod feedback;
pub mod hearing;
pub mod history;
pub mod ice;
pub mod inbox;
pub mod lane;
pub mod negotiate;
pub mod offer;
pub mod port;
pub mod relay;
pub mod srtp;
pub mod status;
pub mod stun_client;
pub mod viewer;

pub use engine::{Brought, Control, Engine, Request, Session};
pub use negotiate::Plan;
pub use offer::Offer;
