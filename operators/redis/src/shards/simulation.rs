//! A model of members and their gossip, in which the planner works, its executor is broken off anywhere, and primaries
//! are lost.

use std::collections::{BTreeMap, BTreeSet};

use self::engine::Engine;
use super::migrate::{Next, Way, together};
use super::picture::{Member, Picture, Presence};
use super::plan::{Act, Failover, Move, Plan, Spec, plan};
use super::repair::unowned;
use super::slots::SlotSet;
use super::topology::{Address, Bears, Health, Node, NodeId, Role};
use crate::backup::shards::SLOTS;

#[path = "simulation_engine.rs"]
mod engine;
#[path = "simulation_restored.rs"]
mod restored;
#[path = "simulation_tests.rs"]
mod tests;

/// Slots in which there are keys.
const STRIDE: u16 = 97;

pub(super) struct World {
    pub(super) spec: Spec,
    pub(super) engines: Vec<Engine>,
    pub(super) next: u32,
    /// Which version members have when they are made anew.
    version: (u32, u32),
}

impl World {
    pub(super) fn new(shards: usize, replicas: usize) -> Self {
        let spec = Spec {
            shards,
            replicas,
            persistent: true,
            formed: false,
            restores: false,
        };
        let mut it = Self {
            spec,
            engines: Vec::new(),
            next: 1,
            version: (7, 0),
        };
        it.grow(shards * (1 + replicas));
        it
    }

    fn grow(&mut self, members: usize) {
        while self.engines.iter().filter(|e| !e.leaving).count() < members {
            let n = self.next;
            self.next += 1;
            let zone = ["a", "b", "c"][n as usize % 3];
            self.engines.push(Engine {
                version: self.version,
                ..Engine::new(n, n, zone)
            });
        }
    }

    /// Another version is asked for.
    fn change_version(&mut self) {
        self.version.0 += 1;
        self.engines.iter_mut().for_each(|e| e.outdated = true);
    }

    pub(super) fn scale(&mut self, shards: usize) {
        let members = shards * (1 + self.spec.replicas);
        self.spec.shards = shards;
        let staying = self.engines.iter_mut().filter(|e| !e.leaving);
        staying
            .skip(members)
            .for_each(|engine| engine.leaving = true);
        self.grow(members);
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let running = self.engines.iter().filter(|e| e.runs);
        let open: BTreeSet<u16> = running
            .flat_map(|e| e.me().migrating.keys().chain(e.me().importing.keys()))
            .copied()
            .collect();
        let member = |engine: &Engine| Member {
            name: engine.name.clone(),
            zone: Some(engine.zone.to_owned()),
            address: engine.address.clone(),
            moved: false,
            leaving: engine.leaving,
            going: false,
            outdated: engine.outdated,
            version: Some(engine.version),
            presence: if engine.runs {
                Presence::Seen(Box::new(engine.view(&open)))
            } else if engine.leaving || engine.zone != "b" {
                Presence::Gone {
                    seconds: 60,
                    data: true,
                }
            } else {
                Presence::Ended("nobody listens".to_owned())
            },
        };
        self.engines.iter().map(member).collect()
    }

    fn at(&mut self, name: &str) -> &mut Engine {
        self.engines.iter_mut().find(|e| e.name == name).unwrap()
    }

    fn place(&self, name: &str) -> usize {
        self.engines.iter().position(|e| e.name == name).unwrap()
    }

    /// Everybody hears everybody whom it knows and finds; replicas receive.
    pub(super) fn gossip(&mut self) {
        for _ in 0..2 {
            self.links();
            let told: Vec<(Node, Address, Vec<Node>, bool)> = self
                .engines
                .iter()
                .map(|e| {
                    (
                        e.me().clone(),
                        e.address.clone(),
                        e.knows.values().cloned().collect(),
                        e.runs,
                    )
                })
                .collect();
            for engine in self.engines.iter_mut().filter(|e| e.runs) {
                for (me, address, others, runs) in &told {
                    let linked = engine.knows.get(&me.id).is_some_and(|n| n.linked);
                    if !runs || me.id == engine.id || !linked {
                        continue;
                    }
                    engine.hear(me, address);
                    for other in others {
                        let news = !engine.knows.contains_key(&other.id)
                            && !engine.banned.contains(&other.id);
                        let there = told.iter().find(|t| t.0.id == other.id && t.3);
                        if let Some((_, address, ..)) = there.filter(|_| news) {
                            let other = Node {
                                myself: false,
                                migrating: BTreeMap::new(),
                                importing: BTreeMap::new(),
                                slots: SlotSet::default(),
                                address: Some(address.clone()),
                                ..other.clone()
                            };
                            engine.knows.insert(other.id.clone(), other);
                        }
                    }
                }
            }
        }
        let primaries: BTreeMap<NodeId, _> = self
            .engines
            .iter()
            .filter(|e| e.runs && e.is_primary())
            .map(|e| {
                let has = (e.keys.clone(), e.offset, e.bears.clone());
                (e.id.clone(), (has, e.version))
            })
            .collect();
        for engine in self.engines.iter_mut().filter(|e| e.runs) {
            let received = engine.primary().and_then(|p| primaries.get(p)).cloned();
            let newer = |(_, version): &(_, (u32, u32))| *version > engine.version;
            if received.as_ref().is_some_and(newer) {
                // What it has is given up for what it cannot read.
                engine.keys.clear();
                engine.synced = false;
            } else if let Some(((keys, offset, bears), _)) = received {
                engine.keys = keys;
                engine.bears = bears;
                engine.offset = offset;
                engine.synced = true;
            } else {
                engine.synced = false;
            }
        }
        self.check();
    }

    fn links(&mut self) {
        let there: Vec<(NodeId, Address, bool, BTreeSet<NodeId>)> = self
            .engines
            .iter()
            .map(|e| {
                (
                    e.id.clone(),
                    e.address.clone(),
                    e.runs,
                    e.knows.keys().cloned().collect(),
                )
            })
            .collect();
        for engine in self.engines.iter_mut().filter(|e| e.runs) {
            let mine = engine.id.clone();
            for node in engine.knows.values_mut().filter(|n| !n.myself) {
                let found = there.iter().find(|(id, address, runs, knows)| {
                    *id == node.id
                        && *runs
                        && node.address.as_ref() == Some(address)
                        && knows.contains(&mine)
                });
                node.linked = found.is_some();
                node.health = if node.linked {
                    Health::Fine
                } else {
                    Health::Failed
                };
            }
        }
    }

    /// The engine's own election.
    pub(super) fn elect(&mut self) {
        let all: Vec<NodeId> = self
            .engines
            .iter()
            .filter(|e| e.is_primary() && !e.me().slots.is_empty())
            .map(|e| e.id.clone())
            .collect();
        let runs = |id: &NodeId| self.engines.iter().any(|e| e.id == *id && e.runs);
        let lost: Vec<NodeId> = all.iter().filter(|id| !runs(id)).cloned().collect();
        if (all.len() - lost.len()) * 2 <= all.len() {
            return;
        }
        for primary in lost {
            let heirs = self.engines.iter().enumerate();
            let version = self
                .engines
                .iter()
                .find(|e| e.id == primary)
                .unwrap()
                .version;
            // One that has never received does not stand.
            let heir = heirs
                .filter(|(_, e)| e.runs && e.primary() == Some(&primary) && e.version >= version)
                .max_by_key(|(_, e)| e.offset);
            if let Some(at) = heir.map(|(at, _)| at) {
                self.promote(at);
            }
        }
    }

    fn promote(&mut self, at: usize) {
        let epoch = self.epoch() + 1;
        let Some(primary) = self.engines[at].primary().cloned() else {
            return;
        };
        let engine = &mut self.engines[at];
        let slots = std::mem::take(&mut engine.knows.get_mut(&primary).unwrap().slots);
        let me = engine.me_mut();
        me.role = Role::Primary;
        me.slots = slots;
        me.epoch = epoch;
    }

    fn epoch(&self) -> u64 {
        self.engines.iter().map(|e| e.me().epoch).max().unwrap_or(0)
    }

    fn kill(&mut self, at: usize) {
        self.engines[at].runs = false;
        self.gossip();
        self.elect();
        self.gossip();
    }

    /// All that do not run come back, with another address if so.
    fn revive(&mut self, moved: bool) {
        for engine in self.engines.iter_mut().filter(|e| !e.runs) {
            engine.runs = true;
            if moved {
                engine.address.host = format!("{}.1", engine.address.host);
                let address = engine.address.clone();
                engine.me_mut().address = Some(address);
            }
        }
        self.gossip();
        self.gossip();
    }

    /// Nobody has a slot that another has, but for one that has let it go and has no key of it; and nobody's slot is lost.
    fn check(&self) {
        let mut all = SlotSet::default();
        let mut twice = SlotSet::default();
        for engine in self.engines.iter().filter(|e| e.is_primary()) {
            let slots = &engine.me().slots;
            twice.extend(&all.and(slots));
            all.extend(slots);
        }
        for slot in twice.iter() {
            let mut owners: Vec<&Engine> = self
                .engines
                .iter()
                .filter(|e| e.runs && e.owns(slot))
                .collect();
            owners.sort_by_key(|e| std::cmp::Reverse(e.me().epoch));
            for older in owners.into_iter().skip(1) {
                let let_go = older.me().migrating.contains_key(&slot);
                let empty = older.keys.get(&slot).is_none_or(BTreeSet::is_empty);
                assert!(
                    let_go && empty,
                    "slot {slot} has two owners, one is {}",
                    older.name
                );
            }
        }
        if self.spec.formed {
            assert_eq!(all.len(), usize::from(SLOTS), "a slot has no owner");
        }
    }

    pub(super) fn fill(&mut self) {
        for engine in self.engines.iter_mut().filter(|e| e.is_primary()) {
            let slots: Vec<u16> = engine
                .me()
                .slots
                .iter()
                .filter(|s| s % STRIDE == 0)
                .collect();
            for slot in slots {
                engine.keys.insert(slot, BTreeSet::from([1, 2, 3]));
            }
            engine.offset += 10;
        }
        self.gossip();
    }

    fn assert_keys(&self) {
        for slot in (0..SLOTS).filter(|s| s % STRIDE == 0) {
            let owner = self
                .engines
                .iter()
                .find(|e| e.runs && e.owns(slot))
                .unwrap();
            assert_eq!(
                owner.keys.get(&slot).map(BTreeSet::len),
                Some(3),
                "keys of slot {slot}"
            );
        }
    }

    /// Carries out what is planned, until `steps` are used up.
    pub(super) fn execute(&mut self, plan: Plan, steps: &mut usize) {
        for act in plan.harmless.into_iter().chain(plan.disruptive) {
            if *steps == 0 {
                return;
            }
            *steps -= 1;
            self.act(act, steps);
            self.check();
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each act")]
    fn act(&mut self, act: Act, steps: &mut usize) {
        match act {
            Act::Meet { at, address } => {
                let found = self
                    .engines
                    .iter()
                    .position(|e| e.runs && e.address == address);
                let at = self.place(&at);
                if let Some(other) = found {
                    for (one, two) in [(at, other), (other, at)] {
                        let two = self.engines[two].introduced();
                        let one = &mut self.engines[one];
                        one.banned.remove(&two.id);
                        let address = two.address.clone();
                        one.knows
                            .entry(two.id.clone())
                            .or_insert(two.clone())
                            .address = address;
                    }
                }
            }
            Act::Forget { at, node } => {
                let member = self.engines.iter().find(|e| e.id == node);
                assert!(member.is_none_or(|e| e.leaving), "a member is forgotten");
                let engine = self.at(&at);
                let known = engine.knows.remove(&node).unwrap();
                assert!(known.slots.is_empty(), "who owns slots is forgotten");
                assert!(
                    engine.primary() != Some(&node),
                    "a replica forgets its primary"
                );
                engine.banned.insert(node);
            }
            Act::Claim { at, slots } => {
                let taken: Vec<NodeId> = self.engines.iter().map(|e| e.id.clone()).collect();
                let engine = self.at(&at);
                for range in slots {
                    for slot in range.first..=range.last {
                        assert!(taken.iter().all(|id| {
                            engine.knows.get(id).is_none_or(|n| !n.slots.contains(slot))
                        }));
                        engine.me_mut().slots.insert(slot);
                    }
                }
                let epoch = self.epoch() + 1;
                self.at(&at).me_mut().epoch = epoch;
            }
            Act::Mark { at, set } => {
                let engine = self.at(&at);
                assert!(engine.is_primary() && engine.bears == Bears::Nothing);
                engine.bears = Bears::Set(set);
            }
            Act::Replicate { at, primary } => {
                let engine = self.at(&at);
                assert!(
                    engine.me().slots.is_empty(),
                    "who owns slots is made a replica"
                );
                assert!(!engine.is_primary() || engine.keys.values().all(BTreeSet::is_empty));
                assert!(engine.knows[&primary].role == Role::Primary);
                engine.follow(&primary);
            }
            Act::Stable { at, slot } => {
                let me = self.at(&at).me_mut();
                me.migrating.remove(&slot);
                me.importing.remove(&slot);
            }
            Act::Failover { at, how } => {
                let place = self.place(&at);
                let primary = self.engines[place].primary().cloned().unwrap();
                let primary = self.engines.iter().find(|e| e.id == primary).unwrap();
                assert_eq!(
                    primary.runs,
                    how == Failover::Planned,
                    "by force only from one that does not run"
                );
                assert!(how != Failover::Planned || self.engines[place].synced);
                assert!(self.engines[place].version >= primary.version);
                self.promote(place);
                self.gossip();
            }
            Act::Moves(moves) => {
                for same in moves.chunk_by(|a, b| (&a.from, &a.to) == (&b.from, &b.to)) {
                    for some in same.chunks(5) {
                        if !self.migrate(some, steps) {
                            return;
                        }
                        self.check();
                    }
                }
            }
            Act::Restart { member } => {
                let place = self.place(&member);
                let newer = |e: &Engine| {
                    Some(&e.id) == self.engines[place].primary()
                        && e.version > self.engines[place].version
                };
                let superseded = self.engines.iter().any(newer);
                let version = self.version;
                let engine = &mut self.engines[place];
                assert!(
                    engine.me().slots.is_empty() || self.spec.replicas == 0,
                    "who owns slots is restarted"
                );
                if superseded {
                    *engine = engine.anew(self.next);
                    self.next += 1;
                }
                engine.outdated = false;
                engine.synced = false;
                engine.version = version;
            }
            Act::Remove { member } => {
                let place = self.place(&member);
                let engine = self.engines.remove(place);
                assert!(
                    engine.leaving && engine.me().slots.is_empty(),
                    "who owns slots is removed"
                );
                if engine.is_primary() {
                    assert!(
                        engine.keys.values().all(BTreeSet::is_empty),
                        "who has keys is removed"
                    );
                }
            }
        }
    }

    fn way(&self, from: usize, to: usize, slot: u16) -> Way {
        let (s, t) = (&self.engines[from], &self.engines[to]);
        Way {
            arrived: t.owns(slot),
            importing: t.me().importing.get(&slot) == Some(&s.id),
            migrating: s.me().migrating.get(&slot) == Some(&t.id),
            emptied: false,
            released: !s.owns(slot),
        }
    }

    /// Slots of the same two together, broken off between any two of their steps.
    fn migrate(&mut self, some: &[Move], steps: &mut usize) -> bool {
        let (from, to) = (self.place(&some[0].from), self.place(&some[0].to));
        let way = |step: &Move| self.way(from, to, step.slot);
        let mut ways: Vec<Way> = some.iter().map(way).collect();
        loop {
            let (next, which) = together(&ways).unwrap();
            if next == Next::Tell {
                return true;
            }
            // They are all asked at once.
            let has = |at: &usize| !self.has_none(from, some[*at].slot);
            if next == Next::Keys && !which.iter().any(has) {
                for at in &which {
                    ways[*at].done(next);
                }
                continue;
            }
            for at in which {
                if *steps == 0 {
                    return false;
                }
                *steps -= 1;
                self.step(next, (from, to), some[at].slot, *steps == 0);
                if next != Next::Keys {
                    ways[at].done(next);
                }
            }
        }
    }

    fn has_none(&self, at: usize, slot: u16) -> bool {
        let keys = self.engines[at].keys.get(&slot);
        keys.is_none_or(BTreeSet::is_empty)
    }

    /// One step of one slot; what is `last` is broken off when half of it is done.
    fn step(&mut self, next: Next, (from, to): (usize, usize), slot: u16, last: bool) {
        let (source, target) = (self.engines[from].id.clone(), self.engines[to].id.clone());
        match next {
            Next::Import => {
                let me = self.engines[to].me_mut();
                me.importing.insert(slot, source);
            }
            Next::Migrate => {
                assert!(self.engines[from].owns(slot));
                let me = self.engines[from].me_mut();
                me.migrating.insert(slot, target);
            }
            Next::Keys => {
                // Of what was moved, broken off, both may have it.
                let mut keys = self.engines[from].keys.remove(&slot).unwrap_or_default();
                if let Some(one) = keys.pop_first() {
                    self.engines[to].keys.entry(slot).or_default().insert(one);
                    if last {
                        keys.insert(one);
                    }
                }
                self.engines[from].keys.insert(slot, keys);
            }
            Next::Take => {
                assert!(
                    self.has_none(from, slot),
                    "a slot is taken from one with keys"
                );
                let epoch = self.epoch() + 1;
                let engine = &mut self.engines[to];
                let old = engine.knows.get_mut(&source).unwrap();
                old.slots.remove(slot);
                let me = engine.me_mut();
                me.importing.remove(&slot);
                me.slots.insert(slot);
                me.epoch = epoch;
            }
            Next::Release => {
                let engine = &mut self.engines[from];
                let me = engine.me_mut();
                me.slots.remove(slot);
                me.migrating.remove(&slot);
                engine.knows.get_mut(&target).unwrap().slots.insert(slot);
            }
            Next::Tell => {}
        }
    }

    /// Passes until nothing is left to do. Each is broken off after so many steps; the last of them apply to all others.
    pub(super) fn settle(&mut self, broken: &[usize]) {
        let mut broken = broken.iter();
        for pass in 0..400 {
            self.gossip();
            let members = self.members();
            if self.spec.restores {
                self.spec.formed |= unowned(&Picture::of(&members)).is_empty();
            }
            let plan = plan(self.spec, &members);
            if plan.is_settled() {
                self.spec.formed = true;
                self.check();
                return;
            }
            assert!(pass < 390, "it does not settle: {plan:?}");
            let mut steps = broken.next().copied().unwrap_or(usize::MAX);
            self.execute(plan, &mut steps);
        }
    }

    fn assert_as_asked(&self) {
        let mut borne = self.engines.iter().map(|e| &e.bears);
        let first = borne.next().unwrap();
        assert!(matches!(first, Bears::Set(_)) && borne.all(|b| b == first));
        assert!(self.engines.iter().all(|e| !e.leaving && !e.outdated));
        let primaries: Vec<&Engine> = self
            .engines
            .iter()
            .filter(|e| !e.me().slots.is_empty())
            .collect();
        assert_eq!(primaries.len(), self.spec.shards);
        let share = usize::from(SLOTS) / self.spec.shards;
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for primary in &primaries {
            assert!((share..=share + 1).contains(&primary.me().slots.len()));
            let replicas = self
                .engines
                .iter()
                .filter(|e| e.primary() == Some(&primary.id));
            let replicas: Vec<&Engine> = replicas.collect();
            assert_eq!(replicas.len(), self.spec.replicas);
            let all: BTreeSet<&str> = replicas
                .iter()
                .map(|e| e.zone)
                .chain([primary.zone])
                .collect();
            assert_eq!(
                all.len(),
                (1 + self.spec.replicas).min(3),
                "zones of a shard"
            );
            *zones.entry(primary.zone).or_default() += 1;
        }
        let (most, least) = (zones.values().max(), zones.values().min());
        if self.spec.replicas > 0 && zones.len() == 3 {
            assert!(
                most.unwrap() - least.unwrap() <= 1,
                "primaries are in {zones:?}"
            );
        }
        let nodes: BTreeSet<&NodeId> = self.engines.iter().flat_map(|e| e.knows.keys()).collect();
        assert_eq!(nodes.len(), self.engines.len(), "nobody else is known");
    }
}
