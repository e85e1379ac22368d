//! Of `mode: Cluster`.

use mainstay_crds::redis::rules;
use serde_json::{Value, json};

use super::backup::backup;
use crate::cases::{By, Case, spec};

/// What makes the good resource a cluster, with more.
fn cluster(more: &Value) -> Value {
    let mut patch = json!({
        "mode": "Cluster", "shards": 3, "replicas": 1, "instances": null, "durability": null, "bounded": null,
    });
    // A merge patch would take a null away, which is to be patched in.
    if let (Some(patch), Some(more)) = (patch.as_object_mut(), more.as_object()) {
        patch.extend(more.clone());
    }
    patch
}

/// Clusters that are good.
pub fn good() -> Vec<(&'static str, Value)> {
    let of = |more: Value| json!({ "spec": cluster(&more) });
    vec![
        ("a cluster", of(json!({}))),
        (
            "a cluster with one replica by default",
            of(json!({ "replicas": null })),
        ),
        (
            "a cluster without replicas, of snapshots",
            of(json!({ "replicas": 0, "persistence": "rdb", "parameters": null })),
        ),
        (
            "a large cluster",
            of(json!({ "shards": 16, "replicas": 2 })),
        ),
        ("a cluster with backups", of(backup(&json!({})))),
        (
            "a cluster with drills",
            of(backup(&json!({ "drill": { "checks": [
                { "keys": { "atLeast": 1 } },
                { "key": "a", "database": 0, "expect": "0" },
                { "command": ["MGET", "{a}1", "{a}2"], "expect": "0" },
                { "command": ["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "0"] },
            ] } }))),
        ),
        (
            "a cluster made from a repository",
            of(json!({ "bootstrap": { "recovery": {
                "repository": { "volume": { "claimName": "old" }, "prefix": "shop/old" }, "keys": "old-keys",
            } } })),
        ),
    ]
}

/// Clusters that are bad.
pub fn cases() -> Vec<Case> {
    use By::{Both, Change};
    let shards = |what, n: Value| {
        spec(
            what,
            Both,
            "spec.shards",
            rules::SHARDS,
            cluster(&json!({ "shards": n })),
        )
    };
    let replicas = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.replicas",
            rules::REPLICAS,
            cluster(&json!({ "replicas": n })),
        )
    };
    let alone =
        |what, patch: Value| spec(what, Both, "spec.shards", rules::ONLY_IN_CLUSTERS, patch);
    let without = |what, more: Value| {
        spec(
            what,
            Both,
            "spec.mode",
            rules::NOT_IN_CLUSTERS,
            cluster(&more),
        )
    };
    let asked = |what, sentence, check: Value| {
        let checks = json!([{ "key": "a", "database": 0 }, check]);
        spec(
            what,
            Both,
            "spec.backup.drill.checks",
            sentence,
            cluster(&backup(&json!({ "drill": { "checks": checks } }))),
        )
    };
    vec![
        spec(
            "another mode",
            Both,
            "spec.mode",
            rules::MODE,
            json!({ "mode": "Sharded" }),
        ),
        spec(
            "a cluster of what was none",
            Change,
            "spec.mode",
            rules::MODE_CHANGES,
            cluster(&json!({})),
        ),
        shards("a cluster of an unsaid number of shards", Value::Null),
        shards("a cluster of two shards", json!(2)),
        shards("a cluster of too many shards", json!(17)),
        replicas("more replicas than are offered", 3),
        replicas("fewer replicas than none", -1),
        alone("shards without a cluster", json!({ "shards": 3 })),
        alone("replicas without a cluster", json!({ "replicas": 1 })),
        without("a cluster of instances", json!({ "instances": 6 })),
        without("a cluster's durability", json!({ "durability": "async" })),
        without("a cluster's Sentinel", json!({ "sentinel": {} })),
        asked(
            "a drill of another database of a cluster",
            rules::CHECKS_OF_ONE_DATABASE,
            json!({ "keys": { "atLeast": 1 }, "database": 1 }),
        ),
        asked(
            "a database of a cluster that no set has",
            rules::CHECKS_OF_ONE_DATABASE,
            json!({ "key": "a", "database": 16 }),
        ),
        asked(
            "a drill that asks a cluster how large its database is",
            rules::CHECKS_OF_KEYS,
            json!({ "command": ["DBSIZE"] }),
        ),
        asked(
            "a drill with a script for no shard of a cluster",
            rules::CHECKS_OF_KEYS,
            json!({ "command": ["Eval_ro", "return 1", "0", "a"] }),
        ),
        spec(
            "a cluster that keeps nothing",
            Both,
            "spec.persistence",
            rules::KEPT_IN_CLUSTERS,
            cluster(&json!({ "persistence": "none", "parameters": null })),
        ),
        spec(
            "a cluster of several databases",
            Both,
            "spec.parameters",
            rules::ONE_DATABASE,
            cluster(&json!({ "parameters": { "databases": "4" } })),
        ),
    ]
}
