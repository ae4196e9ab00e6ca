//! Builds the server, runs it, and takes it down in order.

use std::{net::SocketAddr, time::Duration};

use crate::{
    base::{Error, ErrorKind, Tasks},
    config::Config,
    context::Context,
    http::server,
};

/// How long everything may take to say goodbye. Container engines kill after 10 s, Home Assistant
/// after 5.
const DRAIN_LIMIT: Duration = Duration::from_millis(2_800);

/// A running server.
pub struct App {
    context: Context,
    address: SocketAddr,
    server: actix_web::dev::Server,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Starts listening, and opens the cameras that are to be open always.
    ///
    /// Must be called on the runtime on which media is to run.
    ///
    /// # Errors
    /// `InvalidArgument` for a camera that cannot be opened by any kind of source, `Unavailable`
    /// when the address is taken.
    pub fn start(mut config: Config) -> Result<Self, Error> {
        let listener = server::bind(&config)?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(ErrorKind::Internal, "no local address").with_source(e))?;
        config.listen = config.listen.with_port(address.port());
        let context = Context::new(config, Tasks::on_current_runtime())?;
        let server = server::serve(&context, listener)?;
        Ok(Self {
            context,
            address,
            server,
        })
    }

    /// Addresses to type into a browser, the one on this machine first.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let port = self.address.port();
        if !self.address.ip().is_unspecified() {
            return vec![format!("http://{}/", self.address)];
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let others = interfaces
            .iter()
            .filter(|interface| !interface.is_loopback() && interface.ip().is_ipv4())
            .map(|interface| format!("http://{}:{port}/", interface.ip()));
        std::iter::once(format!("http://127.0.0.1:{port}/"))
            .chain(others)
            .collect()
    }

    /// Serves until `stop` is done, then ends viewers, cameras and requests, in 3 s at most. False
    /// when something had to be left behind.
    ///
    /// # Errors
    /// `Internal` when the HTTP server breaks off by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<bool, Error> {
        let handle = self.server.handle();
        let mut server = std::pin::pin!(self.server);
        tokio::select! {
            () = stop => {}
            end = &mut server => {
                let error = Error::new(ErrorKind::Internal, "the HTTP server broke off");
                return Err(match end {
                    Ok(()) => error,
                    Err(e) => error.with_source(e),
                });
            }
        }
        tracing::info!(viewers = self.context.sessions.count(), "stopping");
        let goodbye = async {
            let drained = self.context.tasks.drain(DRAIN_LIMIT);
            let ((), drained) = tokio::join!(handle.stop(true), drained);
            drained
        };
        let (drained, _) = tokio::join!(goodbye, server);
        Ok(drained)
    }
}
