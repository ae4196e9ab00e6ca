//! [`WebServer`]: a web server that asks for a login, and passes on to what is behind it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

use super::{Login, Request};

/// A web server before a port of loopback, gone when dropped. Who knows the password gets a connection
/// to that port, and the request goes there as it came.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _accepting: JoinSet<()>,
}

impl WebServer {
    /// Starts before `port`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn before(port: u16, login: Login) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (login, seen) = (login.clone(), Arc::clone(&seen));
                connections.spawn(async move {
                    // A peer that goes ends its connection, and that is all.
                    let _ = serve(stream, port, &login, &seen).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            requests,
            _accepting: accepting,
        }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The request of each connection until now.
    ///
    /// # Panics
    /// When a connection panicked while it recorded one.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.requests.lock().expect("recording does not panic");
        requests.clone()
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    login: &Login,
    seen: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    let mut received = Vec::new();
    let request = loop {
        if client.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(request) = request_of(&received) {
            break request;
        }
    };
    let admitted = login.admits(&request);
    let mut answered = request.clone();
    answered.status = if admitted { 200 } else { 401 };
    seen.lock()
        .expect("recording does not panic")
        .push(answered);
    if !admitted {
        let challenges = login.challenges(&request);
        let answer = format!(
            "HTTP/1.1 401 Unauthorized\r\n{challenges}\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        return client.write_all(answer.as_bytes()).await;
    }
    let mut behind = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    behind.write_all(&received).await?;
    copy_bidirectional(&mut client, &mut behind).await?;
    Ok(())
}

/// The request at the beginning of `received`, if its head is whole.
fn request_of(received: &[u8]) -> Option<Request> {
    let text = String::from_utf8_lossy(received);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    Some(Request {
        // One nonce for all connections: HTTP knows no others.
        connection: 0,
        at: Instant::now(),
        method: words.next()?.to_owned(),
        uri: words.next()?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect(),
        status: 0,
    })
}
