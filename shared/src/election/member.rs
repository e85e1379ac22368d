//! Who takes part, and the two orders that decide: ballots and positions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Time since the machine's boot, time asleep included, on the own clock. Compared with nobody
/// else's.
pub type Moment = std::time::Duration;

/// A short text that is copied often.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(Arc<str>);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.as_ref().to_owned()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An incarnation: an instance with the data directory it has now.
///
/// The generation is minted when a data directory is made or copied anew and is kept in it. What a
/// member flushed, promised and may vote for belongs to the incarnation: the same name with a new
/// disk is another member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Name of the instance.
    pub name: Text,
    /// Generation of its data directory.
    pub generation: Text,
}

impl Member {
    /// That instance with that data directory.
    pub fn new(name: impl Into<Text>, generation: impl Into<Text>) -> Self {
        Self {
            name: name.into(),
            generation: generation.into(),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.generation)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.generation)
    }
}

/// One process that stands for, or holds, the set: a member in a pod, with a nonce that is never
/// used twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Whose data it is.
    pub member: Member,
    /// Uid of the pod.
    pub pod: Text,
    /// Start nonce of the agent.
    pub nonce: Text,
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.member, self.pod, self.nonce)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.member, self.pod, self.nonce)
    }
}

/// Our own count of acquisitions. It never goes back; 0 is before the first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An epoch and who stands for it. Two candidates may choose the same number; no member promises
/// it to both, so at most one acquires it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// The epoch.
    pub epoch: Epoch,
    /// Who stands.
    pub holder: Holder,
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.epoch, self.holder)
    }
}

impl Ballot {
    /// Whether a member that promised `promise` may still serve this ballot: vote for it, stream
    /// from its holder, answer it.
    pub fn admitted_by(&self, promise: Option<&Self>) -> bool {
        promise.is_none_or(|p| self.epoch > p.epoch || self == p)
    }
}

/// How far a member's durable history goes.
///
/// The order is: a later promotion is ahead, whatever its length; within the history of one
/// promotion, the longer one is ahead. That is sound because an epoch has one writer. It must be
/// read only when nothing is received any more and the local log was read to its end.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Epoch of the last promotion in this history.
    pub epoch: Epoch,
    /// Place in the log of the last durable valid record, in bytes.
    pub lsn: u64,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{}", self.epoch, self.lsn)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the history of epoch {}", self.lsn, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(epoch: u64, name: &str) -> Ballot {
        Ballot {
            epoch: Epoch(epoch),
            holder: Holder {
                member: Member::new(name, "g"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        }
    }

    #[test]
    fn a_promise_admits_its_own_ballot_and_later_epochs() {
        let promise = ballot(5, "a");
        assert!(ballot(5, "a").admitted_by(Some(&promise)));
        assert!(ballot(6, "b").admitted_by(Some(&promise)));
        assert!(!ballot(5, "b").admitted_by(Some(&promise)));
        assert!(!ballot(4, "a").admitted_by(Some(&promise)));
        assert!(ballot(1, "b").admitted_by(None));
    }

    #[test]
    fn a_later_promotion_is_ahead_of_a_longer_log() {
        let at = |epoch, lsn| Position {
            epoch: Epoch(epoch),
            lsn,
        };
        assert!(at(2, 10) > at(1, 99));
        assert!(at(2, 11) > at(2, 10));
    }
}
