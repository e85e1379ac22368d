//! `kubectl mainstay status`.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use mainstay_crds::common::RecoveryStatus;
use mainstay_crds::common::backup::DrillRecord;
use mainstay_crds::redis::ClusterStatus;

use crate::sets::{self, Set};
use crate::words::{NONE, age, condition, moment, or_none, span};
use crate::{Asked, Output, json, table};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set; a table of all of the namespace unless said.
    set: Option<String>,
}

const HEAD: [&str; 9] = [
    "NAME",
    "KIND",
    "READY",
    "PRIMARY",
    "INSTANCES",
    "VERSION",
    "LAST BACKUP",
    "PROVEN",
    "WAITING",
];

fn row(set: &Set, now: Timestamp) -> Vec<String> {
    let status = &set.said;
    let is = |kind| condition(&status.conditions, kind).map(|c| c.status.clone());
    let recovery = status.recovery.clone().unwrap_or_default();
    let backed_up = recovery.last_backup.and_then(|b| b.at);
    vec![
        set.name.clone(),
        set.kind.clone(),
        or_none(is("Ready")),
        or_none(status.primary.clone()),
        or_none(status.ready.clone()),
        or_none(status.version.clone()),
        or_none(backed_up.map(|at| age(&at, now))),
        or_none(is("RecoveryProven")),
        or_none(status.waiting.clone()),
    ]
}

/// One set, in lines: what is good in a word, what is not in its sentence.
fn details(set: &Set, now: Timestamp) -> Vec<String> {
    let status = &set.said;
    let leads = match &status.cluster {
        Some(cluster) => format!("{} shards", cluster.shards.len()),
        None => format!("primary {}", or_none(status.primary.clone())),
    };
    let mut lines = vec![format!(
        "{}: {} {}, {} instances ready, {leads}",
        set.name,
        set.engine,
        or_none(status.version.clone()),
        or_none(status.ready.clone()),
    )];
    for condition in &status.conditions {
        let (kind, state) = (&condition.type_, &condition.status);
        let why = Some(condition.message.as_str()).filter(|m| !m.is_empty());
        let why = why.map_or_else(String::new, |m| format!(" ({m})"));
        lines.push(format!("  {kind}: {state}{why}"));
    }
    for instance in &status.instances {
        let role = format!("{:?}", instance.role).to_lowercase();
        let state = if instance.ready {
            "ready".to_owned()
        } else {
            instance.state.clone().unwrap_or_else(|| "not ready".into())
        };
        let node = instance.node.as_deref().unwrap_or(NONE);
        let zone = instance.zone.as_deref().unwrap_or(NONE);
        lines.push(format!(
            "  {}: {role} on {node} in zone {zone}, {state}",
            instance.name
        ));
    }
    if let Some(survives) = &status.survives {
        let can = |what, can| format!("{} {what}", if can { "any one" } else { "not every" });
        lines.push(format!(
            "  survives: {}, {}{}",
            can("node", survives.node),
            can("zone", survives.zone),
            survives
                .reason
                .as_ref()
                .map_or_else(String::new, |r| format!(" ({r})")),
        ));
    }
    if let Some(bound) = &status.bound {
        lines.push(format!(
            "  bounded: takes a write while {} of its replicas were heard of within {}s",
            bound.replicas, bound.seconds
        ));
    }
    if let Some(cluster) = &status.cluster {
        lines.extend(shards(cluster));
    }
    if let Some(recovery) = &status.recovery {
        lines.extend(recoverable(recovery, now));
    }
    for wait in &status.waiting_for {
        let since = age(&wait.since, now);
        lines.push(format!(
            "  {} waits for {since}: {}",
            wait.step, wait.reason
        ));
    }
    lines.extend(
        status
            .pending_changes
            .iter()
            .map(|c| format!("  to do: {c}")),
    );
    lines
}

/// Shards of a cluster, and slots that move.
fn shards(cluster: &ClusterStatus) -> Vec<String> {
    let mut lines: Vec<String> = cluster
        .shards
        .iter()
        .map(|shard| {
            let replicas = match shard.replicas.as_slice() {
                [] => "no replica".to_owned(),
                all => format!("replicas {}", all.join(", ")),
            };
            format!(
                "  shard of {}: {} slots, {replicas}",
                shard.primary, shard.slots
            )
        })
        .collect();
    if cluster.slots_to_move > 0 {
        lines.push(format!("  {} slots are to move", cluster.slots_to_move));
    }
    lines
}

fn recoverable(recovery: &RecoveryStatus, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let place = recovery.repository.clone().unwrap_or_default();
    lines.push(match (&recovery.earliest, &recovery.latest) {
        // The latest is written now and then: right after the first backup it may lag behind it.
        (Some(earliest), Some(latest)) if latest.0 > earliest.0 => format!(
            "  recoverable: every moment from {} to {} ({} ago), from {place}",
            moment(earliest),
            moment(latest),
            age(latest, now),
        ),
        (Some(earliest), _) => {
            format!("  recoverable: from {} on, from {place}", moment(earliest))
        }
        (None, _) => format!("  recoverable: nothing yet, from {place}"),
    });
    if let Some(drill) = recovery.drills.first() {
        lines.push(format!("  last drill: {}", drilled(drill)));
    }
    lines
}

/// A drill in one line.
pub fn drilled(drill: &DrillRecord) -> String {
    let measured = drill.recovery_seconds.zip(drill.recovery_point_seconds);
    let measured = measured.map_or_else(String::new, |(time, point)| {
        format!(
            ", recovery time {}, recovery point {}",
            span(time),
            span(point)
        )
    });
    let result = format!("{:?}", drill.result).to_lowercase();
    let at = drill.ended.as_ref().unwrap_or(&drill.due);
    format!("{result} at {}{measured}: {}", moment(at), drill.message)
}

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    let Asked { scene, output, out } = asked;
    let all = match &options.set {
        Some(name) => sets::named(scene, name).await?,
        None => sets::all(scene).await?,
    };
    if output == Output::Json {
        // What programs get.
        let summary = |set: &Set| {
            serde_json::json!({
                "namespace": scene.namespace, "kind": set.kind, "name": set.name, "status": set.status,
            })
        };
        return json(out, &all.iter().map(summary).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    if options.set.is_some() {
        for line in all.iter().flat_map(|set| details(set, now)) {
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if all.is_empty() {
        eprintln!("nothing in namespace {}", scene.namespace);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all.iter().map(|set| row(set, now)).collect();
    table(out, &HEAD, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_crds::postgres::Postgres;
    use mainstay_crds::redis::Redis;
    use serde_json::json;

    #[test]
    fn a_set_is_told_with_what_is_waited_for_and_what_can_be_recovered() {
        let pg: Postgres = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres", "metadata": {"name": "db"},
            "spec": {"version": "17", "storage": {"size": "1Gi"}},
            "status": {
                "version": "17.12", "ready": "1/2", "primary": "db-1",
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Serving", "message": "it serves",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "instances": [
                    {"name": "db-1", "role": "Primary", "ready": true, "node": "n1", "zone": "a"},
                    {"name": "db-2", "role": "Unknown", "ready": false, "state": "is copied"},
                ],
                "survives": {"node": false, "zone": false, "reason": "one instance"},
                "recovery": {
                    "repository": "s3://b/db", "earliest": "2026-01-01T00:00:00Z",
                    "latest": "2026-01-02T00:00:00Z",
                    "drills": [{
                        "due": "2026-01-01T12:00:00Z", "result": "Passed", "message": "all holds",
                        "recoverySeconds": 30, "recoveryPointSeconds": 61,
                    }],
                },
                "waitingFor": [{
                    "step": "restart db-2", "predicate": "p", "reason": "it is copied",
                    "since": "2026-01-02T00:00:00Z",
                }],
            },
        }))
        .unwrap();
        let now: Timestamp = "2026-01-02T00:01:00Z".parse().unwrap();
        let set = Set::of(&pg).unwrap();
        let lines = details(&set, now);
        assert_eq!(
            lines,
            [
                "db: PostgreSQL 17.12, 1/2 instances ready, primary db-1",
                "  Ready: True (it serves)",
                "  db-1: primary on n1 in zone a, ready",
                "  db-2: unknown on - in zone -, is copied",
                "  survives: not every node, not every zone (one instance)",
                "  recoverable: every moment from 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z (60s ago), from s3://b/db",
                "  last drill: passed at 2026-01-01T12:00:00Z, recovery time 30s, recovery point 61s: all holds",
                "  restart db-2 waits for 60s: it is copied",
            ]
        );
        let first = ["db", "Postgres", "True", "db-1", "1/2", "17.12"];
        assert_eq!(row(&set, now)[..6], first);
    }

    #[test]
    fn a_cluster_is_told_with_its_shards() {
        let redis: Redis = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis", "metadata": {"name": "cache"},
            "spec": {"version": "8.0", "mode": "Cluster", "shards": 3, "storage": {"size": "1Gi"}},
            "status": {
                "version": "8.0.2", "ready": "6/6",
                "cluster": {
                    "formed": true, "slots": 16384, "slotsToMove": 90,
                    "shards": [
                        {"primary": "cache-1", "replicas": ["cache-4"], "slots": 5461},
                        {"primary": "cache-2", "slots": 10923},
                    ],
                },
            },
        }))
        .unwrap();
        let set = Set::of(&redis).unwrap();
        assert_eq!(
            details(&set, Timestamp::UNIX_EPOCH),
            [
                "cache: Redis 8.0.2, 6/6 instances ready, 2 shards",
                "  shard of cache-1: 5461 slots, replicas cache-4",
                "  shard of cache-2: 10923 slots, no replica",
                "  90 slots are to move",
            ]
        );
    }

    #[test]
    fn a_redis_is_told_in_the_same_words() {
        let redis: Redis = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis", "metadata": {"name": "cache"},
            "spec": {"engine": "Valkey", "version": "8.1", "storage": {"size": "1Gi"}},
            "status": {
                "version": "8.1.3", "ready": "3/3", "primary": "cache-2", "waiting": "restart cache-1",
                "bound": {"replicas": 1, "seconds": 10},
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "NotServing", "message": "no replica is heard of",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "instances": [{"name": "cache-2", "role": "Primary", "ready": true, "node": "n1"}],
                "survives": {"node": true, "zone": false, "reason": "one zone"},
                "pendingChanges": ["restart cache-1: databases"],
                "waitingFor": [{
                    "step": "restart cache-1", "predicate": "p", "reason": "cache-3 is copied",
                    "since": "2026-01-02T00:00:00Z",
                }],
            },
        }))
        .unwrap();
        let now: Timestamp = "2026-01-02T00:01:00Z".parse().unwrap();
        let set = Set::of(&redis).unwrap();
        assert_eq!(
            details(&set, now),
            [
                "cache: Valkey 8.1.3, 3/3 instances ready, primary cache-2",
                "  Ready: False (no replica is heard of)",
                "  cache-2: primary on n1 in zone -, ready",
                "  survives: any one node, not every zone (one zone)",
                "  bounded: takes a write while 1 of its replicas were heard of within 10s",
                "  restart cache-1 waits for 60s: cache-3 is copied",
                "  to do: restart cache-1: databases",
            ]
        );
        let row = row(&set, now);
        assert_eq!(row[..3], ["cache", "Redis", "False"]);
        assert_eq!(row[6..], ["-", "-", "restart cache-1"]);
    }
}
