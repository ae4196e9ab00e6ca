//! How packets come: interleaved in the RTSP connection, or by UDP.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    task::Poll,
};

use bytes::Bytes;
use tokio::{io::ReadBuf, net::UdpSocket};

use super::packet::is_rtcp;

/// Which of the two is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Interleaved ([RFC 2326 §10.12]): passes every firewall that the connection passes.
    ///
    /// [RFC 2326 §10.12]: https://datatracker.ietf.org/doc/html/rfc2326#section-10.12
    Tcp,
    /// A pair of ports for each track.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Where the packets of a track come in.
#[derive(Debug)]
pub(super) enum Route {
    /// Channels for RTP and RTCP.
    Channels(u8, u8),
    /// Sockets for RTP and RTCP.
    Sockets(UdpSocket, UdpSocket),
}

/// Ports are asked for in pairs, of which the first is even ([RFC 3550 §11]).
///
/// [RFC 3550 §11]: https://datatracker.ietf.org/doc/html/rfc3550#section-11
const PAIR_TRIES: usize = 50;

impl Route {
    /// Opens what track number `index` needs, and writes the `Transport` header for it.
    ///
    /// # Errors
    /// When no two ports are free beside each other.
    pub(super) async fn open(
        transport: Transport,
        index: u8,
        local: IpAddr,
    ) -> io::Result<(Self, String)> {
        if transport == Transport::Tcp {
            let (rtp, rtcp) = (index * 2, index * 2 + 1);
            let header = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}");
            return Ok((Self::Channels(rtp, rtcp), header));
        }
        for _ in 0..PAIR_TRIES {
            let rtp = UdpSocket::bind((local, 0)).await?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 0
                && let Ok(rtcp) = UdpSocket::bind((local, port + 1)).await
            {
                let header = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
                return Ok((Self::Sockets(rtp, rtcp), header));
            }
        }
        Err(io::Error::other("no pair of UDP ports is free"))
    }

    /// Takes the camera's choice, the `Transport` header of its answer. Over UDP it sends a packet to
    /// each of the camera's ports, so that firewalls on the way let the answers in; to `camera` alone,
    /// whatever else the answer names.
    ///
    /// # Errors
    /// When it chose another kind of transport.
    pub(super) async fn agree(&mut self, chosen: &str, camera: IpAddr) -> Result<(), &'static str> {
        match self {
            Self::Channels(rtp, rtcp) => {
                if let Some(named) = channels(chosen) {
                    (*rtp, *rtcp) = named;
                } else if chosen.contains("client_port") || chosen.contains("/UDP") {
                    return Err(
                        "it chose UDP although TCP was asked for; add #transport=udp to the URL",
                    );
                }
                Ok(())
            }
            Self::Sockets(..) if chosen.contains("interleaved") || chosen.contains("/TCP") => {
                Err("it chose TCP although UDP was asked for; remove #transport=udp from the URL")
            }
            Self::Sockets(rtp, rtcp) => {
                if let Some((first, second)) = range::<u16>(chosen, "server_port") {
                    let second = second.unwrap_or(first.wrapping_add(1));
                    for (socket, port, packet) in
                        [(rtp, first, &RTP[..]), (rtcp, second, &RTCP[..])]
                    {
                        // What the path makes of it does not matter.
                        let _ = socket.send_to(packet, (camera, port)).await;
                    }
                }
                Ok(())
            }
        }
    }
}

/// An RTP packet with nothing in it, and a receiver report about nobody.
const RTP: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 0];

/// The numbers of `name=first-second` in a `Transport` header; the second may be missing.
fn range<N: FromStr>(header: &str, name: &str) -> Option<(N, Option<N>)> {
    let value = header.split(';').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })?;
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    Some((first.trim().parse().ok()?, second.trim().parse().ok()))
}

/// The channels that a `Transport` header names.
pub(super) fn channels(header: &str) -> Option<(u8, u8)> {
    let (rtp, rtcp) = range::<u8>(header, "interleaved")?;
    Some((rtp, rtcp.unwrap_or(rtp.wrapping_add(1))))
}

/// The source that the camera names in a `Transport` header ([RFC 2326 §12.39]): eight hexadecimal digits.
///
/// [RFC 2326 §12.39]: https://datatracker.ietf.org/doc/html/rfc2326#section-12.39
pub(super) fn ssrc(header: &str) -> Option<u32> {
    let value = header.split(';').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case("ssrc").then_some(value)
    })?;
    u32::from_str_radix(value.trim(), 16).ok()
}

/// A packet that has come.
#[derive(Debug)]
pub(super) struct Arrived {
    /// The track's place among those set up.
    pub(super) track: usize,
    /// Whether it came where RTCP comes.
    pub(super) control: bool,
    pub(super) packet: Bytes,
}

/// To which track an interleaved packet belongs, and whether it is RTCP. By its channel; by its payload type
/// where a camera sends several tracks on one channel, or on others than it said.
pub(super) fn track_of(
    routes: &[Route],
    types: &[Option<u8>],
    channel: u8,
    packet: &[u8],
) -> Option<(usize, bool)> {
    let by_channel = routes.iter().enumerate().find_map(|(track, route)| {
        let Route::Channels(rtp, rtcp) = route else {
            return None;
        };
        let control = *rtcp == channel;
        (control || *rtp == channel).then_some((track, control))
    });
    if matches!(by_channel, Some((_, true))) || is_rtcp(packet) {
        return by_channel;
    }
    let written = packet.get(1).map(|byte| byte & 0x7f);
    let is_its = |track: usize| types.get(track).is_some_and(|its| *its == written);
    if by_channel.is_some_and(|(track, _)| is_its(track)) {
        return by_channel;
    }
    let by_type = (0..types.len()).find(|track| is_its(*track));
    by_type.map(|track| (track, false)).or(by_channel)
}

/// The next packet on any UDP socket of `routes`, from `camera` alone. Never ends without one.
pub(super) async fn receive(routes: &[Route], camera: IpAddr, buffer: &mut [u8]) -> Arrived {
    poll_fn(|context| {
        for (track, route) in routes.iter().enumerate() {
            let Route::Sockets(rtp, rtcp) = route else {
                continue;
            };
            for (socket, control) in [(rtp, false), (rtcp, true)] {
                let mut read = ReadBuf::new(buffer);
                while let Poll::Ready(received) = socket.poll_recv_from(context, &mut read) {
                    // An error tells of a packet of ours that was refused.
                    if received.is_ok_and(|from| is_from(from, camera)) {
                        let packet = Bytes::copy_from_slice(read.filled());
                        return Poll::Ready(Arrived {
                            track,
                            control,
                            packet,
                        });
                    }
                    read.clear();
                }
            }
        }
        Poll::Pending
    })
    .await
}

fn is_from(address: SocketAddr, camera: IpAddr) -> bool {
    address.ip().to_canonical() == camera.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cameras_choice_of_channels_counts() {
        let home: IpAddr = [127, 0, 0, 1].into();
        let mut route = Route::Channels(0, 1);
        route
            .agree("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=1", home)
            .await
            .unwrap();
        assert!(matches!(route, Route::Channels(4, 5)));
        route
            .agree("RTP/AVP/TCP;Interleaved=6", home)
            .await
            .unwrap();
        assert!(matches!(route, Route::Channels(6, 7)));
        route.agree("RTP/AVP/TCP;unicast", home).await.unwrap();
        assert!(matches!(route, Route::Channels(6, 7)));
        assert!(
            route
                .agree("RTP/AVP;unicast;client_port=1-2", home)
                .await
                .is_err()
        );
    }

    #[test]
    fn packets_on_channels_that_nobody_named_are_known_by_their_type() {
        let routes = [Route::Channels(0, 1), Route::Channels(2, 3)];
        let types = [Some(96), Some(8)];
        let track = |channel, kind: u8| track_of(&routes, &types, channel, &[0x80, kind, 0, 0]);
        assert_eq!(track(0, 0xe0), Some((0, false)));
        assert_eq!(track(3, 96), Some((1, true)));
        assert_eq!(track(2, 200), Some((1, false)));
        assert_eq!(track(2, 97), Some((1, false)));
        // Both tracks on one channel, and channels out of the blue.
        assert_eq!(track(0, 8), Some((1, false)));
        assert_eq!(track(10, 8), Some((1, false)));
        assert_eq!((track(10, 97), track(10, 200)), (None, None));
    }

    #[test]
    fn the_source_is_read_where_a_camera_names_it() {
        assert_eq!(
            ssrc("RTP/AVP;interleaved=0-1;SSRC=1a2B3c4D"),
            Some(0x1a2b_3c4d)
        );
        assert_eq!(ssrc("RTP/AVP;interleaved=0-1;ssrc=x"), None);
    }

    #[tokio::test]
    async fn only_the_camera_is_listened_to() {
        let home: IpAddr = [127, 0, 0, 1].into();
        let (route, header) = Route::open(Transport::Udp, 0, home).await.unwrap();
        let Route::Sockets(rtp, _) = &route else {
            panic!("{header}")
        };
        let target = rtp.local_addr().unwrap();
        assert!(header.contains(&format!(
            "client_port={}-{}",
            target.port(),
            target.port() + 1
        )));
        let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let camera = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(b"no", target).await.unwrap();
        camera.send_to(b"yes", target).await.unwrap();
        let arrived = receive(&[route], home, &mut [0; 100]).await;
        assert_eq!((&arrived.packet[..], arrived.control), (&b"yes"[..], false));
    }
}
