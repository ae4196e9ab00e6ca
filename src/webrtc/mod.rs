//! Viewers over WebRTC: from an offer and a camera's tracks to packets on the wire.
//!
//! [`offer`] reads what a browser offers, [`negotiate`] decides what it gets, [`answer`] writes that
//! down; [`peer`] carries it, on the connection that the `webrtc` crate makes; [`viewer`] feeds it.
//! The types of that crate stay inside this module.

pub mod addresses;
pub mod answer;
pub mod arena;
pub mod channel;
pub mod dtls;
pub mod engine;
pub mod estimate;
pub mod extension;
pub mod fan;
pub mod feedback;
pub mod history;
pub mod ice;
pub mod lane;
pub mod negotiate;
pub mod offer;
pub mod port;
pub mod relay;
pub mod srtp;
pub mod status;
pub mod stun_client;
pub mod viewer;

pub use engine::{Engine, Request, Session};
pub use negotiate::Plan;
pub use offer::Offer;
