//! [`Gate`]: may this viewer decode the next frame?

/// Closed until a frame from which decoding can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gate {
    /// Nothing passes before a random access point.
    #[default]
    WaitingForKey,
    /// Everything passes.
    Open,
}

impl Gate {
    /// Whether a frame may pass; a random access point opens the gate.
    pub fn admits(&mut self, random_access: bool) -> bool {
        if random_access {
            *self = Self::Open;
        }
        *self == Self::Open
    }

    /// Frames were lost: what depends on them must not pass.
    pub fn close(&mut self) {
        *self = Self::WaitingForKey;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_pass_from_a_random_access_point_until_a_loss() {
        let mut gate = Gate::default();
        assert!(!gate.admits(false));
        assert!(gate.admits(true) && gate.admits(false));
        gate.close();
        assert!(!gate.admits(false) && gate.admits(true));
    }
}
