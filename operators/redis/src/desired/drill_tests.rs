//! Drills: what is told and made. What every engine's pod of a drill has is looked at with PostgreSQL's.

use mainstay_shared::backups::drill::{Drill, Start};

use super::*;
use crate::backup::settings::{
    DRILL_FILE, DrillCheck, DrillSettings, RESTORE_FILE, RestoreSettings,
};
use crate::engine::RedisEngine;
use mainstay_shared::operator::engine::Engine as _;

/// A set whose backups are tried.
fn drilled() -> Validated {
    let resource: Redis = serde_json::from_value(json!({
        "metadata": {"name": "cache", "namespace": "shop", "generation": 1, "uid": cache().common.set.uid},
        "spec": {
            "version": "8.0", "instances": 3, "image": "redis:8.0.2", "storage": {"size": "20Gi"},
            "persistence": "rdb", "parameters": {"databases": "64"},
            "backup": {
                "repository": {"s3": {"bucket": "backups"}, "credentials": "backup-store"},
                "encryption": {"iAcceptKeyLoss": true},
                "drill": {
                    "resources": {"memory": "1Gi"}, "timeoutSeconds": 600,
                    "checks": [
                        {"keys": {"atLeast": 1}, "database": 63},
                        {"key": "version", "expect": "7"},
                        {"command": ["HGET", "orders:1", "state"], "expect": "paid"},
                    ],
                },
            },
        },
    }))
    .unwrap();
    validate(&resource, &Catalogue::default()).unwrap()
}

fn start() -> Start {
    Start {
        name: "cache-drill-202603010330".into(),
        due: "2026-03-01T03:30:00Z".parse().unwrap(),
        moment: Some("2026-02-27T10:20:30.5Z".parse().unwrap()),
    }
}

#[test]
fn the_pod_as_it_is_written() {
    let Start { name, due, moment } = start();
    let going = Drill {
        name,
        due,
        moment,
        told: true,
        ..Drill::default()
    };
    let image = "mainstay/redis-operator:0.1.0";
    let pod = RedisEngine::drill_pod(&drilled(), &going, image).unwrap();
    let pod = Object::of(&pod).unwrap().value;
    assert_eq!(unrestricted(&pod), Vec::<String>::new());
    insta::assert_json_snapshot!("pod-of-a-drill", pod);
}

#[test]
fn what_opens_the_repository_is_where_nobody_asks_anything() {
    let going = Drill::default();
    let pod = RedisEngine::drill_pod(&drilled(), &going, "image").unwrap();
    let pod = Object::of(&pod).unwrap().value;
    let secrets = "/mainstay/restore-secrets";
    assert!(mounts(container(&pod, "restore").unwrap()).contains(secrets));
    let looks = &pod["spec"]["containers"][0];
    assert_eq!(looks["name"], "drill");
    assert_eq!(
        mounts(looks),
        BTreeSet::from([
            "/data",
            "/mainstay/backup-run",
            "/mainstay/bin",
            "/mainstay/config",
            "/tmp",
        ])
    );
}

#[test]
fn what_a_drill_is_told_is_read_back() {
    let map = RedisEngine::drill_map(&drilled(), &start()).unwrap();
    let data = map.unwrap().data.unwrap();
    let restore: RestoreSettings = serde_json::from_str(&data[RESTORE_FILE]).unwrap();
    assert_eq!((restore.moment, restore.backup), (start().moment, None));
    assert_eq!(restore.repository.prefix, "shop/cache", "the set's own");
    assert!(restore.repository.encryption.is_some());
    let told: DrillSettings = serde_json::from_str(&data[DRILL_FILE]).unwrap();
    assert_eq!(told.resource, "shop/cache");
    assert_eq!(
        (told.persistence, restore.persistence),
        (Persistence::Rdb, Persistence::Rdb)
    );
    assert_eq!((told.databases, told.question_seconds), (Some(64), 600));
    assert_eq!(
        told.checks,
        [
            DrillCheck::Keys {
                database: Some(63),
                at_least: Some(1),
                at_most: None,
            },
            DrillCheck::Key {
                database: 0,
                name: "version".into(),
                kind: None,
                value: Some("7".into()),
            },
            DrillCheck::Command {
                database: 0,
                words: ["HGET", "orders:1", "state"].map(str::to_owned).to_vec(),
                expect: Some("paid".into()),
            },
        ]
    );
    assert!(
        RedisEngine::drill_map(&backed_up(false), &start())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_drill_of_a_cluster_has_room_for_all_shards_and_is_told_of_each() {
    let resource: Redis = serde_json::from_value(json!({
        "metadata": {"name": "cache", "namespace": "shop", "generation": 1, "uid": "u"},
        "spec": {
            "version": "8.0", "mode": "Cluster", "shards": 5, "image": "redis:8.0.2", "storage": {"size": "20Gi"},
            "resources": {"memory": "1Gi"},
            "backup": {
                "repository": {"volume": {"claimName": "backups"}}, "encryption": {"iAcceptKeyLoss": true},
                "drill": {"checks": [{"keys": {"atLeast": 1}}]},
            },
        },
    }))
    .unwrap();
    let v = validate(&resource, &Catalogue::default()).unwrap();
    let pod = RedisEngine::drill_pod(&v, &Drill::default(), "image").unwrap();
    let pod = Object::of(&pod).unwrap().value;
    assert_eq!(unrestricted(&pod), Vec::<String>::new());
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let data = volumes.iter().find(|v| v["name"] == "data").unwrap();
    let claim = &data["ephemeral"]["volumeClaimTemplate"]["spec"];
    let size = &claim["resources"]["requests"]["storage"];
    assert_eq!(size, &"100Gi");
    // One is started after the other: no more memory than an instance has.
    let looks = &pod["spec"]["containers"][0];
    assert_eq!(looks["resources"]["limits"]["memory"], "1Gi");

    let map = RedisEngine::drill_map(&v, &start()).unwrap();
    let data = map.unwrap().data.unwrap();
    let restore: RestoreSettings = serde_json::from_str(&data[RESTORE_FILE]).unwrap();
    let told: DrillSettings = serde_json::from_str(&data[DRILL_FILE]).unwrap();
    assert!(restore.every_shard && told.every_shard && restore.cluster.is_none());
    let map = RedisEngine::drill_map(&drilled(), &start()).unwrap();
    let data = map.unwrap().data.unwrap();
    assert!(
        !data[RESTORE_FILE].contains("everyShard"),
        "of a set that is none"
    );
}

#[test]
fn drills_have_a_policy_of_their_own_and_change_no_pod() {
    let (with, without) = (drilled(), {
        let mut v = drilled();
        v.backup.as_mut().unwrap().drill = None;
        v.common.backup = v.backup.as_ref().map(crate::validate::Backup::common);
        v
    });
    let there = |v: &Validated| {
        let mut all = all(v).into_iter();
        all.any(|o| o.resource.kind == "NetworkPolicy" && o.key().name == "cache.drill")
    };
    assert!(there(&with) && !there(&without));
    assert_eq!(revision(&with), revision(&without));
}
