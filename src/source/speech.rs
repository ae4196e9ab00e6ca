//! [`attend`]: answers viewers who want to speak, and passes on what they say, one after the other.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Source;
use crate::{
    base::{Note, Verdict},
    hub::{Hub, Listener, Wanted},
};

/// Of a source that nobody can talk to.
pub(super) fn mute() -> Note {
    Note::new(
        Verdict::NoBackChannel,
        "this camera cannot be talked to: it only plays",
    )
}

/// Does what `listener` says that viewers want, until the hub is closed or `stop` fires.
pub async fn attend(
    source: Arc<dyn Source>,
    hub: Hub,
    mut listener: Listener,
    stop: CancellationToken,
) {
    let closed = async {
        tokio::select! {
            () = hub.closed() => stop.cancel(),
            () = stop.cancelled() => {}
        }
    };
    let work = async {
        loop {
            let wanted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                wanted = listener.next() => wanted,
            };
            match wanted {
                Wanted::Answer => {
                    let answer = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        answer = source.hears() => answer,
                    };
                    match &answer {
                        Ok(format) => tracing::info!(%format, "the camera can be talked to"),
                        Err(note) => tracing::info!(
                            verdict = %note.diagnosis.verdict,
                            evidence = note.diagnosis.evidence(),
                            "the camera cannot be talked to: {}",
                            note.sentence
                        ),
                    }
                    listener.tell(answer);
                }
                Wanted::Turn(mut turn) => {
                    let begun = Instant::now();
                    tracing::info!("somebody begins to speak");
                    let over = source.listen(&mut turn, &stop).await;
                    let duration = begun.elapsed();
                    if let Err(error) = over {
                        let verdict = error.verdict();
                        tracing::warn!(%verdict, error = %error.chain(), ?duration, "nobody is heard");
                        turn.fail(&error);
                    } else {
                        tracing::info!(?duration, "nobody speaks any more");
                    }
                }
            }
        }
    };
    tokio::join!(closed, work);
}
