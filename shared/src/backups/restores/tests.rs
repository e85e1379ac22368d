use std::collections::BTreeMap;

use jiff::SignedDuration;
use mainstay_crds::common::InstanceRole;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::check::{Held, Known, check};
use super::*;
use crate::agent::api;
use crate::backups::fixture::{entry, noon, report};
use crate::instances::{ClaimSeen, Known as Seen, Phase, PodSeen};

const COUNT: usize = 3;

fn restore(name: &str, spec: &Value) -> Restore {
    let mut whole = json!({"target": {"kind": "Postgres", "name": "db"}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-03-01T12:00:00Z"},
        "spec": whole,
    }))
    .unwrap()
}

fn healthy() -> Report {
    let mut report = report(vec![entry(600)]);
    report.ownership.owner = Some("00112233445566778899aabbccddeeff".parse().unwrap());
    report
}

#[derive(Clone, Debug)]
struct Claim {
    uid: String,
    aside: Option<String>,
    /// Whether it holds the data from before.
    old: bool,
}

#[derive(Clone, Debug)]
struct Running {
    uid: String,
    deleting: bool,
    serves: bool,
}

/// A set that does what it is told.
#[derive(Clone, Debug)]
struct World {
    now: Timestamp,
    claims: BTreeMap<u32, Claim>,
    pods: BTreeMap<u32, Running>,
    lease: Option<(Lease, u32)>,
    restores: Vec<Restore>,
    report: Report,
    paused: bool,
    uids: u32,
    /// Epochs that anybody ever led under.
    epochs: Vec<u64>,
}

impl World {
    fn new(restores: Vec<Restore>) -> Self {
        let mut world = Self {
            now: noon(),
            claims: BTreeMap::new(),
            pods: BTreeMap::new(),
            lease: Some((
                Lease {
                    epoch: 4,
                    timeline: 3,
                    initialised: true,
                },
                2,
            )),
            restores,
            report: healthy(),
            paused: false,
            uids: 0,
            epochs: vec![4],
        };
        for ordinal in 1..=3 {
            world.make(ordinal, true);
            world.pods.get_mut(&ordinal).unwrap().serves = true;
        }
        world
    }

    fn make(&mut self, ordinal: u32, old: bool) {
        self.uids += 1;
        let uid = format!("u{}", self.uids);
        self.claims.entry(ordinal).or_insert_with(|| Claim {
            uid: format!("c{uid}"),
            aside: None,
            old,
        });
        self.pods.entry(ordinal).or_insert(Running {
            uid,
            deleting: false,
            serves: false,
        });
    }

    fn instances(&self) -> (Vec<Instance>, Vec<Instance>) {
        let mut all: BTreeMap<u32, Instance> = BTreeMap::new();
        let seat = self.lease.map(|(_, seat)| seat);
        for ordinal in self.claims.keys().chain(self.pods.keys()) {
            let name = format!("db-{ordinal}");
            let pod = self.pods.get(ordinal);
            let status = pod.map(|pod| api::Status {
                pod_uid: pod.uid.clone(),
                instance: name.clone(),
                ready: pod.serves,
                role: if seat == Some(*ordinal) {
                    InstanceRole::Primary
                } else {
                    InstanceRole::Replica
                },
                ..api::Status::default()
            });
            all.insert(
                *ordinal,
                Instance {
                    name,
                    ordinal: *ordinal,
                    pod: pod.map(|pod| PodSeen {
                        uid: pod.uid.clone(),
                        phase: Phase::Running,
                        ready: pod.serves,
                        deleting: pod.deleting,
                        ..PodSeen::default()
                    }),
                    claim: self.claims.get(ordinal).map(|claim| ClaimSeen {
                        uid: claim.uid.clone(),
                        set_aside: claim.aside.clone(),
                        ..ClaimSeen::default()
                    }),
                    agent: status.map_or_else(
                        || Seen::Unreachable("it has no pod".to_owned()),
                        Seen::Known,
                    ),
                },
            );
        }
        let is_aside = |i: &Instance| i.claim.as_ref().is_some_and(|c| c.set_aside.is_some());
        let (aside, used) = all.into_values().partition(is_aside);
        (used, aside)
    }

    fn decide(&self) -> Decision {
        let (instances, aside) = self.instances();
        let seat = self.lease.map_or(1, |(_, seat)| seat);
        let seat = format!("db-{seat}");
        decide(
            &self.restores,
            &Setting {
                now: self.now,
                set: "db",
                seat: &seat,
                lease: Ok(self.lease.map(|(lease, _)| lease)),
                instances: &instances,
                aside: &aside,
                report: Some(&self.report),
                possible: true,
                logged: true,
                has_repository: true,
                stopped: self.pods.is_empty(),
                busy: None,
                deleting: false,
                paused: self.paused,
            },
        )
    }

    /// One pass, and then the operator may have ended: nothing is remembered but what is in here.
    fn pass(&mut self) {
        let decision = self.decide();
        for told in decision.says {
            let name = told.restore.name_any();
            let found = self.restores.iter_mut().find(|r| r.name_any() == name);
            found.unwrap().status = Some(told.status);
        }
        if let Some(step) = decision.step {
            self.carry_out(&step);
        }
        self.look_after();
    }

    fn carry_out(&mut self, step: &Step) {
        let number = |name: &str| names::ordinal("db", name).unwrap();
        match step {
            Step::Hold(restore) | Step::Release(restore) => {
                let wanted = matches!(step, Step::Hold(_));
                let uid = restore.uid();
                let found = self.restores.iter_mut().find(|r| r.uid() == uid).unwrap();
                let all = found.finalizers_mut();
                all.retain(|f| f != names::RESTORE_FINALIZER);
                if wanted {
                    all.push(names::RESTORE_FINALIZER.to_owned());
                }
            }
            Step::DeletePod { instance, uid } => {
                let seat = self.lease.map(|(_, seat)| seat);
                if seat == Some(number(instance)) {
                    assert_eq!(self.pods.len(), 1, "the primary goes last");
                }
                let pod = self.pods.get_mut(&number(instance)).unwrap();
                assert!(pod.uid == *uid && !pod.deleting);
                pod.deleting = true;
                pod.serves = false;
            }
            Step::Label {
                instance,
                uid,
                aside,
                ..
            } => {
                assert!(self.pods.is_empty(), "claims change over while nobody runs");
                let claim = self.claims.get_mut(&number(instance)).unwrap();
                assert!(claim.uid == *uid && claim.aside.is_some() != aside.is_some());
                claim.aside.clone_from(aside);
            }
            Step::DeleteLease => {
                assert!(self.pods.is_empty());
                let (lease, _) = self.lease.take().unwrap();
                assert!(floors(&self.restores) >= (lease.epoch, lease.timeline));
            }
            Step::DeleteClaim { instance, uid } => {
                let claim = self.claims.remove(&number(instance)).unwrap();
                assert_eq!(claim.uid, *uid);
                let by = self.restores.iter().find(|r| r.uid() == claim.aside);
                assert!(by.unwrap().spec.is_confirmed(), "nobody said so");
                let serving = self.pods.values().filter(|pod| pod.serves);
                assert!(serving.count() > 0, "the set serves from others");
            }
        }
    }

    /// What the rest of a pass does.
    fn look_after(&mut self) {
        let stance = stance(&self.restores);
        let begins = match stance {
            Stance::Held(_) => return,
            Stance::Usual => None,
            Stance::Founding(restore) => Some(first(restore, "db").unwrap()),
        };
        if self.paused {
            return;
        }
        let used: Vec<u32> = {
            let used = self.claims.iter().filter(|(_, c)| c.aside.is_none());
            used.map(|(o, _)| *o).collect()
        };
        let (epoch, timeline) = floors(&self.restores);
        if self.lease.is_none() {
            let seat = begins
                .or_else(|| used.first().copied())
                .expect("it has data");
            let lease = Lease {
                epoch,
                timeline: 0,
                initialised: begins.is_none(),
            };
            self.lease = Some((lease, seat));
        }
        let (mut lease, seat) = self.lease.unwrap();
        // Two sides never run together.
        let sides: Vec<bool> = self.pods.keys().map(|o| self.claims[o].old).collect();
        assert!(sides.windows(2).all(|pair| pair[0] == pair[1]), "{sides:?}");
        if !self.pods.contains_key(&seat) {
            let old = self.claims.get(&seat).is_some_and(|claim| claim.old);
            assert!(old || begins.is_some() || lease.initialised, "an empty set");
            self.make(seat, old);
            return;
        }
        if !self.pods[&seat].serves {
            lease = Lease {
                epoch: lease.epoch + 1,
                timeline: lease.timeline.max(timeline) + 1,
                initialised: true,
            };
            assert!(
                self.epochs.iter().all(|e| *e < lease.epoch),
                "{lease:?} {:?}",
                self.epochs
            );
            self.epochs.push(lease.epoch);
            self.lease = Some((lease, seat));
            self.pods.get_mut(&seat).unwrap().serves = true;
            return;
        }
        let old = self.claims[&seat].old;
        let missing = used.iter().find(|o| !self.pods.contains_key(o)).copied();
        if let Some(ordinal) = missing {
            self.make(ordinal, old);
        } else if used.len() < COUNT {
            let free = (1..100).find(|o| !self.claims.contains_key(o)).unwrap();
            self.make(free, old);
        }
        for pod in self.pods.values_mut() {
            pod.serves = true;
        }
    }

    fn happens(&mut self, event: Event) {
        let spec = |world: &mut Self, change: fn(&mut mainstay_crds::restore::RestoreSpec)| {
            change(&mut world.restores[0].spec);
            world.restores[0].metadata.generation =
                world.restores[0].metadata.generation.map(|g| g + 1);
        };
        match event {
            Event::Pass => self.pass(),
            Event::Ends => self.pods.retain(|_, pod| !pod.deleting),
            Event::Time => {
                self.now += SignedDuration::from_secs(20);
                self.report.latest = Some(self.now - SignedDuration::from_secs(1));
            }
            Event::Paused(paused) => self.paused = paused,
            Event::Cancel => spec(self, |s| s.cancel = Some(true)),
            Event::Confirm => spec(self, |s| s.confirm = Some(true)),
            Event::Revert => spec(self, |s| s.revert = Some(true)),
            Event::TakesOver(ordinal) => {
                let serves = self.pods.get(&ordinal).is_some_and(|pod| pod.serves);
                if let Some((lease, _)) = self.lease.filter(|_| serves) {
                    let lease = Lease {
                        epoch: lease.epoch + 1,
                        timeline: lease.timeline + 1,
                        ..lease
                    };
                    self.epochs.push(lease.epoch);
                    self.lease = Some((lease, ordinal));
                }
            }
        }
    }

    fn phase(&self) -> RestorePhase {
        phase(&self.restores[0])
    }

    /// Until nothing changes any more.
    fn runs(&mut self) {
        for _ in 0..200 {
            let before = (self.restores.clone(), self.claims.len(), self.pods.len());
            for event in [Event::Time, Event::Ends, Event::Pass] {
                self.happens(event);
            }
            let quiet = self.pods.values().all(|p| p.serves) && self.pods.len() == COUNT;
            let same = before == (self.restores.clone(), self.claims.len(), self.pods.len());
            if quiet && same && !self.phase().is_active() && self.phase() != RestorePhase::Pending {
                return;
            }
        }
        panic!("it never rests: {:?}", self.restores[0].status);
    }

    fn serving(&self) -> Vec<u32> {
        let all = self.pods.iter().filter(|(_, pod)| pod.serves);
        all.map(|(o, _)| *o).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Pass,
    /// Pods that are being deleted end.
    Ends,
    Time,
    Paused(bool),
    Cancel,
    Confirm,
    Revert,
    TakesOver(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        40 => Just(Event::Pass),
        8 => Just(Event::Ends),
        4 => Just(Event::Time),
        1 => any::<bool>().prop_map(Event::Paused),
        1 => Just(Event::Cancel),
        1 => Just(Event::Confirm),
        1 => Just(Event::Revert),
        2 => (1..7_u32).prop_map(Event::TakesOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_happens_one_side_serves_and_nothing_goes_that_nobody_let_go(
        events in prop::collection::vec(event(), 0..150),
    ) {
        // What is forbidden is asserted where steps are carried out.
        let mut world = World::new(vec![restore("back", &json!({}))]);
        for event in events {
            world.happens(event);
        }
        world.happens(Event::Paused(false));
        world.runs();
        prop_assert_eq!(world.serving().len(), COUNT);
        let sides: Vec<bool> = world.serving().iter().map(|o| world.claims[o].old).collect();
        let old = matches!(world.phase(), RestorePhase::Reverted | RestorePhase::Cancelled | RestorePhase::Failed);
        prop_assert!(sides.iter().all(|side| *side == old), "{:?} {:?}", sides, world.phase());
        if !world.restores[0].spec.is_confirmed() {
            let kept = world.claims.values().filter(|c| c.old);
            prop_assert_eq!(kept.count(), 3, "volumes from before");
        }
        prop_assert!(!world.restores[0].finalizers().iter().any(|f| f == names::RESTORE_FINALIZER));
        // It rests.
        prop_assert_eq!(world.decide(), Decision::default());
    }
}

#[test]
fn back_in_place_confirmed_and_once_more() {
    let mut world = World::new(vec![restore("back", &json!({}))]);
    world.runs();
    assert_eq!(world.phase(), RestorePhase::Restored);
    assert_eq!(world.serving(), [4, 5, 6]);
    let status = world.restores[0].status.clone().unwrap();
    let from = status.from.unwrap();
    assert_eq!((from.primary.as_str(), from.instances.len()), ("db-2", 3));
    assert_eq!(from.owner, "00112233445566778899aabbccddeeff");
    assert!(status.message.unwrap().contains("confirm: true"));

    // Another one waits for what is kept.
    world.restores.push(restore("more", &json!({})));
    world.pass();
    let says = |w: &World| w.restores[1].status.clone().unwrap().message.unwrap();
    assert!(
        says(&world).contains("kept by restore back"),
        "{}",
        says(&world)
    );
    world.happens(Event::Confirm);
    world.runs();
    assert_eq!(world.phase(), RestorePhase::Confirmed);
    for _ in 0..60 {
        for event in [Event::Time, Event::Ends, Event::Pass] {
            world.happens(event);
        }
    }
    assert_eq!(phase(&world.restores[1]), RestorePhase::Restored);
    assert_eq!(world.serving(), [1, 2, 3]);
    assert_eq!(first(&world.restores[1], "db"), Some(1));
}

#[test]
fn what_was_begun_leads_back_from_anywhere() {
    for passes in 0..40 {
        let mut world = World::new(vec![restore("back", &json!({}))]);
        for _ in 0..passes {
            for event in [Event::Time, Event::Ends, Event::Pass] {
                world.happens(event);
            }
        }
        world.happens(Event::Revert);
        world.runs();
        assert_eq!(world.serving(), [1, 2, 3], "after {passes} passes");
        let begun = world.restores[0].status.as_ref().unwrap().from.is_some();
        let phase = if begun {
            RestorePhase::Reverted
        } else {
            RestorePhase::Cancelled
        };
        assert_eq!(world.phase(), phase);
        assert!(world.claims.values().filter(|c| c.old).count() == 3);
        world.happens(Event::Confirm);
        world.runs();
        assert_eq!(world.claims.len(), 3, "after {passes} passes");
    }
}

#[test]
fn a_record_of_one_that_is_over_does_nothing() {
    for said in ["confirm", "revert", "cancel"] {
        let mut world = World::new(vec![restore("back", &json!({said: true}))]);
        world.runs();
        assert_eq!(world.phase(), RestorePhase::Cancelled, "{said}");
        assert_eq!(world.serving(), [1, 2, 3]);
    }
}

#[test]
fn it_begins_soon_or_never() {
    let mut world = World::new(vec![restore("back", &json!({"timeoutSeconds": 60}))]);
    world.report.latest = Some(noon() - SignedDuration::from_hours(1));
    world.pass();
    let says = |w: &World| w.restores[0].status.clone().unwrap().message.unwrap();
    assert_eq!(world.phase(), RestorePhase::Pending);
    assert!(
        says(&world).contains("is in the repository"),
        "{}",
        says(&world)
    );
    world.now += SignedDuration::from_secs(61);
    world.pass();
    assert_eq!(world.phase(), RestorePhase::Failed);
    assert!(
        says(&world).contains("nothing was done"),
        "{}",
        says(&world)
    );
    assert_eq!(world.serving(), [1, 2, 3]);
}

#[test]
fn a_claim_that_nobody_answers_for_is_a_persons_matter() {
    let mut world = World::new(vec![restore("back", &json!({}))]);
    world.claims.insert(
        7,
        Claim {
            uid: "c7".into(),
            aside: Some("of-one-that-is-gone".into()),
            old: true,
        },
    );
    for _ in 0..5 {
        world.pass();
    }
    assert_eq!(world.phase(), RestorePhase::Pending);
    let says = world.restores[0].status.clone().unwrap().message.unwrap();
    assert!(
        says.contains("db-7-data") && says.contains(names::SET_ASIDE),
        "{says}"
    );
}

fn checked(spec: &Value) -> Result<Known, Held> {
    check(&restore("back", spec).spec, noon(), Some(&healthy()), true)
}

#[test]
fn what_can_be_told_is_told_before() {
    let known = checked(&json!({})).unwrap();
    assert_eq!(known.stored_until, noon());
    let at = |time: &str| checked(&json!({"moment": {"time": time}}));
    // The first backup was complete 599 minutes before noon.
    assert!(at("2026-03-01T02:01:00Z").is_ok() && at("2026-03-01T12:00:00Z").is_ok());
    let refused = |held: Result<Known, Held>| match held {
        Err(Held::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(at("2026-03-01T02:00:59Z"));
    assert!(why.contains("earliest"), "{why}");
    let why = refused(at("2026-03-01T13:00:01+01:00"));
    assert!(why.contains("leave moment out"), "{why}");
    refused(at("tomorrow"));
    let why = refused(checked(
        &json!({"backup": "20260102t030405z-0011223344556677"}),
    ));
    assert!(why.contains("kubectl get backups"), "{why}");
    let own = entry(600).id.to_string();
    assert!(checked(&json!({"backup": own})).is_ok());
    let why = refused(checked(
        &json!({"backup": own, "moment": {"time": "2026-03-01T02:00:00Z"}}),
    ));
    assert!(why.contains(&own), "{why}");
}

#[test]
fn what_is_not_known_is_waited_for() {
    let spec = restore("back", &json!({})).spec;
    let waits = |report: Option<&Report>| match check(&spec, noon(), report, true) {
        Err(Held::Waits(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(waits(None).contains("container answers"));
    let behind = Report {
        latest: Some(noon() - SignedDuration::from_secs(1)),
        ..healthy()
    };
    assert!(waits(Some(&behind)).contains("is in the repository"));
    let unknown = Report {
        latest: None,
        ..healthy()
    };
    waits(Some(&unknown));
    let broken = |why: &str| {
        let mut report = healthy();
        report.catalogue[0].broken = Some(why.to_owned());
        report
    };
    let damaged = broken("its log is not whole");
    let named = restore("back", &json!({"backup": entry(600).id.to_string()})).spec;
    // Nothing can be recovered at all, so it waits for the next backup.
    assert!(check(&named, noon(), Some(&damaged), true).is_err());
}

#[test]
fn without_a_log_it_is_a_backup_and_waits_for_no_other() {
    let backed_up = noon() - SignedDuration::from_mins(30);
    let behind = Report {
        latest: Some(backed_up),
        ..healthy()
    };
    let own = entry(600).id.to_string();
    let checked = |spec: &Value, logged| {
        let spec = restore("back", spec).spec;
        check(&spec, noon(), Some(&behind), logged)
    };
    assert_eq!(
        checked(&json!({}), false).unwrap().stored_until,
        backed_up,
        "what came later is on the volumes from before"
    );
    assert!(checked(&json!({"moment": {"time": "2026-03-01T11:45:00Z"}}), false).is_ok());
    assert!(checked(&json!({"backup": own}), false).is_ok());
    let refused = |spec: Value| match checked(&spec, false) {
        Err(Held::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(json!({"moment": {"time": "2026-03-01T02:00:00Z"}}));
    assert!(why.contains("earliest"), "{why}");
    for moment in [json!({"lsn": "0/3000148"}), json!({"name": "before"})] {
        let why = refused(json!({"moment": moment}));
        assert!(why.contains("moment.time"), "{why}");
    }
    let both = json!({"backup": own, "moment": {"time": "2026-03-01T11:45:00Z"}});
    let why = refused(both.clone());
    assert!(
        why.contains(&own) && why.contains("no other moment"),
        "{why}"
    );
    assert!(matches!(checked(&both, true), Err(Held::Waits(_))));
    let empty = Report {
        catalogue: Vec::new(),
        ..behind.clone()
    };
    let spec = restore("back", &json!({})).spec;
    assert!(matches!(
        check(&spec, noon(), Some(&empty), false),
        Err(Held::Waits(_))
    ));
}
