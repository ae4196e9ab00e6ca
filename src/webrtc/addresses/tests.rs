use super::*;
use crate::config::Layer;

fn addresses(text: &str) -> Addresses {
    let config = Config::from_layers([Layer::parse(text).unwrap()]).unwrap();
    Addresses::with(config.media_addresses.clone(), stun_servers(&config))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(addresses: &Addresses) -> Vec<String> {
    addresses.0.known.borrow().names.keys().cloned().collect()
}

#[test]
fn stun_servers_of_both_settings_are_asked_once_per_family() {
    let addresses = addresses(
        "media_addresses: ['stun:s.example', 'stun:192.0.2.9:1']\n\
         ice_servers: [{urls: ['stun:s.example', 'turn:t.example'], username: u, credential: p}]\n",
    );
    assert_eq!(
        addresses.stun_servers(),
        [SocketAddr::new(ip("192.0.2.9"), 1)]
    );
    let found = ["2001:db8::1", "192.0.2.2", "192.0.2.1", "2001:db8::2"];
    addresses.learn(
        "s.example".to_owned(),
        found.map(ip).to_vec(),
        Instant::now(),
    );
    let expected = ["192.0.2.1:3478", "[2001:db8::1]:3478", "192.0.2.9:1"];
    assert_eq!(
        addresses.stun_servers(),
        expected.map(|at| at.parse::<SocketAddr>().unwrap())
    );
}

#[test]
fn a_failed_look_up_keeps_what_was_known_and_is_repeated_soon() {
    let addresses = addresses("media_addresses: [home.example]");
    let name = || "home.example".to_owned();
    let start = Instant::now();
    addresses.learn(name(), Vec::new(), start);
    let entry = || addresses.0.known.borrow().names[&name()].clone();
    assert_eq!(entry().good_until, start + NAME_RETRY);
    addresses.learn(name(), vec![ip("192.0.2.1")], start);
    assert_eq!(entry().good_until, start + NAME_LIFETIME);
    let later = start + NAME_LIFETIME;
    addresses.learn(name(), Vec::new(), later);
    assert_eq!(entry().addresses, [ip("192.0.2.1")]);
    assert_eq!(entry().good_until, later + NAME_RETRY);
}

#[test]
fn requested_names_are_forgotten_before_configured_ones() {
    let addresses = addresses("media_addresses: [home.example]");
    let start = Instant::now();
    addresses.learn("home.example".to_owned(), vec![ip("192.0.2.1")], start);
    for i in 0..200_u32 {
        let at = start + Duration::from_secs(1 + u64::from(i));
        addresses.learn(format!("n{i}.example"), Vec::new(), at);
    }
    let names = names(&addresses);
    assert_eq!(names.len(), REQUESTED_MAX + 1);
    assert!(names.contains(&"home.example".to_owned()));
    assert!(names.contains(&"n199.example".to_owned()));
}

#[test]
fn relays_come_and_go() {
    let addresses = addresses("");
    let at: SocketAddr = "192.0.2.1:50000".parse().unwrap();
    addresses.set_relayed(1, Some(at));
    assert_eq!(addresses.relayed(), [(1, at)]);
    addresses.set_relayed(1, None);
    assert!(addresses.relayed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_name_is_waited_for_and_not_for_long() {
    // Nobody runs the look-ups.
    let idle = addresses("");
    let start = tokio::time::Instant::now();
    idle.resolve("cams.example.org:8083").await;
    assert_eq!(start.elapsed().as_millis(), 150);
    for host in ["192.0.2.1", "localhost", "a b", ""] {
        let start = tokio::time::Instant::now();
        idle.resolve(host).await;
        assert!(start.elapsed().is_zero(), "{host}");
    }
    let name = || "cams.example.org".to_owned();
    idle.learn(name(), vec![ip("192.0.2.1")], Instant::now());
    let start = tokio::time::Instant::now();
    idle.resolve("cams.example.org").await;
    assert!(start.elapsed().is_zero());
}

#[tokio::test]
async fn the_task_reads_interfaces_and_ends_when_told() {
    let addresses = addresses("");
    let stop = CancellationToken::new();
    let task = addresses.clone().run(stop.clone());
    let ended = timeout(Duration::from_secs(5), async {
        tokio::join!(task, async {
            let mut known = addresses.0.known.subscribe();
            let _ = known
                .wait_for(|known| !known.interfaces.is_empty())
                .await
                .map(|_| ());
            stop.cancel();
        })
    });
    assert!(ended.await.is_ok());
}
