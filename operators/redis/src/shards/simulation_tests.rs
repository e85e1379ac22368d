//! What comes of it in the model, wherever the executor is broken off and whoever is lost.

use proptest::prelude::*;

use super::*;

#[test]
fn it_forms_grows_shrinks_and_then_leaves_it_alone() {
    let mut world = World::new(3, 1);
    world.settle(&[]);
    world.assert_as_asked();
    world.fill();
    world.scale(4);
    world.settle(&[]);
    world.assert_as_asked();
    world.assert_keys();
    world.scale(3);
    world.settle(&[]);
    world.assert_as_asked();
    world.assert_keys();
    assert!(plan(world.spec, &world.members()).is_settled());
}

#[test]
fn all_addresses_change_at_once() {
    let mut world = World::new(3, 1);
    world.settle(&[]);
    world.fill();
    world.engines.iter_mut().for_each(|e| e.runs = false);
    world.revive(true);
    assert!(
        world
            .engines
            .iter()
            .all(|e| e.knows.values().filter(|n| n.linked).count() <= 1)
    );
    world.settle(&[]);
    world.assert_as_asked();
    world.assert_keys();
}

#[test]
fn a_majority_is_lost_and_replicas_take_over() {
    let mut world = World::new(3, 1);
    world.settle(&[]);
    world.fill();
    for _ in 0..2 {
        let primary = world
            .engines
            .iter()
            .position(|e| e.runs && !e.me().slots.is_empty());
        world.engines[primary.unwrap()].runs = false;
    }
    world.elect();
    world.gossip();
    let first = plan(world.spec, &world.members());
    let by_force = |p: &Plan| {
        matches!(
            p.disruptive,
            Some(Act::Failover {
                how: Failover::Takeover,
                ..
            })
        )
    };
    assert!(by_force(&first), "{first:?}");
    all_come_back(&mut world, false);
}

#[test]
fn members_are_restarted_one_at_a_time_and_none_that_owns_slots() {
    let mut world = World::new(3, 2);
    world.settle(&[]);
    world.fill();
    world.engines.iter_mut().for_each(|e| e.outdated = true);
    world.settle(&[]);
    world.assert_as_asked();
    world.assert_keys();
}

/// Of four shards there shall be so many; on the way, which is broken off, a member is lost and comes back.
fn lost_on_the_way(
    shards: usize,
    broken: &[usize],
    victim: impl FnOnce(usize) -> usize,
    moved: bool,
) {
    let mut world = World::new(4, 1);
    world.settle(&[]);
    world.fill();
    world.scale(shards);
    passes(&mut world, broken);
    lost(&mut world, victim, moved);
}

/// Passes, each broken off after so many steps.
fn passes(world: &mut World, broken: &[usize]) {
    for &steps in broken {
        world.gossip();
        let plan = plan(world.spec, &world.members());
        world.execute(plan, &mut { steps });
    }
}

/// A member is lost and comes back.
fn lost(world: &mut World, victim: impl FnOnce(usize) -> usize, moved: bool) {
    world.gossip();
    let victim = victim(world.engines.len());
    world.kill(victim);
    all_come_back(world, moved);
}

/// All come back after some passes without those that are lost, and nothing is lost with them.
fn all_come_back(world: &mut World, moved: bool) {
    // Nobody is disturbed meanwhile whose copy is the last.
    for _ in 0..3 {
        let plan = plan(world.spec, &world.members());
        world.execute(plan, &mut { usize::MAX });
        world.gossip();
    }
    world.revive(moved);
    world.settle(&[]);
    world.assert_as_asked();
    world.assert_keys();
}

/// What frees a replica for it is a shard that goes: to wait for one before had no end.
#[test]
fn a_shard_that_has_lost_its_replica_gets_one_of_a_shard_that_goes() {
    for victim in 0..8 {
        for moved in [false, true] {
            lost_on_the_way(3, &[0], |_| victim, moved);
        }
    }
}

/// The replica that succeeds it takes the slot that was on its way there; when it is back, it removes what it has.
#[test]
fn who_was_to_get_a_slot_is_succeeded_by_one_that_gets_it() {
    lost_on_the_way(3, &[264, 19, 376], |_| 0, false);
}

#[test]
fn a_newer_version_comes_with_nothing_lost() {
    for replicas in 1..3 {
        let mut world = World::new(3, replicas);
        world.settle(&[]);
        world.fill();
        world.change_version();
        world.settle(&[]);
        world.assert_as_asked();
        world.assert_keys();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_is_broken_off_it_ends_as_asked_for(
        replicas in 1usize..3,
        sizes in prop::collection::vec(3usize..6, 1..3),
        broken in prop::collection::vec(0usize..400, 0..40),
        forming in prop::collection::vec(0usize..9, 0..6),
    ) {
        let mut world = World::new(3, replicas);
        world.settle(&forming);
        world.assert_as_asked();
        world.fill();
        for shards in sizes {
            world.scale(shards);
            world.settle(&broken);
            world.assert_as_asked();
            world.assert_keys();
        }
    }

    #[test]
    fn whoever_is_lost_on_the_way_nothing_else_is(
        shards in 3usize..6,
        broken in prop::collection::vec(0usize..400, 1..6),
        victim in any::<prop::sample::Index>(),
        moved in any::<bool>(),
    ) {
        lost_on_the_way(shards, &broken, |all| victim.index(all), moved);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_lost_half_way_to_another_version_nothing_else_is(
        replicas in 1usize..3,
        shards in 3usize..5,
        whole in 0usize..30,
        broken in prop::collection::vec(0usize..60, 0..4),
        victim in any::<prop::sample::Index>(),
        moved in any::<bool>(),
    ) {
        let mut world = World::new(3, replicas);
        world.settle(&[]);
        world.fill();
        // Also while slots are on their way.
        world.scale(shards);
        passes(&mut world, &broken);
        world.change_version();
        passes(&mut world, &vec![usize::MAX; whole]);
        lost(&mut world, |all| victim.index(all), moved);
    }
}
