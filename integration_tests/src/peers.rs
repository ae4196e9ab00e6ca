//! WebRTC clients that are no browsers, as viewers: what they get of a camera, counted alike.

mod account;
mod alterations;
pub mod observer;
mod program;
pub mod str0m_viewer;
mod webrtc_viewer;

use std::time::Duration;

use tokio::time::Instant;

pub use account::Account;
pub use alterations::{without_bundle, without_rtx};
pub use program::{Program, aiortc, aiortc_at_all, webrtcbin, webrtcbin_with_h265};
pub use webrtc_viewer::{Engine, SrtpProtectionProfile, watch_with};

use crate::server::{Server, answer_of};

/// How long a client may take to get what [`Received::is_enough`] asks for.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Pictures and packets of sound that a client waits for.
const ENOUGH: u64 = 60;

/// What a client asks for, and what is done to its offer on the way.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Whether it receives a picture.
    pub video: bool,
    /// Whether it receives sound.
    pub audio: bool,
    /// Applied to the offer before it is sent; the client does not know.
    pub alter: Option<fn(&str) -> String>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            video: true,
            audio: true,
            alter: None,
        }
    }
}

impl View {
    /// Picture alone.
    #[must_use]
    pub fn video() -> Self {
        Self {
            audio: false,
            ..Self::default()
        }
    }

    /// With an offer altered on the way.
    #[must_use]
    pub fn altered(self, alter: fn(&str) -> String) -> Self {
        Self {
            alter: Some(alter),
            ..self
        }
    }

    /// The kinds asked for, in the offer's order.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        let kinds = [(self.audio, "audio"), (self.video, "video")];
        kinds
            .into_iter()
            .filter_map(|(wanted, kind)| wanted.then_some(kind))
            .collect()
    }

    /// Sends an offer for a camera and gives the answer.
    ///
    /// # Panics
    /// When the server refuses, or there is nothing to alter.
    pub async fn exchange(&self, server: &Server, camera: &str, offer: &str) -> String {
        let sent = self.alter.map_or(offer.to_owned(), |alter| alter(offer));
        assert!(
            self.alter.is_none() || sent != offer,
            "as poor as it gets:\n{offer}"
        );
        answer_of(&server.offer(camera, &sent).await)
    }
}

/// What a client got until it had enough, or until [`LIMIT`].
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Since it sent its offer, if it came to that: ICE and DTLS are done.
    pub connected: Option<Duration>,
    /// Since it sent its offer.
    pub took: Duration,
    /// Of the picture.
    pub video: Stream,
    /// Of the sound.
    pub audio: Stream,
    /// Since it sent its offer: the first picture, where the client decodes.
    pub first: Option<Duration>,
    /// The numbers that pictures show, where the client reads them: 0 for what cannot be read.
    pub numbers: Vec<u32>,
    /// The strongest frequency of the sound in Hz, where the client measures it; 0 of silence.
    pub tone: f64,
}

/// What a client got of one track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// RTP packets, each sequence number once.
    pub packets: u64,
    /// Sequence numbers that never came, between the first and the last that did.
    pub missing: u64,
    /// Pictures, or blocks of sound: decoded ones where the client decodes, whole ones elsewhere.
    pub frames: u64,
}

impl Received {
    /// Whether a viewer has seen and heard enough to be content.
    #[must_use]
    pub fn is_enough(&self, view: &View) -> bool {
        let has = |stream: &Stream| stream.frames >= ENOUGH && stream.packets >= ENOUGH;
        (!view.video || has(&self.video)) && (!view.audio || has(&self.audio))
    }

    /// Whether it connected and got enough, all of it.
    #[must_use]
    pub fn is_whole(&self, view: &View) -> bool {
        let missing = self.video.missing + self.audio.missing;
        self.connected.is_some() && self.is_enough(view) && missing == 0
    }
}

/// The time that a client has.
fn deadline() -> Instant {
    Instant::now() + LIMIT
}
