//! Bad backups of a Redis, and bad beginnings from one. What is bad of any engine's is in PostgreSQL's table: the blocks
//! are the same.

use mainstay_crds::common::backup::rules as common;
use mainstay_crds::redis::rules;
use serde_json::{Value, json};

use super::By::{Both, Change};
use super::{Case, spec};
use crate::api::merge;

const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

/// Backups that are good, with `patch` over them.
pub(super) fn backup(patch: &Value) -> Value {
    let mut backup = json!({
        "repository": { "s3": { "bucket": "backups" }, "credentials": "backup-store" },
        "encryption": { "recipients": [RECIPIENT] },
    });
    merge(&mut backup, patch);
    json!({ "backup": backup })
}

/// A beginning that is good, with `patch` over it.
fn recovery(patch: &Value) -> Value {
    let mut recovery = json!({
        "repository": { "s3": { "bucket": "backups" }, "credentials": "backup-store", "prefix": "shop/old" },
        "keys": "old-backup-keys",
    });
    merge(&mut recovery, patch);
    json!({ "bootstrap": { "recovery": recovery } })
}

/// As a cache that keeps nothing. What is null stays so: it takes something out of the resource.
fn unkept(mut spec: Value) -> Value {
    let cache = json!({
        "instances": 1, "durability": null, "bounded": null, "persistence": "none",
        "parameters": { "appendfsync": null },
    });
    if let (Some(spec), Value::Object(cache)) = (spec.as_object_mut(), cache) {
        spec.extend(cache);
    }
    spec
}

/// Good ones.
pub fn good() -> Vec<(&'static str, Value)> {
    let of = |spec: Value| json!({ "spec": spec });
    let said = json!({
        "repository": { "prefix": "a/b" },
        "schedule": { "cron": "30 2 * * *", "incrementals": 0 },
        "retention": { "days": 30, "count": 4 },
        "limits": { "bandwidth": "50Mi", "concurrency": 2 },
        "seedReplicas": false,
        "adopt": "00112233445566778899aabbccddeeff",
    });
    let mut both = backup(&json!({}));
    merge(&mut both, &recovery(&json!({})));
    let mut last = backup(&json!({}));
    merge(&mut last, &json!({ "deletion": { "finalBackup": true } }));
    let one = "20260102t030405z-0011223344556677";
    vec![
        ("backups", of(backup(&json!({})))),
        ("backups with everything said", of(backup(&said))),
        (
            "a beginning with the newest backup",
            of(recovery(&json!({}))),
        ),
        (
            "a beginning with one backup",
            of(recovery(&json!({ "backup": one }))),
        ),
        ("a beginning, and backups elsewhere", of(both)),
        ("a last backup", of(last)),
    ]
}

/// Bad ones.
pub fn cases() -> Vec<Case> {
    let of = |name, field, sentence: &str, patch: Value| {
        spec(name, Both, field, sentence, backup(&patch))
    };
    vec![
        of(
            "increments of a whole dataset",
            "spec.backup.schedule.incrementals",
            rules::NO_INCREMENTALS,
            json!({ "schedule": { "incrementals": 2 } }),
        ),
        of(
            "a log that gives way",
            "spec.backup.onFull",
            rules::NO_LOG,
            json!({ "onFull": "StopWrites" }),
        ),
        of(
            "replicas from the repository",
            "spec.backup.seedReplicas",
            rules::NO_SEEDS,
            json!({ "seedReplicas": true }),
        ),
        of(
            "backups that only the set can open",
            "spec.backup.encryption",
            common::ESCROW,
            json!({ "encryption": { "recipients": null } }),
        ),
        of(
            "backups on the data's own volume",
            "spec.backup.repository.volume.claimName",
            common::OWN_CLAIM,
            json!({ "repository": { "s3": null, "credentials": null, "volume": { "claimName": "cache-1-data" } } }),
        ),
        spec(
            "backups of what is not kept",
            Both,
            "spec.backup",
            rules::NOTHING_KEPT,
            unkept(backup(&json!({}))),
        ),
        spec(
            "a beginning of what is not kept",
            Both,
            "spec.bootstrap",
            rules::NOTHING_MADE,
            unkept(recovery(&json!({}))),
        ),
        spec(
            "a moment between backups",
            Both,
            "spec.bootstrap.recovery.target",
            rules::NO_MOMENTS,
            recovery(&json!({ "target": { "time": "2026-01-02T03:04:05Z" } })),
        ),
        spec(
            "a last backup without a repository",
            Both,
            "spec.deletion.finalBackup",
            common::FINAL_BACKUP,
            json!({ "deletion": { "finalBackup": true } }),
        ),
        spec(
            "a beginning that was none",
            Change,
            "spec.bootstrap",
            common::BOOTSTRAP_CHANGES,
            recovery(&json!({})),
        ),
    ]
}
