//! What the agent does next, as a function of what it observes. No I/O, no clock.
//!
//! Who may be primary is not decided here: [`Wanted`] says how the engine should be, and this is
//! the way there from what there is.

use mainstay_crds::common::Rejoin;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::Wanted;

use super::history::Parting;

/// What an engine is, or was when it ran last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes a history of its own.
    Primary,
    /// It replays another's.
    Replica,
}

/// What is on the data volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing, or an unfinished directory.
    None,
    /// A data directory.
    Present {
        /// Its system identifier.
        identifier: String,
        /// What it was: a replica's holds `standby.signal`.
        role: Role,
        /// Timeline of its last checkpoint.
        timeline: u64,
        /// Where its log ends, when its engine was shut down in order as a primary.
        end: Option<u64>,
    },
    /// A data directory that this agent left half done, for this reason: it can only be replaced.
    Broken(String),
    /// Something that is no data directory: why.
    Unusable(String),
}

impl Data {
    /// Where its log ends, when its engine was shut down in order as a primary.
    pub fn end(&self) -> Option<u64> {
        match self {
            Self::Present { end, .. } => *end,
            _ => None,
        }
    }
}

/// Everything that the decision depends on.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Observed<'a> {
    /// How the engine should be.
    pub wanted: &'a Wanted,
    /// Why it is so, or what is waited for, in words.
    pub because: &'a str,
    /// What is missing of what is mounted, in words.
    pub missing: Option<&'a str>,
    /// Identifier of the set's data, once it has one.
    pub identifier: Option<&'a str>,
    /// The primary's address is known.
    pub reachable: bool,
    /// What the data needs before it can follow.
    pub parting: Parting,
    /// What becomes of data that has parted from the primary's.
    pub rejoin: Rejoin,
    /// The volume.
    pub data: &'a Data,
    /// The volume was looked at since the engine ended.
    pub known: bool,
    /// The engine's process.
    pub engine: &'a Engine,
    /// What the running engine is, as it says or was started.
    pub role: Role,
    /// For which ballot the data was promoted last, if its last timeline is its own.
    pub promoted: Option<&'a Ballot>,
    /// It was asked to become primary on the timeline that is wanted, and goes on with that.
    pub promoting: bool,
    /// It receives from nobody, and the end of its log is known.
    pub detached: bool,
    /// It was stopped a moment ago to be handed over.
    pub stood_down: bool,
    /// A hard stop goes on.
    pub hard_stopping: bool,
    /// No process of an engine before is left.
    pub clean: bool,
    /// The container is being stopped.
    pub ending: bool,
    /// A restart was asked for.
    pub restart: bool,
    /// The engine's first process has answered nobody for long.
    pub mute: bool,
    /// A long task runs.
    pub busy: bool,
    /// The last try failed and the pause after it is not over.
    pub pausing: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, waiting for this.
    Wait(String),
    /// Nothing, and a person is needed, for this reason.
    Fail(String),
    /// Make the set's first data directory.
    Initialise,
    /// Copy the primary's.
    Clone,
    /// Take back what the primary's history does not hold.
    Rewind,
    /// Throw the data away and copy the primary's.
    Replace,
    /// Kill what is left of an engine that has ended.
    Clean,
    /// Start the engine.
    Start(Role),
    /// Look after the running engine.
    Tend(Role),
    /// Promote the running replica.
    Promote,
    /// Stop the engine in order.
    Stop,
    /// Kill the engine: it must not write any more.
    Halt,
    /// Kill the engine, which answers nobody, to start it anew.
    Revive,
    /// End this process.
    End,
}

/// What a person has to do.
const MANUAL: &str = "its data holds what the primary's does not, and spec.rejoin is Manual: keep what you need of it, \
     then set spec.rejoin to Rewind, or delete the instance's volume claim and pod to have the data copied anew";

/// What to do next.
///
/// Guarantees: the engine starts only when no process of the one before is left; it starts able to
/// write only on data that was promoted for the ballot that is wanted; only a replica that receives
/// from nobody is promoted; a primary that is not wanted is killed; data is thrown away only to
/// follow a known primary of the same set.
pub fn next(o: &Observed<'_>) -> Next {
    if o.hard_stopping {
        return Next::Wait("processes of the engine are being ended".to_owned());
    }
    let running = matches!(o.engine, Engine::Running { .. });
    if running && o.role == Role::Primary && !may_write(o) {
        return Next::Halt;
    }
    if o.ending {
        return match (running, o.busy) {
            (true, false) => Next::Stop,
            (true, true) => Next::Wait("PostgreSQL is being stopped".to_owned()),
            // Whoever comes next is told where the log ends.
            (false, _) if !o.known => Next::Wait("a look at the volume".to_owned()),
            (false, _) => Next::End,
        };
    }
    if o.busy {
        return Next::Wait(String::new());
    }
    if running {
        return while_running(o);
    }
    if !o.clean {
        return Next::Clean;
    }
    if o.pausing {
        return Next::Wait("a pause before the next try".to_owned());
    }
    if let Some(missing) = o.missing {
        return Next::Wait(missing.to_owned());
    }
    while_stopped(o)
}

/// Whether an engine that can write may go on.
fn may_write(o: &Observed<'_>) -> bool {
    match o.wanted {
        // Too little is known; or it is on its way down in order.
        Wanted::Unchanged | Wanted::Stopped => true,
        Wanted::Primary { ballot, .. } => o.promoted == Some(ballot),
        Wanted::Initialise | Wanted::Detached | Wanted::Follow(_) => false,
    }
}

fn while_running(o: &Observed<'_>) -> Next {
    // Of a primary the Lease lapses.
    if o.mute && o.role == Role::Replica {
        return Next::Revive;
    }
    let tend = if o.restart {
        Next::Stop
    } else {
        Next::Tend(o.role)
    };
    match (o.wanted, o.role) {
        (Wanted::Stopped, _) => Next::Stop,
        // It was promoted for this before, and started as a replica nevertheless: promoted again it
        // would take a timeline that nobody claimed for it.
        (Wanted::Primary { ballot, .. }, Role::Replica)
            if o.promoted == Some(ballot) && !o.promoting =>
        {
            Next::Stop
        }
        (Wanted::Primary { .. }, Role::Replica) if o.detached => Next::Promote,
        (Wanted::Follow(_), Role::Replica) if o.parting != Parting::None => Next::Stop,
        _ => tend,
    }
}

fn while_stopped(o: &Observed<'_>) -> Next {
    let waiting = || Next::Wait(o.because.to_owned());
    let (identifier, timeline) = match o.data {
        Data::None => {
            return match o.wanted {
                Wanted::Initialise => Next::Initialise,
                Wanted::Follow(_) if o.reachable && o.identifier.is_some() => Next::Clone,
                Wanted::Follow(_) => Next::Wait("the primary to make the data".to_owned()),
                _ => waiting(),
            };
        }
        Data::Unusable(why) => return Next::Fail(why.clone()),
        Data::Broken(why) => {
            return match o.wanted {
                Wanted::Follow(_) if o.reachable && o.identifier.is_some() => Next::Replace,
                _ => Next::Wait(format!("a primary to copy the data from, since {why}")),
            };
        }
        Data::Present {
            identifier,
            timeline,
            ..
        } => (identifier, *timeline),
    };
    if let Some(set) = o.identifier
        && set != identifier
    {
        return Next::Fail(format!(
            "the volume holds data {identifier} of another set, not {set}: delete its volume claim if that data is not wanted"
        ));
    }
    match o.wanted {
        Wanted::Unchanged | Wanted::Stopped => waiting(),
        // Its end is known as it is. Until clients are led elsewhere they are better refused than let in to
        // somebody who only reads, and others would receive from it once more.
        Wanted::Detached if o.stood_down && o.data.end().is_some() => waiting(),
        Wanted::Initialise | Wanted::Detached => Next::Start(Role::Replica),
        Wanted::Primary {
            ballot,
            timeline: claimed,
            ..
        } => {
            if o.promoted == Some(ballot) && timeline == *claimed {
                Next::Start(Role::Primary)
            } else {
                Next::Start(Role::Replica)
            }
        }
        Wanted::Follow(_) => match o.parting {
            Parting::None => Next::Start(Role::Replica),
            _ if !o.reachable || o.identifier.is_none() => {
                Next::Wait("the primary's address".to_owned())
            }
            parting => rejoin(parting, o.rejoin),
        },
    }
}

/// How data comes back that cannot follow as it is.
fn rejoin(parting: Parting, wish: Rejoin) -> Next {
    match (parting, wish) {
        // It loses nothing of its own.
        (Parting::None | Parting::Behind, _) | (Parting::Rewind, Rejoin::Rewind) => Next::Rewind,
        (Parting::Rewind | Parting::Copy, Rejoin::Manual) => Next::Fail(MANUAL.to_owned()),
        (Parting::Outdated, _)
        | (Parting::Copy, Rejoin::Rewind)
        | (Parting::Rewind | Parting::Copy, Rejoin::Reclone) => Next::Replace,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
