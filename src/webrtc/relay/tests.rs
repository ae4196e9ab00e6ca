//! Against coturn, where it is installed.

use std::process::{Child, Command, Stdio};

use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::config::Layer;

pub(super) struct Server(Child, pub(super) u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts `turnserver` on loopback; none where it is not installed.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    pub(super) fn start_with(arguments: &[&str]) -> Option<Self> {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("turnserver")
            .args(["-n", "-L", "127.0.0.1", "-p", &port.to_string()])
            .args(["--lt-cred-mech", "--user=me:secret", "--realm=test"])
            .args(["--allow-loopback-peers", "--no-tls", "--no-dtls"])
            .args(["--no-cli", "--stale-nonce=1", "--pidfile="])
            .args(["--db=/nonexistent", "-l", "stdout"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self(child, port)),
            Err(e) => {
                tracing::warn!("skipped: turnserver is not installed: {e}");
                None
            }
        }
    }

    /// Uses it by `transport`, and waits for its address.
    async fn relays(
        &self,
        tasks: &Tasks,
        transport: &str,
    ) -> (Relays, mpsc::Receiver<Relayed>, SocketAddr) {
        let text = format!(
            "ice_servers: [{{urls: 'turn:127.0.0.1:{}?transport={transport}', username: me, \
             credential: secret}}]",
            self.1
        );
        let config = Config::from_layers([Layer::parse(&text).unwrap()]).unwrap();
        let addresses = Addresses::new(&config);
        let (relays, received) =
            Relays::start(&config, tasks, &addresses, &Admission::new(&[])).unwrap();
        let relayed = timeout(Duration::from_secs(20), async {
            loop {
                if let Some((0, relayed)) = relays.relayed().first() {
                    return *relayed;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let relayed = relayed.await.expect("an allocation within 20 s");
        (relays, received, relayed)
    }
}

#[tokio::test]
async fn datagrams_go_to_and_fro_through_coturn() {
    let Some(server) = Server::start() else {
        return;
    };
    for transport in ["udp", "tcp"] {
        let tasks = Tasks::on_current_runtime();
        let (relays, mut received, relayed) = server.relays(&tasks, transport).await;
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        relays.permit(0, address.ip());
        // More than enough for a channel; nonces become stale on the way.
        for i in 0..40_u8 {
            let exchanged = timeout(Duration::from_secs(5), async {
                let mut buffer = [0; 64];
                loop {
                    relays.send(0, address, &[i; 9]);
                    let answer = timeout(Duration::from_millis(200), peer.recv_from(&mut buffer));
                    if let Ok(Ok((length, from))) = answer.await
                        && buffer[..length] == [i; 9]
                    {
                        assert_eq!(from, relayed);
                        break;
                    }
                }
                peer.send_to(&[i; 7], relayed).await.unwrap();
                received.recv().await.unwrap()
            });
            let expected = Relayed {
                relay: 0,
                peer: address,
                datagram: Bytes::from(vec![i; 7]),
            };
            assert_eq!(exchanged.await.expect("no loss on loopback"), expected);
            sleep(Duration::from_millis(50)).await;
        }
        assert!(tasks.drain(Duration::from_secs(2)).await);
    }
}
