//! [`Stills`]: JPEGs of the last key frames of cameras.
//!
//! Decoding takes tens of milliseconds of one processor, so it is done on threads for such work, one
//! picture of a camera at a time and few of all; and what was made is kept for who asks next.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

pub use crate::media::still::Size;
use crate::{
    base::{Error, ErrorKind, SourceUrl, Tasks, Verdict},
    directory::Directory,
    hub::{self, Decision, Hub, Known, LeftOut, Tracks},
    media::{Codec, Frame, Kind, still},
};

/// For all of a picture: until the camera has announced its tracks, until a key frame is there, until it
/// is decoded. Home Assistant gives up after 10 s.
const LIMIT: Duration = Duration::from_secs(8);

/// Who may wait for a picture at once: more than a dashboard shows.
const WAITING_MAX: usize = 64;
/// Pictures that are decoded at once: viewers need processors too, and a decoder of 4K holds 95 MB (three
/// pictures with 550 bytes per macroblock, and 1,200 more for the one that it works on).
const DECODERS_MAX: usize = 2;
/// Sizes kept of one camera's picture: a dashboard, a notification, a page or two.
const SIZES_MAX: usize = 4;
/// Kept for all cameras, in bytes: the JPEGs of about a hundred in full HD.
const KEPT_MAX: usize = 32 << 20;

/// Makes JPEGs of cameras and keeps the last. Cheap to clone.
#[derive(Clone)]
pub struct Stills {
    tasks: Tasks,
    shared: Arc<Shared>,
}

type Draw = dyn Fn(&[Arc<Frame>], Size) -> Result<Bytes, Error> + Send + Sync;

struct Shared {
    draw: Box<Draw>,
    waiting: Semaphore,
    decoders: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Held while a picture of the hub with this id is made.
    turns: HashMap<u64, Arc<tokio::sync::Mutex<()>>>,
    /// The oldest first.
    kept: VecDeque<Kept>,
}

struct Kept {
    hub: u64,
    /// The first part of the key frame; weak, as only its identity counts.
    key: Weak<Frame>,
    size: Size,
    jpeg: Bytes,
}

impl Stills {
    /// Works on the runtime of `tasks`.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self::drawn_by(tasks, Box::new(still::jpeg))
    }

    fn drawn_by(tasks: Tasks, draw: Box<Draw>) -> Self {
        Self {
            tasks,
            shared: Arc::new(Shared {
                draw,
                waiting: Semaphore::new(WAITING_MAX),
                decoders: Arc::new(Semaphore::new(DECODERS_MAX)),
                table: Mutex::default(),
            }),
        }
    }

    /// The last key frame of a camera, which is opened if need be, as a JPEG; of several sources that of the
    /// first that has one.
    ///
    /// # Errors
    /// `NotAcceptable` when the camera has no picture that can be decoded, `DeadlineExceeded` when no
    /// key frame comes in time, `Unavailable` when it is damaged, `ResourceExhausted` when too many wait,
    /// and what is wrong with the camera.
    pub async fn jpeg(
        &self,
        directory: &Directory,
        urls: &[SourceUrl],
        size: Size,
    ) -> Result<Bytes, Error> {
        let _waiting = self.shared.waiting.try_acquire().map_err(|_| {
            Error::new(
                ErrorKind::ResourceExhausted,
                format!("{WAITING_MAX} wait for a picture, which is the limit; try again"),
            )
        })?;
        let deadline = Instant::now() + LIMIT;
        let (found, mut opened) = directory.open(urls, deadline, choose).await?;
        let lease = opened.take(found);
        let lease =
            lease.ok_or_else(|| Error::new(ErrorKind::Internal, "a source was not opened"))?;
        self.answer(deadline, lease.hub(), size).await
    }

    async fn answer(&self, deadline: Instant, hub: &Hub, size: Size) -> Result<Bytes, Error> {
        let answer = self.answer_by(deadline, hub, size);
        timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            Err(Error::new(
                Verdict::LateStill,
                "the picture was not decoded in time: the server is busy with others, or the key frame \
                 came late; ask again",
            ))
        })
    }

    async fn answer_by(&self, deadline: Instant, hub: &Hub, size: Size) -> Result<Bytes, Error> {
        let picture = timeout_at(deadline, key_picture(hub)).await;
        let picture = picture.unwrap_or_else(|_| {
            Err(Error::new(
                Verdict::NoKeyFrame,
                format!(
                    "the camera sent no key frame within {} s; set its key frame interval (I-frame \
                     interval) to 2 s or less",
                    LIMIT.as_secs()
                ),
            ))
        })?;
        if let Some(jpeg) = self.shared.table().find(&picture, size) {
            return Ok(jpeg);
        }
        let turn = self.turn(hub).lock_owned().await;
        // Whoever had the turn before has perhaps made it, of this key frame or a later one.
        let picture = hub.key_picture().unwrap_or(picture);
        if let Some(jpeg) = self.shared.table().find(&picture, size) {
            return Ok(jpeg);
        }
        let decoder = Arc::clone(&self.shared.decoders).acquire_owned().await;
        let (shared, hub) = (Arc::clone(&self.shared), hub.id());
        let work = move || {
            // Nothing stops it, so it holds both also when nobody waits for it any more.
            let _held = (turn, decoder);
            let jpeg = (shared.draw)(&picture, size)?;
            shared.table().keep(hub, &picture, size, &jpeg);
            Ok(jpeg)
        };
        let done = async move {
            let done = tokio::task::spawn_blocking(work).await;
            done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
        };
        self.tasks.run("still", done).await?
    }

    /// What is held while a picture of this camera is made.
    fn turn(&self, hub: &Hub) -> Arc<tokio::sync::Mutex<()>> {
        let mut table = self.shared.table();
        let turn = table.turns.entry(hub.id()).or_insert_with(|| {
            let (hub, shared) = (hub.clone(), Arc::clone(&self.shared));
            self.tasks.spawn("forget stills", async move {
                hub.closed().await;
                shared.table().forget(hub.id());
            });
            Arc::default()
        });
        Arc::clone(turn)
    }
}

impl fmt::Debug for Stills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stills").finish_non_exhaustive()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, picture: &[Arc<Frame>], size: Size) -> Option<Bytes> {
        let mut kept = self.kept.iter();
        let found = kept.find(|kept| kept.size == size && kept.is_of(picture))?;
        Some(found.jpeg.clone())
    }

    fn keep(&mut self, hub: u64, picture: &[Arc<Frame>], size: Size, jpeg: &Bytes) {
        let (Some(first), true) = (picture.first(), self.turns.contains_key(&hub)) else {
            // The camera was closed meanwhile.
            return;
        };
        self.kept
            .retain(|kept| kept.hub != hub || kept.is_of(picture));
        if self.kept.iter().filter(|kept| kept.hub == hub).count() >= SIZES_MAX
            && let Some(oldest) = self.kept.iter().position(|kept| kept.hub == hub)
        {
            self.kept.remove(oldest);
        }
        self.kept.push_back(Kept {
            hub,
            key: Arc::downgrade(first),
            size,
            jpeg: jpeg.clone(),
        });
        while self.bytes() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.jpeg.len()).sum()
    }

    fn forget(&mut self, hub: u64) {
        self.turns.remove(&hub);
        self.kept.retain(|kept| kept.hub != hub);
    }
}

impl Kept {
    fn is_of(&self, picture: &[Arc<Frame>]) -> bool {
        let mut first = picture.iter().take(1);
        first.any(|first| std::ptr::eq(self.key.as_ptr(), Arc::as_ptr(first)))
    }
}

/// The first source with a picture that can be decoded.
///
/// # Errors
/// Why the first source has none.
fn choose(sources: &[Known]) -> Result<Decision<usize>, Error> {
    let found = match hub::first(sources, is_decoded).made() {
        Ok(found) => found,
        Err(next) => return Ok(next),
    };
    if let Some(found) = found {
        return Ok(Decision::Made(found));
    }
    let mut reasons = sources.iter().map(|known| match known {
        Known::Failed(error) => error.clone(),
        Known::Open(tracks) => nothing(tracks),
        Known::Unasked | Known::Opening | Known::Late(_) => nothing(&Tracks::default()),
    });
    Err(reasons
        .next()
        .unwrap_or_else(|| nothing(&Tracks::default())))
}

fn is_decoded(tracks: &Tracks) -> bool {
    let mut usable = tracks.usable.iter();
    usable.any(|track| matches!(track.codec, Codec::H264(_)))
}

async fn key_picture(hub: &Hub) -> Result<Vec<Arc<Frame>>, Error> {
    let tracks = hub.ready(LIMIT).await?;
    if is_decoded(&tracks) {
        hub.next_key_picture().await
    } else {
        Err(nothing(&tracks))
    }
}

/// Why there is no picture.
fn nothing(tracks: &Tracks) -> Error {
    let mut codecs = tracks.usable.iter().map(|track| track.codec);
    if let Some(codec) = codecs.find(|codec| codec.kind() == Kind::Video) {
        return Error::new(
            Verdict::NoStill,
            format!(
                "no JPEG can be made: the camera's video is {codec}, which is not decoded here: set it to \
                 H264 in the camera, or use its second stream"
            ),
        );
    }
    let mut left_out = tracks.left_out.iter();
    let told = left_out.find(|track| track.kind == Kind::Video);
    told.map_or_else(
        || {
            let sentence = "no JPEG can be made: the camera sends no picture";
            Error::new(Verdict::NoVideo, sentence)
        },
        |LeftOut { note, .. }| {
            let sentence = format!("no JPEG can be made: {}", note.sentence);
            Error::new(note.diagnosis.clone(), sentence)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::{
        slice::from_ref,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::future::join_all;

    use super::*;
    use crate::{
        base::Note,
        hub::hub,
        media::{MediaTime, Part, TrackId},
    };

    const LINGER: Duration = Duration::from_secs(10);

    fn url(text: &str) -> SourceUrl {
        SourceUrl::parse(text).unwrap()
    }

    fn size(width: u16) -> Size {
        Size::new(Some(width), None).unwrap()
    }

    /// Counts what is drawn: all, at this moment, the most at one moment.
    #[derive(Default)]
    struct Drawn([AtomicUsize; 3]);

    impl Drawn {
        fn draw(&self) -> Bytes {
            let [all, now, most] = &self.0;
            all.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            Bytes::from_static(b"a picture")
        }

        fn all_and_most(&self) -> (usize, usize) {
            let [all, _, most] = &self.0;
            (all.load(Ordering::SeqCst), most.load(Ordering::SeqCst))
        }
    }

    fn key_frame(time: i64) -> Frame {
        Frame {
            track: TrackId(0),
            codec: Codec::H264(None),
            time: MediaTime(time),
            captured: Duration::ZERO,
            random_access: true,
            part: Part::WHOLE,
            payloads: Box::new([]),
        }
    }

    fn counting() -> (Stills, Directory, Arc<Drawn>) {
        let (tasks, drawn) = (Tasks::on_current_runtime(), Arc::new(Drawn::default()));
        let counted = Arc::clone(&drawn);
        let stills = Stills::drawn_by(tasks.clone(), Box::new(move |_, _| Ok(counted.draw())));
        (stills, Directory::new(tasks, LINGER), drawn)
    }

    #[tokio::test(start_paused = true)]
    async fn the_demo_camera_has_a_picture() {
        let tasks = Tasks::on_current_runtime();
        let (stills, directory) = (Stills::new(tasks.clone()), Directory::new(tasks, LINGER));
        let jpeg = stills.jpeg(&directory, &[url("demo:")], size(320)).await;
        let jpeg = jpeg.unwrap();
        assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
        let mut decoder = jpeg_decoder::Decoder::new(&jpeg[..]);
        decoder.read_info().unwrap();
        let info = decoder.info().unwrap();
        assert_eq!((info.width, info.height), (320, 180));
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_sources_the_first_with_a_picture_is_drawn() {
        let (stills, directory, drawn) = counting();
        let sources = |texts: &[&str]| texts.iter().map(|text| url(text)).collect::<Vec<_>>();
        let second = sources(&["nonsense://x", "demo:"]);
        assert!(stills.jpeg(&directory, &second, size(9)).await.is_ok());
        assert_eq!(drawn.all_and_most().0, 1);
        let none = sources(&["nonsense://x", "demo:no"]);
        let error = stills.jpeg(&directory, &none, size(9)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::BadUrl);
        assert!(error.to_string().contains("nonsense"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_picture_of_a_camera_is_drawn_at_a_time() {
        let (stills, directory, drawn) = counting();
        let demo = url("demo:");
        let asked = (1..9).map(|width| stills.jpeg(&directory, from_ref(&demo), size(width)));
        assert!(join_all(asked).await.iter().all(Result::is_ok));
        assert_eq!(drawn.all_and_most(), (8, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn few_pictures_are_drawn_at_a_time() {
        let (stills, directory, drawn) = counting();
        let cameras: Vec<_> = (0..8).map(|i| url(&format!("demo:?{i}"))).collect();
        let asked = cameras
            .iter()
            .map(|camera| stills.jpeg(&directory, from_ref(camera), size(9)));
        assert!(join_all(asked).await.iter().all(Result::is_ok));
        let (all, most) = drawn.all_and_most();
        assert!(all == 8 && most <= DECODERS_MAX, "{all} {most}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_there_are_places() {
        let (stills, directory, _) = counting();
        let demo = url("demo:");
        let asked = (0..=WAITING_MAX).map(|_| stills.jpeg(&directory, from_ref(&demo), size(9)));
        let mut answers = join_all(asked).await;
        let last = answers.pop().unwrap().unwrap_err();
        assert_eq!(last.kind(), ErrorKind::ResourceExhausted);
        assert!(answers.iter().all(Result::is_ok));
        assert!(
            stills
                .jpeg(&directory, from_ref(&demo), size(9))
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_is_for_all_of_it() {
        let (publisher, hub) = hub();
        let stills = counting().0;
        let tracks = Tracks {
            usable: vec![crate::media::Track {
                id: TrackId(0),
                codec: Codec::H264(None),
            }],
            ..Tracks::default()
        };
        let begun = Instant::now();
        let (error, ()) = tokio::join!(stills.answer(begun + LIMIT, &hub, size(9)), async {
            tokio::time::sleep(LIMIT * 7 / 8).await;
            publisher.announce(tracks);
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(10));
        // Whoever decodes keeps others waiting no longer than that either.
        let _busy = stills.turn(&hub).lock_owned().await;
        publisher.publish(key_frame(1));
        let begun = Instant::now();
        let error = stills
            .answer(begun + LIMIT, &hub, size(9))
            .await
            .unwrap_err();
        assert_eq!(error.verdict(), Verdict::LateStill);
        assert!(error.to_string().contains("not decoded in time"), "{error}");
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_frame_is_drawn_once_for_all_and_forgotten_with_its_camera() {
        let (stills, directory, drawn) = counting();
        let demo = url("demo:");
        let ask = |width| stills.jpeg(&directory, from_ref(&demo), size(width));
        assert!(join_all([ask(5), ask(5), ask(5)]).await[0].is_ok());
        assert_eq!(drawn.all_and_most().0, 1);
        ask(6).await.unwrap();
        ask(5).await.unwrap();
        assert_eq!(drawn.all_and_most().0, 2);
        // The next key frame.
        let lease = directory.lease(&demo).unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        ask(5).await.unwrap();
        assert_eq!(drawn.all_and_most().0, 3);
        assert_eq!(stills.shared.table().kept.len(), 1);
        drop(lease);
        tokio::time::sleep(LINGER * 2).await;
        let table = stills.shared.table();
        assert!(table.kept.is_empty() && table.turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let frame = |number| vec![Arc::new(key_frame(number))];
        let mut table = Table::default();
        let large = Bytes::from(vec![0; KEPT_MAX / 10]);
        let (closed, only) = (100, frame(0));
        table.keep(closed, &only, size(1), &large);
        assert!(table.kept.is_empty());
        let pictures: Vec<_> = (0..20).map(frame).collect();
        for (hub, picture) in (0..).zip(&pictures) {
            table.turns.insert(hub, Arc::default());
            for width in 1..7 {
                table.keep(hub, picture, size(width), &large);
            }
            assert!(table.find(picture, size(2)).is_none());
            assert!(table.find(picture, size(3)).is_some());
        }
        assert!(table.bytes() <= KEPT_MAX && table.kept.len() == 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_decoder_is_an_error_and_blocks_nobody() {
        let tasks = Tasks::on_current_runtime();
        let stills = Stills::drawn_by(tasks.clone(), Box::new(|_, _| panic!("on purpose")));
        let directory = Directory::new(tasks.clone(), LINGER);
        for panics in 1..4 {
            let answer = stills.jpeg(&directory, &[url("demo:")], size(9)).await;
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Internal);
            assert_eq!(tasks.panics(), panics);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_camera_without_key_frame_or_picture_is_told_so() {
        let stills = counting().0;
        let (publisher, hub) = hub();
        let mut tracks = Tracks {
            usable: vec![crate::media::Track {
                id: TrackId(0),
                codec: Codec::H264(None),
            }],
            ..Tracks::default()
        };
        publisher.connecting();
        publisher.announce(tracks.clone());
        let error = stills
            .answer(Instant::now() + LIMIT, &hub, size(9))
            .await
            .unwrap_err();
        assert_eq!(error.verdict(), Verdict::NoKeyFrame);
        assert!(error.to_string().contains("I-frame interval"), "{error}");
        tracks.usable[0].codec = Codec::H265(None);
        publisher.announce(tracks.clone());
        let error = stills
            .answer(Instant::now() + LIMIT, &hub, size(9))
            .await
            .unwrap_err();
        assert_eq!(error.verdict(), Verdict::NoStill);
        assert!(error.to_string().contains("H265"), "{error}");
        tracks.usable.clear();
        tracks.left_out.push(LeftOut {
            kind: Kind::Video,
            note: Note::new(Verdict::UnsupportedVideo, "it is MJPEG"),
        });
        publisher.announce(tracks);
        let error = stills
            .answer(Instant::now() + LIMIT, &hub, size(9))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAcceptable);
        assert!(error.to_string().contains("it is MJPEG"), "{error}");
    }
}
