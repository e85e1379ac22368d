//! A cluster that begins with restored shards, whoever comes when.

use proptest::prelude::*;

use super::*;

/// Founders with slots between these cuts, one for each shard, and blank members.
fn restored(cuts: &[u16], replicas: usize) -> World {
    let shards = cuts.len() + 1;
    let mut world = World::new(shards, replicas);
    world.spec.restores = true;
    let begins = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([SLOTS]);
    for (n, (begin, end)) in begins.zip(ends).enumerate() {
        let engine = &mut world.engines[n];
        engine.bears = Bears::Set("restored".into());
        engine.me_mut().epoch = n as u64 + 1;
        for slot in begin..end {
            engine.me_mut().slots.insert(slot);
            if slot % STRIDE == 0 {
                engine.keys.insert(slot, BTreeSet::from([1, 2, 3]));
            }
        }
    }
    world
}

/// Where shards end: in order, and each has a slot.
fn cuts() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::btree_set(1..SLOTS, 2..5).prop_map(|cuts| cuts.into_iter().collect())
}

fn meets(plan: &Plan) -> bool {
    !plan.harmless.is_empty() || plan.disruptive.is_some()
}

fn says(plan: &Plan, what: &str) -> bool {
    plan.waits.iter().any(|w| w.reason.contains(what))
}

#[test]
fn what_comes_by_itself_is_never_let_in() {
    let world = restored(&[5_000, 11_000], 1);
    let plan_of = |world: &World| plan(world.spec, &world.members());
    assert!(meets(&plan_of(&world)));

    let mut other = restored(&[5_000, 11_000], 1);
    other.engines[2].bears = Bears::Set("of another backup".into());
    assert!(says(&plan_of(&other), "not restored from one backup"));
    assert!(!meets(&plan_of(&other)));

    let mut unmarked = restored(&[5_000, 11_000], 1);
    unmarked.engines[1].bears = Bears::Unknown;
    assert!(says(&plan_of(&unmarked), "no restore left there"));
    assert!(!meets(&plan_of(&unmarked)));

    let mut twice = restored(&[5_000, 11_000], 1);
    twice.engines[1].me_mut().slots.insert(77);
    assert!(says(&plan_of(&twice), "both have slot 77"));
    assert!(!meets(&plan_of(&twice)));

    let mut lacking = restored(&[5_000, 11_000], 1);
    lacking.engines[1].me_mut().slots.remove(6_000);
    assert!(says(&plan_of(&lacking), "6000-6000"));
    assert!(!meets(&plan_of(&lacking)));

    // One that has keys and no slot: they would be lost when it is made a replica.
    let mut strange = restored(&[5_000, 11_000], 1);
    strange.engines[4].keys.insert(97, BTreeSet::from([9]));
    assert!(says(&plan_of(&strange), "no restore left there"));
    assert!(!meets(&plan_of(&strange)));

    // Without having been asked for, a restored member is nobody's.
    let mut plain = restored(&[5_000, 11_000], 1);
    plain.spec.restores = false;
    assert!(says(&plan_of(&plain), "left alone"));
    // And once a cluster is formed, one more that comes so is left alone as well.
    let mut formed = restored(&[5_000, 11_000], 1);
    formed.spec.formed = true;
    assert!(says(&plan_of(&formed), "left alone"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Nobody is met before all are there; then every key is where it belongs, wherever the executor is broken off.
    #[test]
    fn restored_shards_become_one_cluster_with_every_key(
        cuts in cuts(), replicas in 0_usize..2, absent in prop::collection::btree_set(0_usize..10, 1..4),
        broken in prop::collection::vec(0_usize..9, 0..12),
    ) {
        let mut world = restored(&cuts, replicas);
        let members = world.engines.len();
        for n in &absent {
            world.engines[n % members].runs = false;
            let plan = plan(world.spec, &world.members());
            prop_assert!(!meets(&plan), "{plan:?}");
        }
        world.engines.iter_mut().for_each(|e| e.runs = true);
        world.settle(&broken);
        world.assert_as_asked();
        world.assert_keys();
    }
}
