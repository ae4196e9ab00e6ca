//! [`ParameterSets`]: what a decoder must know before the first picture.

use bytes::Bytes;

use super::ProfileLevel;
use crate::media::nal::{NalType, unsigned_exp_golomb};

/// The parameter sets last seen, to be put before each random access point that lacks them.
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sets: Vec<Bytes>,
}

/// Largest parameter set kept, in bytes; they have some dozens.
const SET_MAX: usize = 4096;
/// More than any camera uses; a hostile one could send 256 picture parameter sets.
const SETS_MAX: usize = 32;

impl ParameterSets {
    /// Keeps `nal` if it is a parameter set, in place of the one with its number.
    pub fn keep(&mut self, nal: &Bytes) {
        let Some(identity) = set_identity(nal).filter(|_| nal.len() <= SET_MAX) else {
            return;
        };
        let known = self
            .sets
            .iter()
            .position(|known| set_identity(known) == Some(identity));
        // Copies, so that a few bytes do not hold a whole network buffer alive.
        match known {
            Some(at) if self.sets[at] == nal => {}
            Some(at) => self.sets[at] = Bytes::copy_from_slice(nal),
            None if self.sets.len() < SETS_MAX => {
                self.sets.push(Bytes::copy_from_slice(nal));
                self.sets.sort_by_key(|set| set_identity(set));
            }
            None => {}
        }
    }

    /// Profile and level of the first sequence parameter set.
    #[must_use]
    pub fn profile_level(&self) -> Option<ProfileLevel> {
        self.of_type(NalType::SPS)
            .next()
            .and_then(|sps| ProfileLevel::of_sps(sps))
    }

    /// The sets of one type, in the order of their numbers.
    pub fn of_type(&self, wanted: NalType) -> impl Iterator<Item = &Bytes> {
        self.sets
            .iter()
            .filter(move |set| NalType::of(set) == Some(wanted))
    }
}

/// Type and number of a parameter set; none for other NAL units and broken ones.
fn set_identity(nal: &[u8]) -> Option<(u8, u32)> {
    match NalType::of(nal)? {
        NalType::SPS => Some((7, unsigned_exp_golomb(nal.get(4..)?, &mut 0)?)),
        NalType::PPS => Some((8, unsigned_exp_golomb(nal.get(1..)?, &mut 0)?)),
        _ => None,
    }
}
