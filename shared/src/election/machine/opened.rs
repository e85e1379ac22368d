//! What a model needs besides the machine's own interface.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Machine, Member, Moment, Peer, Role, Rules, Sight, Start};
use crate::election::charter::Durable;

impl Machine {
    /// A machine that does not keep all rules.
    pub fn broken(start: Start, rules: Rules) -> Self {
        Self::with_rules(start, rules)
    }

    /// Let time pass for this machine alone while `now` stays: each instant moves into the past, but
    /// not further than `floor`, from where all of them look the same.
    pub fn age(&mut self, by: Duration, floor: Moment) {
        let back = |at: &mut Moment| *at = at.saturating_sub(by).max(floor);
        let maybe = |at: &mut Option<Moment>| {
            if let Some(at) = at {
                *at = at.saturating_sub(by).max(floor);
            }
        };
        back(&mut self.started);
        back(&mut self.since);
        back(&mut self.not_before);
        maybe(&mut self.looked);
        maybe(&mut self.asked_look);
        maybe(&mut self.voted);
        maybe(&mut self.over);
        maybe(&mut self.bound);
        for write in self.writing.iter_mut().chain(&mut self.doubts) {
            back(&mut write.sent);
        }
        match &mut self.role {
            Role::Follower => {}
            Role::Candidate(candidacy) => candidacy.age(back),
            Role::Holder(term) => term.age(back),
        }
    }

    /// Forget what no decision depends on, so that states which differ in nothing else are one.
    pub fn simplify(&mut self, now: Moment) {
        self.wait = None;
        // Past or not, that is all that counts of these.
        let passed = |at: &mut Moment| {
            if *at < now {
                *at = Moment::ZERO;
            }
        };
        passed(&mut self.not_before);
        if self.bound.is_some_and(|at| at <= now) {
            self.bound = None;
        }
    }

    /// What it takes to be on disk.
    pub fn memory(&self) -> &Durable {
        &self.memory
    }

    /// The Lease as it was seen last.
    pub fn sight(&self) -> Option<&Sight> {
        self.lease.as_ref()
    }

    /// Whether a look at the Lease would tell it something, be it only that nothing has changed.
    pub fn wants_look(&self, now: Moment) -> bool {
        self.stale || self.looked.is_none_or(|at| at < now)
    }

    /// Whether it stands.
    pub fn is_candidate(&self) -> bool {
        matches!(self.role, Role::Candidate(_))
    }

    /// The members it knows of.
    pub fn peers(&self) -> &BTreeMap<Member, Peer> {
        &self.peers
    }
}
