//! [`Questions`]: STUN servers that offers have brought. Each is asked when one does, and rarely.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rtc_stun::message::{BINDING_REQUEST, Message, TransactionId};
use tokio::sync::watch;

use super::{RETRANSMIT, binding_response, canonical, mapped_address};

/// How often a request is sent at most.
const SENDS_MAX: u8 = 4;

/// What came of a question counts for so long; only then the server is asked again.
const GOOD_FOR: Duration = Duration::from_secs(20);

/// Servers that are remembered; no others are asked meanwhile. So offers make us send six datagrams
/// of 20 bytes a second at most.
const SERVERS_MAX: usize = 32;

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Nothing yet.
    Pending,
    /// The address of the media port as the server sees it.
    Mapped(SocketAddr),
    /// The server is silent, or cannot tell.
    Nothing,
}

#[derive(Debug)]
struct Question {
    server: SocketAddr,
    id: TransactionId,
    asked: Instant,
    sent: u8,
    next: Instant,
    reply: watch::Sender<Reply>,
}

impl Question {
    fn is_pending(&self) -> bool {
        *self.reply.borrow() == Reply::Pending
    }
}

#[derive(Debug, Default)]
pub(super) struct Questions(Vec<Question>);

impl Questions {
    /// What came of asking `server`, or will; none when too many others have been asked lately.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        server: SocketAddr,
    ) -> Option<watch::Receiver<Reply>> {
        let server = canonical(server);
        self.0
            .retain(|question| question.is_pending() || now < question.asked + GOOD_FOR);
        if let Some(known) = self.0.iter().find(|question| question.server == server) {
            return Some(known.reply.subscribe());
        }
        if self.0.len() >= SERVERS_MAX {
            return None;
        }
        let (reply, replied) = watch::channel(Reply::Pending);
        self.0.push(Question {
            server,
            id: TransactionId(rand::random()),
            asked: now,
            sent: 0,
            next: now,
            reply,
        });
        Some(replied)
    }

    /// The next datagram that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        for question in &mut self.0 {
            if !question.is_pending() || now < question.next {
                continue;
            }
            if question.sent == SENDS_MAX {
                question.reply.send_replace(Reply::Nothing);
                continue;
            }
            let mut request = Message::new();
            let built = request.build(&[Box::new(question.id), Box::new(BINDING_REQUEST)]);
            question.sent += 1;
            question.next = now + RETRANSMIT;
            if built.is_ok() {
                return Some((question.server, request.raw));
            }
        }
        None
    }

    /// Takes a datagram; true when it was an answer to a question.
    pub(super) fn handle(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let from = canonical(from);
        let asked = |question: &&mut Question| question.server == from && question.is_pending();
        let Some(question) = self.0.iter_mut().find(asked) else {
            return false;
        };
        let Some(response) = binding_response(datagram, question.id) else {
            return false;
        };
        let mapped = mapped_address(&response);
        question
            .reply
            .send_replace(mapped.map_or(Reply::Nothing, Reply::Mapped));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{mapped, response},
        *,
    };

    fn server(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 3478))
    }

    #[test]
    fn a_server_is_asked_once_for_all_and_tells_all() {
        let mut questions = Questions::default();
        let now = Instant::now();
        let first = questions.ask(now, server(1)).unwrap();
        let second = questions.ask(now, server(1)).unwrap();
        let (to, request) = questions.poll(now).unwrap();
        assert_eq!(to, server(1));
        assert!(questions.poll(now).is_none());
        let answer = response(&request, mapped(40_000));
        assert!(!questions.handle(server(2), &answer), "another one's");
        assert!(questions.handle(server(1), &answer));
        assert!(!questions.handle(server(1), &answer), "only once");
        let expected = Reply::Mapped("203.0.113.7:40000".parse().unwrap());
        assert_eq!([*first.borrow(), *second.borrow()], [expected; 2]);
        let later = now + GOOD_FOR / 2;
        assert_eq!(*questions.ask(later, server(1)).unwrap().borrow(), expected);
        assert!(questions.poll(later).is_none());
        let again = questions.ask(now + GOOD_FOR, server(1)).unwrap();
        assert_eq!(*again.borrow(), Reply::Pending);
    }

    #[test]
    fn a_silent_server_gets_four_datagrams_however_often_it_is_named() {
        let mut questions = Questions::default();
        let start = Instant::now();
        let mut sent = Vec::new();
        for step in 0..100_u32 {
            let now = start + Duration::from_millis(100) * step;
            let _ = questions.ask(now, server(1));
            sent.extend(questions.poll(now).map(|_| (now - start).as_millis()));
        }
        assert_eq!(sent, [0, 500, 1_000, 1_500]);
        let asked = questions.ask(start + GOOD_FOR / 2, server(1)).unwrap();
        assert_eq!(*asked.borrow(), Reply::Nothing);
    }

    #[test]
    fn no_more_than_32_servers_are_asked_in_20_seconds() {
        let mut questions = Questions::default();
        let now = Instant::now();
        let asked = (0..100).filter(|i| questions.ask(now, server(*i)).is_some());
        assert_eq!(asked.count(), SERVERS_MAX);
        while questions.poll(now).is_some() {}
        for question in &questions.0 {
            question.reply.send_replace(Reply::Nothing);
        }
        assert!(questions.ask(now + GOOD_FOR, server(200)).is_some());
        assert_eq!(questions.0.len(), 1);
    }
}
