//! Commits that wait while replicas lack too much of the log, where commits do not wait else; values
//! only.
//!
//! PostgreSQL has no such setting. While too much is missing every commit waits until one replica has
//! it on disk, as with a quorum of one; afterwards commits wait for nobody again. That is more than
//! the set has agreed on, never less: no promise and no charter depends on it.

use std::collections::BTreeMap;

use mainstay_shared::election::member::Member;

/// Between two looks writes go on: commits begin to wait at this part of the limit.
const ON: u64 = 2;
/// And stop waiting when no more than this part is missing.
const OFF: u64 = 4;

/// What is known of what replicas lack, in one term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    on: bool,
    /// The most that a member has flushed, as seen last; a member that has gone still has it.
    best: u64,
    lacks: u64,
}

impl Throttle {
    /// Another look, in which the log ended at `position`. With no replica ever seen all is missing.
    pub fn look(&mut self, limit: u64, position: u64, flushed: &BTreeMap<Member, u64>) {
        let seen = flushed.values().copied().max().unwrap_or(0);
        self.best = self.best.max(seen.min(position));
        self.lacks = position.saturating_sub(self.best);
        // Who has gone may come back with other data.
        let there = !flushed.is_empty();
        self.on = self.lacks > limit / ON || (self.on && !(there && self.lacks <= limit / OFF));
    }

    /// Whether commits shall wait.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Whether it may soon be otherwise: look again at once.
    pub fn is_close(&self, limit: u64) -> bool {
        self.on || self.lacks > limit / OFF
    }

    /// Bytes that the replica which has most lacks.
    pub fn lacks(&self) -> u64 {
        self.lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flushed(ends: &[u64]) -> BTreeMap<Member, u64> {
        let members = ends.iter().enumerate();
        members
            .map(|(i, end)| (Member::new(format!("db-{i}"), "g"), *end))
            .collect()
    }

    #[test]
    fn commits_wait_from_half_of_the_limit_until_a_quarter_is_missing() {
        let mut throttle = Throttle::default();
        let mut look = |position, ends: &[u64]| {
            throttle.look(100, position, &flushed(ends));
            (throttle.is_on(), throttle.is_close(100))
        };
        assert_eq!(
            look(1000, &[990, 100]),
            (false, false),
            "who has most counts"
        );
        assert_eq!(look(1030, &[990, 100]), (false, true));
        assert_eq!(look(1050, &[990]), (true, true));
        assert_eq!(look(1050, &[1020]), (true, true), "not to and fro");
        assert_eq!(look(1050, &[1025]), (false, false));
    }

    #[test]
    fn without_replicas_what_they_had_counts_and_then_all_is_missing() {
        let mut throttle = Throttle::default();
        throttle.look(100, 1000, &flushed(&[1000]));
        throttle.look(100, 1049, &flushed(&[]));
        assert!(!throttle.is_on(), "so much may be lost");
        throttle.look(100, 1051, &flushed(&[]));
        assert!(throttle.is_on());
        throttle.look(100, 1051, &flushed(&[1040]));
        assert!(!throttle.is_on());
        let mut never = Throttle::default();
        never.look(100, 1000, &flushed(&[]));
        assert!(never.is_on() && never.lacks() == 1000);
    }
}
