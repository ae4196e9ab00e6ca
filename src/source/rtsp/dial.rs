//! [`Dialer`]: connections to a camera, with TLS where its URL says so.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    CONNECT_LIMIT, connect,
    connection::ByteStream,
    diagnose,
    tls::{self, Trust},
};
use crate::base::{Error, SourceUrl};

/// The two ends of the connection to a camera.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) local: IpAddr,
    pub(super) camera: IpAddr,
}

/// Bytes to and from a camera.
pub(super) struct Link {
    pub(super) stream: Box<dyn ByteStream>,
    pub(super) ends: Ends,
}

/// Makes connections to one camera: all to the address that answered first, out of those that were
/// checked.
pub(super) struct Dialer {
    url: SourceUrl,
    trust: Option<Trust>,
    addresses: Vec<SocketAddr>,
    /// For each connection.
    limit: Duration,
    end: Instant,
    was_answered: bool,
}

impl Dialer {
    /// One that calls `addresses` and no others. No step goes on after `end`.
    pub(super) fn new(
        url: SourceUrl,
        trust: Option<Trust>,
        addresses: Vec<SocketAddr>,
        limit: Duration,
        end: Instant,
    ) -> Self {
        Self {
            url,
            trust,
            addresses,
            limit,
            end,
            was_answered: false,
        }
    }

    /// Whether a connection was made.
    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }

    pub(super) fn url(&self) -> &SourceUrl {
        &self.url
    }

    /// A new connection, secret if the URL says so.
    pub(super) async fn connect(&mut self) -> Result<Link, Error> {
        let dialled = connect::dial(&self.url, &self.addresses, self.limit);
        let stream = timeout_at(self.end, dialled)
            .await
            .unwrap_or_else(|_| Err(diagnose::silent(&self.url, "the connection", self.limit)))?;
        self.was_answered = true;
        let ends = stream.set_nodelay(true).and_then(|()| {
            let (local, camera) = (stream.local_addr()?.ip(), stream.peer_addr()?);
            self.addresses = vec![camera];
            let camera = camera.ip();
            Ok(Ends { local, camera })
        });
        let ends = ends.map_err(|e| diagnose::unreachable(&self.url, e))?;
        let stream: Box<dyn ByteStream> = match self.trust {
            None => Box::new(stream),
            Some(trust) => {
                let handshake = tls::secure(stream, self.url.host(), trust);
                match self.within("TLS", handshake).await? {
                    Ok(stream) => Box::new(stream),
                    Err(e) => return Err(diagnose::insecure(&self.url, e)),
                }
            }
        };
        Ok(Link { stream, ends })
    }

    /// One step with its deadline.
    pub(super) async fn within<T>(
        &self,
        step: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let until = self.end.min(Instant::now() + CONNECT_LIMIT);
        timeout_at(until, work)
            .await
            .map_err(|_| diagnose::silent(&self.url, step, CONNECT_LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, net::Ipv4Addr, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::{super::carrier, *};
    use crate::source::Confinement;

    /// Two addresses of this machine with the same port, and a listener on the second.
    async fn addresses() -> (Vec<SocketAddr>, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).await;
        let listener = listener.unwrap();
        let there = listener.local_addr().unwrap();
        let before = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), there.port()));
        (vec![before, there], listener)
    }

    /// Reads the head of a request.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn all_connections_of_a_tunnel_go_to_the_address_that_was_checked() {
        let (found, listener) = addresses().await;
        let (first, port) = (found[0], found[1].port());
        let url = SourceUrl::parse(&format!("rtsp+http://u:p@camera.lan:{port}/live")).unwrap();
        let anywhere = Confinement::default();
        let found = connect::find(&url, &anywhere, ready(Ok(found)));
        let found = found.await.unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let mut dialer = Dialer::new(url.clone(), None, found, CONNECT_LIMIT, end);
        let open = (carrier::of(url.scheme()).unwrap().open)(&mut dialer);
        let camera = async {
            let (mut asked, _) = listener.accept().await.unwrap();
            assert!(head(&mut asked).await.starts_with("GET /live "));
            // Now the other address answers, too. Whoever tried it again would come there.
            let other = TcpListener::bind(first).await.unwrap();
            let challenge = b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\r\n";
            asked.write_all(challenge).await.unwrap();
            let (mut get, _) = listener.accept().await.unwrap();
            assert!(head(&mut get).await.contains("Authorization: Basic"));
            get.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
            let (mut post, _) = listener.accept().await.unwrap();
            assert!(head(&mut post).await.starts_with("POST /live "));
            (other, get, post)
        };
        let opened = async { tokio::join!(open, camera) };
        let (link, _camera) = tokio::time::timeout(Duration::from_secs(5), opened)
            .await
            .expect("it never called the other address");
        assert_eq!(link.unwrap().ends.camera, Ipv4Addr::new(127, 0, 0, 3));
    }
}
