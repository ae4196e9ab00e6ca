//! A viewer on the `webrtc` crate, the asynchronous face of the engine that Porthole is made with.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::{sync::Notify, time::Instant};
use webrtc::{
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
        SettingEngineBuilder, register_default_interceptors,
    },
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};

pub use webrtc::peer_connection::SrtpProtectionProfile;

use super::{Account, Received, View, deadline};
use crate::server::Server;

/// How the engine is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine {
    /// The one cipher for media that DTLS offers; none for all that the engine has.
    pub profile: Option<SrtpProtectionProfile>,
    /// Whether it only answers checks (RFC 8445 §2.5).
    pub lite: bool,
}

/// Watches a camera until it has enough, [`super::LIMIT`] at most.
///
/// # Panics
/// When the server refuses, or the engine refuses the answer.
pub async fn watch_with(engine: Engine, server: &Server, camera: &str, view: &View) -> Received {
    let seen = Arc::new(Seen::default());
    let mut media = MediaEngine::default();
    media.register_default_codecs().expect("its own codecs");
    let registry =
        register_default_interceptors(Registry::new(), &mut media).expect("its own interceptors");
    let mut settings = SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_lite(engine.lite);
    if let Some(profile) = engine.profile {
        settings = settings.with_srtp_protection_profiles(vec![profile]);
    }
    let builder = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_setting_engine(settings.build())
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler(Arc::clone(&seen))))
        .with_udp_addrs(vec!["127.0.0.1:0"]);
    let peer = Box::pin(builder.build()).await.expect("the engine starts");
    for kind in view.kinds() {
        let kind = if kind == "video" {
            RtpCodecKind::Video
        } else {
            RtpCodecKind::Audio
        };
        let receive = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..Default::default()
        };
        peer.add_transceiver_from_kind(kind, Some(receive))
            .await
            .expect("a transceiver");
    }
    let offer = peer.create_offer(None).await.expect("an offer");
    peer.set_local_description(offer)
        .await
        .expect("an offer of its own");
    let _ = tokio::time::timeout(Duration::from_secs(2), seen.gathered.notified()).await;
    let offer = peer.local_description().await.expect("it was just set").sdp;
    let start = Instant::now();
    let answer = view.exchange(server, camera, &offer).await;
    let described = RTCSessionDescription::answer(answer.clone())
        .unwrap_or_else(|e| panic!("the answer cannot be read: {e}\n{answer}"));
    peer.set_remote_description(described)
        .await
        .unwrap_or_else(|e| panic!("the answer is not taken: {e}\n{answer}"));
    let end = deadline();
    let received = loop {
        let received = seen.received(start);
        if received.is_enough(view) || Instant::now() >= end {
            break received;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    peer.close().await.expect("the engine stops");
    received
}

#[derive(Default)]
struct Seen {
    gathered: Notify,
    connected: Mutex<Option<Instant>>,
    video: Mutex<Account>,
    audio: Mutex<Account>,
}

impl Seen {
    fn received(&self, start: Instant) -> Received {
        let stream = |account: &Mutex<Account>| lock(account).stream();
        Received {
            connected: lock(&self.connected).map(|at| at.duration_since(start)),
            took: start.elapsed(),
            video: stream(&self.video),
            audio: stream(&self.audio),
            ..Received::default()
        }
    }
}

struct Handler(Arc<Seen>);

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            lock(&self.0.connected).get_or_insert_with(Instant::now);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let seen = Arc::clone(&self.0);
        let is_video = track.kind().await == RtpCodecKind::Video;
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else {
                    continue;
                };
                let header = &packet.header;
                if is_video {
                    lock(&seen.video).note(header.sequence_number, header.marker);
                } else {
                    lock(&seen.audio).note(header.sequence_number, true);
                }
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock")
}
