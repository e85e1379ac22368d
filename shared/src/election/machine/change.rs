//! Changes of the group: who votes, and for how many a commit waits.

use std::collections::BTreeSet;

use super::hold::Term;
use super::{Broken, Charter, Group, Machine, Member, Moment};
use crate::election::policy::Durability;

/// A change that meets change after change waits, rather than making the charter ever longer.
const MOST_GROUPS: usize = 4;

impl Machine {
    /// Whether a member's zone lets it vote under this primary. Not knowing a zone counts as no.
    pub(super) fn may_vote_for(&self, member: &Member) -> bool {
        let zone = |m: &Member| self.peers.get(m).and_then(|p| p.zone.as_ref());
        let there = self.peers.is_empty() || self.peers.contains_key(member);
        let apart = match (zone(&self.me.member), zone(member)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        };
        there && (!self.policy.across_zones || apart)
    }

    /// The next charter, if the group or the list of members should be another.
    ///
    /// The new group is recorded beside the one in force, so that an election must satisfy both.
    /// One change at a time, but for a suspension, which must not wait for those who are missing.
    pub(super) fn change(&self, term: &Term, now: Moment) -> Option<Charter> {
        self.primary(term)?;
        let mut groups = term.charter.groups.clone();
        let suspended = term.group().is_some_and(|g| g.acks == 0);
        // A voter that has other data now will never flush what the change waits for: the next
        // group is recorded beside this one, so an election still has to satisfy both.
        let gone = |m: &Member| !self.peers.is_empty() && !self.peers.contains_key(m);
        let vain =
            groups.len() < MOST_GROUPS && term.group().is_some_and(|g| g.voters.iter().any(gone));
        if let Some(group) = self.desired(term, now)
            && groups.last() != Some(&group)
            && (term.charter.is_settled()
                || term.group().is_none()
                || vain
                || (group.acks == 0 && !suspended))
        {
            if !self.rules.keep(Broken::UnawareHolder) {
                groups.clear();
            }
            groups.retain(|g| *g != group);
            groups.push(group);
        }
        let mut members: BTreeSet<Member> = self.peers.keys().cloned().collect();
        if members.is_empty() {
            members.clone_from(&term.charter.members);
        }
        members.insert(self.me.member.clone());
        if groups == term.charter.groups && members == term.charter.members {
            return None;
        }
        Some(Charter {
            version: term.issued + 1,
            groups,
            members,
            ..term.charter.clone()
        })
    }

    /// The group as it should be. None: leave it as it is.
    fn desired(&self, term: &Term, now: Moment) -> Option<Group> {
        let me = &self.me.member;
        if self.policy.durability == Durability::Async {
            return Some(Group::alone(me.clone()));
        }
        if self.peers.is_empty() {
            return None;
        }
        let primary = self.primary(term)?;
        let is_voter = |m: &Member| term.group().is_some_and(|g| g.voters.contains(m));
        // A new generation counts only once it has what there was when it came.
        let caught_up = |m: &Member| match (primary.flushed.get(m), term.registered.get(m)) {
            (Some(has), Some(must)) => has >= must,
            _ => false,
        };
        let voters: BTreeSet<Member> = self
            .peers
            .keys()
            .filter(|m| *m != me && self.may_vote_for(m) && (is_voter(m) || caught_up(m)))
            .cloned()
            .collect();
        let usual = Group::usual_acks(voters.len());
        let acks = match self.policy.durability {
            Durability::Required if voters.is_empty() => return None,
            Durability::Required => usual,
            Durability::Async => 0,
            Durability::Preferred => {
                let streaming = voters.iter().filter(|m| primary.flushed.contains_key(m));
                let enough = streaming.count() >= usual;
                let suspended = term.group().is_some_and(|g| g.acks == 0);
                let lost = term
                    .short
                    .is_some_and(|at| now >= at + self.policy.timing.patience);
                if enough || (!suspended && !lost) {
                    usual
                } else {
                    0
                }
            }
        };
        Some(Group {
            primary: me.clone(),
            voters,
            acks,
        })
    }
}
