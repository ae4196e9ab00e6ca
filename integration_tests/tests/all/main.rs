//! Porthole as its users meet it: the real binary between real cameras and a real browser.
//!
//! One program for all of them, as linking it takes longer than most of its tests.

mod b_frames;
mod carriers;
mod codecs;
mod confinement;
mod connectivity;
mod corpus;
mod faults;
mod go2rtc;
mod go2rtc_client;
mod h265;
mod home_assistant;
mod interop;
mod lifecycle;
mod loss;
mod matrix;
mod media;
mod openapi;
mod page;
mod player_pages;
mod power;
mod probe;
mod programs;
mod python_client;
mod rtsp_to_web;
mod signaling;
mod sound;
mod sources;
mod speech;
mod stills;
mod verdicts;
mod whep;

use integration_tests::{browser, camera, tools::Alone};

/// The machine for a test with cameras and a browser; none where one of them is not installed.
async fn cameras_and_browser() -> Option<Alone> {
    if camera::installed() && browser::installed() {
        Some(integration_tests::alone().await)
    } else {
        None
    }
}
