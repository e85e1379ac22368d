//! What the agent does next, as a function of what it observes. No I/O, no clock.
//!
//! Who may be primary is not decided here: [`Wanted`] says how the engine should be, and this is
//! the way there from what there is.

use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::Wanted;

/// What an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes a history of its own.
    Primary,
    /// It takes no write: it receives from somebody, or from nobody.
    Replica,
}

/// What is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing, and no mark.
    Empty,
    /// Keys without a mark: somebody has removed it, or put them there.
    Unmarked,
    /// A dataset of the set with this identifier.
    Of(String),
}

/// What the running engine is, as far as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What it is.
    pub role: Role,
    /// It receives from nobody, and is told so.
    pub detached: bool,
    /// Its dataset.
    pub data: Data,
    /// It was promoted for the ballot that is wanted, and its dataset says so.
    pub promoted: bool,
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
    /// The primary's address is known, and it is that of the ballot that is wanted.
    pub reachable: bool,
    /// The charter names this member: it may stand with what it receives.
    pub named: bool,
    /// The engine's process.
    pub engine: &'a Engine,
    /// The engine, once it has answered.
    pub running: Option<&'a Running>,
    /// Whom it was told to receive from; none: nobody.
    pub upstream: Option<&'a Ballot>,
    /// It is known how far its dataset goes, and nobody is waited for who may have more.
    pub settled: bool,
    /// The engine that was elected for the term that goes on has ended.
    pub ended: bool,
    /// It is being promoted for the ballot that is wanted.
    pub promoting: bool,
    /// The set's first data is being made: it is a primary for a moment, whose door is shut.
    pub founding: bool,
    /// A hard stop goes on.
    pub hard_stopping: bool,
    /// No process of an engine before is left.
    pub clean: bool,
    /// The container is being stopped.
    pub ending: bool,
    /// And somebody else may still be led to; the Lease is held meanwhile.
    pub leaving: bool,
    /// A restart was asked for.
    pub restart: bool,
    /// The engine has answered nobody for long.
    pub mute: bool,
    /// Something is being done.
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
    /// Kill what is left of an engine that has ended.
    Clean,
    /// Start the engine: as a replica of nobody, always.
    Start,
    /// Mark the empty dataset as the set's first.
    Found,
    /// Look after the running engine.
    Tend(Role),
    /// Receive from nobody.
    Detach,
    /// Receive from the primary.
    Follow,
    /// Become primary.
    Promote,
    /// Hold writers back, let replicas have everything, become a replica of nobody.
    HandOver,
    /// Stop the engine in order.
    Stop,
    /// Kill the engine: it must not write any more.
    Halt,
    /// Kill the engine, which answers nobody, to start it anew.
    Revive,
    /// End this process.
    End,
}

/// What to do next.
///
/// Guarantees: the engine starts only when no process of the one before is left; only a replica that receives from nobody,
/// whose end is known, of the start that was elected, is promoted; a primary that is not wanted is killed; data is
/// received only from who leads under the ballot that is wanted, by who may stand with it afterwards; an empty dataset is
/// made the set's first only where the election says so.
pub fn next(o: &Observed<'_>) -> Next {
    if o.hard_stopping {
        return Next::Wait("processes of the engine are being ended".to_owned());
    }
    let running = matches!(o.engine, Engine::Running { .. });
    if running && o.running.is_some_and(|r| r.role == Role::Primary) && !may_write(o) {
        return Next::Halt;
    }
    if o.busy {
        return Next::Wait(String::new());
    }
    if o.ending {
        let hands_over = running && *o.wanted == Wanted::Stopped;
        return match (running, o.leaving) {
            // Its term is let go once nothing of it is left.
            (false, _) if o.ended && !o.clean => Next::Clean,
            _ if hands_over && o.running.is_some_and(|r| r.role == Role::Primary) => Next::HandOver,
            (_, true) => Next::Wait("somebody to take over".to_owned()),
            (true, false) => Next::Stop,
            (false, false) => Next::End,
        };
    }
    if !running {
        return while_stopped(o);
    }
    if o.mute {
        // Of a primary the Lease lapses, and it is stopped hard.
        return match o.running {
            Some(r) if r.role == Role::Primary => Next::Wait("Redis to answer".to_owned()),
            _ => Next::Revive,
        };
    }
    if o.restart {
        return Next::Stop;
    }
    match o.running {
        None => Next::Wait("Redis to answer".to_owned()),
        Some(running) => while_running(o, running),
    }
}

/// Whether an engine that can write may go on.
fn may_write(o: &Observed<'_>) -> bool {
    let promoted = o.running.is_some_and(|r| r.promoted);
    match o.wanted {
        // Too little is known; or it is on its way down in order.
        Wanted::Unchanged | Wanted::Stopped => true,
        Wanted::Primary { .. } => promoted || o.promoting,
        // The election may know of the new data before the engine is a replica again.
        Wanted::Initialise | Wanted::Detached | Wanted::Follow(_) => o.founding,
    }
}

fn while_stopped(o: &Observed<'_>) -> Next {
    if !o.clean {
        return Next::Clean;
    }
    if o.pausing {
        return Next::Wait("a pause before the next try".to_owned());
    }
    if let Some(missing) = o.missing {
        return Next::Wait(missing.to_owned());
    }
    match o.wanted {
        Wanted::Primary { .. } if o.ended => without_its_engine(),
        Wanted::Stopped => Next::Wait(o.because.to_owned()),
        _ => Next::Start,
    }
}

/// What is in memory again may be less than what it was elected with, so nothing is promoted in this term.
fn without_its_engine() -> Next {
    Next::Wait("its term to end, since the engine that was elected has ended".to_owned())
}

#[allow(clippy::match_same_arms, reason = "one line for each wish")]
fn while_running(o: &Observed<'_>, running: &Running) -> Next {
    if let (Data::Of(own), Some(set)) = (&running.data, o.identifier)
        && own != set
    {
        return Next::Fail(format!(
            "the volume holds data {own} of another set, not {set}: delete its volume claim if that data is not wanted"
        ));
    }
    let waiting = || Next::Wait(o.because.to_owned());
    let detached = running.detached && o.upstream.is_none();
    match (o.wanted, running.role) {
        (Wanted::Unchanged, role) => Next::Tend(role),
        (Wanted::Stopped, Role::Primary) => Next::HandOver,
        (Wanted::Stopped | Wanted::Detached | Wanted::Initialise, Role::Replica) if !detached => {
            Next::Detach
        }
        (Wanted::Initialise, Role::Replica) if o.pausing => waiting(),
        (Wanted::Initialise, Role::Replica) if running.data == Data::Empty => Next::Found,
        (Wanted::Follow(ballot), Role::Replica) if o.upstream == Some(ballot) => {
            // Its address has changed, or somebody told it otherwise.
            if running.detached {
                Next::Detach
            } else {
                Next::Tend(Role::Replica)
            }
        }
        (Wanted::Follow(_), Role::Replica) if !detached => Next::Detach,
        (Wanted::Follow(_), Role::Replica) if o.pausing => waiting(),
        (Wanted::Follow(_), Role::Replica) if !o.reachable => {
            Next::Wait("the primary's address".to_owned())
        }
        // Else it would have everything, and nobody would ask it when the primary has lost it.
        (Wanted::Follow(_), Role::Replica) if !o.named => {
            Next::Wait("the primary to name it as a member of the set".to_owned())
        }
        (Wanted::Follow(_), Role::Replica) => Next::Follow,
        (Wanted::Primary { .. }, _) if o.ended => without_its_engine(),
        (Wanted::Primary { .. }, Role::Replica) if !detached => Next::Detach,
        (Wanted::Primary { .. }, Role::Replica) if o.pausing || !o.settled => waiting(),
        (Wanted::Primary { .. }, Role::Replica) => Next::Promote,
        // The mark was not written, with the door shut: once more.
        (Wanted::Primary { .. }, Role::Primary) if !running.promoted => Next::Promote,
        (_, role) => Next::Tend(role),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
