//! Drills that somebody asks for.

use mainstay_crds::operation::OperationPhase;
use serde_json::{Value, json};

use super::*;

/// One that was made at this minute of noon's hour.
fn asked(minute: u8, spec: &Value) -> Operation {
    let mut whole = json!({"target": {"kind": "Postgres", "name": "db"}, "action": "Drill"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let time = format!("2026-03-01T12:{minute:02}:05Z");
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "now", "generation": 1, "creationTimestamp": time},
        "spec": whole,
    }))
    .unwrap()
}

impl World {
    /// What is said of what is asked for, from then on.
    fn tell(&mut self) -> Option<(OperationPhase, String)> {
        let waits = self.decide().waits();
        for told in self.look(|s| demand::told(s, waits.as_deref())) {
            let name = &told.operation.metadata.name;
            let of = self.asked.iter_mut().find(|o| o.metadata.name == *name);
            of.unwrap().status = Some(told.status);
        }
        let status = self.asked[0].status.clone()?;
        Some((status.phase?, status.message?))
    }
}

#[test]
fn one_on_demand_is_made_at_once_and_once() {
    use OperationPhase::{Pending, Running, Succeeded};
    let mut world = World::new();
    // That of the schedule is over.
    let over = World::new().going(Some(told(&passed()))).recorded();
    record(&mut world.recovery, over);
    world.now += SignedDuration::from_mins(10);
    world.asked = vec![asked(9, &json!({}))];
    let Decision::Start(start) = world.decide() else {
        panic!("it is asked for");
    };
    assert_eq!(start.name, "db-drill-202603011209");
    assert_eq!(world.tell().unwrap(), (Pending, "it is next".to_owned()));
    world.begun = vec![Drill {
        name: start.name,
        due: start.due,
        told: true,
        begun: Some(world.now),
        pod: Some(PodSeen {
            started: true,
            running: vec!["drill".into()],
            ..PodSeen::default()
        }),
        ..Drill::default()
    }];
    let (phase, message) = world.tell().unwrap();
    assert_eq!(phase, Running);
    assert!(message.contains("looks at what was restored"), "{message}");
    // Too late to give it up.
    world.asked[0].spec.cancel = Some(true);
    world.now += SignedDuration::from_hours(1);
    assert_eq!(world.tell().unwrap().0, Running);
    world.begun[0].pod = Some(told(&passed()));
    let over = world.recorded();
    record(&mut world.recovery, over);
    assert_eq!(
        world.tell().unwrap(),
        (Succeeded, "the backup is good".to_owned())
    );
    assert!(matches!(world.decide(), Decision::Remove(_)));
    world.begun.clear();
    assert_eq!(world.decide(), Decision::Rest);
    let done = world.asked.clone();
    world.tell();
    assert_eq!(world.asked, done, "it is over");
}

#[test]
fn one_on_demand_that_cannot_begin_says_why_and_is_given_up() {
    use OperationPhase::{Cancelled, Failed, Pending};
    let mut world = World::new();
    world.now += SignedDuration::from_mins(10);
    world.asked = vec![asked(9, &json!({"timeoutSeconds": 60}))];
    world.wanted = false;
    let (phase, message) = world.tell().unwrap();
    assert_eq!(phase, Pending);
    assert!(message.contains("has no spec.backup.drill"), "{message}");
    assert_eq!(
        world.look(due),
        Some(world.now + SignedDuration::from_secs(60))
    );
    world.wanted = true;
    world.ground = ground(Some(&report(vec![])));
    assert!(world.tell().unwrap().1.contains("the first backup"));
    world.now += SignedDuration::from_secs(60);
    let (phase, message) = world.tell().unwrap();
    assert_eq!(phase, Failed);
    assert!(
        message.contains("given up after 60 s: it waits for the first backup"),
        "{message}"
    );
    world.asked = vec![asked(20, &json!({"cancel": true}))];
    assert_eq!(world.tell().unwrap().0, Cancelled);
    // One that goes on comes first, and one that was skipped has failed.
    let mut world = World::new().going(Some(PodSeen::default()));
    world.asked = vec![asked(0, &json!({}))];
    assert!(
        world
            .tell()
            .unwrap()
            .1
            .contains("db-drill-202603010300 comes first")
    );
    world.begun[0].due = "2026-03-01T12:00:05Z".parse().unwrap();
    let lost = gone(&world.begun[0], world.now);
    record(&mut world.recovery, lost);
    let (phase, message) = world.tell().unwrap();
    assert_eq!(phase, Failed);
    assert!(
        message.contains("it was skipped: its pod is gone"),
        "{message}"
    );
}
