//! [`Gateway`]: RTSP over HTTP and over WebSocket before a camera that knows neither.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

use super::wire::held_by_clients;

/// How RTSP gets through the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// The answer to a GET and the body of a POST, as Apple has it.
    Http,
    /// Binary messages of a WebSocket, as ONVIF has it.
    WebSocket,
}

/// A way through the web to a camera, on a free port of loopback; gone when dropped. It hangs up when the
/// camera does.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

/// The connections to the camera that wait for their POST, by the cookie.
type Waiting = Arc<Mutex<HashMap<String, OwnedWriteHalf>>>;

impl Gateway {
    /// Starts before the camera at `camera`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn before(camera: SocketAddr, tunnel: Tunnel) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let most = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&most);
        let waiting = Waiting::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_max(held_by_clients(address), Ordering::Relaxed);
                let waiting = Arc::clone(&waiting);
                connections.spawn(async move {
                    // A peer that goes ends its connection, and that is all.
                    let _ = match tunnel {
                        Tunnel::Http => half(stream, camera, &waiting).await,
                        Tunnel::WebSocket => socket(stream, camera).await,
                    };
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            most,
            _accepting: accepting,
        }
    }

    /// The URL of `path` through the web.
    #[must_use]
    pub fn url(&self, tunnel: Tunnel, path: &str) -> String {
        let scheme = match tunnel {
            Tunnel::Http => "rtsp+http",
            Tunnel::WebSocket => "ws",
        };
        format!("{scheme}://{}{path}", self.address)
    }

    /// How many connections were open at the same time, at most; an HTTP tunnel has two.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// Either of the two requests of an HTTP tunnel.
async fn half(mut client: TcpStream, camera: SocketAddr, waiting: &Waiting) -> io::Result<()> {
    let mut received = Vec::new();
    let head = loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = received.split_off(end + 4);
            break String::from_utf8_lossy(&std::mem::replace(&mut received, rest)).into_owned();
        }
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    };
    let cookie = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("x-sessioncookie"))
        .map_or("", |(_, cookie)| cookie.trim());
    if head.starts_with("POST ") {
        let to = lock(waiting).remove(cookie);
        return match to {
            Some(to) => decode(client, to, received).await,
            None => client.write_all(b"HTTP/1.0 400 No GET\r\n\r\n").await,
        };
    }
    let (mut from, to) = TcpStream::connect(camera).await?.into_split();
    lock(waiting).insert(cookie.to_owned(), to);
    let answer = "HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n";
    client.write_all(answer.as_bytes()).await?;
    let (mut gone, mut client) = client.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from, &mut client) => {}
        // Nothing comes on it but its end.
        _ = gone.read_u8() => {}
    }
    lock(waiting).remove(cookie);
    Ok(())
}

/// Passes on a body in base64, however it is cut.
async fn decode(
    mut client: TcpStream,
    mut to: OwnedWriteHalf,
    mut received: Vec<u8>,
) -> io::Result<()> {
    loop {
        let whole = received.len() / 4 * 4;
        let rest = received.split_off(whole);
        // What was sent in one piece may end with padding.
        for four in std::mem::replace(&mut received, rest).chunks(4) {
            let three = BASE64.decode(four).map_err(io::Error::other)?;
            to.write_all(&three).await?;
        }
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the signature of the handshake's callback"
)]
async fn socket(client: TcpStream, camera: SocketAddr) -> io::Result<()> {
    let agree = |_: &Request, mut response: Response| {
        let protocol = "rtsp.onvif.org".parse().expect("a header value");
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let client = accept_hdr_async(client, agree)
        .await
        .map_err(io::Error::other)?;
    let (mut sink, mut messages) = client.split();
    let (mut from, mut to) = TcpStream::connect(camera).await?.into_split();
    let there = async {
        while let Some(Ok(message)) = messages.next().await {
            if to.write_all(&message.into_data()).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        while let Some(bytes) = read(&mut from).await {
            if sink.send(Message::binary(bytes)).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    Ok(())
}

/// What has come, at most 16 kB; none at the end.
async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(16 << 10);
    let length = from.read_buf(&mut bytes).await.ok()?;
    (length > 0).then_some(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock")
}
