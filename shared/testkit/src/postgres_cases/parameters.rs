//! Bad parameters.

use mainstay_crds::postgres::parameters::{INTERNAL, REFUSED};
use mainstay_crds::postgres::rules;
use serde_json::json;

use super::By::{self, Both, Operator};
use super::{Case, spec};

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

/// Parameters that nobody may set, and values that cannot be.
pub fn cases() -> Vec<Case> {
    [of_values(), of_groups()].concat()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn of_values() -> Vec<Case> {
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
                Both,
                name,
                "on",
                group.sentence,
            ))
        })
        .collect()
}
