use std::collections::BTreeMap;

use mainstay_shared::instances::{ClaimSeen, Instance, Known, Phase, PodSeen};

use super::*;
use crate::desired::tests::cache;

fn instance(ordinal: u32, node: &str) -> Instance {
    Instance {
        name: format!("cache-{ordinal}"),
        ordinal,
        pod: Some(PodSeen {
            phase: Phase::Running,
            ip: Some(format!("10.0.0.{ordinal}")),
            node: Some(node.into()),
            zone: Some(format!("zone-{node}")),
            ..PodSeen::default()
        }),
        claim: Some(ClaimSeen::default()),
        agent: Known::Unreachable("not asked".into()),
    }
}

#[test]
fn who_has_another_address_is_not_found_by_all_clients_for_a_while() {
    let all = [instance(1, "a"), instance(2, "b")];
    let mut since = BTreeMap::new();
    let begun = Instant::now();
    let mut told = |all: &[Instance], seconds| {
        let mut members = members(&mut BTreeMap::new(), &riders(all), BTreeMap::new(), true);
        tell_moved(
            &mut since,
            &mut members,
            begun + Duration::from_secs(seconds),
        );
        members.iter().map(|m| m.moved).collect::<Vec<_>>()
    };
    // Nobody knows for how long they have been there.
    assert_eq!(told(&all, 0), [true, true]);
    assert_eq!(told(&all, 40), [false, false]);
    let mut next = all.clone();
    next[1].pod.as_mut().unwrap().ip = Some("10.0.0.9".into());
    assert_eq!(told(&next, 41), [false, true]);
    assert_eq!(told(&next, 70), [false, true]);
    assert_eq!(told(&next, 77), [false, false]);
}

fn riders(instances: &[Instance]) -> Vec<Rider<'_>> {
    let rider = |instance| Rider {
        instance,
        leaving: false,
        outdated: false,
        unusable: false,
    };
    instances.iter().map(rider).collect()
}

fn id(n: usize) -> String {
    format!("{n:040x}")
}

/// Three primaries on nodes a, b and c; each has its replica on the next node.
fn views() -> BTreeMap<String, Result<View, LinkError>> {
    let ranges = ["0-5460", "5461-10922", "10923-16383"];
    let line = |n: usize, me: usize| {
        let flags = if n == me { "myself," } else { "" };
        let (role, primary, slots) = if n <= 3 {
            ("master", "-".to_owned(), ranges[n - 1])
        } else {
            ("slave", id(n - 3), "")
        };
        format!(
            "{} 10.0.0.{n}:6379@16379,cache-{n}.cache-peers.shop.svc {flags}{role} {primary} 0 0 1 connected {slots}\n",
            id(n)
        )
    };
    let view = |me: usize| {
        let nodes: String = (1..=6).map(|n| line(n, me)).collect();
        let info = if me <= 3 {
            "role:master\r\n"
        } else {
            "role:slave\r\nmaster_link_status:up\r\n"
        };
        (format!("cache-{me}"), Ok(View::read(&nodes, info).unwrap()))
    };
    (1..=6).map(view).collect()
}

const SPEC: Spec = Spec {
    shards: 3,
    replicas: 1,
    persistent: true,
    formed: false,
    restores: false,
};

fn looked(nodes: [&str; 6]) -> Found {
    let instances: Vec<Instance> = (1..=6)
        .zip(nodes)
        .map(|(n, node)| instance(n, node))
        .collect();
    let riders = riders(&instances);
    let members = members(&mut BTreeMap::new(), &riders, views(), true);
    found(SPEC, &members, &riders)
}

#[test]
fn what_members_say_is_told() {
    let found = looked(["a", "b", "c", "b", "c", "a"]);
    assert!(found.cluster.formed);
    assert_eq!(
        (found.cluster.slots, found.cluster.slots_to_move),
        (16384, 0)
    );
    let first = &found.cluster.shards[0];
    assert_eq!(
        (
            first.primary.as_str(),
            first.replicas.as_slice(),
            first.slots
        ),
        ("cache-1", &["cache-4".to_owned()][..], 5461)
    );
    assert_eq!(
        found.survives,
        Survives {
            node: true,
            zone: true,
            reason: None
        }
    );
}

#[test]
fn a_shard_in_one_place_or_most_primaries_in_one_do_not_survive() {
    let near = looked(["a", "b", "c", "a", "c", "a"]);
    let why = near.survives.reason.unwrap();
    assert!(!near.survives.node && why.contains("cache-1"), "{why}");
    let crowded = looked(["a", "a", "c", "b", "c", "a"]);
    let why = crowded.survives.reason.unwrap();
    assert!(why.contains("2 of 3 primaries"), "{why}");
}

#[test]
fn who_has_no_pod_is_gone_and_who_is_being_deleted_hands_over() {
    let mut instances: Vec<Instance> = (1..=3).map(|n| instance(n, "a")).collect();
    instances[0].pod = None;
    if let Some(pod) = &mut instances[1].pod {
        pod.deleting = true;
    }
    if let Some(pod) = &mut instances[2].pod {
        pod.phase = Phase::Pending;
    }
    let riders = riders(&instances);
    let v = cache();
    let asked: Vec<bool> = riders.iter().map(|r| place(&v, r).is_some()).collect();
    assert_eq!(asked, [false, true, false]);
    let members = members(&mut BTreeMap::new(), &riders, BTreeMap::new(), true);
    let is_gone = |m: &Member| matches!(m.presence, Presence::Gone { data: true, .. });
    assert!(is_gone(&members[0]) && is_gone(&members[2]));
    assert!(matches!(members[1].presence, Presence::Unreachable(_)));
    let leaving: Vec<bool> = members.iter().map(|m| m.leaving).collect();
    assert_eq!(leaving, [false, true, false]);
    // Where nobody can take over nothing is made of it.
    let alone = super::members(&mut BTreeMap::new(), &riders, BTreeMap::new(), false);
    assert!(alone.iter().all(|m| !m.leaving));
}

#[test]
fn what_was_found_stays_until_it_is_looked_at_again() {
    let found = looked(["a", "b", "c", "b", "c", "a"]);
    let before = RedisStatus {
        cluster: Some(found.cluster),
        ..RedisStatus::default()
    };
    let mut now = RedisStatus::default();
    found_out(&mut now, &before, &Helm::default());
    assert_eq!(now.cluster, before.cluster);
    found_out(&mut now, &RedisStatus::default(), &Helm::default());
    assert_eq!(now.cluster, before.cluster);
}

#[test]
fn who_does_not_read_what_its_primary_writes_gets_a_new_volume_where_nobody_needs_the_old_one() {
    let mut instances: Vec<Instance> = (1..=6).map(|n| instance(n, "a")).collect();
    for (n, instance) in instances.iter_mut().enumerate() {
        let ran = if n == 0 { "8.0.2" } else { "7.0.15" };
        instance.claim.as_mut().unwrap().ran = Some(ran.to_owned());
    }
    let spec = Spec {
        formed: true,
        ..SPEC
    };
    let asked = |instances: &[Instance], seen| {
        let riders = riders(instances);
        let mut members = members(&mut BTreeMap::new(), &riders, seen, true);
        let superseded = supersede(&mut members, Flavour::Redis);
        let outdated: Vec<String> = members
            .iter()
            .filter(|m| m.outdated)
            .map(|m| m.name.clone())
            .collect();
        let mut plan = Plan::default();
        let spared = spared(spec, &members, &riders, &superseded, &mut plan);
        (superseded, outdated, spared, plan.waits.len())
    };
    let (superseded, outdated, none_lost, waits) = asked(&instances, views());
    let why = &superseded["cache-4"];
    assert!(
        why.contains("cache-1 runs Redis 8.0, and Redis 7.0 here does not read"),
        "{why}"
    );
    assert_eq!(
        (superseded.len(), &outdated[..]),
        (1, &["cache-4".to_owned()][..])
    );
    assert_eq!((none_lost, waits), (["cache-4".to_owned()].into(), 0));

    // It is gone meanwhile; and as long as the slots of another shard have no owner that serves, it may have what was theirs.
    instances[3].pod = None;
    let mut seen = views();
    seen.remove("cache-4");
    let gone = asked(&instances, seen);
    assert_eq!((gone.2, gone.3), (["cache-4".to_owned()].into(), 0));
    let mut seen = views();
    seen.remove("cache-4");
    seen.remove("cache-2");
    let (superseded, _, spared, waits) = asked(&instances, seen);
    assert_eq!((superseded.len(), spared.len(), waits), (1, 0, 1));
}

#[test]
fn nobody_is_made_anew_for_a_version_that_does_not_read_what_a_primary_writes() {
    let instances: Vec<Instance> = (1..=6).map(|n| instance(n, "a")).collect();
    let mut seen = views();
    let riders = riders(&instances);
    if let Some(Ok(view)) = seen.get_mut("cache-2") {
        view.version = Some((8, 0));
    }
    let members = members(&mut BTreeMap::new(), &riders, seen, true);
    assert_eq!(ahead(&members, "8.0"), None);
    let wait = ahead(&members, "7.0").unwrap();
    assert!(wait.reason.starts_with("cache-2 is primary"), "{wait:?}");
}
