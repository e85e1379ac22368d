//! The holder's term: renewing, stopping in time, going on while the API server is away, opening
//! the door, and handing over.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Ask, Broken, Charter, Effect, Engine, Group, Machine, Member, Moment, Role, Wait, Wanted,
    ask_all,
};
use crate::election::machine::Tenure;
use crate::election::member::Text;
use crate::election::message::{Primary, Room};
use crate::election::policy::{Durability, Timing};

/// What a holder knows of its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Term {
    /// As written last, as far as known.
    pub(super) charter: Charter,
    /// Highest version that was ever sent, whether or not it had effect.
    pub(super) issued: u64,
    /// When the last successful renewal was sent.
    renewed: Moment,
    /// Until when the Lease gives the right to go on.
    pub(super) held_until: Moment,
    /// When it began.
    began: Moment,
    /// The engine has been primary in this term.
    pub(super) was_primary: bool,
    /// Who has the present charter durably.
    pub(super) adopted: BTreeSet<Member>,
    /// Fail-safe promises: when they were asked for.
    pub(super) holds: BTreeMap<Member, Moment>,
    /// For what group the engine is told to wait.
    pub(super) applied: Option<Group>,
    /// End of recovery for which the door was opened.
    pub(super) opened: Option<u64>,
    /// A write may have been acknowledged in this term.
    pub(super) acknowledged: bool,
    /// Groups in which a write may have been acknowledged before.
    pub(super) inherited: Vec<Group>,
    /// Where the log ended when a member was first seen.
    pub(super) registered: BTreeMap<Member, u64>,
    /// What the members had flushed when last seen.
    pub(super) last_flushed: BTreeMap<Member, u64>,
    /// Since when too few voters stream.
    pub(super) short: Option<Moment>,
    /// Members that have promised a later ballot, or this epoch to another, and since when that is
    /// known: they cannot serve this term.
    pub(super) outranked: BTreeMap<Member, Moment>,
    leaving: Option<Leaving>,
    /// When members were last told that it has stopped.
    told: Option<Moment>,
    /// When members were last asked, and for which version.
    asked: Option<(Moment, u64)>,
    asked_hold: Option<Moment>,
}

/// A hand-over that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Leaving {
    to: Option<Member>,
    until: Moment,
    hard: bool,
}

impl Term {
    pub(super) fn new(charter: Charter, sent: Moment, until: Moment, now: Moment) -> Self {
        Self {
            issued: charter.version,
            applied: charter.last().cloned(),
            inherited: charter.groups.clone(),
            charter,
            renewed: sent,
            held_until: until,
            began: now,
            was_primary: false,
            adopted: BTreeSet::new(),
            holds: BTreeMap::new(),
            opened: None,
            acknowledged: false,
            registered: BTreeMap::new(),
            last_flushed: BTreeMap::new(),
            short: None,
            outranked: BTreeMap::new(),
            leaving: None,
            told: None,
            asked: None,
            asked_hold: None,
        }
    }

    /// The term of the process before. What that wrote last counts from when it was sent: who waited for
    /// as long again would renew when the time is over.
    pub(super) fn resumed(tenure: Tenure, timing: &Timing, now: Moment) -> Self {
        let renewed = tenure.until.saturating_sub(timing.deadline);
        Self {
            applied: tenure.applied,
            acknowledged: tenure.opened.is_some(),
            opened: tenure.opened,
            was_primary: true,
            // A version may have been sent that the process before did not hear of.
            issued: tenure.charter.version + 1,
            // Others may have been told that it has stopped, and lead.
            leaving: tenure.leaving.then(|| Leaving {
                to: None,
                // The process before has begun; and of an engine that says nothing nobody waits for long.
                until: now + timing.deadline,
                hard: false,
            }),
            ..Self::new(tenure.charter, renewed, tenure.until, now)
        }
    }

    /// Whether a hand-over goes on, or the engine has ended.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Writes may have been acknowledged in these groups and in all but the last of the charter's.
    pub(super) fn inherit(&mut self, groups: Vec<Group>) {
        let before = self.charter.groups.split_last();
        let before = before.map(|(_, before)| before.to_vec());
        self.inherited = groups;
        self.inherited.extend(before.unwrap_or_default());
    }

    /// Whether nothing can have been acknowledged in the last group: its door never opened.
    pub(super) fn is_untried(&self) -> bool {
        let last = self.charter.last();
        !self.acknowledged && last.is_some_and(|g| !self.inherited.contains(g))
    }

    /// A write of the Lease had effect.
    pub(super) fn renewed(&mut self, charter: &Charter, sent: Moment, deadline: Moment) {
        if charter.version > self.charter.version {
            self.charter = charter.clone();
            self.adopted.clear();
        }
        self.renewed = self.renewed.max(sent);
        self.held_until = self.held_until.max(sent + deadline);
    }

    /// The group that changes lead to, if it is the holder's own.
    pub(super) fn group(&self) -> Option<&Group> {
        let me = &self.charter.ballot.holder.member;
        self.charter.last().filter(|g| g.primary == *me)
    }
}

impl Machine {
    /// Until when a holder may go on.
    pub(super) fn until(&self, term: &Term) -> Moment {
        term.held_until
            .max(self.held_by_peers(term).unwrap_or_default())
    }

    /// Until when peers' fail-safe promises keep everybody from being elected. It must be so under
    /// each charter that may stand in the Lease.
    fn held_by_peers(&self, term: &Term) -> Option<Moment> {
        let pending = self.writing.iter().chain(&self.doubts).map(|w| &w.charter);
        let me = &self.me.member;
        let mut until: Option<Moment> = None;
        for charter in pending.chain([&term.charter]) {
            let group = charter.last()?;
            let of = |m: &Member| term.holds.get(m).copied();
            let sent = if group.acks > 0 && group.primary == *me {
                let mut sent: Vec<Moment> = group.voters.iter().filter_map(of).collect();
                sent.sort_unstable_by(|a, b| b.cmp(a));
                *sent.get(group.acks - 1)?
            } else {
                let others = charter.members.iter().filter(|m| *m != me);
                let all: Option<Vec<Moment>> = others.map(of).collect();
                // Alone, there is nobody who could be elected.
                all?.into_iter()
                    .min()
                    .unwrap_or(self.looked?.max(term.renewed))
            };
            let this = sent + self.policy.timing.deadline;
            until = Some(until.map_or(this, |u| u.min(this)));
        }
        until
    }

    /// Stop if the time is over. Done before anything else in each step.
    pub(super) fn check_deadline(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let over = self.term().is_some_and(|term| now >= self.until(term));
        if over && let Role::Holder(term) = std::mem::replace(&mut self.role, Role::Follower) {
            self.lose(&term, now, out);
        }
    }

    /// The term, which is no longer the role, is over. Who leaves, and has stopped, may hear of its
    /// successor before its own last write is answered: there is nothing left to stop, and as when that
    /// is answered it is another's turn.
    fn lose(&mut self, term: &Term, now: Moment, out: &mut Vec<Effect>) {
        if term.leaving.is_some() && self.has_stopped() {
            self.not_before = now + self.policy.timing.duration;
        } else {
            out.push(Effect::HardStop);
        }
    }

    /// The engine takes no writes and receives from nobody: on this word others may lead.
    fn has_stopped(&self) -> bool {
        matches!(self.engine, Engine::Detached { .. } | Engine::Ended)
    }

    pub(super) fn wanted_of(&self, term: &Term) -> Wanted {
        let durable = self.durable.charter.as_ref().map(|c| &c.ballot);
        if term.leaving.is_some() {
            Wanted::Stopped
        } else if durable != Some(&term.charter.ballot) {
            Wanted::Detached
        } else {
            let recovered = self.primary(term).map(|p| p.recovered);
            Wanted::Primary {
                ballot: term.charter.ballot.clone(),
                timeline: term.charter.timeline,
                group: term.applied.clone(),
                open: recovered.is_some() && term.opened == recovered,
            }
        }
    }

    /// The own engine, if it is primary in this term.
    pub(super) fn primary(&self, term: &Term) -> Option<&Primary> {
        match &self.engine {
            Engine::Primary(p) if p.ballot == term.charter.ballot => Some(p),
            _ => None,
        }
    }

    /// One turn of a holder.
    pub(super) fn hold(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Role::Holder(mut term) = std::mem::replace(&mut self.role, Role::Follower) else {
            return;
        };
        let later = self.memory.charter.as_ref().map(|c| c.ballot.epoch);
        if later > Some(term.charter.ballot.epoch) {
            self.lose(&term, now, out);
            return;
        }
        if self.engine == Engine::Ended {
            self.give_up(&mut term, now);
        } else if term.leaving.is_none() {
            self.account(&mut term, now);
            // Before anything is changed: who leaves does not suspend a promise as well.
            self.consider_leaving(&mut term, now);
        }
        let stays = if term.leaving.is_some() {
            self.leave(&mut term, now, out)
        } else {
            self.advance(&mut term, now, out);
            self.ask_members(&mut term, now, out);
            true
        };
        if stays {
            self.role = Role::Holder(term);
        }
    }

    /// Keep the facts of the term.
    fn account(&self, term: &mut Term, now: Moment) {
        if self.durable.stamp() == Some(term.charter.stamp()) {
            term.adopted.insert(self.me.member.clone());
        }
        let Some(primary) = self.primary(term) else {
            return;
        };
        term.was_primary = true;
        for member in self.peers.keys() {
            let lsn = primary.lsn;
            term.registered.entry(member.clone()).or_insert(lsn);
        }
        term.registered.retain(|m, _| self.peers.contains_key(m));
        term.last_flushed.clone_from(&primary.flushed);
        term.outranked
            .retain(|m, _| !primary.flushed.contains_key(m) && self.peers.contains_key(m));
        let enough = term.group().is_none_or(|group| {
            let streaming = group
                .voters
                .iter()
                .filter(|m| primary.flushed.contains_key(m));
            streaming.count() >= Group::usual_acks(group.voters.len())
        });
        if enough {
            term.short = None;
        } else {
            term.short.get_or_insert(now);
        }
    }

    /// Apply, settle, open, change, renew: in that order, with one write at most.
    fn advance(&mut self, term: &mut Term, now: Moment, out: &mut Vec<Effect>) {
        let confirmed = self.is_confirmed(term);
        let next = term.charter.last().filter(|g| g.primary == self.me.member);
        // Before the first acknowledgement of the term nothing was promised by its engine.
        if next.is_some() && (confirmed || !term.acknowledged) {
            term.applied = next.cloned();
        } else if next.is_none() {
            term.applied = None;
        }
        let mut wait = None;
        if let Some(primary) = self.primary(term) {
            let opened = term.opened == Some(primary.recovered);
            match self.may_open(term, primary, confirmed) {
                Ok(()) => {
                    term.opened = Some(primary.recovered);
                    term.acknowledged = true;
                }
                Err(why) if !opened => wait = Some(why),
                Err(_) => {}
            }
        } else {
            wait = Some(Wait::Engine);
        }
        let left = self.held_by_peers(term);
        if self.is_healthy(term, now) {
            let change = self
                .settled(term, confirmed)
                .or_else(|| self.change(term, now));
            let due = now >= term.renewed + self.policy.timing.renew;
            if let Some(charter) = change {
                let version = charter.version;
                if self.write(now, charter, false, out) {
                    term.issued = version;
                }
            } else if due {
                self.write(now, term.charter.clone(), false, out);
            }
            if due && let Some(until) = left.filter(|u| *u > term.held_until) {
                wait = Some(Wait::FailSafe(until.saturating_sub(now)));
            }
        } else {
            wait = Some(Wait::Unhealthy);
        }
        if wait.is_some() {
            self.wait = wait;
        }
    }

    /// Whether those who could decide without us have heard of this charter: only then is what it
    /// allows relied on.
    fn is_confirmed(&self, term: &Term) -> bool {
        let Some((last, before)) = term.charter.groups.split_last() else {
            return true;
        };
        let me = self.durable.stamp() >= Some(term.charter.stamp());
        // Who streams, or leads, under the name of a voter before is why that one's data is gone.
        let primary = self.primary(term);
        let streams = primary.iter().flat_map(|p| p.flushed.keys());
        let streams: BTreeSet<&Text> = streams.chain([&self.me.member]).map(|m| &m.name).collect();
        let mut gone = self.superseded(before.iter().flat_map(|g| &g.voters));
        gone.retain(|m| streams.contains(&m.name));
        let known = before
            .iter()
            .all(|g| g.acks == 0 || g.is_decided_without(&term.adopted, &gone));
        // A suspended promise stands in the Lease before it is applied; nobody may be there to
        // hear of it.
        let suspends = last.acks == 0 && last.primary == self.me.member;
        me && (known || suspends || !self.rules.keep(Broken::CharterUnconfirmed))
    }

    /// Whether clients may be let in.
    fn may_open(&self, term: &Term, primary: &Primary, confirmed: bool) -> Result<(), Wait> {
        let group = term.group();
        let required = self.policy.durability == Durability::Required;
        let Some(group) = group.filter(|g| g.acks > 0 || !required) else {
            return Err(Wait::NoVoters {
                across_zones: self.zones_count(),
            });
        };
        if !confirmed {
            return Err(Wait::Confirmation);
        }
        if primary.in_force.as_ref() != Some(group) {
            return Err(Wait::Reload);
        }
        let have = flushed(group, primary, primary.recovered);
        if have < group.acks && self.rules.keep(Broken::DoorEarly) {
            return Err(Wait::Flush {
                have,
                need: group.acks,
            });
        }
        Ok(())
    }

    /// The charter without the groups that are no longer needed, once the last one has everything.
    fn settled(&self, term: &Term, confirmed: bool) -> Option<Charter> {
        let primary = self.primary(term)?;
        let group = term.group()?;
        if term.charter.is_settled() || term.applied.as_ref() != Some(group) || !confirmed {
            return None;
        }
        let seen = primary.in_force.as_ref() == Some(group);
        let point = primary.recovered.max(primary.since);
        let has = seen && flushed(group, primary, point) >= group.acks;
        if !has && self.rules.keep(Broken::ReloadSeenLate) {
            return None;
        }
        Some(Charter {
            version: term.issued + 1,
            groups: vec![group.clone()],
            ..term.charter.clone()
        })
    }

    fn is_healthy(&self, term: &Term, now: Moment) -> bool {
        let timing = &self.policy.timing;
        match self.primary(term) {
            Some(primary) => now <= primary.healthy_at + timing.health,
            // On its way to be primary.
            None => !term.was_primary && now <= term.began + timing.stop,
        }
    }

    /// Tell members of the charter, and ask them to hold still when renewals fail.
    fn ask_members(&self, term: &mut Term, now: Moment, out: &mut Vec<Effect>) {
        let timing = &self.policy.timing;
        let me = &self.me.member;
        let everybody = term.charter.everybody();
        let version = term.charter.version;
        let due = term
            .asked
            .is_none_or(|(at, asked)| asked != version || now >= at + timing.renew / 2);
        if due && self.durable.stamp() == Some(term.charter.stamp()) {
            term.asked = Some((now, version));
            // Who has it and does not stream may have promised a later ballot since.
            let streams = |m: &Member| {
                let primary = self.primary(term);
                primary.is_none_or(|p| p.flushed.contains_key(m))
            };
            let rest = everybody
                .iter()
                .filter(|m| !term.adopted.contains(*m) || !streams(m));
            ask_all(me, rest, &Ask::Adopt(term.charter.clone()), out);
        }
        let failing = now >= term.renewed + timing.renew + timing.renew / 4;
        let again = term
            .asked_hold
            .is_none_or(|at| now >= at + timing.renew / 2);
        if failing && again && self.is_healthy(term, now) && term.was_primary {
            term.asked_hold = Some(now);
            let ask = Ask::Hold {
                ballot: term.charter.ballot.clone(),
                sent: now,
            };
            ask_all(me, &everybody, &ask, out);
        }
    }

    /// Reasons to leave that nobody asked for.
    fn consider_leaving(&self, term: &mut Term, now: Moment) {
        let patience = self.policy.timing.patience;
        let waited = |since: Option<Moment>| since.is_some_and(|at| now >= at + patience);
        let connected: BTreeSet<Member> = self
            .peers
            .iter()
            .filter(|(_, p)| p.connected)
            .map(|(m, _)| m.clone())
            .collect();
        let elsewhere = term
            .group()
            .is_some_and(|g| g.acks > 0 && g.count(&connected) >= g.needed());
        let timing = &self.policy.timing;
        let (to, stop) = if waited(term.short) && elsewhere {
            (None, timing.stop)
        } else if waited(term.outranked.values().min().copied()) {
            // A member that has promised a later epoch can serve this set again only under a
            // later one.
            (Some(self.me.member.clone()), timing.stop)
        } else if !self.room.fits()
            && let Some(to) = self.heir(term)
        {
            // With a full volume it may not be able to stop in order.
            (Some(to), timing.duration)
        } else {
            return;
        };
        term.leaving = Some(Leaving {
            to,
            until: now + stop,
            hard: false,
        });
    }

    /// The engine has ended, and with it what this term was won with: others are better, where there are
    /// any.
    fn give_up(&self, term: &mut Term, now: Moment) {
        let me = &self.me.member;
        let alone = term.charter.everybody().iter().all(|m| m == me);
        let named = term.leaving.take().and_then(|l| l.to);
        term.leaving = Some(Leaving {
            to: named.filter(|to| to != me).or(alone.then(|| me.clone())),
            until: now + self.policy.timing.stop,
            hard: false,
        });
    }

    /// Who streams now, has ample room, and most of the log of those.
    fn heir(&self, term: &Term) -> Option<Member> {
        let streaming = self.primary(term)?.flushed.iter();
        let ample =
            streaming.filter(|(m, _)| term.charter.may_name(m) && self.room_of(m) == Room::Ample);
        ample.max_by_key(|(_, lsn)| **lsn).map(|(m, _)| m.clone())
    }

    /// Room on another's volume.
    fn room_of(&self, member: &Member) -> Room {
        self.peers.get(member).map_or(Room::default(), |p| p.room)
    }

    /// Who had most when it was last seen, of those who could lead if there are any; of several with as
    /// much, who would have more voters in other zones.
    fn best(&self, term: &Term) -> Option<Member> {
        let named = term
            .last_flushed
            .iter()
            .filter(|(m, _)| term.charter.may_name(m));
        let best = named.max_by_key(|(m, lsn)| {
            let fits = self.room_of(m).fits();
            (fits, **lsn, self.others_elsewhere(m))
        });
        best.map(|(m, _)| m.clone())
    }

    /// Somebody asks for a hand-over.
    pub(super) fn begin_hand_over(&mut self, now: Moment, to: Option<Member>) {
        let until = now + self.policy.timing.stop;
        let ready = self.term().and_then(|term| {
            let primary = self.primary(term)?;
            // Who has to go anyway goes, whatever changes: the next one satisfies all groups.
            let settled = term.charter.is_settled() || to.is_none();
            let free = term.leaving.is_none() && settled;
            let streams = |m: &Member| {
                let named = term.charter.may_name(m) && *m != self.me.member;
                named && primary.flushed.contains_key(m) && self.room_of(m).fits()
            };
            Some(free && to.as_ref().is_none_or(streams))
        });
        match (&mut self.role, ready, to) {
            (Role::Holder(term), Some(true), to) => {
                term.leaving = Some(Leaving {
                    to,
                    until,
                    hard: false,
                });
            }
            (_, _, Some(to)) => self.wait = Some(Wait::NotReady(to)),
            _ => {}
        }
    }

    /// Stop, then release to somebody. Says whether the term goes on.
    fn leave(&mut self, term: &mut Term, now: Moment, out: &mut Vec<Effect>) -> bool {
        self.wait = Some(Wait::Stopping);
        let stopped = self.has_stopped();
        let best = self.best(term);
        let Some(leaving) = &mut term.leaving else {
            return true;
        };
        if stopped {
            if leaving.to.as_ref() == Some(&self.me.member) {
                self.not_before = now;
                return false;
            }
            let successor = leaving.to.clone().or(best);
            let charter = Charter {
                version: term.issued + 1,
                successor,
                ..term.charter.clone()
            };
            let again = self.policy.timing.renew / 2;
            if term.told.is_none_or(|at| now >= at + again) {
                term.told = Some(now);
                let ask = Ask::Released {
                    ballot: charter.ballot.clone(),
                    successor: charter.successor.clone(),
                };
                ask_all(&self.me.member, &charter.everybody(), &ask, out);
            }
            let version = charter.version;
            if self.write(now, charter, true, out) {
                term.issued = version;
            }
            return true;
        }
        if now >= leaving.until {
            if !leaving.hard {
                leaving.hard = true;
                out.push(Effect::HardStop);
            }
        } else if now >= term.renewed + self.policy.timing.renew {
            self.write(now, term.charter.clone(), false, out);
        }
        true
    }
}

/// How many voters have flushed the log up to a point.
fn flushed(group: &Group, primary: &Primary, point: u64) -> usize {
    let has = |m: &&Member| primary.flushed.get(*m).is_some_and(|lsn| *lsn >= point);
    group.voters.iter().filter(has).count()
}

#[cfg(feature = "model")]
impl Term {
    /// Move its instants.
    pub(super) fn age(&mut self, back: impl Fn(&mut Moment)) {
        let maybe = [&mut self.short, &mut self.asked_hold, &mut self.told];
        maybe.into_iter().flatten().for_each(&back);
        self.holds.values_mut().for_each(&back);
        self.outranked.values_mut().for_each(&back);
        self.leaving.iter_mut().for_each(|l| back(&mut l.until));
        self.asked.iter_mut().for_each(|(at, _)| back(at));
        for at in [&mut self.renewed, &mut self.held_until, &mut self.began] {
            back(at);
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
