use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::backup::BackupPhase;
use serde_json::json;

use super::super::fixture::{World, backup, entry, noon, report};
use super::*;
use crate::metadata::tests::db;

/// Every day at three: nine hours before noon.
fn at_three() -> Cron {
    Cron::parse("0 3 * * *").unwrap()
}

fn name(world: &World) -> Option<String> {
    let due = world.look(|backups, setting| due(&db(), &at_three(), backups, setting));
    due.map(|b| b.name_any())
}

fn over(name: &str, phase: BackupPhase) -> Backup {
    let mut backup = backup(name, &json!({}));
    backup.status.get_or_insert_default().phase = Some(phase);
    backup
}

#[test]
fn a_moment_is_due_once_and_by_its_name() {
    let mut world = World::new(vec![]);
    assert_eq!(
        name(&world).as_deref(),
        Some("db-202603010300"),
        "the last one is ten hours old"
    );
    world.backups = vec![over("db-202603010300", BackupPhase::Failed)];
    assert_eq!(name(&world), None, "it was made, and came to nothing");
    world.now += SignedDuration::from_hours(15);
    assert_eq!(name(&world).as_deref(), Some("db-202603020300"));
}

#[test]
fn a_missed_moment_is_made_up_for_once_unless_there_was_a_backup_since() {
    let mut world = World::new(vec![]);
    world.now += SignedDuration::from_hours(24 * 5);
    assert_eq!(
        name(&world).as_deref(),
        Some("db-202603060300"),
        "of five one"
    );
    // Somebody made one on demand.
    let late = entry(-60 * 24 * 5 + 30);
    world.report("db-1").catalogue.push(late);
    assert_eq!(name(&world), None);
}

#[test]
fn a_set_without_any_backup_gets_one_at_once() {
    let mut world = World::new(vec![]);
    world.reports.insert("db-1", Ok(report(vec![])));
    assert_eq!(name(&world).as_deref(), Some("db-202603010300"));
    let due = world.look(|b, s| due(&db(), &at_three(), b, s)).unwrap();
    assert_eq!(
        due.spec.incremental,
        Some(true),
        "of which the engine makes a full one"
    );
    assert!(due.labels().contains_key(names::SCHEDULED));
    assert_eq!(
        due.metadata.owner_references, None,
        "the record outlives the set"
    );
}

#[test]
fn nothing_is_due_while_one_goes_on_or_what_there_is_is_not_known() {
    let mut world = World::new(vec![over("mine", BackupPhase::Running)]);
    assert_eq!(name(&world), None);
    world.backups.clear();
    world.report("db-1").catalogue_at = None;
    assert_eq!(name(&world), None);
    world.reports.insert("db-1", Ok(report(vec![])));
    world.report("db-1").ownership.state = OwnerState::Refused;
    assert_eq!(name(&world), None);
    world.reports.insert("db-1", Err("silent"));
    assert_eq!(name(&world), None);
    let mut world = World::new(vec![]);
    world.repository = None;
    assert_eq!(name(&world), None);
}

#[test]
fn a_gap_asks_for_a_full_backup_of_its_own() {
    let mut world = World::new(vec![]);
    world.now = noon() - SignedDuration::from_hours(9);
    let gap = |history: &str, before: &str| Gap {
        history: history.parse().unwrap(),
        after: "000000010000000000000001".parse().unwrap(),
        before: before.parse().unwrap(),
    };
    // Before the newest backup: it does without.
    world.report("db-1").gaps = vec![gap("00000001-0", "000000010000000000000010")];
    assert_eq!(
        world.look(|_, s| uncovered(s.primary_report().unwrap()).cloned()),
        None
    );
    // After it, in its history and in a later one.
    for gap in [
        gap("00000001-0", "000000010000000000000011"),
        gap("00000002-ab", "000000020000000000000001"),
    ] {
        world.report("db-1").gaps = vec![gap];
        let due = world.look(|b, s| due(&db(), &at_three(), b, s)).unwrap();
        assert!(due.name_any().starts_with("db-gap-"), "{}", due.name_any());
        assert_eq!(due.spec.incremental, None);
        let mut made = over(&due.name_any(), BackupPhase::Succeeded);
        made.status.as_mut().unwrap().begun = Some(Time(world.now));
        world.backups = vec![made];
        assert_eq!(name(&world), None, "the report does not show it yet");
        world.backups.clear();
    }
}

#[test]
fn a_gap_whose_backup_came_to_nothing_does_not_hold_the_schedule_up() {
    let mut world = World::new(vec![]);
    world.report("db-1").gaps = vec![Gap {
        history: "00000001-0".parse().unwrap(),
        after: "000000010000000000000011".parse().unwrap(),
        before: "000000010000000000000014".parse().unwrap(),
    }];
    let of_gap = name(&world).unwrap();
    world.backups = vec![over(&of_gap, BackupPhase::Failed)];
    let due = world.look(|b, s| due(&db(), &at_three(), b, s)).unwrap();
    assert_eq!(due.name_any(), "db-202603010300");
    assert_eq!(
        due.spec.incremental, None,
        "only a full one does without what is missing"
    );
    world
        .backups
        .push(over("db-202603010300", BackupPhase::Failed));
    assert_eq!(name(&world), None, "each is tried once");
}
