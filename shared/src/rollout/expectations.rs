//! Own writes that the watch caches may not show yet.
//!
//! A cache that lags could show a pod that was just deleted, or miss one that was just made; a
//! decision on it would disturb a second instance. So every such write is remembered until the
//! cache shows it, and [`Expectations::unmet`] holds disruptive steps back. Forgetting them at a
//! restart is right: a fresh list is at least as new as every write before it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// Nothing is expected for longer: a pod that was made and deleted by somebody else before any
/// pass saw it would be waited for without end.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// What is expected of the caches for one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Pods that were created: name to uid.
    created: BTreeMap<String, (String, Timestamp)>,
    /// Pods that were deleted: uid to name.
    deleted: BTreeMap<String, (String, Timestamp)>,
}

impl Expectations {
    /// A pod was created.
    pub fn created(&mut self, name: &str, uid: &str, now: Timestamp) {
        self.created.insert(name.to_owned(), (uid.to_owned(), now));
    }

    /// A pod was deleted.
    pub fn deleted(&mut self, name: &str, uid: &str, now: Timestamp) {
        self.deleted.insert(uid.to_owned(), (name.to_owned(), now));
    }

    /// Drop what the caches show by now. `pods` are (name, uid, deleting) as cached.
    pub fn settle(&mut self, pods: &[(&str, &str, bool)], now: Timestamp) {
        let young = |at: Timestamp| now.duration_since(at) < PATIENCE;
        self.created.retain(|name, (uid, at)| {
            young(*at) && !pods.iter().any(|(n, u, _)| n == name && u == uid)
        });
        self.deleted.retain(|uid, (_, at)| {
            young(*at) && pods.iter().any(|(_, u, deleting)| u == uid && !deleting)
        });
    }

    /// What is not seen yet, in words; none when the caches have caught up.
    pub fn unmet(&self) -> Option<String> {
        if let Some(name) = self.created.keys().next() {
            return Some(format!("the new pod of {name} is not seen yet"));
        }
        let (name, _) = self.deleted.values().next()?;
        Some(format!("the end of the pod of {name} is not seen yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_deleted_pod_is_expected_to_be_seen_leaving() {
        let mut e = Expectations::default();
        e.deleted("db-2", "u2", NOW);
        e.settle(&[("db-2", "u2", false)], NOW);
        assert!(e.unmet().is_some());
        e.settle(&[("db-2", "u2", true)], NOW);
        assert_eq!(e.unmet(), None);
    }

    #[test]
    fn a_created_pod_is_expected_to_be_seen() {
        let mut e = Expectations::default();
        e.created("db-2", "u3", NOW);
        e.settle(&[("db-2", "u2", false)], NOW);
        assert!(e.unmet().is_some());
        e.settle(&[("db-2", "u3", false)], NOW);
        assert_eq!(e.unmet(), None);
    }

    #[test]
    fn what_never_shows_is_not_waited_for_without_end() {
        let mut e = Expectations::default();
        e.created("db-2", "u4", NOW);
        e.settle(&[], NOW + SignedDuration::from_mins(1));
        assert_eq!(e.unmet(), None);
    }
}
