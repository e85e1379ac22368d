use mainstay_backup::api::{Gap, Unread};
use serde_json::json;

use super::super::fixture::{World, backup, entry, noon, report};
use super::*;

fn at_three() -> Cron {
    Cron::parse("0 3 * * *").unwrap()
}

fn reason(world: &World) -> (State, &'static str) {
    let (state, reason, _) = world.look(|b, s| condition(&at_three(), b, s));
    (state, reason)
}

fn fresh() -> World {
    let mut world = World::new(vec![]);
    world.reports.insert("db-1", Ok(report(vec![entry(540)])));
    world
}

#[test]
fn unknown_is_not_healthy() {
    assert_eq!(reason(&fresh()), (State::True, reasons::BACKED_UP));
    let mut world = fresh();
    world.reports.insert("db-1", Err("no connection"));
    assert_eq!(reason(&world).0, State::Unknown);
    world.reports.remove("db-1");
    assert_eq!(reason(&world).0, State::Unknown);
    let mut world = fresh();
    world.report("db-1").catalogue_at = None;
    assert_eq!(reason(&world).0, State::Unknown);
    let mut world = fresh();
    world.report("db-1").ownership.state = OwnerState::Unknown;
    assert_eq!(reason(&world).0, State::Unknown);
}

#[test]
fn each_ill_has_its_name() {
    let ill = |change: &dyn Fn(&mut World)| {
        let mut world = fresh();
        change(&mut world);
        let (state, reason) = reason(&world);
        assert_eq!(state, State::False, "{reason}");
        reason
    };
    assert_eq!(
        ill(&|w| w.report("db-1").ownership.state = OwnerState::Refused),
        reasons::REPOSITORY_REFUSED
    );
    assert_eq!(
        ill(&|w| w.report("db-1").archive.state = ArchiveState::Broken),
        reasons::ARCHIVE_BROKEN
    );
    assert_eq!(
        ill(&|w| w.report("db-1").archive.state = ArchiveState::Unreachable),
        reasons::STORE_UNREACHABLE
    );
    assert_eq!(
        ill(&|w| {
            w.report("db-1").archive.state = ArchiveState::Unreachable;
            w.report("db-1").archive.let_go = 1;
        }),
        reasons::ARCHIVE_GAP
    );
    assert_eq!(
        ill(&|w| w.report("db-1").catalogue.clear()),
        reasons::NO_BACKUP
    );
    assert_eq!(
        ill(&|w| w.report("db-1").gaps = vec![Gap {
            history: "00000001-0".parse().unwrap(),
            after: "000000010000000000000020".parse().unwrap(),
            before: "000000010000000000000022".parse().unwrap(),
        }]),
        reasons::ARCHIVE_GAP
    );
    assert_eq!(
        ill(&|w| w.now += SignedDuration::from_hours(24 + 16)),
        reasons::BACKUP_OVERDUE
    );
    assert_eq!(
        ill(&|w| w.report("db-1").unread = vec![Unread {
            id: entry(700).id,
            why: "its seal is wrong".into()
        }]),
        reasons::BACKUP_DAMAGED
    );
    assert_eq!(
        ill(&|w| {
            let mut broken = entry(700);
            broken.broken = Some("its parent is missing".into());
            w.report("db-1").catalogue.insert(0, broken);
        }),
        reasons::BACKUP_DAMAGED
    );
}

#[test]
fn a_failure_counts_until_there_is_a_backup() {
    let mut world = fresh();
    let mut failed = backup("tonight", &json!({}));
    let status = failed.status.get_or_insert_default();
    status.phase = Some(BackupPhase::Failed);
    status.message = Some("the store answers 403".into());
    status.finished_at = Some(whole(noon() - SignedDuration::from_mins(5)));
    world.backups = vec![failed];
    assert_eq!(reason(&world).1, reasons::BACKUP_FAILED);
    world.report("db-1").catalogue.push(entry(4));
    assert_eq!(reason(&world).1, reasons::BACKED_UP);
    world.report("db-1").catalogue.clear();
    let (_, _, message) = world.look(|b, s| condition(&at_three(), b, s));
    assert!(
        message.contains("tonight failed: the store answers 403"),
        "{message}"
    );
}

#[test]
fn the_latest_moment_is_written_now_and_then() {
    let mut world = fresh();
    let look = |world: &World, before: Option<&RecoveryStatus>| {
        world.look(|_, s| recovery("s3://bucket/shop/db", &at_three(), before, s))
    };
    let first = look(&world, None);
    assert_eq!(first.latest, Some(whole(noon())));
    assert_eq!(first.backups, Some(1));
    assert_eq!(
        first.last_backup.as_ref().unwrap().stored_bytes,
        Some(1 << 30)
    );
    assert_eq!(first.guarded, Some(true));
    world.report("db-1").latest = Some(noon() + SignedDuration::from_secs(299));
    assert_eq!(look(&world, Some(&first)), first);
    world.report("db-1").latest = Some(noon() + SignedDuration::from_secs(300));
    assert_ne!(look(&world, Some(&first)).latest, first.latest);
    // What is not known stays as it was.
    world.reports.insert("db-1", Err("no connection"));
    assert_eq!(look(&world, Some(&first)), first);
}
