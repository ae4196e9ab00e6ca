//! [`ScriptedCamera`]: an RTSP camera that does exactly what a test tells it, faults included.

mod answer;
mod connection;
mod gateway;
mod h264;
mod login;
mod media;
mod message;
mod packing;
mod quirk;
mod script;
#[cfg(test)]
mod tests;
mod web;
mod wire;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use self::{connection::Connection, wire::Wire};
pub use self::{
    gateway::{Gateway, Tunnel},
    h264::{Checker, Size},
    login::{Login, Nonces, Scheme},
    media::{h264_and_pcma_sdp, h264_sdp, sdp_of},
    message::Request,
    quirk::Quirk,
    script::{Camera, Carrier, Jump, Script, Step, Until},
    web::WebServer,
};

/// A camera on loopback, gone when dropped.
///
/// It remembers every connection and every request, so that a test can tell what was asked of it. When
/// it is dropped it asserts that no more than one connection was open at any time, or as many as
/// [`Self::allowing`] says: most cameras have room for few.
#[derive(Debug)]
pub struct ScriptedCamera {
    address: SocketAddr,
    is_secure: bool,
    allowed: usize,
    scripts: Scripts,
    seen: Arc<Seen>,
    power: watch::Sender<Power>,
    /// Dropping it ends the task that accepts, and with it the connections.
    accepting: JoinSet<()>,
}

/// What tells the script of a connection, counted from 0.
#[derive(Clone)]
struct Scripts(Arc<Mutex<dyn FnMut(usize) -> Script + Send>>);

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripts")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing moves; the kernel still accepts connections.
    Frozen,
    Off,
}

/// What the connections of a camera report to its test.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    /// Connection, number of the step, beginning.
    steps: Mutex<Vec<(usize, usize, Instant)>>,
    /// The connection with the session of a camera that has room for one, and when it ended without
    /// saying so.
    session: Mutex<Option<(usize, Option<Instant>)>>,
}

impl Seen {
    fn begin(&self, connection: usize, step: usize) {
        lock(&self.steps).push((connection, step, Instant::now()));
    }

    fn record(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    fn session(&self) -> MutexGuard<'_, Option<(usize, Option<Instant>)>> {
        lock(&self.session)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("recording does not panic")
}

impl ScriptedCamera {
    /// A camera that plays the same script on every connection.
    pub async fn start(script: impl Into<Script>) -> Self {
        let script = script.into();
        Self::start_each(move |_| script.clone()).await
    }

    /// A camera whose script depends on the connection, counted from 0.
    pub async fn start_each(script: impl FnMut(usize) -> Script + Send + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// The same at an address of this machine. With one of its own a camera gets it back after
    /// [`Self::off`], which is not sure of a port that any program may have meanwhile.
    pub async fn start_at(
        address: SocketAddr,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> Self {
        Self::switched_on(address, false, script).await
    }

    /// A camera that speaks RTSP inside TLS, at an address of this machine.
    pub async fn secure_at(
        address: SocketAddr,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> Self {
        Self::switched_on(address, true, script).await
    }

    async fn switched_on(
        address: SocketAddr,
        is_secure: bool,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> Self {
        let mut camera = Self {
            address,
            is_secure,
            allowed: 1,
            scripts: Scripts(Arc::new(Mutex::new(script))),
            seen: Arc::default(),
            power: watch::Sender::new(Power::On),
            accepting: JoinSet::new(),
        };
        camera.on().await;
        camera
    }

    /// Permits so many connections at a time.
    #[must_use]
    pub fn allowing(mut self, connections: usize) -> Self {
        self.allowed = connections;
        self
    }

    /// Cuts the power: connections are reset, and nothing listens.
    ///
    /// # Panics
    /// When a connection has panicked.
    pub async fn off(&mut self) {
        self.power.send_replace(Power::Off);
        while let Some(ended) = self.accepting.join_next().await {
            ended.expect("a connection does not panic");
        }
    }

    /// Switches it on again after [`Self::off`], at the same address.
    ///
    /// # Panics
    /// When the address is not free.
    pub async fn on(&mut self) {
        self.power.send_replace(Power::On);
        let listener = TcpListener::bind(self.address)
            .await
            .unwrap_or_else(|e| panic!("{}: {e}", self.address));
        self.address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let accepting = Accepting {
            listener,
            is_secure: self.is_secure,
            scripts: self.scripts.clone(),
            seen: Arc::clone(&self.seen),
            power: self.power.subscribe(),
        };
        self.accepting.spawn(accepting.run());
    }

    /// The same at another address of this machine.
    pub async fn on_at(&mut self, address: IpAddr) {
        self.address.set_ip(address);
        self.on().await;
    }

    /// Hangs: connections stay, and new ones are made, but nothing is read or sent.
    pub fn freeze(&self) {
        self.power.send_replace(Power::Frozen);
    }

    /// Goes on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.power.send_replace(Power::On);
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_secure { "rtsps" } else { "rtsp" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// The URL of `path` with a user name and a password in it, both used as they are.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, path: &str) -> String {
        self.url(path)
            .replacen("://", &format!("://{user}:{password}@"), 1)
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

    /// How many connections were open at the same time, at most. One that its client has closed does
    /// not count, whether or not this camera has noticed.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.seen.most.load(Ordering::Relaxed)
    }

    /// Every request until now, oldest first within a connection.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.seen.requests).clone()
    }

    /// The requests with this method, which is written in capitals.
    #[must_use]
    pub fn requests_of(&self, method: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == method);
        requests
    }

    /// When a connection began the step of this number of its script, both counted from 0; once for
    /// every connection that came so far.
    #[must_use]
    pub fn began(&self, step: usize) -> Vec<Instant> {
        let steps = lock(&self.seen.steps);
        let found = steps.iter().filter(|(_, number, _)| *number == step);
        found.map(|(_, _, at)| *at).collect()
    }
}

impl Drop for ScriptedCamera {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let most = self.most_connections();
            assert!(
                most <= self.allowed,
                "{most} connections to one camera at a time, {} allowed",
                self.allowed
            );
        }
    }
}

struct Accepting {
    listener: TcpListener,
    is_secure: bool,
    scripts: Scripts,
    seen: Arc<Seen>,
    power: watch::Receiver<Power>,
}

impl Accepting {
    /// Until the power ends, and the connections with it.
    async fn run(mut self) {
        let mut connections = JoinSet::new();
        loop {
            let now = *self.power.borrow_and_update();
            tokio::select! {
                biased;
                changed = self.power.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                accepted = self.listener.accept(), if now == Power::On => {
                    let Ok((stream, peer)) = accepted else { return };
                    connections.spawn(self.connection(stream, peer));
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
            if *self.power.borrow() == Power::Off {
                drop(self.listener);
                while connections.join_next().await.is_some() {}
                return;
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + use<> {
        let seen = Arc::clone(&self.seen);
        let local = stream.local_addr().unwrap_or(peer);
        seen.most
            .fetch_max(wire::held_by_clients(local), Ordering::Relaxed);
        let number = seen.connections.fetch_add(1, Ordering::Relaxed);
        let mut scripts = self.scripts.0.lock().expect("a script does not panic");
        let script = scripts(number);
        let (power, is_secure) = (self.power.clone(), self.is_secure);
        async move {
            let wire: Box<dyn Wire> = if is_secure {
                match wire::secure(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                }
            } else {
                Box::new(stream)
            };
            let connection = Connection {
                wire,
                number,
                local,
                peer,
                seen,
            };
            connection.play(script, power).await;
        }
    }
}
