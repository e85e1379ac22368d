//! The set as a stateright model: every order of everything that [`Config`] allows.

use std::time::Duration;

use stateright::{Model, Property};

use crate::cached::Cached;
use crate::config::Config;
use crate::election::member::Member;
use crate::world::{Letter, Sent, World};

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happens {
    Delivered(Cached<Letter>, usize),
    Looked(usize),
    EngineMoved(usize),
    Reloaded(usize),
    Saved(usize),
    LeaseWritten(usize),
    /// It had effect, the answer was lost.
    AnswerLost(usize),
    GivenUp(usize),
    Arrived(usize),
    Lapsed(usize),
    Crashed(usize),
    Ended(usize),
    Started(usize),
    Replaced(usize, bool),
    Deleted,
    Restored,
    Written(usize),
    Retried(usize, u8),
    Streamed(usize, usize),
    Flushed((Member, usize, u64, u64)),
    PeersTold(usize),
    HandOver(usize),
    TimePassed,
    Paused(usize),
    Resumed(usize),
    ApiAway,
    ApiBack,
}

/// A model: where it begins, and what may happen.
#[derive(Clone)]
pub struct Set {
    pub config: Config,
    pub begin: World,
}

impl Set {
    /// A set that has formed: a primary that lets clients in, all others streaming.
    pub fn formed(config: Config) -> Self {
        let calm = Config {
            slow_disks: false,
            late_flushes: false,
            eager_engines: true,
            ..config
        };
        let mut begin = World::new(&calm);
        crate::fair::settle(&calm, &mut begin);
        assert_eq!(begin.open(), [0], "{begin:#?}");
        begin.backup.clone_from(&begin.lease);
        if config.writes > 0 {
            begin.client_writes(&calm, 0);
        }
        (config.before)(&calm, &mut begin);
        for i in config.expired {
            begin.lapse(&calm, *i);
        }
        begin.letters.clear();
        begin.seal();
        Self { config, begin }
    }

    fn happen(&self, world: &mut World, action: Happens) {
        let config = &self.config;
        match action {
            Happens::Delivered(letter, i) => world.deliver(config, &letter, i),
            Happens::Looked(i) => world.look(config, i),
            Happens::EngineMoved(i) => {
                world.engine_step(config, i);
            }
            Happens::Reloaded(i) => {
                world.reloaded(config, i);
            }
            Happens::Saved(i) => world.save(config, i),
            Happens::LeaseWritten(i) => world.write_lease(config, i, true),
            Happens::AnswerLost(i) => {
                world.spent.lost += 1;
                world.write_lease(config, i, false);
            }
            Happens::GivenUp(i) => {
                world.spent.lost += 1;
                world.strays(config, i);
            }
            Happens::Arrived(i) => {
                if let Some(write) = world.node(i).stray.take() {
                    world.apply(&write);
                }
            }
            Happens::Lapsed(i) => {
                world.spent.lapses += 1;
                world.lapse(config, i);
            }
            Happens::Crashed(i) => {
                world.spent.crashes += 1;
                world.crash(i);
            }
            Happens::Ended(i) => {
                world.spent.ended += 1;
                world.end(config, i);
            }
            Happens::Started(i) => world.start(config, i),
            Happens::Replaced(i, lives_on) => {
                world.spent.replaced += 1;
                world.replace(config, i, lives_on);
            }
            Happens::Deleted => {
                world.spent.deleted += 1;
                world.lease = None;
            }
            Happens::Restored => {
                world.spent.restored += 1;
                world.version += 1;
                world.lease.clone_from(&world.backup);
                if let Some(seen) = &mut world.lease {
                    let seen = seen.change();
                    seen.version = world.version.to_string().into();
                }
            }
            Happens::Written(i) => world.client_writes(config, i),
            Happens::Retried(i, id) => world.client_retries(i, id),
            Happens::Streamed(from, to) => world.replicate(config, from, to),
            Happens::Flushed(flush) => world.hear_flush(config, &flush),
            Happens::PeersTold(i) => world.tell_peers(config, i),
            Happens::HandOver(i) => {
                world.spent.orders += 1;
                world.order(config, i, None);
            }
            Happens::TimePassed => self.time_passes(world),
            Happens::Paused(i) => {
                world.spent.pauses += 1;
                world.node(i).paused = true;
            }
            Happens::Resumed(i) => {
                world.node(i).paused = false;
                // The watchdog comes first.
                world.pass(config, i, Duration::ZERO);
                world.see_engine(config, i);
            }
            Happens::ApiAway => {
                world.spent.outages += 1;
                world.away = true;
            }
            Happens::ApiBack => world.away = false,
        }
        if world.lost() {
            world.broken.get_or_insert("P2");
        }
        world.seal();
    }

    /// One unit of time for everybody, on clocks of different rates.
    fn time_passes(&self, world: &mut World) {
        world.time += 1;
        let Some(rates) = self.config.rates else {
            return;
        };
        for i in 0..world.nodes.len() {
            let rate = Duration::from_millis(rates[i % rates.len()].into());
            world.pass(&self.config, i, rate);
            world.see_engine(&self.config, i);
        }
    }

    fn of_node(&self, world: &World, i: usize, all: &mut Vec<Happens>) {
        let config = &self.config;
        let spent = &world.spent;
        let node = &world.nodes[i];
        if !node.up {
            all.push(Happens::Started(i));
            return;
        }
        if node.paused {
            all.push(Happens::Resumed(i));
            return;
        }
        if !world.away {
            if world.has_news(i) {
                all.push(Happens::Looked(i));
            }
            if node.write.is_some() {
                all.push(Happens::LeaseWritten(i));
                if spent.lost < config.lost {
                    all.push(Happens::AnswerLost(i));
                    all.push(Happens::GivenUp(i));
                }
            }
            if node.stray.is_some() {
                all.push(Happens::Arrived(i));
            }
        } else if node.write.is_some() {
            all.push(Happens::GivenUp(i));
        }
        if !config.eager_engines {
            all.push(Happens::EngineMoved(i));
        }
        if node.unsaved.is_some() {
            all.push(Happens::Saved(i));
        }
        if world.knows_old_peers(config, i) {
            all.push(Happens::PeersTold(i));
        }
        if config.rates.is_none() && spent.lapses < config.lapses {
            all.push(Happens::Lapsed(i));
        }
        if spent.crashes < config.crashes {
            all.push(Happens::Crashed(i));
        }
        if spent.replaced < config.replaced {
            all.push(Happens::Replaced(i, false));
            if config.lives_on {
                all.push(Happens::Replaced(i, true));
            }
        }
        if spent.pauses < config.pauses {
            all.push(Happens::Paused(i));
        }
        if let Some(leading) = node.engine.leading() {
            if spent.ended < config.ends {
                all.push(Happens::Ended(i));
            }
            if leading.effective != leading.requested {
                all.push(Happens::Reloaded(i));
            }
            if leading.open && world.sent.len() < config.writes {
                all.push(Happens::Written(i));
            }
            if leading.open && config.retries {
                // One that waits in this very engine keeps its repetition waiting too.
                let old = |s: &&Sent| {
                    let at = node.engine.log.iter().position(|e| e.write == Some(s.id));
                    at.is_some_and(|at| (at as u64) < leading.recovered)
                };
                let open = world.sent.iter().filter(|s| s.acknowledged.is_none());
                all.extend(open.filter(old).map(|s| Happens::Retried(i, s.id)));
            }
            if spent.orders < config.orders {
                all.push(Happens::HandOver(i));
            }
            for to in 0..world.nodes.len() {
                let follower = &world.nodes[to];
                let follows = crate::engine::Doing::Following(leading.ballot.clone());
                let news = follower.engine.log != node.engine.log
                    || !follower.engine.data
                    || !leading.flushed.contains_key(&follower.machine.me().member);
                if follower.up && !follower.paused && follower.engine.doing == follows && news {
                    all.push(Happens::Streamed(i, to));
                }
            }
        }
    }
}

impl Model for Set {
    type State = World;
    type Action = Happens;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin.clone()]
    }

    fn actions(&self, world: &World, all: &mut Vec<Happens>) {
        if world.broken.is_some() {
            return;
        }
        for i in 0..world.nodes.len() {
            self.of_node(world, i, all);
        }
        for letter in &world.letters {
            for i in world.whose(&letter.to) {
                all.push(Happens::Delivered(letter.clone(), i));
            }
        }
        all.extend(world.flushes.iter().cloned().map(Happens::Flushed));
        let config = &self.config;
        if world.spent.deleted < config.deleted && world.lease.is_some() {
            all.push(Happens::Deleted);
        }
        if world.spent.restored < config.restored {
            all.push(Happens::Restored);
        }
        if config.rates.is_some() && world.time < config.time {
            all.push(Happens::TimePassed);
        }
        if world.away {
            all.push(Happens::ApiBack);
        } else if world.spent.outages < config.outages {
            all.push(Happens::ApiAway);
        }
    }

    fn next_state(&self, last: &World, action: Happens) -> Option<World> {
        let mut world = last.clone();
        self.happen(&mut world, action);
        (world != *last).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world
            .nodes
            .iter()
            .all(|n| n.machine.memory().epoch().0 <= self.config.epochs)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "P1: no later acknowledgement under an earlier epoch",
                |_, w: &World| w.broken != Some("P1"),
            ),
            Property::always("P2: no covered write is lost", |_, w: &World| {
                w.broken != Some("P2")
            }),
            Property::sometimes("a write is acknowledged", |_, w: &World| {
                w.sent.iter().any(|s| s.covered)
            }),
            Property::sometimes("another epoch lets clients in", |_, w: &World| {
                w.nodes
                    .iter()
                    .filter_map(|n| n.engine.leading())
                    .any(|l| l.open && l.ballot.epoch.0 > 1)
            }),
            Property::always("one epoch has one holder", |_, w: &World| {
                let mut of = std::collections::BTreeMap::new();
                w.nodes
                    .iter()
                    .filter_map(|n| n.machine.holds())
                    .all(|b| *of.entry(b.epoch).or_insert(&b.holder) == &b.holder)
            }),
        ]
    }
}
