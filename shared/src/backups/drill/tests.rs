use jiff::ToSpan;
use mainstay_backup::api::Gap;
use mainstay_backup::drill::{DrillReport, FailedCheck};
use mainstay_crds::operation::OperationPhase;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fixture::{entry, noon, report};
use super::pod::{Ended, Phase, drills, seen};
use super::*;
use crate::conditions::{State, reasons};
use crate::metadata::tests::db;

/// Every Sunday at three; noon is on a Sunday.
fn sundays() -> Cron {
    Cron::parse("0 3 * * 0").unwrap()
}

fn three() -> Timestamp {
    "2026-03-01T03:00:00Z".parse().unwrap()
}

/// A set whose drills are asked for.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
struct World {
    now: Timestamp,
    cron: Cron,
    target: DrillTarget,
    keep: bool,
    paused: bool,
    wanted: bool,
    ground: Result<Ground, String>,
    recovery: RecoveryStatus,
    begun: Vec<Drill>,
    asked: Vec<Operation>,
    instances: Vec<Instance>,
    apart: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: noon(),
            cron: sundays(),
            target: DrillTarget::Latest,
            keep: false,
            paused: false,
            wanted: true,
            ground: ground(Some(&report(vec![entry(600)]))),
            recovery: RecoveryStatus::default(),
            begun: vec![],
            asked: vec![],
            instances: vec![],
            apart: true,
        }
    }

    fn wish(&self) -> Wish<'_> {
        Wish {
            cron: &self.cron,
            target: self.target,
            keep: self.keep,
            seconds: 14_400,
        }
    }

    fn look<T>(&self, f: impl FnOnce(&Setting<'_>) -> T) -> T {
        f(&Setting {
            now: self.now,
            set: &db(),
            wish: self.wanted.then(|| self.wish()),
            records: &self.recovery.drills,
            begun: &self.begun,
            asked: &self.asked,
            instances: &self.instances,
            apart: self.apart,
            ground: self.ground.as_ref().copied().map_err(String::as_str),
            paused: self.paused,
        })
    }

    fn decide(&self) -> Decision {
        self.look(decide)
    }

    fn condition(&self) -> (State, &'static str, String) {
        condition(&self.wish(), self.now, &self.recovery.drills)
    }

    /// One that was begun at noon, with this pod.
    fn going(mut self, pod: Option<PodSeen>) -> Self {
        self.begun = vec![Drill {
            name: "db-drill-202603010300".into(),
            due: three(),
            moment: None,
            told: true,
            begun: Some(noon()),
            pod,
        }];
        self
    }

    fn recorded(&self) -> DrillRecord {
        match self.decide() {
            Decision::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self) -> String {
        match self.decide() {
            Decision::Wait(why) => why,
            other => panic!("{other:?}"),
        }
    }
}

fn passed() -> DrillReport {
    DrillReport {
        passed: true,
        message: "the backup is good".into(),
        backup: Some("20260301t020000z-0011223344556677".parse().unwrap()),
        bytes: 4 << 30,
        key: Some("age1x".into()),
        position: Some("0/3000148".into()),
        history: Some("1".into()),
        last_commit: Some(noon() - 7.seconds()),
        begun: Some(noon() + 10.seconds()),
        answered: Some(noon() + 100.seconds()),
        ended: Some(noon() + 130.seconds()),
        checks: 4,
        ..DrillReport::default()
    }
}

fn ended(code: i32, words: &str) -> Ended {
    Ended {
        code,
        reason: None,
        words: Some(words.to_owned()),
    }
}

fn pod(phase: Phase, all: &[(&str, Ended)]) -> PodSeen {
    PodSeen {
        phase,
        started: true,
        ended: all
            .iter()
            .map(|(n, e)| ((*n).to_owned(), e.clone()))
            .collect(),
        ..PodSeen::default()
    }
}

fn told(report: &DrillReport) -> PodSeen {
    let words = serde_json::to_string(report).unwrap();
    let (phase, code) = if report.passed {
        (Phase::Succeeded, 0)
    } else {
        (Phase::Failed, 1)
    };
    pod(
        phase,
        &[("restore", ended(0, "{}")), ("drill", ended(code, &words))],
    )
}

#[test]
fn a_moment_is_due_once_by_its_name_and_a_missed_one_is_made_up_for_once() {
    let mut world = World::new();
    let start = Start {
        name: "db-drill-202603010300".into(),
        due: three(),
        moment: None,
    };
    assert_eq!(world.decide(), Decision::Start(start));
    let over = World::new().going(Some(told(&passed()))).recorded();
    record(&mut world.recovery, over);
    assert_eq!(world.decide(), Decision::Rest);
    let next = world.look(due);
    assert_eq!(next, Some("2026-03-08T03:00:00Z".parse().unwrap()));
    world.now += SignedDuration::from_hours(24 * 30);
    let Decision::Start(start) = world.decide() else {
        panic!("it is due");
    };
    assert_eq!(start.name, "db-drill-202603290300", "of four one");
}

#[test]
fn without_a_backup_or_paused_nothing_is_begun() {
    let mut world = World::new();
    for (ground, why) in [
        (ground(None), "backup container answers"),
        (ground(Some(&report(vec![]))), "the first backup"),
        (
            ground(Some(&Report::default())),
            "what the repository holds",
        ),
    ] {
        world.ground = ground;
        assert!(world.waits().contains(why), "{}", world.waits());
    }
    let mut world = World::new();
    world.paused = true;
    assert_eq!(world.decide(), Decision::Rest);
    world = world.going(None);
    assert!(world.waits().contains("changes are stopped"));
    let mut world = World::new();
    world.wanted = false;
    assert_eq!(world.decide(), Decision::Rest);
}

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
fn the_sets_own_instances_come_first() {
    let placed = |node: Option<&str>| Instance {
        name: "db-2".into(),
        pod: Some(instances::PodSeen {
            node: node.map(str::to_owned),
            ..instances::PodSeen::default()
        }),
        ordinal: 2,
        claim: None,
        agent: instances::Known::Unreachable("it starts".into()),
    };
    let mut world = World::new();
    world.instances = vec![placed(None)];
    assert!(world.waits().contains("until db-2 has its place"));
    let mut world = World::new().going(None);
    world.begun[0].begun = None;
    world.instances = vec![placed(None)];
    assert!(world.waits().contains("until db-2 has its place"));
    world.instances = vec![placed(Some("node1"))];
    world.apart = false;
    assert!(world.waits().contains("network policy"));
    world.apart = true;
    assert!(matches!(world.decide(), Decision::MakePod(_)));

    // One that goes on gives its room to an instance that finds none, and to no other.
    let goes_on = PodSeen {
        started: true,
        placed: true,
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(goes_on));
    world.instances = vec![placed(None)];
    assert!(matches!(world.decide(), Decision::Wait(_)));
    world.instances[0].pod.as_mut().unwrap().waiting = Some(instances::Waiting {
        reason: "Unschedulable".into(),
        message: "0/3 nodes are available".into(),
        since: None,
    });
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert_eq!(
        over.message,
        "no room: db-2 needs it: 0/3 nodes are available"
    );
}

#[test]
fn random_moments_keep_away_from_what_retention_removes() {
    let now = noon();
    let ground = |hours: i64| Ground {
        earliest: Some(now - SignedDuration::from_hours(hours)),
        latest: Some(now),
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
fn what_says_nothing_of_backups_is_skipped_and_proves_nothing() {
    let stopped = DrillReport {
        message: "the drill was told to stop".into(),
        ..DrillReport::default()
    };
    let mut evicted = told(&stopped);
    evicted.reason = Some(("Evicted".into(), "the node was low on memory".into()));
    let mut drained = PodSeen {
        deleting: true,
        started: true,
        ..PodSeen::default()
    };
    // Told to stop it has ended, and Kubernetes says no more than that.
    let mut ended_by_drain = told(&stopped);
    ended_by_drain.deleting = true;
    let disrupted: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({"status": {
        "phase": "Failed",
        "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API",
        }],
        "containerStatuses": [{
            "name": "drill", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": {"terminated": {"exitCode": 1, "message": serde_json::to_string(&stopped).unwrap()}},
        }],
    }}))
    .unwrap();
    let disrupted = seen(&disrupted);
    let mut rebooted = pod(Phase::Failed, &[("drill", Ended::default())]);
    rebooted.ended.get_mut("drill").unwrap().reason = Some("Unknown".into());
    for (pod, why) in [
        (evicted, "low on memory"),
        (drained.clone(), "drained"),
        (ended_by_drain, "drained"),
        (disrupted, "Eviction"),
        (rebooted, "node is lost"),
    ] {
        let over = World::new().going(Some(pod)).recorded();
        assert_eq!(over.result, DrillResult::Skipped);
        assert!(over.message.contains(why), "{}", over.message);
    }
    // What has passed has passed, whatever becomes of the pod.
    drained = told(&passed());
    drained.deleting = true;
    assert_eq!(
        World::new().going(Some(drained)).recorded().result,
        DrillResult::Passed
    );

    let mut world = World::new().going(None);
    assert!(matches!(world.decide(), Decision::Look(_)));
    let lost = gone(&world.begun[0], noon());
    assert_eq!(lost.result, DrillResult::Skipped);
    record(&mut world.recovery, lost);
    assert!(matches!(world.decide(), Decision::Remove(_)));
    let (state, _, message) = world.condition();
    assert_eq!(state, State::Unknown);
    assert!(message.contains("was skipped"), "{message}");
    world.begun.clear();
    assert_eq!(world.decide(), Decision::Rest, "until it is due again");
}

#[test]
fn who_finds_no_room_is_given_up_after_a_while() {
    let waiting = PodSeen {
        waiting: Some("0/3 nodes are available: 3 Insufficient memory.".into()),
        scheduled: Some(noon()),
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(waiting));
    assert!(world.waits().contains("Insufficient memory"));
    assert_eq!(world.look(due), Some(noon() + PATIENCE));
    world.now = noon() + PATIENCE;
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert_eq!(
        over.message,
        "no room: 0/3 nodes are available: 3 Insufficient memory."
    );
    // Images may take as long again once it has a node.
    world.begun[0].pod.as_mut().unwrap().scheduled = Some(noon() + 9.minutes());
    assert!(world.waits().contains("has not begun"));
    let pod = world.begun[0].pod.as_mut().unwrap();
    pod.placed = true;
    pod.waiting = Some("container install: Back-off pulling image".into());
    world.now += 10.minutes();
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(
        over.message
            .contains("not started within 10 minutes: container install"),
        "{}",
        over.message
    );
}

#[test]
fn who_is_never_heard_of_again_is_given_up() {
    let silent = PodSeen {
        started: true,
        placed: true,
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(silent));
    let until = noon() + SignedDuration::from_secs(14_400) + PATIENCE;
    assert_eq!(world.look(due), Some(until));
    world.now = until;
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(
        over.message.contains("nothing is heard"),
        "{}",
        over.message
    );

    // Its node ended it, and it had not even begun.
    let mut late = PodSeen {
        phase: Phase::Failed,
        placed: true,
        reason: Some(("DeadlineExceeded".into(), "Pod was active".into())),
        waiting: Some("container restore: Back-off pulling image".into()),
        ..PodSeen::default()
    };
    let over = World::new().going(Some(late.clone())).recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(over.message.contains("pulling image"), "{}", over.message);
    late.started = true;
    assert_eq!(
        World::new().going(Some(late)).recorded().result,
        DrillResult::Failed
    );
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

proptest! {
    #[test]
    fn a_random_moment_can_be_recovered_and_stays(
        from in 0_i64..4_000_000_000_000_000, span in 2_i64..4_000_000_000_000, uid in "[a-f0-9]{8}", day in 0_i64..2000,
    ) {
        let time = |n| Timestamp::from_microsecond(n).unwrap();
        let ground = Ground { earliest: Some(time(from)), latest: Some(time(from + span)) };
        let due = Timestamp::from_second(day * 86_400).unwrap();
        let moment = random(&uid, due, ground).unwrap();
        prop_assert!(time(from) <= moment && moment <= time(from + span));
        prop_assert_eq!(random(&uid, due, ground), Some(moment));
    }

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
