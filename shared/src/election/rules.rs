//! The rules that carry the safety argument, by name, so that tests can take one away and see the
//! model fail.

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A restart forgets the promise.
    PromiseForgotten,
    /// A new group counts as in force before the engine has shown so.
    ReloadSeenLate,
    /// A promotion takes the next number of its own history, not the epoch it acquired.
    SameTimelineTwice,
    /// A change of the group is recorded without the group that is in force.
    UnawareHolder,
    /// The epoch is the Lease's own count, which a deletion resets.
    TransitionCount,
    /// The Lease is acquired without asking anybody.
    NoCollect,
    /// A charter is relied on before the members have it durably.
    CharterUnconfirmed,
    /// Clients are let in before the group has what was recovered.
    DoorEarly,
    /// The time of holding counts from the answer to a renewal, not from before its sending.
    DeadlineFromAnswer,
    /// A fail-safe promise does not keep a member from standing.
    FailSafeIgnored,
    /// Who could not lead counts as a voter although its history goes further than the candidate's.
    UnfitCounts,
}

/// The rules that are kept: all, outside tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    broken: Option<Broken>,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self { broken: None };

    /// All but one.
    #[cfg(feature = "model")]
    pub const fn without(broken: Broken) -> Self {
        Self {
            broken: Some(broken),
        }
    }

    /// Whether a rule is kept.
    pub fn keep(self, rule: Broken) -> bool {
        self.broken != Some(rule)
    }
}
