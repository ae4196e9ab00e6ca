//! A camera, its viewers, and the port between them: what measures the path of a packet is built of
//! these, in the order in which the server goes through it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use porthole::{
    base::Tasks,
    config::{Config, Layer, Listen, MediaListen},
    media::{
        Codec, Frame, MediaTime, Part, Track, TrackId,
        rtp::{PAYLOAD_MAX, h264::cut_access_unit},
    },
    webrtc::{
        addresses::Addresses,
        admission::Admission,
        arena::Arena,
        extension::{Extensions, Stamps},
        history::History,
        ice::{Path, Transport},
        lane::{Lane, Out},
        negotiate::Sending,
        port::{Port, Sockets},
        relay::Relays,
        srtp::{Profile, Sealer},
    },
};
use socket2::SockRef;
use tokio::runtime::Runtime;

/// A picture of a camera with 2 Mbit/s and 25 pictures per second.
const PICTURE: usize = 10_000;
/// Ticks of the video clock from one picture to the next.
const STEP: i64 = 90_000 / 25;

/// A coded picture of `size` bytes that is one NAL unit.
pub(crate) fn access_unit(size: usize) -> [Bytes; 1] {
    let unit = (0..size).map(|i| if i == 0 { 0x41 } else { i.to_le_bytes()[0] });
    [unit.collect()]
}

fn track() -> Track {
    Track {
        id: TrackId(0),
        codec: Codec::H264(None),
    }
}

/// A camera, and what it has sent of late.
pub(crate) struct Camera {
    pub(crate) history: History,
    next: Frame,
    epoch: Instant,
    /// When the last picture was taken.
    taken: Instant,
}

impl Camera {
    pub(crate) fn new() -> Self {
        let mut camera = Self {
            history: History::default(),
            next: Frame {
                track: track().id,
                codec: track().codec,
                time: MediaTime(0),
                captured: Duration::ZERO,
                random_access: false,
                part: Part::WHOLE,
                payloads: cut_access_unit(&access_unit(PICTURE), PAYLOAD_MAX),
            },
            epoch: Instant::now(),
            taken: Instant::now(),
        };
        // As long as packets are kept, and longer: the history neither grows nor shrinks then.
        for _ in 0..100 {
            camera.take_picture();
        }
        camera
    }

    /// Puts the next picture into the history, as a fan does.
    pub(crate) fn take_picture(&mut self) {
        self.history.push(&Arc::new(self.picture()));
        self.next.time.0 += STEP;
        self.taken = Instant::now();
    }

    /// The next picture.
    pub(crate) fn picture(&self) -> Frame {
        self.next.clone()
    }

    /// The packets of one picture.
    pub(crate) fn payloads(&self) -> &[Bytes] {
        &self.next.payloads
    }
}

/// What sending takes of a viewer: a lane that is live, with keys, towards an address.
pub(crate) struct Viewer {
    lane: Lane,
    sealer: Sealer,
    stamps: Stamps,
    path: Path,
}

impl Viewer {
    pub(crate) fn new(profile: Profile, camera: &Camera, remote: SocketAddr) -> Self {
        let provider = rtc_crypto::default_provider().expect("this build has cryptography");
        let salt = [2; 14];
        let salt = &salt[..profile.material() / 2 - 16];
        let mut lane = Lane::new(&Sending {
            track: track(),
            payload_type: 98,
            rtpmap: String::new(),
            fmtp: String::new(),
            feedback: Vec::new(),
            rtx: Some(99),
            // What browsers agree to.
            extensions: Extensions {
                abs_send_time: Some(2),
                transport_sequence: Some(3),
                playout_delay: Some(5),
            },
        });
        lane.go_live(camera.history.end());
        Self {
            lane,
            sealer: Sealer::new(profile, &[1; 16], salt, provider.crypto())
                .expect("this build has the cipher"),
            stamps: Stamps::default(),
            path: Path {
                transport: Transport::Udp,
                remote,
                local: Some(Ipv4Addr::LOCALHOST.into()),
            },
        }
    }

    /// Writes and seals up to `limit` packets that the viewer has not had; gives how many.
    pub(crate) fn send(&mut self, camera: &Camera, limit: u64, arena: &mut Arena) -> u64 {
        self.stamps.set(camera.taken, camera.epoch);
        let mut out = Out {
            arena,
            sealer: &mut self.sealer,
            path: self.path,
            stamps: &mut self.stamps,
        };
        let sent = self.lane.send(&camera.history, limit, &mut out);
        sent.expect("the history has what is live")
    }
}

/// The media port on the loopback interface, and sockets in place of browsers, which nobody reads:
/// they hold next to nothing, so the kernel carries packets up to them and drops them there.
pub(crate) struct Network {
    port: Arc<Port>,
    full: Vec<Path>,
    browsers: Vec<UdpSocket>,
    _runtime: Runtime,
}

impl Network {
    pub(crate) fn new(browsers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let browsers: Vec<_> = (0..browsers).map(|_| browser()).collect();
        let port = runtime.block_on(start(&browsers[0]));
        Self {
            port,
            full: Vec::new(),
            browsers,
            _runtime: runtime,
        }
    }

    /// Where the browsers are.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.browsers.iter().map(address)
    }

    /// Sends what is in `arena`, and empties it.
    pub(crate) fn send(&mut self, arena: &mut Arena) {
        let sent = self.port.send(arena, &mut self.full).now_or_never();
        sent.expect("the loopback interface is never full");
    }

    /// How many browsers something has come to since they were asked last.
    pub(crate) fn reached(&self) -> usize {
        let came = |browser: &&UdpSocket| browser.recv(&mut [0; 2_000]).is_ok();
        self.browsers.iter().filter(came).count()
    }
}

fn browser() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let smallest = SockRef::from(&socket).set_recv_buffer_size(1);
    smallest.expect("the kernel raises it to its minimum");
    socket.set_nonblocking(true).expect("it is a socket");
    socket
}

fn address(browser: &UdpSocket) -> SocketAddr {
    browser.local_addr().expect("it is bound")
}

async fn start(browser: &UdpSocket) -> Arc<Port> {
    let config = Config {
        media_listen: MediaListen {
            at: Listen::At((Ipv4Addr::LOCALHOST, 0).into()),
            is_default: false,
        },
        ..Config::from_layers([Layer::default()]).expect("the defaults are valid")
    };
    let tasks = Tasks::on_current_runtime();
    let sockets = Sockets::bind(config.media_listen).expect("a port is free");
    let addresses = Addresses::new(&config);
    let (relays, relayed) =
        Relays::start(&config, &tasks, &addresses, &Admission::new(&[])).expect("there are none");
    let port = Port::start(sockets, relays, relayed, &addresses, &tasks)
        .expect("the runtime takes the sockets");
    // The first time waits until the runtime has heard from the kernel that there is room.
    let mut arena = Arena::default();
    let path = Path {
        transport: Transport::Udp,
        remote: address(browser),
        local: None,
    };
    arena.datagram(path, &[0]);
    port.send(&mut arena, &mut Vec::new()).await;
    browser.recv(&mut [0]).expect("it was sent");
    port
}
