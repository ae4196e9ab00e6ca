//! What a scripted camera is told: a [`Script`] of [`Step`]s per connection.

use std::time::Duration;

use super::login::{Login, Nonces, Scheme};

/// The steps of one connection, in order. It is closed after the last.
#[derive(Debug, Clone, Default)]
pub struct Script(pub(super) Vec<Step>);

/// One thing that a connection does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Speaks RTSP until something happens.
    Serve(Box<Camera>, Until),
    /// Sends bytes, whatever they are.
    Say(Vec<u8>),
    /// Waits for the first bytes of the peer and forgets them.
    Listen,
    /// Does nothing for a while.
    Wait(Duration),
    /// Stays connected, reads everything and answers nothing, until the peer goes.
    Stall,
    /// Ends the connection with a TCP reset instead of an orderly close.
    Reset,
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
        }
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

    /// Answers a method with an error status.
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

    /// Serves until something happens, as a step of a script.
    #[must_use]
    pub fn until(self, until: Until) -> Step {
        Step::Serve(Box::new(self), until)
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
