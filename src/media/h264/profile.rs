//! [`ProfileLevel`]: which decoders can play a stream.

use std::{fmt, str::FromStr};

/// Profile and level as three bytes of a sequence parameter set: `profile-level-id`
/// ([RFC 6184 §8.1]).
///
/// [RFC 6184 §8.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-8.1
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevel(pub [u8; 3]);

/// A set of coding tools; which profiles share one is table 5 of [RFC 6184 §8.1].
///
/// [RFC 6184 §8.1]: https://datatracker.ietf.org/doc/html/rfc6184#section-8.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// What every browser decodes.
    ConstrainedBaseline,
    /// Baseline with its error resilience tools.
    Baseline,
    /// Main, with B pictures and CABAC.
    Main,
    /// High and its progressive subsets.
    High,
    /// High 4:4:4 Predictive. Chromium announces it in place of High where it decodes by software.
    High444,
    /// Anything else, such as 10 bit or 4:2:2.
    Other,
}

impl Profile {
    /// As data sheets and camera menus call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "Constrained Baseline",
            Self::Baseline => "Baseline",
            Self::Main => "Main",
            Self::High => "High",
            Self::High444 => "High 4:4:4 Predictive",
            Self::Other => "a professional profile",
        }
    }

    /// Whether a decoder of this profile decodes a stream of `other`.
    #[must_use]
    pub fn decodes(self, other: Self) -> bool {
        self == other
            || match self {
                // ITU-T H.264 §A.2.11.
                Self::High444 => {
                    matches!(other, Self::ConstrainedBaseline | Self::Main | Self::High)
                }
                Self::High => matches!(other, Self::ConstrainedBaseline | Self::Main),
                Self::Main | Self::Baseline => other == Self::ConstrainedBaseline,
                Self::ConstrainedBaseline | Self::Other => false,
            }
    }
}

impl ProfileLevel {
    /// Of a sequence parameter set NAL unit; none if it is too short.
    #[must_use]
    pub fn of_sps(sps: &[u8]) -> Option<Self> {
        Some(Self(sps.get(1..4)?.try_into().ok()?))
    }

    /// The coding tools that a stream of this kind may use.
    #[must_use]
    pub fn profile(self) -> Profile {
        let Self([idc, constraints, _]) = self;
        let set = |n: u8| constraints & (0x80 >> n) != 0;
        match idc {
            66 if set(1) => Profile::ConstrainedBaseline,
            66 => Profile::Baseline,
            77 if set(0) => Profile::ConstrainedBaseline,
            77 => Profile::Main,
            88 if set(0) && set(1) => Profile::ConstrainedBaseline,
            100 => Profile::High,
            244 => Profile::High444,
            _ => Profile::Other,
        }
    }
}

impl fmt::Display for ProfileLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}")
    }
}

impl fmt::Debug for ProfileLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProfileLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = u32::from_str_radix(text, 16).map_err(|_| ())?;
        let [0, bytes @ ..] = number.to_be_bytes() else {
            return Err(());
        };
        (text.len() == 6).then_some(Self(bytes)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_told_apart_by_their_constraints() {
        let profile = |text: &str| text.parse::<ProfileLevel>().unwrap().profile();
        assert_eq!(profile("42e01f"), Profile::ConstrainedBaseline);
        assert_eq!(profile("42001f"), Profile::Baseline);
        assert_eq!(profile("4d001f"), Profile::Main);
        assert_eq!(profile("64001f"), Profile::High);
        assert_eq!(profile("f4001f"), Profile::High444);
        assert_eq!(profile("6e001f"), Profile::Other);
        assert!(Profile::High444.decodes(Profile::High) && !Profile::Other.decodes(Profile::High));
        assert!(Profile::High.decodes(Profile::Main) && !Profile::Main.decodes(Profile::High));
        assert!("42e0".parse::<ProfileLevel>().is_err());
    }
}
