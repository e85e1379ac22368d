//! Backups: who is asked for one, what they may do, and what is said of it.

use mainstay_crds::backup::{Backup, BackupPhase, BackupStatus};
use mainstay_redis::settings::{BACKUP_PASSWORD, BACKUP_ROLE, RULES};
use mainstay_testkit::api::FakeApi;
use mainstay_testkit::cluster::FakeCluster;

use super::sidecar::Sidecars;
use super::*;

pub type World = mainstay_testkit::world::World<RedisEngine, Around>;

/// What is there besides agents: containers that make backups.
#[derive(Default)]
pub struct Around {
    pub sidecars: Sidecars,
}

impl mainstay_testkit::world::Beside for Around {
    async fn turn(&mut self, api: &FakeApi, cluster: &FakeCluster) {
        self.sidecars.turn(api, cluster).await;
    }
}

/// A set of three with backups, settled, with its first backup made.
pub async fn backed_up() -> World {
    backed_up_of(3).await
}

/// The same of so many.
pub async fn backed_up_of(instances: i32) -> World {
    let mut world = World::new();
    super::start_with(&mut world, "8.0.2");
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"namespace": "shop", "name": "db", "generation": 1},
        "spec": {
            "version": "8.0", "instances": instances, "storage": {"size": "1Gi"},
            "backup": {
                "repository": {
                    "s3": {"bucket": "backups", "endpoint": "https://store.example.com:9000"},
                    "credentials": "store",
                },
                "encryption": {"iAcceptKeyLoss": true},
            },
        },
    }))
    .unwrap();
    world.api.put(&redis);
    complete(&mut world).await;
    world
        .until("the first backup to be told of", |w| {
            let recovery = w.status().recovery;
            recovery.is_some_and(|r| r.last_backup.is_some())
        })
        .await;
    world.settled().await;
    world
}

/// Wait for somebody to make a backup, and complete it. Returns who it was.
async fn complete(world: &mut World) -> String {
    world
        .until("somebody to make a backup", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    let (sidecar, _) = world.beside.sidecars.maker().unwrap();
    sidecar.complete();
    sidecar.instance.clone()
}

fn said(world: &World, name: &str) -> BackupStatus {
    let backup: Option<Backup> = world.api.get(SHOP, name);
    backup.and_then(|b| b.status).unwrap_or_default()
}

#[tokio::test]
async fn a_set_with_backups_says_what_can_be_recovered_and_a_replica_makes_the_next() {
    let mut world = backed_up().await;
    let status = world.status();
    let recovery = status.recovery.clone().unwrap();
    assert_eq!(
        recovery.repository.as_deref(),
        Some("s3://backups/shop/db at store.example.com:9000")
    );
    assert!(recovery.earliest.is_some() && recovery.latest.is_some());
    assert_eq!((recovery.backups, recovery.on_full), (Some(1), None));
    let healthy = conditions::find(&status.conditions, conditions::BACKUP_HEALTHY).unwrap();
    assert_eq!(
        (healthy.status.as_str(), healthy.reason.as_str()),
        ("True", "BackedUp")
    );
    assert!(conditions::find(&status.conditions, conditions::RECOVERY_PROVEN).is_none());
    // Its keys are made with it, and a user that may receive the dataset.
    data(&world, "db-backup-keys");
    let password = &data(&world, "db-internal")[BACKUP_PASSWORD].0;
    let known = existing_roles(&data(&world, "db-access"));
    let verifier = format!("#{}", hex(&Sha256::digest(password)));
    assert_eq!(known[BACKUP_ROLE].verifier, verifier);

    let backup: Backup = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": "mine", "namespace": "shop", "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}},
    }))
    .unwrap();
    world.api.put(&backup);
    let maker = complete(&mut world).await;
    assert_ne!(Some(&maker), world.status().primary.as_ref());
    world
        .until("mine to be made", |w| {
            said(w, "mine").phase == Some(BackupPhase::Succeeded)
        })
        .await;
    world
        .until("the newest backup to be told", |w| {
            let last = w.status().recovery.and_then(|r| r.last_backup);
            last.map(|b| b.id) == said(w, "mine").backup_id
        })
        .await;
}

#[tokio::test]
async fn without_backups_again_there_is_no_user_that_may_receive_the_dataset() {
    let mut world = backed_up().await;
    world.change(|redis| redis.spec.backup = None);
    world.settled().await;
    let known = existing_roles(&data(&world, "db-access"));
    assert_eq!(known[BACKUP_ROLE].attributes[RULES], "off");
    assert_eq!(world.beside.sidecars.all().count(), 0);
    // What opens the backups stays.
    data(&world, "db-backup-keys");
}
