//! The agent of one member, as a function of what it is told: [`Machine::step`] takes one input
//! and the time, and says what to do; [`Machine::wanted`] says how the engine should be.
//!
//! # How an agent drives it
//! * One `Machine` per start of the agent, with what is on the volume. Data made or copied anew is a
//!   new member: make a new machine with a new generation and an empty [`Durable`].
//! * Each thing that is seen becomes an [`Input`], with the time since boot taken *before* the step,
//!   and the effects are carried out in order. What takes long runs beside the loop and comes back
//!   as an input; nothing is sent for an effect that failed, but for [`Effect::WriteLease`], of
//!   which one is under way at a time.
//! * After each step the engine is brought towards [`Machine::wanted`]. [`Input::Engine`] must tell
//!   what *is*: [`Engine::Detached`] only when the settings on disk name no upstream, the receiver
//!   is gone, no process of an earlier primary is left, and the log was read to its end.
//! * [`Effect::HardStop`] is carried out by a path that needs neither the volume nor the loop.
//!   PID 1 does it too when the agent is silent for [`super::policy::Timing::deadline`].
//! * The epoch of a [`super::member::Position`] is that of the last promotion in the data: the
//!   driver keeps, beside the data, which epoch claimed which timeline: its own before it promotes,
//!   its primary's ([`Charter::timeline`]) once it streams on it. A timeline that is known with
//!   another epoch is a parted history: rewind or copy before streaming.
//! * A new agent process beside a running engine takes over with [`Machine::resume`].

mod answer;
mod change;
mod hold;
#[cfg(feature = "model")]
mod opened;
mod stand;

use std::collections::{BTreeMap, BTreeSet};

use super::charter::{Charter, Durable, Stamp};
use super::group::Group;
use super::member::{Ballot, Epoch, Holder, Member, Moment, Position};
use super::message::{
    Answer, Ask, Effect, Engine, Input, Order, Peer, Precondition, Refusal, Room, Seen, Sight,
    Wanted, Write, Written,
};
use super::policy::Policy;
use super::rules::{Broken, Rules};
use super::wait::Wait;

/// What a machine begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who this process is.
    pub me: Holder,
    /// What is asked of the set.
    pub policy: Policy,
    /// What is on the volume.
    pub durable: Durable,
    /// The time.
    pub now: Moment,
}

/// A term that goes on in another process of the same container. Kept in memory that lives as long
/// as the container, never on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Under which name the Lease is held.
    pub holder: Holder,
    /// What was written last.
    pub charter: Charter,
    /// Until when the engine may run.
    pub until: Moment,
    /// Highest mark that was written.
    pub mark: u64,
    /// For what group the engine was told to wait.
    pub applied: Option<Group>,
    /// End of recovery for which clients were let in.
    pub opened: Option<u64>,
    /// It is being left.
    pub leaving: bool,
}

/// The state of one member's agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    me: Holder,
    policy: Policy,
    rules: Rules,
    started: Moment,
    /// What is on disk for sure.
    durable: Durable,
    /// What shall be on disk.
    memory: Durable,
    persisting: bool,
    lease: Option<Sight>,
    /// When the Lease was first seen as it is.
    since: Moment,
    /// When it was last looked at.
    looked: Option<Moment>,
    /// When a look was last asked for.
    asked_look: Option<Moment>,
    engine: Engine,
    room: Room,
    peers: BTreeMap<Member, Peer>,
    may_found: bool,
    role: Role,
    /// Highest epoch heard of in refusals.
    highest: Epoch,
    /// Ballot whose candidate waits for the promise.
    owed: Option<Ballot>,
    /// Charters that their holder waits to hear of as durable.
    confirms: Option<Stamp>,
    /// What its holder says that it has left, and to whom.
    released: Option<(Ballot, Option<Member>)>,
    /// The engine with which an earlier process of this pod may have led has ended: when members are told so next.
    over: Option<Moment>,
    /// When a vote was given to somebody else.
    voted: Option<Moment>,
    /// A fail-safe promise runs until then.
    bound: Option<Moment>,
    /// The last group of this process's last term, as long as nothing was acknowledged in it.
    untried: Option<(Ballot, Group)>,
    /// It does not stand before.
    not_before: Moment,
    writing: Option<Writing>,
    /// A write failed, and the Lease was not looked at since: what would be replaced is not known.
    stale: bool,
    /// Writes of which it is open whether they had effect.
    doubts: Vec<Writing>,
    mark: u64,
    wait: Option<Wait>,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// Follows, or waits.
    Follower,
    /// Collects promises, then writes the Lease.
    Candidate(stand::Candidacy),
    /// Holds the Lease.
    Holder(Box<hold::Term>),
}

/// A write of the Lease under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writing {
    /// The time before sending.
    sent: Moment,
    mark: u64,
    charter: Charter,
    /// It lets the Lease go.
    release: bool,
}

impl Machine {
    /// At the start of an agent.
    pub fn new(start: Start) -> Self {
        Self::with_rules(start, Rules::default())
    }

    fn with_rules(start: Start, rules: Rules) -> Self {
        let Start {
            me,
            policy,
            mut durable,
            now,
        } = start;
        if !rules.keep(Broken::PromiseForgotten) {
            durable.promise = None;
        }
        Self {
            me,
            policy,
            rules,
            started: now,
            memory: durable.clone(),
            durable,
            persisting: false,
            lease: None,
            since: now,
            looked: None,
            asked_look: None,
            engine: Engine::Unknown,
            room: Room::default(),
            peers: BTreeMap::new(),
            may_found: false,
            role: Role::Follower,
            highest: Epoch::default(),
            owed: None,
            confirms: None,
            released: None,
            over: None,
            voted: None,
            bound: None,
            untried: None,
            not_before: now,
            writing: None,
            stale: false,
            doubts: Vec::new(),
            mark: 0,
            wait: None,
        }
    }

    /// In a new agent process beside an engine that has kept running: go on with the term of the
    /// process before, which must have ended. If its time is over, the first step stops the engine.
    ///
    /// `start.me` must name the same pod; the Lease goes on under the name it is held by.
    pub fn resume(start: Start, tenure: Tenure) -> Self {
        let mut machine = Self::new(start);
        if machine.me.pod == tenure.holder.pod
            && machine.me.member == tenure.holder.member
            && machine.durable.stamp() >= Some((tenure.charter.ballot.epoch, 0))
            && tenure
                .charter
                .ballot
                .admitted_by(machine.durable.promise.as_ref())
        {
            machine.me = tenure.holder.clone();
            machine.mark = tenure.mark;
            machine.memory.hear(&tenure.charter);
            let term = hold::Term::resumed(tenure, &machine.policy.timing, machine.started);
            machine.role = Role::Holder(Box::new(term));
        }
        machine
    }

    /// What a next process needs to go on with the term, if there is one.
    pub fn tenure(&self) -> Option<Tenure> {
        let term = self.term()?;
        Some(Tenure {
            holder: self.me.clone(),
            charter: term.charter.clone(),
            until: term.held_until,
            mark: self.mark,
            applied: term.applied.clone(),
            opened: term.opened,
            leaving: term.is_leaving(),
        })
    }

    /// Take one input and say what to do, in that order.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        // Whatever it is about: nothing is done in the name of a term whose time is over.
        self.check_deadline(now, &mut out);
        // What is waited for is said anew; what an order was refused for, once.
        self.wait = None;
        self.take(now, input, &mut out);
        match self.role {
            Role::Follower => self.follow(now, &mut out),
            Role::Candidate(_) => self.collect(now, &mut out),
            Role::Holder(_) => self.hold(now, &mut out),
        }
        let untried = self.term().map(|term| {
            let last = term.charter.last().filter(|_| term.is_untried())?;
            Some((term.charter.ballot.clone(), last.clone()))
        });
        if let Some(untried) = untried {
            self.untried = untried;
        }
        self.pay(now, &mut out);
        self.persist(&mut out);
        out
    }

    /// The latest charter, without the group in which this process itself knows that nothing was ever
    /// acknowledged: it may name only members that are away.
    fn charter_to_satisfy(&self) -> Option<Charter> {
        let mut charter = self.memory.charter.clone()?;
        if let Some((ballot, group)) = &self.untried
            && *ballot == charter.ballot
            && charter.last() == Some(group)
            && group.acks > 0
            && charter.groups.len() > 1
        {
            charter.groups.pop();
        }
        Some(charter)
    }

    /// How the engine should be now.
    pub fn wanted(&self) -> Wanted {
        match &self.role {
            Role::Candidate(_) => Wanted::Detached,
            Role::Holder(term) => self.wanted_of(term),
            Role::Follower => {
                if self.may_initialise() {
                    return Wanted::Initialise;
                }
                let Some(charter) = self.durable.charter.as_ref() else {
                    // Before the first look nothing is known, not even whether it may go on.
                    return if self.lease.is_none() {
                        Wanted::Unchanged
                    } else {
                        Wanted::Detached
                    };
                };
                let ballot = &charter.ballot;
                let serves = ballot.admitted_by(self.memory.promise.as_ref());
                if serves && ballot.holder.member != self.me.member && self.owed.is_none() {
                    Wanted::Follow(ballot.clone())
                } else {
                    Wanted::Detached
                }
            }
        }
    }

    /// What it waits for, if for anything.
    pub fn wait(&self) -> Option<&Wait> {
        self.wait.as_ref()
    }

    /// Who this is.
    pub fn me(&self) -> &Holder {
        &self.me
    }

    /// The latest charter that it has heard of.
    pub fn charter(&self) -> Option<&Charter> {
        self.memory.charter.as_ref()
    }

    /// The ballot under which it holds the Lease, if it does.
    pub fn holds(&self) -> Option<&Ballot> {
        self.term().map(|t| &t.charter.ballot)
    }

    /// Since when the Lease is as it is: acquired, renewed or let go then, as far as was seen.
    pub fn lease_since(&self) -> Moment {
        self.since
    }

    /// When it must be told the time at the latest, so that a holder stops in time.
    pub fn deadline(&self) -> Option<Moment> {
        self.term().map(|t| self.until(t))
    }

    fn term(&self) -> Option<&hold::Term> {
        match &self.role {
            Role::Holder(term) => Some(term),
            _ => None,
        }
    }

    fn take(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Lease(sight) => self.saw(now, sight),
            Input::Written(written) => self.written(now, written, out),
            Input::Persisted(durable) => {
                self.persisting = false;
                self.durable = durable;
            }
            Input::Engine(engine) => {
                if engine == Engine::Ended && self.term().is_none() {
                    self.over.get_or_insert(now);
                }
                self.engine = engine;
            }
            Input::Room(room) => self.room = room,
            Input::Asked(from, ask) => self.asked(now, from, ask, out),
            Input::Answered(from, answer) => self.answered(now, &from, answer),
            Input::Peers(peers) => self.peers = peers,
            Input::Policy(policy) => self.policy = policy,
            Input::Order(Order::HandOver(to)) => self.begin_hand_over(now, to),
            Input::MayFound(may) => self.may_found = may,
        }
    }

    /// The Lease was looked at.
    fn saw(&mut self, now: Moment, sight: Sight) {
        self.looked = Some(now);
        self.asked_look = None;
        self.stale = false;
        let same = match (&self.lease, &sight) {
            (Some(Sight::Missing), Sight::Missing) => true,
            (Some(Sight::Seen(old)), Sight::Seen(new)) => old.says_the_same(new),
            _ => false,
        };
        if !same {
            self.since = now;
        }
        if let Sight::Seen(seen) = &sight {
            if let Some(charter) = &seen.charter {
                self.memory.hear(charter);
            }
            // A write whose answer was lost, or is on its way still, had effect: it counts from its own
            // sending. An answer that comes later tells nothing new.
            let is_this = |w: &&Writing| wrote(&self.me, seen, w);
            let had_effect = self.writing.iter().chain(&self.doubts).find(is_this);
            if let Some(write) = had_effect.cloned() {
                self.doubts.retain(|w| w.mark != write.mark);
                self.lease = Some(sight);
                self.succeeded(now, write);
                return;
            }
        }
        self.lease = Some(sight);
    }

    fn written(&mut self, now: Moment, written: Written, out: &mut Vec<Effect>) {
        let Some(write) = self.writing.take() else {
            return;
        };
        match written {
            Written::Done(version) => {
                let transitions = self.transitions_of(&write.charter);
                self.lease = Some(Sight::Seen(Seen {
                    version,
                    holder: (!write.release).then(|| self.me.clone()),
                    charter: Some(write.charter.clone()),
                    published: self.published(),
                    mark: write.mark,
                    transitions,
                }));
                (self.since, self.looked) = (now, Some(now));
                // No earlier write can have effect any more: what it would replace is gone.
                self.doubts.clear();
                self.succeeded(now, write);
            }
            Written::Conflict => {
                self.stale = true;
                self.look(now, out);
            }
            Written::Unanswered => {
                self.stale = true;
                self.doubts.push(write);
                self.look(now, out);
            }
        }
    }

    fn succeeded(&mut self, now: Moment, write: Writing) {
        self.memory.hear(&write.charter);
        let sent = if self.rules.keep(Broken::DeadlineFromAnswer) {
            write.sent
        } else {
            now
        };
        match &mut self.role {
            Role::Holder(term) if term.charter.ballot == write.charter.ballot => {
                term.renewed(&write.charter, sent, self.policy.timing.deadline);
                if write.release {
                    self.role = Role::Follower;
                    self.not_before = now + self.policy.timing.duration;
                }
            }
            Role::Candidate(candidacy) if candidacy.ballot == write.charter.ballot => {
                self.seat(now, write.charter, sent);
            }
            // It has promised a later ballot meanwhile: what it acquired expires.
            _ => {}
        }
    }

    /// Write the Lease, if it was seen and no write is under way; says whether.
    fn write(
        &mut self,
        now: Moment,
        charter: Charter,
        release: bool,
        out: &mut Vec<Effect>,
    ) -> bool {
        let precondition = match &self.lease {
            None => return false,
            Some(Sight::Missing) => Precondition::Missing,
            Some(Sight::Seen(seen)) => Precondition::Version(seen.version.clone()),
        };
        if self.writing.is_some() {
            return false;
        }
        if self.stale {
            self.look(now, out);
            return false;
        }
        self.mark += 1;
        out.push(Effect::WriteLease(Box::new(Write {
            precondition,
            holder: (!release).then(|| self.me.clone()),
            published: self.published(),
            mark: self.mark,
            transitions: self.transitions_of(&charter),
            charter: charter.clone(),
        })));
        self.writing = Some(Writing {
            sent: now,
            mark: self.mark,
            charter,
            release,
        });
        true
    }

    fn transitions_of(&self, charter: &Charter) -> u64 {
        match &self.lease {
            Some(Sight::Seen(seen)) => {
                let ballot = seen.charter.as_ref().map(|c| &c.ballot);
                seen.transitions + u64::from(ballot != Some(&charter.ballot))
            }
            _ => 1,
        }
    }

    /// The end of the own history, as far as it is known.
    fn published(&self) -> Position {
        match &self.engine {
            Engine::Primary(p) => Position {
                epoch: p.ballot.epoch,
                lsn: p.lsn,
            },
            Engine::Detached { position, .. } => *position,
            _ => match &self.lease {
                Some(Sight::Seen(seen)) => seen.published,
                _ => Position::default(),
            },
        }
    }

    /// Have the Lease read, not oftener than need be.
    fn look(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let again = self.policy.timing.renew / 2;
        if self.asked_look.is_none_or(|at| now >= at + again) {
            self.asked_look = Some(now);
            out.push(Effect::ReadLease);
        }
    }

    fn persist(&mut self, out: &mut Vec<Effect>) {
        if !self.persisting && self.memory != self.durable {
            self.persisting = true;
            out.push(Effect::Persist(self.memory.clone()));
        }
    }

    /// Whether, at that time, the Lease stands in nobody's way but this one's. To a candidate the
    /// time of its last look, since what was not looked at was not seen unchanged.
    fn is_free(&self, at: Moment, who: &Holder) -> bool {
        let expired = at >= self.since + self.policy.timing.duration;
        match &self.lease {
            None | Some(Sight::Missing) => expired,
            Some(Sight::Seen(seen)) => {
                let named = |successor: Option<&Member>| successor.is_none_or(|s| *s == who.member);
                let own = match (&seen.holder, self.told_of_release()) {
                    (Some(_), Some(successor)) => named(successor.as_ref()),
                    (Some(holder), None) => holder.pod == who.pod,
                    (None, _) => named(seen.charter.as_ref().and_then(|c| c.successor.as_ref())),
                };
                own || expired
            }
        }
    }

    /// To whom the holder that the Lease shows says that it has left it.
    fn told_of_release(&self) -> Option<&Option<Member>> {
        let Some(Sight::Seen(seen)) = &self.lease else {
            return None;
        };
        let shown = seen.charter.as_ref().map(|c| &c.ballot);
        let (ballot, successor) = self.released.as_ref()?;
        (shown == Some(ballot)).then_some(successor)
    }

    /// Whether the last holder has let go: no promise to hold still for it, remembered or not, binds
    /// any more.
    fn is_released(&self) -> bool {
        let Some(Sight::Seen(seen)) = &self.lease else {
            return false;
        };
        let of = |charter: &Option<Charter>| charter.as_ref().map(|c| c.ballot.clone());
        let last = of(&seen.charter);
        last.is_some()
            && last == of(&self.memory.charter)
            && (seen.holder.is_none() || self.told_of_release().is_some())
    }

    /// Whether the Lease, as seen since the start, is held by that one's pod.
    fn is_pod_of_holder(&self, who: &Holder) -> bool {
        match &self.lease {
            Some(Sight::Seen(seen)) => seen.holder.as_ref().is_some_and(|h| h.pod == who.pod),
            _ => false,
        }
    }

    fn has_just_started(&self, now: Moment) -> bool {
        now < self.started + self.policy.timing.duration
    }

    fn is_bound(&self, now: Moment) -> bool {
        self.bound.is_some_and(|until| now < until)
    }

    /// Whether this member may make the set's first data.
    fn may_initialise(&self) -> bool {
        let unheld = matches!(
            &self.lease,
            Some(Sight::Seen(Seen {
                holder: None,
                charter: None,
                ..
            }))
        );
        self.may_found && unheld && self.memory.charter.is_none() && self.engine == Engine::Empty
    }
}

/// Whether the Lease shows that write.
fn wrote(me: &Holder, seen: &Seen, write: &Writing) -> bool {
    let holder = (!write.release).then_some(me);
    seen.mark == write.mark
        && seen.holder.as_ref() == holder
        && seen
            .charter
            .as_ref()
            .is_some_and(|c| c.ballot == write.charter.ballot)
}

/// Ask each of them, but this one.
fn ask_all<'a>(
    me: &Member,
    whom: impl IntoIterator<Item = &'a Member>,
    ask: &Ask,
    out: &mut Vec<Effect>,
) {
    let others: BTreeSet<&Member> = whom.into_iter().filter(|m| *m != me).collect();
    out.extend(
        others
            .into_iter()
            .map(|m| Effect::Ask(m.clone(), ask.clone())),
    );
}
