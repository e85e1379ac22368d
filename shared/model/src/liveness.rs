//! After any trouble, when enough members talk again, somebody becomes primary and stays so.

use stateright::Model;

use crate::config::Config;
use crate::election::rules::{Broken, Rules};
use crate::explore::Set;
use crate::fair::{second, whole};
use crate::world::World;

/// Every fault, twice.
const TROUBLE: Config = Config {
    epochs: 100,
    writes: 4,
    crashes: 2,
    lapses: 4,
    deleted: 1,
    restored: 1,
    lost: 2,
    orders: 1,
    slow_disks: true,
    late_flushes: true,
    eager_engines: false,
    ..Config::CALM
};

/// A walk of so many random steps.
fn walk(set: &Set, seed: u64, steps: usize) -> World {
    let mut world = set.begin.clone();
    let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..steps {
        let mut all = Vec::new();
        set.actions(&world, &mut all);
        if all.is_empty() {
            break;
        }
        // xorshift: the same walk for the same seed, on every machine.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let at = usize::try_from(chance % all.len() as u64).unwrap();
        if let Some(next) = set.next_state(&world, all.swap_remove(at)) {
            world = next;
        }
    }
    world
}

/// Seconds until the set is whole again; none if it is not within two minutes.
fn heals(config: &Config, world: &mut World) -> Option<u32> {
    (0..120).find(|_| {
        second(config, world);
        assert_eq!(world.broken, None);
        assert!(!world.lost());
        whole(world)
    })
}

#[test]
fn after_any_trouble_somebody_is_elected_and_stays() {
    stays(TROUBLE, 400);
}

/// The model's engine that lost its memory is silent until it receives: with one voter only, all would wait for it.
#[test]
fn after_any_trouble_and_an_engine_that_ended_somebody_is_elected_and_stays() {
    stays(Config { ends: 1, ..TROUBLE }, 200);
}

#[test]
fn after_any_trouble_in_two_zones_somebody_is_elected_and_stays() {
    let zones = &["x", "x", "y"];
    stays(Config { zones, ..TROUBLE }, 200);
}

#[test]
fn a_lost_volume_of_the_only_voter_stops_nothing_for_good() {
    let zones = &["x", "x", "y"];
    let replaced = 1;
    stays(
        Config {
            zones,
            replaced,
            crashes: 1,
            ..TROUBLE
        },
        200,
    );
}

fn stays(config: Config, walks: u64) {
    let set = Set::formed(config);
    let mut longest = 0;
    for seed in 0..walks {
        let mut world = walk(&set, seed, 60);
        assert_eq!(world.broken, None, "seed {seed}");
        let Some(seconds) = heals(&config, &mut world) else {
            for node in &world.nodes {
                eprintln!(
                    "{:?}\n  {:?}\n  {:?}",
                    node.machine,
                    node.machine.wanted(),
                    node.engine
                );
            }
            panic!("seed {seed}: nobody is elected");
        };
        longest = longest.max(seconds);
        let before = world.latest_epoch();
        for _ in 0..30 {
            second(&config, &mut world);
            assert!(whole(&world), "seed {seed}: it did not stay");
        }
        assert_eq!(before, world.latest_epoch(), "seed {seed}");
    }
    println!("{walks} walks of 60 steps: whole again within {longest} s each");
}

/// What it alone has was never acknowledged: nobody waits until its volume has room.
#[test]
fn a_former_primary_that_could_not_lead_keeps_nobody_from_leading() {
    let config = Config {
        full: &[0],
        crashes: 1,
        ..Config::CALM
    };
    let mut world = Set::formed(config).begin;
    world.client_writes(&config, 0);
    world.crash(0);
    assert!(heals(&config, &mut world).is_some());
    assert_ne!(world.open(), [0]);
}

/// Else somebody would be elected and fail again and again.
#[test]
fn nobody_leads_who_could_not() {
    let config = Config {
        full: &[0, 1, 2],
        crashes: 1,
        ..Config::CALM
    };
    let mut world = Set::formed(config).begin;
    (0..3).for_each(|i| world.tell_room(&config, i));
    assert_eq!(world.open(), [0], "who leads goes on");
    world.crash(0);
    assert_eq!(heals(&config, &mut world), None);
    assert_eq!(world.latest_epoch(), None);
}

#[test]
fn broken_the_epoch_from_the_transition_count_elects_nobody_after_a_deletion() {
    let run = |rules| {
        let config = Config {
            rules,
            ..Config::CALM
        };
        let mut world = Set::formed(config).begin;
        for i in 0..3 {
            world.crash(i);
        }
        world.lease = None;
        heals(&config, &mut world)
    };
    assert!(run(Rules::ALL).is_some());
    assert_eq!(run(Rules::without(Broken::TransitionCount)), None);
}
