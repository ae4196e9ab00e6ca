//! [`Link`]: the way to a TURN server, over UDP, TCP or TLS.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use crate::config::{HostPort, IceService, IceUrl};

/// How long looking up, connecting and the TLS handshake may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the way to the server may take nothing more.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Largest message of a stream. Peers send datagrams of no more than 1500 bytes.
const MESSAGE_MAX: usize = 4096;

/// A connection to a TURN server, message by message.
pub(super) enum Link {
    Udp(UdpSocket, BytesMut),
    Stream(Box<dyn Stream>, BytesMut),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Link {
    /// Connects, trying each address of the server.
    pub(super) async fn connect(url: &IceUrl) -> io::Result<Self> {
        timeout(CONNECT_LIMIT, Self::connect_at_leisure(url))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect_at_leisure(url: &IceUrl) -> io::Result<Self> {
        let HostPort { host, port } = &url.server;
        let addresses = lookup_host((host.as_str(), *port)).await?;
        Self::connect_in_turn(url, addresses).await
    }

    /// Connects to one of `addresses`, which are the server's, without looking it up.
    pub(super) async fn connect_to(url: &IceUrl, addresses: Vec<SocketAddr>) -> io::Result<Self> {
        timeout(CONNECT_LIMIT, Self::connect_in_turn(url, addresses))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect_in_turn(
        url: &IceUrl,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> io::Result<Self> {
        let buffer = BytesMut::new();
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            let attempt = match url.service {
                IceService::Stun => return Err(io::ErrorKind::Unsupported.into()),
                IceService::TurnUdp => udp(address).await.map(|s| Self::Udp(s, buffer.clone())),
                IceService::TurnTcp => tcp(address)
                    .await
                    .map(|stream| Self::Stream(Box::new(stream), buffer.clone())),
                IceService::TurnTls => tls(address, &url.server.host)
                    .await
                    .map(|stream| Self::Stream(stream, buffer.clone())),
            };
            match attempt {
                Ok(link) => return Ok(link),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Whether messages get lost.
    pub(super) fn is_udp(&self) -> bool {
        matches!(self, Self::Udp(..))
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let sent = match self {
            Self::Udp(socket, _) => timeout(WRITE_LIMIT, socket.send(message))
                .await
                .map(|sent| match sent {
                    // It tells of an earlier datagram: the server may be back soon.
                    Err(e) if !is_passing(&e) => Err(e),
                    _ => Ok(()),
                }),
            Self::Stream(stream, _) => timeout(WRITE_LIMIT, stream.write_all(message)).await,
        };
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Udp(socket, buffer) => loop {
                buffer.reserve(MESSAGE_MAX);
                match socket.recv_buf(buffer).await {
                    Ok(_) => return Ok(buffer.split().freeze()),
                    Err(e) if is_passing(&e) => {}
                    Err(e) => return Err(e),
                }
            },
            Self::Stream(stream, buffer) => loop {
                if let Some(message) = split_message(buffer)? {
                    return Ok(message);
                }
                buffer.reserve(MESSAGE_MAX);
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted};
    matches!(error.kind(), ConnectionRefused | Interrupted)
}

async fn udp(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn tcp(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls(server: SocketAddr, host: &str) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::other("the host is no name that a certificate can have"))?;
    let connector = TlsConnector::from(Arc::clone(&TLS));
    Ok(Box::new(connector.connect(name, tcp(server).await?).await?))
}

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the protocol versions of the library it comes with");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
});

/// Takes the first message of a stream: STUN messages and channel data tell their length, and the
/// latter are padded ([RFC 8656 §12.5]).
///
/// [RFC 8656 §12.5]: https://datatracker.ietf.org/doc/html/rfc8656#section-12.5
fn split_message(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(&[a, b, c, d]) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([c, d]));
    let (length, padded) = match u16::from_be_bytes([a, b]) {
        0..0x4000 => (20 + length, 20 + length),
        0x4000..0x5000 => (4 + length, (4 + length).next_multiple_of(4)),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    if padded > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if buffer.len() < padded {
        return Ok(None);
    }
    let message = buffer.split_to(length).freeze();
    buffer.advance(padded - length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_stream_are_told_apart_at_every_cut() {
        let mut stun = vec![0, 1, 0, 4];
        stun.extend([7; 20]);
        let channel = [0x40, 0x00, 0, 3, 1, 2, 3, 0];
        let whole = [&stun[..], &channel, &stun].concat();
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for part in [&whole[..cut], &whole[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(message) = split_message(&mut buffer).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [&stun[..], &channel[..7], &stun], "{cut}");
        }
    }

    #[test]
    fn what_is_no_message_ends_the_stream() {
        for bad in [&b"HTTP/1.1"[..], &[0, 1, 0xff, 0xff]] {
            assert!(split_message(&mut BytesMut::from(bad)).is_err());
        }
    }
}
