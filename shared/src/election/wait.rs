//! What a member waits for, in words.

use std::time::Duration;

use super::member::{Member, Position};

/// Why a member does not go on now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Wait {
    /// The API server has not told the Lease yet.
    #[error("the API server to tell who holds the set's Lease")]
    Lease,
    /// There is nothing to stand by.
    #[error("the set's first primary: no Lease and no member says that there is one")]
    NoCharter,
    /// There is no data yet.
    #[error("the data to be copied from the primary")]
    NoData,
    /// The engine has not been looked at, or is on its way.
    #[error("the engine to stand still, so that the end of its log is known")]
    Engine,
    /// It is in no list that a holder wrote.
    #[error("the primary to register this member: only registered voters may be elected")]
    NotNamed,
    /// Somebody holds it.
    #[error("the Lease's holder, who may still live")]
    LeaseLives,
    /// A fail-safe promise runs.
    #[error("its promise to hold still while the API server is away to run out")]
    Bound,
    /// It may have forgotten a fail-safe promise.
    #[error("one lease duration after its start")]
    JustStarted,
    /// It gave its vote to another, who has not acquired yet.
    #[error("the candidate it promised its vote to")]
    Voted,
    /// Its turn comes later.
    #[error("its turn to stand")]
    Turn,
    /// Not enough promises.
    #[error("promises of enough members: it has {have} of {of} asked")]
    Promises {
        /// Promises so far, its own too.
        have: usize,
        /// Asked in all.
        of: usize,
    },
    /// Somebody has more.
    #[error("{0}, whose history goes further, to stand")]
    Ahead(Member),
    /// It could not be promoted.
    #[error("room on its volume for the log of a primary: let it grow, or free some")]
    Room,
    /// Somebody has more, and could not be promoted.
    #[error("{0}, whose history goes further, to have room on its volume for the log of a primary")]
    RoomOf(Member),
    /// Where commits do not wait: too far behind.
    #[error(
        "a member with the log up to {published}: its own ends at {own}, and at most {max_lag} bytes may be lost"
    )]
    Lag {
        /// Last published by the primary.
        published: Position,
        /// Own end.
        own: Position,
        /// Allowed.
        max_lag: u64,
    },
    /// Without the Lease it is not known how far the primary was.
    #[error(
        "every registered member, or a person's Operation: the Lease is missing, and commits did not wait for replicas"
    )]
    AllMembers,
    /// The Lease is being written.
    #[error("the API server to write the Lease")]
    Write,
    /// The charter is not durable with enough members.
    #[error("enough members to confirm the new epoch")]
    Confirmation,
    /// The group does not have everything yet.
    #[error("{need} voters to flush what was recovered: {have} have")]
    Flush {
        /// So many have.
        have: usize,
        /// So many must.
        need: usize,
    },
    /// The engine does not show the group yet.
    #[error("the engine to wait for the new group of voters in every session")]
    Reload,
    /// `Required`, and nobody can vote.
    #[error(
        "a replica that can vote: commits must wait for one{}", if *.across_zones {" in another zone than the primary's"} else {""}
    )]
    NoVoters {
        /// Whether zones count.
        across_zones: bool,
    },
    /// The engine is unhealthy, so the Lease is not renewed.
    #[error("the engine to pass its local health check")]
    Unhealthy,
    /// The API server is away; the primary goes on by its peers' promises.
    #[error(
        "the API server: the primary goes on for {0:?} by its replicas' promises to hold still"
    )]
    FailSafe(Duration),
    /// A hand-over goes on.
    #[error("the engine to stop in order, for a hand-over")]
    Stopping,
    /// A hand-over was refused.
    #[error(
        "nothing: the hand-over was refused, since {0} does not stream as a voter, or has no room for the log of a primary"
    )]
    NotReady(Member),
}
