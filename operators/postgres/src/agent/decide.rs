//! What the agent does next, as a function of what it observes. No I/O, no clock.

use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::election::record::Record;
use mainstay_shared::election::seat::{Decision, OwnData, decide};

/// What a data directory was when it ran last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Without `standby.signal`.
    Primary,
    /// With it.
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
        /// What it was.
        role: Role,
    },
    /// Something that is no data directory: why.
    Unusable(String),
}

/// Everything that the decision depends on.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Observed<'a> {
    /// Name of this instance.
    pub me: &'a str,
    /// What is missing of what is mounted, in words.
    pub missing: Option<&'a str>,
    /// The set's record, from the API server or remembered.
    pub record: Option<&'a Record>,
    /// The record came from the API server in this process' life.
    pub current: bool,
    /// The volume.
    pub data: &'a Data,
    /// The engine's process.
    pub engine: &'a Engine,
    /// A hard stop goes on.
    pub hard_stopping: bool,
    /// No process of an engine before is left.
    pub clean: bool,
    /// The container is being stopped.
    pub ending: bool,
    /// A restart was asked for.
    pub restart: bool,
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
    /// Kill what is left of an engine that has ended.
    Clean,
    /// Start the engine.
    Start(Role),
    /// Look after the running engine.
    Tend(Role),
    /// Stop the engine in order.
    Stop,
    /// End this process.
    End,
}

/// What to do next.
///
/// Guarantees: the engine starts only when no process of the one before is left; data is made
/// only on the word of the API server; nothing is started in another role than it had.
pub fn next(o: &Observed<'_>) -> Next {
    if o.hard_stopping {
        return Next::Wait("processes of the engine are being ended".to_owned());
    }
    let running = matches!(o.engine, Engine::Running { .. });
    if o.ending {
        return match (running, o.busy) {
            (true, false) => Next::Stop,
            (true, true) => Next::Wait("PostgreSQL is being stopped".to_owned()),
            (false, _) => Next::End,
        };
    }
    if o.busy {
        return Next::Wait(String::new());
    }
    if running {
        let role = match o.data {
            Data::Present { role, .. } => *role,
            // Somebody took the folder away under the running engine: it is left to itself.
            Data::None | Data::Unusable(_) => Role::Replica,
        };
        return if o.restart {
            Next::Stop
        } else {
            Next::Tend(role)
        };
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
    let Some(record) = o.record else {
        return Next::Wait("the set's Lease: the API server has not told it yet".to_owned());
    };
    by_seat(o, record)
}

fn by_seat(o: &Observed<'_>, record: &Record) -> Next {
    let (own, role) = match o.data {
        Data::None => (OwnData::None, None),
        Data::Present { identifier, role } => (OwnData::Present(identifier.clone()), Some(*role)),
        Data::Unusable(why) => return Next::Fail(why.clone()),
    };
    match (decide(o.me, record, &own), role) {
        (Decision::Initialise | Decision::Clone, _) if !o.current => {
            Next::Wait("the API server: without it no data is made".to_owned())
        }
        (Decision::Initialise, _) => Next::Initialise,
        (Decision::Clone, _) => match (&record.system_identifier, &record.address) {
            (Some(_), Some(_)) => Next::Clone,
            _ => Next::Wait(format!("the primary {} to make the data", record.seat)),
        },
        (Decision::Lead, Some(Role::Primary)) => Next::Start(Role::Primary),
        (Decision::Follow, Some(Role::Replica)) => Next::Start(Role::Replica),
        (Decision::Lead, _) => Next::Fail(format!(
            "the volume of {} holds a replica's data, but the Lease gives it the seat: it is not promoted without an election",
            o.me
        )),
        (Decision::Follow, _) => Next::Fail(format!(
            "the volume of {} holds a former primary's data, but the seat is {}'s: delete the volume claim of {} to have it copied anew",
            o.me, record.seat, o.me
        )),
        (Decision::Refuse(why), _) => Next::Fail(why),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
