//! The HTTP server: listens, mounts every flavour and page.

use std::{net::TcpListener, time::Duration};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web};

use super::{guard::guard, page, status};
use crate::{
    base::{Error, ErrorKind},
    config::Config,
    context::Context,
    signaling::FLAVOURS,
};

/// Threads for requests. They only read and write text; media has its own.
const WORKERS: usize = 2;
/// Connections of one worker.
const CONNECTIONS_MAX: usize = 512;
const HEADER_LIMIT: Duration = Duration::from_secs(5);
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// How long requests in progress may take at the end.
const DRAIN_SECONDS: u64 = 1;

/// Every method and path pattern that the server answers.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let flavours = FLAVOURS.iter().flat_map(|flavour| flavour.routes);
    flavours.chain(page::ROUTES).chain(status::ROUTES).copied()
}

/// Listens where the configuration says.
///
/// # Errors
/// `Unavailable` when that is taken or not ours.
pub fn bind(config: &Config) -> Result<TcpListener, Error> {
    let addresses = config.listen.addresses();
    let bound = TcpListener::bind(addresses.as_slice());
    bound.map_err(|e| {
        let port = addresses.first().map_or(0, std::net::SocketAddr::port);
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "cannot listen on port {port} ({e}); stop the program that has it, or choose \
                 another place with --listen ADDR:PORT"
            ),
        )
    })
}

/// Serves on `listener` until it is stopped through its handle.
///
/// # Errors
/// `Internal` when the listener cannot be used.
pub fn serve(context: &Context, listener: TcpListener) -> Result<Server, Error> {
    let data = web::Data::new(context.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .wrap(from_fn(guard))
            .configure(mount)
    })
    .workers(WORKERS)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(HEADER_LIMIT)
    .keep_alive(IDLE_LIMIT)
    .shutdown_timeout(DRAIN_SECONDS)
    .disable_signals()
    .listen(listener)
    .map_err(|e| Error::new(ErrorKind::Internal, "cannot serve HTTP").with_source(e))?;
    Ok(server.run())
}

/// Mounts all there is.
pub fn mount(routes: &mut web::ServiceConfig) {
    for flavour in FLAVOURS {
        routes.configure(flavour.mount);
    }
    routes
        .configure(page::mount)
        .configure(status::mount)
        .default_service(web::to(page::not_found));
}
