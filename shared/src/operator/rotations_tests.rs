use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::ENTROPY_BYTES;
use crate::apply::Object;
use crate::instances::Known;
use crate::instances::fixture::{set, status};
use crate::metadata::tests::db;
use crate::operations::is_over;

const BEGIN: Timestamp = Timestamp::UNIX_EPOCH;

fn after(seconds: i64) -> Timestamp {
    BEGIN + jiff::SignedDuration::from_secs(seconds)
}

fn operation(name: &str, more: &Value) -> Operation {
    let mut spec =
        json!({"target": {"kind": "Database", "name": "db"}, "action": "RotatePassword"});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": name, "uid": format!("u-{name}"), "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

fn password(seed: u8) -> Password {
    // Five bits of each byte count.
    let mut entropy = [seed; ENTROPY_BYTES];
    entropy[0] = seed >> 5;
    Password::from_entropy(&entropy)
}

/// Data of a Secret with a password.
fn holding(password: &Password) -> BTreeMap<String, ByteString> {
    let text = ByteString(password.expose().as_bytes().to_vec());
    BTreeMap::from([(PASSWORD_KEY.to_owned(), text)])
}

/// A set with an operation, as it is or as caches show it.
#[derive(Clone, Debug)]
struct Set {
    operation: Operation,
    /// The password in the applications' Secret.
    shown: Password,
    /// Uid of the Secret with the next password, uid of its operation, and that password.
    next: Option<(String, String, Password)>,
    /// What agents are told: the present password and what is valid besides.
    told: (Password, BTreeSet<String>),
}

impl Set {
    fn new(operation: Operation) -> Self {
        let shown = password(1);
        let valid = BTreeSet::from([shown.expose().to_owned()]);
        Self {
            operation,
            told: (shown.clone(), valid),
            shown,
            next: None,
        }
    }

    fn observed(&self, instances: &[Instance]) -> Observed {
        let mut observed = Observed {
            rotations: vec![self.operation.clone()],
            instances: instances.to_vec(),
            ..Observed::default()
        };
        observed
            .secrets
            .insert("db-app".into(), holding(&self.shown));
        if let Some((uid, operation, password)) = &self.next {
            let mut secret = Secret::default();
            secret.metadata.name = Some("db.next".into());
            secret.metadata.uid = Some(uid.clone());
            let label = (names::OPERATION_UID.to_owned(), operation.clone());
            secret.metadata.labels = Some([label].into());
            observed.live.push(Object::of(&secret).unwrap());
            observed.secrets.insert("db.next".into(), holding(password));
        }
        observed
    }

    fn phase(&self) -> OperationPhase {
        let status = self.operation.status.as_ref();
        status.and_then(|s| s.phase).unwrap_or_default()
    }

    fn message(&self) -> String {
        let status = self.operation.status.clone().unwrap_or_default();
        status.message.unwrap_or_default()
    }
}

/// Hash of what is valid.
fn hash(valid: &BTreeSet<String>) -> String {
    valid.iter().cloned().collect::<Vec<_>>().join(" ")
}

/// A world in which operators, caches and agents are late, and operators crash.
struct World {
    is: Set,
    seen: Set,
    instances: Vec<Instance>,
    /// Passwords that each instance takes.
    takes: Vec<BTreeSet<String>>,
    made: u8,
    now: Timestamp,
}

impl World {
    fn new(operation: Operation) -> Self {
        let is = Set::new(operation);
        let mut instances = set(3, "db-1");
        for instance in &mut instances {
            instance.pod.as_mut().unwrap().node = Some("n".into());
        }
        let takes = vec![is.told.1.clone(); 3];
        let mut world = Self {
            seen: is.clone(),
            is,
            instances,
            takes,
            made: 1,
            now: BEGIN,
        };
        for index in 0..3 {
            world.learn(index);
        }
        world
    }

    /// The kubelet of an instance renews what is mounted, and its agent has it in force.
    fn learn(&mut self, index: usize) {
        self.takes[index].clone_from(&self.is.told.1);
        let known = hash(&self.is.told.1);
        if let Known::Known(status) = &mut self.instances[index].agent {
            status.users_hash = Some(known);
        }
    }

    /// It does not answer, or does again.
    fn cut(&mut self, index: usize) {
        let name = self.instances[index].name.clone();
        let known = hash(&self.takes[index]);
        let instance = &mut self.instances[index];
        instance.agent = match instance.agent {
            Known::Known(_) => Known::Unreachable("no route".into()),
            Known::Unreachable(_) => {
                let mut fresh = set(3, "db-1");
                status(&mut fresh, &name).users_hash = Some(known);
                fresh[index].agent.clone()
            }
        };
    }

    /// A cache catches up.
    fn see(&mut self, what: u8) {
        match what {
            0 => self.seen.operation = self.is.operation.clone(),
            1 => self.seen.shown = self.is.shown.clone(),
            2 => self.seen.next.clone_from(&self.is.next),
            _ => self.seen.told.clone_from(&self.is.told),
        }
    }

    /// A pass that crashes after so many writes.
    fn pass(&mut self, mut writes: usize) {
        let mut may_write = || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may
        };
        let observed = self.seen.observed(&self.instances);
        let next = next(&observed, "db");
        let going = going(&observed);
        let coming = going.and_then(|g| g.coming(next.as_ref()));
        let made = &mut self.made;
        let wanted = going.and_then(|g| {
            g.wanted(next.as_ref(), || {
                *made += 1;
                Ok::<_, ()>(password(*made))
            })
            .unwrap()
        });
        // The applications' Secret.
        let shown = coming.filter(|c| c.publish).map(|c| c.password.clone());
        let shown = shown.unwrap_or_else(|| self.seen.shown.clone());
        if shown != self.seen.shown && may_write() {
            self.is.shown = shown;
        }
        // The agents': the present one is that which was seen, and the last one before stays valid.
        let mut valid = BTreeSet::from([self.seen.shown.expose().to_owned()]);
        valid.insert(self.seen.told.0.expose().to_owned());
        valid.extend(coming.map(|c| c.password.expose().to_owned()));
        let told = (self.seen.shown.clone(), valid);
        if told.1 != self.seen.told.1 && may_write() {
            self.is.told = told.clone();
        }
        match (&wanted, &next, &self.is.next) {
            (Some(password), None, None) if may_write() => {
                let uid = self.is.operation.uid().unwrap();
                self.is.next = Some((format!("n{}", self.made), uid, password.clone()));
            }
            (None, Some(seen), Some((uid, ..))) if seen.uid == *uid && may_write() => {
                self.is.next = None;
            }
            _ => {}
        }
        let known = hash(&told.1);
        let id = db();
        let setting = Setting {
            now: self.now,
            set: &id,
            refusal: None,
            observed: &observed,
            is_wrong: &|_| false,
            users_hash: coming.map(|_| known.as_str()),
        };
        for told in super::told(&setting) {
            // One that was not seen as it is is not written.
            if told.operation == self.is.operation && may_write() {
                self.is.operation.status = Some(told.status);
            }
        }
    }

    /// Whether who reads the Secret now is let in everywhere.
    fn lets_in(&self) -> bool {
        let shown = self.is.shown.expose();
        self.takes.iter().all(|takes| takes.contains(shown))
    }

    fn settle(&mut self) {
        for index in 0..3 {
            if self.instances[index].agent.known().is_none() {
                self.cut(index);
            }
        }
        for _ in 0..12 {
            (0..4).for_each(|what| self.see(what));
            self.pass(9);
            (0..3).for_each(|index| self.learn(index));
            assert!(self.lets_in());
        }
    }
}

fn going_known(operation: &Operation) -> bool {
    let rotation = operation.status.as_ref().and_then(status_of);
    rotation.is_some_and(|r| r.known_at.is_some())
}

#[derive(Clone, Debug)]
enum Event {
    Pass(usize),
    See(u8),
    Learn(usize),
    Cut(usize),
    Later(i64),
    Cancel,
    Lose,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0_usize..6).prop_map(Event::Pass),
        16 => (0_u8..4).prop_map(Event::See),
        12 => (0_usize..3).prop_map(Event::Learn),
        2 => (0_usize..3).prop_map(Event::Cut),
        2 => (1_i64..40).prop_map(Event::Later),
        1 => Just(Event::Cancel),
        1 => Just(Event::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Whatever is late and crashes, and whoever gives it up: the password that stands in the Secret lets in everywhere; and it ends.
    #[test]
    fn who_reads_the_secret_is_let_in_at_any_time(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new(operation("one", &json!({"timeoutSeconds": 200})));
        let mut cancelled = false;
        for event in events {
            match event {
                Event::Pass(writes) => world.pass(writes),
                Event::See(what) => world.see(what),
                Event::Learn(index) => world.learn(index),
                Event::Cut(index) => world.cut(index),
                Event::Later(seconds) => world.now += jiff::SignedDuration::from_secs(seconds),
                Event::Cancel => {
                    world.is.operation.spec.cancel = Some(true);
                    cancelled = true;
                }
                // Once everybody knows it, who takes it away has to make another operation.
                Event::Lose => {
                    let known = going_known(&world.is.operation);
                    if !known {
                        (world.is.next, world.seen.next) = (None, None);
                    }
                }
            }
            prop_assert!(world.lets_in(), "{:?}", world.is);
        }
        world.settle();
        let is = &world.is;
        prop_assert!(is_over(&is.operation), "{:?}", is);
        prop_assert_eq!(&is.next, &None);
        let changed = is.shown != password(1);
        match is.phase() {
            OperationPhase::Succeeded => prop_assert!(changed),
            OperationPhase::Failed => prop_assert!(!changed && world.now >= after(200)),
            _ => prop_assert!(cancelled && !changed),
        }
        // Of a password that nobody was given nothing is left.
        let left = &is.told.1;
        prop_assert!(left.contains(is.shown.expose()) && left.len() <= 2);
    }
}

#[test]
fn each_step_is_written_down_before_it_is_done_and_says_what_it_waits_for() {
    let mut world = World::new(operation("one", &json!({})));
    let see = |world: &mut World| (0..4).for_each(|what| world.see(what));
    world.pass(9);
    assert_eq!(world.is.phase(), OperationPhase::Running);
    assert_eq!(world.is.next, None);
    see(&mut world);
    world.pass(9);
    let coming = world.is.next.clone().unwrap().2;
    assert!(world.is.message().contains("db.next"));
    assert!(!world.is.told.1.contains(coming.expose()));
    see(&mut world);
    world.pass(9);
    assert!(world.is.told.1.contains(coming.expose()));
    assert_eq!(world.is.shown, password(1));
    // All but one know it, then all but one that does not answer.
    see(&mut world);
    world.learn(0);
    world.learn(1);
    world.pass(9);
    assert_eq!(
        world.is.message(),
        "db-app is as it was: db-3 does not know the new password yet"
    );
    world.cut(2);
    see(&mut world);
    world.pass(9);
    assert_eq!(
        world.is.message(),
        "db-app is as it was: db-3 does not answer: no route"
    );
    world.cut(2);
    world.learn(2);
    see(&mut world);
    world.pass(9);
    assert!(going_known(&world.is.operation));
    assert_eq!(world.is.shown, password(1), "it is written down first");
    // From here on nobody takes it back.
    world.is.operation.spec.cancel = Some(true);
    world.now = after(1000);
    see(&mut world);
    world.pass(9);
    assert_eq!(world.is.shown, coming);
    assert_eq!(world.is.phase(), OperationPhase::Running);
    see(&mut world);
    world.pass(9);
    assert_eq!(world.is.phase(), OperationPhase::Succeeded);
    see(&mut world);
    world.pass(9);
    assert_eq!(world.is.next, None);
    world.settle();
}

#[test]
fn one_goes_on_at_a_time_and_the_one_that_has_begun_first() {
    let mut begun = operation("b", &json!({}));
    begun.status = Some(OperationStatus {
        phase: Some(OperationPhase::Running),
        rotation: Some(RotatedPassword {
            secret: "db-app".into(),
            ..RotatedPassword::default()
        }),
        ..OperationStatus::default()
    });
    let observed = Observed {
        rotations: ordered(vec![operation("a", &json!({})), begun]),
        ..Observed::default()
    };
    let id = db();
    let setting = Setting {
        now: BEGIN,
        set: &id,
        refusal: None,
        observed: &observed,
        is_wrong: &|_| false,
        users_hash: None,
    };
    let said: Vec<_> = told(&setting)
        .into_iter()
        .map(|t| (t.operation.name_any(), t.status.message.unwrap()))
        .collect();
    assert_eq!(said[0].0, "b");
    assert_eq!(said[1], ("a".into(), "operation b comes first".into()));
    assert!(going(&observed).is_some());
    // Where one password at a time is valid it is refused.
    let refused = Setting {
        refusal: Some("no"),
        ..setting
    };
    let all = told(&refused);
    assert_eq!(all[0].status.phase, Some(OperationPhase::Failed));
    assert_eq!(all[0].status.message.as_deref(), Some("no"));
}

#[test]
fn a_login_that_is_not_there_is_waited_for_and_then_given_up() {
    let mut observed = Observed {
        rotations: vec![operation(
            "a",
            &json!({"rotatePassword": {"access": "orders"}}),
        )],
        ..Observed::default()
    };
    let id = db();
    let say = |observed: &Observed, now, wrong: bool| {
        let is_wrong = move |_: &Access| wrong;
        let setting = Setting {
            now,
            set: &id,
            refusal: None,
            observed,
            is_wrong: &is_wrong,
            users_hash: None,
        };
        let status = told(&setting).remove(0).status;
        (
            status.phase.unwrap(),
            status.message.clone().unwrap(),
            status,
        )
    };
    let (phase, message, status) = say(&observed, BEGIN, false);
    assert_eq!(phase, OperationPhase::Pending);
    assert!(
        message.starts_with("there is no Access called orders of the "),
        "{message}"
    );
    observed.rotations[0].status = Some(status);
    assert_eq!(due(&observed, BEGIN), Some(after(300)));
    let (phase, message, _) = say(&observed, after(300), false);
    assert_eq!(phase, OperationPhase::Failed);
    assert!(message.starts_with("given up after 300 s: there is no Access"));

    let mut access = Access::new("orders", mainstay_crds::access::AccessSpec::default());
    access.metadata.uid = Some("o1".into());
    observed.accesses = vec![access];
    assert!(say(&observed, BEGIN, true).1.contains("what cannot be"));
    assert!(say(&observed, BEGIN, false).1.contains("is not there yet"));
    let mut secret = Secret::default();
    secret.metadata.name = Some("orders".into());
    secret.metadata.labels = Some([(names::ACCESS_UID.to_owned(), "o1".to_owned())].into());
    observed.live.push(Object::of(&secret).unwrap());
    observed
        .secrets
        .insert("orders".into(), holding(&password(1)));
    let (phase, _, status) = say(&observed, BEGIN, false);
    assert_eq!(phase, OperationPhase::Running);
    let rotation = status.rotation.clone().unwrap();
    assert_eq!(rotation.access_uid.as_deref(), Some("o1"));

    // Another one of the same name gets nothing of it.
    observed.rotations[0].status = Some(status);
    assert!(going(&observed).unwrap().is_there);
    observed.accesses[0].metadata.uid = Some("o2".into());
    let going = going(&observed).unwrap();
    let next = Next {
        uid: "n".into(),
        operation: "u-a".into(),
        password: Some(password(2)),
    };
    assert!(going.coming(Some(&next)).is_none());
    assert_eq!(say(&observed, BEGIN, false).0, OperationPhase::Failed);
}

#[test]
fn the_secret_of_another_operation_goes_first_and_nobody_can_change_ones_own() {
    let mut world = World::new(operation("one", &json!({})));
    world.pass(9);
    (0..4).for_each(|what| world.see(what));
    let observed = world.seen.observed(&world.instances);
    let going = going(&observed).unwrap();
    let of = |operation: &str| Next {
        uid: "n".into(),
        operation: operation.into(),
        password: Some(password(7)),
    };
    let make = || Ok::<_, ()>(password(9));
    assert_eq!(going.wanted(Some(&of("u-other")), make), Ok(None));
    assert!(going.coming(Some(&of("u-other"))).is_none());
    let own = of("u-one");
    assert_eq!(going.wanted(Some(&own), make), Ok(Some(password(7))));
    assert!(!going.coming(Some(&own)).unwrap().publish);
    let secret = going.secret(&db(), &password(9));
    assert_eq!(secret.immutable, Some(true));
    assert!(secret.metadata.owner_references.is_some());
    let labels = secret.metadata.labels.unwrap();
    assert_eq!(labels.get(names::PART), None, "what nobody wants goes");
}
