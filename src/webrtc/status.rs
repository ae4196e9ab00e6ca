//! [`Status`]: how a viewer fares, for the log, the list of sessions and metrics.

use std::{fmt, time::Duration};

use crate::{base::Verdict, hub::Heard, webrtc::ice::Path};

/// What a connection is doing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// ICE and DTLS are under way.
    #[default]
    Connecting,
    /// Media flows.
    Connected,
    /// It is over.
    Ended(End),
}

/// Why a viewer's session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The browser was never reached, and never reached us.
    NeverConnected,
    /// The browser was reached, and is not the one of the offer, or has no cipher in common.
    Refused,
    /// The browser said goodbye.
    Left,
    /// The browser answers no more.
    Vanished,
    /// The source is gone for good.
    SourceEnded,
    /// The camera sends another codec than was agreed on; the viewer has to ask anew.
    SourceChanged,
    /// We were asked to stop.
    Stopped,
}

impl End {
    /// The same as a verdict.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NeverConnected => Verdict::PathBlocked,
            Self::Refused => Verdict::HandshakeFailed,
            Self::Left => Verdict::ViewerLeft,
            Self::Vanished => Verdict::ViewerVanished,
            Self::SourceEnded => Verdict::CameraClosed,
            Self::SourceChanged => Verdict::CodecChanged,
            Self::Stopped => Verdict::SessionStopped,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverConnected => "never connected",
            Self::Refused => "handshake refused",
            Self::Left => "viewer left",
            Self::Vanished => "viewer vanished",
            Self::SourceEnded => "camera closed",
            Self::SourceChanged => "camera changed its codec",
            Self::Stopped => "stopped",
        })
    }
}

/// How a viewer fares. Counters are since its start; brought up to date about once a second.
#[derive(Debug, Default, Clone, Copy)]
pub struct Status {
    /// What the connection is doing.
    pub state: State,
    /// The pair that ICE selected: how its packets go, where to, and from which address of ours if that
    /// is known.
    pub path: Option<Path>,
    /// From the answer to the connection.
    pub connected_after: Option<Duration>,
    /// From the answer to the first picture, or the first sound if there is none.
    pub first_frame_after: Option<Duration>,
    /// Pictures and blocks of sound sent.
    pub frames: u64,
    /// Pictures left out because the path was too slow, or because we were.
    pub skipped: u64,
    /// Packets sent, those sent again not counted.
    pub packets: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Lost packets that were sent again.
    pub resent: u64,
    /// Lost packets that were not there any more.
    pub missed: u64,
    /// Times the viewer's decoder had to begin anew.
    pub key_frame_requests: u64,
    /// Round trip, by ICE or by RTCP.
    pub rtt: Option<Duration>,
    /// Part of the pictures' packets lost at last report, 0 to 1.
    pub loss: f32,
    /// Jitter of the pictures' packets at last report.
    pub jitter: Duration,
    /// Whether the browser has not answered when it was asked if it is there.
    pub is_silent: bool,
    /// What has become of what the viewer says.
    pub speech: Heard,
    /// Whether pictures were left out lately because the path is too slow.
    pub is_slow: bool,
    /// What the path takes, in bits per second; none while it takes everything.
    pub limit: Option<f64>,
}
