//! A member that does not hold the Lease: whether it stands, and what it takes to win.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Ask, Ballot, Broken, Charter, Effect, Engine, Epoch, Group, Machine, Member, Moment, Position,
    Role, Seen, Sight, Wait, ask_all, hold,
};
use crate::election::policy::Durability;

/// A member that stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidacy {
    pub(super) ballot: Ballot,
    /// Who promised, and what it has.
    pub(super) promises: BTreeMap<Member, Promise>,
    since: Moment,
    /// When the others were last asked; not before the own promise is durable: a member whose
    /// volume hangs would bind them to a candidate that cannot win.
    asked: Option<Moment>,
    /// Groups of the term before, as they stood in the charter that was written last.
    pub(super) inherited: Vec<Group>,
}

/// What a member said when it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promise {
    /// End of its history.
    pub(super) position: Position,
    /// Highest timeline in it.
    pub(super) timeline: u64,
    /// It could be promoted itself.
    pub(super) fit: bool,
}

impl Machine {
    /// One turn of a member that neither holds nor stands.
    pub(super) fn follow(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.tell_that_it_is_over(now, out);
        match self.may_stand(now) {
            Ok(()) => self.stand(now, out),
            Err(wait) => {
                if wait == Wait::Lease {
                    self.look(now, out);
                }
                self.wait = Some(wait);
            }
        }
    }

    /// The Lease bears the name of a process before in this pod, whose engine has ended with what it had in
    /// memory: nobody need wait until it expires.
    fn tell_that_it_is_over(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self.over.is_none_or(|at| now < at) {
            return;
        }
        let Some(Sight::Seen(Seen {
            holder: Some(holder),
            charter: Some(charter),
            ..
        })) = &self.lease
        else {
            return;
        };
        if holder.pod != self.me.pod || *holder == self.me {
            return;
        }
        let ballot = charter.ballot.clone();
        let ask = Ask::Released {
            ballot: ballot.clone(),
            successor: None,
        };
        ask_all(&self.me.member, &charter.everybody(), &ask, out);
        self.over = Some(now + self.policy.timing.renew / 2);
        self.released = Some((ballot, None));
    }

    fn may_stand(&self, now: Moment) -> Result<(), Wait> {
        let timing = &self.policy.timing;
        match &self.engine {
            Engine::Empty => return Err(Wait::NoData),
            Engine::Unknown | Engine::Ended | Engine::Primary(_) => return Err(Wait::Engine),
            Engine::Detached { .. } | Engine::Following(_) => {}
        }
        let Some(lease) = &self.lease else {
            return Err(Wait::Lease);
        };
        let Some(charter) = &self.memory.charter else {
            let unheld = matches!(
                lease,
                Sight::Seen(Seen {
                    holder: None,
                    charter: None,
                    ..
                })
            );
            return if self.may_found && unheld {
                Ok(())
            } else {
                Err(Wait::NoCharter)
            };
        };
        if !charter.may_name(&self.me.member) {
            return Err(Wait::NotNamed);
        }
        let released = self.is_released();
        if self.is_bound(now) && !released && self.rules.keep(Broken::FailSafeIgnored) {
            return Err(Wait::Bound);
        }
        let former = self.is_pod_of_holder(&self.me);
        if self.has_just_started(now) && !former && !released {
            return Err(Wait::JustStarted);
        }
        // Whoever it voted for, or let go first, is given time to win; if that one led by the ballot
        // that was promised last, it has.
        let has_led = self.memory.promise.as_ref() == Some(&charter.ballot);
        let other_has_led = has_led && charter.ballot.holder.member != self.me.member;
        let voted = self.voted.is_some_and(|at| now < at + timing.duration);
        if self.owed.is_some() || (voted && !has_led) {
            return Err(Wait::Voted);
        }
        if now < self.not_before && !other_has_led {
            return Err(Wait::Turn);
        }
        if !self.is_free(now, &self.me) {
            return Err(Wait::LeaseLives);
        }
        if !self.room.fits() {
            return Err(Wait::Room);
        }
        let expired = self.since + timing.duration;
        if !former && now >= expired && now < expired + timing.stagger * self.rank(charter) {
            return Err(Wait::Turn);
        }
        // What was seen before a link was cut says nothing of now.
        let fresh = |at: &Moment| now <= *at + timing.renew;
        match self.looked.filter(fresh) {
            Some(at) if self.is_free(at, &self.me) => Ok(()),
            _ => Err(Wait::Lease),
        }
    }

    /// The own place among those who may stand: who would have more voters in other zones comes first.
    fn rank(&self, charter: &Charter) -> u32 {
        let place = |m: &Member| (Reverse(self.others_elsewhere(m)), m.clone());
        let own = place(&self.me.member);
        let before = charter.members.iter().filter(|m| place(m) < own);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }

    fn stand(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let data = match &self.engine {
            Engine::Detached { position, .. } => position.epoch,
            _ => Epoch::default(),
        };
        let mut epoch = self.epoch().max(data).next();
        if !self.rules.keep(Broken::TransitionCount) {
            let count = match &self.lease {
                Some(Sight::Seen(seen)) => seen.transitions,
                _ => 0,
            };
            epoch = Epoch(count + 1);
        }
        let ballot = Ballot {
            epoch,
            holder: self.me.clone(),
        };
        self.memory.promise = Some(ballot.clone());
        self.voted = None;
        self.role = Role::Candidate(Candidacy {
            ballot,
            promises: BTreeMap::new(),
            since: now,
            asked: None,
            inherited: Vec::new(),
        });
        self.collect(now, out);
    }

    fn ask_promises(&self, out: &mut Vec<Effect>) {
        if let (Role::Candidate(candidacy), Some(charter)) = (&self.role, &self.memory.charter) {
            let missing: Vec<_> = charter
                .everybody()
                .into_iter()
                .filter(|m| !candidacy.promises.contains_key(m))
                .collect();
            let ask = Ask::Promise(candidacy.ballot.clone());
            ask_all(&self.me.member, &missing, &ask, out);
        }
    }

    /// One turn of a candidate.
    pub(super) fn collect(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Role::Candidate(candidacy) = &mut self.role else {
            return;
        };
        let ballot = candidacy.ballot.clone();
        let pause = self.policy.timing.renew / 2;
        let durable = self.durable.promise.as_ref() == Some(&ballot);
        let ask = durable && candidacy.asked.is_none_or(|at| now >= at + pause);
        if ask {
            candidacy.asked = Some(now);
        }
        let known = self.memory.charter.as_ref().map(|c| c.ballot.epoch);
        let superseded = known >= Some(ballot.epoch) && self.rules.keep(Broken::TransitionCount);
        let free = self.looked.is_some_and(|at| self.is_free(at, &self.me));
        if self.memory.promise.as_ref() != Some(&ballot) || superseded || !free {
            self.role = Role::Follower;
            self.wait = Some(Wait::LeaseLives);
            return;
        }
        if ask {
            self.ask_promises(out);
            self.look(now, out);
        }
        match self.won(now) {
            Ok(charter) => {
                let before = self.charter_to_satisfy();
                let inherited = before.map_or_else(Vec::new, |c| c.groups);
                if self.write(now, charter, false, out)
                    && let Role::Candidate(candidacy) = &mut self.role
                {
                    candidacy.inherited = inherited;
                }
                self.wait = Some(Wait::Write);
            }
            Err(Wait::Ahead(member)) => {
                out.push(Effect::Ask(member.clone(), Ask::Stand(ballot)));
                self.role = Role::Follower;
                self.not_before = now + self.policy.timing.duration;
                self.wait = Some(Wait::Ahead(member));
            }
            Err(Wait::Room) => {
                self.role = Role::Follower;
                self.wait = Some(Wait::Room);
            }
            Err(wait) => self.wait = Some(wait),
        }
    }

    /// The charter to acquire the Lease with, once enough have promised.
    fn won(&self, now: Moment) -> Result<Charter, Wait> {
        let Role::Candidate(candidacy) = &self.role else {
            return Err(Wait::Turn);
        };
        if !self.room.fits() {
            return Err(Wait::Room);
        }
        if self.durable.promise.as_ref() != Some(&candidacy.ballot) {
            return Err(Wait::Write);
        }
        let Engine::Detached { position, timeline } = self.engine else {
            return Err(Wait::Engine);
        };
        let before = self.charter_to_satisfy();
        let before = before.as_ref();
        if let Some(charter) = before
            && self.rules.keep(Broken::NoCollect)
        {
            self.has_enough(now, candidacy, charter, position)?;
        }
        let highest = candidacy.promises.values().map(|p| p.timeline).max();
        let claimed = before.map_or(0, |c| c.timeline);
        let mut groups = before.map_or_else(Vec::new, |c| c.groups.clone());
        if let Some(group) = self.first_group(before, candidacy) {
            groups.retain(|g| *g != group);
            groups.push(group);
        }
        let mut members: BTreeSet<Member> = self.peers.keys().cloned().collect();
        if members.is_empty() {
            members = before.map_or_else(BTreeSet::new, |c| c.members.clone());
        }
        members.insert(self.me.member.clone());
        Ok(Charter {
            ballot: candidacy.ballot.clone(),
            version: 0,
            groups,
            members,
            timeline: highest.max(Some(timeline)).max(Some(claimed)).unwrap_or(0) + 1,
            fork: position.lsn,
            successor: None,
            identifier: before.and_then(|c| c.identifier.clone()),
        })
    }

    /// Whether the promises decide, and nobody who could stand has more.
    fn has_enough(
        &self,
        now: Moment,
        candidacy: &Candidacy,
        charter: &Charter,
        own: Position,
    ) -> Result<(), Wait> {
        // Only voters' histories count: a longer one of somebody else holds nothing that was
        // acknowledged and is not also in a voter's.
        let is_ahead = |(member, p): &(&Member, &Promise), fit| {
            charter.may_name(member) && p.position > own && p.fit == fit
        };
        let best = |fit| {
            let ahead = candidacy.promises.iter().filter(|p| is_ahead(p, fit));
            ahead.max_by_key(|(_, p)| p.position).map(|(m, _)| m)
        };
        // Who has more and could not lead is as good as away: what it alone has nobody waits for, and
        // what others have as well they tell.
        let is_silent = |p: &_| self.rules.keep(Broken::UnfitCounts) && is_ahead(p, false);
        let counted = candidacy.promises.iter().filter(|p| !is_silent(p));
        let mut set: BTreeSet<Member> = counted.map(|(m, _)| m.clone()).collect();
        set.insert(self.me.member.clone());
        let overdue = self.is_overdue(now, candidacy, charter, &set, own);
        let gone = self.superseded(charter.groups.iter().flat_map(|g| &g.voters));
        if !charter.is_decided_by(&set, &gone, overdue.is_ok()) {
            if charter.is_decided_by(&set, &gone, true) {
                overdue?;
            }
            return Err(best(false).map_or_else(
                || Wait::Promises {
                    have: set.len(),
                    of: charter.everybody().len(),
                },
                |member| Wait::RoomOf(member.clone()),
            ));
        }
        best(true).map_or(Ok(()), |member| Err(Wait::Ahead(member.clone())))
    }

    /// The rule where commits do not wait: the Lease has lapsed, everybody had time to answer, and
    /// what is missing at most is within the bound.
    fn is_overdue(
        &self,
        now: Moment,
        candidacy: &Candidacy,
        charter: &Charter,
        set: &BTreeSet<Member>,
        own: Position,
    ) -> Result<(), Wait> {
        let everybody = charter.members.is_subset(set);
        match &self.lease {
            None => Err(Wait::Lease),
            Some(Sight::Missing) if everybody => Ok(()),
            Some(Sight::Missing) => Err(Wait::AllMembers),
            Some(Sight::Seen(seen)) => {
                if !everybody && now < candidacy.since + self.policy.timing.renew {
                    return Err(Wait::Promises {
                        have: set.len(),
                        of: charter.members.len(),
                    });
                }
                let published = seen.published;
                let max_lag = self.policy.max_lag;
                let within = own.epoch == published.epoch
                    && own.lsn.saturating_add(max_lag) >= published.lsn;
                if own >= published || within {
                    Ok(())
                } else {
                    Err(Wait::Lag {
                        published,
                        own,
                        max_lag,
                    })
                }
            }
        }
    }

    /// The group that a new term aims at. None: nobody can vote, and commits must wait.
    fn first_group(&self, before: Option<&Charter>, candidacy: &Candidacy) -> Option<Group> {
        let me = &self.me.member;
        let Some(before) = before else {
            return Some(Group::alone(me.clone()));
        };
        if self.policy.durability == Durability::Async {
            return Some(Group::alone(me.clone()));
        }
        // A standby in the zone of the primary before voted for nobody; under this one it may, if it has
        // data: one without would be asked for a promise that it cannot give.
        let zones = self.zones_count();
        let has_data = |m: &&Member| zones && candidacy.promises.contains_key(*m);
        let registered = before.members.iter().filter(has_data);
        let named: BTreeSet<Member> = before
            .groups
            .iter()
            .flat_map(Group::everybody)
            .chain(registered)
            .filter(|m| *m != me && self.may_vote_for(m))
            .cloned()
            .collect();
        if named.is_empty() {
            let required = self.policy.durability == Durability::Required;
            return (!required).then(|| Group::alone(me.clone()));
        }
        Some(Group {
            primary: me.clone(),
            acks: Group::usual_acks(named.len()),
            voters: named,
        })
    }

    /// The Lease is ours.
    pub(super) fn seat(&mut self, now: Moment, charter: Charter, sent: Moment) {
        self.owed = None;
        self.over = None;
        let until = sent + self.policy.timing.deadline;
        let inherited = match &self.role {
            Role::Candidate(candidacy) => candidacy.inherited.clone(),
            _ => charter.groups.clone(),
        };
        let mut term = hold::Term::new(charter, sent, until, now);
        term.inherit(inherited);
        self.role = Role::Holder(Box::new(term));
    }
}

#[cfg(feature = "model")]
impl Candidacy {
    /// Move its instants.
    pub(super) fn age(&mut self, back: impl Fn(&mut Moment)) {
        back(&mut self.since);
        self.asked.iter_mut().for_each(back);
    }
}

#[cfg(test)]
#[path = "stand_tests.rs"]
mod tests;
