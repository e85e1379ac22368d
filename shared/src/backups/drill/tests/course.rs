//! The steps of one, and what is left of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::pod::{drills, seen};
use super::*;

#[test]
fn steps_of_a_drill_in_their_order() {
    let mut world = World::new().going(None);
    world.begun[0].begun = None;
    assert!(matches!(world.decide(), Decision::MakePod(_)));
    // The operator ended right after it was made.
    world.begun[0].pod = Some(PodSeen::default());
    assert!(matches!(world.decide(), Decision::Note(_)));
    world.begun[0].begun = Some(noon());
    assert!(world.waits().contains("its pod was just made"));
    world.begun[0].pod = Some(PodSeen {
        running: vec!["restore".into()],
        started: true,
        ..PodSeen::default()
    });
    assert!(world.waits().contains("restores a backup"));
    world.now += SignedDuration::from_hours(3);
    assert!(
        world.waits().contains("restores a backup"),
        "it may take long"
    );
    world.begun[0].pod = Some(told(&passed()));
    let over = world.recorded();
    assert_eq!(world.recorded(), over);
    record(&mut world.recovery, over);
    assert_eq!(
        world.decide(),
        Decision::Remove("db-drill-202603010300".into())
    );
    world.begun[0].pod = None;
    assert_eq!(
        world.decide(),
        Decision::Remove("db-drill-202603010300".into())
    );
    world.begun.clear();
    assert_eq!(world.decide(), Decision::Rest);
}

#[test]
fn the_pod_of_a_failed_one_is_kept_until_the_next_is_due() {
    let mut report = passed();
    report.passed = false;
    let mut world = World::new().going(Some(told(&report)));
    world.keep = true;
    let over = world.recorded();
    record(&mut world.recovery, over);
    assert!(world.waits().contains("is kept"));
    world.now += SignedDuration::from_hours(24 * 7);
    assert!(matches!(world.decide(), Decision::Remove(_)));
    world.now = noon();
    world.begun[0].pod = None;
    assert!(
        matches!(world.decide(), Decision::Remove(_)),
        "somebody deleted it"
    );
    // One that passed is not kept.
    let mut world = World::new().going(Some(told(&passed())));
    world.keep = true;
    let over = world.recorded();
    record(&mut world.recovery, over);
    assert!(matches!(world.decide(), Decision::Remove(_)));
}

#[test]
fn what_nobody_asks_for_any_more_is_removed() {
    let mut world = World::new().going(Some(PodSeen::default()));
    world.wanted = false;
    assert!(matches!(world.decide(), Decision::Remove(_)));
    let mut world = World::new().going(Some(PodSeen::default()));
    world.begun[0].told = false;
    assert!(
        matches!(world.decide(), Decision::Remove(_)),
        "nobody can say what it was for"
    );
}

#[test]
fn a_pod_and_its_map_are_read() {
    let meta = |labels: Value| {
        json!({"name": "db-drill-202603010300", "labels": labels,
            "annotations": {names::DRILL_DUE: "2026-03-01T03:00:00Z", names::DRILL_BEGUN: "2026-03-01T12:00:00Z"}})
    };
    let map = serde_json::from_value(json!({"metadata": meta(json!({names::PART: names::DRILL}))}))
        .unwrap();
    let container = |name: &str, state: Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    let pod = serde_json::from_value(json!({
        "metadata": meta(json!({names::COMPONENT: names::DRILL})),
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T12:01:00Z"}],
            "initContainerStatuses": [
                container("install", json!({"terminated": {"exitCode": 0}})),
                container("restore", json!({"running": {}})),
            ],
            "containerStatuses": [container("drill", json!({"waiting": {"reason": "PodInitializing"}}))],
        },
    }))
    .unwrap();
    let all = drills(&[map], std::slice::from_ref(&pod));
    let [drill] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert!(drill.told && drill.begun == Some(noon()) && drill.due == three());
    let seen = seen(&pod);
    assert!(seen.placed && seen.started && seen.phase == Phase::Going && seen.waiting.is_none());
    assert_eq!(seen.running, ["restore"]);
    assert_eq!(drill.pod.as_ref(), Some(&seen));
    assert!(!drills(&[], &[pod])[0].told);
    assert_eq!(
        drills(
            &[serde_json::from_value(json!({"metadata": meta(json!({}))})).unwrap()],
            &[]
        ),
        []
    );
}

proptest! {
    #[test]
    fn whatever_happens_each_moment_is_told_once_and_at_most_ten_are(
        turns in prop::collection::vec((1_i64..400, 0_u8..6), 1..200),
    ) {
        let mut world = World::new();
        let mut began = 0;
        for (hours, what) in turns {
            world.now += SignedDuration::from_hours(hours);
            let pod = match what {
                0 => None,
                1 => Some(told(&passed())),
                2 => Some(told(&DrillReport::default())),
                3 => Some(PodSeen { deleting: true, ..PodSeen::default() }),
                4 => Some(PodSeen::default()),
                _ => Some(PodSeen { started: true, ..PodSeen::default() }),
            };
            match world.decide() {
                Decision::Start(start) => {
                    prop_assert!(world.begun.is_empty());
                    prop_assert!(world.recovery.drills.iter().all(|r| r.due.0 < start.due));
                    began += 1;
                    world.begun.push(Drill { name: start.name, due: start.due, told: true, ..Drill::default() });
                }
                Decision::MakePod(_) => {
                    world.begun[0].begun = Some(world.now);
                    world.begun[0].pod = pod;
                }
                Decision::Note(_) => world.begun[0].begun = Some(world.now),
                Decision::Look(drill) => {
                    let lost = gone(&drill, world.now);
                    record(&mut world.recovery, lost);
                }
                Decision::Record(over) => record(&mut world.recovery, over),
                Decision::Remove(_) => {
                    let due = world.begun[0].due;
                    prop_assert!(world.recovery.drills.iter().any(|r| r.due.0 == due));
                    world.begun.clear();
                }
                Decision::Wait(_) => world.begun[0].pod = pod,
                Decision::Rest => prop_assert!(world.begun.is_empty()),
            }
            let all = &world.recovery.drills;
            prop_assert!(all.len() <= KEPT && all.len() <= began);
            prop_assert!(all.windows(2).all(|w| w[0].due > w[1].due), "the newest first");
        }
    }
}
