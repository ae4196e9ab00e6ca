//! [`Channels`]: the data channels of one browser ([RFC 8831], [RFC 8832]). Some players open one, and
//! take its end for the end of the stream. So ours open, say nothing, and drop what they are told.
//!
//! [RFC 8831]: https://datatracker.ietf.org/doc/html/rfc8831
//! [RFC 8832]: https://datatracker.ietf.org/doc/html/rfc8832

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, StreamId, TransportConfig,
};
use rtc_shared::TransportProtocol;

/// SCTP runs inside DTLS and knows no addresses.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// Channels that a browser may open; players open one.
const CHANNELS_MAX: u16 = 4;
/// Messages taken at once.
const MESSAGES_MAX: usize = 64;
/// What a browser may have on the way to us.
const BUFFER: u32 = 64 << 10;

/// Times that a browser may ask for an association; each costs memory for as long as it watches.
const ASKED_MAX: u8 = 32;
/// RFC 9260 §3.2: the chunk that asks for one, after the 12 bytes of the packet's header.
const INIT: u8 = 1;
/// RFC 8832 §5: message types of the protocol that opens channels.
const OPEN: u8 = 3;
const ACK: u8 = 2;

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let transport = TransportConfig::default()
        .with_max_receive_buffer_size(BUFFER)
        .with_max_message_size(BUFFER)
        .with_max_num_inbound_streams(CHANNELS_MAX)
        .with_max_num_outbound_streams(CHANNELS_MAX);
    Arc::new(ServerConfig::new(transport))
});
static ENDPOINT: LazyLock<Arc<EndpointConfig>> = LazyLock::new(Arc::default);

/// The data channels of one browser.
pub struct Channels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Box<Association>)>,
    /// Times that a browser has asked for an association.
    asked: u8,
    outgoing: VecDeque<Bytes>,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels")
            .field("open", &self.association.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            endpoint: Endpoint::new(
                NOWHERE,
                TransportProtocol::UDP,
                Arc::clone(&ENDPOINT),
                Some(Arc::clone(&SERVER)),
            ),
            association: None,
            asked: 0,
            outgoing: VecDeque::new(),
        }
    }
}

impl Channels {
    /// Takes an SCTP packet.
    pub fn handle(&mut self, now: Instant, packet: Bytes) {
        if self.asked >= ASKED_MAX && packet.get(12) == Some(&INIT) {
            return;
        }
        match self.endpoint.handle(now, NOWHERE, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(new))) => {
                self.asked += 1;
                // A browser has one. That it asks again means that our answer was lost.
                let replaced = self.association.as_ref();
                if replaced.is_none_or(|(_, old)| old.is_handshaking() || old.is_closed()) {
                    self.association = Some((handle, Box::new(new)));
                    self.outgoing.clear();
                }
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((ours, association)) = &mut self.association
                    && *ours == handle
                {
                    association.handle_event(event);
                }
            }
            Some(_) | None => {}
        }
        self.drain(now);
    }

    /// Acknowledges channels that are opened and drops what is said in them.
    fn drain(&mut self, now: Instant) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let mut readable = Vec::new();
        while let Some(stream) = association.accept_stream() {
            readable.push(stream.stream_identifier());
        }
        while let Some(event) = association.poll() {
            if let Event::Stream(StreamEvent::Readable { id } | StreamEvent::Opened { id }) = event
            {
                readable.push(id);
            }
        }
        for id in readable {
            read(association, now, id);
        }
        while let Some(event) = association.poll_endpoint_event() {
            tracing::trace!(?event, "data channels");
        }
    }

    /// The next SCTP packet to send, if any.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.outgoing.is_empty() {
            let (_, association) = self.association.as_mut()?;
            let transmit = association.poll_transmit(now)?;
            if let Payload::RawEncode(packets) = transmit.message {
                self.outgoing.extend(packets);
            }
        }
        self.outgoing.pop_front()
    }

    /// When [`Channels::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    /// Sends again what was not acknowledged.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.drain(now);
    }
}

fn read(association: &mut Association, now: Instant, id: StreamId) {
    let Ok(mut stream) = association.stream(id) else {
        return;
    };
    for _ in 0..MESSAGES_MAX {
        let Ok(Some(message)) = stream.read_sctp() else {
            return;
        };
        let Ok(text) = message.to_payload(BUFFER as usize) else {
            return;
        };
        if message.ppi == PayloadProtocolIdentifier::Dcep && text.first() == Some(&OPEN) {
            let ack = Bytes::from_static(&[ACK]);
            // A stream that was closed meanwhile needs none.
            let _ = stream.write_chunk_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep);
        }
    }
}
