//! Bad drills of a Redis. What is bad of any engine's is in PostgreSQL's table.

#![allow(
    clippy::needless_pass_by_value,
    reason = "what is written as json! is given away"
)]

use mainstay_crds::common::backup::{checks, rules as common};
use mainstay_crds::redis::rules;
use serde_json::{Value, json};

use super::By::{Both, Operator};
use super::backup::backup;
use super::{Case, spec};

/// Backups that are good, with drills that ask this.
fn asking(checks: Value) -> Value {
    backup(&json!({ "drill": { "checks": checks } }))
}

/// Good ones.
pub fn good() -> Vec<(&'static str, Value)> {
    let of = |spec: Value| json!({ "spec": spec });
    let all = json!([
        { "keys": { "atLeast": 1 } },
        { "keys": { "atLeast": 0, "atMost": 0 }, "database": 15 },
        { "keys": { "atMost": 9_000_000_000_i64 } },
        { "key": "orders:1" },
        { "key": "orders:1", "type": "hash" },
        { "key": "version", "expect": "42", "database": 0 },
        { "key": "version", "type": "string", "expect": "" },
        { "command": ["HGET", "orders:1", "state"], "expect": "paid", "database": 3 },
        { "command": ["exists", "orders:1"] },
        { "command": ["Object", "ENCODING", "orders:1"], "expect": "listpack" },
        { "command": ["EVAL_RO", "return redis.call('DBSIZE')", "0"] },
        { "command": ["FCALL_RO", "total", "1", "orders"], "expect": "7" },
    ]);
    let more = json!({
        "parameters": { "databases": "64" },
        "backup": { "drill": { "checks": [{ "keys": { "atLeast": 1 }, "database": 63 }] } },
    });
    let mut larger = backup(&json!({}));
    crate::api::merge(&mut larger, &more);
    vec![
        ("drills", of(backup(&json!({ "drill": {} })))),
        (
            "drills of any backup",
            of(backup(
                &json!({ "drill": { "target": "Random", "schedule": "30 3 * * 0", "keepOnFailure": true } }),
            )),
        ),
        ("drills that ask for everything", of(asking(all))),
        ("drills that look into the last database", of(larger)),
    ]
}

/// Bad ones.
pub fn cases() -> Vec<Case> {
    [of_checks(), of_commands()].concat()
}

fn of_checks() -> Vec<Case> {
    let one = |name, field, sentence: &str, check: Value| {
        spec(name, Both, field, sentence, asking(json!([check])))
    };
    let count = |name, count: Value| {
        one(
            name,
            "spec.backup.drill.checks[0].keys",
            checks::COUNT,
            json!({ "keys": count }),
        )
    };
    let expect = |name, check: Value| {
        one(
            name,
            "spec.backup.drill.checks[0].expect",
            checks::EXPECT,
            check,
        )
    };
    vec![
        one(
            "a statement for Redis",
            "spec.backup.drill.checks",
            rules::CHECKS,
            json!({ "sql": "select true" }),
        ),
        one(
            "a check that asks nothing",
            "spec.backup.drill.checks[0]",
            checks::ONE,
            json!({}),
        ),
        one(
            "a check that asks two things",
            "spec.backup.drill.checks[0]",
            checks::ONE,
            json!({ "keys": { "atLeast": 1 }, "key": "orders:1" }),
        ),
        one(
            "a check without a word",
            "spec.backup.drill.checks[0]",
            checks::ONE,
            json!({ "command": [] }),
        ),
        count("any number of keys", json!({})),
        count("fewer keys than none", json!({ "atLeast": -1 })),
        count("at most fewer than none", json!({ "atMost": -1 })),
        count(
            "bounds the wrong way round",
            json!({ "atLeast": 7, "atMost": 6 }),
        ),
        one(
            "a key without a name",
            "spec.backup.drill.checks[0].key",
            checks::KEY,
            json!({ "key": "" }),
        ),
        one(
            "a key of an unknown type",
            "spec.backup.drill.checks[0].type",
            checks::TYPE,
            json!({ "key": "orders:1", "type": "Hash" }),
        ),
        one(
            "the type of a command",
            "spec.backup.drill.checks[0].type",
            checks::TYPE_OF_A_KEY,
            json!({ "command": ["GET", "a"], "type": "string" }),
        ),
        expect(
            "keys with an answer",
            json!({ "keys": { "atLeast": 1 }, "expect": "7" }),
        ),
        expect(
            "the value of a hash",
            json!({ "key": "orders:1", "type": "hash", "expect": "7" }),
        ),
        one(
            "a database before the first",
            "spec.backup.drill.checks[0].database",
            checks::DATABASE,
            json!({ "key": "a", "database": -1 }),
        ),
        spec(
            "a database that is not there",
            Operator,
            "spec.backup.drill.checks[1].database",
            rules::NO_DATABASE,
            asking(json!([{ "key": "a", "database": 15 }, { "key": "a", "database": 16 }])),
        ),
        spec(
            "drills in words",
            Both,
            "spec.backup.drill.schedule",
            common::DRILL_CRON,
            backup(&json!({ "drill": { "schedule": "@weekly" } })),
        ),
    ]
}

fn of_commands() -> Vec<Case> {
    let command = |name, words: &[&str]| {
        spec(
            name,
            Both,
            "spec.backup.drill.checks[0].command",
            checks::COMMAND,
            asking(json!([{ "command": words }])),
        )
    };
    vec![
        command("a command that writes", &["SET", "a", "b"]),
        command("a command that writes in small letters", &["del", "a"]),
        command("a command for the server", &["CONFIG", "GET", "*"]),
        command("a command for all keys at once", &["KEYS", "*"]),
        command("a command that waits", &["BLPOP", "a", "0"]),
        command("a script that may write", &["EVAL", "return 1", "0"]),
        command("a command in one word", &["GET a"]),
        command("a command of nothing", &[""]),
    ]
}
