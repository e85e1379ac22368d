//! The moment that is recovered.

use mainstay_backup::api::Gap;
use proptest::prelude::*;

use super::*;

#[test]
fn random_moments_keep_away_from_what_retention_removes() {
    let now = noon();
    let ground = |hours: i64| Ground {
        earliest: Some(now - SignedDuration::from_hours(hours)),
        latest: Some(now),
        log: true,
    };
    let inner = ground(100).inside(3600);
    assert_eq!(inner.earliest, Some(now - SignedDuration::from_hours(75)));
    assert_eq!(ground(25).inside(3600), ground(25), "there is no other");
}

#[test]
fn a_random_moment_is_measured_against_itself() {
    let mut world = World::new().going(Some(told(&passed())));
    world.begun[0].moment = Some(noon() - 1.hour());
    let over = world.recorded();
    assert_eq!(over.recovery_point_seconds, Some(0), "never negative");
    assert_eq!(over.target, Some(Time(noon() - 1.hour())));
}

#[test]
fn without_a_log_moments_after_the_newest_backup_are_drawn_too() {
    let mut world = World::new();
    world.target = DrillTarget::Random;
    let drawn = |world: &World| match world.decide() {
        Decision::Start(start) => start.moment,
        other => panic!("{other:?}"),
    };
    let logged = report(vec![entry(600)]);
    let mut alone = logged.clone();
    alone.catalogue[0].log_from = None;
    let made = alone.catalogue[0].consistent_at;
    alone.latest = Some(made);
    world.ground = ground(Some(&alone));
    let moment = drawn(&world).unwrap();
    assert!(made < moment && moment <= world.now, "{moment}");
    assert_ne!(moment, world.now, "any of them");
    // What comes after the end of a log nobody has.
    let with_a_log = ground(Some(&Report {
        latest: Some(made),
        ..logged
    }))
    .unwrap();
    assert_eq!(with_a_log.drawn(world.now), with_a_log);
    world.ground = Ok(with_a_log);
    assert!(world.waits().contains("which moments"), "there is only one");
}

#[test]
fn moments_before_a_gap_are_not_chosen() {
    let mut told = report(vec![entry(600), entry(300)]);
    let gap = |before: &str| Gap {
        history: "00000001-0".parse().unwrap(),
        after: "000000010000000000000004".parse().unwrap(),
        before: before.parse().unwrap(),
    };
    for (made, from) in told.catalogue.iter_mut().zip(["02", "08"]) {
        made.log_from = Some(format!("0000000100000000000000{from}").parse().unwrap());
    }
    told.gaps = vec![gap("000000010000000000000007")];
    let after = ground(Some(&told)).unwrap();
    assert_eq!(after.earliest, Some(told.catalogue[1].consistent_at));
    told.gaps = vec![gap("000000010000000000000009")];
    assert!(ground(Some(&told)).unwrap_err().contains("gap"));
}

proptest! {
    #[test]
    fn a_random_moment_can_be_recovered_and_stays(
        from in 0_i64..4_000_000_000_000_000, span in 2_i64..4_000_000_000_000, uid in "[a-f0-9]{8}", day in 0_i64..2000,
    ) {
        let time = |n| Timestamp::from_microsecond(n).unwrap();
        let ground = Ground { earliest: Some(time(from)), latest: Some(time(from + span)), log: true };
        let due = Timestamp::from_second(day * 86_400).unwrap();
        let moment = random(&uid, due, ground).unwrap();
        prop_assert!(time(from) <= moment && moment <= time(from + span));
        prop_assert_eq!(random(&uid, due, ground), Some(moment));
    }
}
