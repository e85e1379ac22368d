//! Pauses between tries. Values only.

use std::time::Duration;

use crate::election::member::Ballot;
use crate::election::message::Wanted;

/// The first pause.
pub const MIN: Duration = Duration::from_secs(1);
/// The longest.
pub const MAX: Duration = Duration::from_secs(30);

/// How often something failed, and until when nothing is tried. Times are since boot.
#[derive(Debug, Default)]
pub struct Pauses {
    failures: u32,
    until: Duration,
    /// For whose sake it was tried.
    of: Option<(bool, Ballot)>,
}

impl Pauses {
    /// A step failed: the next try comes at once, then after a growing pause.
    pub fn fail(&mut self, now: Duration) {
        if self.failures > 0 {
            let pause = MIN.saturating_mul(2_u32.saturating_pow(self.failures - 1));
            self.until = now + pause.min(MAX);
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// What was in the way is gone.
    pub fn forgive(&mut self) {
        (self.failures, self.until) = (0, Duration::ZERO);
    }

    /// Somebody else leads, or this one does: that something failed before says nothing of that. Between
    /// terms, while nobody is known to lead, nothing is new.
    pub fn wish(&mut self, wanted: &Wanted) {
        let of = match wanted {
            Wanted::Follow(ballot) => (false, ballot),
            Wanted::Primary { ballot, .. } => (true, ballot),
            _ => return,
        };
        if self.of.as_ref().is_none_or(|(lead, b)| (*lead, b) != of) {
            self.of = Some((of.0, of.1.clone()));
            self.forgive();
        }
    }

    /// Whether nothing is tried now.
    pub fn is_on(&self, now: Duration) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use crate::election::member::{Epoch, Holder, Member};

    use super::*;

    fn follow(epoch: u64) -> Wanted {
        Wanted::Follow(Ballot {
            epoch: Epoch(epoch),
            holder: Holder {
                member: Member::new("db-1", "g"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        })
    }

    #[test]
    fn pauses_grow_and_end_with_a_new_primary() {
        let second = Duration::from_secs;
        let mut pauses = Pauses::default();
        pauses.wish(&follow(1));
        pauses.fail(second(10));
        assert!(!pauses.is_on(second(10)), "the first try comes at once");
        pauses.fail(second(10));
        assert!(pauses.is_on(second(10)) && !pauses.is_on(second(11)));
        for _ in 0..40 {
            pauses.fail(second(20));
        }
        assert!(!pauses.is_on(second(20) + MAX), "they are bounded");
        for same in [follow(1), Wanted::Detached, Wanted::Unchanged, follow(1)] {
            pauses.wish(&same);
            assert!(pauses.is_on(second(49)), "{same:?}");
        }
        pauses.wish(&follow(2));
        assert!(!pauses.is_on(second(20)));
        pauses.fail(second(20));
        assert!(!pauses.is_on(second(20)), "as if for the first time");
    }
}
