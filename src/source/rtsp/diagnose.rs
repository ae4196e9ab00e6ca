//! What went wrong with a camera, in words that say what to change.

use std::{io, time::Duration};

use super::{connection::Fault, session::Failure, tls};
use crate::{
    base::{Error, ErrorKind, SourceUrl},
    source::confinement::Refusal,
};

fn unavailable(url: &SourceUrl, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("camera {url}: {what}"))
}

/// The connection could not be made.
pub(super) fn unreachable(url: &SourceUrl, cause: io::Error) -> Error {
    let port = url.port();
    let what = match cause.kind() {
        io::ErrorKind::ConnectionRefused => format!(
            "connection refused; nothing listens on port {port} there: check that RTSP is switched \
             on in the camera, and its port"
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route to the host; check its address, and that this machine is in the same network"
                .to_owned()
        }
        _ => format!("no connection to port {port}; check the address and the port"),
    };
    unavailable(url, &what).with_source(cause)
}

/// TLS could not be agreed on.
pub(super) fn insecure(url: &SourceUrl, cause: io::Error) -> Error {
    let what = match tls::certificate_fault(&cause) {
        Some(fault) => format!(
            "its TLS certificate is not trusted ({fault}); write rtspx:// instead of rtsps:// to \
             accept any certificate, or the camera's IP address instead of its name"
        ),
        None => format!(
            "what listens on port {} speaks no TLS that is safe today; check the port, or use \
             rtsp:// without TLS",
            url.port()
        ),
    };
    unavailable(url, &what).with_source(cause)
}

/// The name of the host leads nowhere.
pub(super) fn unknown_host(url: &SourceUrl) -> Error {
    let host = url.host();
    unavailable(
        url,
        &format!(
            "the host {host} cannot be found; check the name, or write the camera's IP address"
        ),
    )
}

/// No address of the host is one that may be called. Says no more than the class: what is there is
/// nothing to whoever asks.
pub(super) fn confined(url: &SourceUrl, refusal: Refusal) -> Error {
    let what = match refusal {
        Refusal::Never => "no camera is at such an address".to_owned(),
        Refusal::LinkLocal => {
            "this is a link-local address, and this machine is in no such network".to_owned()
        }
        Refusal::Ourselves => "this address is Porthole's own".to_owned(),
        Refusal::Port => format!("port {} belongs to other services", url.port()),
    };
    Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "camera {url}: {what}, so it is not called; check the URL, or write it into the \
             configuration file, whose cameras may be anywhere"
        ),
    )
}

/// It sends us where we do not go; `what` continues "it redirects".
pub(super) fn astray(url: &SourceUrl, what: &str) -> Error {
    unavailable(url, &format!("it redirects {what}"))
}

/// What went wrong at `error`'s camera, to which the one at `url` has sent us.
pub(super) fn after_redirect(url: &SourceUrl, error: &Error) -> Error {
    let text = format!("camera {url} redirects: {error}");
    let kind = error.kind();
    Error::new(kind, text).with_source(error.clone())
}

/// A request, or the stream itself, failed.
pub(super) fn failed(url: &SourceUrl, request: &str, failure: Failure) -> Error {
    match failure {
        Failure::Status(status, reason) => answered(url, request, status, &reason),
        Failure::Answer(what) => unavailable(url, what),
        Failure::Moved(_) => astray(url, "at a time at which that is not followed"),
        Failure::Connection(fault) => {
            let what = match &fault {
                Fault::NotRtsp if request == "DESCRIBE" => format!(
                    "what listens on {}:{} is not RTSP; check the port of the URL (554 is usual)",
                    url.host(),
                    url.port()
                ),
                Fault::NotRtsp => "it sent something that is not RTSP".to_owned(),
                Fault::TooLarge => format!("its answer to {request} is too large to be true"),
                Fault::Closed | Fault::Broken(_) if request == "media" => {
                    "the connection broke off".to_owned()
                }
                Fault::Closed | Fault::Broken(_) => format!(
                    "it closed the connection instead of answering {request}; it may serve only a \
                     few connections at once: close other viewers of it"
                ),
            };
            unavailable(url, &what).with_source(fault)
        }
    }
}

fn answered(url: &SourceUrl, request: &str, status: u16, reason: &str) -> Error {
    let what = match status {
        401 | 403 => {
            let what = if url.credentials().is_none() {
                format!(
                    "it asks for a user name and password ({status}); write them in the URL: \
                     rtsp://user:password@{}/…",
                    url.host()
                )
            } else {
                format!(
                    "it refused the user name or password ({status}); check both, and that this \
                     account may watch the stream"
                )
            };
            return Error::new(ErrorKind::SourceRefused, format!("camera {url}: {what}"));
        }
        404 => "it has no stream at this path (404 Not Found); check the path of the URL in the \
                camera's manual"
            .to_owned(),
        453 | 503 => {
            format!("it is busy ({status}); close other viewers of it, or lower its bit rate")
        }
        461 => "it refuses this transport (461); add #transport=udp to the URL, or remove it"
            .to_owned(),
        300..=399 => format!(
            "it redirects without saying where ({status}); look up the camera's address and path"
        ),
        _ => format!(
            "it answered {request} with an error ({status} {reason}); check the path of the URL, \
             or restart the camera"
        ),
    };
    unavailable(url, &what)
}

/// Nothing came within `limit`.
pub(super) fn silent(url: &SourceUrl, request: &str, limit: Duration) -> Error {
    let seconds = limit.as_secs();
    let what = match request {
        "the name server" => format!(
            "the name server did not answer for {} within {seconds} s; write the camera's IP \
             address instead of its name",
            url.host()
        ),
        "the connection" => format!(
            "no connection to port {} within {seconds} s; check the address, that the camera is \
             switched on, and that no firewall is in between",
            url.port()
        ),
        "the first packet" => {
            "it accepted PLAY and sent no media; if the URL says #transport=udp, a firewall may \
             drop UDP: remove it; otherwise restart the camera"
                .to_owned()
        }
        "media" => format!("no media for {seconds} s; it may have lost power or network"),
        _ => format!(
            "it did not answer {request} within {seconds} s; check the address and port, and that \
             no firewall is in between"
        ),
    };
    Error::new(ErrorKind::DeadlineExceeded, format!("camera {url}: {what}"))
}
