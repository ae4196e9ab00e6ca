//! Viewers over WebRTC: from an offer and a camera's tracks to packets on the wire.
//!
//! [`offer`] reads what a browser offers, [`negotiate`] decides what it gets, [`answer`] writes that
//! down; [`peer`] carries it, on the connection that the `webrtc` crate makes; [`viewer`] feeds it.
//! The types of that crate stay inside this module.

pub mod answer;
pub mod gate;
pub mod lane;
pub mod negotiate;
pub mod offer;
pub mod peer;
pub mod viewer;

pub use negotiate::Plan;
pub use offer::Offer;
pub use peer::Peer;
