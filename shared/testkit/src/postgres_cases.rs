//! Bad `Postgres` resources, and the sentence that each gets: one table for the tests with and
//! without an API server.

mod backup;
mod changes;
mod drill;
mod parameters;
mod pooler;
mod set;

use serde_json::{Value, json};

use crate::api::merge;
pub use crate::cases::{By, Case};
use crate::cases::{common, maintenance, spec};

/// A resource that is good.
pub fn good() -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Postgres",
        "metadata": { "name": "db", "namespace": "shop" },
        "spec": {
            "version": "17",
            "instances": 3,
            "image": "postgres:17.6",
            "resources": { "cpu": "500m", "memory": "1Gi" },
            "storage": { "size": "20Gi", "class": "fast" },
            "parameters": { "work_mem": "8MB", "auto_explain.log_analyze": "on" },
            "application": { "database": "shop", "owner": "shop" },
        },
    })
}

/// Resources that look odd and are good: what the rules must let through, as patches.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn also_good() -> Vec<(&'static str, Value)> {
    let spec = |patch: Value| json!({ "spec": patch });
    vec![
        (
            "a number where a quantity is meant",
            spec(json!({ "resources": { "cpu": 2 } })),
        ),
        (
            "the longest name",
            json!({ "metadata": { "name": "a".repeat(50) } }),
        ),
        (
            "a name with digits and dashes",
            json!({ "metadata": { "name": "db-1-x" } }),
        ),
        (
            "everything left out",
            spec(
                json!({ "instances": null, "image": null, "resources": null, "parameters": null, "application": null }),
            ),
        ),
        (
            "two instances, async by default",
            spec(json!({ "instances": 2 })),
        ),
        (
            "nine instances",
            spec(json!({ "instances": 9, "durability": "quorum" })),
        ),
        ("four instances", spec(json!({ "instances": 4 }))),
        (
            "a preferred quorum of two",
            spec(
                json!({ "instances": 2, "durability": "quorum", "quorum": { "enforcement": "preferred" } }),
            ),
        ),
        (
            "two instances, async with a bound",
            spec(json!({ "instances": 2, "async": { "maxLagBytes": 1_048_576 } })),
        ),
        (
            "a quorum of any zone",
            spec(json!({ "quorum": { "acrossZones": false } })),
        ),
        (
            "a preferred quorum of three, by default",
            spec(json!({ "quorum": { "enforcement": "preferred" } })),
        ),
        (
            "three instances, async",
            spec(json!({ "durability": "async", "parameters": { "synchronous_commit": "off" } })),
        ),
        (
            "an image of a registry with a port",
            spec(json!({ "image": "registry.example.com:5000/db/postgres:17.6" })),
        ),
        (
            "an image by digest",
            spec(json!({ "image": format!("postgres@sha256:{}", "0".repeat(64)) })),
        ),
        (
            "time zone in lower case",
            spec(json!({ "parameters": { "timezone": "UTC" } })),
        ),
        (
            "time zone as PostgreSQL lists it",
            spec(json!({ "parameters": { "TimeZone": "UTC" } })),
        ),
        (
            "quotes in a value",
            spec(json!({ "parameters": { "log_line_prefix": "%m 'it''s' \"%u\" \\ " } })),
        ),
        (
            "a parameter of 18 in 18",
            spec(json!({ "version": "18", "parameters": { "io_method": "worker" } })),
        ),
        (
            "a waiting synchronous_commit",
            spec(json!({ "parameters": { "synchronous_commit": "remote_apply" } })),
        ),
        (
            "shared buffers of half the memory",
            spec(json!({ "parameters": { "shared_buffers": "512MB" } })),
        ),
        (
            "fractions of a unit",
            spec(json!({ "storage": { "size": "21.5Gi" } })),
        ),
        (
            "a client by namespace",
            spec(
                json!({ "network": { "clients": [{ "namespaceLabels": { "kubernetes.io/metadata.name": "web" } }] } }),
            ),
        ),
        (
            "dedicated nodes without value",
            spec(
                json!({ "placement": { "dedicatedNodes": { "key": "example.com/db", "value": "" } } }),
            ),
        ),
        (
            "an hour's certificates",
            spec(json!({ "tls": { "certificateHours": 1 } })),
        ),
    ]
    .into_iter()
    .chain(maintenance::good())
    .chain(pooler::good())
    .chain(backup::good())
    .chain(drill::good())
    .collect()
}

/// Every bad resource.
pub fn cases() -> Vec<Case> {
    [
        common::cases(),
        set::cases(),
        changes::cases(),
        parameters::cases(),
        pooler::cases(),
        backup::cases(),
        drill::cases(),
    ]
    .concat()
}

/// The good resource with a patch.
pub fn patched(patch: &Value) -> Value {
    let mut resource = good();
    merge(&mut resource, patch);
    resource
}
