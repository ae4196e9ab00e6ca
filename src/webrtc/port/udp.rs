//! The UDP socket that all viewers share.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    time::Duration,
};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::Port;
use crate::webrtc::ice::{Path, Transport};

/// What the kernel may keep for us while we are busy, if its own limit allows.
const RECEIVE_BUFFER: usize = 4 << 20;
const SEND_BUFFER: usize = 4 << 20;
/// Messages read in one call, each of which may be several datagrams of one sender.
const MESSAGES: usize = 8;
const MESSAGE_MAX: usize = 65_535;
/// Messages read before others have their turn.
const TURN: usize = 64;

/// Binds a socket for one address family.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Less is no error: the kernel has a limit.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that is watched for what `interest` says alone.
#[expect(
    deprecated,
    reason = "what takes its place has a contract that this type keeps, in unsafe code"
)]
fn watched(
    socket: std::net::UdpSocket,
    interest: Interest,
) -> io::Result<AsyncFd<std::net::UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// One socket, with what the kernel can do for it.
#[derive(Debug)]
pub(super) struct Udp {
    /// Watched for reading only: a socket that is watched for writing wakes its watcher after each
    /// packet that it has sent, and that costs as much as sending.
    socket: AsyncFd<std::net::UdpSocket>,
    state: UdpSocketState,
    is_ipv4: bool,
}

impl Udp {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            is_ipv4: socket.local_addr()?.is_ipv4(),
            socket: watched(socket, Interest::READABLE)?,
            state,
        })
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Sends packets of `segment` bytes, of which the last may be shorter, in one call if the kernel
    /// takes it. Gives how many bytes the socket took: less than all when it is full.
    pub(super) fn send(&self, path: &Path, bytes: &[u8], segment: usize) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let at_once = self.state.max_gso_segments().max(1) * segment;
            let part = &bytes[taken..bytes.len().min(taken + at_once)];
            match self.send_at_once(path, part, segment) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return taken,
                // A network driver that cannot cut packets apart: one by one then.
                Err(_) if part.len() > segment => {
                    let single = part[..segment].len();
                    if let Err(e) = self.send_at_once(path, &part[..single], segment)
                        && e.kind() == io::ErrorKind::WouldBlock
                    {
                        return taken;
                    }
                    taken += single;
                    continue;
                }
                // Unreachable hosts and the like: ICE notices that nothing arrives.
                Err(e) => tracing::trace!(error = %e, "a packet was not sent"),
            }
            taken += part.len();
        }
        taken
    }

    fn send_at_once(&self, path: &Path, bytes: &[u8], segment: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: path.remote,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > segment).then_some(segment),
            src_ip: path.local.filter(|ip| ip.is_ipv4() == self.is_ipv4),
        };
        let socket = UdpSockRef::from(self.socket.get_ref());
        self.state.try_send(socket, &transmit)
    }

    /// Waits until the socket takes more; for ever if that cannot be known.
    pub(super) async fn writable(&self) {
        let again = self.socket.get_ref().try_clone();
        match again.and_then(|socket| watched(socket, Interest::WRITABLE)) {
            // An error comes only with the end of the runtime.
            Ok(socket) => drop(socket.writable().await),
            Err(_) => std::future::pending().await,
        }
    }

    /// Reads and delivers for ever.
    pub(super) async fn read(&self, port: &Port) {
        let mut buffers = vec![vec![0; MESSAGE_MAX]; MESSAGES];
        let mut meta = [RecvMeta::default(); MESSAGES];
        let mut in_turn = 0;
        loop {
            let Ok(mut ready) = self.socket.readable().await else {
                // Only when the runtime ends.
                return;
            };
            let mut slices: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let received = ready.try_io(|socket| {
                self.state
                    .recv(UdpSockRef::from(socket.get_ref()), &mut slices, &mut meta)
            });
            let count = match received {
                Ok(Ok(count)) => count,
                // Nothing more for now.
                Err(_) => continue,
                // Mostly of earlier packets that somebody did not want.
                Ok(Err(e)) => {
                    tracing::trace!(error = %e, "media socket");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            };
            for (buffer, meta) in buffers.iter().zip(&meta[..count]) {
                let path = Path {
                    transport: Transport::Udp,
                    remote: meta.addr,
                    local: meta.dst_ip,
                };
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    port.deliver(path, datagram);
                }
            }
            in_turn += count;
            if in_turn >= TURN {
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}
