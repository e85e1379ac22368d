//! Backups: made by the schedule and on demand, tried again, given up, refused, and gone on with by another
//! operator.

use mainstay_crds::backup::{Backup, BackupPhase, BackupStatus};
use mainstay_crds::common::backup::OnFull;

use super::*;

pub fn asked() -> serde_json::Value {
    json!({
        "repository": {
            "s3": {"bucket": "backups", "endpoint": "https://store.example.com:9000"},
            "credentials": "store",
        },
        "encryption": {"iAcceptKeyLoss": true},
    })
}

/// A set of three with backups, settled, with its first backup made.
pub async fn backed_up() -> World {
    backed_up_of(3).await
}

/// The same of so many.
pub async fn backed_up_of(instances: i32) -> World {
    let mut world = World::new();
    world.start();
    create(&world, instances);
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

fn create(world: &World, instances: i32) {
    let mut pg = fixtures::postgres("shop", "db", instances);
    pg.metadata.generation = Some(1);
    pg.spec.backup = Some(serde_json::from_value(asked()).unwrap());
    world.api.put(&pg);
}

/// Wait for somebody to make a backup, and complete it. Returns who it was.
pub async fn complete(world: &mut World) -> String {
    world
        .until("somebody to make a backup", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    let (sidecar, _) = world.beside.sidecars.maker().unwrap();
    sidecar.complete();
    sidecar.instance.clone()
}

fn ask(world: &World, name: &str, spec: &serde_json::Value) {
    let mut whole = json!({"target": {"kind": "Postgres", "name": "db"}});
    mainstay_testkit::api::merge(&mut whole, spec);
    let backup: Backup = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": whole,
    }))
    .unwrap();
    world.api.put(&backup);
}

fn said(world: &World, name: &str) -> BackupStatus {
    let backup: Option<Backup> = world.api.get(SHOP, name);
    backup.and_then(|b| b.status).unwrap_or_default()
}

async fn until_phase(world: &mut World, name: &str, phase: BackupPhase) -> BackupStatus {
    world
        .until(&format!("{name} to be {phase:?}"), |w| {
            said(w, name).phase == Some(phase)
        })
        .await;
    said(world, name)
}

fn healthy(world: &World) -> Option<(String, String, String)> {
    let status = world.status();
    let found = conditions::find(&status.conditions, conditions::BACKUP_HEALTHY)?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}

#[tokio::test]
async fn a_set_with_backups_gets_its_first_one_at_once_and_then_rests() {
    let mut world = World::new();
    world.start();
    create(&world, 3);
    // It waits for no replica: there is little to read yet.
    let maker = complete(&mut world).await;
    world
        .until("it to be told of", |w| {
            healthy(w).is_some_and(|(state, ..)| state == "True")
        })
        .await;
    world.settled().await;
    let all: Vec<Backup> = world.api.list();
    assert_eq!(all.len(), 1, "{all:?}");
    let name = all[0].name_any();
    assert!(name.starts_with("db-2"), "{name}");
    let status = said(&world, &name);
    assert_eq!(status.phase, Some(BackupPhase::Succeeded));
    assert_eq!(status.instance.as_ref(), Some(&maker));
    let recovery = world.status().recovery.unwrap();
    let last = recovery.last_backup.unwrap();
    assert_eq!(Some(last.id), status.backup_id);
    assert_eq!(
        recovery.repository.as_deref(),
        Some("s3://backups/shop/db at store.example.com:9000")
    );
    assert!(recovery.earliest.is_some() && recovery.next_backup.is_some());
    world
        .until("retention to look after it", |w| {
            let orders = w.beside.sidecars.of("db-1").unwrap().orders();
            let is_prune = |o| matches!(o, &mainstay_backup::api::Order::Prune { .. });
            orders.iter().any(is_prune)
        })
        .await;

    let keys: Secret = world.api.get(SHOP, "db-backup-keys").unwrap();
    let text = String::from_utf8(keys.data.unwrap()["instance.key"].0.clone()).unwrap();
    assert!(text.contains("AGE-SECRET-KEY-1"), "an age identity");
    let files = world
        .api
        .get::<ConfigMap>(SHOP, "db-config")
        .unwrap()
        .data
        .unwrap();
    assert!(files["backup.json"].contains("store.example.com:9000"));
    assert!(!files["backup.json"].contains("AGE-SECRET"));
    let gauge = r#"mainstay_backup_healthy{namespace="shop",name="db"}"#;
    assert_eq!(world.metric(gauge), Some(1.0));

    let before = world.rests().await;
    // The log goes on: nobody writes that down every time.
    world.beside.sidecars.of("db-1").unwrap().say(|report| {
        report.archive.last_piece = Some("00000001000000000000002A".into());
        report.archive.last_at = Some(jiff::Timestamp::now());
        report.archive.waiting_pieces = 1;
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(&world.api.requests()[before..], []);
    // Nor does another operator.
    world.api.forget_requests();
    world.start();
    world.quiet().await;
    let written = world.api.writes();
    let of_ours = |w: &&mainstay_testkit::api::Recorded| {
        w.resource.contains("postgreses") || w.resource.contains("backups")
    };
    assert_eq!(written.iter().filter(of_ours).count(), 0, "{written:?}");
}

#[tokio::test]
async fn on_demand_with_progress() {
    let mut world = backed_up().await;
    ask(&world, "now", &json!({}));
    let running = until_phase(&mut world, "now", BackupPhase::Running).await;
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    let (sidecar, order) = world.beside.sidecars.maker().unwrap();
    assert_ne!(sidecar.instance, "db-1", "a replica makes it");
    assert_eq!(Some(&sidecar.instance), running.instance.as_ref());
    assert_eq!(order, running.attempt.unwrap().order);
    sidecar.say(|report| report.running.as_mut().unwrap().plain_bytes = 420);
    world
        .until("progress", |w| {
            said(w, "now").progress.as_deref() == Some("42%")
        })
        .await;
    world.beside.sidecars.maker().unwrap().0.complete();
    let done = until_phase(&mut world, "now", BackupPhase::Succeeded).await;
    assert_eq!(done.size.as_deref(), Some("1.0 GiB"));
    // The primary was told to read again what the replica has stored.
    let id = done.backup_id.clone();
    world
        .until("the status to show it", |w| {
            let last = w.status().recovery.and_then(|r| r.last_backup);
            last.map(|b| b.id) == id
        })
        .await;
    world.quiet().await;
    assert_eq!(said(&world, "now"), done, "it is over");
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_and_another_is_not() {
    let mut world = backed_up().await;
    ask(&world, "now", &json!({}));
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    let (sidecar, _) = world.beside.sidecars.maker().unwrap();
    sidecar.fail("the store answers 503", true);
    let waits = until_phase(&mut world, "now", BackupPhase::Pending).await;
    let message = waits.message.unwrap();
    assert!(
        message.contains("attempt 1 failed: the store answers 503"),
        "{message}"
    );
    assert!(waits.next_attempt_at.is_some());
    world
        .until("the second attempt", |w| {
            w.beside
                .sidecars
                .maker()
                .is_some_and(|(_, order)| order.ends_with(".2"))
        })
        .await;
    let (sidecar, _) = world.beside.sidecars.maker().unwrap();
    sidecar.fail("the bucket is not there", false);
    let failed = until_phase(&mut world, "now", BackupPhase::Failed).await;
    assert_eq!(failed.attempts, Some(2));
    assert_eq!(failed.message.as_deref(), Some("the bucket is not there"));
    world
        .until("the set to say so", |w| {
            healthy(w).is_some_and(|(_, reason, _)| reason == reasons::BACKUP_FAILED)
        })
        .await;
    let (state, _, message) = healthy(&world).unwrap();
    assert_eq!(state, "False");
    assert!(message.contains("the bucket is not there"), "{message}");
}

#[tokio::test]
async fn a_gap_of_the_log_has_a_full_backup_made() {
    let mut world = backed_up().await;
    world.beside.sidecars.of("db-1").unwrap().say(|report| {
        for made in &mut report.catalogue {
            made.history = Some("00000002-0a".parse().unwrap());
            made.log_from = Some("000000020000000000000003".parse().unwrap());
        }
        report.gaps = vec![mainstay_backup::api::Gap {
            history: "00000002-0a".parse().unwrap(),
            after: "000000020000000000000005".parse().unwrap(),
            before: "000000020000000000000009".parse().unwrap(),
        }];
    });
    world
        .until("the gap to be told", |w| {
            healthy(w).is_some_and(|(_, reason, _)| reason == reasons::ARCHIVE_GAP)
        })
        .await;
    complete(&mut world).await;
    let all: Vec<Backup> = world.api.list();
    let of_gap: Vec<&Backup> = all
        .iter()
        .filter(|b| b.name_any().starts_with("db-gap-"))
        .collect();
    assert_eq!((all.len(), of_gap.len()), (2, 1), "{all:?}");
    let uid = of_gap[0].metadata.uid.clone().unwrap();
    let orders: Vec<mainstay_backup::api::Order> = world
        .beside
        .sidecars
        .all()
        .flat_map(sidecar::Sidecar::orders)
        .collect();
    assert!(
        orders.iter().any(|o| matches!(o, mainstay_backup::api::Order::Take { order, incremental: false, .. } if order.starts_with(&uid))),
        "{orders:?}"
    );
    until_phase(&mut world, &of_gap[0].name_any(), BackupPhase::Succeeded).await;
    world
        .until("the gap to be done without", |w| {
            healthy(w).is_some_and(|(state, ..)| state == "True")
        })
        .await;
    world.settled().await;
    assert_eq!(world.api.list::<Backup>().len(), 2, "one for one gap");
}

/// Notes of events of that reason, of what has changed since.
pub fn told(before: &PostgresStatus, now: &PostgresStatus, reason: &str) -> Vec<String> {
    let all = mainstay_postgres::status::happenings(before, now);
    let of = all.into_iter().filter(|h| h.reason == reason);
    of.map(|h| h.note).collect()
}

#[tokio::test]
async fn log_that_was_let_go_is_told_at_once_and_until_a_backup_goes_on_after_it() {
    let mut world = backed_up().await;
    let on_full = |w: &World| w.status().recovery.and_then(|r| r.on_full);
    assert_eq!(on_full(&world), Some(OnFull::StopWrites), "with a quorum");
    world.change(|pg| pg.spec.backup.as_mut().unwrap().on_full = Some(OnFull::BreakArchive));
    world
        .until("it to be told to the containers", |w| {
            let files = w.api.get::<ConfigMap>(SHOP, "db-config").unwrap().data;
            let files = files.unwrap();
            files["backup.json"].contains(r#""breakArchive": true"#)
                && files["set.json"].contains(r#""stopWrites": false"#)
                && on_full(w) == Some(OnFull::BreakArchive)
        })
        .await;
    let away = |report: &mut mainstay_backup::api::Report| {
        report.archive.state = mainstay_backup::api::ArchiveState::Unreachable;
        report.archive.reason = Some("the store is not reached (refused)".into());
    };
    world.beside.sidecars.of("db-1").unwrap().say(away);
    world
        .until("the store to be missed", |w| {
            healthy(w).is_some_and(|(_, reason, _)| reason == reasons::STORE_UNREACHABLE)
        })
        .await;
    let before = world.status();
    world
        .beside
        .sidecars
        .of("db-1")
        .unwrap()
        .say(|report| report.archive.let_go = 3);
    world
        .until("it to be told", |w| {
            healthy(w).is_some_and(|(_, reason, _)| reason == reasons::ARCHIVE_GAP)
        })
        .await;
    let (state, _, message) = healthy(&world).unwrap();
    assert_eq!(state, "False");
    assert!(
        message.contains("cannot be recovered") && message.contains("The store is not reached"),
        "{message}"
    );
    let notes = told(&before, &world.status(), reasons::ARCHIVE_GAP);
    assert!(
        notes.len() == 1 && notes[0].contains("cannot be recovered"),
        "{notes:?}"
    );
    let now = world.status();
    assert!(told(&now, &now, reasons::ARCHIVE_GAP).is_empty());
    world.quiet().await;
    let backups: Vec<Backup> = world.api.list();
    assert_eq!(backups.len(), 1, "none is made before the store is back");
}

#[tokio::test]
async fn a_primary_that_refuses_writes_is_not_ready_and_says_why() {
    let mut world = backed_up().await;
    let why = "it refuses writes, since log has nearly filled the volume";
    let agent = world.cluster.agent("shop", "db-1").unwrap();
    agent.set(|status| status.refuses_writes = Some(why.into()));
    let ready = |w: &World| {
        let status = w.status();
        let found = conditions::find(&status.conditions, conditions::READY).cloned();
        found.map(|c| (c.status, c.reason, c.message))
    };
    world
        .until("it to be told", |w| {
            ready(w).is_some_and(|(_, reason, _)| reason == reasons::WRITES_REFUSED)
        })
        .await;
    let (state, _, message) = ready(&world).unwrap();
    assert_eq!(state, "False");
    assert!(
        message.contains(why) && message.contains("db-1"),
        "{message}"
    );
    let waits = world.status().waiting_for;
    assert!(
        waits
            .iter()
            .any(|w| w.predicate == "wait_until_the_log_is_stored"),
        "{waits:?}"
    );
    let uids = world.pod_uids();
    world.quiet().await;
    assert_eq!(world.pod_uids(), uids, "nothing is done to it");
    let agent = world.cluster.agent("shop", "db-1").unwrap();
    agent.set(|status| status.refuses_writes = None);
    world
        .until("it to be over", |w| {
            ready(w).is_none_or(|(_, reason, _)| reason != reasons::WRITES_REFUSED)
        })
        .await;
}

#[tokio::test]
async fn cancelled_or_deleted_it_is_given_up() {
    let mut world = backed_up().await;
    ask(&world, "now", &json!({}));
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    world.api.edit::<Backup>(SHOP, "now", |backup| {
        backup.spec.cancel = Some(true);
        backup.metadata.generation = Some(2);
    });
    until_phase(&mut world, "now", BackupPhase::Cancelled).await;
    // Whoever was asked just before it was cancelled is told so right after.
    world
        .until("nobody to make it", |w| w.beside.sidecars.maker().is_none())
        .await;

    ask(&world, "gone", &json!({}));
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    world.api.destroy::<Backup>(SHOP, "gone");
    world
        .until("nobody to make it", |w| w.beside.sidecars.maker().is_none())
        .await;
}

#[tokio::test]
async fn another_ones_repository_is_left_alone_and_said() {
    let mut world = World::new();
    world.start();
    create(&world, 1);
    world
        .until("the container", |w| w.beside.sidecars.of("db-1").is_some())
        .await;
    let refuse = |report: &mut mainstay_backup::api::Report| {
        report.ownership.state = mainstay_backup::api::OwnerState::Refused;
        report.ownership.reason = Some("this repository belongs to shop/old".into());
    };
    world.beside.sidecars.of("db-1").unwrap().say(refuse);
    world
        .until("it to be said", |w| {
            healthy(w).is_some_and(|(_, reason, _)| reason == reasons::REPOSITORY_REFUSED)
        })
        .await;
    let (_, _, message) = healthy(&world).unwrap();
    assert!(message.contains("belongs to shop/old"), "{message}");
    world.until("the set to settle", World::is_settled).await;
    assert_eq!(world.status().ready.as_deref(), Some("1/1"), "it serves");
}

/// Whatever is being made is completed, until that is so.
pub async fn completing(
    world: &mut World,
    begin: Instant,
    what: &str,
    done: impl Fn(&World) -> bool,
) {
    while !done(world) {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        if let Some((sidecar, _)) = world.beside.sidecars.maker() {
            sidecar.complete();
        }
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_crash_at_any_write_makes_no_backup_twice() {
    let mut world = backed_up().await;
    for n in 1.. {
        let name = format!("try-{n}");
        let before = world.beside.sidecars.takes().len();
        world.crash_once_after(n);
        ask(&world, &name, &json!({}));
        let over = |w: &World| {
            said(w, &name).phase == Some(BackupPhase::Succeeded) && !w.api.has_crashed()
        };
        let what = format!("not done after a crash at write {n}");
        completing(&mut world, Instant::now(), &what, over).await;
        world.crash_no_more();
        let takes = world.beside.sidecars.takes().len();
        assert_eq!(
            takes,
            before + 1,
            "one order for {name}, after a crash at write {n}"
        );
        world.quiet().await;
        if world.crashes < n {
            break;
        }
    }
    assert!(world.crashes >= 2, "only {} crashes", world.crashes);
}

#[tokio::test]
async fn backups_are_switched_on_one_instance_at_a_time_and_off_without_a_trace_but_the_keys() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    assert_eq!(healthy(&world), None);
    let before = world.pod_uids();
    world.api.forget_requests();
    world.change(|pg| pg.spec.backup = Some(serde_json::from_value(asked()).unwrap()));
    world
        .until("new pods", |w| {
            w.is_settled() && w.pod_uids().iter().all(|uid| !before.contains(uid))
        })
        .await;
    let deleted: Vec<String> = world
        .api
        .writes()
        .iter()
        .filter(|w| w.resource == "pods" && w.client == "operator")
        .filter(|w| format!("{:?}", w.verb) == "Delete" && w.code < Some(300))
        .filter_map(|w| w.name.clone())
        .collect();
    assert_eq!(deleted, ["db-3", "db-2", "db-1"], "the primary last");
    complete(&mut world).await;
    world
        .until("health", |w| {
            healthy(w).is_some_and(|(state, ..)| state == "True")
        })
        .await;

    world.change(|pg| pg.spec.backup = None);
    world
        .until("nothing to be said of backups", |w| {
            healthy(w).is_none() && w.status().recovery.is_none() && w.is_settled()
        })
        .await;
    world.settled().await;
    let files = world
        .api
        .get::<ConfigMap>(SHOP, "db-config")
        .unwrap()
        .data
        .unwrap();
    assert!(!files.contains_key("backup.json"));
    let gauge = r#"mainstay_backup_healthy{namespace="shop",name="db"}"#;
    assert_eq!(world.metric(gauge), None);
    world.change(|pg| {
        pg.spec.deletion = Some(Deletion {
            volumes: Some(KeptVolumes::Delete),
            ..Deletion::default()
        });
    });
    world.settled().await;
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Postgres>(SHOP, "db").is_none()
        })
        .await;
    assert!(world.claims().is_empty());
    assert!(world.api.get::<Secret>(SHOP, "db-backup-keys").is_some());
    assert_eq!(world.api.list::<Backup>().len(), 1, "the record stays");
}

#[tokio::test]
async fn keys_that_somebody_has_put_there_are_used_as_they_are() {
    let mut world = World::new();
    let kept: Secret = serde_json::from_value(json!({
        "metadata": {"name": "db-backup-keys", "namespace": "shop"},
        "stringData": {"instance.key": "kept"},
    }))
    .unwrap();
    world.api.put(&kept);
    let before: Secret = world.api.get(SHOP, "db-backup-keys").unwrap();
    world.start();
    create(&world, 1);
    complete(&mut world).await;
    world.settled().await;
    let now: Secret = world.api.get(SHOP, "db-backup-keys").unwrap();
    assert_eq!(now.data, before.data);
}

#[tokio::test]
async fn a_backup_of_nothing_or_without_a_repository_waits_and_says_so() {
    let mut world = World::new();
    world.start();
    ask(&world, "early", &json!({}));
    world
        .until("it to say so", |w| said(w, "early").message.is_some())
        .await;
    let status = said(&world, "early");
    assert!(status.message.unwrap().contains("no Postgres called db"));
    assert_eq!(status.started_at, None);
    world.create(1);
    world
        .until("another sentence", |w| {
            let message = said(w, "early").message;
            message.is_some_and(|m| m.contains("has no spec.backup"))
        })
        .await;
    world.settled().await;
    let quiet = said(&world, "early");
    world.start();
    world.quiet().await;
    assert_eq!(said(&world, "early"), quiet);
}

#[tokio::test]
async fn the_first_pod_of_a_set_from_a_repository_restores_and_no_later_one_does() {
    let mut world = World::new();
    world.start();
    let mut pg = fixtures::postgres("shop", "db", 2);
    pg.metadata.generation = Some(1);
    pg.spec.bootstrap = Some(
        serde_json::from_value(json!({"recovery": {
            "repository": {"s3": {"bucket": "backups"}, "credentials": "store", "prefix": "shop/old"},
            "keys": "old-backup-keys",
            "target": {"time": "2026-01-02T03:04:05Z"},
        }}))
        .unwrap(),
    );
    world.api.put(&pg);
    world.settled().await;
    let restores = |w: &World| -> Vec<String> {
        let has = |pod: &Pod| {
            let spec = pod.spec.clone().unwrap();
            let first = spec.init_containers.unwrap_or_default();
            first.iter().any(|c| c.name == names::RESTORE)
        };
        let pods = w.api.list::<Pod>().into_iter().filter(has);
        pods.map(|p| p.name_any()).collect()
    };
    assert_eq!(restores(&world), ["db-1"]);
    let files = world
        .api
        .get::<ConfigMap>(SHOP, "db-config")
        .unwrap()
        .data
        .unwrap();
    assert!(files["restore.json"].contains("shop/old"));
    world.api.destroy::<Pod>(SHOP, "db-1");
    world.settled().await;
    assert_eq!(restores(&world), [] as [&str; 0], "it has data by now");
}
