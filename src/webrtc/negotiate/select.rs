//! What a viewer of a camera with several sources gets: a pure function from what is known of them and an
//! offer to a [`Selection`], or to what has to be done first.

use std::{borrow::Cow, sync::Arc};

use super::{Plan, SectionPlan, negotiate, wanted};
use crate::{
    base::{Diagnosis, Error, ErrorKind, Note, Verdict},
    hub::{Decision, Known, Tracks, first, first_soon},
    media::Kind,
    webrtc::Offer,
};

/// What comes from where.
#[derive(Debug)]
pub struct Selection {
    /// The source of the picture.
    pub picture: Option<usize>,
    /// The source of the sound, perhaps the same. If it is another one, `tracks` and `plan` number its tracks
    /// as [`Tracks::composed`] does.
    pub sound: Option<usize>,
    /// What there is for the viewer.
    pub tracks: Tracks,
    /// What becomes of the offer.
    pub plan: Plan,
}

/// Takes picture and sound from the first source that has each in a way that the offer takes, as it is or
/// converted; no sound if the camera `is_silent`. Later sources are asked only as long as something is
/// missing, and those that are late are waited for only if there is nothing to play.
///
/// # Errors
/// When nothing fits, or the picture does not, and no source is left to ask: what is wrong with each.
pub fn select(
    sources: &[Known],
    offer: &Offer,
    is_silent: bool,
) -> Result<Decision<Selection>, Error> {
    let sources = &*silenced(sources, is_silent);
    let nothing = Plan {
        sections: vec![SectionPlan::Refused; offer.sections().len()],
        notes: Vec::new(),
        hearing: None,
    };
    let wants_picture = !wanted(&nothing, offer, Kind::Video).is_empty();
    let mut picture = None;
    if wants_picture {
        let fits = |tracks: &Tracks| sends(&only(tracks, Kind::Video), offer, Kind::Video);
        match first(sources, fits).made() {
            Ok(found) => picture = found,
            Err(next) => return Ok(next),
        }
    }
    let shown = picture.map_or_else(Tracks::default, |picture| tracks_of(sources, picture));
    let planned = picture.and_then(|_| negotiate(&only(&shown, Kind::Video), offer).ok());
    let beside = planned.as_ref().unwrap_or(&nothing);
    let wants_sound = !is_silent && !wanted(beside, offer, Kind::Audio).is_empty();
    // Whoever asks for nothing is told what there would be.
    let wants_nothing = !wants_picture && !wants_sound;
    let mut sound = None;
    if wants_sound || wants_nothing {
        let fits = |tracks: &Tracks| {
            wants_nothing || sends(&Tracks::composed(&shown, tracks), offer, Kind::Audio)
        };
        // Who has a picture does not wait long for its sound.
        let found = match picture {
            Some(_) => first_soon(sources, fits),
            None => first(sources, fits),
        };
        match found.made() {
            Ok(found) => sound = found.filter(|_| wants_sound),
            Err(next) => return Ok(next),
        }
    }
    let of_picture = (picture, wants_picture);
    finish(sources, offer, of_picture, (sound, wants_sound)).map(Decision::Made)
}

/// What the sources together have, whoever asks: picture and sound of the first that has each.
///
/// # Errors
/// When none of them can be opened.
pub fn overview(sources: &[Known], is_silent: bool) -> Result<Decision<Tracks>, Error> {
    let sources = &*silenced(sources, is_silent);
    let mut found = [(None, true), (None, !is_silent)];
    for (kind, (found, is_wanted)) in [Kind::Video, Kind::Audio].into_iter().zip(&mut found) {
        if !*is_wanted {
            continue;
        }
        let fits = |tracks: &Tracks| tracks.of_kind(kind).next().is_some();
        let found_one = match kind {
            Kind::Video => first(sources, fits),
            Kind::Audio => first_soon(sources, fits),
        };
        match found_one.made() {
            Ok(made) => *found = made,
            Err(next) => return Ok(next),
        }
    }
    let told = told(sources, found[0], found[1]);
    told.map_or_else(
        || Err(refusal(sources, |_| None)),
        |tracks| Ok(Decision::Made(tracks)),
    )
}

/// Plans what comes from the sources of picture and sound, of which each may be wanted and not found.
fn finish(
    sources: &[Known],
    offer: &Offer,
    picture: (Option<usize>, bool),
    sound: (Option<usize>, bool),
) -> Result<Selection, Error> {
    if picture == (None, true) {
        // A source that could have had a picture is the reason, and the whole camera is refused.
        let fault = |tracks: &Tracks| {
            let tracks = only(tracks, Kind::Video);
            says(&tracks, Kind::Video).then(|| negotiate(&tracks, offer).err())?
        };
        if let Some(refusal) = faults(sources, fault) {
            return Err(refusal);
        }
    }
    let tracks = told(sources, picture, sound).ok_or_else(|| refusal(sources, |_| None))?;
    // What failed might have had it.
    let mut plan = negotiate(&tracks, offer).map_err(|e| faults(sources, |_| None).unwrap_or(e))?;
    let all = sources.len();
    let is_whole = picture != (None, true) && sound != (None, true);
    plan.notes
        .extend(sources.iter().enumerate().filter_map(|(index, known)| {
            let (why, diagnosis) = match known {
                Known::Failed(e) => (e.to_string(), e.diagnosis().clone()),
                Known::Late(Some(failure)) => (failure.verdict.cause().to_owned(), failure.clone()),
                Known::Late(None) => {
                    let late = Verdict::CameraTimeout.into();
                    ("it takes long to answer".to_owned(), late)
                }
                Known::Unasked | Known::Opening | Known::Open(_) => return None,
            };
            // That a source has nothing for browsers is why there is another one.
            let is_foreign = diagnosis.verdict.kind() == ErrorKind::NotAcceptable;
            (!(is_foreign && is_whole)).then(|| passed_over(index, all, &why, &diagnosis))
        }));
    Ok(Selection {
        picture: picture.0,
        sound: sound.0,
        tracks,
        plan,
    })
}

fn passed_over(index: usize, all: usize, why: &str, diagnosis: &Diagnosis) -> Note {
    let number = index + 1;
    Note {
        diagnosis: Diagnosis::seen(Verdict::OtherSource, diagnosis.verdict.code()),
        sentence: format!(
            "source {number} of {all} of this camera is passed over: {}",
            why.trim_end_matches('.')
        ),
    }
}

fn tracks_of(sources: &[Known], index: usize) -> Tracks {
    match &sources[index] {
        Known::Open(tracks) => (**tracks).clone(),
        _ => Tracks::default(),
    }
}

fn only(tracks: &Tracks, kind: Kind) -> Tracks {
    let mut tracks = tracks.clone();
    tracks.keep(kind);
    tracks
}

/// Whether an offer gets something of one kind out of `tracks`.
fn sends(tracks: &Tracks, offer: &Offer, kind: Kind) -> bool {
    negotiate(tracks, offer)
        .is_ok_and(|plan| plan.sendings().any(|sending| sending.track.kind() == kind))
}

fn says(tracks: &Tracks, kind: Kind) -> bool {
    let left_out = tracks.left_out.iter().any(|left_out| left_out.kind == kind);
    left_out || tracks.of_kind(kind).next().is_some()
}

/// The tracks of the sources of picture and sound. Where one is wanted and not found, they are those of the
/// source that tells why: the first that says something of the kind. None if no source is open.
fn told(
    sources: &[Known],
    picture: (Option<usize>, bool),
    sound: (Option<usize>, bool),
) -> Option<Tracks> {
    let position = |is_it: &dyn Fn(&Tracks) -> bool| {
        let mut sources = sources.iter();
        sources.position(|known| matches!(known, Known::Open(tracks) if is_it(tracks)))
    };
    let of = |kind: Kind, (found, is_wanted): (Option<usize>, bool), other: Option<usize>| {
        let telling = || position(&|tracks| is_wanted && says(tracks, kind));
        let any = || position(&|_| true);
        found.or_else(telling).or(other).or_else(any)
    };
    let shown = of(Kind::Video, picture, sound.0)?;
    let heard = of(Kind::Audio, sound, picture.0)?;
    Some(if shown == heard {
        tracks_of(sources, shown)
    } else {
        Tracks::composed(&tracks_of(sources, shown), &tracks_of(sources, heard))
    })
}

/// What is wrong with all sources that cannot be used, `fault` telling of one that is open: the verdict is that
/// of the first. None if nothing is.
fn faults(sources: &[Known], fault: impl Fn(&Tracks) -> Option<Error>) -> Option<Error> {
    let told = sources.iter().enumerate().filter_map(|(index, known)| {
        let error = match known {
            Known::Failed(e) => e.clone(),
            Known::Open(tracks) => fault(tracks)?,
            Known::Unasked | Known::Opening | Known::Late(_) => return None,
        };
        Some((index + 1, error))
    });
    let told: Vec<_> = told.collect();
    if let [(_, only)] = &told[..] {
        return Some(only.clone());
    }
    let (_, first) = told.first()?;
    let sentences: Vec<_> = told
        .iter()
        .map(|(number, e)| format!("source {number}: {e}"))
        .collect();
    Some(Error::new(first.diagnosis().clone(), sentences.join("; ")))
}

fn refusal(sources: &[Known], fault: impl Fn(&Tracks) -> Option<Error>) -> Error {
    faults(sources, fault).unwrap_or_else(|| {
        let what = "the camera has no source that can be used";
        Error::new(Verdict::NothingToPlay, what)
    })
}

/// The sources without their sound, if the camera `is_silent`.
fn silenced(sources: &[Known], is_silent: bool) -> Cow<'_, [Known]> {
    if !is_silent {
        return Cow::Borrowed(sources);
    }
    let silent = sources.iter().map(|known| match known {
        Known::Open(tracks) => {
            let mut tracks = (**tracks).clone();
            tracks.retain_other_than(Kind::Audio);
            Known::Open(Arc::new(tracks))
        }
        other => other.clone(),
    });
    Cow::Owned(silent.collect())
}

#[cfg(test)]
mod tests;
