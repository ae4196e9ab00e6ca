//! Two agents and a network between them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{super::*, MOBILE, WIFI, candidate, millis, path};

/// A controlling and a controlled agent, 20 ms apart, on a network that loses some packets.
struct Net {
    now: Instant,
    agents: [Agent; 2],
    addresses: [SocketAddr; 2],
    under_way: Vec<(Instant, usize, Vec<u8>)>,
    loss: f64,
    random: SmallRng,
    events: [Vec<Event>; 2],
}

impl Net {
    fn new(controlling: [bool; 2], loss: f64, seed: u64) -> Self {
        let now = Instant::now();
        let names = [Credentials::random(), Credentials::random()];
        let agent = |own: usize| {
            let remote = names[1 - own].clone();
            Agent::new(now, names[own].clone(), remote, controlling[own])
        };
        Self {
            now,
            agents: [agent(0), agent(1)],
            addresses: [WIFI.parse().unwrap(), MOBILE.parse().unwrap()],
            under_way: Vec::new(),
            loss,
            random: SmallRng::seed_from_u64(seed),
            events: [Vec::new(), Vec::new()],
        }
    }

    fn collect(&mut self) {
        for (own, agent) in self.agents.iter_mut().enumerate() {
            while let Some((to, datagram)) = agent.poll_transmit() {
                let exists = to.remote == self.addresses[1 - own];
                if exists && !self.random.random_bool(self.loss) {
                    let at = self.now + millis(20);
                    self.under_way.push((at, 1 - own, datagram));
                }
            }
            self.events[own].extend(std::iter::from_fn(|| agent.poll_event()));
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.collect();
        loop {
            let arrivals = self.under_way.iter().map(|packet| packet.0);
            let timeouts = self.agents.iter().filter_map(Agent::next_timeout);
            let Some(next) = arrivals.chain(timeouts).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.under_way)
                .into_iter()
                .partition(|packet| packet.0 <= now);
            self.under_way = later;
            for (_, to, datagram) in due {
                let from = path(&self.addresses[1 - to].to_string());
                self.agents[to].handle(now, from, &datagram);
            }
            for agent in &mut self.agents {
                if agent.next_timeout().is_some_and(|at| at <= now) {
                    agent.handle_timeout(now);
                }
            }
            self.collect();
        }
        self.now = end;
    }

    fn connected(&self) -> bool {
        let paths = [path(MOBILE), path(WIFI)];
        (0..2).all(|own| self.agents[own].selected() == Some(paths[own]))
    }
}

#[test]
fn two_agents_connect_with_the_best_pair() {
    let mut net = Net::new([false, true], 0.0, 1);
    net.agents[1].add_remote(net.now, candidate("192.0.2.99:9", 900));
    net.agents[1].add_remote(net.now, candidate(WIFI, 1_000));
    net.run(millis(400));
    assert!(net.connected());
    assert_eq!(net.agents[0].rtt(), Some(millis(40)));
    assert_eq!(net.agents[1].rtt(), Some(millis(40)));
    net.run(millis(60_000));
    assert_eq!(net.events[0], [Event::Selected(path(MOBILE))]);
    assert_eq!(net.events[1], [Event::Selected(path(WIFI))]);
}

#[test]
fn two_agents_connect_and_stay_so_with_loss() {
    for seed in 0..50 {
        let mut net = Net::new([false, true], 0.15, seed);
        net.agents[0].add_remote(net.now, candidate(MOBILE, 1_000));
        net.agents[1].add_remote(net.now, candidate(WIFI, 1_000));
        net.run(millis(3_900));
        assert!(net.connected(), "seed {seed}");
        // When consent is asked is random, so less loss: by chance alone this shall never fail.
        net.loss = 0.05;
        net.run(millis(120_000));
        assert!(net.connected(), "seed {seed}");
    }
}

#[test]
fn two_agents_of_the_same_role_connect() {
    for (role, seed) in [(false, 1), (true, 2), (false, 3), (true, 4)] {
        let mut net = Net::new([role, role], 0.0, seed);
        net.agents[0].add_remote(net.now, candidate(MOBILE, 1_000));
        net.agents[1].add_remote(net.now, candidate(WIFI, 1_000));
        net.run(millis(2_000));
        assert!(net.connected(), "both controlling: {role}");
        assert_ne!(net.agents[0].controlling, net.agents[1].controlling);
    }
}

#[test]
fn the_end_of_one_agent_is_noticed_by_the_other() {
    let mut net = Net::new([false, true], 0.0, 1);
    net.agents[1].add_remote(net.now, candidate(WIFI, 1_000));
    net.run(millis(30_000));
    net.agents[1] = Net::new([false, true], 0.0, 1)
        .agents
        .into_iter()
        .next()
        .unwrap();
    net.run(millis(13_500));
    assert_eq!(net.events[0].last(), Some(&Event::Lost));
}
