//! When one is begun, and what holds it up.

use super::*;

#[test]
fn a_moment_is_due_once_by_its_name_and_a_missed_one_is_made_up_for_once() {
    let mut world = World::new();
    let start = Start {
        name: "db-drill-202603010300".into(),
        due: three(),
        moment: None,
    };
    assert_eq!(world.decide(), Decision::Start(start));
    let over = World::new().going(Some(told(&passed()))).recorded();
    record(&mut world.recovery, over);
    assert_eq!(world.decide(), Decision::Rest);
    let next = world.look(due);
    assert_eq!(next, Some("2026-03-08T03:00:00Z".parse().unwrap()));
    world.now += SignedDuration::from_hours(24 * 30);
    let Decision::Start(start) = world.decide() else {
        panic!("it is due");
    };
    assert_eq!(start.name, "db-drill-202603290300", "of four one");
}

#[test]
fn without_a_backup_or_paused_nothing_is_begun() {
    let mut world = World::new();
    for (ground, why) in [
        (ground(None), "backup container answers"),
        (ground(Some(&report(vec![]))), "the first backup"),
        (
            ground(Some(&Report::default())),
            "what the repository holds",
        ),
    ] {
        world.ground = ground;
        assert!(world.waits().contains(why), "{}", world.waits());
    }
    let mut world = World::new();
    world.paused = true;
    assert_eq!(world.decide(), Decision::Rest);
    world = world.going(None);
    assert!(world.waits().contains("changes are stopped"));
    let mut world = World::new();
    world.wanted = false;
    assert_eq!(world.decide(), Decision::Rest);
}

#[test]
fn the_sets_own_instances_come_first() {
    let placed = |node: Option<&str>| Instance {
        name: "db-2".into(),
        pod: Some(instances::PodSeen {
            node: node.map(str::to_owned),
            ..instances::PodSeen::default()
        }),
        ordinal: 2,
        claim: None,
        agent: instances::Known::Unreachable("it starts".into()),
    };
    let mut world = World::new();
    world.instances = vec![placed(None)];
    assert!(world.waits().contains("until db-2 has its place"));
    let mut world = World::new().going(None);
    world.begun[0].begun = None;
    world.instances = vec![placed(None)];
    assert!(world.waits().contains("until db-2 has its place"));
    world.instances = vec![placed(Some("node1"))];
    world.apart = false;
    assert!(world.waits().contains("network policy"));
    world.apart = true;
    assert!(matches!(world.decide(), Decision::MakePod(_)));

    // One that goes on gives its room to an instance that finds none, and to no other.
    let goes_on = PodSeen {
        started: true,
        placed: true,
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(goes_on));
    world.instances = vec![placed(None)];
    assert!(matches!(world.decide(), Decision::Wait(_)));
    world.instances[0].pod.as_mut().unwrap().waiting = Some(instances::Waiting {
        reason: "Unschedulable".into(),
        message: "0/3 nodes are available".into(),
        since: None,
    });
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert_eq!(
        over.message,
        "no room: db-2 needs it: 0/3 nodes are available"
    );
}
