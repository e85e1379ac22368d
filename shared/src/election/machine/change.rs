//! Changes of the group: who votes, and for how many a commit waits.

use std::collections::BTreeSet;

use super::hold::Term;
use super::{Broken, Charter, Group, Machine, Member, Moment};
use crate::election::member::Text;
use crate::election::message::Primary;
use crate::election::policy::Durability;

/// A change that meets change after change waits, rather than making the charter ever longer.
const MOST_GROUPS: usize = 4;

impl Machine {
    fn zone(&self, member: &Member) -> Option<&Text> {
        self.peers.get(member)?.zone.as_ref()
    }

    /// Whether a member is known to be in another zone than this one.
    fn is_elsewhere(&self, member: &Member) -> bool {
        match (self.zone(&self.me.member), self.zone(member)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        }
    }

    /// How many others are known to be in another zone than a member: those who could vote under it. Zero
    /// where zones are not asked for.
    pub(super) fn others_elsewhere(&self, member: &Member) -> usize {
        let Some(own) = self.zone(member).filter(|_| self.policy.across_zones) else {
            return 0;
        };
        let zones = self.peers.values().filter_map(|p| p.zone.as_ref());
        zones.filter(|zone| *zone != own).count()
    }

    /// Whether voters must be in another zone: it is asked for, and somebody is. Where all are in one
    /// zone, or the own one is not known, zones can promise nothing.
    pub(super) fn zones_count(&self) -> bool {
        self.policy.across_zones && self.peers.keys().any(|m| self.is_elsewhere(m))
    }

    /// Whether a member's zone lets it vote under this primary. Not knowing a zone counts as no.
    pub(super) fn may_vote_for(&self, member: &Member) -> bool {
        let there = self.peers.is_empty() || self.peers.contains_key(member);
        there && (!self.zones_count() || self.is_elsewhere(member))
    }

    /// Those whose instance has other data now.
    pub(super) fn superseded<'a>(
        &self,
        members: impl IntoIterator<Item = &'a Member>,
    ) -> BTreeSet<Member> {
        let names: BTreeSet<&Text> = self.peers.keys().map(|m| &m.name).collect();
        let gone = |m: &&Member| !self.peers.contains_key(*m) && names.contains(&m.name);
        members.into_iter().filter(gone).cloned().collect()
    }

    /// The next charter, if the group or the list of members should be another.
    ///
    /// The new group is recorded beside the one in force, so that an election must satisfy both.
    /// One change at a time, but for a suspension, which must not wait for those who are missing, and
    /// for a new term's first group, which nobody may be there to make whole.
    pub(super) fn change(&self, term: &Term, now: Moment) -> Option<Charter> {
        let primary = self.primary(term)?;
        let mut groups = term.charter.groups.clone();
        let suspended = term.group().is_some_and(|g| g.acks == 0);
        // A voter that has other data now will never flush what the change waits for: the next
        // group is recorded beside this one, so an election still has to satisfy both.
        let gone = |m: &Member| !self.peers.is_empty() && !self.peers.contains_key(m);
        let vain =
            groups.len() < MOST_GROUPS && term.group().is_some_and(|g| g.voters.iter().any(gone));
        if let Some(group) = self.desired(term, now)
            && groups.last() != Some(&group)
        {
            let enough = |g: &Group| streaming(&g.voters, primary) >= g.acks;
            let helps =
                term.is_untried() && term.group().is_some_and(|g| !enough(g)) && enough(&group);
            if term.charter.is_settled()
                || term.group().is_none()
                || vain
                || helps
                || (group.acks == 0 && !suspended)
            {
                if helps {
                    // In the group that it replaces nothing was ever acknowledged.
                    groups.pop();
                }
                if !self.rules.keep(Broken::UnawareHolder) {
                    groups.clear();
                }
                groups.retain(|g| *g != group);
                groups.push(group);
            }
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
        let voters = self.candidates(term, primary, |m| self.may_vote_for(m));
        let usual = Group::usual_acks(voters.len());
        let group = |voters, acks| Group {
            primary: me.clone(),
            voters,
            acks,
        };
        let enough = usual > 0 && streaming(&voters, primary) >= usual;
        let near = |m: &Member| self.peers.contains_key(m) && !self.may_vote_for(m);
        let mixed = |g: &Group| g.acks > 0 && g.voters.iter().any(near);
        // Voters in the own zone are in force: from before zones were known, or since there was nobody
        // else. They are given up only for others that are there.
        let mixed = term.group().is_some_and(mixed);
        match self.policy.durability {
            Durability::Required if voters.is_empty() || (mixed && !enough) => None,
            Durability::Required => Some(group(voters, usual)),
            Durability::Async => Some(group(voters, 0)),
            Durability::Preferred => {
                let suspended = term.group().is_some_and(|g| g.acks == 0);
                let lost = term
                    .short
                    .is_some_and(|at| now >= at + self.policy.timing.patience);
                if enough || (usual > 0 && !suspended && !mixed && !lost) {
                    return Some(group(voters, usual));
                }
                // With nobody in another zone, somebody in the same is more than nobody. That comes after
                // the suspension, which stands in the Lease for those who cannot be told.
                let all = self.candidates(term, primary, |_| true);
                let acks = Group::usual_acks(all.len());
                let there = acks > 0 && streaming(&all, primary) >= acks;
                if all != voters && ((mixed && !lost) || (there && (suspended || mixed))) {
                    return Some(group(all, acks));
                }
                Some(group(voters, 0))
            }
        }
    }

    /// Who may be among the voters: who is, and who has what there was when it came.
    fn candidates(
        &self,
        term: &Term,
        primary: &Primary,
        may: impl Fn(&Member) -> bool,
    ) -> BTreeSet<Member> {
        let is_voter = |m: &Member| term.group().is_some_and(|g| g.voters.contains(m));
        // A new generation counts only once it has what there was when it came.
        let caught_up = |m: &Member| match (primary.flushed.get(m), term.registered.get(m)) {
            (Some(has), Some(must)) => has >= must,
            _ => false,
        };
        self.peers
            .keys()
            .filter(|m| **m != self.me.member && may(m) && (is_voter(m) || caught_up(m)))
            .cloned()
            .collect()
    }
}

/// How many of them stream.
fn streaming(voters: &BTreeSet<Member>, primary: &Primary) -> usize {
    voters
        .iter()
        .filter(|m| primary.flushed.contains_key(*m))
        .count()
}
