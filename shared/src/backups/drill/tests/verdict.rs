//! What is told of one that is over, and what it proves.

use mainstay_backup::drill::FailedCheck;
use serde_json::json;

use super::*;

#[test]
fn what_passed_is_measured_and_proves() {
    let mut world = World::new().going(Some(told(&passed())));
    assert_eq!(world.condition().1, reasons::NO_DRILL);
    assert_eq!(world.condition().0, State::Unknown);
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Passed);
    assert_eq!(
        over.recovery_point_seconds,
        Some(7),
        "up to when it was begun"
    );
    assert_eq!(over.recovery_seconds, Some(90));
    assert_eq!(over.history.as_deref(), Some("1"));
    assert_eq!(over.target, None);
    record(&mut world.recovery, over);
    let (state, reason, message) = world.condition();
    assert_eq!((state, reason), (State::True, reasons::PROVEN));
    assert!(message.contains("recovery point of 7 s"), "{message}");

    // Until the one after the next could be over: on Sundays, four hours and the patience with it.
    let until: Timestamp = "2026-03-15T07:10:00Z".parse().unwrap();
    world.begun.clear();
    world.now = until - SignedDuration::from_secs(1);
    assert_eq!(world.condition().0, State::True);
    world.now = until;
    assert_eq!(world.condition().1, reasons::DRILL_OVERDUE);
    assert_eq!(world.condition().0, State::False);
}

#[test]
fn an_uneven_schedule_that_is_kept_is_never_overdue() {
    for cron in ["0 3 * * 1,2", "0 9-17 * * 1-5", "*/5 * * * *", "0 3 1 * *"] {
        let mut world = World::new();
        world.cron = Cron::parse(cron).unwrap();
        let mut report = passed();
        for _ in 0..30 {
            let due = world.cron.next(world.now).unwrap();
            world.now = due - SignedDuration::from_secs(1);
            if !world.recovery.drills.is_empty() {
                assert_eq!(world.condition().0, State::True, "{cron} at {}", world.now);
            }
            world.now = due + SignedDuration::from_mins(4);
            report.ended = Some(world.now);
            let mut done = World::new().going(Some(told(&report))).recorded();
            done.due = Time(due);
            record(&mut world.recovery, done);
        }
        // Two that are missed are too many.
        let ended = world.now;
        let next = world.cron.next(world.cron.next(ended).unwrap()).unwrap();
        world.now = next + SignedDuration::from_hours(5);
        assert_eq!(world.condition().1, reasons::DRILL_OVERDUE, "{cron}");
    }
}

#[test]
fn what_failed_says_why_in_the_words_of_who_found_it() {
    let mut report = passed();
    report.passed = false;
    report.message = "1 of 4 checks does not hold".into();
    report.failed = vec![FailedCheck {
        what: "select 1 = 2".into(),
        found: "f".into(),
    }];
    let mut world = World::new().going(Some(told(&report)));
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Failed);
    assert_eq!(over.failed, ["select 1 = 2: f"]);
    record(&mut world.recovery, over);
    let (state, reason, message) = world.condition();
    assert_eq!((state, reason), (State::False, reasons::DRILL_FAILED));
    assert!(message.contains("1 of 4 checks"), "{message}");

    let words = json!({"step": "Failed", "message": "an object is damaged", "bytes": 7,
        "backup": "20260301t020000z-0011223344556677"});
    let broken = pod(Phase::Failed, &[("restore", ended(1, &words.to_string()))]);
    let over = World::new().going(Some(broken)).recorded();
    assert_eq!(
        (over.result, over.message.as_str()),
        (DrillResult::Failed, "an object is damaged")
    );
    assert_eq!(
        over.backup.as_deref(),
        Some("20260301t020000z-0011223344556677")
    );

    let mut killed = pod(
        Phase::Failed,
        &[(
            "restore",
            Ended {
                code: 137,
                reason: Some("OOMKilled".into()),
                words: None,
            },
        )],
    );
    let over = World::new().going(Some(killed.clone())).recorded();
    assert_eq!(over.result, DrillResult::Failed);
    assert!(over.message.contains("more memory"), "{}", over.message);

    killed.reason = Some(("DeadlineExceeded".into(), "Pod was active".into()));
    let over = World::new().going(Some(killed)).recorded();
    assert_eq!(over.result, DrillResult::Failed);
    assert!(
        over.message.contains("longer than 14400 s"),
        "{}",
        over.message
    );

    let silent = pod(Phase::Succeeded, &[("drill", Ended::default())]);
    let over = World::new().going(Some(silent)).recorded();
    assert_eq!(over.result, DrillResult::Failed, "nothing is not good");
}

#[test]
fn events_are_of_what_is_new() {
    let over = World::new().going(Some(told(&passed()))).recorded();
    let [event] = happenings(&[], std::slice::from_ref(&over))
        .try_into()
        .unwrap();
    assert_eq!((event.warning, event.reason), (false, "DrillPassed"));
    assert_eq!(
        happenings(std::slice::from_ref(&over), std::slice::from_ref(&over)),
        []
    );
}
