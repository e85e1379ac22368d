//! What the model is asked. The rules as they are must hold; with one rule taken away, the
//! explorer must find a history that breaks a promise.
//!
//! `MODEL_STATES` says how many states each exploration may generate (40,000 unless told). Run with
//! `--nocapture` to see how far each went.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Config;
use crate::election::policy::Durability;
use crate::election::rules::{Broken, Rules};
use crate::explore::Set;
use crate::world::World;

const LOST: &str = "P2: no covered write is lost";
const LATE: &str = "P1: no later acknowledgement under an earlier epoch";
const FAILURES: [&str; 3] = [LOST, LATE, "one epoch has one holder"];

/// Two of three see the Lease as expired, while its holder lives.
const DOUBT: Config = Config {
    expired: &[1, 2],
    ..Config::CALM
};

/// A voter was replaced, and the Lease lapses once.
const REPLACED: Config = Config {
    before: replaced,
    lapses: 1,
    ..Config::CALM
};

fn most_states() -> usize {
    std::env::var("MODEL_STATES").map_or(40_000, |n: String| n.parse().unwrap())
}

/// Explore, shortest histories first; the failures found.
fn explore(name: &str, config: Config, most: usize) -> Vec<(&'static str, usize)> {
    let begun = Instant::now();
    let checker = Set::formed(config)
        .checker()
        .target_state_count(most)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let states = checker.state_count();
    let whole = match (checker.is_done(), states < most) {
        (true, true) if checker.discoveries().keys().any(|n| FAILURES.contains(n)) => "failed",
        (_, true) => "all",
        (_, false) => "not all",
    };
    println!(
        "{name}: {states} states, {} distinct, {whole}, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed(),
    );
    let found = checker.discoveries().into_iter();
    found
        .filter(|(name, _)| FAILURES.contains(name))
        .map(|(name, path)| (name, path.into_actions().len()))
        .collect()
}

fn holds(name: &str, config: Config) {
    assert_eq!(explore(name, config, most_states()), []);
}

/// The same bounds must be free of failures with all rules, as far as the budget goes.
fn fails(broken: Broken, config: Config, property: &str) {
    let rules = Rules::without(broken);
    let found = explore(
        &format!("without {broken:?}"),
        Config { rules, ..config },
        300_000,
    );
    assert!(
        found.iter().any(|(name, _)| *name == property),
        "{broken:?}: {found:?}"
    );
    holds(&format!("with {broken:?} kept"), config);
}

/// The third member has lost its volume, while its old pod still streams.
fn replaced(config: &Config, world: &mut World) {
    world.replace(config, 2, true);
    world.crash(3);
    world.tell_peers(config, 0);
    for _ in 0..2 {
        world.write_lease(config, 0, true);
        world.carry(config, 0, 1);
        world.carry(config, 1, 0);
    }
}

/// Of four, the first crashed; the second, which alone had its last write, was elected and promoted
/// unseen; then the third was elected by the fourth, and has acknowledged a write.
fn two_branches(config: &Config, world: &mut World) {
    world.replicate(config, 0, 1);
    world.crash(0);
    for (who, voter) in [(1, 2), (2, 3)] {
        for i in [who, voter] {
            world.look(config, i);
            world.lapse(config, i);
        }
        world.look(config, who);
        world.carry(config, who, voter);
        world.carry(config, voter, who);
        world.write_lease(config, who, true);
    }
    world.start(config, 0);
    for i in [0, 3] {
        world.look(config, i);
        world.carry(config, 2, i);
        world.carry(config, i, 2);
        world.replicate(config, 2, i);
    }
    assert!(world.open().contains(&2));
    world.client_writes(config, 2);
    world.replicate(config, 2, 0);
    world.replicate(config, 2, 3);
    assert!(world.sent[1].acknowledged.is_some());
    world.write_lease(config, 2, true);
    for i in [1, 3] {
        world.look(config, i);
        world.lapse(config, i);
    }
}

/// The first was killed before anybody had its last write, and has started again.
fn restarted(config: &Config, world: &mut World) {
    world.crash(0);
    world.start(config, 0);
    world.look(config, 0);
    for _ in 0..2 {
        world.carry(config, 0, 1);
        world.carry(config, 1, 0);
        world.write_lease(config, 0, true);
    }
    assert!(world.nodes[0].engine.leading().is_some());
}

/// The second alone confirmed the last write, when the first's engine ended with its memory; the third, which nobody asked to,
/// stands and has asked the first.
fn ended(config: &Config, world: &mut World) {
    world.replicate(config, 0, 1);
    assert!(world.sent[0].acknowledged.is_some());
    world.end(config, 0);
    world.write_lease(config, 0, true);
    for i in [0, 2] {
        world.look(config, i);
        world.lapse(config, i);
    }
    world.look(config, 2);
    world.carry(config, 2, 0);
    world.carry(config, 0, 2);
}

/// The second has the last write and could not lead: its volume is full.
fn full(config: &Config, world: &mut World) {
    world.replicate(config, 0, 1);
    world.tell_room(config, 1);
}

const FULL: Config = Config {
    full: &[1],
    before: full,
    ..DOUBT
};

#[test]
fn doubt_and_a_member_that_could_not_lead() {
    holds(
        "doubt, full",
        Config {
            lapses: 1,
            epochs: 3,
            ..FULL
        },
    );
}

#[test]
fn broken_a_member_that_could_not_lead_counts() {
    fails(Broken::UnfitCounts, FULL, LOST);
}

#[test]
fn doubt_and_a_crash() {
    holds(
        "doubt, crash",
        Config {
            crashes: 1,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_a_disk_that_is_slow() {
    holds(
        "doubt, crash, slow disks",
        Config {
            crashes: 1,
            slow_disks: true,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_flushes_heard_of_late() {
    holds(
        "doubt, late flushes, two writes",
        Config {
            late_flushes: true,
            writes: 2,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_engines_that_take_their_time() {
    holds(
        "doubt, slow engines",
        Config {
            eager_engines: false,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_lost_answers_of_the_api_server() {
    holds("doubt, lost answers", Config { lost: 1, ..DOUBT });
}

#[test]
fn doubt_and_a_deleted_lease() {
    holds(
        "doubt, deletion, second election",
        Config {
            deleted: 1,
            lapses: 1,
            epochs: 3,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_an_old_lease_restored() {
    holds(
        "doubt, restored Lease",
        Config {
            restored: 1,
            lapses: 1,
            epochs: 3,
            ..DOUBT
        },
    );
}

#[test]
fn doubt_and_a_hand_over() {
    holds("doubt, hand-over", Config { orders: 1, ..DOUBT });
}

#[test]
fn an_engine_that_ends_with_its_memory() {
    let ends = 1;
    holds(
        "ended",
        Config {
            ends,
            ..Config::CALM
        },
    );
    holds(
        "ended, container crashes",
        Config {
            ends,
            crashes: 1,
            ..Config::CALM
        },
    );
    holds(
        "doubt, ended, hand-over",
        Config {
            ends,
            orders: 1,
            ..DOUBT
        },
    );
    holds(
        "doubt, ended, lost answers",
        Config {
            ends,
            lost: 1,
            ..DOUBT
        },
    );
}

#[test]
fn broken_what_is_left_of_a_lost_memory_counts() {
    let config = Config {
        before: ended,
        lapses: 1,
        epochs: 3,
        ..Config::CALM
    };
    let found = explore(
        "what is left is told",
        Config {
            tells_of_what_is_left: true,
            ..config
        },
        300_000,
    );
    assert!(found.iter().any(|(name, _)| *name == LOST), "{found:?}");
    holds("what is left is not told", config);
}

#[test]
fn doubt_and_a_suspended_promise() {
    holds(
        "preferred",
        Config {
            durability: Durability::Preferred,
            lapses: 1,
            crashes: 1,
            ..DOUBT
        },
    );
}

#[test]
fn two_members() {
    holds(
        "two members",
        Config {
            members: 2,
            lapses: 2,
            crashes: 1,
            deleted: 1,
            epochs: 3,
            writes: 2,
            ..Config::CALM
        },
    );
}

/// The first two share a zone: only the third votes for the first, which fails or is doubted.
const ZONES: Config = Config {
    zones: &["x", "x", "y"],
    ..Config::CALM
};

#[test]
fn zones_and_a_crash() {
    holds(
        "zones, doubt, crash",
        Config {
            expired: &[1, 2],
            lapses: 1,
            crashes: 1,
            epochs: 3,
            ..ZONES
        },
    );
}

#[test]
fn zones_and_the_only_voter_replaced_while_its_old_pod_lives_on() {
    holds(
        "zones, the voter replaced",
        Config {
            before: replaced,
            lapses: 2,
            epochs: 3,
            writes: 2,
            ..ZONES
        },
    );
}

#[test]
fn zones_that_are_only_preferred() {
    holds(
        "zones, preferred",
        Config {
            durability: Durability::Preferred,
            expired: &[1, 2],
            lapses: 2,
            crashes: 1,
            epochs: 3,
            writes: 2,
            ..ZONES
        },
    );
}

#[test]
fn broken_same_name_new_disk() {
    let config = Config {
        replaced: 1,
        lives_on: true,
        ..DOUBT
    };
    let found = explore(
        "same name, new disk",
        Config {
            same_name: true,
            ..config
        },
        300_000,
    );
    assert!(found.iter().any(|(name, _)| *name == LOST), "{found:?}");
    holds("new name, new disk", config);
}

#[test]
fn broken_promise_forgotten_on_restart() {
    fails(
        Broken::PromiseForgotten,
        Config {
            crashes: 1,
            ..DOUBT
        },
        LOST,
    );
}

#[test]
fn broken_reload_seen_late() {
    fails(Broken::ReloadSeenLate, REPLACED, LOST);
}

#[test]
fn broken_same_timeline_twice() {
    let config = Config {
        members: 4,
        before: two_branches,
        writes: 2,
        epochs: 4,
        ..Config::CALM
    };
    fails(Broken::SameTimelineTwice, config, LOST);
}

#[test]
fn broken_holder_unaware_of_a_change() {
    fails(Broken::UnawareHolder, REPLACED, LOST);
}

#[test]
fn broken_lease_without_collect() {
    fails(Broken::NoCollect, DOUBT, LOST);
}

#[test]
fn broken_door_opened_early() {
    let config = Config {
        retries: true,
        before: restarted,
        lapses: 2,
        epochs: 3,
        ..Config::CALM
    };
    fails(Broken::DoorEarly, config, LOST);
}
