//! What the planner does not do, and what it says then.

use super::picture::{Member, Picture, Presence};
use super::plan::{Act, Failover, Plan, Spec, plan};
use super::repair::needed;
use super::simulation::World;
use super::topology::{NodeId, View};

fn settled(shards: usize, replicas: usize) -> World {
    let mut world = World::new(shards, replicas);
    world.settle(&[]);
    world.fill();
    world
}

fn gone(seconds: u64, data: bool) -> Presence {
    Presence::Gone { seconds, data }
}

fn away() -> Presence {
    Presence::Unreachable("no route".into())
}

/// The primary of some shard, and its replicas.
fn shard(members: &[Member]) -> (usize, Vec<usize>) {
    let view = |member: &Member| match &member.presence {
        Presence::Seen(view) => view.clone(),
        other => panic!("{other:?}"),
    };
    let owns = |m: &Member| view(m).myself().is_some_and(|me| !me.slots.is_empty());
    let primary = members.iter().position(owns).unwrap();
    let me = view(&members[primary]).me;
    let follows = |n: &usize| view(&members[*n]).follows() == Some(&me);
    (primary, (0..members.len()).filter(follows).collect())
}

/// It disturbs nobody, and says why by this rule.
fn assert_waits(plan: &Plan, predicate: &str, reason: &str) {
    assert_eq!(plan.disruptive, None, "{plan:?}");
    let said = plan
        .waits
        .iter()
        .any(|w| w.predicate == predicate && w.reason.contains(reason));
    assert!(said, "{predicate}, {reason}: {plan:?}");
}

#[test]
fn nobody_takes_over_from_one_that_may_run() {
    let world = settled(3, 1);
    let mut members = world.members();
    let (primary, _) = shard(&members);
    members[primary].presence = away();
    assert_waits(
        &plan(world.spec, &members),
        "know_that_it_does_not_run",
        "no route",
    );
}

#[test]
fn nobody_is_restarted_while_another_one_goes() {
    let world = settled(3, 1);
    let mut members = world.members();
    let (primary, replicas) = shard(&members);
    for member in &mut members {
        member.outdated = true;
    }
    // Its pod is told to go, and its engine answers still.
    let replica = &mut members[replicas[0]];
    (replica.going, replica.leaving, replica.outdated) = (true, true, false);
    assert_waits(&plan(world.spec, &members), "one_at_a_time", "told to go");

    let replica = &mut members[replicas[0]];
    (replica.going, replica.leaving) = (false, false);
    let (at, how) = (replica.name.clone(), Failover::Planned);
    (members[primary].going, members[primary].leaving) = (true, true);
    assert_eq!(
        plan(world.spec, &members).disruptive,
        Some(Act::Failover { at, how })
    );
}

#[test]
fn nobody_is_handed_over_to_where_clients_do_not_find_it_yet() {
    let world = settled(3, 2);
    let mut members = world.members();
    let (primary, replicas) = shard(&members);
    members[primary].outdated = true;
    for replica in &replicas {
        members[*replica].moved = true;
    }
    assert_waits(
        &plan(world.spec, &members),
        "wait_until_names_are_known",
        "clients may still be told the one before",
    );
    members[replicas[1]].moved = false;
    let at = members[replicas[1]].name.clone();
    let how = Failover::Planned;
    assert_eq!(
        plan(world.spec, &members).disruptive,
        Some(Act::Failover { at, how })
    );
    // Who goes in any case waits for nobody.
    members[replicas[1]].moved = true;
    members[primary].outdated = false;
    members[primary].leaving = true;
    assert!(matches!(
        plan(world.spec, &members).disruptive,
        Some(Act::Failover { .. })
    ));
}

#[test]
fn the_engine_elects_first_and_the_planner_only_when_it_does_not() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].runs = false;
    world.gossip();
    let mut members = world.members();
    members[primary].presence = gone(3, true);
    assert_waits(
        &plan(world.spec, &members),
        "the_engine_elects",
        "by themselves",
    );
    members[primary].presence = gone(60, true);
    let forced = plan(world.spec, &members).disruptive;
    let at = members[replicas[0]].name.clone();
    let how = Failover::Force;
    assert_eq!(forced, Some(Act::Failover { at, how }));
}

#[test]
fn who_yields_is_succeeded_at_once_by_a_vote_and_not_without() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].runs = false;
    let ended = || Presence::Ended("refused".into());
    let mut members = world.members();
    members[primary].presence = ended();
    let forced = plan(world.spec, &members).disruptive;
    let at = members[replicas[0]].name.clone();
    let how = Failover::Yielded;
    assert_eq!(
        forced,
        Some(Act::Failover { at, how }),
        "nobody has noticed"
    );
    // Nor by one that was not in sync until the end: what ended has more, and comes back.
    for apart in [None, Some(7)] {
        let mut members = members.clone();
        if let Presence::Seen(view) = &mut members[replicas[0]].presence {
            view.apart = apart;
        }
        assert_waits(
            &plan(world.spec, &members),
            "the_engine_elects",
            "by themselves",
        );
    }
    // Whose replica is away too is not succeeded; nor is anybody while too few can vote.
    let away = members[replicas[0]].presence.clone();
    members[replicas[0]].presence = ended();
    assert_waits(
        &plan(world.spec, &members),
        "keep_the_last_copy",
        "has to come back",
    );
    members[replicas[0]].presence = away;
    for member in &mut members {
        if matches!(&member.presence, Presence::Seen(view) if view.is_primary()) {
            member.presence = ended();
        }
    }
    assert_waits(
        &plan(world.spec, &members),
        "the_engine_elects",
        "by themselves",
    );
}

#[test]
fn who_yields_is_not_succeeded_while_a_replica_is_away_or_the_others_vote() {
    let mut world = settled(3, 2);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].runs = false;
    let mut members = world.members();
    members[primary].presence = Presence::Ended("refused".into());
    let how = Failover::Yielded;
    let at = members[replicas[0]].name.clone();
    let forced = plan(world.spec, &members).disruptive;
    assert_eq!(forced, Some(Act::Failover { at, how }));
    let spec = world.spec;
    let elects = |members: &[Member]| {
        let plan = plan(spec, members);
        assert_waits(&plan, "the_engine_elects", "by themselves");
    };
    let whole = members.clone();
    members[replicas[1]].presence = gone(60, true);
    elects(&members);
    members.clone_from(&whole);
    if let Presence::Seen(view) = &mut members[replicas[1]].presence {
        view.loading = true;
    }
    elects(&members);
    world.gossip();
    members = world.members();
    members[primary].presence = Presence::Ended("refused".into());
    elects(&members);
}

#[test]
fn who_has_most_data_takes_over_and_nobody_while_one_may_have_more() {
    let mut world = settled(3, 2);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].runs = false;
    world.gossip();
    world.engines[replicas[1]].offset += 7;
    let mut members = world.members();
    members[primary].presence = gone(60, true);
    let at = members[replicas[1]].name.clone();
    let how = Failover::Force;
    assert_eq!(
        plan(world.spec, &members).disruptive,
        Some(Act::Failover { at, how })
    );
    members[replicas[1]].presence = away();
    assert_waits(
        &plan(world.spec, &members),
        "most_data_first",
        "may have more",
    );
}

#[test]
fn what_has_another_shards_data_does_not_take_over() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].runs = false;
    world.gossip();
    let mut members = world.members();
    if let Presence::Seen(view) = &mut members[replicas[0]].presence {
        view.foreign = true;
    }
    assert_waits(
        &plan(world.spec, &members),
        "keep_the_last_copy",
        "nobody else has its data",
    );
}

#[test]
fn where_no_copy_is_left_nothing_is_made_in_its_place() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    for lost in [primary, replicas[0]] {
        world.engines[lost].runs = false;
    }
    world.gossip();
    let mut members = world.members();
    members[primary].presence = gone(600, true);
    assert_waits(
        &plan(world.spec, &members),
        "keep_the_last_copy",
        "has to come back",
    );
    members[primary].presence = gone(600, false);
    assert_waits(
        &plan(world.spec, &members),
        "keep_the_last_copy",
        "has to come back",
    );
    members[replicas[0]].presence = gone(600, false);
    let lost = plan(world.spec, &members);
    assert_waits(&lost, "keep_the_last_copy", "restore a backup");
    let claims = |act: &Act| matches!(act, Act::Claim { .. });
    assert!(!lost.harmless.iter().any(claims), "{lost:?}");
}

#[test]
fn a_lost_volume_is_replaced_only_when_others_lead_with_all_slots() {
    let mut world = settled(3, 1);
    let formed = Spec {
        formed: true,
        ..world.spec
    };
    let (primary, replicas) = shard(&world.members());
    let needs = |world: &World, lost: usize, presence: Option<Presence>| {
        let mut members = world.members();
        if let Some(presence) = presence {
            members[lost].presence = presence;
        }
        needed(formed, &Picture::of(&members), lost)
    };
    // A replica's is no loss, whether it runs or not.
    assert_eq!(needs(&world, replicas[0], None), None);
    assert_eq!(needs(&world, replicas[0], Some(gone(9, false))), None);
    let new = needed(world.spec, &Picture::of(&world.members()), replicas[0]);
    assert_eq!(new.is_some(), !world.spec.formed);
    // A primary's is, while it owns slots: its replica takes over first.
    let why = needs(&world, primary, None).unwrap();
    assert!(why.contains("owns slots"), "{why}");
    world.engines[primary].runs = false;
    world.gossip();
    let why = needs(&world, primary, Some(gone(60, false))).unwrap();
    assert!(why.contains("owns slots"), "{why}");
    world.elect();
    world.gossip();
    assert_eq!(needs(&world, primary, Some(gone(60, false))), None);
    // Of two of a shard the other has to lead: as long as it does not answer, nobody knows.
    let mut members = world.members();
    members[primary].presence = gone(60, false);
    members[replicas[0]].presence = away();
    let why = needed(formed, &Picture::of(&members), primary).unwrap();
    assert!(why.contains("owns slots"), "{why}");
}

#[test]
fn who_has_another_past_is_not_met() {
    let world = settled(3, 1);
    let other = settled(3, 1);
    let mut members = world.members();
    let mut stranger = other.members().remove(0);
    stranger.name = "db-7".into();
    stranger.address.host = "10.9.9.9".into();
    if let Presence::Seen(view) = &mut stranger.presence {
        // The other cluster's nodes have other ids.
        **view = foreign(view);
    }
    members.push(stranger);
    let made = plan(world.spec, &members);
    assert_waits(
        &made,
        "never_join_another_cluster",
        "db-7 belongs to another cluster",
    );
    assert!(made.harmless.is_empty(), "{made:?}");
}

/// The same cluster with other ids.
fn foreign(view: &View) -> View {
    let mut view = view.clone();
    let other = |id: &NodeId| {
        let text = format!("f{}", &id.as_str()[1..]);
        text.parse::<NodeId>().unwrap()
    };
    view.me = other(&view.me);
    let nodes = std::mem::take(&mut view.nodes);
    for (_, mut node) in nodes {
        node.id = other(&node.id);
        view.nodes.insert(node.id.clone(), node);
    }
    view
}

#[test]
fn a_cluster_is_formed_once_and_only_without_data() {
    let world = World::new(3, 1);
    let formed = Spec {
        formed: true,
        ..world.spec
    };
    let lost = plan(formed, &world.members());
    assert_waits(&lost, "keep_the_last_copy", "something was lost");

    let mut world = World::new(3, 1);
    world.engines[0].keys.insert(7, [1].into());
    assert_waits(
        &plan(world.spec, &world.members()),
        "only_without_data",
        "has keys",
    );
    let mut world = World::new(3, 1);
    world.engines.pop();
    assert_waits(
        &plan(world.spec, &world.members()),
        "every_member_first",
        "6 members",
    );
}

#[test]
fn the_only_copy_in_memory_is_not_restarted() {
    let mut world = settled(3, 0);
    world.engines[0].outdated = true;
    let restart = Some(Act::Restart {
        member: world.engines[0].name.clone(),
    });
    assert_eq!(plan(world.spec, &world.members()).disruptive, restart);
    world.spec.persistent = false;
    assert_waits(
        &plan(world.spec, &world.members()),
        "keep_the_last_copy",
        "in memory",
    );
}

#[test]
fn who_is_disturbed_while_a_replica_is_behind_or_a_member_away() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    world.engines[primary].outdated = true;
    let mut members = world.members();
    if let Presence::Seen(view) = &mut members[replicas[0]].presence {
        view.synced = false;
    }
    assert_waits(
        &plan(world.spec, &members),
        "replicas_in_sync_first",
        "has not everything",
    );
    members[replicas[0]].presence = away();
    assert_waits(&plan(world.spec, &members), "all_members_first", "no route");
}

#[test]
fn keys_of_a_slot_in_two_places_besides_its_owner_are_left_alone() {
    let mut world = settled(4, 0);
    let slot = 97;
    let owner = world.engines.iter().position(|e| e.owns(slot)).unwrap();
    let others: Vec<usize> = (0..4).filter(|n| *n != owner).collect();
    let target = world.engines[others[0]].id.clone();
    world.engines[owner].me_mut().migrating.insert(slot, target);
    for other in &others[..2] {
        world.engines[*other].keys.insert(slot, [9].into());
    }
    assert_waits(
        &plan(world.spec, &world.members()),
        "know_where_keys_are",
        "by hand",
    );
}

/// Its primary runs a newer version than the replicas.
fn newer(members: &mut [Member], primary: usize) {
    for member in members.iter_mut() {
        member.version = Some((7, 0));
    }
    members[primary].version = Some((8, 0));
}

#[test]
fn who_follows_a_newer_one_is_no_copy_and_is_made_anew_before_all_others() {
    let world = settled(3, 1);
    let spec = Spec {
        formed: true,
        ..world.spec
    };
    let mut members = world.members();
    // Of a shard whose turn would be later.
    let first = shard(&members).1[0];
    let follows = |m: &Member| match &m.presence {
        Presence::Seen(view) => view.follows().cloned(),
        _ => None,
    };
    let other = |n: &usize| *n != first && follows(&members[*n]).is_some();
    let replica = (0..members.len()).rfind(other).unwrap();
    let followed = follows(&members[replica]).unwrap();
    let leads = |m: &Member| matches!(&m.presence, Presence::Seen(v) if v.me == followed);
    let primary = members.iter().position(leads).unwrap();
    for member in &mut members {
        member.outdated = true;
    }
    newer(&mut members, primary);
    members[primary].outdated = false;
    let by = |members: &[Member]| Picture::of(members).superseded_by(replica);
    assert_eq!(by(&members), Some(primary));
    // It never has everything, and nobody waits for that.
    if let Presence::Seen(view) = &mut members[replica].presence {
        view.synced = false;
    }
    let renewed = |members: &[Member], who: usize| {
        let member = members[who].name.clone();
        plan(spec, members).disruptive == Some(Act::Restart { member })
    };
    assert!(renewed(&members, replica));
    // Whatever else is not in order; not where nobody else serves what it may have.
    let whole = members.clone();
    members[first].presence = away();
    assert!(renewed(&members, replica));
    members.clone_from(&whole);
    let leads_first = shard(&members).0;
    members[leads_first].presence = away();
    assert!(!renewed(&members, replica));
    members = whole;
    // The others tell of it when it is gone.
    members[replica].presence = gone(1, true);
    assert_eq!(by(&members), Some(primary));
    // It takes evidence: both versions, and a primary that serves.
    members[primary].version = None;
    assert_eq!(by(&members), None);
    members[primary].version = Some((7, 0));
    assert_eq!(by(&members), None);
    members[primary].version = Some((8, 0));
    members[primary].presence = away();
    assert_eq!(by(&members), None);
}

#[test]
fn an_older_one_takes_over_from_a_newer_one_only_where_that_is_gone_for_good() {
    let mut world = settled(3, 1);
    let (primary, replicas) = shard(&world.members());
    let mut members = world.members();
    newer(&mut members, primary);
    members[primary].outdated = true;
    members[replicas[0]].outdated = false;
    let hands_over = |p: &Plan| matches!(p.disruptive, Some(Act::Failover { .. }));
    let planned = plan(world.spec, &members);
    assert!(!hands_over(&planned), "{planned:?}");
    members[primary].version = Some((7, 0));
    assert!(
        hands_over(&plan(world.spec, &members)),
        "of the same it does"
    );

    world.engines[primary].runs = false;
    world.gossip();
    let mut members = world.members();
    newer(&mut members, primary);
    members[primary].presence = gone(60, true);
    assert_waits(
        &plan(world.spec, &members),
        "keep_the_last_copy",
        "it has to come back",
    );
    members[primary].presence = gone(60, false);
    assert!(hands_over(&plan(world.spec, &members)));
}

#[test]
fn keys_do_not_go_to_an_older_one_which_is_restarted_all_the_same() {
    let mut world = settled(3, 0);
    let owner = world.engines.iter().position(|e| e.owns(97)).unwrap();
    let target = (owner + 1) % 3;
    let (from, to) = (
        world.engines[owner].id.clone(),
        world.engines[target].id.clone(),
    );
    world.engines[owner].me_mut().migrating.insert(97, to);
    world.engines[target].me_mut().importing.insert(97, from);
    let mut members = world.members();
    let moves = plan(world.spec, &members).disruptive;
    assert!(matches!(moves, Some(Act::Moves(_))), "{moves:?}");
    newer(&mut members, owner);
    assert_waits(
        &plan(world.spec, &members),
        "same_version_first",
        "is older",
    );
    members[target].outdated = true;
    let member = members[target].name.clone();
    assert_eq!(
        plan(world.spec, &members).disruptive,
        Some(Act::Restart { member })
    );
}

#[test]
fn who_has_no_slots_hands_over_to_nobody() {
    let mut world = settled(3, 1);
    world.scale(4);
    // The new ones are known, and one follows the other; no slot has moved.
    for _ in 0..3 {
        world.gossip();
        let mut next = plan(world.spec, &world.members());
        next.disruptive = None;
        world.execute(next, &mut { usize::MAX });
    }
    world.gossip();
    let mut members = world.members();
    let new =
        |m: &&mut Member| matches!(&m.presence, Presence::Seen(v) if v.is_primary() && v.keys == 0);
    let primary = members.iter_mut().find(new).unwrap();
    primary.outdated = true;
    let member = primary.name.clone();
    assert_eq!(
        plan(world.spec, &members).disruptive,
        Some(Act::Restart { member })
    );
}

#[test]
fn an_older_replica_is_not_given_to_a_newer_primary_for_the_sake_of_zones() {
    let world = settled(3, 1);
    let mut members = world.members();
    // Both members of two shards are in one zone: their replicas would be changed for each other.
    let (primary, replicas) = shard(&members);
    let place = |m: &Member| match &m.presence {
        Presence::Seen(view) => view.follows().cloned(),
        _ => None,
    };
    let other = (0..members.len()).find(|n| *n != replicas[0] && place(&members[*n]).is_some());
    let other = other.unwrap();
    let followed = place(&members[other]).unwrap();
    let leads = |m: &Member| matches!(&m.presence, Presence::Seen(v) if v.me == followed);
    let second = members.iter().position(leads).unwrap();
    // The third has one in each of these zones: to change with that one helps nobody.
    for member in &mut members {
        let zone = if place(member).is_some() { "b" } else { "a" };
        member.zone = Some(zone.to_owned());
    }
    for (n, zone) in [
        (primary, "a"),
        (replicas[0], "a"),
        (second, "b"),
        (other, "b"),
    ] {
        members[n].zone = Some(zone.to_owned());
    }
    let moves = |members: &[Member]| {
        matches!(
            plan(world.spec, members).disruptive,
            Some(Act::Replicate { .. })
        )
    };
    assert!(moves(&members));
    for (n, member) in members.iter_mut().enumerate() {
        let older = n == primary || n == replicas[0];
        member.version = Some(if older { (7, 0) } else { (8, 0) });
    }
    assert!(!moves(&members));
}
