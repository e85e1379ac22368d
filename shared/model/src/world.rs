//! A whole set as a value: members with their disks and engines, the Lease, messages under way, and
//! what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cached::Cached;
use crate::config::Config;
use crate::election::charter::Durable;
use crate::election::machine::{Machine, Start};
use crate::election::member::{Holder, Member, Moment};
use crate::election::message::{
    Answer, Ask, Effect, Input, Order, Peer, Precondition, Room, Seen, Sight, Wanted, Write,
    Written,
};
use crate::election::rules::Broken;
use crate::engine::{Doing, Engine, Entry, Leading};

/// The time at every machine; what happened before is moved into the past instead.
pub const NOW: Moment = Duration::from_secs(1000);

/// One member's pod: its agent, its disk, its engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub machine: Machine,
    pub up: bool,
    /// Nothing of it runs, but its clock does.
    pub paused: bool,
    pub disk: Durable,
    /// Given to the disk, not yet there.
    pub unsaved: Option<Durable>,
    pub engine: Engine,
    /// A write of the Lease on its way.
    pub write: Option<Write>,
    /// One that was given up and may still arrive.
    pub stray: Option<Write>,
    pub starts: u8,
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    Ask(Ask),
    Answer(Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    pub from: Member,
    pub to: Member,
    pub body: Body,
}

/// What a client knows of its write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    pub id: u8,
    /// The epoch it was sent under.
    pub epoch: u64,
    /// The latest epoch under which anything had been acknowledged before it was sent.
    pub after: u64,
    /// The epoch it was acknowledged under.
    pub acknowledged: Option<u64>,
    /// The promise of `quorum`, or in `async` of the published position, covers it.
    pub covered: bool,
}

/// What has been spent of what is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub lapses: u8,
    pub crashes: u8,
    pub ended: u8,
    pub replaced: u8,
    pub deleted: u8,
    pub restored: u8,
    pub lost: u8,
    pub orders: u8,
    pub pauses: u8,
    pub outages: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub nodes: Vec<Cached<Node>>,
    pub lease: Option<Cached<Seen>>,
    pub version: u32,
    /// As it was once backed up.
    pub backup: Option<Cached<Seen>>,
    /// The API server answers nobody.
    pub away: bool,
    pub letters: BTreeSet<Cached<Letter>>,
    /// Flushes that a primary has not heard of: from whom, to which node, under which epoch, what.
    pub flushes: BTreeSet<(Member, usize, u64, u64)>,
    pub sent: Vec<Sent>,
    /// Latest epoch under which something was acknowledged.
    pub latest: u64,
    pub spent: Spent,
    /// First broken promise.
    pub broken: Option<&'static str>,
    /// Time that has passed for all.
    pub time: u16,
}

impl World {
    /// Members without data, one of which may make it.
    pub fn new(config: &Config) -> Self {
        let members: Vec<Member> = (0..config.members)
            .map(|i| Member::new(["a", "b", "c", "d", "e"][i], "1"))
            .collect();
        let mut world = Self {
            nodes: Vec::new(),
            lease: Some(Cached::new(Seen {
                version: "0".into(),
                holder: None,
                charter: None,
                published: crate::election::member::Position::default(),
                mark: 0,
                transitions: 0,
            })),
            version: 0,
            backup: None,
            away: false,
            letters: BTreeSet::new(),
            flushes: BTreeSet::new(),
            sent: Vec::new(),
            latest: 0,
            spent: Spent::default(),
            broken: None,
            time: 0,
        };
        for member in &members {
            let node = Self::fresh(config, member, false);
            world.nodes.push(Cached::new(node));
        }
        for i in 0..world.nodes.len() {
            world.tell_peers(config, i);
            world.step(config, i, Input::MayFound(i == 0));
            world.see_engine(config, i);
            // Old enough to take part.
            world
                .node(i)
                .machine
                .age(config.timing().duration, floor(config));
        }
        world
    }

    fn fresh(config: &Config, member: &Member, data: bool) -> Node {
        Node {
            machine: machine(config, member, 0, Durable::default()),
            up: true,
            paused: false,
            disk: Durable::default(),
            unsaved: None,
            engine: Engine {
                data,
                log: Vec::new(),
                doing: Doing::Detached,
                lost: false,
            },
            write: None,
            stray: None,
            starts: 0,
        }
    }

    pub fn node(&mut self, i: usize) -> &mut Node {
        self.nodes[i].change()
    }

    /// The members that there are, the latest of each name.
    pub fn roster(&self, config: &Config) -> BTreeMap<Member, Peer> {
        let mut by_name: BTreeMap<String, Member> = BTreeMap::new();
        for node in &self.nodes {
            let member = &node.machine.me().member;
            by_name.insert(member.name.to_string(), member.clone());
        }
        let peers = by_name.into_values().enumerate().map(|(i, member)| {
            let peer = Peer {
                zone: config.zones.get(i).map(|zone| (*zone).into()),
                room: room(config, i),
                ..Peer::default()
            };
            (member, peer)
        });
        peers.collect()
    }

    pub fn knows_old_peers(&self, config: &Config, i: usize) -> bool {
        *self.nodes[i].machine.peers() != self.roster(config)
    }

    pub fn tell_peers(&mut self, config: &Config, i: usize) {
        let roster = self.roster(config);
        self.step(config, i, Input::Peers(roster));
    }

    /// One step of a machine with all that follows from it at once.
    pub fn step(&mut self, config: &Config, i: usize, input: Input) {
        if !self.nodes[i].up || self.nodes[i].paused {
            return;
        }
        let effects = self.node(i).machine.step(NOW, input);
        for effect in effects {
            self.perform(config, i, effect);
        }
        if config.eager_engines {
            self.engine_steps(config, i);
        }
        self.node(i).machine.simplify(NOW);
    }

    fn perform(&mut self, config: &Config, i: usize, effect: Effect) {
        let from = self.nodes[i].machine.me().member.clone();
        match effect {
            Effect::HardStop => {
                let node = self.node(i);
                if node.engine.leading().is_some() {
                    node.engine.doing = Doing::Down;
                    self.see_engine(config, i);
                }
            }
            Effect::Persist(durable) => {
                self.node(i).unsaved = Some(durable);
                if !config.slow_disks {
                    self.save(config, i);
                }
            }
            Effect::WriteLease(write) => self.node(i).write = Some(*write),
            // The explorer lets everybody look whenever that shows anything new.
            Effect::ReadLease => {}
            Effect::Ask(to, ask) => self.post(Letter {
                from,
                to,
                body: Body::Ask(ask),
            }),
            // Who refuses is not changed by it: a lost refusal is a lost question.
            Effect::Answer(to, answer @ Answer::Refused { .. }) => {
                for asker in self.whose(&to) {
                    self.step(config, asker, Input::Answered(from.clone(), answer.clone()));
                }
            }
            Effect::Answer(to, answer) => self.post(Letter {
                from,
                to,
                body: Body::Answer(answer),
            }),
        }
    }

    fn post(&mut self, letter: Letter) {
        // A newer question of the same kind replaces an older one: as if that had been lost.
        if let Body::Ask(ask) = &letter.body {
            let kind = std::mem::discriminant(ask);
            self.letters.retain(|l| {
                l.from != letter.from
                    || l.to != letter.to
                    || !matches!(&l.body, Body::Ask(old) if std::mem::discriminant(old) == kind)
            });
        }
        self.letters.insert(Cached::new(letter));
    }

    /// The nodes of a member: one, or more where identities are broken.
    pub fn whose(&self, member: &Member) -> Vec<usize> {
        let is = |n: &Node| n.up && !n.paused && n.machine.me().member == *member;
        (0..self.nodes.len())
            .filter(|i| is(&self.nodes[*i]))
            .collect()
    }

    /// After changes, before it is compared or hashed.
    pub fn seal(&mut self) {
        self.nodes.iter_mut().for_each(Cached::seal);
        if let Some(lease) = &mut self.lease {
            lease.seal();
        }
    }

    pub fn save(&mut self, config: &Config, i: usize) {
        let node = self.node(i);
        if let Some(durable) = node.unsaved.take() {
            node.disk = durable.clone();
            self.step(config, i, Input::Persisted(durable));
        }
    }

    pub fn see_engine(&mut self, config: &Config, i: usize) {
        let view = self.nodes[i].engine.view(NOW);
        self.step(config, i, Input::Engine(view));
    }

    pub fn deliver(&mut self, config: &Config, letter: &Cached<Letter>, i: usize) {
        self.letters.remove(letter);
        let from = letter.from.clone();
        let input = match letter.body.clone() {
            Body::Ask(ask) => Input::Asked(from, ask),
            Body::Answer(answer) => Input::Answered(from, answer),
        };
        self.step(config, i, input);
    }

    pub fn look(&mut self, config: &Config, i: usize) {
        let seen = self.lease.as_ref().map(|s| (**s).clone());
        let sight = seen.map_or(Sight::Missing, Sight::Seen);
        self.step(config, i, Input::Lease(sight));
    }

    fn engine_steps(&mut self, config: &Config, i: usize) {
        for _ in 0..4 {
            if !self.engine_step(config, i) {
                break;
            }
        }
    }

    /// Bring an engine one step towards what its agent wants; says whether there was one.
    pub fn engine_step(&mut self, config: &Config, i: usize) -> bool {
        let node = self.node(i);
        if !node.up || node.paused {
            return false;
        }
        let engine = &mut node.engine;
        match (node.machine.wanted(), &mut engine.doing) {
            (Wanted::Unchanged, _)
            | (Wanted::Detached | Wanted::Stopped, Doing::Detached)
            | (Wanted::Stopped | Wanted::Primary { .. }, Doing::Ended) => {
                return false;
            }
            (Wanted::Initialise, _) => engine.data = true,
            (Wanted::Detached | Wanted::Stopped, doing) => *doing = Doing::Detached,
            (Wanted::Follow(ballot), doing) => {
                if *doing == Doing::Following(ballot.clone()) {
                    return false;
                }
                *doing = Doing::Following(ballot);
            }
            (
                Wanted::Primary {
                    ballot,
                    group,
                    open,
                    ..
                },
                Doing::Primary(l),
            ) if l.ballot == ballot => {
                if l.requested != group {
                    l.requested = group;
                } else if l.open != open {
                    l.open = open;
                } else {
                    return false;
                }
            }
            (Wanted::Primary { ballot, group, .. }, doing) => {
                if *doing == Doing::Detached {
                    let before = engine.log.last().map_or(0, |e| e.label);
                    let label = if config.rules.keep(Broken::SameTimelineTwice) {
                        ballot.epoch.0
                    } else {
                        before + 1
                    };
                    engine.log.push(Entry { label, write: None });
                    let recovered = engine.log.len() as u64;
                    engine.doing = Doing::Primary(Box::new(Leading {
                        ballot,
                        recovered,
                        effective: group.clone(),
                        requested: group,
                        since: recovered,
                        flushed: BTreeMap::new(),
                        open: false,
                    }));
                } else {
                    // It starts from a standstill, after its log was read to the end.
                    *doing = Doing::Detached;
                }
            }
        }
        self.see_engine(config, i);
        self.acknowledge(i);
        true
    }

    /// Every session sees the new group.
    pub fn reloaded(&mut self, config: &Config, i: usize) -> bool {
        let lsn = self.nodes[i].engine.lsn();
        let Some(leading) = self.node(i).engine.leading_mut() else {
            return false;
        };
        if leading.effective == leading.requested {
            return false;
        }
        leading.effective = leading.requested.clone();
        leading.since = lsn;
        self.see_engine(config, i);
        self.acknowledge(i);
        true
    }

    /// The write of a member reaches the API server.
    pub fn write_lease(&mut self, config: &Config, i: usize, answered: bool) {
        if let Some(write) = self.node(i).write.take() {
            let outcome = self.apply(&write);
            let input = if answered {
                outcome
            } else {
                Written::Unanswered
            };
            self.step(config, i, Input::Written(input));
        }
    }

    /// A write whose sender has given it up; it may still arrive later.
    pub fn strays(&mut self, config: &Config, i: usize) {
        let node = self.node(i);
        node.stray = node.write.take();
        self.step(config, i, Input::Written(Written::Unanswered));
    }

    pub fn apply(&mut self, write: &Write) -> Written {
        let fits = match (&write.precondition, &self.lease) {
            (Precondition::Missing, None) => true,
            (Precondition::Version(v), Some(seen)) => seen.version == *v,
            _ => false,
        };
        if !fits {
            return Written::Conflict;
        }
        self.version += 1;
        let seen = Seen {
            version: self.version.to_string().into(),
            holder: write.holder.clone(),
            charter: Some(write.charter.clone()),
            published: write.published,
            mark: write.mark,
            transitions: write.transitions,
        };
        let version = seen.version.clone();
        self.lease = Some(Cached::new(seen));
        self.published();
        Written::Done(version)
    }

    /// In `async`, what lies before the published position is covered from now on.
    fn published(&mut self) {
        let Some(seen) = &self.lease else { return };
        let Some(holder) = &seen.holder else { return };
        let Some(node) = self.nodes.iter().find(|n| n.machine.me() == holder) else {
            return;
        };
        let upto = usize::try_from(seen.published.lsn).unwrap_or(usize::MAX);
        let log = &node.engine.log[..upto.min(node.engine.log.len())];
        let ids: Vec<u8> = log.iter().filter_map(|e| e.write).collect();
        for sent in &mut self.sent {
            sent.covered |= sent.acknowledged.is_some() && ids.contains(&sent.id);
        }
    }

    /// A client writes through a member.
    pub fn client_writes(&mut self, config: &Config, i: usize) {
        let id = u8::try_from(self.sent.len()).unwrap_or(u8::MAX);
        let engine = &mut self.node(i).engine;
        let label = engine.label();
        let Some(epoch) = engine
            .leading()
            .filter(|l| l.open)
            .map(|l| l.ballot.epoch.0)
        else {
            return;
        };
        engine.log.push(Entry {
            label,
            write: Some(id),
        });
        self.sent.push(Sent {
            id,
            epoch,
            after: self.latest,
            acknowledged: None,
            covered: false,
        });
        self.see_engine(config, i);
        self.acknowledge(i);
    }

    /// A client tries a write again that it has no answer to, idempotently: if the row is there, it
    /// is told so at once.
    pub fn client_retries(&mut self, i: usize, id: u8) {
        let engine = &self.nodes[i].engine;
        let epoch = match engine.leading() {
            Some(l) if l.open && engine.holds(id) => l.ballot.epoch.0,
            _ => return,
        };
        let waits = engine.leading().is_some_and(|l| {
            [&l.effective, &l.requested]
                .into_iter()
                .flatten()
                .any(|g| g.acks > 0)
        });
        let after = self.latest;
        for sent in self.sent.iter_mut().filter(|s| s.id == id) {
            (sent.epoch, sent.after) = (epoch, after);
            sent.covered = waits;
        }
        self.acknowledged(usize::from(id), epoch);
    }

    /// A standby that streams from a primary receives and flushes what there is.
    pub fn replicate(&mut self, config: &Config, from: usize, to: usize) {
        let source = self.nodes[from].engine.clone();
        let Some(epoch) = source.leading().map(|l| l.ballot.epoch.0) else {
            return;
        };
        let follower = &self.nodes[to].engine;
        let says_more = !follower.data || follower.lost;
        self.node(to).engine.receive(&source);
        if says_more {
            self.see_engine(config, to);
        }
        let member = self.nodes[to].machine.me().member.clone();
        self.flushes.retain(|f| f.0 != member || f.1 != from);
        self.flushes.insert((member, from, epoch, source.lsn()));
        if !config.late_flushes {
            self.hear_flushes(config);
        }
    }

    fn hear_flushes(&mut self, config: &Config) {
        while let Some(flush) = self.flushes.first().cloned() {
            self.hear_flush(config, &flush);
        }
    }

    /// A primary hears that a standby has flushed.
    pub fn hear_flush(&mut self, config: &Config, flush: &(Member, usize, u64, u64)) {
        self.flushes.remove(flush);
        let (member, primary, epoch, lsn) = flush.clone();
        if self.nodes[primary].paused || !self.nodes[primary].up {
            return;
        }
        let Some(leading) = self.node(primary).engine.leading_mut() else {
            return;
        };
        if leading.ballot.epoch.0 != epoch {
            return;
        }
        let last = leading.flushed.entry(member).or_default();
        *last = lsn.max(*last);
        self.acknowledge(primary);
        self.see_engine(config, primary);
    }

    /// Tell clients of what enough have flushed. At once: that is the worst case.
    pub fn acknowledge(&mut self, i: usize) {
        let node = self.nodes[i].clone();
        let Some(leading) = node.engine.leading().filter(|_| node.up && !node.paused) else {
            return;
        };
        for at in 0..self.sent.len() {
            let sent = &self.sent[at];
            if sent.acknowledged.is_some() || sent.epoch != leading.ballot.epoch.0 {
                continue;
            }
            let Some(place) = node
                .engine
                .log
                .iter()
                .position(|e| e.write == Some(sent.id))
            else {
                continue;
            };
            let has: BTreeSet<Member> = leading
                .flushed
                .iter()
                .filter(|(_, lsn)| **lsn > place as u64)
                .map(|(m, _)| m.clone())
                .collect();
            // A session may wait for the one or for the other.
            let groups = [&leading.effective, &leading.requested];
            let by = groups
                .into_iter()
                .flatten()
                .find(|g| g.is_acknowledged_by(&has));
            if let Some(group) = by {
                self.sent[at].covered = group.acks > 0;
                self.acknowledged(at, leading.ballot.epoch.0);
            }
        }
    }

    fn acknowledged(&mut self, at: usize, epoch: u64) {
        let sent = &mut self.sent[at];
        sent.acknowledged = Some(epoch);
        if sent.after > epoch {
            self.broken = Some("P1");
        }
        self.latest = self.latest.max(epoch);
    }

    /// P2: who lets clients in has every covered write that was acknowledged under an epoch up to
    /// its own.
    pub fn lost(&self) -> bool {
        self.nodes.iter().any(|node| {
            let Some(l) = node.engine.leading().filter(|l| l.open) else {
                return false;
            };
            self.sent.iter().any(|s| {
                s.covered
                    && s.acknowledged.is_some_and(|e| e <= l.ballot.epoch.0)
                    && !node.engine.holds(s.id)
            })
        })
    }

    /// The container ends; what was not on disk is gone, and so is a write that was not sent.
    pub fn crash(&mut self, i: usize) {
        let node = self.node(i);
        node.up = false;
        node.paused = false;
        node.unsaved = None;
        node.write = None;
        node.engine.doing = Doing::Down;
        // What points at a machine that is gone is the same for all that is gone.
        self.flushes.retain(|f| f.1 != i);
    }

    /// A primary's process ends, with its memory: nothing is on its volume. Its agent sees that.
    pub fn end(&mut self, config: &Config, i: usize) {
        let engine = &mut self.node(i).engine;
        engine.log.clear();
        engine.doing = Doing::Ended;
        engine.lost = !config.tells_of_what_is_left;
        self.flushes.retain(|f| f.1 != i);
        self.see_engine(config, i);
    }

    /// It starts again in the same pod.
    pub fn start(&mut self, config: &Config, i: usize) {
        let node = self.node(i);
        node.up = true;
        node.starts += 1;
        let me = node.machine.me().member.clone();
        node.machine = machine(config, &me, node.starts, node.disk.clone());
        self.tell_peers(config, i);
        self.tell_room(config, i);
        self.see_engine(config, i);
    }

    /// The agent looks at its volume.
    pub fn tell_room(&mut self, config: &Config, i: usize) {
        self.step(config, i, Input::Room(room(config, i)));
    }

    /// The volume is lost; the instance comes back under its name with an empty one. The old pod may
    /// live on, cut off.
    pub fn replace(&mut self, config: &Config, i: usize, lives_on: bool) {
        let old = self.nodes[i].machine.me().member.clone();
        // The broken variant: the generation is not minted anew.
        let generation = if config.same_name {
            old.generation.to_string()
        } else {
            format!("{}'", old.generation)
        };
        let member = Member::new(old.name.clone(), generation);
        let mut node = Self::fresh(config, &member, false);
        node.starts = self.nodes[i].starts + 1;
        node.machine = machine(
            config,
            &node.machine.me().member.clone(),
            node.starts,
            Durable::default(),
        );
        if lives_on {
            self.nodes.push(Cached::new(node));
        } else {
            self.crash(i);
            self.nodes[i] = Cached::new(node);
        }
        let new = if lives_on { self.nodes.len() - 1 } else { i };
        self.tell_peers(config, new);
        self.see_engine(config, new);
    }

    /// Deliver what goes from one member to another.
    pub fn carry(&mut self, config: &Config, from: usize, to: usize) {
        let member = |i: usize| self.nodes[i].machine.me().member.clone();
        let (sender, receiver) = (member(from), member(to));
        for letter in self.letters.clone() {
            if letter.from == sender && letter.to == receiver {
                self.deliver(config, &letter, to);
            }
        }
    }

    /// Time passes for one member alone: long enough for anything of its own to run out.
    pub fn lapse(&mut self, config: &Config, i: usize) {
        let by = config.timing().duration;
        self.pass(config, i, by);
    }

    /// Whether a look at the Lease shows a member anything new.
    pub fn has_news(&self, i: usize) -> bool {
        if self.nodes[i].machine.wants_look(NOW) {
            return true;
        }
        match (self.nodes[i].machine.sight(), &self.lease) {
            (Some(Sight::Seen(old)), Some(new)) => old.version != new.version,
            (Some(Sight::Missing), None) => false,
            _ => true,
        }
    }

    pub fn pass(&mut self, config: &Config, i: usize, by: Duration) {
        if self.nodes[i].up {
            self.node(i).machine.age(by, floor(config));
            self.step(config, i, Input::Tick);
        }
    }

    pub fn order(&mut self, config: &Config, i: usize, to: Option<Member>) {
        self.step(config, i, Input::Order(Order::HandOver(to)));
    }

    /// The highest epoch that anybody holds.
    pub fn latest_epoch(&self) -> Option<u64> {
        let held = self.nodes.iter().filter_map(|n| n.machine.holds());
        held.map(|b| b.epoch.0).max()
    }

    /// The member that lets clients in, if one does.
    pub fn open(&self) -> Vec<usize> {
        let open = |n: &Node| n.up && !n.paused && n.engine.leading().is_some_and(|l| l.open);
        (0..self.nodes.len())
            .filter(|i| open(&self.nodes[*i]))
            .collect()
    }
}

fn floor(config: &Config) -> Moment {
    NOW.saturating_sub(config.timing().duration * 2)
}

/// Only one that is short says anything.
fn room(config: &Config, i: usize) -> Room {
    if config.full.contains(&i) {
        Room::Short
    } else {
        Room::default()
    }
}

fn machine(config: &Config, member: &Member, starts: u8, durable: Durable) -> Machine {
    let start = Start {
        me: Holder {
            member: member.clone(),
            pod: format!("{}{}", member.name, member.generation).into(),
            nonce: starts.to_string().into(),
        },
        policy: config.policy(),
        durable,
        now: NOW,
    };
    Machine::broken(start, config.rules)
}
