use mainstay_backup::api::PruneReport;
use serde_json::json;

use super::super::fixture::{World, backup, entry, noon, report};
use super::super::words::whole;
use super::*;

fn policy() -> Policy {
    Policy {
        window: Some(SignedDuration::from_hours(24 * 14)),
        count: None,
    }
}

fn what(world: &World) -> Vec<String> {
    let asks = world.look(|backups, setting| asks(&policy(), backups, setting));
    asks.into_iter().map(|a| a.what).collect()
}

fn prune(minutes: i64) -> PruneReport {
    PruneReport {
        at: noon() - SignedDuration::from_mins(minutes),
        backups: vec![],
        pieces: 0,
        waits: vec![],
        error: None,
        plan: String::new(),
    }
}

#[test]
fn retention_looks_after_each_backup_and_once_a_day() {
    let mut world = World::new(vec![]);
    assert_eq!(what(&world), ["prune"], "nobody knows when it last did");
    world.report("db-1").prune = Some(prune(10));
    assert_eq!(what(&world), [] as [&str; 0]);
    world.now += SignedDuration::from_hours(24);
    assert_eq!(what(&world), ["prune"]);
    let mut world = World::new(vec![]);
    world.report("db-1").prune = Some(prune(700));
    assert_eq!(what(&world), ["prune"], "there is a newer backup");
    let mut failed = prune(61);
    failed.error = Some("the store answers 503".into());
    world.report("db-1").prune = Some(failed);
    assert_eq!(what(&world), ["prune"]);
}

#[test]
fn retention_does_not_look_while_a_backup_is_made_or_the_repository_is_not_ours() {
    let mut running = backup("one", &json!({}));
    running.status.get_or_insert_default().phase = Some(BackupPhase::Running);
    let world = World::new(vec![running]);
    assert_eq!(what(&world), [] as [&str; 0]);
    let mut world = World::new(vec![]);
    world.report("db-1").ownership.state = OwnerState::Unknown;
    assert_eq!(what(&world), [] as [&str; 0]);
    let mut world = World::new(vec![]);
    world.reports.insert("db-1", Ok(report(vec![])));
    assert_eq!(what(&world), [] as [&str; 0], "there is nothing to let go");
}

#[test]
fn the_primary_reads_the_catalogue_when_another_one_has_added_to_it() {
    let mut world = World::new(vec![]);
    world.report("db-1").prune = Some(prune(1));
    let newer = entry(-5);
    world.report("db-2").catalogue.push(newer);
    assert_eq!(what(&world), ["refresh"]);
    // It has read since, and does not know it: it went.
    world.report("db-1").catalogue_at = Some(noon() + SignedDuration::from_mins(20));
    assert_eq!(what(&world), [] as [&str; 0]);
}

fn done(name: &str, scheduled: bool, minutes: i64) -> Backup {
    let mut backup = backup(name, &json!({}));
    if scheduled {
        backup
            .labels_mut()
            .insert(names::SCHEDULED.into(), "true".into());
    }
    let made = entry(minutes);
    let status = backup.status.get_or_insert_default();
    status.phase = Some(BackupPhase::Succeeded);
    status.repository = Some("s3://bucket/shop/db".into());
    status.backup_id = Some(made.id.to_string());
    status.finished_at = Some(whole(made.ended));
    backup
}

fn names_of(world: &World) -> (Vec<String>, Vec<String>) {
    let records = world.look(records);
    let expired = records.expired.iter().map(|s| s.backup.name_any());
    let deleted = records.delete.iter().map(ResourceExt::name_any);
    (expired.collect(), deleted.collect())
}

#[test]
fn records_of_what_is_gone_go_or_say_so() {
    let world = World::new(vec![
        done("there", true, 600),
        done("scheduled", true, 900),
        done("mine", false, 900),
        // Complete a minute before the catalogue was read: it may not show it yet.
        done("new", true, 2),
    ]);
    assert_eq!(
        names_of(&world),
        (vec!["mine".into()], vec!["scheduled".into()])
    );
}

#[test]
fn what_may_be_there_stays() {
    let mut elsewhere = done("elsewhere", true, 900);
    elsewhere.status.as_mut().unwrap().repository = Some("s3://other/shop/db".into());
    let mut world = World::new(vec![done("gone", true, 900), elsewhere]);
    assert_eq!(names_of(&world).1, ["gone"]);
    let many: Vec<_> = (0..200).map(|n| entry(800 - n)).collect();
    world.report("db-1").catalogue = many;
    assert_eq!(
        names_of(&world).1,
        [] as [&str; 0],
        "older than what is shown"
    );
    world.reports.insert("db-1", Err("silent"));
    assert_eq!(names_of(&world).1, [] as [&str; 0]);
    let mut world = World::new(vec![done("gone", true, 900)]);
    world.report("db-1").ownership.state = OwnerState::Refused;
    assert_eq!(
        names_of(&world).1,
        [] as [&str; 0],
        "it is another's catalogue"
    );
    // Retention says that it let it go, a moment ago.
    let mut world = World::new(vec![done("new", true, 2)]);
    let mut report = prune(0);
    report.backups = vec![entry(2).id];
    world.report("db-1").prune = Some(report);
    assert_eq!(names_of(&world).1, ["new"]);
}

#[test]
fn of_what_came_to_nothing_the_last_few_stay() {
    let failed = |n: i32, scheduled: bool| {
        let mut backup = done(&format!("failed-{n}"), scheduled, 900);
        let status = backup.status.as_mut().unwrap();
        status.phase = Some(BackupPhase::Failed);
        status.backup_id = None;
        backup
    };
    let mut all: Vec<_> = (0..7).map(|n| failed(n, true)).collect();
    all.extend((10..20).map(|n| failed(n, false)));
    let world = World::new(all);
    assert_eq!(names_of(&world).1, ["failed-0", "failed-1"]);
}
