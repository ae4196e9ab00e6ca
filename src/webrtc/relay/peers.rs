//! [`Peers`]: who may send to us through a relay, and by which channel. Without a clock.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Peers at once, and channels at once.
const PEERS_MAX: usize = 256;

/// When a permission is asked for again; it lasts 5 min ([RFC 8656 §9]).
///
/// [RFC 8656 §9]: https://datatracker.ietf.org/doc/html/rfc8656#section-9
const PERMIT_AGAIN: Duration = Duration::from_mins(4);

/// When a channel is bound again; it lasts 10 min ([RFC 8656 §12]).
///
/// [RFC 8656 §12]: https://datatracker.ietf.org/doc/html/rfc8656#section-12
const BIND_AGAIN: Duration = Duration::from_mins(8);

/// A peer with which nothing was exchanged for so long is forgotten at its next refresh.
const IDLE: Duration = Duration::from_mins(1);

/// How soon a request that failed is repeated.
const RETRY: Duration = Duration::from_secs(10);

/// A channel saves 32 bytes a packet and is worth a request once media flows. Most peers see but a
/// few connectivity checks.
const CHANNEL_AFTER: u32 = 16;

/// The numbers of channels, from the first.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// A request to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// `CreatePermission`.
    Permit(IpAddr),
    /// `ChannelBind`.
    Bind(SocketAddr, u16),
}

#[derive(Debug)]
struct Permission {
    used: Instant,
    /// When to ask, again perhaps.
    next: Instant,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    used: Instant,
    sent: u32,
    is_bound: bool,
    /// Never before it was asked for.
    next: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Peers {
    permissions: HashMap<IpAddr, Permission>,
    channels: HashMap<SocketAddr, Channel>,
    by_number: HashMap<u16, SocketAddr>,
    next_number: u16,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            permissions: HashMap::new(),
            channels: HashMap::new(),
            by_number: HashMap::new(),
            next_number: *CHANNELS.start(),
        }
    }
}

impl Peers {
    /// When [`Self::work`] has something to do at the latest.
    pub(super) fn next_work(&self) -> Option<Instant> {
        let permissions = self.permissions.values().map(|permission| permission.next);
        let channels = self.channels.values().filter_map(|channel| channel.next);
        permissions.chain(channels).min()
    }

    /// What is due by now; who is idle is forgotten instead.
    pub(super) fn work(&mut self, now: Instant) -> Vec<Work> {
        let mut due = Vec::new();
        let is_idle = |used: Instant| now.saturating_duration_since(used) >= IDLE;
        self.permissions.retain(|ip, permission| {
            if permission.next > now {
                return true;
            }
            permission.next = now + PERMIT_AGAIN;
            let keeps = !is_idle(permission.used);
            due.extend(keeps.then_some(Work::Permit(*ip)));
            keeps
        });
        self.channels.retain(|peer, channel| {
            if channel.next.is_none_or(|next| next > now) {
                return true;
            }
            channel.next = Some(now + BIND_AGAIN);
            let keeps = !is_idle(channel.used);
            if keeps {
                due.push(Work::Bind(*peer, channel.number));
            } else {
                self.by_number.remove(&channel.number);
            }
            keeps
        });
        due
    }

    /// Lets `ip` in, if there is room for one more.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) -> Option<Work> {
        if let Some(permission) = self.permissions.get_mut(&ip) {
            permission.used = now;
            return None;
        }
        if self.permissions.len() >= PEERS_MAX {
            let (oldest, permission) = self
                .permissions
                .iter()
                .min_by_key(|(_, permission)| permission.used)?;
            if now.saturating_duration_since(permission.used) < IDLE {
                return None;
            }
            let oldest = *oldest;
            self.permissions.remove(&oldest);
        }
        let next = now + PERMIT_AGAIN;
        self.permissions.insert(ip, Permission { used: now, next });
        Some(Work::Permit(ip))
    }

    pub(super) fn is_permitted(&self, ip: IpAddr) -> bool {
        self.permissions.contains_key(&ip)
    }

    /// Counts a packet to `peer`: the channel to send it on, if there is one, and one to ask for.
    pub(super) fn sending(
        &mut self,
        now: Instant,
        peer: SocketAddr,
    ) -> (Option<u16>, Option<Work>) {
        if !self.channels.contains_key(&peer) && !self.make_room(now) {
            return (None, None);
        }
        let channel = self.channels.entry(peer).or_insert(Channel {
            number: 0,
            used: now,
            sent: 0,
            is_bound: false,
            next: None,
        });
        channel.used = now;
        channel.sent = channel.sent.saturating_add(1);
        if channel.is_bound {
            return (Some(channel.number), None);
        }
        if channel.sent < CHANNEL_AFTER || channel.next.is_some() {
            return (None, None);
        }
        while self.by_number.contains_key(&self.next_number) {
            self.next_number = after(self.next_number);
        }
        channel.number = self.next_number;
        channel.next = Some(now + BIND_AGAIN);
        self.next_number = after(channel.number);
        self.by_number.insert(channel.number, peer);
        (None, Some(Work::Bind(peer, channel.number)))
    }

    /// The peer of a channel on which something came.
    pub(super) fn received_on(&mut self, now: Instant, number: u16) -> Option<SocketAddr> {
        let peer = *self.by_number.get(&number)?;
        self.received_from(now, peer).then_some(peer)
    }

    /// Whether something from `peer` is welcome.
    pub(super) fn received_from(&mut self, now: Instant, peer: SocketAddr) -> bool {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.used = now;
        }
        let permission = self.permissions.get_mut(&peer.ip());
        permission.map(|permission| permission.used = now).is_some()
    }

    pub(super) fn permitted(&mut self, now: Instant, ip: IpAddr) {
        if let Some(permission) = self.permissions.get_mut(&ip) {
            permission.next = now + PERMIT_AGAIN;
        }
    }

    pub(super) fn permit_failed(&mut self, now: Instant, ip: IpAddr) {
        if let Some(permission) = self.permissions.get_mut(&ip) {
            permission.next = now + RETRY;
        }
    }

    pub(super) fn bound(&mut self, now: Instant, peer: SocketAddr, number: u16) {
        if let Some(channel) = self.channels.get_mut(&peer)
            && channel.number == number
        {
            channel.is_bound = true;
            channel.next = Some(now + BIND_AGAIN);
        }
    }

    /// Without a channel it goes on by indications.
    pub(super) fn bind_failed(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.is_bound = false;
            channel.next = Some(now + RETRY);
        }
    }

    /// Whether there is room for one more channel, perhaps that of one who is idle. A channel that
    /// was asked for stays: its number means this peer to the server until it expires.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.channels.len() < PEERS_MAX {
            return true;
        }
        self.channels.retain(|_, channel| {
            channel.next.is_some() || now.saturating_duration_since(channel.used) < IDLE
        });
        self.channels.len() < PEERS_MAX
    }
}

fn after(number: u16) -> u16 {
    if number >= *CHANNELS.end() {
        *CHANNELS.start()
    } else {
        number + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(i: u16) -> SocketAddr {
        let [high, low] = i.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 5000))
    }

    #[test]
    fn who_exchanges_data_stays_permitted_and_who_is_idle_is_forgotten() {
        let mut peers = Peers::default();
        let start = Instant::now();
        let (busy, idle) = (peer(1), peer(2));
        for who in [busy, idle] {
            assert_eq!(peers.permit(start, who.ip()), Some(Work::Permit(who.ip())));
            assert_eq!(peers.permit(start, who.ip()), None);
            peers.permitted(start, who.ip());
        }
        let due = start + PERMIT_AGAIN;
        assert_eq!(peers.next_work(), Some(due));
        assert!(peers.received_from(due, busy));
        assert_eq!(peers.work(due), [Work::Permit(busy.ip())]);
        assert!(peers.is_permitted(busy.ip()) && !peers.is_permitted(idle.ip()));
        assert!(!peers.received_from(due, idle));
    }

    #[test]
    fn a_request_that_failed_is_repeated_ten_seconds_later() {
        let mut peers = Peers::default();
        let start = Instant::now();
        let _ = peers.permit(start, peer(1).ip());
        peers.permit_failed(start, peer(1).ip());
        assert!(peers.work(start + RETRY / 2).is_empty());
        assert_eq!(peers.work(start + RETRY).len(), 1);
    }

    #[test]
    fn there_is_room_for_256_and_an_idle_one_yields() {
        let mut peers = Peers::default();
        let start = Instant::now();
        for i in 0..256 {
            assert!(peers.permit(start, peer(i).ip()).is_some());
        }
        assert!(peers.permit(start, peer(300).ip()).is_none());
        assert!(peers.permit(start + IDLE, peer(300).ip()).is_some());
        assert_eq!(peers.permissions.len(), 256);
    }

    #[test]
    fn media_gets_a_channel_and_checks_do_not() {
        let mut peers = Peers::default();
        let now = Instant::now();
        let _ = peers.permit(now, peer(1).ip());
        for _ in 1..CHANNEL_AFTER {
            assert_eq!(peers.sending(now, peer(1)), (None, None));
        }
        let bind = Work::Bind(peer(1), 0x4000);
        assert_eq!(peers.sending(now, peer(1)), (None, Some(bind)));
        assert_eq!(peers.sending(now, peer(1)), (None, None));
        peers.bound(now, peer(1), 0x4000);
        assert_eq!(peers.sending(now, peer(1)), (Some(0x4000), None));
        assert_eq!(peers.received_on(now, 0x4000), Some(peer(1)));
        assert_eq!(peers.received_on(now, 0x4001), None);
        let _ = peers.sending(now + BIND_AGAIN, peer(1));
        assert!(peers.work(now + BIND_AGAIN).contains(&bind));
        peers.bind_failed(now, peer(1));
        assert_eq!(peers.sending(now, peer(1)), (None, None));
    }

    #[test]
    fn channels_stay_few_and_their_numbers_go_round() {
        let mut peers = Peers::default();
        let mut now = Instant::now();
        for i in 0..6000 {
            now += Duration::from_secs(10);
            for _ in 0..CHANNEL_AFTER {
                let _ = peers.sending(now, peer(i));
            }
            let _ = peers.work(now);
        }
        assert!(peers.channels.len() <= 256 && peers.by_number.len() == peers.channels.len());
        assert!(
            peers
                .by_number
                .keys()
                .all(|number| CHANNELS.contains(number))
        );
    }
}
