use tokio::{
    net::UdpSocket,
    time::{sleep, timeout},
};

use super::{
    super::{Relays, tests::Server},
    *,
};
use crate::{
    base::Secret,
    config::{Config, Layer},
    webrtc::addresses::Addresses,
};

fn relays(tasks: &Tasks, admission: &Admission) -> (Relays, mpsc::Receiver<Relayed>) {
    let config = Config::from_layers([Layer::default()]).unwrap();
    let addresses = Addresses::new(&config);
    Relays::start(&config, tasks, &addresses, admission).unwrap()
}

fn wanted(urls: &[String], password: &str) -> Wanted {
    Wanted {
        urls: urls.iter().map(|url| IceUrl::parse(url).unwrap()).collect(),
        credentials: Credentials {
            user: Secret::new("me"),
            password: Secret::new(password),
        },
        reach: Reach::Private,
    }
}

/// A server that says nothing, and what it was sent until now.
struct Silent(UdpSocket);

impl Silent {
    async fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("turn:{}", self.0.local_addr().unwrap())
    }

    fn datagrams(&self) -> usize {
        std::iter::from_fn(|| self.0.try_recv(&mut [0; 2048]).ok()).count()
    }
}

#[tokio::test]
async fn a_silent_server_gets_four_datagrams_and_is_given_up_after_four_seconds() {
    let tasks = Tasks::on_current_runtime();
    let (relays, _received) = relays(&tasks, &Admission::open());
    let server = Silent::new().await;
    let lease = relays.borrow(wanted(&[server.url()], "secret")).unwrap();
    let ready = timeout(PATIENCE + Duration::from_secs(2), lease.ready()).await;
    assert_eq!(ready, Ok(None));
    let _ = server.0.readable().await;
    assert_eq!(server.datagrams(), 4);
    assert!(tasks.drain(Duration::from_secs(2)).await);
}

#[tokio::test]
async fn a_server_on_this_machine_is_sent_nothing_by_any_transport() {
    let tasks = Tasks::on_current_runtime();
    let (relays, _received) = relays(&tasks, &Admission::new(&[]));
    let server = Silent::new().await;
    let listener = tokio::net::TcpListener::bind(server.0.local_addr().unwrap());
    let listener = listener.await.unwrap();
    let at = server.0.local_addr().unwrap();
    let urls = [
        format!("turn:{at}"),
        format!("turn:localhost:{}?transport=udp", at.port()),
        format!("turn:{at}?transport=tcp"),
    ];
    for url in urls {
        let lease = relays.borrow(wanted(&[url], "secret")).unwrap();
        assert_eq!(timeout(PATIENCE, lease.ready()).await, Ok(None));
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.datagrams(), 0);
    let called = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(called.is_err(), "nobody has connected");
}

#[tokio::test]
async fn sixteen_are_lent_each_to_all_who_want_the_same_and_free_again_at_the_end() {
    let tasks = Tasks::on_current_runtime();
    let (relays, _received) = relays(&tasks, &Admission::open());
    let server = Silent::new().await;
    let borrow = |i: usize| relays.borrow(wanted(&[server.url()], &format!("secret {i}")));
    let mut leases: Vec<_> = (0..NUMBERS.len()).map(|i| borrow(i).unwrap()).collect();
    let mut numbers: Vec<_> = leases.iter().map(Lease::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, NUMBERS.collect::<Vec<_>>());
    assert!(borrow(NUMBERS.len()).is_none());
    let same = borrow(3).unwrap();
    assert_eq!(same.number(), leases[3].number());
    let given_back = leases.remove(3).number();
    sleep(Duration::from_millis(50)).await;
    assert!(borrow(NUMBERS.len()).is_none(), "somebody has it yet");
    drop(same);
    let free = timeout(Duration::from_secs(1), async {
        loop {
            if let Some(lease) = borrow(NUMBERS.len()) {
                break lease;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(free.await.unwrap().number(), given_back);
    drop(leases);
    assert!(tasks.drain(Duration::from_secs(2)).await);
}

/// The server gives one address at a time to this user, so a second one shows that the first was given
/// back.
#[tokio::test]
async fn a_lent_relay_carries_datagrams_and_is_given_back_with_its_last_lease() {
    let Some(server) = Server::start_with(&["--user-quota=1"]) else {
        return;
    };
    let tasks = Tasks::on_current_runtime();
    let (relays, mut received) = relays(&tasks, &Admission::open());
    let silent = Silent::new().await;
    for transport in ["udp", "tcp"] {
        let url = format!("turn:127.0.0.1:{}?transport={transport}", server.1);
        // The first one is of no use.
        let both = wanted(&[silent.url(), url], "secret");
        let (lease, relayed) = timeout(Duration::from_secs(20), async {
            loop {
                let lease = relays.borrow(both.clone()).unwrap();
                if let Some(relayed) = lease.ready().await {
                    break (lease, relayed);
                }
            }
        })
        .await
        .expect("an address within 20 s");
        let again = relays.borrow(both).unwrap();
        drop(lease);
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        let relay = again.number();
        relays.permit(relay, address.ip());
        let mut buffer = [0; 64];
        let exchanged = timeout(Duration::from_secs(5), async {
            loop {
                relays.send(relay, address, b"to the peer");
                let answer = timeout(Duration::from_millis(200), peer.recv_from(&mut buffer));
                if let Ok(Ok((_, from))) = answer.await {
                    break from;
                }
            }
        });
        assert_eq!(exchanged.await, Ok(relayed));
        assert!(buffer.starts_with(b"to the peer"));
        peer.send_to(b"from the peer", relayed).await.unwrap();
        let arrived = timeout(Duration::from_secs(5), received.recv()).await;
        let expected = Relayed {
            relay,
            peer: address,
            datagram: (&b"from the peer"[..]).into(),
        };
        assert_eq!(arrived, Ok(Some(expected)));
        drop(again);
    }
    assert!(tasks.drain(Duration::from_secs(2)).await);
}
