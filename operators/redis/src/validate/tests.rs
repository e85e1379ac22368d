//! The table of bad resources, tried on the definition's rules and on [`validate`].

use std::collections::BTreeSet;

use mainstay_testkit::api::merge;
use mainstay_testkit::cases::Case;
use mainstay_testkit::cases::rules::Rules;
use mainstay_testkit::redis_cases::{also_good, cases, good, patched};
use serde_json::{Value, json};

use mainstay_shared::operator::validated;

use super::*;

fn catalogue() -> Catalogue {
    Catalogue::from_json(r#"{"redis":{"8.0":"redis:8.0.2"},"valkey":{"8.0":"valkey:8.0.1"}}"#)
        .unwrap()
}

/// The resource as the API server would hold it.
fn stored(mut resource: Value) -> Redis {
    merge(
        &mut resource,
        &json!({ "metadata": { "uid": "8c5f7b1e", "generation": 4 } }),
    );
    serde_json::from_value(resource).unwrap()
}

fn said(case: &Case) -> Vec<String> {
    let problems = validate(&stored(patched(&case.patch)), &catalogue()).err();
    let problems = problems.unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_operator_says_exactly_what_is_wrong() {
    for case in cases().iter().filter(|case| case.seen_by_the_operator()) {
        assert_eq!(said(case), [case.expected()], "{}", case.name);
    }
}

#[test]
fn the_rules_of_the_definition_say_the_same() {
    Rules::of("Redis").say(&good(), &also_good(), &cases());
}

#[test]
fn odd_but_good_resources_pass() {
    for (name, patch) in also_good() {
        let result = validate(&stored(patched(&patch)), &catalogue());
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

#[test]
fn the_table_has_every_kind_of_problem() {
    let reasons: BTreeSet<&str> = cases()
        .iter()
        .filter(|case| case.seen_by_the_operator())
        .filter_map(|case| validate(&stored(patched(&case.patch)), &catalogue()).err())
        .flatten()
        .map(|problem| problem.reason())
        .collect();
    let missing: Vec<&str> = EVERY_REASON
        .iter()
        .filter(|reason| !reasons.contains(*reason))
        .copied()
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(cases().len() >= 80);
}

/// Every reason of Redis' own.
const EVERY_REASON: &[&str] = &[
    "InvalidEngine",
    "InvalidVersion",
    "NoImageForVersion",
    "InvalidMode",
    "InvalidShards",
    "InvalidReplicas",
    "ShardsNeedCluster",
    "NotInClusters",
    "ClusterNeedsPersistence",
    "InvalidInstances",
    "InvalidDurability",
    "BoundedNeedsThree",
    "BoundedNeedsDurability",
    "InvalidMinReplicas",
    "InvalidMaxLag",
    "InvalidPersistence",
    "ReplicasNeedPersistence",
    "InvalidMaxmemoryPolicy",
    "InvalidBackup",
    "ParameterManaged",
    "ParameterUnknown",
    "InvalidParameterName",
    "InvalidParameterValue",
    "ParameterNeedsPersistence",
    "ParameterNeedsVersion",
];

#[test]
fn a_resource_that_is_not_stored_has_no_identity() {
    let mut resource = stored(good());
    resource.metadata.uid = None;
    assert_eq!(
        validate(&resource, &catalogue()),
        Err(vec![Problem::Common(validated::Problem::NotStored)])
    );
}

#[test]
fn several_problems_come_together() {
    let resource = stored(patched(&json!({
        "spec": { "version": "9", "mode": "Sharded", "durability": "quorum", "persistence": "none" },
    })));
    let problems = validate(&resource, &catalogue()).unwrap_err();
    let reasons: Vec<&str> = problems.iter().map(Problem::reason).collect();
    assert_eq!(
        reasons,
        [
            "InvalidVersion",
            "InvalidMode",
            "InvalidDurability",
            "ReplicasNeedPersistence",
            "ParameterNeedsPersistence"
        ]
    );
}

#[test]
fn a_good_resource_means_what_it_says() {
    let v = validate(&stored(good()), &catalogue()).unwrap();
    assert_eq!(
        (v.common.set.name.as_str(), v.common.generation),
        ("cache", 4)
    );
    assert_eq!(v.common.set.kind, "Redis");
    assert_eq!((v.flavour, v.version.as_str()), (Flavour::Redis, "8.0"));
    assert_eq!(v.persistence, Persistence::Aof);
    let bound = v.replicas.map(|r| (r.count, r.max_lag_seconds));
    assert_eq!(bound, Some((1, 5)));
    assert_eq!(v.policy, "volatile-lru");
    assert_eq!(v.common.storage, 20 << 30);
}

#[test]
fn a_cluster_has_as_many_instances_as_its_shards_have_members() {
    let resource = stored(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Redis",
        "metadata": { "name": "cache", "namespace": "shop" },
        "spec": { "version": "8.0", "mode": "Cluster", "shards": 4, "storage": { "size": "1Gi" } },
    }));
    let v = validate(&resource, &catalogue()).unwrap();
    let shards = Shards {
        count: 4,
        replicas: 1,
    };
    assert_eq!((v.shards, v.common.instances), (Some(shards), 8));
    assert!(v.common.self_led && v.replicas.is_none());
    let nodes = v.common.placement.and_then(|p| p.nodes);
    assert_eq!(nodes, Some(mainstay_crds::common::Requirement::Preferred));
}

#[test]
fn defaults_are_applied() {
    let of = |instances: i32| {
        let resource = stored(json!({
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "Redis",
            "metadata": { "name": "cache", "namespace": "shop" },
            "spec": { "version": "8.0", "instances": instances, "storage": { "size": "1Gi" } },
        }));
        validate(&resource, &catalogue()).unwrap()
    };
    let v = of(1);
    assert_eq!(v.common.image, "redis:8.0.2");
    assert_eq!((v.persistence, v.replicas), (Persistence::Aof, None));
    assert_eq!(v.policy, "noeviction");
    assert_eq!(of(2).replicas, None);
    let bound = of(3).replicas.map(|r| (r.count, r.max_lag_seconds));
    assert_eq!(bound, Some((1, 10)));
}
