//! [`Peer`]: one connection to a browser, made by the `webrtc` crate.
//!
//! That crate is shown a small offer of our own, with just the sections that we accept and one codec
//! in each; the answer that the browser gets is written by [`answer`]. So whatever
//! browsers put into their offers stays outside, and the engine can be replaced.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rtc::{
    ice::mdns::MulticastDnsMode,
    interceptor::{NackResponderBuilder, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::transport::{RTCDtlsRole, RTCDtlsTransportState},
    rtcp::{
        self,
        sender_report::SenderReport,
        source_description::{
            SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
        },
    },
    rtp,
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RtpCodecKind,
    },
};
use tokio::sync::{oneshot, watch};
use webrtc_rs::{
    data_channel::DataChannel,
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCConfigurationBuilder, RTCIceGatheringState, RTCPeerConnectionState,
        RTCSessionDescription, Registry, SettingEngineBuilder,
    },
    rtp_transceiver::RtpSender,
};

use crate::{
    base::{Error, ErrorKind, Tasks},
    media::{Kind, sdp::Description},
    webrtc::{
        Offer, Plan,
        answer::{self, LocalTransport},
        lane::{Header, Lane, Report},
        negotiate::{SectionPlan, Sending},
        offer::Transport,
    },
};

/// How long the addresses of this machine may take; no other server is asked.
const GATHER_LIMIT: Duration = Duration::from_millis(600);
/// How long a goodbye may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Without any sign of life for this long a browser counts as disconnected, and after the second
/// time as gone: together less than the 15 s in which a viewer that vanished must be freed.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(7);
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How often it is asked whether the browser has said goodbye.
const GOODBYE_INTERVAL: Duration = Duration::from_millis(250);
/// Data channels that a browser may open; players open one, and say nothing on it.
const CHANNELS_MAX: usize = 4;
/// Sockets for one viewer: one for each address of this machine, up to this.
const ADDRESSES_MAX: usize = 8;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// ICE and DTLS are under way.
    Connecting,
    /// Media can flow.
    Connected,
    /// Closed by the browser, or vanished.
    Gone,
}

/// One connection to a browser. Dropping it closes it.
pub struct Peer {
    tasks: Tasks,
    closed: bool,
    connection: Arc<dyn PeerConnection>,
    tracks: Vec<Arc<TrackLocalStaticRTP>>,
    senders: Vec<Arc<dyn RtpSender>>,
    state: watch::Receiver<PeerState>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// Answers `offer` as `plan` says: gives the connection, which waits for the browser, and the
    /// session description for it. `client` is where the offer came from. Cancelling it closes what
    /// was opened.
    ///
    /// # Errors
    /// `InvalidArgument` when the offer's transport cannot be used, `Internal` when the engine fails.
    pub async fn answer(
        offer: &Offer,
        plan: &Plan,
        lanes: &[Lane],
        client: Option<IpAddr>,
        tasks: &Tasks,
    ) -> Result<(Self, String), Error> {
        let transport = offer.transport(plan.first(), client)?;
        let mut codecs = MediaEngine::default();
        for sending in plan.sendings() {
            let (parameters, kind) = (codec(sending), kind(sending));
            codecs
                .register_codec(parameters, kind)
                .map_err(engine_failed)?;
        }
        // In a task of its own: the engine leaks what it opened if it is cancelled meanwhile. If
        // nobody waits any more, the result is dropped, which closes it.
        let (opened_tx, opened) = oneshot::channel();
        let opening = Self::open(codecs, tasks.clone());
        tasks.spawn("open", async move {
            let _ = opened_tx.send(opening.await);
        });
        let (mut peer, mut gathered) = opened
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "the WebRTC engine broke off"))??;
        peer.add_tracks(plan, lanes).await?;
        let described = tokio::time::timeout(GATHER_LIMIT, async {
            let offer = RTCSessionDescription::offer(inner_offer(plan, &transport))?;
            if let Err(e) = peer.connection.set_remote_description(offer).await {
                return Ok(Err(e));
            }
            let answer = peer.connection.create_answer(None).await?;
            peer.connection.set_local_description(answer).await?;
            // An error means that the connection is closed already.
            let _ = gathered.wait_for(|done| *done).await;
            Ok::<_, webrtc_rs::error::Error>(Ok(peer.connection.local_description().await))
        })
        .await;
        let local = match described {
            Ok(Ok(Ok(description))) => description.and_then(|local| local_transport(&local.sdp)),
            Ok(Err(e)) => return Err(engine_failed(e)),
            Ok(Ok(Err(e))) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("the SDP offer cannot be used: {e}"),
                ));
            }
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "this machine's network addresses could not be found in time",
                ));
            }
        };
        let Some(local) = local else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the WebRTC engine described no transport",
            ));
        };
        let ssrcs: Vec<_> = lanes.iter().map(|lane| lane.ssrc).collect();
        let text = answer::write(offer, plan, &local, &ssrcs);
        Ok((peer, text))
    }

    /// Waits until the browser is connected, or gone. A dead engine counts as gone.
    pub async fn settled(&self) -> PeerState {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| *state != PeerState::Connecting)
            .await;
        settled.map_or(PeerState::Gone, |state| *state)
    }

    /// Waits until the browser is gone: it said so, or has been silent for too long.
    pub async fn gone(&self) {
        let mut state = self.state.clone();
        let lost = state.wait_for(|state| *state == PeerState::Gone);
        let mut lost = std::pin::pin!(lost);
        // The engine keeps a goodbye (the DTLS alert close_notify) to itself: it has to be asked.
        while tokio::time::timeout(GOODBYE_INTERVAL, &mut lost)
            .await
            .is_err()
        {
            if self.said_goodbye().await {
                return;
            }
        }
    }

    async fn said_goodbye(&self) -> bool {
        let Some(sender) = self.senders.first() else {
            return false;
        };
        match sender.transport().await {
            Ok(Some(dtls)) => matches!(dtls.state().await, Ok(RTCDtlsTransportState::Closed)),
            Ok(None) | Err(_) => false,
        }
    }

    /// Sends one payload; false when the engine takes none any more.
    pub async fn send(&self, index: usize, lane: &Lane, header: Header, payload: Bytes) -> bool {
        let packet = rtp::Packet {
            header: rtp::Header {
                version: 2,
                marker: header.marker,
                payload_type: lane.payload_type,
                sequence_number: header.sequence,
                timestamp: header.timestamp,
                ssrc: lane.ssrc,
                ..rtp::Header::default()
            },
            payload,
        };
        self.tracks[index].write_rtp(packet).await.is_ok()
    }

    /// Sends a sender report; false when the engine takes none any more.
    pub async fn report(&self, index: usize, lane: &Lane, report: Report) -> bool {
        let sender = SenderReport {
            ssrc: lane.ssrc,
            ntp_time: report.ntp,
            rtp_time: report.timestamp,
            packet_count: report.packets,
            octet_count: report.octets,
            ..SenderReport::default()
        };
        // RFC 3550 §6.1: every compound packet names the source.
        let name = SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: lane.ssrc,
                items: vec![SourceDescriptionItem {
                    sdes_type: SdesType::SdesCname,
                    text: Bytes::from_static(b"porthole"),
                }],
            }],
        };
        let packets: Vec<Box<dyn rtcp::Packet>> = vec![Box::new(sender), Box::new(name)];
        self.tracks[index].write_rtcp(packets).await.is_ok()
    }

    /// Says goodbye, so that the browser knows at once.
    pub async fn close(mut self) {
        self.closed = true;
        close(&self.connection).await;
    }

    /// Opens sockets.
    async fn open(
        codecs: MediaEngine,
        tasks: Tasks,
    ) -> Result<(Self, watch::Receiver<bool>), Error> {
        let settings = SettingEngineBuilder::new()
            // Browsers' .local names are not looked up: their own checks tell where they are.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_timeouts(
                Some(DISCONNECTED_AFTER),
                Some(FAILED_AFTER),
                Some(KEEPALIVE),
            )
            .build();
        // Lost packets are sent again; sender reports are ours.
        let interceptors =
            Registry::new().with(Slot::NackResponder, NackResponderBuilder::new().build());
        let (state_tx, state) = watch::channel(PeerState::Connecting);
        let (gathered_tx, gathered) = watch::channel(false);
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(codecs)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptors)
            .with_handler(Arc::new(Events {
                state: state_tx,
                gathered: gathered_tx,
                channels: AtomicUsize::new(0),
                tasks: tasks.clone(),
            }))
            .with_udp_addrs(addresses());
        // Boxed: this future alone has 20 kB.
        let connection = Box::pin(connection.build()).await.map_err(engine_failed)?;
        let peer = Self {
            tasks,
            closed: false,
            connection: Arc::new(connection),
            tracks: Vec::new(),
            senders: Vec::new(),
            state,
        };
        Ok((peer, gathered))
    }

    async fn add_tracks(&mut self, plan: &Plan, lanes: &[Lane]) -> Result<(), Error> {
        for (sending, lane) in plan.sendings().zip(lanes) {
            let name = sending.track.kind().name();
            let encoding = RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(lane.ssrc),
                    ..RTCRtpCodingParameters::default()
                },
                codec: codec(sending).rtp_codec,
                ..RTCRtpEncodingParameters::default()
            };
            let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
                "porthole".to_owned(),
                name.to_owned(),
                name.to_owned(),
                kind(sending),
                vec![encoding],
            )));
            let local: Arc<dyn TrackLocal> = track.clone();
            let sender = self.connection.add_track(local).await;
            self.senders.push(sender.map_err(engine_failed)?);
            self.tracks.push(track);
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.closed {
            // The engine's tasks end only when told to.
            let connection = Arc::clone(&self.connection);
            self.tasks
                .spawn("close", async move { close(&connection).await });
        }
    }
}

async fn close(connection: &Arc<dyn PeerConnection>) {
    let closed = tokio::time::timeout(CLOSE_LIMIT, connection.close()).await;
    if !matches!(closed, Ok(Ok(()))) {
        tracing::debug!("the connection did not close cleanly");
    }
}

fn engine_failed(e: webrtc_rs::error::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "the WebRTC engine cannot open a connection",
    )
    .with_source(e)
}

/// Where to listen: each address of this machine that another one can reach, or else loopback.
fn addresses() -> Vec<SocketAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<_> = interfaces
        .iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| SocketAddr::new(interface.ip(), 0))
        .take(ADDRESSES_MAX)
        .collect();
    if addresses.is_empty() {
        addresses.push(SocketAddr::from(([127, 0, 0, 1], 0)));
    }
    addresses
}

struct Events {
    state: watch::Sender<PeerState>,
    gathered: watch::Sender<bool>,
    channels: AtomicUsize,
    tasks: Tasks,
}

#[async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if self.channels.fetch_add(1, Ordering::Relaxed) >= CHANNELS_MAX {
            self.state.send_replace(PeerState::Gone);
            return;
        }
        // Read and thrown away: the engine would keep what nobody reads.
        self.tasks.spawn("data channel", async move {
            while channel.poll().await.is_some() {}
        });
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "connection state");
        match state {
            RTCPeerConnectionState::Connected => {
                self.state.send_replace(PeerState::Connected);
            }
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.state.send_replace(PeerState::Gone);
            }
            // A disconnected browser may come back until it counts as failed.
            _ => {}
        }
    }
}

fn kind(sending: &Sending) -> RtpCodecKind {
    match sending.track.kind() {
        Kind::Video => RtpCodecKind::Video,
        Kind::Audio => RtpCodecKind::Audio,
    }
}

fn codec(sending: &Sending) -> RTCRtpCodecParameters {
    let codec = sending.track.codec;
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: format!("{}/{}", sending.track.kind().name(), codec.name()),
            clock_rate: codec.clock_rate(),
            channels: codec.channels(),
            sdp_fmtp_line: sending.fmtp.clone(),
            rtcp_feedback: Vec::new(),
        },
        payload_type: sending.payload_type,
    }
}

/// The offer that the engine sees: the accepted sections, each with its one codec.
fn inner_offer(plan: &Plan, transport: &Transport) -> String {
    let accepted: Vec<_> = plan
        .sections
        .iter()
        .filter(|section| **section != SectionPlan::Refused)
        .collect();
    let mids: Vec<_> = (0..accepted.len()).map(|mid| mid.to_string()).collect();
    let mut text = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}a=group:BUNDLE {}\r\n",
        if transport.is_lite {
            "a=ice-lite\r\n"
        } else {
            ""
        },
        mids.join(" ")
    );
    for (mid, section) in accepted.into_iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match section {
            SectionPlan::Send(sending) => write!(
                text,
                "m={} 9 UDP/TLS/RTP/SAVPF {}\r\n",
                sending.track.kind().name(),
                sending.payload_type
            ),
            _ => write!(text, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
        };
        let _ = write!(
            text,
            "c=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
             a=ice-options:trickle\r\na=fingerprint:{}\r\na=setup:actpass\r\n",
            transport.ufrag, transport.password, transport.fingerprint
        );
        if let SectionPlan::Send(sending) = section {
            let pt = sending.payload_type;
            let _ = write!(
                text,
                "a=recvonly\r\na=rtcp-mux\r\na=rtpmap:{pt} {}\r\n",
                sending.rtpmap
            );
            if !sending.fmtp.is_empty() {
                let _ = write!(text, "a=fmtp:{pt} {}\r\n", sending.fmtp);
            }
            for feedback in &sending.feedback {
                let _ = write!(text, "a=rtcp-fb:{pt} {feedback}\r\n");
            }
        } else {
            text.push_str("a=sctp-port:5000\r\na=max-message-size:262144\r\n");
        }
        if mid == 0 {
            for candidate in &transport.candidates {
                let _ = write!(text, "a=candidate:{candidate}\r\n");
            }
        }
    }
    text
}

/// What the engine's own description says of its transport.
fn local_transport(sdp: &str) -> Option<LocalTransport> {
    let description = Description::parse(sdp);
    let get = |name: &str| {
        let mut media = description.media.iter();
        media
            .find_map(|section| section.attributes.get(name))
            .or_else(|| description.session.get(name))
            .map(str::to_owned)
    };
    let mut candidates: Vec<_> = description
        .media
        .iter()
        .flat_map(|section| section.attributes.all("candidate"))
        // With RTCP on the same port there is no second component.
        .filter(|candidate| candidate.split_ascii_whitespace().nth(1) == Some("1"))
        .map(str::to_owned)
        .collect();
    candidates.dedup();
    Some(LocalTransport {
        ufrag: get("ice-ufrag")?,
        password: get("ice-pwd")?,
        fingerprint: get("fingerprint")?,
        setup: get("setup")?,
        candidates,
    })
}
