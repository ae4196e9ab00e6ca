//! [`Verdict`]: what is wrong with an attempt to watch, as one code out of a closed set.
//!
//! The table below is the only place where codes, stages, causes and advice are written;
//! `docs/verdicts.md` and `openapi.yaml` are compared with it.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use super::{Error, ErrorKind};

/// Longest evidence, in characters.
const EVIDENCE_MAX: usize = 120;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The client's request, before a camera is asked.
    Request,
    /// This server itself.
    Server,
    /// Finding the address of the camera's name.
    Name,
    /// The TCP connection to the camera.
    Connect,
    /// TLS with the camera.
    Tls,
    /// DESCRIBE, SETUP and PLAY.
    Rtsp,
    /// What the camera sends.
    Media,
    /// What the browser offers.
    Offer,
    /// ICE: a path between browser and server.
    Path,
    /// DTLS with the browser.
    Handshake,
    /// The picture has been there.
    Watching,
}

macro_rules! verdicts {
    ($($(#[doc = $cause:literal])+ $verdict:ident, $code:literal, $stage:ident, $kind:ident, $advice:literal;)*) => {
        /// What is wrong with an attempt.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verdict {
            $($(#[doc = $cause])+ $verdict,)*
        }

        impl Verdict {
            /// Every verdict there is.
            pub const ALL: &[Self] = &[$(Self::$verdict,)*];

            /// Its name for programs; it never changes.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$verdict => $code,)* }
            }

            /// How far the attempt had come.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$verdict => Stage::$stage,)* }
            }

            /// What a caller can do about an error with this verdict.
            #[must_use]
            pub const fn kind(self) -> ErrorKind {
                match self { $(Self::$verdict => ErrorKind::$kind,)* }
            }

            /// One sentence: what is wrong.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$verdict => concat!($($cause),+).trim_ascii(),)* }
            }

            /// One sentence: what to do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$verdict => $advice,)* }
            }
        }
    };
}

verdicts! {
    /// The request is malformed.
    BadRequest, "bad-request", Request, InvalidArgument,
        "Correct the client; the error names what is missing or cannot be read.";
    /// The request is larger than any browser's offer.
    RequestTooLarge, "request-too-large", Request, TooLarge,
        "Send the offer alone, without anything around it.";
    /// The request did not arrive in time.
    RequestTooSlow, "request-too-slow", Request, TooSlow,
        "Check the network between the client and this server, and send it again.";
    /// This cannot be done by this request.
    NotAllowed, "not-allowed", Request, PermissionDenied,
        "Do it with a login, or in the configuration file; the error says which.";
    /// This server wants a login, and the request shows none or a wrong one.
    ServerLogin, "server-login", Request, PermissionDenied,
        "Show the user name and password, or the token, of auth in the configuration.";
    /// A web page of another site may not use this server.
    ForeignPage, "foreign-page", Request, PermissionDenied,
        "Add the page's origin to allowed_origins in the configuration.";
    /// This server does not go by the name under which it was opened.
    ForeignName, "foreign-name", Request, PermissionDenied,
        "Open it by its IP address, or add the name to allowed_hosts in the configuration.";
    /// The camera's URL cannot be read, or is of a kind that is not opened.
    BadUrl, "bad-url", Request, InvalidArgument,
        "Write it like rtsp://user:password@host:554/path.";
    /// There is no camera with this name.
    UnknownCamera, "unknown-camera", Request, NotFound,
        "Choose a name that GET /cameras lists, or add the camera to the configuration.";
    /// There is no such session; it has ended, or never was.
    UnknownSession, "unknown-session", Request, NotFound,
        "Make a new offer; GET /sessions lists the sessions that there are.";

    /// A limit of this server is reached.
    ServerFull, "server-full", Server, ResourceExhausted,
        "Close other viewers or cameras, or try again in a moment.";
    /// The server is shutting down.
    ShuttingDown, "shutting-down", Server, Cancelled,
        "Try again when it has started.";
    /// The server made a mistake.
    Internal, "internal", Server, Internal,
        "Report it with the lines of the log around it.";

    /// The program that this camera needs is not on this machine.
    ProgramMissing, "program-missing", Server, Unavailable,
        "Install it, such as ffmpeg, or write its whole path in the configuration (ffmpeg.bin).";
    /// The program that should bring the camera's media has ended.
    ProgramFailed, "program-failed", Server, Unavailable,
        "Read the evidence, and run the command by hand; it is started again by itself.";
    /// The program that should bring the camera's media brings none.
    ProgramSilent, "program-silent", Server, DeadlineExceeded,
        "Check what it reads, and run the command by hand; it is started again by itself.";

    /// The name of the camera's host cannot be found.
    UnknownHost, "unknown-host", Name, Unavailable,
        "Check the host name in the URL, or write the camera's IP address.";
    /// The name server did not answer.
    NameServerSilent, "name-server-silent", Name, DeadlineExceeded,
        "Write the camera's IP address instead of its name, or check this machine's name server.";

    /// The camera's machine refuses connections to this port.
    PortClosed, "port-closed", Connect, Unavailable,
        "Switch RTSP on in the camera, and check the port in the URL.";
    /// The camera's address cannot be reached.
    HostUnreachable, "host-unreachable", Connect, Unavailable,
        "Check the address in the URL, that the camera is on, and that this machine is in its network.";
    /// Nothing at the camera's address answers.
    ConnectTimeout, "connect-timeout", Connect, DeadlineExceeded,
        "Check the address in the URL, that the camera is on, and that no firewall is in between.";
    /// The URL leads to a place where no camera may be.
    ForbiddenAddress, "forbidden-address", Connect, PermissionDenied,
        "Check the URL; cameras in the configuration file may be anywhere.";

    /// The camera's TLS certificate is not trusted.
    TlsUntrusted, "tls-untrusted", Tls, Unavailable,
        "Write rtspx:// instead of rtsps:// to accept any certificate, or the camera's IP address.";
    /// What answers there speaks no TLS that is safe today.
    TlsFailed, "tls-failed", Tls, Unavailable,
        "Check the port in the URL, or use rtsp:// without TLS.";
    /// The camera did not finish the TLS handshake in time.
    TlsTimeout, "tls-timeout", Tls, DeadlineExceeded,
        "Check the port in the URL, or use rtsp:// without TLS.";

    /// What answers there is not an RTSP server.
    NotRtsp, "not-rtsp", Rtsp, Unavailable,
        "Check the port in the URL; 554 is usual for RTSP.";
    /// The camera did not answer a request in time.
    CameraTimeout, "camera-timeout", Rtsp, DeadlineExceeded,
        "Check the address and the port in the URL, or restart the camera.";
    /// The camera closed the connection instead of answering.
    CameraHungUp, "camera-hung-up", Rtsp, Unavailable,
        "Close other viewers of the camera: it may serve only a few connections at once.";
    /// The camera asks for a user name and password.
    PasswordMissing, "password-missing", Rtsp, SourceRefused,
        "Write them in the URL, like rtsp://user:password@host/path.";
    /// The camera refused the user name or password.
    PasswordRefused, "password-refused", Rtsp, SourceRefused,
        "Correct them in the URL, and check that this account may watch the stream.";
    /// The camera has no stream at this path.
    UnknownPath, "unknown-path", Rtsp, Unavailable,
        "Look up the path of the URL in the camera's manual.";
    /// The camera has not enough bandwidth for one more viewer.
    NotEnoughBandwidth, "not-enough-bandwidth", Rtsp, Unavailable,
        "Close other viewers of the camera, or lower its bit rate.";
    /// The camera serves as many viewers as it can.
    CameraFull, "camera-full", Rtsp, Unavailable,
        "Close other viewers of the camera, such as its own app or a recorder.";
    /// The camera refuses the way in which media is asked for.
    TransportRefused, "transport-refused", Rtsp, Unavailable,
        "Add #transport=udp to the URL, or take it away.";
    /// The camera sends us to a place where no camera may be.
    RedirectForbidden, "redirect-forbidden", Rtsp, PermissionDenied,
        "Write the address at which the camera really is in the URL or the configuration file.";
    /// The camera sends us elsewhere in a way that cannot be followed.
    RedirectLost, "redirect-lost", Rtsp, Unavailable,
        "Write the address at which the camera really is in the URL.";
    /// The camera's answer breaks the rules of RTSP.
    BadAnswer, "bad-answer", Rtsp, Unavailable,
        "Restart the camera, and bring its firmware up to date.";
    /// The camera answered with an error.
    CameraError, "camera-error", Rtsp, Unavailable,
        "Check the path of the URL, or restart the camera.";

    /// The camera's description names neither video nor audio.
    BadDescription, "bad-description", Media, NotAcceptable,
        "Check the path of the URL, or choose another stream of the camera.";
    /// The camera has no video.
    NoVideo, "no-video", Media, NotAcceptable,
        "Switch the video of this stream on in the camera, or use another stream of it.";
    /// The camera's video has a codec that browsers cannot play by WebRTC.
    UnsupportedVideo, "unsupported-video", Media, NotAcceptable,
        "Set the camera's video to H.264, use its second stream, or configure ffmpeg:…#video=h264.";
    /// The camera's sound has a codec that browsers cannot play by WebRTC.
    UnsupportedAudio, "unsupported-audio", Media, NotAcceptable,
        "Set the camera's sound to AAC-LC, G.711 (PCMU or PCMA) or Opus, with one or two channels.";
    /// The camera sends B-frames, which browsers cannot show by WebRTC.
    BFrames, "b-frames", Media, NotAcceptable,
        "Set the H.264 profile to Baseline in the camera, or the number of B-frames to 0.";
    /// A source of the camera cannot be used, and what the others have is played.
    OtherSource, "other-source", Media, Unavailable,
        "Check the source that the note names; who watches anew gets it when it is there again.";
    /// No key frame has come from the camera for a while, so nothing can be decoded.
    NoKeyFrame, "no-key-frame", Media, DeadlineExceeded,
        "Set the key frame interval (I-frame interval) to 2 s or less in the camera, or restart it.";
    /// The camera has accepted to play and sends no media.
    NoMedia, "no-media", Media, DeadlineExceeded,
        "Take #transport=udp away if a firewall may drop UDP; otherwise restart the camera.";
    /// The camera has stopped sending.
    Stalled, "stalled", Media, DeadlineExceeded,
        "Check the camera's power and network; it is called again by itself.";
    /// One track of the camera has stopped while the other goes on.
    TrackStopped, "track-stopped", Media, DeadlineExceeded,
        "Restart the camera.";
    /// The connection to the camera broke off.
    ConnectionLost, "connection-lost", Media, Unavailable,
        "Check the camera's power and network; it is called again by itself.";
    /// The camera ended the stream.
    CameraEnded, "camera-ended", Media, Unavailable,
        "Nothing: it is called again by itself.";
    /// The camera's video has a profile that browsers do not decode, or another than it describes.
    WrongProfile, "wrong-profile", Media, NotAcceptable,
        "Set the H.264 profile to Baseline, Main or High in the camera, with 8 bits and 4:2:0.";
    /// The camera's key frames are far apart, so the first viewer waits long, and so do all after a loss.
    LongKeyFrameInterval, "long-key-frame-interval", Media, Unavailable,
        "Set the key frame interval (I-frame interval) to 2 s or less in the camera.";
    /// The camera sends no RTCP sender reports, so sound and picture may drift apart.
    NoSenderReports, "no-sender-reports", Media, Unavailable,
        "Switch RTCP on in the camera, or bring its firmware up to date.";
    /// Packets are lost between the camera and this server.
    PacketLoss, "packet-loss", Media, Unavailable,
        "Check the network in between, or lower the camera's bit rate.";
    /// The camera's picture is of a kind of which no JPEG can be made.
    NoStill, "no-still", Media, NotAcceptable,
        "Set the camera to H.264 Main profile, progressive, with key frames.";
    /// The camera's last key frame cannot be decoded.
    DamagedPicture, "damaged-picture", Media, Unavailable,
        "Set the camera to H.264 Main profile, and check its network for losses.";
    /// The JPEG was not made in time.
    LateStill, "late-still", Media, DeadlineExceeded,
        "Ask again; this server is busy, or the camera's key frames are far apart.";

    /// The camera cannot be talked to: it has no ONVIF back channel.
    NoBackChannel, "no-back-channel", Media, NotAcceptable,
        "Switch the sound output (speaker) on in the camera, if it has one; not every camera takes speech by RTSP.";
    /// The camera's back channel takes no sound that can be made here.
    UnsupportedSpeech, "unsupported-speech", Media, NotAcceptable,
        "Set the sound output of the camera to G.711 (PCMU or PCMA).";
    /// The camera could not be asked for its back channel, or did not open it, or closed it.
    BackChannelFailed, "back-channel-failed", Media, Unavailable,
        "Close other clients of the camera, as a second connection to it is needed for speech; then try again.";

    /// The session description of the client is not an offer that can be answered.
    BadOffer, "bad-offer", Offer, InvalidArgument,
        "Correct the client; the error names what is wrong with its SDP.";
    /// The browser does not take the codec of the camera's video.
    BrowserVideo, "browser-video", Offer, NotAcceptable,
        "Set the camera's video to H.264, which every browser takes, or use another browser.";
    /// The browser does not take the codec of the camera's sound.
    BrowserAudio, "browser-audio", Offer, NotAcceptable,
        "Set the camera's sound to Opus or G.711, or use another browser.";
    /// The browser did not announce the profile or level of the camera's video.
    VideoProfile, "video-profile", Offer, NotAcceptable,
        "If no picture appears, set the camera to H.264 Main or Baseline profile, or use its second stream.";
    /// Nothing that the camera sends fits what the client asks for.
    NothingToPlay, "nothing-to-play", Offer, NotAcceptable,
        "Ask for video and audio; the error names what the camera has.";

    /// No network path was found between the browser and this server.
    PathBlocked, "path-blocked", Path, DeadlineExceeded,
        "Let the media port (8555, UDP and TCP) through the firewall, and name the address that \
         browsers reach in media_addresses.";
    /// UDP is blocked between the browser and this server, so media goes by TCP.
    MediaOverTcp, "media-over-tcp", Path, Unavailable,
        "Let UDP on the media port (8555) through the firewall; over TCP the picture may stutter.";

    /// The browser was reached, and the encryption could not be agreed on.
    HandshakeFailed, "handshake-failed", Handshake, Unavailable,
        "Reload the page; if it stays, something between browser and server changes the packets.";

    /// The network to the viewer is too slow for the camera's bit rate, so pictures are left out.
    SlowPath, "slow-path", Watching, Unavailable,
        "Lower the camera's bit rate, use its second stream, or improve the viewer's network.";
    /// Somebody else speaks through the camera at the moment.
    SpeakerBusy, "speaker-busy", Watching, Unavailable,
        "Wait until they have been silent for some seconds; the picture goes on.";
    /// The viewer answers no more.
    ViewerVanished, "viewer-vanished", Watching, Unavailable,
        "Check the network of the viewer's device; the page comes back by itself.";
    /// The viewer has left.
    ViewerLeft, "viewer-left", Watching, Cancelled,
        "Nothing: this is how watching ends.";
    /// The camera was closed meanwhile.
    CameraClosed, "camera-closed", Watching, Cancelled,
        "Ask again; it was removed, changed, or is being closed.";
    /// The camera sends another codec than before.
    CodecChanged, "codec-changed", Watching, Unavailable,
        "Reload the page; the new codec needs a new offer.";
    /// This server was asked to end the session.
    SessionStopped, "session-stopped", Watching, Cancelled,
        "Reload the page to watch again.";
}

impl From<ErrorKind> for Verdict {
    /// The plainest verdict of a kind, for where nothing more is known.
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::BadRequest,
            ErrorKind::PermissionDenied => Self::NotAllowed,
            ErrorKind::SourceRefused => Self::PasswordRefused,
            ErrorKind::NotFound => Self::UnknownCamera,
            ErrorKind::NotAcceptable => Self::NothingToPlay,
            ErrorKind::TooLarge => Self::RequestTooLarge,
            ErrorKind::TooSlow => Self::RequestTooSlow,
            ErrorKind::ResourceExhausted => Self::ServerFull,
            ErrorKind::Unavailable => Self::CameraError,
            ErrorKind::DeadlineExceeded => Self::CameraTimeout,
            ErrorKind::Cancelled => Self::ShuttingDown,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A verdict with what was seen.
///
/// Programs get it as an object with `code`, `stage`, `cause`, `evidence` and `advice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong.
    pub verdict: Verdict,
    evidence: Option<Arc<str>>,
}

impl Diagnosis {
    /// The same verdict with what the other side said, of which only the first printable 120 characters are
    /// kept. It must not contain a secret; words that may be a URL are left out.
    #[must_use]
    pub fn seen(verdict: Verdict, evidence: &str) -> Self {
        let words = evidence.split_whitespace();
        let words: Vec<_> = words
            .filter(|word| !word.contains("://") && !word.contains('@'))
            .collect();
        let text = words.join(" ");
        let printable = text.chars().filter(|c| !c.is_control());
        let text: String = printable.take(EVIDENCE_MAX).collect();
        Self {
            verdict,
            evidence: (!text.is_empty()).then(|| Arc::from(text)),
        }
    }

    /// What the other side said, such as the camera's status line.
    #[must_use]
    pub fn evidence(&self) -> Option<&str> {
        self.evidence.as_deref()
    }
}

impl From<Verdict> for Diagnosis {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            evidence: None,
        }
    }
}

impl From<ErrorKind> for Diagnosis {
    fn from(kind: ErrorKind) -> Self {
        Verdict::from(kind).into()
    }
}

/// What somebody who watches should know: what is missing, why, and what to do.
#[derive(Debug, Clone)]
pub struct Note {
    /// What is wrong.
    pub diagnosis: Diagnosis,
    /// A sentence for people.
    pub sentence: String,
}

impl Note {
    /// A note without evidence.
    pub fn new(verdict: Verdict, sentence: impl Into<String>) -> Self {
        Self {
            diagnosis: verdict.into(),
            sentence: sentence.into(),
        }
    }
}

impl From<Note> for Error {
    fn from(note: Note) -> Self {
        Self::new(note.diagnosis, note.sentence)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Object<'a> {
            code: &'static str,
            stage: Stage,
            cause: &'static str,
            evidence: Option<&'a str>,
            advice: &'static str,
        }
        let verdict = self.verdict;
        let object = Object {
            code: verdict.code(),
            stage: verdict.stage(),
            cause: verdict.cause(),
            evidence: self.evidence(),
            advice: verdict.advice(),
        };
        object.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_different_and_kebab_case_and_texts_are_sentences() {
        let mut codes: Vec<_> = Verdict::ALL.iter().map(|v| v.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Verdict::ALL.len());
        let of_a_code = |c: char| c.is_ascii_lowercase() || c == '-';
        for verdict in Verdict::ALL {
            assert!(verdict.code().chars().all(of_a_code), "{verdict}");
            for text in [verdict.cause(), verdict.advice()] {
                assert!(text.ends_with('.') && text.trim() == text, "{text:?}");
                assert!(!text.contains("  ") && !text.contains('|'), "{text:?}");
            }
        }
    }

    #[test]
    fn the_plainest_verdict_of_a_kind_is_of_that_kind() {
        for verdict in Verdict::ALL {
            let kind = verdict.kind();
            assert_eq!(Verdict::from(kind).kind(), kind, "{verdict}");
        }
    }

    #[test]
    fn evidence_is_short_and_printable_and_has_no_url() {
        let seen = |text: &str| Diagnosis::seen(Verdict::CameraError, text);
        let status = "RTSP/1.0 500\r\n see\u{7} rtsp://u:secret@h/x or u@h";
        assert_eq!(
            seen(status).evidence(),
            Some("RTSP/1.0 500 see or"),
            "{status}"
        );
        assert_eq!(seen(" \r\n").evidence(), None);
        let long = seen(&"ä".repeat(500));
        assert_eq!(long.evidence().map(|text| text.chars().count()), Some(120));
        let told = serde_json::to_value(seen("RTSP/1.0 500 Oops")).unwrap();
        assert_eq!(
            (&told["code"], &told["stage"], &told["evidence"]),
            (
                &"camera-error".into(),
                &"rtsp".into(),
                &"RTSP/1.0 500 Oops".into()
            )
        );
    }
}
