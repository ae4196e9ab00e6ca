//! What a scripted camera is told: a [`Script`] of [`Step`]s per connection.
//!
//! ```
//! use std::time::Duration;
//! use integration_tests::scripted::{Camera, Quirk, Script, Step, Until, h264_sdp};
//!
//! let camera = Camera::describing(h264_sdp()).with(Quirk::LowerCaseCseq);
//! let script = Script::from(vec![
//!     camera.clone().until(Until::Frames(20)),
//!     Step::Garbage(3_000),
//!     camera.until(Until::Elapsed(Duration::from_secs(2))),
//!     Step::Reset,
//! ]);
//! ```

use std::time::Duration;

use super::{
    h264::Size,
    login::{Login, Nonces, Scheme},
    quirk::Quirk,
};

/// The steps of one connection, in order. It is closed after the last.
#[derive(Debug, Clone, Default)]
pub struct Script(pub(super) Vec<Step>);

/// One thing that a connection does. What was set up and plays goes on from one [`Step::Serve`] to the
/// next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Speaks RTSP until something happens.
    Serve(Box<Camera>, Until),
    /// Sends bytes, whatever they are.
    Say(Vec<u8>),
    /// Sends so many bytes without any sense, the same each time.
    Garbage(usize),
    /// Sends a request with this method, as cameras do that ask whether the client lives.
    Ask(&'static str),
    /// Ends every RTP stream by RTCP, without a pause in it (RFC 3550 §6.6).
    Bye,
    /// Continues every RTP stream elsewhere.
    Jump(Jump),
    /// Waits for the first bytes of the peer and forgets them.
    Listen,
    /// Does nothing for a while.
    Wait(Duration),
    /// Stays connected, reads everything and answers nothing, until the peer goes.
    Stall,
    /// Says that it will send nothing more, and can still be sent something.
    HalfClose,
    /// Ends the connection with a TCP reset instead of an orderly close.
    Reset,
}

/// A leap in the numbers of RTP streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jump {
    /// Packets that seem to be missing.
    pub packets: u16,
    /// Time that seems to have passed, in seconds.
    pub seconds: i32,
    /// Whether the synchronization source is another one from now on.
    pub source: bool,
}

/// When a connection stops serving and takes its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never, unless the peer goes.
    Gone,
    /// After so many requests were answered.
    Requests(usize),
    /// After so many bytes were sent, perhaps in the middle of a reply or packet.
    Bytes(usize),
    /// After so many RTP packets were sent.
    Packets(usize),
    /// After so many frames of each track were sent.
    Frames(usize),
    /// After this time.
    Elapsed(Duration),
}

/// How a connection that serves answers its requests.
#[derive(Debug, Clone)]
pub struct Camera {
    pub(super) sdp: Vec<u8>,
    pub(super) login: Option<Login>,
    pub(super) refusals: Vec<(String, u16)>,
    /// Status and location.
    pub(super) moved: Option<(u16, String)>,
    /// How long a session lives without a request, in seconds, as it tells its clients.
    pub(super) timeout: u32,
    pub(super) delay: Duration,
    pub(super) frames: u32,
    pub(super) pace: Duration,
    /// Pictures from one key frame to the next.
    pub(super) gop: u32,
    pub(super) size: Size,
    pub(super) carriers: &'static [Carrier],
    pub(super) silent: Option<&'static str>,
    /// How long a session that was not torn down occupies the camera.
    pub(super) single: Option<Duration>,
    pub(super) quirks: Vec<Quirk>,
}

/// How RTP is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Interleaved with RTSP (RFC 2326 §10.12).
    Tcp,
    /// A pair of ports for each track.
    Udp,
}

impl Camera {
    /// Plays the media that `sdp` describes, ten frames a second and no end.
    pub fn describing(sdp: impl Into<Vec<u8>>) -> Self {
        Self {
            sdp: sdp.into(),
            login: None,
            refusals: Vec::new(),
            moved: None,
            timeout: 60,
            delay: Duration::ZERO,
            frames: u32::MAX,
            pace: Duration::from_millis(100),
            gop: 1,
            size: Size::Dot,
            carriers: &[Carrier::Tcp, Carrier::Udp],
            silent: None,
            single: None,
            quirks: Vec::new(),
        }
    }

    /// The same camera with the media that another `sdp` describes.
    #[must_use]
    pub fn playing(mut self, sdp: impl Into<Vec<u8>>) -> Self {
        self.sdp = sdp.into();
        self
    }

    /// Answers 401 to all but OPTIONS, unless the request proves to know the password.
    #[must_use]
    pub fn requiring(mut self, user: &str, password: &str, scheme: Scheme) -> Self {
        self.login = Some(Login::new(user, password, scheme));
        self
    }

    /// Changes its nonces like this; only after [`Camera::requiring`] with a digest.
    #[must_use]
    pub fn nonces(mut self, nonces: Nonces) -> Self {
        if let Some(login) = &mut self.login {
            login.nonces = nonces;
        }
        self
    }

    /// Answers DESCRIBE with a redirection; an empty `location` is left out.
    #[must_use]
    pub fn redirecting(mut self, status: u16, location: impl Into<String>) -> Self {
        self.moved = Some((status, location.into()));
        self
    }

    /// Tells its clients to send a sign of life within so many seconds; 60 if this is not called.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout = seconds;
        self
    }

    /// Answers a method with an error status, and does not name it among those that it knows.
    #[must_use]
    pub fn refusing(mut self, method: &str, status: u16) -> Self {
        self.refusals.push((method.to_owned(), status));
        self
    }

    /// Thinks so long before every reply.
    #[must_use]
    pub fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends so many frames per track after PLAY and then none, while it goes on to answer.
    #[must_use]
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// Sends a frame so often, with a key frame every `gop` pictures. Those between repeat it.
    #[must_use]
    pub fn pace(mut self, pace: Duration, gop: u32) -> Self {
        (self.pace, self.gop) = (pace, gop);
        self
    }

    /// Draws pictures of this size. Within a stream it changes with the next key frame.
    #[must_use]
    pub fn size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Has only this way to carry media, and answers 461 to others.
    #[must_use]
    pub fn only(mut self, carrier: Carrier) -> Self {
        self.carriers = match carrier {
            Carrier::Tcp => &[Carrier::Tcp],
            Carrier::Udp => &[Carrier::Udp],
        };
        self
    }

    /// Sends nothing of the tracks of this kind, `video` or `audio`.
    #[must_use]
    pub fn silencing(mut self, kind: &'static str) -> Self {
        self.silent = Some(kind);
        self
    }

    /// Has room for one session, and answers 453 to SETUP of another. One that was not torn down
    /// keeps its place for `hold` after its connection has ended.
    #[must_use]
    pub fn single(mut self, hold: Duration) -> Self {
        self.single = Some(hold);
        self
    }

    /// Bends a rule.
    #[must_use]
    pub fn with(mut self, quirk: Quirk) -> Self {
        self.quirks.push(quirk);
        self
    }

    /// Serves until something happens, as a step of a script.
    #[must_use]
    pub fn until(self, until: Until) -> Step {
        Step::Serve(Box::new(self), until)
    }

    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl From<Camera> for Script {
    fn from(camera: Camera) -> Self {
        Self(vec![camera.until(Until::Gone)])
    }
}
