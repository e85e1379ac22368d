//! What a set leaves that is deleted with its volumes: a last backup, or the volumes all the same.

use mainstay_crds::backup::{Backup, BackupPhase};

use super::backups::{backed_up, backed_up_of, completing, told};
use super::*;

/// A set whose volumes go with it, that is being deleted.
async fn leaving(change: impl FnOnce(&mut Deletion)) -> World {
    leaving_of(3, change).await
}

async fn leaving_of(instances: i32, change: impl FnOnce(&mut Deletion)) -> World {
    let mut world = backed_up_of(instances).await;
    let mut deletion = Deletion {
        volumes: Some(KeptVolumes::Delete),
        ..Deletion::default()
    };
    change(&mut deletion);
    world.change(|pg| {
        pg.spec.deletion = Some(deletion);
        // So that the last status can be looked at.
        pg.finalizers_mut().push(HOLD.into());
    });
    world.settled().await;
    delete(&world).await;
    world
}

/// Somebody else's finalizer.
const HOLD: &str = "example.com/hold";

/// Whether nobody but the test holds the resource.
fn has_ended(world: &World) -> bool {
    let pg = world.api.get::<Postgres>(SHOP, "db");
    pg.is_some_and(|pg| pg.finalizers() == [HOLD])
}

/// Waits until it has ended; its last status.
async fn until_ended(world: &mut World) -> PostgresStatus {
    world.until("the set to have ended", has_ended).await;
    world.status()
}

/// What the set waits for, in words.
fn waits(world: &World) -> String {
    let status = world.status();
    let found = conditions::find(&status.conditions, conditions::RECONCILING);
    found.map(|c| c.message.clone()).unwrap_or_default()
}

/// That nothing goes before a person says so, and everything does then.
async fn stays_until_somebody_says_so(world: &mut World) {
    stays(world).await;
    world.change(|pg| pg.spec.deletion.as_mut().unwrap().final_backup = Some(false));
    until_ended(world).await;
    assert!(world.claims().is_empty());
}

async fn stays(world: &mut World) {
    world.quiet().await;
    assert_eq!(world.claims().len(), 3, "nothing has gone");
}

fn last_of(world: &World) -> Option<Backup> {
    let all: Vec<Backup> = world.api.list();
    let mut all = all.into_iter();
    all.find(|b| b.name_any().starts_with("db-final-"))
}

#[tokio::test]
async fn a_set_whose_volumes_go_leaves_a_last_backup() {
    let mut world = leaving(|_| {}).await;
    let uids = world.pod_uids();
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    world
        .until("it to be said", |w| {
            waits(w).contains("make the last backup") && waits(w).contains("finalBackup: false")
        })
        .await;
    assert_eq!(world.pod_uids(), uids, "it goes on as it was");
    // The operator ends meanwhile, and an instance is lost: it is made anew, as ever.
    world.start();
    world.api.destroy::<Pod>(SHOP, "db-1");
    world
        .until("the instance to be back", |w| {
            w.api.get::<Pod>(SHOP, "db-1").is_some() && w.beside.sidecars.of("db-1").is_some()
        })
        .await;
    let begin = Instant::now();
    let over = |w: &World| {
        let phase = last_of(w).and_then(|b| b.status?.phase);
        phase == Some(BackupPhase::Succeeded)
    };
    completing(&mut world, begin, "the last backup", over).await;
    let last_status = until_ended(&mut world).await;
    assert!(world.claims().is_empty(), "{:?}", world.claims());
    assert!(world.api.get::<Secret>(SHOP, "db-backup-keys").is_some());
    let last = last_of(&world).expect("its record stays");
    let recovery = last_status.recovery.as_ref().unwrap();
    assert_eq!(
        recovery.final_backup,
        Some(last.name_any()),
        "on the strength of it volumes went"
    );
    let id = last.status.unwrap().backup_id.unwrap();
    let notes = told(&PostgresStatus::default(), &last_status, "LastBackup");
    let [note] = &notes[..] else {
        panic!("{notes:?}");
    };
    for word in [id.as_str(), "s3://backups/shop/db", "db-backup-keys"] {
        assert!(note.contains(word), "{word}: {note}");
    }
    let finals = world.api.list::<Backup>();
    let finals = finals.iter().filter(|b| b.name_any().contains("-final-"));
    assert_eq!(finals.count(), 1);
}

#[tokio::test]
async fn without_a_last_backup_a_set_stays_until_somebody_says_so() {
    let mut world = leaving(|_| {}).await;
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    let (sidecar, _) = world.beside.sidecars.maker().unwrap();
    sidecar.fail("the bucket is not there", false);
    world
        .until("it to be said", |w| {
            waits(w).contains("bucket is not there")
        })
        .await;
    let said = waits(&world);
    assert!(
        said.contains("delete that Backup") && said.contains("spec.deletion.finalBackup: false"),
        "{said}"
    );
    stays_until_somebody_says_so(&mut world).await;
}

#[tokio::test]
async fn where_none_is_asked_for_or_can_be_made_the_end_waits_for_nothing() {
    // Its volumes stay.
    let mut world = leaving(|d| d.volumes = None).await;
    until_ended(&mut world).await;
    assert_eq!(last_of(&world), None);
    assert_eq!(world.claims().len(), 3);

    // Nothing can be made any more.
    let mut world = backed_up().await;
    world.change(|pg| {
        pg.spec.deletion = Some(Deletion {
            volumes: Some(KeptVolumes::Delete),
            ..Deletion::default()
        });
        pg.finalizers_mut().push(HOLD.into());
    });
    world.settled().await;
    let going = "backups.mainstay.dev \"db-final\" is forbidden: unable to create new content in namespace shop because it is being terminated";
    world.api.add_rule(
        Rule::new(Fault::Forbid(going))
            .client("operator")
            .verb(Verb::Create)
            .resource("backups"),
    );
    delete(&world).await;
    let last_status = until_ended(&mut world).await;
    assert_eq!(last_of(&world), None);
    let notes = told(&PostgresStatus::default(), &last_status, "LastBackup");
    assert!(
        notes.len() == 1 && notes[0].contains("no last backup was made"),
        "{notes:?}"
    );
    assert_eq!(world.claims().len(), 3, "they are not ours to delete");
}

#[tokio::test]
async fn what_is_deleted_in_the_foreground_keeps_its_volumes() {
    const FOREGROUND: &str = "foregroundDeletion";
    let mut world = backed_up().await;
    world.change(|pg| {
        pg.spec.deletion = Some(Deletion {
            volumes: Some(KeptVolumes::Delete),
            final_backup: Some(true),
            ..Deletion::default()
        });
        pg.finalizers_mut().push(HOLD.into());
    });
    world.settled().await;
    // As the API server does, before pods are taken away.
    world.change(|pg| pg.finalizers_mut().push(FOREGROUND.into()));
    delete(&world).await;
    world
        .until("the set to have ended", |w| {
            let pg = w.api.get::<Postgres>(SHOP, "db");
            pg.is_some_and(|pg| pg.finalizers() == [HOLD, FOREGROUND])
        })
        .await;
    assert!(world.pod_uids().is_empty());
    assert_eq!(world.claims().len(), 3, "no backup was made of them");
    assert_eq!(last_of(&world), None);
    let status = world.status();
    let recovery = status.recovery.as_ref().unwrap();
    assert_eq!(recovery.final_backup, None);
    let notes = told(&PostgresStatus::default(), &status, "LastBackup");
    assert!(
        notes.len() == 1
            && notes[0].contains("volumes are kept")
            && notes[0].contains("foreground"),
        "{notes:?}"
    );
}

#[tokio::test]
async fn what_was_asked_for_and_cannot_be_made_keeps_the_set() {
    let mut world = leaving(|d| d.final_backup = Some(true)).await;
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    // The schema does not let anybody; an operator does not trust in that.
    world.change(|pg| pg.spec.backup = None);
    world
        .until("it to be said", |w| {
            waits(w).contains("there is no repository for a last backup")
        })
        .await;
    stays(&mut world).await;
    // That it is not asked for in so many words is no reason to destroy what waits for it.
    world.change(|pg| pg.spec.deletion.as_mut().unwrap().final_backup = None);
    stays_until_somebody_says_so(&mut world).await;
}

#[tokio::test]
async fn what_is_backed_up_by_default_is_so_also_when_the_repository_is_taken_away_meanwhile() {
    let mut world = leaving(|_| {}).await;
    world
        .until("somebody to make it", |w| {
            w.beside.sidecars.maker().is_some()
        })
        .await;
    world.change(|pg| pg.spec.backup = None);
    world
        .until("it to be said", |w| waits(w).contains("finalBackup: false"))
        .await;
    stays_until_somebody_says_so(&mut world).await;
}

#[tokio::test]
async fn a_crash_at_any_write_takes_no_volume_before_its_backup() {
    let safe = |w: &World| {
        let named = w.status().recovery.and_then(|r| r.final_backup);
        let phase = last_of(w).and_then(|b| b.status?.phase);
        assert!(
            w.claims().len() == 1 || (named.is_some() && phase == Some(BackupPhase::Succeeded)),
            "{named:?} {phase:?}"
        );
    };
    for strides in STRIDES {
        let mut world = leaving_of(1, |_| {}).await;
        world.crash_after_each(strides);
        let what = format!("not ended with a crash after {strides:?}");
        let over = |w: &World| {
            safe(w);
            has_ended(w)
        };
        completing(&mut world, Instant::now(), &what, over).await;
        let all: Vec<Backup> = world.api.list();
        let finals = all.iter().filter(|b| b.name_any().contains("-final-"));
        assert_eq!(finals.count(), 1, "with a crash after {strides:?}");
        world.crashed_enough(5, strides);
    }
}
