//! The HTTP server: listens, mounts every flavour and page.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web};
use socket2::{Domain, Socket, Type};

use super::{guard::guard, page, status};
use crate::{
    base::{Error, ErrorKind},
    config::Config,
    context::Context,
    signaling::FLAVOURS,
};

/// Threads for requests. They only read and write text; media has its own.
const WORKERS: usize = 2;
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;
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
    let mut bound = addresses.iter().map(|address| listen(*address));
    let first = bound
        .next()
        .unwrap_or_else(|| Err(std::io::Error::other("no address")));
    // The next address is for machines that do not know the first kind, not for a taken port.
    let bound = first.or_else(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Err(e),
        _ => bound.next().unwrap_or(Err(e)),
    });
    bound.map_err(|e| {
        let port = addresses.first().map_or(0, SocketAddr::port);
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "cannot listen on port {port} ({e}); stop the program that has it, or choose \
                 another place with --listen ADDR:PORT"
            ),
        )
    })
}

/// Listens on one address; the unspecified IPv6 address takes IPv4 as well, whatever the system's
/// default is.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
    // A client that has gone does not wait for its answer.
    .h1_allow_half_closed(false)
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
