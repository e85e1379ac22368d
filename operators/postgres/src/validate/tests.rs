//! The table of bad resources, tried on the definition's rules and on [`validate`].

use std::collections::BTreeSet;

use mainstay_testkit::api::merge;
use mainstay_testkit::cases::rules::Rules;
use mainstay_testkit::postgres_cases::{Case, also_good, cases, good, patched};
use serde_json::{Value, json};

use mainstay_crds::common::KeptVolumes;
use mainstay_shared::operator::validated;

use super::*;

fn catalogue() -> Catalogue {
    [
        (17, "postgres:17.6".to_owned()),
        (18, "postgres:18.1".to_owned()),
    ]
    .into_iter()
    .collect()
}

/// The resource as the API server would hold it.
fn stored(mut resource: Value) -> Postgres {
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
    Rules::of("Postgres").say(&good(), &also_good(), &cases());
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
    assert!(cases().len() >= 25);
}

/// Every reason but `NotStored`, which no API server can cause.
const EVERY_REASON: &[&str] = &[
    "InvalidName",
    "InvalidPause",
    "InvalidVersion",
    "NoImageForVersion",
    "InvalidInstances",
    "InvalidImage",
    "InvalidPullSecret",
    "InvalidCpu",
    "InvalidMemory",
    "InvalidStorageSize",
    "InvalidStorageClass",
    "QuorumNeedsThree",
    "ParameterManaged",
    "ParameterUnknown",
    "InvalidParameterName",
    "ParameterTwice",
    "InvalidParameterValue",
    "InvalidConnections",
    "TooFewStreams",
    "UnsafeProtocol",
    "QuorumNeedsSynchronousCommit",
    "SharedBuffersTooLarge",
    "InvalidCertificateHours",
    "InvalidMaintenanceWindow",
    "ClientWithoutLabels",
    "InvalidLabels",
    "InvalidDedicatedNodes",
    "InvalidPriorityClass",
    "InvalidDatabase",
    "InvalidOwner",
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
        "spec": { "version": "9", "instances": 0, "parameters": { "fsync": "off", "port": "1" } },
    })));
    let problems = validate(&resource, &catalogue()).unwrap_err();
    let reasons: Vec<&str> = problems.iter().map(Problem::reason).collect();
    assert_eq!(
        reasons,
        [
            "InvalidVersion",
            "InvalidInstances",
            "ParameterManaged",
            "ParameterManaged"
        ]
    );
}

#[test]
fn a_good_resource_means_what_it_says() {
    let validated = validate(&stored(good()), &catalogue()).unwrap();
    assert_eq!(validated.common.set.name, "db");
    assert_eq!(validated.common.set.kind, "Postgres");
    assert_eq!(validated.common.generation, 4);
    assert_eq!((validated.major, validated.common.instances), (17, 3));
    assert_eq!(validated.common.durability, Durability::Quorum);
    assert_eq!(
        (validated.common.cpu_milli, validated.common.memory),
        (500, 1 << 30)
    );
    assert_eq!(validated.common.storage, 20 << 30);
    assert_eq!(validated.common.storage_class.as_deref(), Some("fast"));
    assert!(validated.common.protected && !validated.common.paused);
}

#[test]
fn defaults_are_applied() {
    let resource = stored(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Postgres",
        "metadata": {
            "name": "db",
            "namespace": "shop",
            "annotations": { "mainstay.dev/reconcile": "paused" },
        },
        "spec": { "version": "18", "storage": { "size": "1Gi" } },
    }));
    let validated = validate(&resource, &catalogue()).unwrap();
    assert_eq!(validated.common.image, "postgres:18.1");
    assert_eq!(validated.common.instances, 1);
    assert_eq!(validated.common.durability, Durability::Async);
    assert_eq!(
        (validated.common.cpu_milli, validated.common.memory),
        (250, 512 << 20)
    );
    assert_eq!(validated.common.certificate_hours, 2160);
    assert_eq!(
        (validated.database.as_str(), validated.owner.as_str()),
        ("app", "app")
    );
    assert_eq!(validated.common.volumes, KeptVolumes::Retain);
    assert!(validated.common.paused);
}
