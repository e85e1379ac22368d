use super::*;
use crate::instances::Known;
use crate::instances::fixture::{members, three};
use crate::rollout::{self, choose};
use serde_json::json;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn operation(name: &str, spec: &serde_json::Value) -> Operation {
    let mut whole = json!({"target": {"kind": "Postgres", "name": "db"}, "action": "Switchover"});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": name, "uid": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": whole,
    }))
    .unwrap()
}

/// A set of three of which `seat` is primary.
struct Set {
    seat: &'static str,
    epoch: u64,
    instances: Vec<Instance>,
    members: Vec<String>,
    under_order: bool,
    refusal: Option<&'static str>,
    now: Timestamp,
}

impl Set {
    fn new(seat: &'static str, epoch: u64) -> Self {
        Self {
            seat,
            epoch,
            instances: three(seat),
            members: members(),
            under_order: false,
            refusal: None,
            now: NOW,
        }
    }

    fn stops_streaming(mut self, name: &str) -> Self {
        for instance in &mut self.instances {
            if let Known::Known(status) = &mut instance.agent {
                status.streaming.retain(|s| s != name);
            }
        }
        self
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            now: self.now,
            set: "db",
            seat: self.seat,
            epoch: self.epoch,
            members: &self.members,
            instances: &self.instances,
            under_order: self.under_order,
            refusal: self.refusal,
        }
    }

    /// One pass: what is chosen, and the operations with what is then said of them.
    fn pass(&self, operations: &[Operation]) -> (Option<Candidate>, Vec<Operation>) {
        let setting = self.setting();
        let candidates: Vec<Candidate> = proposed(operations, &setting).into_iter().collect();
        let choice = choose(&rollout::Setting {
            instances: &self.instances,
            members: &self.members,
            candidates: &candidates,
            seat: self.seat,
            confirmations: 1,
            config_hash: "",
            unseen: self.under_order.then_some("an order goes on"),
            refusals: 0,
            door: rollout::Door::Open,
        });
        let mut after = operations.to_vec();
        for told in told(operations, &setting, &choice) {
            let name = told.operation.name_any();
            let slot = after.iter_mut().find(|o| o.name_any() == name).unwrap();
            slot.status = Some(told.status);
        }
        (choice.step, after)
    }
}

fn said(operation: &Operation) -> (OperationPhase, String) {
    let status = operation.status.clone().unwrap_or_default();
    (phase(operation), status.message.unwrap_or_default())
}

#[test]
fn what_was_before_is_said_with_the_step_and_the_end_is_known_by_the_epoch() {
    let asked = operation("move", &json!({"to": "db-2"}));
    let (step, running) = Set::new("db-1", 7).pass(&[asked]);
    assert_eq!(step.unwrap().step(), "hand over from db-1 to db-2");
    assert_eq!(phase(&running[0]), OperationPhase::Running);
    let from = running[0].status.clone().unwrap().from.unwrap();
    assert_eq!((from.primary.as_str(), from.epoch), ("db-1", 7));

    let mut meanwhile = Set::new("db-1", 7);
    meanwhile.under_order = true;
    let (step, same) = meanwhile.pass(&running);
    assert_eq!(step, None);
    assert_eq!(phase(&same[0]), OperationPhase::Running);

    // Another operator, which knows nothing but what is written.
    let (step, done) = Set::new("db-2", 8).pass(&same);
    assert_eq!(step, None);
    let (phase, message) = said(&done[0]);
    assert_eq!(phase, OperationPhase::Succeeded, "{message}");
    assert!(done[0].status.clone().unwrap().finished_at.is_some());
    assert!(Set::new("db-2", 8).pass(&done).1 == done, "said once");
}

#[test]
fn a_primary_that_came_back_or_another_one_is_a_failure() {
    let (_, running) = Set::new("db-1", 7).pass(&[operation("move", &json!({"to": "db-2"}))]);
    let (_, back) = Set::new("db-1", 8).pass(&running);
    assert!(said(&back[0]).1.contains("primary again"));
    let (_, other) = Set::new("db-3", 8).pass(&running);
    assert_eq!(said(&other[0]).0, OperationPhase::Failed);
    assert!(said(&other[0]).1.contains("db-3 took over instead of db-2"));
}

#[test]
fn anybody_may_take_over_where_nobody_is_named() {
    let set = Set::new("db-1", 7).stops_streaming("db-2");
    let (step, waiting) = set.pass(&[operation("move", &json!({}))]);
    assert_eq!(step, None, "a replica is away");
    assert_eq!(said(&waiting[0]).0, OperationPhase::Pending);
    assert!(said(&waiting[0]).1.contains("db-2 does not stream"));
    let (step, _) = Set::new("db-1", 7).pass(&waiting);
    assert!(
        step.unwrap()
            .step()
            .starts_with("hand over from db-1 to db-")
    );
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let (step, after) = Set::new("db-1", 7).pass(&[operation("move", &json!({"to": "db-9"}))]);
    assert_eq!(step, None);
    assert!(said(&after[0]).1.contains("db-9 is no instance of db"));
    let (_, after) = Set::new("db-1", 7).pass(&[operation("move", &json!({"to": "db-1"}))]);
    assert_eq!(said(&after[0]).0, OperationPhase::Succeeded);
}

#[test]
fn one_comes_after_the_other() {
    let two = [
        operation("a", &json!({"to": "db-2"})),
        operation("b", &json!({"to": "db-3"})),
    ];
    let (_, after) = Set::new("db-1", 7).pass(&two);
    assert_eq!(said(&after[0]).0, OperationPhase::Running);
    assert!(said(&after[1]).1.contains("a comes first"));
    let (step, after) = Set::new("db-2", 8).pass(&after);
    assert_eq!(said(&after[0]).0, OperationPhase::Succeeded);
    // The first one was over only with this pass.
    assert_eq!(step, None);
    let (step, _) = Set::new("db-2", 8).pass(&after);
    assert_eq!(step.unwrap().step(), "hand over from db-2 to db-3");
}

#[test]
fn it_is_cancelled_before_it_begins_and_waited_for_afterwards() {
    let (step, after) = Set::new("db-1", 7).pass(&[operation("move", &json!({"cancel": true}))]);
    assert_eq!(step, None);
    assert_eq!(said(&after[0]).0, OperationPhase::Cancelled);

    let (_, mut running) = Set::new("db-1", 7).pass(&[operation("move", &json!({"to": "db-2"}))]);
    running[0].spec.cancel = Some(true);
    let mut set = Set::new("db-1", 7);
    set.under_order = true;
    let (_, still) = set.pass(&running);
    assert_eq!(said(&still[0]).0, OperationPhase::Running);
    let (_, over) = Set::new("db-1", 7).pass(&still);
    assert_eq!(said(&over[0]).0, OperationPhase::Cancelled);
    let (_, done) = Set::new("db-2", 8).pass(&still);
    assert_eq!(said(&done[0]).0, OperationPhase::Succeeded);
}

#[test]
fn it_is_given_up_with_the_reason_it_waited_for() {
    let set = Set::new("db-1", 7).stops_streaming("db-3");
    let (_, waiting) = set.pass(&[operation(
        "move",
        &json!({"to": "db-2", "timeoutSeconds": 60}),
    )]);
    let mut later = Set::new("db-1", 7).stops_streaming("db-3");
    later.now = NOW + SignedDuration::from_secs(60);
    let (step, over) = later.pass(&waiting);
    assert_eq!(step, None);
    let (phase, message) = said(&over[0]);
    assert_eq!(phase, OperationPhase::Failed);
    assert!(message.contains("after 60 s"), "{message}");
    assert!(message.contains("db-3 does not stream"), "{message}");
    // What holds it back now counts more than what the primary once said.
    let mut refused = Set::new("db-1", 7).stops_streaming("db-3");
    refused.refusal = Some("it is busy");
    let (_, pending) = refused.pass(&waiting);
    assert!(said(&pending[0]).1.contains("db-3 does not stream"));
}
