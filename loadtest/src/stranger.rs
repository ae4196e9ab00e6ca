//! Somebody who sends to the media port and has no business there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::dtls;

/// How often a stranger sends; between, it sleeps.
const STEP: Duration = Duration::from_millis(1);
/// The magic cookie of STUN (RFC 8489, 5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a stranger has sent and got.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
}

/// A socket that is nobody's peer.
pub(crate) struct Stranger {
    socket: UdpSocket,
    traffic: Traffic,
}

impl Stranger {
    /// Binds on the viewers' address, at another port.
    pub(crate) fn new(address: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            traffic: Traffic::default(),
        })
    }

    /// Sends `rate` datagrams per second, to each of the addresses in turn, while `go_on` says so.
    pub(crate) fn send(
        mut self,
        to: &[SocketAddr],
        rate: u64,
        make: fn(u16) -> Vec<u8>,
        go_on: impl Fn() -> bool,
    ) -> Traffic {
        let start = Instant::now();
        while go_on() {
            let due =
                u64::try_from(start.elapsed().as_micros()).unwrap_or(0) * rate / 1_000_000 + 1;
            while self.traffic.sent < due {
                self.one(to, make);
            }
            self.read();
            thread::sleep(STEP);
        }
        // Answers may still be on their way.
        thread::sleep(Duration::from_millis(200));
        self.read();
        self.traffic
    }

    fn one(&mut self, to: &[SocketAddr], make: fn(u16) -> Vec<u8>) {
        let number = self.traffic.sent;
        let datagram = make(u16::try_from(number & 0xffff).unwrap_or(0));
        let index = usize::try_from(number).unwrap_or(0) % to.len().max(1);
        if let Some(address) = to.get(index) {
            // A full send buffer loses it, as would the network.
            let _ = self.socket.send_to(&datagram, address);
        }
        self.traffic.sent += 1;
        self.traffic.sent_bytes += u64::try_from(datagram.len()).unwrap_or(0);
    }

    fn read(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
            self.traffic.received += 1;
            self.traffic.received_bytes += u64::try_from(length).unwrap_or(0);
        }
    }
}

/// Handshake messages: a `ClientHello`, an alert or a record of junk.
pub(crate) fn handshake(number: u16) -> Vec<u8> {
    match number % 3 {
        0 => dtls::client_hello(number),
        1 => dtls::junk_record(number),
        _ => dtls::alert(number),
    }
}

/// Anything: noise, STUN for nobody, cut RTP, records of DTLS.
pub(crate) fn junk(number: u16) -> Vec<u8> {
    match number % 5 {
        0 => dtls::random_bytes(rand::random_range(1..1200)),
        1 => binding_request(),
        2 => truncated_rtp(number),
        3 => dtls::client_hello(number),
        _ => dtls::junk_record(number),
    }
}

/// A binding request for a user that nobody knows (RFC 8445, 7.2.2), with an integrity that nobody can check.
fn binding_request() -> Vec<u8> {
    let user: Vec<u8> = (0..11)
        .map(|place| {
            if place == 5 {
                b':'
            } else {
                rand::random_range(b'a'..=b'z')
            }
        })
        .collect();
    let mut attributes = vec![0, 6, 0, 11];
    attributes.extend(user);
    attributes.push(0); // up to a multiple of four
    attributes.extend([0, 0x24, 0, 4]); // PRIORITY
    attributes.extend(dtls::random_bytes(4));
    attributes.extend([0, 8, 0, 20]); // MESSAGE-INTEGRITY
    attributes.extend(dtls::random_bytes(20));
    let length = u16::try_from(attributes.len()).unwrap_or(0);
    let mut message = vec![0, 1];
    message.extend(length.to_be_bytes());
    message.extend(COOKIE);
    message.extend(dtls::random_bytes(12));
    message.extend(attributes);
    message
}

/// The beginning of an RTP packet, or of one of RTCP, cut anywhere up to 40 bytes.
fn truncated_rtp(number: u16) -> Vec<u8> {
    let kind = if number.is_multiple_of(2) { 96 } else { 201 };
    let mut packet = vec![0x80 | rand::random_range(0..32), kind];
    packet.extend(dtls::random_bytes(38));
    packet.truncate(rand::random_range(1..40));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_request_tells_its_length() {
        let message = binding_request();
        assert_eq!(
            usize::from(u16::from_be_bytes([message[2], message[3]])),
            message.len() - 20
        );
        assert_eq!((message.len() % 4, &message[4..8]), (0, &COOKIE[..]));
        assert_eq!(message[29], b':');
    }

    #[test]
    fn a_stranger_hears_what_comes_back() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = echo.local_addr().unwrap();
        let thread = thread::Builder::new().spawn(move || {
            let mut buffer = [0; 2048];
            let (length, from) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..length], from).unwrap();
        });
        let stranger = Stranger::new([127, 0, 0, 1].into()).unwrap();
        let end = Instant::now() + Duration::from_millis(20);
        let traffic = stranger.send(&[to], 1, junk, || Instant::now() < end);
        thread.unwrap().join().unwrap();
        assert_eq!((traffic.sent, traffic.received), (1, 1));
        assert_eq!(traffic.sent_bytes, traffic.received_bytes);
    }
}
