//! Bad drills.

#![allow(
    clippy::needless_pass_by_value,
    reason = "what is written as json! is given away"
)]

use mainstay_crds::common::backup::{checks, rules};
use mainstay_crds::common::sentences;
use mainstay_crds::postgres::rules as postgres;
use serde_json::{Value, json};

use super::By::{Both, Operator, Schema};
use super::{Case, spec};

/// Backups that are good, with these drills.
fn drill(drill: Value) -> Value {
    json!({ "backup": {
        "repository": { "s3": { "bucket": "backups" }, "credentials": "backup-store" },
        "encryption": { "iAcceptKeyLoss": true },
        "drill": drill,
    } })
}

/// Good ones.
pub fn good() -> Vec<(&'static str, Value)> {
    let of = |asked: Value| json!({ "spec": drill(asked) });
    let said = json!({
        "schedule": "30 3 * * 0", "target": "Random", "keepOnFailure": true, "timeoutSeconds": 7200,
        "resources": { "cpu": 1, "memory": "1Gi" },
        "checks": [
            { "sql": "select count(*) > 0 from orders" },
            { "sql": "select count(*)\nfrom customers", "expect": "7" },
            { "sql": "select ''", "expect": "" },
        ],
    });
    vec![
        ("drills", of(json!({}))),
        ("drills with everything said", of(said)),
    ]
}

/// Bad ones.
pub fn cases() -> Vec<Case> {
    let one = |what, by, field, sentence: &str, asked: Value| {
        spec(what, by, field, sentence, drill(asked))
    };
    let schedule = |what, by, sentence: &str, schedule: &str| {
        one(
            what,
            by,
            "spec.backup.drill.schedule",
            sentence,
            json!({ "schedule": schedule }),
        )
    };
    let check = |what, sql: &str| {
        one(
            what,
            Both,
            "spec.backup.drill.checks[1].sql",
            rules::SQL,
            json!({ "checks": [{ "sql": "select true" }, { "sql": sql }] }),
        )
    };
    vec![
        schedule("drills in words", Both, rules::DRILL_CRON, "@weekly"),
        schedule(
            "drills on a named day",
            Both,
            rules::DRILL_CRON,
            "30 3 * * SUN",
        ),
        schedule(
            "drills that go back",
            Operator,
            rules::DRILL_CRON,
            "30 6-2 * * 0",
        ),
        schedule(
            "drills on no day",
            Operator,
            "there is no such day: write one that every year has, for example \"30 2 1 * *\" for the first of each month",
            "30 3 31 2 *",
        ),
        check("a check that asks nothing", ""),
        check("a check of a blank line", " \n\t"),
        one(
            "a check of nothing",
            Both,
            "spec.backup.drill.checks[0]",
            checks::ONE,
            json!({ "checks": [{ "expect": "7" }] }),
        ),
        one(
            "a check for a key",
            Both,
            "spec.backup.drill.checks",
            postgres::CHECKS,
            json!({ "checks": [{ "sql": "select true" }, { "key": "orders:1" }] }),
        ),
        one(
            "a statement of a type",
            Both,
            "spec.backup.drill.checks[0].type",
            checks::TYPE_OF_A_KEY,
            json!({ "checks": [{ "sql": "select true", "type": "hash" }] }),
        ),
        one(
            "a statement in a numbered database",
            Both,
            "spec.backup.drill.checks[0].database",
            checks::DATABASE_OF_KEYS,
            json!({ "checks": [{ "sql": "select true", "database": 1 }] }),
        ),
        one(
            "drills of no time",
            Both,
            "spec.backup.drill.timeoutSeconds",
            rules::DRILL_TIMEOUT,
            json!({ "timeoutSeconds": 60 }),
        ),
        one(
            "drills with no memory to speak of",
            Both,
            "spec.backup.drill.resources.memory",
            sentences::MEMORY,
            json!({ "resources": { "memory": "1Mi" } }),
        ),
        one(
            "drills with no processor",
            Both,
            "spec.backup.drill.resources.cpu",
            sentences::CPU,
            json!({ "resources": { "cpu": "0" } }),
        ),
        one(
            "drills of another moment",
            Schema,
            "spec.backup.drill.target",
            "Unsupported value",
            json!({ "target": "Yesterday" }),
        ),
    ]
}
