//! Many datagrams per system call, each with the time at which the kernel had it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimestampns};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, setsockopt,
};
use nix::sys::time::TimeSpec;

use crate::measure::unix_ns;

/// Datagrams per call.
const BATCH: usize = 32;
/// Longer than any datagram of a server; what is longer is cut.
const LENGTH: usize = 2048;
/// Room for the packets of a stalled moment, so that the client does not lose what the server sent.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The address that servers can reach and that is not loopback; loopback if there is no other.
pub(crate) fn own_address() -> IpAddr {
    let found = nix::ifaddrs::getifaddrs().ok().and_then(|addresses| {
        addresses
            .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
            .find(|ip| !ip.is_loopback() && !ip.is_link_local())
    });
    IpAddr::V4(found.unwrap_or(Ipv4Addr::LOCALHOST))
}

/// A socket that does not block, has a large buffer and stamps what it receives.
pub(crate) fn bind(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    // Above the system's limit only for root; the smaller one does for few viewers.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
    }
    Ok(socket)
}

/// Buffers for one thread.
pub(crate) struct Receiver {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; LENGTH]>,
}

impl Receiver {
    /// Allocates the buffers.
    pub(crate) fn new() -> Self {
        let headers = MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec)));
        Self {
            headers,
            buffers: vec![[0; LENGTH]; BATCH],
        }
    }

    /// Hands over what is there now, at most 32 datagrams: nanoseconds since 1970, sender, content.
    /// Returns whether there may be more.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(i64, SocketAddr, &[u8]),
    ) -> bool {
        let mut slices: Vec<_> = self
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(messages) = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            flags,
            None,
        ) else {
            return false;
        };
        let mut count = 0;
        for message in messages {
            count += 1;
            let (Some(address), Some(content)) = (message.address, message.iovs().next()) else {
                continue;
            };
            let stamp = message.cmsgs().ok().and_then(|mut all| {
                all.find_map(|one| match one {
                    ControlMessageOwned::ScmTimestampns(time) => {
                        Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
                    }
                    _ => None,
                })
            });
            each(
                stamp.unwrap_or_else(unix_ns),
                SocketAddrV4::from(address).into(),
                content,
            );
        }
        count == BATCH
    }
}
