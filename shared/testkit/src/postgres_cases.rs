//! Bad `Postgres` resources, and the sentence that each gets: one table for the tests with and
//! without an API server.

mod backup;
mod drill;
mod pooler;

use mainstay_crds::common::sentences;
use mainstay_crds::postgres::parameters::{INTERNAL, REFUSED};
use mainstay_crds::postgres::rules;
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

/// A refused parameter; the sentence is what follows its name.
fn parameter(name: &'static str, by: By, parameter: &str, value: &str, sentence: &str) -> Case {
    let sentence = format!("{parameter}: {sentence}");
    spec(
        name,
        by,
        "spec.parameters",
        sentence,
        json!({ "parameters": { parameter: value } }),
    )
}

/// Every bad resource.
pub fn cases() -> Vec<Case> {
    [
        common::cases(),
        of_the_set(),
        of_changes(),
        of_parameters(),
        of_groups(),
        pooler::cases(),
        backup::cases(),
        drill::cases(),
    ]
    .concat()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_the_set() -> Vec<Case> {
    use By::{Both, Operator, Schema};
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

fn of_changes() -> Vec<Case> {
    use By::Change;
    vec![
        spec(
            "a newer major version",
            Change,
            "spec.version",
            rules::UPGRADE,
            json!({ "version": "18" }),
        ),
        spec(
            "an older major version",
            Change,
            "spec.version",
            rules::DOWNGRADE,
            json!({ "version": "16" }),
        ),
        spec(
            "another database",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": { "database": "other" } }),
        ),
        spec(
            "another owner",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": { "owner": "other" } }),
        ),
        spec(
            "application left out",
            Change,
            "spec.application",
            rules::APPLICATION_CHANGES,
            json!({ "application": null }),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_parameters() -> Vec<Case> {
    use By::{Both, Operator};
    let unknown = |what, name: &str, version: &str| {
        spec(
            what,
            Both,
            "spec.parameters",
            format!(
                "{name}: PostgreSQL {version} has no such parameter: write a name that SHOW ALL lists there, in lower case, \
                 or an extension's with a dot"
            ),
            json!({ "version": version, "parameters": { name: "1" } }),
        )
    };
    let name = |what, name: &str| {
        spec(
            what,
            Both,
            "spec.parameters",
            rules::PARAMETER_NAME,
            json!({ "parameters": { name: "1" } }),
        )
    };
    let connections = |what, n: &str| {
        spec(
            what,
            Both,
            "spec.parameters",
            rules::MAX_CONNECTIONS,
            json!({ "parameters": { "max_connections": n } }),
        )
    };
    let commit = |what, value: &str| {
        spec(
            what,
            Both,
            "spec.parameters",
            rules::SYNCHRONOUS_COMMIT,
            json!({ "parameters": { "synchronous_commit": value } }),
        )
    };
    vec![
        unknown("a parameter that is none", "work_memory", "17"),
        unknown("a parameter of a later version", "io_method", "17"),
        unknown(
            "a parameter of an earlier version",
            "old_snapshot_threshold",
            "17",
        ),
        unknown("a parameter in capitals", "WORK_MEM", "17"),
        unknown("a dot in a wrong place", ".work_mem", "17"),
        name("a name with a line break", "work_mem\nfsync"),
        name("a name without end", &"a.b".repeat(100)),
        parameter("a fixed parameter", Both, "block_size", "8192", INTERNAL),
        parameter(
            "a value of two lines",
            Both,
            "log_line_prefix",
            "x\nfsync = off",
            rules::ONE_LINE,
        ),
        connections("too few connections", "1"),
        connections("too many connections", "100000"),
        connections("connections in words", "many"),
        commit("commits that wait for nothing", "off"),
        commit("commits that wait for the primary only", "local"),
        commit("commits that wait for a replica's memory", "remote_write"),
        parameter(
            "no WAL sender for replicas",
            Both,
            "max_wal_senders",
            "0",
            rules::STREAMS,
        ),
        parameter(
            "too few slots",
            Both,
            "max_replication_slots",
            "3",
            rules::STREAMS,
        ),
        parameter(
            "a protocol of long ago",
            Both,
            "ssl_min_protocol_version",
            "TLSv1",
            rules::OLD_TLS.trim_start_matches("ssl_min_protocol_version: "),
        ),
        parameter(
            "shared buffers that do not fit",
            Operator,
            "shared_buffers",
            "2GB",
            "does not fit into the instance's memory: write at most 768MB (three quarters of it), or a larger \
             resources.memory",
        ),
        parameter(
            "memory in Kubernetes' unit",
            Operator,
            "work_mem",
            "64Mi",
            "write a whole number between 64 and 2147483647 (in kB, or with a unit: B, kB, MB, GB or TB; for example 64MB)",
        ),
        parameter(
            "a switch that is neither on nor off",
            Operator,
            "autovacuum",
            "maybe",
            "write on or off",
        ),
        parameter(
            "a word that is none of the known",
            Operator,
            "log_statement",
            "everything",
            "write one of none, ddl, mod, all",
        ),
        spec(
            "every connection reserved",
            Operator,
            "spec.parameters",
            "superuser_reserved_connections and reserved_connections leave none of 20 connections: write a larger \
             max_connections, or reserve fewer",
            json!({ "parameters": { "max_connections": "20", "superuser_reserved_connections": "20" } }),
        ),
        spec(
            "one parameter under two spellings",
            Operator,
            "spec.parameters",
            "TimeZone is there twice under two spellings: write it once",
            json!({ "parameters": { "TimeZone": "UTC", "timezone": "UTC" } }),
        ),
    ]
}

/// One parameter of each group that Mainstay manages, then more of the well-known ones.
fn of_groups() -> Vec<Case> {
    let mut names: Vec<&str> = REFUSED
        .iter()
        .filter_map(|group| group.names.first().copied())
        .collect();
    names.extend([
        "listen_addresses",
        "port",
        "ssl",
        "ssl_cert_file",
        "wal_level",
        "archive_mode",
        "primary_conninfo",
        "data_directory",
        "hba_file",
        "log_destination",
        "logging_collector",
        "fsync",
        "full_page_writes",
        "restore_command",
    ]);
    names
        .into_iter()
        .filter_map(|name| {
            let group = REFUSED.iter().find(|group| group.names.contains(&name))?;
            Some(parameter(
                "a parameter that Mainstay manages",
                By::Both,
                name,
                "on",
                group.sentence,
            ))
        })
        .collect()
}

/// The good resource with a patch.
pub fn patched(patch: &Value) -> Value {
    let mut resource = good();
    merge(&mut resource, patch);
    resource
}
