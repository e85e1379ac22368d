//! Drills: what is Redis' own of them. How they are begun, told of, skipped and removed is every engine's, and tried with
//! PostgreSQL's.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mainstay_backup::api::BackupEntry;
use mainstay_backup::drill::{DrillReport, FailedCheck};
use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use mainstay_crds::operation::{Operation, OperationPhase};
use mainstay_redis::backup::settings::{DrillCheck, DrillSettings, RestoreSettings};
use mainstay_shared::conditions::reasons;
use mainstay_shared::names;
use mainstay_testkit::drills::{self, good};

use super::backups::{World, backed_up};
use super::*;

/// Asks for drills, and waits for the pod of one.
async fn drilling(world: &mut World, drill: serde_json::Value) -> Pod {
    world.change(|redis| {
        let backup = redis.spec.backup.as_mut().unwrap();
        backup.drill = Some(serde_json::from_value(drill).unwrap());
    });
    pod(world).await
}

async fn pod(world: &mut World) -> Pod {
    world
        .until("the pod of a drill", |w| drills::is_begun(&w.api))
        .await;
    drills::pods(&world.api).remove(0)
}

fn records(world: &World) -> Vec<DrillRecord> {
    world.status().recovery.unwrap_or_default().drills
}

/// Wait until it is told what came of so many drills, and nothing is left of the last one.
async fn over(world: &mut World, count: usize) -> DrillRecord {
    world
        .until("the drill to be over", |w| {
            let says = w.status().recovery.and_then(|r| r.drill);
            let gone = drills::pods(&w.api).is_empty() && drills::maps(&w.api).is_empty();
            records(w).len() == count && gone && says.is_none()
        })
        .await;
    records(world).remove(0)
}

fn proven(world: &World) -> (String, String) {
    let status = world.status();
    let found = conditions::find(&status.conditions, conditions::RECOVERY_PROVEN).unwrap();
    (found.status.clone(), found.reason.clone())
}

#[tokio::test]
async fn a_drill_of_any_backup_is_told_what_to_ask_and_proves_recovery() {
    let mut world = backed_up().await;
    let uids = world.pod_uids();
    let checks = json!([
        {"keys": {"atLeast": 1000}},
        {"key": "orders:1", "type": "hash"},
        {"command": ["HGET", "orders:1", "state"], "expect": "paid"},
    ]);
    let drill = drilling(&mut world, json!({"target": "Random", "checks": checks})).await;
    assert!(drill.name_any().starts_with("db-drill-2"));
    assert!(world.api.get::<NetworkPolicy>(SHOP, "db.drill").is_some());
    let map = drills::maps(&world.api).remove(0);
    let moment: Timestamp = map.annotations()[names::DRILL_MOMENT].parse().unwrap();
    let earliest = world.status().recovery.unwrap().earliest.unwrap().0;
    assert!(earliest <= moment && moment <= Timestamp::now(), "{moment}");
    let files = map.data.unwrap();
    let restore: RestoreSettings = serde_json::from_str(&files["restore.json"]).unwrap();
    assert_eq!(restore.moment, Some(moment));
    let asks: DrillSettings = serde_json::from_str(&files["drill.json"]).unwrap();
    assert_eq!(asks.checks.len(), 3);
    assert!(matches!(
        asks.checks[0],
        DrillCheck::Keys {
            at_least: Some(1000),
            ..
        }
    ));

    let report = DrillReport {
        last_commit: Some(moment - jiff::SignedDuration::from_mins(7)),
        ..good()
    };
    drills::tell(&world.api, &drill, &report);
    let record = over(&mut world, 1).await;
    assert_eq!(record.result, DrillResult::Passed);
    let measured = (record.recovery_point_seconds, record.recovery_seconds);
    assert_eq!(
        measured,
        (Some(420), Some(15)),
        "what was written since the backup"
    );
    assert_eq!(
        proven(&world),
        ("True".to_owned(), reasons::PROVEN.to_owned())
    );
    let metric = |name: &str| {
        world.metric(&format!(
            "mainstay_{name}{{namespace=\"shop\",name=\"db\"}}"
        ))
    };
    assert_eq!(metric("recovery_proven"), Some(1.0));
    assert_eq!(metric("drill_recovery_point_seconds"), Some(420.0));
    world.settled().await;
    assert_eq!(world.pod_uids(), uids, "no instance is made anew for it");
}

#[tokio::test]
async fn what_failed_is_said_and_the_next_on_demand_makes_it_good() {
    let mut world = backed_up().await;
    let drill = drilling(&mut world, json!({"checks": [{"key": "orders:1"}]})).await;
    let bad = DrillReport {
        passed: false,
        message: "key orders:1: there is no such key".into(),
        failed: vec![FailedCheck {
            what: "key orders:1".into(),
            found: "there is no such key".into(),
        }],
        ..good()
    };
    drills::tell(&world.api, &drill, &bad);
    let record = over(&mut world, 1).await;
    assert_eq!(record.result, DrillResult::Failed);
    assert_eq!(record.failed, ["key orders:1: there is no such key"]);
    let failed = ("False".to_owned(), reasons::DRILL_FAILED.to_owned());
    assert_eq!(proven(&world), failed);
    world.settled().await;
    assert_eq!(world.stalled(), None, "it makes nothing unready");

    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "now", "namespace": "shop", "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}, "action": "Drill"},
    }))
    .unwrap();
    world.api.put(&operation);
    let drill = pod(&mut world).await;
    drills::tell(&world.api, &drill, &good());
    assert_eq!(over(&mut world, 2).await.result, DrillResult::Passed);
    world
        .until("the operation to be told of", |w| {
            let operation: Option<Operation> = w.api.get(SHOP, "now");
            let phase = operation.and_then(|o| o.status).and_then(|s| s.phase);
            phase == Some(OperationPhase::Succeeded)
        })
        .await;
    assert_eq!(
        proven(&world),
        ("True".to_owned(), reasons::PROVEN.to_owned())
    );
}

/// A backup that anybody may have made.
fn whole() -> BackupEntry {
    let at = Timestamp::now();
    BackupEntry {
        id: "20260102t030405z-0011223344556677".parse().unwrap(),
        parent: None,
        order: None,
        begun: at,
        ended: at,
        consistent_at: at,
        plain_bytes: 3 << 30,
        stored_bytes: 1 << 30,
        log_from: None,
        history: None,
        broken: None,
    }
}

#[tokio::test]
async fn a_drill_of_a_cluster_restores_every_shard_with_room_for_all() {
    let mut world = World::new();
    start_with(&mut world, "8.0.2");
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"namespace": "shop", "name": "db", "generation": 1},
        "spec": {
            "version": "8.0", "mode": "Cluster", "shards": 4, "replicas": 0, "storage": {"size": "2Gi"},
            "backup": {
                "repository": {"s3": {"bucket": "backups"}, "credentials": "store"},
                "encryption": {"iAcceptKeyLoss": true},
            },
        },
    }))
    .unwrap();
    world.api.put(&redis);
    world
        .until("containers that make backups", |w| {
            w.beside.sidecars.all().count() == 4
        })
        .await;
    for sidecar in world.beside.sidecars.all() {
        sidecar.say(|report| report.catalogue = vec![whole()]);
    }
    let checks = json!([{"keys": {"atLeast": 1}}, {"command": ["HGET", "orders:1", "state"], "expect": "paid"}]);
    let drill = drilling(&mut world, json!({ "checks": checks })).await;
    let files = drills::maps(&world.api).remove(0).data.unwrap();
    let restore: RestoreSettings = serde_json::from_str(&files["restore.json"]).unwrap();
    let asks: DrillSettings = serde_json::from_str(&files["drill.json"]).unwrap();
    // How many there are says the backup, which may be from before `shards` was changed.
    assert!(restore.every_shard && asks.every_shard && restore.cluster.is_none());
    assert_eq!(asks.checks.len(), 2);
    let volumes = drill.spec.as_ref().unwrap().volumes.clone().unwrap();
    let data = volumes.into_iter().find(|v| v.name == "data").unwrap();
    let claim = data.ephemeral.unwrap().volume_claim_template.unwrap().spec;
    let size = claim.resources.unwrap().requests.unwrap()["storage"]
        .0
        .clone();
    assert_eq!(size, "8Gi");

    // As a cluster's is: without a place that all shards have in common.
    let report = DrillReport {
        position: None,
        history: None,
        last_commit: Some(Timestamp::now()),
        ..good()
    };
    drills::tell(&world.api, &drill, &report);
    let record = over(&mut world, 1).await;
    assert_eq!(record.result, DrillResult::Passed);
    assert_eq!((record.position, record.history), (None, None));
    assert_eq!(
        proven(&world),
        ("True".to_owned(), reasons::PROVEN.to_owned())
    );
}

#[tokio::test]
async fn a_snapshot_that_is_refused_is_a_drill_that_failed() {
    let mut world = backed_up().await;
    let drill = drilling(&mut world, json!({})).await;
    let words = json!({"step": "Failed", "message": "backup b1: its digest is another"});
    drills::say(&world.api, &drill, |status| {
        status.phase = Some("Failed".into());
        let ended = drills::ended(1, &words.to_string());
        status.init_container_statuses = Some(vec![drills::container("restore", ended)]);
    });
    let record = over(&mut world, 1).await;
    assert_eq!(record.result, DrillResult::Failed);
    assert_eq!(record.message, "backup b1: its digest is another");
    world.change(|redis| redis.spec.backup.as_mut().unwrap().drill = None);
    world
        .until("the policy to go", |w| {
            w.api.get::<NetworkPolicy>(SHOP, "db.drill").is_none()
        })
        .await;
    let status = world.status();
    assert!(conditions::find(&status.conditions, conditions::RECOVERY_PROVEN).is_none());
}
