//! Bad poolers.

use mainstay_crds::common::sentences;
use mainstay_crds::postgres::pooler;
use serde_json::{Value, json};

use super::By::{Both, Operator};
use super::{Case, spec};

/// An image, since the catalogue of the tests has none.
const IMAGE: &str = "pgbouncer:1.24.1";

/// Good poolers.
pub fn good() -> Vec<(&'static str, Value)> {
    let all = json!({
        "instances": 3, "mode": "session", "replicas": true, "poolSize": 10, "maxConnections": 500,
        "pauseSeconds": 30, "resources": {"cpu": 1, "memory": "32Mi"}, "image": IMAGE,
    });
    let of = |pooler: Value| json!({ "spec": { "pooler": pooler } });
    vec![
        ("a pooler", of(json!({ "image": IMAGE }))),
        ("a pooler with everything said", of(all)),
    ]
}

/// Poolers that cannot be.
pub fn cases() -> Vec<Case> {
    let one = |what, field, sentence, key: &str, value: Value| {
        let mut pooler = json!({ "image": IMAGE });
        pooler[key] = value;
        spec(what, Both, field, sentence, json!({ "pooler": pooler }))
    };
    let mut cases = vec![
        one(
            "a pooler without pods",
            "spec.pooler.instances",
            pooler::INSTANCES,
            "instances",
            json!(0),
        ),
        one(
            "a pool for nobody",
            "spec.pooler.poolSize",
            pooler::POOL_SIZE,
            "poolSize",
            json!(0),
        ),
        one(
            "a pooler for too many clients",
            "spec.pooler.maxConnections",
            pooler::MAX_CONNECTIONS,
            "maxConnections",
            json!(100_000),
        ),
        one(
            "a pause of a minute",
            "spec.pooler.pauseSeconds",
            pooler::PAUSE,
            "pauseSeconds",
            json!(60),
        ),
        one(
            "a pooler without processor time",
            "spec.pooler.resources.cpu",
            sentences::CPU,
            "resources",
            json!({ "cpu": "1m" }),
        ),
        one(
            "a pooler without memory",
            "spec.pooler.resources.memory",
            pooler::MEMORY,
            "resources",
            json!({ "memory": "1Mi" }),
        ),
        one(
            "an image of a pooler that changes without notice",
            "spec.pooler.image",
            sentences::IMAGE,
            "image",
            json!("pgbouncer:latest"),
        ),
    ];
    cases.push(spec(
        "a pooler for replicas that are not there",
        Both,
        "spec.pooler.replicas",
        pooler::REPLICAS,
        json!({ "instances": 1, "pooler": { "image": IMAGE, "replicas": true } }),
    ));
    cases.push(spec(
        "a pooler with more connections than PostgreSQL",
        Operator,
        "spec.pooler.poolSize",
        "2 pods with 60 connections each would use more of PostgreSQL's 100 connections than it has for clients: \
         write a smaller poolSize, or a larger max_connections",
        json!({ "pooler": { "image": IMAGE, "poolSize": 60 } }),
    ));
    cases.push(spec(
        "a pooler that nobody has an image of",
        Operator,
        "spec.pooler",
        "the operator's image catalogue has no image of PgBouncer: write pooler.image, or have the platform add \
         pgbouncer to the catalogue",
        json!({ "pooler": {} }),
    ));
    cases
}
