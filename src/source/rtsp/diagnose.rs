//! What went wrong with a camera, in words that say what to change.

use std::time::Duration;

use crate::base::{Error, ErrorKind, SourceUrl};

/// Longest piece of a library's message that is passed on, in characters.
const CAUSE_MAX: usize = 160;

/// A request, or the stream itself, failed with `cause`.
pub(super) fn failed(url: &SourceUrl, request: &str, cause: &retina::Error) -> Error {
    let (host, port) = (url.host(), url.port());
    let text = cause.to_string();
    // What follows the first line is addresses and times of the connection.
    let line: String = text
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(CAUSE_MAX)
        .collect();
    let (kind, what) = match cause.status_code() {
        Some(status) => answered(status, request, url, &line),
        None if text.starts_with("Unable to connect") => {
            (ErrorKind::Unavailable, refused(&text, port))
        }
        None if text.contains("at EOF") && request != "PLAY" => {
            (ErrorKind::Unavailable, hung_up(request))
        }
        None if text.starts_with("RTSP framing error") && text.contains("request") => (
            ErrorKind::Unavailable,
            format!("it sent a request of its own instead of answering {request}"),
        ),
        None if text.starts_with("RTSP framing error") => (
            ErrorKind::Unavailable,
            format!(
                "what listens on {host}:{port} is not RTSP; check the port of the URL (554 is usual)"
            ),
        ),
        None if text.starts_with("Timeout") => (
            ErrorKind::Unavailable,
            "it did not answer a keep-alive in time".to_owned(),
        ),
        None if text.starts_with("Error reading") && request != "PLAY" => {
            (ErrorKind::Unavailable, hung_up(request))
        }
        None if text.starts_with("Error reading") => (
            ErrorKind::Unavailable,
            "the connection broke off".to_owned(),
        ),
        None => (
            ErrorKind::Unavailable,
            format!("it broke the protocol at {request}: {line}"),
        ),
    };
    Error::new(kind, format!("camera {url}: {what}"))
}

fn answered(status: u16, request: &str, url: &SourceUrl, line: &str) -> (ErrorKind, String) {
    match status {
        401 | 403 if url.credentials().is_none() => (
            ErrorKind::SourceRefused,
            format!(
                "it asks for a user name and password ({status}); write them in the URL: \
                 rtsp://user:password@{}/…",
                url.host()
            ),
        ),
        401 | 403 => (
            ErrorKind::SourceRefused,
            format!(
                "it refused the user name or password ({status}); check both, and that this \
                 account may watch the stream"
            ),
        ),
        404 => (
            ErrorKind::Unavailable,
            "it has no stream at this path (404 Not Found); check the path of the URL in the \
             camera's manual"
                .to_owned(),
        ),
        453 | 503 => (
            ErrorKind::Unavailable,
            format!("it is busy ({status}); close other viewers of it, or lower its bit rate"),
        ),
        461 => (
            ErrorKind::Unavailable,
            "it refuses this transport (461); add #transport=udp to the URL, or #transport=tcp"
                .to_owned(),
        ),
        200..=299 => (
            ErrorKind::Unavailable,
            format!(
                "its answer to {request} cannot be read ({line}); update the camera's firmware, or \
                 try another stream of it"
            ),
        ),
        300..=399 => (
            ErrorKind::Unavailable,
            format!("it redirects to another address ({status}); use that address in the URL"),
        ),
        _ => (
            ErrorKind::Unavailable,
            format!("it answered {request} with an error: {line}"),
        ),
    }
}

fn hung_up(request: &str) -> String {
    format!(
        "it closed the connection instead of answering {request}; it may serve only a few \
         connections at once: close other viewers of it"
    )
}

fn refused(text: &str, port: u16) -> String {
    if text.contains("refused") {
        format!(
            "connection refused; nothing listens on port {port} there: check that RTSP is \
             switched on in the camera, and its port"
        )
    } else if text.contains("unreachable") || text.contains("No route") {
        "no route to the host; check its address, and that this machine is in the same network"
            .to_owned()
    } else {
        format!("no connection to port {port}; check the address and the port")
    }
}

/// Nothing came within `limit`.
pub(super) fn silent(url: &SourceUrl, request: &str, limit: Duration) -> Error {
    let seconds = limit.as_secs();
    let what = if request == "media" {
        format!("no media for {seconds} s; it may have lost power or network")
    } else if request == "the first packet" {
        "it accepted PLAY and sent no media; if a firewall drops UDP, remove #transport=udp, or \
         restart the camera"
            .to_owned()
    } else {
        format!(
            "it did not answer {request} within {seconds} s; check the address and port, and that \
             no firewall is in between"
        )
    };
    Error::new(ErrorKind::DeadlineExceeded, format!("camera {url}: {what}"))
}
