//! [`Conversation`]: what a client says over its WebSocket, and what it hears.

use std::{future::pending, net::IpAddr, time::Duration};

use actix_ws::{AggregatedMessage, CloseCode, CloseReason};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::{
    FLAVOUR, known,
    message::{self, Dialect, Message, Received},
    named_or_url, sentence,
    streams::register,
};
use crate::{
    base::{Error, ErrorKind, SessionId, Verdict},
    config::IceServer,
    context::Context,
    signaling::{Answer, Offer, Target, accept, log_refusal},
    webrtc::{Brought, admission::Reach},
};

/// How often the client is asked whether it is there.
const TICK: Duration = Duration::from_secs(20);
/// A client that is silent for so long is gone; one that plays nothing for so long is sent away.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// How long the client may take to read what it is sent.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Addresses that one offer may bring, and the longest line of one.
const CANDIDATES_MAX: usize = 64;
const CANDIDATE_MAX: usize = 512;
/// How long an offer may follow the request for another transport: go2rtc's player asks for several at
/// once, and shows the first error as the reason of all.
const OFFER_GRACE: Duration = Duration::from_secs(1);

/// What the client has asked for when it opened the socket.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// A stream's name, or a camera's URL.
    pub(super) source: Option<String>,
    /// The name under which that URL is to be registered.
    pub(super) name: Option<String>,
    /// Whether it wants to send instead.
    pub(super) is_publishing: bool,
    /// Where it is.
    pub(super) client: Option<IpAddr>,
    /// Whether a proxy says that it is somewhere else.
    pub(super) is_forwarded: bool,
    /// How it has called us.
    pub(super) host: Option<String>,
}

impl Wanted {
    /// The camera; it is registered if the client gives a name and a URL.
    fn target(&self, context: &Context) -> Result<Target, Error> {
        let invalid = |sentence| Error::new(ErrorKind::InvalidArgument, sentence);
        let Some(source) = &self.source else {
            return Err(invalid(if self.is_publishing {
                "publishing (dst) is not offered; register the camera with PUT /api/streams"
            } else {
                "stream not found: the parameter `src` is missing"
            }));
        };
        let Some(name) = &self.name else {
            return named_or_url(context, source);
        };
        known(context, source).or_else(|_| {
            register(context, name, &[source])?;
            known(context, name)
        })
    }
}

/// An offer that is worked on.
struct Answering {
    dialect: Dialect,
    /// Those that it has brought.
    servers: Vec<IceServer>,
    work: BoxFuture<'static, Result<Answer, Error>>,
}

/// One client and its socket.
pub(super) struct Conversation {
    context: Context,
    wanted: Wanted,
    out: actix_ws::Session,
    answering: Option<Answering>,
    session: Option<SessionId>,
    /// Addresses of ours that its servers tell.
    gathered: Option<mpsc::Receiver<String>>,
    /// Of the client, until there is a session.
    candidates: Vec<String>,
    /// How many more the session takes.
    candidates_left: usize,
    /// The type of a request that is declined then, unless an offer comes.
    declined: Option<(Instant, String)>,
    /// When something last came.
    heard: Instant,
    /// When it last was of use.
    used: Instant,
}

impl Conversation {
    pub(super) fn new(context: Context, wanted: Wanted, out: actix_ws::Session) -> Self {
        let now = Instant::now();
        Self {
            context,
            wanted,
            out,
            answering: None,
            session: None,
            gathered: None,
            candidates: Vec::new(),
            candidates_left: CANDIDATES_MAX,
            declined: None,
            heard: now,
            used: now,
        }
    }

    /// Talks until either side hangs up, or the server stops. The session plays on: go2rtc's player
    /// closes the socket once it has a picture.
    pub(super) async fn run(mut self, mut received: mpsc::Receiver<Received>) {
        let stop = self.context.tasks.stop().clone();
        let code = tokio::select! {
            code = self.talk(&mut received) => code,
            () = stop.cancelled() => CloseCode::Away,
        };
        // A client that does not read does not hear it.
        let goodbye = self.out.close(Some(CloseReason::from(code)));
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }

    async fn talk(&mut self, received: &mut mpsc::Receiver<Received>) -> CloseCode {
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let declined = self.declined.as_ref().map(|(at, _)| *at);
            let done = tokio::select! {
                message = received.recv() => match message {
                    Some(Ok(message)) => self.hear(message).await,
                    Some(Err(code)) => Err(code),
                    None => Err(CloseCode::Normal),
                },
                (offer, answered) = answered(&mut self.answering) => {
                    self.tell(offer, answered).await
                }
                line = gathered(&mut self.gathered) => {
                    self.send(message::late_candidate(&line)).await
                }
                () = until(declined) => self.decline().await,
                _ = tick.tick() => self.look(Instant::now()).await,
            };
            if let Err(code) = done {
                return code;
            }
        }
    }

    async fn hear(&mut self, message: AggregatedMessage) -> Result<(), CloseCode> {
        self.heard = Instant::now();
        let text = match message {
            AggregatedMessage::Text(text) => text,
            AggregatedMessage::Binary(_) => return Err(CloseCode::Unsupported),
            AggregatedMessage::Close(_) => return Err(CloseCode::Normal),
            AggregatedMessage::Pong(_) => return Ok(()),
            AggregatedMessage::Ping(data) => {
                return sent(self.out.pong(&data)).await;
            }
        };
        let message: Message = serde_json::from_str(&text).map_err(|_| CloseCode::Invalid)?;
        match &*message.kind {
            "webrtc" => self.offered(Dialect::Object, &message).await,
            "webrtc/offer" => self.offered(Dialect::Text, &message).await,
            "webrtc/candidate" => {
                if let Some(line) = message.value.as_str() {
                    self.candidate(line).await;
                }
                Ok(())
            }
            "mse" | "mp4" | "hls" | "mjpeg" => {
                if self.answering.is_none() && self.session.is_none() {
                    let at = Instant::now() + OFFER_GRACE;
                    self.declined.get_or_insert((at, message.kind));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins to answer an offer. What an earlier one of this socket has brought about ends.
    async fn offered(&mut self, dialect: Dialect, message: &Message) -> Result<(), CloseCode> {
        if let Some(session) = self.session.take() {
            let _was_there = self.context.sessions.end(session);
        }
        if self.answering.take().is_some() {
            // They were for the offer before.
            self.candidates.clear();
        }
        self.gathered = None;
        self.declined = None;
        self.candidates_left = CANDIDATES_MAX;
        let Some(sdp) = dialect.offer(&message.value) else {
            let sentence = "the offer has no session description";
            let diagnosis = Verdict::BadOffer.into();
            let error = message::error(dialect.request(), sentence, &diagnosis);
            return self.send(error).await;
        };
        let (context, wanted) = (self.context.clone(), self.wanted.clone());
        let work = async move {
            let offer = Offer {
                target: wanted.target(&context)?,
                sdp,
                client: wanted.client,
                host: wanted.host,
                flavour: FLAVOUR.name,
            };
            accept(&context, offer).await
        };
        self.answering = Some(Answering {
            dialect,
            servers: dialect.servers(&message.value),
            work: work.boxed(),
        });
        Ok(())
    }

    async fn tell(
        &mut self,
        offer: Offered,
        answered: Result<Answer, Error>,
    ) -> Result<(), CloseCode> {
        let (dialect, servers) = offer;
        self.used = Instant::now();
        let answer = match answered {
            Ok(answer) => answer,
            Err(e) => {
                log_refusal(&e);
                let error = message::error(dialect.request(), &sentence(&e), e.diagnosis());
                return self.send(error).await;
            }
        };
        self.session = Some(answer.session);
        let (sdp, candidates) = message::trickled(&answer.sdp);
        // A browser takes no candidate before the answer.
        self.send(dialect.answer(&sdp)).await?;
        let takes_candidates = !candidates.is_empty();
        for line in candidates {
            self.send(message::candidate(&line)).await?;
        }
        self.gather(answer.session, servers, takes_candidates);
        for line in std::mem::take(&mut self.candidates) {
            self.candidate(&line).await;
        }
        Ok(())
    }

    /// Has the servers of the offer asked for further addresses of ours.
    fn gather(&mut self, session: SessionId, servers: Vec<IceServer>, takes_candidates: bool) {
        let Some(control) = self.context.sessions.control(session) else {
            return;
        };
        let brought = Brought {
            servers,
            client: self.wanted.client,
            reach: Reach::of(self.wanted.client, self.wanted.is_forwarded),
            host: self.wanted.host.clone(),
        };
        let gathered = self.context.engine.gather(&control, brought);
        // Relays serve who cannot be told of them as well: our own checks go through them.
        self.gathered = takes_candidates.then_some(gathered);
    }

    /// Another address of the client, which may come before its offer. The end of them is an empty one.
    async fn candidate(&mut self, line: &str) {
        if line.is_empty() || line.len() > CANDIDATE_MAX {
            return;
        }
        let Some(session) = self.session else {
            if self.candidates.len() < CANDIDATES_MAX {
                self.candidates.push(line.to_owned());
            }
            return;
        };
        if self.candidates_left == 0 {
            return;
        }
        self.candidates_left -= 1;
        if let Some(control) = self.context.sessions.control(session) {
            // Browsers send names and TCP as well, which nobody can check.
            let _is_tried = control.add_candidate(line, self.wanted.client).await;
        }
    }

    /// Says that another transport than WebRTC is not to be had.
    async fn decline(&mut self) -> Result<(), CloseCode> {
        let Some((_, request)) = self.declined.take() else {
            return Ok(());
        };
        let error = message::error(
            &request,
            "not offered, use webrtc",
            &Verdict::BadRequest.into(),
        );
        self.send(error).await
    }

    /// Looks whether the client is there and the socket of use.
    async fn look(&mut self, now: Instant) -> Result<(), CloseCode> {
        let is_playing = |id| self.context.sessions.restarts(id).is_some();
        if self.answering.is_some() || self.session.is_some_and(is_playing) {
            self.used = now;
        }
        if now - self.heard >= IDLE_LIMIT {
            return Err(CloseCode::Away);
        }
        if now - self.used >= IDLE_LIMIT {
            return Err(CloseCode::Normal);
        }
        sent(self.out.ping(b"")).await
    }

    async fn send(&mut self, text: String) -> Result<(), CloseCode> {
        sent(self.out.text(text)).await
    }
}

/// Sends something. A client that is not reached is gone, and the code is for nobody.
async fn sent<E>(sending: impl Future<Output = Result<(), E>>) -> Result<(), CloseCode> {
    match timeout(SEND_LIMIT, sending).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(CloseCode::Away),
    }
}

/// The dialect of an offer, and the servers that it has brought.
type Offered = (Dialect, Vec<IceServer>);

async fn answered(answering: &mut Option<Answering>) -> (Offered, Result<Answer, Error>) {
    let Some(offer) = answering else {
        return pending().await;
    };
    let answered = (&mut offer.work).await;
    let offered = (offer.dialect, std::mem::take(&mut offer.servers));
    *answering = None;
    (offered, answered)
}

/// The next of them; waits for ever when there will be none.
async fn gathered(coming: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = coming {
        if let Some(line) = lines.recv().await {
            return line;
        }
        *coming = None;
    }
    pending().await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
