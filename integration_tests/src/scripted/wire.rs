//! What a connection is made of: TCP, plain or with TLS, and what the kernel knows of it.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
    server::TlsStream,
};

/// A stream of bytes to a client.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Makes the end of the connection a reset.
    fn cut(&self) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn cut(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Wire for TlsStream<TcpStream> {
    fn cut(&self) -> io::Result<()> {
        self.get_ref().0.set_zero_linger()
    }
}

/// Agrees on TLS, with a certificate for `localhost` that nobody vouches for.
pub(super) async fn secure(stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    static SETTINGS: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a name");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("it knows TLS")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a key and its certificate");
        Arc::new(config)
    });
    TlsAcceptor::from(Arc::clone(&SETTINGS))
        .accept(stream)
        .await
}

/// How many connections to this address their clients have not closed, as the kernel has it: what a task
/// has read of its connection may be older.
pub(super) fn held_by_clients(local: SocketAddr) -> usize {
    /// `ESTABLISHED`, and `FIN_WAIT2`: this side alone has closed.
    const HELD: [&str; 2] = ["01", "05"];
    let SocketAddr::V4(address) = local else {
        panic!("connections to {local} cannot be counted");
    };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel tells its connections");
    // In memory the address is in the order of the network.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let local = format!("{ip:08X}:{:04X}", address.port());
    let held = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (ours, theirs, state) = (words.next()?, words.next()?, words.next()?);
        (ours == local && HELD.contains(&state)).then_some(theirs)
    });
    // While it is read the table may change, and a line come twice.
    held.collect::<HashSet<_>>().len()
}
