//! [`ScriptedCamera`]: an RTSP camera that does exactly what a test tells it, faults included.

mod connection;
mod login;
mod media;
mod message;
mod script;
#[cfg(test)]
mod tests;
mod web;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::TcpListener, task::JoinSet};

pub use self::{
    login::{Login, Nonces, Scheme},
    media::h264_sdp,
    message::Request,
    script::{Camera, Script, Step, Until},
    web::WebServer,
};

/// A camera on a free port of loopback, gone when dropped.
///
/// It remembers every connection and every request, so that a test can tell what was asked of it.
#[derive(Debug)]
pub struct ScriptedCamera {
    address: SocketAddr,
    seen: Arc<Seen>,
    /// Dropping it ends the task that accepts, and with it the connections.
    _accepting: JoinSet<()>,
}

/// What the connections of a camera report to its test.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

impl ScriptedCamera {
    /// A camera that plays the same script on every connection.
    pub async fn start(script: impl Into<Script>) -> Self {
        let script = script.into();
        Self::start_each(move |_| script.clone()).await
    }

    /// A camera whose script depends on the connection, counted from 0.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn start_each(mut script: impl FnMut(usize) -> Script + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let seen = Arc::new(Seen::default());
        let reports = Arc::clone(&seen);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = reports.connections.fetch_add(1, Ordering::Relaxed);
                let play = connection::play(stream, script(number), number, Arc::clone(&reports));
                connections.spawn(play);
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            seen,
            _accepting: accepting,
        }
    }

    /// Plays the media that `sdp` describes; its bytes are sent as they are.
    pub async fn describing(sdp: impl Into<Vec<u8>>) -> Self {
        Self::start(Camera::describing(sdp)).await
    }

    /// Accepts and never says a word.
    pub async fn silent() -> Self {
        Self::start(vec![Step::Stall]).await
    }

    /// Accepts and closes at once.
    pub async fn closing() -> Self {
        Self::start(vec![]).await
    }

    /// Sends `greeting` as soon as it is called, then listens for ever, as an SSH server does.
    pub async fn speaking(greeting: impl Into<Vec<u8>>) -> Self {
        Self::start(vec![Step::Say(greeting.into()), Step::Stall]).await
    }

    /// Answers the first bytes it hears with `reply` and closes, as an HTTP server does when it does not
    /// understand.
    pub async fn replying(reply: impl Into<Vec<u8>>) -> Self {
        Self::start(vec![Step::Listen, Step::Say(reply.into())]).await
    }

    /// A working camera for those who know the password.
    pub async fn requiring(user: &str, password: &str, scheme: Scheme) -> Self {
        Self::start(Camera::describing(h264_sdp()).requiring(user, password, scheme)).await
    }

    /// Answers DESCRIBE with an error status.
    pub async fn status(status: u16) -> Self {
        Self::start(Camera::describing(h264_sdp()).refusing("DESCRIBE", status)).await
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    /// The URL of `path` with a user name and a password in it, both used as they are.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, path: &str) -> String {
        format!("rtsp://{user}:{password}@{}{path}", self.address)
    }

    /// How many connections were accepted until now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }

    /// Every request until now, oldest first within a connection.
    ///
    /// # Panics
    /// When a connection task panicked while it recorded one.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.seen
            .requests
            .lock()
            .expect("recording does not panic")
            .clone()
    }

    /// The requests with this method, which is written in capitals.
    #[must_use]
    pub fn requests_of(&self, method: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == method);
        requests
    }
}
