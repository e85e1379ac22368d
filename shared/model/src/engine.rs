//! An engine with a log, as far as an election can see it.

use std::collections::BTreeMap;

use crate::election::group::Group;
use crate::election::member::{Ballot, Epoch, Member, Moment, Position};
use crate::election::message;

/// One record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Label of the promotion in whose history it was written.
    pub label: u64,
    /// A client's write; none for the promotion itself.
    pub write: Option<u8>,
}

/// What an engine does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// No process, or nothing known of it.
    Down,
    /// It receives nothing and takes no writes.
    Detached,
    /// It receives from that holder.
    Following(Ballot),
    /// It took writes, and its process has ended with what was in memory.
    Ended,
    /// It takes writes.
    Primary(Box<Leading>),
}

/// An engine that was promoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leading {
    pub ballot: Ballot,
    pub recovered: u64,
    /// Sessions wait for this group...
    pub effective: Option<Group>,
    /// ...and some already for this one, since a reload is not seen by all at once.
    pub requested: Option<Group>,
    pub since: u64,
    pub flushed: BTreeMap<Member, u64>,
    pub open: bool,
}

/// A data directory with what runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    pub data: bool,
    pub log: Vec<Entry>,
    pub doing: Doing,
    /// Part of its log was in memory only, and is gone. It says so until it has received again.
    pub lost: bool,
}

impl Engine {
    /// Label of the last promotion.
    pub fn label(&self) -> u64 {
        self.log.last().map_or(0, |e| e.label)
    }

    pub fn lsn(&self) -> u64 {
        self.log.len() as u64
    }

    pub fn holds(&self, write: u8) -> bool {
        self.log.iter().any(|e| e.write == Some(write))
    }

    pub fn leading(&self) -> Option<&Leading> {
        match &self.doing {
            Doing::Primary(leading) => Some(leading),
            _ => None,
        }
    }

    pub fn leading_mut(&mut self) -> Option<&mut Leading> {
        match &mut self.doing {
            Doing::Primary(leading) => Some(leading),
            _ => None,
        }
    }

    /// What the agent sees of it.
    pub fn view(&self, now: Moment) -> message::Engine {
        if !self.data {
            return message::Engine::Empty;
        }
        match &self.doing {
            // All of the container's processes have ended.
            Doing::Down if self.lost => message::Engine::Ended,
            Doing::Down => message::Engine::Unknown,
            Doing::Detached | Doing::Following(_) if self.lost => message::Engine::Unknown,
            Doing::Ended => message::Engine::Ended,
            Doing::Detached => message::Engine::Detached {
                position: Position {
                    epoch: Epoch(self.label()),
                    lsn: self.lsn(),
                },
                timeline: self.label(),
            },
            Doing::Following(ballot) => message::Engine::Following(ballot.clone()),
            Doing::Primary(l) => message::Engine::Primary(message::Primary {
                ballot: l.ballot.clone(),
                recovered: l.recovered,
                lsn: self.lsn(),
                in_force: (l.effective == l.requested)
                    .then(|| l.effective.clone())
                    .flatten(),
                since: l.since,
                flushed: l.flushed.clone(),
                healthy_at: now,
            }),
        }
    }

    /// Receive all that a primary has. As a real engine does, it judges by labels and lengths
    /// whether its own log is part of the other's, and gives up what is not.
    pub fn receive(&mut self, from: &Self) {
        let common = common(&self.log, &from.log);
        self.log.truncate(common);
        self.log.extend_from_slice(&from.log[common..]);
        self.data = true;
        self.lost = false;
    }
}

/// Length of the history that two logs share, judged by labels: within the last promotion known to
/// both, up to where the shorter one ends.
fn common(own: &[Entry], other: &[Entry]) -> usize {
    let mut at = 0;
    while at < own.len() && at < other.len() && own[at].label == other[at].label {
        at += 1;
    }
    at
}
