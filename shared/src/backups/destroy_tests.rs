use mainstay_backup::shred::KeptCopy as Locked;
use mainstay_crds::operation::Operation;
use serde_json::json;

use super::super::drill::pod::Ended;
use super::*;

/// What is in the cluster; steps change it.
struct World {
    operation: Operation,
    target: Target,
    secret: Option<SecretSeen>,
    pod: Option<PodSeen>,
    now: Timestamp,
    steps: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let operation = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
            "metadata": {"name": "shred", "namespace": "shop", "uid": "op-1"},
            "spec": {
                "target": {"kind": "Postgres", "name": "db"}, "action": "DestroyKeys",
                "destroyKeys": {"confirm": "db", "repository": {"volume": {"claimName": "backups"}}},
            },
        });
        Self {
            operation: serde_json::from_value(operation).unwrap(),
            target: Target::Gone,
            secret: Some(SecretSeen {
                uid: "s-1".into(),
                recipients: Ok(vec!["age1own".into()]),
            }),
            pod: None,
            now: super::super::fixture::noon(),
            steps: Vec::new(),
        }
    }

    fn next(&self) -> Step {
        let setting = Setting {
            now: self.now,
            target: self.target,
            name: "db-backup-keys",
            secret: self.secret.clone(),
            pod: self.pod.clone(),
            place: Ok("s3://b/shop/db".into()),
            veiled: false,
            volumes: vec!["db-1-data".into()],
        };
        next(&self.operation, &setting)
    }

    /// Carries one step out. False: nothing more happens by itself.
    fn step(&mut self) -> bool {
        match self.next() {
            Step::Rest => return false,
            Step::Say(told) => {
                self.steps.push("say");
                self.operation.status = Some(told.status);
            }
            Step::Wait(told, _) => {
                let Some(told) = told else { return false };
                self.operation.status = Some(told.status);
            }
            Step::MakePod => {
                self.steps.push("make");
                self.pod = Some(PodSeen::default());
            }
            Step::RemovePod => {
                self.steps.push("remove");
                self.pod = None;
            }
            Step::DeleteSecret(uid) => {
                assert_eq!(self.secret.as_ref().unwrap().uid, uid);
                self.steps.push("delete");
                self.secret = None;
            }
        }
        true
    }

    fn run(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("it never rests: {:?}", self.steps);
    }

    fn ends(&mut self, report: &ShredReport) {
        let words = serde_json::to_string(report).unwrap();
        let ended = Ended {
            code: i32::from(!report.done),
            reason: None,
            words: Some(words),
        };
        self.pod = Some(PodSeen {
            phase: if report.done {
                Phase::Succeeded
            } else {
                Phase::Failed
            },
            ended: [(CONTAINER.to_owned(), ended)].into(),
            ..PodSeen::default()
        });
    }

    fn said(&self) -> (OperationPhase, String) {
        let status = self.operation.status.clone().unwrap_or_default();
        (
            status.phase.unwrap_or_default(),
            status.message.unwrap_or_default(),
        )
    }

    fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }
}

fn good() -> ShredReport {
    ShredReport {
        done: true,
        removed: 1,
        backups: 3,
        ..ShredReport::default()
    }
}

#[test]
fn what_is_destroyed_is_written_first_and_the_secret_goes_last() {
    let mut world = World::new();
    world.run();
    assert_eq!(world.steps, ["say", "make"]);
    let keys = world.operation.status.clone().unwrap().keys.unwrap();
    assert_eq!(
        (keys.recipients, keys.secret_uid.as_str()),
        (vec!["age1own".to_owned()], "s-1")
    );
    world.ends(&good());
    world.run();
    assert_eq!(
        world.steps,
        ["say", "make", "say", "delete", "say", "remove"]
    );
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Succeeded);
    for part in [
        "no key that is known here opens its 3 backups",
        "db-1-data",
        "elsewhere",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let keys = world.operation.status.clone().unwrap().keys.unwrap();
    assert!(keys.secret_gone_at.is_some());
    assert_eq!(keys.copies.unwrap().removed, 1);
}

#[test]
fn what_else_opens_them_is_said() {
    let mut world = World::new();
    world.run();
    world.ends(&ShredReport {
        others: vec!["age1escrow".into()],
        kept: vec![Locked {
            key: "keys/age1own-01.age".into(),
            until: Some(world.now),
        }],
        ..good()
    });
    world.run();
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Succeeded);
    assert!(!message.contains("no key that is known"), "{message}");
    let until = world.now.to_string();
    for part in [
        "whoever holds the key of age1escrow",
        "lock of the bucket",
        &until,
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn while_the_set_is_there_nothing_is_done() {
    let mut world = World::new();
    world.target = Target::There;
    world.run();
    let (phase, message) = world.said();
    assert!(
        phase == OperationPhase::Failed && message.contains("delete it first"),
        "{message}"
    );
    assert_eq!(world.steps, ["say"]);

    let mut world = World::new();
    world.target = Target::Going;
    world.run();
    assert_eq!(world.said().0, OperationPhase::Pending);
    world.target = Target::Gone;
    world.run();
    assert_eq!(world.steps, ["say", "make"], "it goes on once it is gone");
}

#[test]
fn a_set_that_is_made_meanwhile_keeps_its_keys() {
    let mut world = World::new();
    world.run();
    world.ends(&good());
    assert!(world.step());
    world.target = Target::There;
    world.run();
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Failed);
    assert!(
        message.contains("1 copies for escrow were removed"),
        "{message}"
    );
    assert!(world.secret.is_some());
}

#[test]
fn other_keys_than_those_that_were_written_down_stay() {
    let mut world = World::new();
    world.run();
    world.secret.as_mut().unwrap().recipients = Ok(vec!["age1own".into(), "age1new".into()]);
    world.ends(&good());
    world.run();
    assert_eq!(world.said().0, OperationPhase::Failed);
    assert!(world.secret.is_some());
}

#[test]
fn what_the_repository_refuses_is_the_end_and_what_passes_is_tried_again() {
    let mut world = World::new();
    world.run();
    world.ends(&ShredReport {
        message: "the wrong repository".into(),
        ..ShredReport::default()
    });
    world.run();
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Failed);
    assert!(
        message.contains("the wrong repository; the Secret is as it was"),
        "{message}"
    );

    let mut world = World::new();
    world.run();
    world.ends(&ShredReport {
        message: "the store is away".into(),
        passes: true,
        ..ShredReport::default()
    });
    world.run();
    assert_eq!(world.steps, ["say", "make", "say", "remove", "make"]);
    world.pod = None;
    world.later(301);
    world.run();
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Failed);
    assert!(
        message.contains("given up after 300 s") && message.contains("the store is away"),
        "{message}"
    );
    assert!(world.secret.is_some());
}

#[test]
fn without_keys_or_confirmation_nothing_is_begun() {
    let mut world = World::new();
    world.secret = None;
    world.run();
    assert_eq!(world.said().0, OperationPhase::Failed);

    let mut world = World::new();
    world.operation.spec.destroy_keys.as_mut().unwrap().confirm = "other".into();
    world.run();
    assert!(world.said().1.contains("confirm"));
    assert_eq!(world.steps, ["say"]);
}

#[test]
fn a_cancellation_before_the_end_leaves_the_secret() {
    let mut world = World::new();
    world.operation.spec.cancel = Some(true);
    world.run();
    assert_eq!(world.said().0, OperationPhase::Cancelled);

    let mut world = World::new();
    world.run();
    world.operation.spec.cancel = Some(true);
    world.ends(&good());
    assert!(world.step());
    world.pod = None;
    world.run();
    let (phase, message) = world.said();
    assert_eq!(phase, OperationPhase::Cancelled);
    assert!(message.contains("still opens the backups"), "{message}");
    assert!(world.secret.is_some());
}

#[test]
fn a_secret_that_somebody_deleted_meanwhile_is_gone() {
    let mut world = World::new();
    world.run();
    world.secret = None;
    world.ends(&good());
    world.run();
    assert_eq!(world.said().0, OperationPhase::Succeeded);
    assert!(!world.steps.contains(&"delete"));
}
