//! Several machines on one simulated API server: clocks of different rates, requests and answers
//! that are late or lost, Leases deleted and touched by others, processes that restart.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;

use super::machine::{Action, Input, Machine, Purpose, Seen, Write};
use super::{Timing, clock::Moment};

const TICK: Duration = Duration::from_millis(50);

/// A reproducible source of chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        odds > 0 && self.below(odds) == 0
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(limit.as_millis()).unwrap() + 1))
    }
}

/// The one Lease, linearised.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    uid: u64,
}

impl Server {
    fn put(&mut self, write: &Write, wall: i64) -> Input {
        let wall = jiff::Timestamp::from_microsecond(wall).unwrap();
        let mut object = write.object("ns", "lease", std::collections::BTreeMap::new(), wall);
        let of = |lease: &Lease| {
            (
                lease.metadata.uid.clone(),
                lease.metadata.resource_version.clone(),
            )
        };
        match &self.lease {
            Some(stands) if of(stands) != of(&object) => return Input::Conflict,
            None if object.metadata.uid.is_some() => return Input::Conflict,
            Some(_) => {}
            None => {
                self.uid += 1;
                object.metadata.uid = Some(self.uid.to_string());
            }
        }
        self.touch(&mut object);
        self.lease = Some(object.clone());
        Input::Written(Seen(object))
    }

    fn touch(&mut self, lease: &mut Lease) {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
    }

    fn annotate(&mut self) {
        if let Some(mut lease) = self.lease.take() {
            self.touch(&mut lease);
            self.lease = Some(lease);
        }
    }
}

#[allow(clippy::large_enum_variant)] // a handful exist
enum Job {
    Sleeping {
        until: Moment,
    },
    /// A request that will reach the server, or not, and be answered, or not.
    Asking {
        action: Action,
        arrives: Option<Moment>,
        answer: Option<(Moment, Input)>,
        gives_up: Moment,
    },
}

struct Node {
    machine: Machine,
    /// Thousandths of the rate of real time.
    rate: u32,
    offset: Moment,
    job: Job,
    /// Writes that were given up but are still on their way.
    stray: Vec<(Moment, Action)>,
    /// Until then no answer reaches it, and few of its requests the server.
    cut_until: Moment,
    lives: u64,
    name: u64,
}

impl Node {
    fn clock(&self, real: Moment) -> Moment {
        self.offset + real * self.rate / 1000
    }

    fn real(&self, span: Duration) -> Duration {
        span * 1000 / self.rate
    }
}

struct World {
    chance: Chance,
    server: Server,
    nodes: Vec<Node>,
    /// One in so many requests suffers; 0 for none.
    faults: u64,
    /// One in so many turns somebody deletes the Lease, annotates it.
    deletes: u64,
    annotates: u64,
    now: Moment,
    epochs: Vec<(i32, u64, u64)>,
}

impl World {
    fn new(seed: u64, rates: &[u32], faults: u64) -> Self {
        let node = |(name, rate): (usize, &u32)| Node {
            machine: Machine::new(format!("{name}/0"), Timing::OPERATOR, true),
            rate: *rate,
            offset: Duration::from_secs(1000 * name as u64),
            job: Job::Sleeping {
                until: Moment::ZERO,
            },
            stray: vec![],
            cut_until: Moment::ZERO,
            lives: 0,
            name: name as u64,
        };
        Self {
            chance: Chance(seed | 1),
            server: Server::default(),
            nodes: rates.iter().enumerate().map(node).collect(),
            faults,
            deletes: 0,
            annotates: 0,
            now: Moment::ZERO,
            epochs: vec![],
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += TICK;
            if self.chance.one_in(self.deletes) {
                self.server.lease = None;
            }
            if self.chance.one_in(self.annotates) {
                self.server.annotate();
            }
            for index in 0..self.nodes.len() {
                self.turn(index);
            }
            self.check();
        }
    }

    fn turn(&mut self, index: usize) {
        let (now, faults) = (self.now, self.faults);
        let node = &mut self.nodes[index];
        if self.chance.one_in(faults * 400) {
            node.lives += 1;
            node.machine = Machine::new(
                format!("{}/{}", node.name, node.lives),
                Timing::OPERATOR,
                true,
            );
            node.job = Job::Sleeping {
                until: now + self.chance.up_to(Duration::from_secs(20)),
            };
        }
        if self.chance.one_in(faults * 60) {
            node.cut_until = now + self.chance.up_to(Duration::from_secs(40));
        }
        let (arrived, waiting) = std::mem::take(&mut node.stray)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        node.stray = waiting;
        let arrived: Vec<(Moment, Action)> = arrived;
        for (_, action) in arrived {
            serve(&mut self.server, &action, now);
        }
        let node = &mut self.nodes[index];
        let input = match &mut node.job {
            Job::Sleeping { until } => (*until <= now).then_some(Input::Woke),
            Job::Asking {
                action,
                arrives,
                answer,
                gives_up,
            } => {
                if arrives.is_some_and(|at| at <= now) {
                    *arrives = None;
                    let got = serve(&mut self.server, action, now);
                    if let Some((_, slot)) = answer {
                        *slot = got;
                    }
                }
                if *gives_up <= now {
                    if let Some(at) = *arrives {
                        node.stray.push((at, action.clone()));
                    }
                    Some(Input::Unanswered)
                } else {
                    answer.take_if(|(at, _)| *at <= now).map(|(_, input)| input)
                }
            }
        };
        let Some(input) = input else { return };
        let clock = node.clock(now);
        node.job = match node.machine.step(input, clock) {
            Action::Sleep(span) => Job::Sleeping {
                until: now + node.real(span),
            },
            action => {
                let there = self.chance.up_to(Duration::from_millis(200));
                let back = self.chance.up_to(Duration::from_millis(200));
                let late = |chance: &mut Chance, usual| {
                    let slow = chance.one_in(faults);
                    usual
                        + if slow {
                            chance.up_to(Duration::from_secs(12))
                        } else {
                            Duration::ZERO
                        }
                };
                let comes = now + late(&mut self.chance, there);
                let answered = comes + late(&mut self.chance, back);
                let cut = node.cut_until > now;
                let lost = self.chance.one_in(faults) || (cut && !self.chance.one_in(4));

                let silent = lost || cut || self.chance.one_in(faults);
                Job::Asking {
                    action,
                    arrives: (!lost).then_some(comes),
                    answer: (!silent).then_some((answered, Input::Unanswered)),
                    gives_up: now + node.real(node.machine.budget(clock)),
                }
            }
        };
    }

    fn holders(&self) -> Vec<usize> {
        let held = |n: &Node| n.machine.held(n.clock(self.now)).is_some();
        (0..self.nodes.len())
            .filter(|i| held(&self.nodes[*i]))
            .collect()
    }

    fn check(&mut self) {
        let holders = self.holders();
        assert!(holders.len() <= 1, "{holders:?} hold at {:?}", self.now);
        for index in holders {
            let node = &self.nodes[index];
            let held = node.machine.held(node.clock(self.now)).unwrap();
            let entry = (held.epoch, node.name, node.lives);
            if self.epochs.last() != Some(&entry) {
                self.epochs.push(entry);
            }
        }
    }
}

fn serve(server: &mut Server, action: &Action, now: Moment) -> Input {
    match action {
        Action::Read => Input::Read(server.lease.clone().map(Seen)),
        // Wall clocks that make no sense: nothing may depend on them.
        Action::Write(write) => server.put(
            write,
            i64::try_from((now.as_micros() * 7919) % 1_000_000_000_007).unwrap(),
        ),
        Action::Sleep(_) => Input::Woke,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn there_are_never_two_holders_whatever_is_late_or_lost(
        seed in any::<u64>(),
        rates in prop::collection::vec(prop_oneof![Just(900), 900..1150_u32, Just(1149)], 2..4),
        faults in 2_u64..40,
        deletes in prop_oneof![Just(0), 40_u64..2000],
        annotates in prop_oneof![Just(0), 40_u64..2000],
    ) {
        let mut world = World::new(seed, &rates, faults);
        (world.deletes, world.annotates) = (deletes, annotates);
        world.run(Duration::from_mins(10));
        // And when all is well again, one holds it, and keeps it.
        (world.faults, world.deletes, world.annotates) = (0, 0, 0);
        world.run(Duration::from_secs(90));
        let before = world.holders();
        prop_assert_eq!(before.len(), 1);
        world.run(Duration::from_mins(1));
        prop_assert_eq!(world.holders(), before);
    }
}

#[test]
fn without_faults_the_first_holder_keeps_one_epoch_for_ever() {
    let mut world = World::new(7, &[1000, 1000, 1000], 0);
    world.run(Duration::from_mins(10));
    assert_eq!(world.epochs.len(), 1, "{:?}", world.epochs);
}

#[test]
fn a_free_lease_is_taken_at_once_and_a_missing_one_after_a_full_duration() {
    let mut world = World::new(7, &[1000], 0);
    world.run(Duration::from_secs(14));
    assert_eq!(world.holders().len(), 0);
    world.run(Duration::from_secs(4));
    assert_eq!(world.holders().len(), 1);

    let mut world = World::new(7, &[1000], 0);
    world.server.lease = Some(Lease::default());
    world.run(Duration::from_secs(1));
    assert_eq!(world.holders().len(), 1);
}

#[test]
fn a_released_lease_is_taken_by_another_at_its_next_look() {
    let mut world = World::new(7, &[1000, 1000], 0);
    world.run(Duration::from_secs(30));
    let [first] = world.holders()[..] else {
        panic!("nobody holds it")
    };
    let clock = world.nodes[first].clock(world.now);
    let write = world.nodes[first].machine.release(clock).unwrap();
    assert_eq!(write.purpose, Purpose::Release);
    world.server.put(&write, 0);
    world.nodes[first].job = Job::Sleeping {
        until: Duration::from_secs(10_000),
    };
    world.run(Duration::from_secs(4));
    let [second] = world.holders()[..] else {
        panic!("nobody took it")
    };
    assert_ne!(first, second);
    let epochs: Vec<i32> = world.epochs.iter().map(|(epoch, ..)| *epoch).collect();
    assert_eq!(epochs, [1, 2]);
}

#[test]
fn a_write_that_had_effect_without_an_answer_is_found_by_reading_and_counts_from_its_sending() {
    let mut server = Server {
        lease: Some(Lease::default()),
        ..Server::default()
    };
    let at = Duration::from_secs;
    let mut machine = Machine::new("me", Timing::OPERATOR, true);
    assert_eq!(machine.step(Input::Woke, at(100)), Action::Read);
    let seen = Input::Read(server.lease.clone().map(Seen));
    let Action::Write(write) = machine.step(seen, at(101)) else {
        panic!("no write")
    };
    server.put(&write, 1);
    assert!(matches!(
        machine.step(Input::Unanswered, at(105)),
        Action::Sleep(_)
    ));
    assert_eq!(machine.step(Input::Woke, at(106)), Action::Read);
    assert_eq!(machine.held(at(106)), None, "not known yet");
    machine.step(Input::Read(server.lease.clone().map(Seen)), at(107));
    assert_eq!(machine.held(at(110)).map(|held| held.until), Some(at(111)));
    assert_eq!(machine.held(at(111)), None);
}

#[test]
fn a_lapsed_hold_is_resumed_under_a_new_epoch_only() {
    let mut server = Server {
        lease: Some(Lease::default()),
        ..Server::default()
    };
    let at = Duration::from_secs;
    let mut machine = Machine::new("me", Timing::OPERATOR, true);
    machine.step(Input::Woke, at(0));
    let Action::Write(write) = machine.step(Input::Read(server.lease.clone().map(Seen)), at(0))
    else {
        panic!("no write")
    };
    let answer = server.put(&write, 1);
    machine.step(answer, at(0));
    assert_eq!(machine.held(at(9)).map(|held| held.epoch), Some(1));
    assert_eq!(machine.step(Input::Woke, at(60)), Action::Read);
    let Action::Write(write) = machine.step(Input::Read(server.lease.clone().map(Seen)), at(60))
    else {
        panic!("no write")
    };
    assert_eq!((write.purpose, write.epoch), (Purpose::Acquire, 2));
}
