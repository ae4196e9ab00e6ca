//! Speech towards a camera: a viewer has a [`Speaker`], the source a [`Listener`]. One speaks at a time; the
//! others are told that somebody does.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{Hub, Publisher, Shared};
use crate::{
    base::{Diagnosis, Error, Note, Verdict},
    media::audio::{SpeechFormat, SpeechPacket},
};

/// Packets that wait for the camera: half a second. What is older would only come late.
const WAITING: usize = 25;
/// A turn ends when nothing but silence has come for so long.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// For so long nobody speaks after the camera failed to listen, so that a microphone that stays open does not
/// make us call it again and again.
const REST: Duration = Duration::from_secs(10);
/// The same after it has refused the password: cameras lock an account after a few of these, and with it what
/// plays.
const REFUSED_REST: Duration = Duration::from_mins(6);
/// A turn ends after so long, whatever is said: a microphone that was forgotten must not keep others from
/// speaking. Who still has something to say may begin anew.
const TURN_MAX: Duration = Duration::from_mins(5);
/// For how long it stands that a camera cannot be talked to; it may be set otherwise meanwhile.
const NO_FOR: Duration = Duration::from_mins(1);

/// What all ends share.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Whether somebody has the turn.
    is_taken: AtomicBool,
    slot: Mutex<Slot>,
    /// Wakes the listener: somebody asks, or begins to speak.
    wanted: Notify,
    known: watch::Sender<Known>,
}

#[derive(Debug, Default)]
struct Slot {
    /// A turn that the listener has not taken up yet.
    turn: Option<mpsc::Receiver<Speech>>,
    is_asked: bool,
    /// Why the last turn ended early, and until when nobody gets another one.
    fault: Option<(Diagnosis, Instant)>,
}

/// What is known of the camera's back channel.
#[derive(Debug, Clone, Default)]
enum Known {
    #[default]
    Nothing,
    Takes(SpeechFormat),
    Not(Note, Instant),
}

impl Floor {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Nothing panics between two changes that belong together.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet of speech.
#[derive(Debug, Clone)]
pub struct Speech {
    /// The packet.
    pub packet: SpeechPacket,
    /// Whether nothing is to be heard in it: a microphone that is switched off sends on.
    pub is_silent: bool,
}

/// What has become of a packet of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heard {
    /// Nobody said anything.
    #[default]
    Nothing,
    /// It is on its way to the camera.
    Passed,
    /// It is not, as somebody else speaks.
    Busy,
    /// It is not, as the camera does not listen; [`Hub::deafness`] tells why.
    Deaf,
}

/// One viewer's end. Dropping it ends its turn.
#[derive(Debug)]
pub struct Speaker {
    shared: Arc<Shared>,
    turn: Option<mpsc::Sender<Speech>>,
}

impl Speaker {
    /// Hands over a packet; the first that is not silent begins a turn, if nobody else has one. Never waits.
    pub fn speak(&mut self, speech: Speech) -> Heard {
        let mut speech = speech;
        if let Some(turn) = &self.turn {
            match turn.try_send(speech) {
                // A camera that is slow loses some.
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => return Heard::Passed,
                Err(mpsc::error::TrySendError::Closed(back)) => speech = back,
            }
            self.turn = None;
        }
        if speech.is_silent {
            return Heard::Nothing;
        }
        let floor = &self.shared.floor;
        if floor.is_taken.swap(true, Ordering::AcqRel) {
            return Heard::Busy;
        }
        let mut slot = floor.slot();
        let is_resting = |(_, until): &(Diagnosis, Instant)| Instant::now() < *until;
        if slot.fault.as_ref().is_some_and(is_resting) {
            drop(slot);
            floor.is_taken.store(false, Ordering::Release);
            return Heard::Deaf;
        }
        let (turn, packets) = mpsc::channel(WAITING);
        // There is room.
        let _ = turn.try_send(speech);
        self.turn = Some(turn);
        slot.turn = Some(packets);
        drop(slot);
        floor.wanted.notify_one();
        Heard::Passed
    }
}

/// The source's end.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
}

/// What viewers want of a source's back channel.
#[derive(Debug)]
pub enum Wanted {
    /// To know whether it has one; answered by [`Listener::tell`].
    Answer,
    /// To speak.
    Turn(Turn),
}

impl Listener {
    /// What is wanted next. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Wanted {
        loop {
            {
                let mut slot = self.shared.floor.slot();
                if let Some(packets) = slot.turn.take() {
                    return Wanted::Turn(Turn {
                        shared: Arc::clone(&self.shared),
                        packets,
                        silent_at: Instant::now() + SILENCE_MAX,
                        over_at: Instant::now() + TURN_MAX,
                    });
                }
                if std::mem::take(&mut slot.is_asked) {
                    return Wanted::Answer;
                }
            }
            self.shared.floor.wanted.notified().await;
        }
    }

    /// Tells those who ask what the camera takes, or why it cannot be talked to.
    pub fn tell(&self, answer: Result<SpeechFormat, Note>) {
        let known = match answer {
            Ok(format) => Known::Takes(format),
            Err(note) => Known::Not(note, Instant::now()),
        };
        self.shared.floor.known.send_replace(known);
    }
}

/// The time in which one viewer speaks. The next may when it is dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    packets: mpsc::Receiver<Speech>,
    silent_at: Instant,
    over_at: Instant,
}

impl Turn {
    /// The next packet; none when the viewer has stopped speaking. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<SpeechPacket> {
        let speech = tokio::select! {
            biased;
            () = sleep_until(self.silent_at.min(self.over_at)) => return None,
            speech = self.packets.recv() => speech?,
        };
        if !speech.is_silent {
            self.silent_at = Instant::now() + SILENCE_MAX;
        }
        Some(speech.packet)
    }

    /// The camera listens from now on. What was said until then is late, and forgotten.
    pub fn begin(&mut self) {
        while self.packets.try_recv().is_ok() {}
        self.silent_at = Instant::now() + SILENCE_MAX;
        self.shared.floor.slot().fault = None;
    }

    /// The camera does not listen, or no longer.
    pub fn fail(&mut self, error: &Error) {
        let rest = if is_refusal(error) {
            REFUSED_REST
        } else {
            REST
        };
        let diagnosis = error.diagnosis().clone();
        self.shared.floor.slot().fault = Some((diagnosis, Instant::now() + rest));
    }
}

/// Whether the camera has refused what it was shown, as the error says or what it comes from.
fn is_refusal(error: &Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.any(|cause| {
        let error = cause.downcast_ref::<Error>();
        error.is_some_and(|error| error.kind().is_refusal())
    })
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.packets.close();
        self.shared.floor.is_taken.store(false, Ordering::Release);
    }
}

impl Publisher {
    /// The source's end of what viewers say; there is one.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Hub {
    /// What the camera takes as speech. It is asked for it once, when somebody wants to know.
    ///
    /// # Errors
    /// Why it cannot be talked to, as far as that is known within `limit`.
    pub async fn hears(&self, limit: Duration) -> Result<SpeechFormat, Note> {
        let floor = &self.shared.floor;
        let mut known = floor.known.subscribe();
        let settled = |known: &Known| match known {
            Known::Takes(format) => Some(Ok(*format)),
            Known::Not(note, since) if since.elapsed() < NO_FOR => Some(Err(note.clone())),
            Known::Not(..) | Known::Nothing => None,
        };
        if let Some(answer) = settled(&known.borrow_and_update()) {
            return answer;
        }
        floor.slot().is_asked = true;
        floor.wanted.notify_one();
        let told = timeout(limit, known.wait_for(|known| settled(known).is_some())).await;
        if let Ok(Ok(known)) = told
            && let Some(answer) = settled(&known)
        {
            return answer;
        }
        Err(Note::new(
            Verdict::BackChannelFailed,
            "the camera did not tell in time whether it can be talked to; try again",
        ))
    }

    /// A viewer's end.
    #[must_use]
    pub fn speaker(&self) -> Speaker {
        Speaker {
            shared: Arc::clone(&self.shared),
            turn: None,
        }
    }

    /// Why the camera did not listen when somebody spoke last; none if it did.
    #[must_use]
    pub fn deafness(&self) -> Option<Diagnosis> {
        self.sources().find_map(|hub| {
            let slot = hub.shared.floor.slot();
            slot.fault.as_ref().map(|(diagnosis, _)| diagnosis.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::hub,
        media::{Codec, audio::Law},
    };

    const FORMAT: SpeechFormat = SpeechFormat {
        law: Law::Alaw,
        rate: 8_000,
    };

    fn speech(number: u16, is_silent: bool) -> Speech {
        Speech {
            packet: SpeechPacket {
                codec: Codec::Pcma,
                sequence: number,
                timestamp: u32::from(number) * 160,
                payload: vec![1; 160].into(),
            },
            is_silent,
        }
    }

    async fn turn(listener: &mut Listener) -> Turn {
        match listener.next().await {
            Wanted::Turn(turn) => turn,
            Wanted::Answer => panic!("nobody has asked"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_speaks_until_they_are_silent_and_the_next_may() {
        let (out, hub) = hub();
        let mut listener = out.listener();
        let (mut first, mut second) = (hub.speaker(), hub.speaker());
        assert_eq!(first.speak(speech(0, true)), Heard::Nothing);
        assert_eq!(first.speak(speech(1, false)), Heard::Passed);
        assert_eq!(second.speak(speech(0, false)), Heard::Busy);
        assert_eq!(second.speak(speech(1, true)), Heard::Nothing);
        let mut heard = turn(&mut listener).await;
        assert_eq!(heard.next().await.unwrap().sequence, 1);
        // Pauses between words are passed on.
        for number in 2..100 {
            assert_eq!(first.speak(speech(number, number < 99)), Heard::Passed);
            assert_eq!(heard.next().await.unwrap().sequence, number);
            tokio::time::advance(SILENCE_MAX / 100).await;
        }
        let since = Instant::now();
        assert!(heard.next().await.is_none());
        assert!(since.elapsed() <= SILENCE_MAX);
        assert_eq!(second.speak(speech(2, false)), Heard::Busy);
        drop(heard);
        assert_eq!(first.speak(speech(100, true)), Heard::Nothing);
        assert_eq!(second.speak(speech(3, false)), Heard::Passed);
        assert_eq!(first.speak(speech(101, false)), Heard::Busy);
        let mut heard = turn(&mut listener).await;
        assert_eq!(heard.next().await.unwrap().sequence, 3);
        // Who leaves has finished.
        drop(second);
        assert!(heard.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_the_camera_listened_is_forgotten() {
        let (out, hub) = hub();
        let mut listener = out.listener();
        let mut speaker = hub.speaker();
        for number in 0..200 {
            assert_eq!(speaker.speak(speech(number, false)), Heard::Passed);
        }
        let mut heard = turn(&mut listener).await;
        heard.begin();
        speaker.speak(speech(200, false));
        assert_eq!(heard.next().await.unwrap().sequence, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_that_does_not_listen_has_a_rest() {
        let (out, hub) = hub();
        let mut listener = out.listener();
        let (mut speaker, mut other) = (hub.speaker(), hub.speaker());
        speaker.speak(speech(0, false));
        let mut heard = turn(&mut listener).await;
        heard.fail(&Error::new(Verdict::BackChannelFailed, "unplugged"));
        drop(heard);
        assert_eq!(speaker.speak(speech(1, false)), Heard::Deaf);
        assert_eq!(other.speak(speech(1, false)), Heard::Deaf);
        let told = hub.deafness().map(|diagnosis| diagnosis.verdict);
        assert_eq!(told, Some(Verdict::BackChannelFailed));
        tokio::time::advance(REST).await;
        assert_eq!(other.speak(speech(2, false)), Heard::Passed);
        turn(&mut listener).await.begin();
        assert_eq!(hub.deafness(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_is_not_shown_again_for_minutes() {
        let (out, hub) = hub();
        let mut listener = out.listener();
        let mut speaker = hub.speaker();
        speaker.speak(speech(0, false));
        let refused = Error::new(crate::base::ErrorKind::SourceRefused, "401");
        let error = Error::new(Verdict::BackChannelFailed, "refused").with_source(refused);
        turn(&mut listener).await.fail(&error);
        tokio::time::advance(REST * 2).await;
        assert_eq!(speaker.speak(speech(1, false)), Heard::Deaf);
        tokio::time::advance(REFUSED_REST).await;
        assert_eq!(speaker.speak(speech(2, false)), Heard::Passed);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_keeps_the_others_from_speaking_for_ever() {
        let (out, hub) = hub();
        let mut listener = out.listener();
        let (mut speaker, mut other) = (hub.speaker(), hub.speaker());
        speaker.speak(speech(0, false));
        let mut heard = turn(&mut listener).await;
        let begun = Instant::now();
        while heard.next().await.is_some() {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(other.speak(speech(0, false)), Heard::Busy);
            speaker.speak(speech(0, false));
        }
        assert!(begun.elapsed() >= TURN_MAX);
        drop(heard);
        assert_eq!(other.speak(speech(0, false)), Heard::Passed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_is_asked_once_and_a_no_stands_for_a_while() {
        let (out, hub) = hub();
        let limit = Duration::from_secs(2);
        let begun = Instant::now();
        let late = hub.hears(limit).await.unwrap_err();
        assert_eq!(late.diagnosis.verdict, Verdict::BackChannelFailed);
        assert_eq!(begun.elapsed(), limit);
        let mut listener = out.listener();
        let no = || Note::new(Verdict::NoBackChannel, "no");
        let answer = async |listener: &mut Listener, answer| {
            assert!(matches!(listener.next().await, Wanted::Answer));
            listener.tell(answer);
        };
        let (first, second, ()) = tokio::join!(
            hub.hears(limit),
            hub.hears(limit),
            answer(&mut listener, Err(no()))
        );
        for told in [first, second] {
            assert_eq!(told.unwrap_err().diagnosis.verdict, Verdict::NoBackChannel);
        }
        tokio::time::advance(NO_FOR / 2).await;
        assert!(hub.hears(Duration::ZERO).await.unwrap_err().sentence == "no");
        tokio::time::advance(NO_FOR).await;
        let (told, ()) = tokio::join!(hub.hears(limit), answer(&mut listener, Ok(FORMAT)));
        assert_eq!(told.unwrap(), FORMAT);
        tokio::time::advance(NO_FOR * 100).await;
        assert_eq!(hub.hears(Duration::ZERO).await.unwrap(), FORMAT);
    }
}
