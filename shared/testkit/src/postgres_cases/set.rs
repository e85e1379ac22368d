//! Bad versions, numbers of instances and applications.

use mainstay_crds::common::sentences;
use mainstay_crds::postgres::rules;
use serde_json::json;

use super::By::{Both, Operator, Schema};
use super::{Case, spec};

/// What a set cannot be.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn cases() -> Vec<Case> {
    let version = |what, version: &str| {
        spec(
            what,
            Both,
            "spec.version",
            rules::VERSION,
            json!({ "version": version }),
        )
    };
    let quorum = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.durability",
            sentences::QUORUM,
            json!({ "instances": n, "durability": "quorum" }),
        )
    };
    let instances = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.instances",
            rules::INSTANCES,
            json!({ "instances": n }),
        )
    };
    let database = |what, name: &str| {
        spec(
            what,
            Both,
            "spec.application.database",
            rules::DATABASE,
            json!({ "application": { "database": name } }),
        )
    };
    let owner = |what, name: &str| {
        spec(
            what,
            Both,
            "spec.application.owner",
            rules::OWNER,
            json!({ "application": { "owner": name } }),
        )
    };
    vec![
        version("a minor version", "17.2"),
        version("a version of long ago", "9"),
        version("latest", "latest"),
        version("a version to come", "19"),
        version("no version", ""),
        spec(
            "a version as a number",
            Schema,
            "spec.version",
            "must be of type string",
            json!({ "version": 17 }),
        ),
        instances("no instance", 0),
        instances("fewer than none", -1),
        instances("too many", 10),
        quorum("quorum of one", 1),
        quorum("quorum of two", 2),
        spec(
            "a preferred quorum of one",
            Both,
            "spec.durability",
            sentences::QUORUM,
            json!({ "instances": 1, "durability": "quorum", "quorum": { "enforcement": "preferred" } }),
        ),
        spec(
            "a quorum that is none",
            Both,
            "spec.quorum",
            sentences::ENFORCEMENT,
            json!({ "durability": "async", "quorum": { "enforcement": "required" } }),
        ),
        spec(
            "a bound of a lag that is none",
            Both,
            "spec.async",
            sentences::ASYNCHRONOUS,
            json!({ "async": { "maxLagBytes": 67_108_864 } }),
        ),
        spec(
            "a bound of the lag of nobody",
            Both,
            "spec.async",
            sentences::ASYNCHRONOUS,
            json!({ "instances": 1, "async": { "maxLagBytes": 67_108_864 } }),
        ),
        spec(
            "a bound that is too small",
            Both,
            "spec.async.maxLagBytes",
            sentences::MAX_LAG,
            json!({ "instances": 2, "async": { "maxLagBytes": 1024 } }),
        ),
        spec(
            "a quorum of any zone that is none",
            Both,
            "spec.quorum",
            sentences::ENFORCEMENT,
            json!({ "durability": "async", "quorum": { "acrossZones": false } }),
        ),
        spec(
            "a quorum that is none by default",
            Both,
            "spec.quorum",
            sentences::ENFORCEMENT,
            json!({ "instances": 2, "quorum": { "enforcement": "preferred" } }),
        ),
        spec(
            "quorum of an unsaid number",
            Both,
            "spec.durability",
            sentences::QUORUM,
            json!({ "instances": null, "durability": "quorum" }),
        ),
        spec(
            "another durability",
            Schema,
            "spec.durability",
            "supported values: \"quorum\", \"async\"",
            json!({ "durability": "sync" }),
        ),
        spec(
            "an image that nobody has",
            Operator,
            "spec.version",
            "the operator's image catalogue has 17, 18 and not 16: write one it has, write image, or have the platform \
             add 16 to the catalogue",
            json!({ "version": "16", "image": null }),
        ),
        database("PostgreSQL's own database", "postgres"),
        database("a template", "template1"),
        database("a word of the host rules", "replication"),
        database("a database of Mainstay's", "mainstay_shop"),
        database("a database of the catalogue's", "pg_shop"),
        database("a database with a dash", "my-shop"),
        database("a database with capitals", "Shop"),
        database("a database too long", &"a".repeat(64)),
        database("a database with a quote", "a\"b"),
        owner("the superuser as owner", "postgres"),
        owner("everybody as owner", "public"),
        owner("a role of Mainstay's", "mainstay_probe"),
        owner("no owner", ""),
    ]
}
