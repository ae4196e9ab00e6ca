//! [`ParameterSets`]: what a decoder must know before the first picture.

use bytes::Bytes;

use super::{
    NalType,
    syntax::{Pps, Sps, video_parameter_set},
};

/// The parameter sets last seen, to be put before each random access point.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sets: Vec<(Identity, Set)>,
}

/// Type and number.
type Identity = (u8, u32);

#[derive(Debug, Clone)]
struct Set {
    nal: Bytes,
    content: Content,
}

/// What is read of a set.
#[derive(Debug, Clone)]
enum Content {
    Video,
    Sequence(Sps),
    Picture(Pps),
}

/// Largest parameter set kept, in bytes; they have some dozens.
const SET_MAX: usize = 4096;
/// More than any camera uses; a hostile one could send 64 picture parameter sets.
const SETS_MAX: usize = 32;

impl ParameterSets {
    /// Keeps `nal` if it is a parameter set, in place of the one with its number.
    pub fn keep(&mut self, nal: &Bytes) {
        if nal.len() > SET_MAX || self.has(nal) {
            return;
        }
        let Some((identity, content)) = read(nal) else {
            return;
        };
        // A copy, so that a few bytes do not hold a whole network buffer alive.
        let set = Set {
            nal: Bytes::copy_from_slice(nal),
            content,
        };
        let place = self
            .sets
            .binary_search_by_key(&identity, |(known, _)| *known);
        match place {
            Ok(known) => self.sets[known].1 = set,
            Err(place) if self.sets.len() < SETS_MAX => self.sets.insert(place, (identity, set)),
            Err(_) => {}
        }
    }

    /// Whether this very set is kept.
    #[must_use]
    pub fn has(&self, nal: &[u8]) -> bool {
        self.sets.iter().any(|(_, set)| set.nal == nal)
    }

    /// All sets, in the order in which a decoder needs them. Cameras that send no video parameter set, or
    /// leave it out of their description, get one that says what the sequence parameter set says.
    pub fn all(&self) -> impl Iterator<Item = Bytes> {
        let has_video = self.has_type(NalType::VPS);
        let first = self.sps().filter(|_| !has_video);
        let video = first.and_then(|(nal, sps)| video_parameter_set(nal, sps));
        video
            .map(Bytes::from)
            .into_iter()
            .chain(self.sets.iter().map(|(_, set)| set.nal.clone()))
    }

    fn has_type(&self, wanted: NalType) -> bool {
        self.sets.iter().any(|((kind, _), _)| *kind == wanted.0)
    }

    /// The first sequence parameter set.
    pub(super) fn sps(&self) -> Option<(&Bytes, &Sps)> {
        self.sets.iter().find_map(|(_, set)| match &set.content {
            Content::Sequence(sps) => Some((&set.nal, sps)),
            _ => None,
        })
    }

    /// The picture parameter set of this number, and the sequence parameter set that it names.
    pub(super) fn pps(&self, number: u32) -> Option<(&Pps, &Sps)> {
        let find = |kind: NalType, number| {
            let identity = (kind.0, number);
            let place = self
                .sets
                .binary_search_by_key(&identity, |(known, _)| *known);
            place.ok().map(|at| &self.sets[at].1.content)
        };
        let Some(Content::Picture(pps)) = find(NalType::PPS, number) else {
            return None;
        };
        match find(NalType::SPS, pps.sequence) {
            Some(Content::Sequence(sps)) => Some((pps, sps)),
            _ => None,
        }
    }
}

fn read(nal: &[u8]) -> Option<(Identity, Content)> {
    let kind = NalType::of(nal)?;
    let (number, content) = match kind {
        NalType::VPS => (u32::from(nal.get(2)? >> 4), Content::Video),
        NalType::SPS => {
            let sps = Sps::read(nal)?;
            (sps.number, Content::Sequence(sps))
        }
        NalType::PPS => {
            let pps = Pps::read(nal)?;
            (pps.number, Content::Picture(pps))
        }
        _ => return None,
    };
    Some(((kind.0, number), content))
}
