//! [`ProfileTierLevel`]: which decoders can play a stream.

use std::fmt;

/// Profile, tier and level of a stream, or of what a decoder takes ([RFC 7798 §7.1]).
///
/// [RFC 7798 §7.1]: https://datatracker.ietf.org/doc/html/rfc7798#section-7.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileTierLevel {
    /// `general_profile_idc`; of a stream the least that it conforms to.
    pub profile: u8,
    /// Whether it is of the high tier, with more bits than most need.
    pub high_tier: bool,
    /// `general_level_idc`: 30 times the level.
    pub level: u8,
}

impl ProfileTierLevel {
    /// 8 bits and 4:2:0, which all decoders take.
    pub const MAIN: u8 = 1;
    /// 10 bits.
    pub const MAIN_10: u8 = 2;
    /// One picture.
    pub const MAIN_STILL_PICTURE: u8 = 3;

    /// As data sheets and camera menus call the profile.
    #[must_use]
    pub fn profile_name(self) -> &'static str {
        match self.profile {
            Self::MAIN => "Main",
            Self::MAIN_10 => "Main 10",
            Self::MAIN_STILL_PICTURE => "Main Still Picture",
            _ => "a professional profile",
        }
    }

    /// Whether its profile is one that no browser decodes.
    #[must_use]
    pub fn is_professional(self) -> bool {
        !(Self::MAIN..=Self::MAIN_STILL_PICTURE).contains(&self.profile)
    }

    /// Whether a decoder of this profile and tier decodes a stream of `other`, whatever its level.
    #[must_use]
    pub fn decodes_profile(self, other: Self) -> bool {
        let profile = self.profile == other.profile
            || match self.profile {
                Self::MAIN => other.profile == Self::MAIN_STILL_PICTURE,
                Self::MAIN_10 => !other.is_professional(),
                _ => false,
            };
        profile && self.high_tier >= other.high_tier
    }
}

impl fmt::Display for ProfileTierLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = if self.high_tier { ", High tier" } else { "" };
        let level = f64::from(self.level) / 30.0;
        write!(f, "{}{tier}, level {level:.1}", self.profile_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_profile_decodes_a_smaller_one_and_not_the_other_way() {
        let of = |profile, high_tier| ProfileTierLevel {
            profile,
            high_tier,
            level: 120,
        };
        assert!(of(2, false).decodes_profile(of(1, false)));
        assert!(!of(1, false).decodes_profile(of(2, false)));
        assert!(of(1, true).decodes_profile(of(1, false)));
        assert!(!of(1, false).decodes_profile(of(1, true)));
        assert!(of(4, false).is_professional() && !of(2, false).decodes_profile(of(4, false)));
        assert_eq!(of(2, true).to_string(), "Main 10, High tier, level 4.0");
    }
}
