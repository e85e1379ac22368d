//! Bad `Redis` resources, and the sentence that each gets: one table for the tests with and without an API server.

mod backup;
mod cluster;
mod drill;

use mainstay_crds::redis::parameters::{LACKING, REFUSED};
use mainstay_crds::redis::rules;
use serde_json::{Value, json};

use crate::api::merge;
use crate::cases::{By, Case, common, maintenance, spec};

/// A resource that is good.
pub fn good() -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Redis",
        "metadata": { "name": "cache", "namespace": "shop" },
        "spec": {
            "engine": "Redis",
            "version": "8.0",
            "mode": "Replication",
            "instances": 3,
            "image": "redis:8.0.2",
            "resources": { "cpu": "500m", "memory": "1Gi" },
            "storage": { "size": "20Gi", "class": "fast" },
            "persistence": "aof",
            "durability": "bounded",
            "bounded": { "minReplicasToWrite": 1, "maxLagSeconds": 5 },
            "maxmemoryPolicy": "volatile-lru",
            "parameters": { "maxclients": "2000", "appendfsync": "always" },
        },
    })
}

/// The good resource with a patch.
pub fn patched(patch: &Value) -> Value {
    let mut resource = good();
    merge(&mut resource, patch);
    resource
}

/// Resources that look odd and are good: what the rules must let through, as patches.
pub fn also_good() -> Vec<(&'static str, Value)> {
    let of = |patch: Value| json!({ "spec": patch });
    let single = json!({ "instances": 1, "durability": null, "bounded": null });
    let with = |more: Value| {
        let mut all = single.clone();
        merge(&mut all, &more);
        of(all)
    };
    [
        (
            "everything left out",
            with(json!({
                "engine": null, "mode": null, "instances": null, "image": null, "resources": null,
                "persistence": null, "maxmemoryPolicy": null, "parameters": null,
            })),
        ),
        (
            "three instances, bounded by default",
            of(json!({ "durability": null })),
        ),
        (
            "three instances, async",
            of(json!({ "durability": "async", "bounded": null })),
        ),
        (
            "nine instances of which seven must follow",
            of(json!({ "instances": 9, "bounded": { "minReplicasToWrite": 7 } })),
        ),
        ("two instances, async by default", with(json!({ "instances": 2 }))),
        (
            "a cache that may lose everything",
            of(json!({
                "instances": 1, "durability": null, "bounded": null,
                "persistence": "none", "parameters": { "appendfsync": null },
            })),
        ),
        (
            "snapshots at times of one's own",
            of(json!({ "persistence": "rdb", "parameters": { "appendfsync": null, "save": "900 1 60 1000" } })),
        ),
        (
            "Valkey",
            of(json!({ "engine": "Valkey", "version": "8.1", "image": "valkey:8.1.1" })),
        ),
        (
            "the oldest Redis",
            of(json!({ "version": "7.0", "parameters": { "dynamic-hz": "yes" } })),
        ),
        (
            "bytes with and without unit",
            of(json!({ "parameters": { "repl-backlog-size": "64mb", "proto-max-bulk-len": "1048576" } })),
        ),
        (
            "events of keys, and none",
            of(json!({ "parameters": { "notify-keyspace-events": "KEg$", "latency-tracking": "no" } })),
        ),
        (
            "an endpoint for clients of a Sentinel",
            of(json!({ "sentinel": {} })),
        ),
        (
            "one of a single instance",
            with(json!({ "instances": 1, "sentinel": {} })),
        ),
        (
            "no last backup",
            of(json!({ "deletion": { "finalBackup": false } })),
        ),
    ]
    .into_iter()
    .chain(maintenance::good())
    .chain(backup::good())
    .chain(drill::good())
    .chain(cluster::good())
    .collect()
}

/// A refused parameter; the sentence is what follows its name.
fn parameter(name: &'static str, by: By, parameter: &str, value: &str, sentence: &str) -> Case {
    spec(
        name,
        by,
        "spec.parameters",
        format!("{parameter}: {sentence}"),
        json!({ "parameters": { parameter: value } }),
    )
}

/// Every bad resource.
pub fn cases() -> Vec<Case> {
    [
        common::cases(),
        of_the_set(),
        of_data(),
        of_parameters(),
        of_groups(),
        backup::cases(),
        drill::cases(),
        cluster::cases(),
    ]
    .concat()
}

fn of_the_set() -> Vec<Case> {
    use By::{Both, Change, Operator};
    let version = |what, patch: Value| spec(what, Both, "spec.version", rules::VERSION, patch);
    let instances = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.instances",
            rules::INSTANCES,
            json!({ "instances": n, "durability": null, "bounded": null }),
        )
    };
    vec![
        spec(
            "an engine that is none",
            Both,
            "spec.engine",
            rules::ENGINE,
            json!({ "engine": "KeyDB" }),
        ),
        version("a patch version", json!({ "version": "8.0.2" })),
        version("a version of long ago", json!({ "version": "6.2" })),
        version("latest", json!({ "version": "latest" })),
        version("Redis' version of Valkey", json!({ "engine": "Valkey" })),
        version("Valkey's version of Redis", json!({ "version": "8.1" })),
        version(
            "Valkey's version of the default engine",
            json!({ "engine": null, "version": "8.1" }),
        ),
        spec(
            "a version that the catalogue has not",
            Operator,
            "spec.version",
            "the operator's image catalogue has 8.0 and not 8.1: write one it has, write image, or have the platform add \
             8.1 to the catalogue",
            json!({ "engine": "Valkey", "version": "8.1", "image": null }),
        ),
        spec(
            "another engine",
            Change,
            "spec.engine",
            rules::ENGINE_CHANGES,
            json!({ "engine": "Valkey", "version": "8.1" }),
        ),
        instances("no instance", 0),
        instances("too many", 10),
    ]
}

fn of_data() -> Vec<Case> {
    use By::Both;
    let durability = |what, words: &str| {
        spec(
            what,
            Both,
            "spec.durability",
            rules::DURABILITY,
            json!({ "durability": words, "bounded": null }),
        )
    };
    let bounded = |what, n: Value| {
        spec(
            what,
            Both,
            "spec.durability",
            rules::BOUNDED,
            json!({ "instances": n, "bounded": null }),
        )
    };
    let replicas = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.bounded.minReplicasToWrite",
            rules::MIN_REPLICAS,
            json!({ "bounded": { "minReplicasToWrite": n } }),
        )
    };
    let lag = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.bounded.maxLagSeconds",
            rules::MAX_LAG,
            json!({ "bounded": { "maxLagSeconds": n } }),
        )
    };
    vec![
        durability("a quorum, which Redis has none of", "quorum"),
        durability("another durability", "sync"),
        bounded("a bound of one", json!(1)),
        bounded("a bound of two", json!(2)),
        bounded("a bound of an unsaid number", Value::Null),
        spec(
            "a bound that is none",
            Both,
            "spec.bounded",
            rules::BOUNDED_BLOCK,
            json!({ "durability": "async" }),
        ),
        spec(
            "a bound that is none by default",
            Both,
            "spec.bounded",
            rules::BOUNDED_BLOCK,
            json!({ "instances": 2, "durability": null }),
        ),
        replicas("no replica to write", 0),
        replicas("every replica to write", 2),
        lag("no lag at all", 0),
        lag("an hour's lag", 3600),
        spec(
            "another persistence",
            Both,
            "spec.persistence",
            rules::PERSISTENCE,
            json!({ "persistence": "both", "parameters": null }),
        ),
        spec(
            "replicas without persistence",
            Both,
            "spec.persistence",
            rules::NONE_WITH_REPLICAS,
            json!({ "persistence": "none", "parameters": null }),
        ),
        spec(
            "another policy",
            Both,
            "spec.maxmemoryPolicy",
            rules::POLICY,
            json!({ "maxmemoryPolicy": "lru" }),
        ),
    ]
}

fn of_parameters() -> Vec<Case> {
    use By::{Both, Operator};
    let value = |what, name: &str, value: &str, expected: &str| {
        parameter(what, Operator, name, value, &format!("write {expected}"))
    };
    let alone = |what, sentence, patch: Value| spec(what, Both, "spec.parameters", sentence, patch);
    vec![
        parameter(
            "a parameter that is none",
            Both,
            "max-clients",
            "1",
            rules::UNKNOWN,
        ),
        parameter(
            "a parameter in capitals",
            Both,
            "MAXCLIENTS",
            "1000",
            rules::UNKNOWN,
        ),
        alone(
            "a name with a line break",
            rules::PARAMETER_NAME,
            json!({ "parameters": { "hz\nport": "1" } }),
        ),
        parameter(
            "a value of two lines",
            Both,
            "notify-keyspace-events",
            "K\nport 1",
            rules::ONE_LINE,
        ),
        alone(
            "a sync of a file that is none",
            rules::APPENDFSYNC,
            json!({ "persistence": "rdb" }),
        ),
        alone(
            "snapshots where there are none",
            rules::SAVE,
            json!({ "parameters": { "save": "60 1" } }),
        ),
        alone(
            "a parameter that Redis has since 7.2",
            LACKING[0].sentence,
            json!({ "version": "7.0", "parameters": { "set-max-listpack-value": "32" } }),
        ),
        alone(
            "a parameter that Valkey has no more",
            LACKING[1].sentence,
            json!({ "engine": "Valkey", "version": "8.1", "parameters": { "dynamic-hz": "no" } }),
        ),
        value("a switch that is neither", "dynamic-hz", "on", "yes or no"),
        value(
            "more than there is",
            "hz",
            "501",
            "a whole number between 1 and 500",
        ),
        value(
            "a number with a unit",
            "maxclients",
            "1k",
            "a whole number between 20 and 60000",
        ),
        value(
            "bytes in Kubernetes' unit",
            "repl-backlog-size",
            "64Mi",
            "bytes between 1048576 and 1099511627776, or with a unit (kb, mb, gb), for example 64mb",
        ),
        value(
            "a sync that is none",
            "appendfsync",
            "no",
            "one of everysec, always",
        ),
        value(
            "events of no class",
            "notify-keyspace-events",
            "K?",
            "letters of classes of events, for example KEA, or \"\"",
        ),
        spec(
            "snapshots without changes",
            Operator,
            "spec.parameters",
            "save: write pairs of seconds and changes, for example 3600 1 300 100",
            json!({ "persistence": "rdb", "parameters": { "appendfsync": null, "save": "60" } }),
        ),
    ]
}

/// Of each group that Mainstay manages a parameter, and more of the well-known ones.
fn of_groups() -> Vec<Case> {
    let firsts = REFUSED.iter().filter_map(|group| group.names.first());
    let known = [
        "replicaof",
        "requirepass",
        "tls-port",
        "appendonly",
        "min-replicas-to-write",
        "rename-command",
        "PORT",
    ];
    firsts
        .copied()
        .chain(known)
        .filter_map(|name| {
            let lower = name.to_ascii_lowercase();
            let group = REFUSED
                .iter()
                .find(|group| group.names.contains(&lower.as_str()))?;
            Some(parameter(
                "a parameter that Mainstay manages",
                By::Both,
                name,
                "1",
                group.sentence,
            ))
        })
        .collect()
}
