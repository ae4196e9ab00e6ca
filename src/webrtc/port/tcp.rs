//! ICE over TCP ([RFC 6544]): browsers connect to us where UDP does not get through. Packets are framed
//! as in [RFC 4571].
//!
//! [RFC 4571]: https://datatracker.ietf.org/doc/html/rfc4571
//! [RFC 6544]: https://datatracker.ietf.org/doc/html/rfc6544

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::Port;
use crate::{
    base::Tasks,
    webrtc::{
        arena::Batch,
        ice::{Path, Transport},
    },
};

const BACKLOG: i32 = 128;
/// Connections at once; and of these, such as nobody has been recognised on yet.
const CONNECTIONS_MAX: usize = 2_048;
const STRANGERS_MAX: usize = 64;
/// How long a connection may take to say who it is for.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// A connection on which nothing comes: consent asks every few seconds.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How long a write may wait.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Nothing that browsers send is larger.
const FRAME_MAX: usize = 4_096;
/// How long anything may wait before media is refused: a slow connection gets whole pictures less.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes that may wait: more than one key frame of a camera with many pixels, and room beside it for
/// what is no media.
const QUEUED_MAX: usize = 4 << 20;
const CONTROL_MAX: usize = 64 << 10;
/// What the kernel may hold back, about: consent waits behind it.
const SEND_BUFFER: usize = 48 << 10;
/// How long goodbyes may take after the server was told to stop.
const GOODBYE: Duration = Duration::from_millis(300);
const MESSAGES_MAX: usize = 512;

pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The writing ends of all connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    writers: Mutex<HashMap<SocketAddr, Writer>>,
    strangers: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Writer {
    queue: mpsc::Sender<(Instant, Bytes)>,
    queued: Arc<AtomicUsize>,
    /// When that was queued which is being written.
    oldest: Arc<Mutex<Option<Instant>>>,
}

impl Writer {
    fn oldest(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing can panic with it.
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Writer>> {
        // Nothing panics between two changes that belong together.
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames and queues the packets of a batch; gives how many bytes, all or none: none when the
    /// connection is gone, or full of media. What is no media has room of its own.
    pub(super) fn send(&self, batch: &Batch, bytes: &[u8]) -> usize {
        let Some(writer) = self.lock().get(&batch.path.remote).cloned() else {
            return 0;
        };
        let now = Instant::now();
        let is_late = writer
            .oldest()
            .is_some_and(|oldest| oldest + WAIT_MAX < now);
        let limit = if batch.media {
            QUEUED_MAX
        } else {
            QUEUED_MAX + CONTROL_MAX
        };
        let waiting = writer.queued.load(Ordering::Relaxed);
        if batch.media && is_late || waiting + bytes.len() > limit {
            return 0;
        }
        let packets = bytes.len().div_ceil(batch.segment);
        let mut framed = BytesMut::with_capacity(bytes.len() + 2 * packets);
        for packet in bytes.chunks(batch.segment) {
            let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(packet);
        }
        let length = framed.len();
        writer.queued.fetch_add(length, Ordering::Relaxed);
        if writer.queue.try_send((now, framed.freeze())).is_err() {
            writer.queued.fetch_sub(length, Ordering::Relaxed);
            return 0;
        }
        bytes.len()
    }
}

/// Accepts connections until the server stops.
pub(super) fn listen(
    port: Arc<Port>,
    listener: std::net::TcpListener,
    tasks: &Tasks,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let spawner = tasks.clone();
    tasks.spawn("media-tcp", async move {
        let stop = spawner.stop().clone();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, remote)) = accepted else {
                // Out of file descriptors, perhaps; not for ever.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let strangers = port.tcp.strangers.load(Ordering::Relaxed);
            if strangers >= STRANGERS_MAX || port.tcp.lock().len() >= CONNECTIONS_MAX {
                continue;
            }
            let (port, stop) = (Arc::clone(&port), stop.clone());
            spawner.spawn("media-tcp-connection", async move {
                let end = async {
                    stop.cancelled().await;
                    tokio::time::sleep(GOODBYE).await;
                };
                tokio::select! {
                    () = end => {}
                    () = serve(&port, stream, remote) => {}
                }
            });
        }
    });
    Ok(())
}

/// Counts a connection on which nobody has been recognised yet.
struct Stranger<'a>(&'a AtomicUsize);

impl<'a> Stranger<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a connection out of the list when it ends, but not its successor from the same address.
struct Registered<'a> {
    connections: &'a Connections,
    remote: SocketAddr,
    queued: Arc<AtomicUsize>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut writers = self.connections.lock();
        let is_ours = |writer: &Writer| Arc::ptr_eq(&writer.queued, &self.queued);
        if writers.get(&self.remote).is_some_and(is_ours) {
            writers.remove(&self.remote);
        }
    }
}

async fn serve(port: &Port, stream: TcpStream, remote: SocketAddr) {
    let stranger = Stranger::new(&port.tcp.strangers);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let path = Path {
        transport: Transport::Tcp,
        remote,
        local: stream.local_addr().ok().map(|address| address.ip()),
    };
    let (mut reader, mut writer) = stream.into_split();
    let (queue, mut waiting) = mpsc::channel::<(Instant, Bytes)>(MESSAGES_MAX);
    let queued = Arc::new(AtomicUsize::new(0));
    let entry = Writer {
        queue,
        queued: Arc::clone(&queued),
        oldest: Arc::default(),
    };
    let progress = entry.clone();
    port.tcp.lock().insert(remote, entry);
    let _entry = Registered {
        connections: &port.tcp,
        remote,
        queued: Arc::clone(&queued),
    };
    let write = async {
        while let Some((since, bytes)) = waiting.recv().await {
            *progress.oldest() = Some(since);
            if !matches!(
                timeout(WRITE_LIMIT, writer.write_all(&bytes)).await,
                Ok(Ok(()))
            ) {
                return;
            }
            *progress.oldest() = None;
            queued.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    };
    let read = async {
        let mut buffer = BytesMut::with_capacity(FRAME_MAX);
        let mut stranger = Some(stranger);
        // Until when somebody has to be recognised, again and again.
        let mut until = Instant::now() + INTRODUCTION;
        loop {
            let Ok(Some(frame)) = timeout_at(until, frame(&mut reader, &mut buffer)).await else {
                return;
            };
            if port.deliver(path, &frame) {
                stranger = None;
                until = Instant::now() + IDLE_LIMIT;
            } else if stranger.is_some() {
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// The next frame; none at the end, or when it is larger than any that browsers send.
async fn frame(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(length) = buffer
            .first_chunk()
            .map(|l| usize::from(u16::from_be_bytes(*l)))
        {
            if length > FRAME_MAX {
                return None;
            }
            if buffer.len() >= 2 + length {
                buffer.advance(2);
                return Some(buffer.split_to(length).freeze());
            }
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
