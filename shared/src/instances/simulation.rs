//! Planner and roll-out rules together, in a small world that does what they say, under faults.

use std::collections::BTreeMap;

use mainstay_crds::common::InstanceRole;
use proptest::prelude::*;

use super::observed::{ClaimSeen, Instance, Known, Phase, PodSeen};
use super::plan::{Plan, Step, Wanted, plan, role};
use crate::agent::api;
use crate::names;
use crate::rollout::{Candidate, Change, Choice, Door, Setting, choose};

const SET: &str = "db";

/// What happens to the world between two passes.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    DeletePod(u32),
    EvictPod(u32),
    DeleteReplicaClaim(u32),
    LoseReplicaVolume(u32),
    UnusableReplica(u32),
    Unreachable(u32),
    Scale(u32),
    Template,
    LiveParameter,
    RestartParameter,
    LoweredLimit,
    Grow,
    Cordon(u32),
    Operator,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Nothing),
        1 => (1..6_u32).prop_map(Event::DeletePod),
        1 => (1..6_u32).prop_map(Event::EvictPod),
        1 => (2..6_u32).prop_map(Event::DeleteReplicaClaim),
        1 => (2..6_u32).prop_map(Event::LoseReplicaVolume),
        1 => (1..6_u32).prop_map(Event::UnusableReplica),
        2 => (1..6_u32).prop_map(Event::Unreachable),
        1 => (1..6_u32).prop_map(Event::Scale),
        1 => Just(Event::Template),
        1 => Just(Event::LiveParameter),
        1 => Just(Event::RestartParameter),
        1 => Just(Event::LoweredLimit),
        1 => Just(Event::Grow),
        1 => (1..6_u32).prop_map(Event::Cordon),
        1 => Just(Event::Operator),
    ]
}

fn program(n: u32) -> api::Program {
    api::Program {
        sha256: format!("p{n}"),
        architecture: "x86_64".into(),
    }
}

struct World {
    wanted: Wanted,
    instances: BTreeMap<u32, Instance>,
    /// What a configuration needs: nothing, a restart, or a restart of the primary first.
    restart_of: BTreeMap<String, (bool, bool)>,
    unreachable: BTreeMap<u32, u8>,
    uids: u32,
}

impl World {
    fn new(count: u32) -> Self {
        Self {
            wanted: Wanted {
                set: SET.into(),
                count,
                seat: 1,
                taken: std::collections::BTreeSet::new(),
                unusable: BTreeMap::new(),
                initialised: false,
                revision: "r0".into(),
                template: "{}".into(),
                config_hash: "c0".into(),
                users_hash: None,
                storage: 10,
                agent: program(0),
                self_led: false,
                released: std::collections::BTreeSet::new(),
                spared: std::collections::BTreeSet::new(),
            },
            instances: BTreeMap::new(),
            restart_of: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            uids: 0,
        }
    }

    fn seat(&self) -> String {
        names::instance(SET, self.wanted.seat)
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("u{}", self.uids)
    }

    fn entry(&mut self, name: &str) -> &mut Instance {
        let ordinal = names::ordinal(SET, name).unwrap();
        self.instances.entry(ordinal).or_insert_with(|| Instance {
            name: name.to_owned(),
            ordinal,
            pod: None,
            claim: None,
            agent: Known::Unreachable("no pod".into()),
        })
    }

    fn happens(&mut self, event: &Event) {
        let changes = self.restart_of.len() + 1;
        match event {
            Event::Nothing => {}
            Event::DeletePod(o) => self.with_pod(*o, |pod| pod.deleting = true),
            Event::EvictPod(o) => self.with_pod(*o, |pod| pod.phase = Phase::Ended),
            Event::DeleteReplicaClaim(o)
            | Event::LoseReplicaVolume(o)
            | Event::UnusableReplica(o)
                if *o == self.wanted.seat => {}
            Event::DeleteReplicaClaim(o) => self.with_claim(*o, |claim| claim.deleting = true),
            Event::LoseReplicaVolume(o) => self.with_claim(*o, |claim| claim.lost = true),
            Event::UnusableReplica(o) => {
                let is_there = |i: &Instance| i.claim.is_some();
                if self.instances.get(o).is_some_and(is_there) {
                    self.wanted.unusable.insert(*o, "it is too new".into());
                }
            }
            Event::Cordon(o) => self.with_pod(*o, |pod| pod.cordoned = true),
            Event::Unreachable(o) => {
                self.unreachable.insert(*o, 3);
            }
            Event::Scale(n) => self.wanted.count = *n,
            Event::Template => self.wanted.revision = format!("r{}", self.uids + 1),
            Event::LiveParameter => self.configure(changes, (false, false)),
            Event::RestartParameter => self.configure(changes, (true, false)),
            Event::LoweredLimit => self.configure(changes, (true, true)),
            Event::Grow => self.wanted.storage += 10,
            Event::Operator => self.wanted.agent = program(self.uids + 1),
        }
        if let Event::Scale(_) = event {
            // The list of members is part of the configuration.
            self.configure(changes, (false, false));
        }
    }

    fn configure(&mut self, n: usize, kind: (bool, bool)) {
        self.wanted.config_hash = format!("c{n}");
        self.restart_of
            .insert(self.wanted.config_hash.clone(), kind);
    }

    fn with_pod(&mut self, ordinal: u32, change: impl FnOnce(&mut PodSeen)) {
        if let Some(pod) = self
            .instances
            .get_mut(&ordinal)
            .and_then(|i| i.pod.as_mut())
        {
            change(pod);
        }
    }

    fn with_claim(&mut self, ordinal: u32, change: impl FnOnce(&mut ClaimSeen)) {
        if let Some(claim) = self
            .instances
            .get_mut(&ordinal)
            .and_then(|i| i.claim.as_mut())
        {
            change(claim);
        }
    }

    fn seen(&self) -> Vec<Instance> {
        let mut seen: Vec<Instance> = self.instances.values().cloned().collect();
        for instance in &mut seen {
            if self.unreachable.contains_key(&instance.ordinal) {
                instance.agent = Known::Unreachable("cut off".into());
            }
        }
        seen
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::CreateClaim { instance } => {
                let (uid, asked) = (self.uid(), self.wanted.storage);
                let entry = self.entry(instance);
                assert!(entry.claim.is_none(), "a claim is made once");
                entry.claim = Some(ClaimSeen {
                    uid,
                    asked,
                    bound: true,
                    ..ClaimSeen::default()
                });
            }
            Step::CreatePod { instance } => {
                let uid = self.uid();
                let (revision, hash) = (
                    self.wanted.revision.clone(),
                    self.wanted.config_hash.clone(),
                );
                let is_seat = *instance == self.seat();
                let label = role(is_seat).to_owned();
                let ordinal = names::ordinal(SET, instance).unwrap();
                assert!(
                    is_seat || !self.wanted.unusable.contains_key(&ordinal),
                    "its data cannot be used"
                );
                let entry = self.entry(instance);
                assert!(entry.pod.is_none(), "a pod is made once");
                assert!(entry.claim.as_ref().is_some_and(|c| !c.deleting && !c.lost));
                entry.pod = Some(PodSeen {
                    uid,
                    role: Some(label),
                    revision: Some(revision),
                    config_hash: Some(hash),
                    ..PodSeen::default()
                });
            }
            Step::GrowClaim { instance, to, .. } => {
                let claim = self.entry(instance).claim.as_mut().unwrap();
                assert!(*to > claim.asked);
                claim.asked = *to;
            }
            Step::DeleteClaim { instance, .. } => {
                assert_ne!(
                    *instance,
                    self.seat(),
                    "the primary's data is never deleted"
                );
                self.entry(instance).claim.as_mut().unwrap().deleting = true;
            }
            Step::ClearPod { instance, .. } => {
                self.entry(instance).pod.as_mut().unwrap().deleting = true;
            }
            Step::SetRole { instance, role, .. } => {
                self.entry(instance).pod.as_mut().unwrap().role = Some((*role).to_owned());
            }
            Step::RefreshMounts {
                instance,
                config_hash,
                users_hash,
                ..
            } => {
                let pod = self.entry(instance).pod.as_mut().unwrap();
                pod.config_hash = Some(config_hash.clone());
                pod.users_hash.clone_from(users_hash);
            }
            Step::Reload {
                instance,
                config_hash,
            } => {
                let (restart, primary_first) = self
                    .restart_of
                    .get(config_hash)
                    .copied()
                    .unwrap_or_default();
                let entry = self.entry(instance);
                let Known::Known(status) = &mut entry.agent else {
                    return;
                };
                status.config_hash = Some(config_hash.clone());
                if restart {
                    status.pending_restart = vec!["max_connections".into()];
                    status.restart_primary_first = primary_first;
                }
            }
        }
    }

    fn disturb(&mut self, candidate: &Candidate) {
        match &candidate.change {
            Change::Restart { .. } => self.restart(&candidate.instance),
            Change::Upgrade { .. } => {
                let program = self.wanted.agent.clone();
                if let Known::Known(status) = &mut self.entry(&candidate.instance).agent {
                    status.program = Some(program);
                }
                let ordinal = names::ordinal(SET, &candidate.instance).unwrap();
                self.unreachable.insert(ordinal, 1);
            }
            Change::HandOver { to } => {
                let to = to.as_ref().expect("somebody takes over");
                self.wanted.seat = names::ordinal(SET, to).expect("an instance");
                self.restart(&candidate.instance.clone());
                self.restart(to);
            }
            Change::Replace { .. } | Change::Remove { .. } => {
                self.entry(&candidate.instance)
                    .pod
                    .as_mut()
                    .unwrap()
                    .deleting = true;
            }
        }
    }

    fn restart(&mut self, instance: &str) {
        if let Known::Known(status) = &mut self.entry(instance).agent {
            status.ready = false;
            status.phase = api::Phase::Recovering;
        }
    }

    /// Time passes: what was begun goes one stage on.
    fn tick(&mut self) {
        self.unreachable.retain(|_, left| {
            *left -= 1;
            *left > 0
        });
        let (hash, seat) = (self.wanted.config_hash.clone(), self.wanted.seat);
        let agent = self.wanted.agent.clone();
        let primary_ready = self
            .instances
            .get(&seat)
            .is_some_and(|i| i.agent.known().is_some_and(|s| s.ready) && i.pod.is_some());
        for instance in self.instances.values_mut() {
            let is_seat = instance.ordinal == seat;
            if instance.pod.as_ref().is_some_and(|p| p.deleting) {
                instance.pod = None;
                instance.agent = Known::Unreachable("no pod".into());
            }
            if instance.pod.is_none() && instance.claim.as_ref().is_some_and(|c| c.deleting) {
                instance.claim = None;
                self.wanted.unusable.remove(&instance.ordinal);
            }
            let Some(pod) = instance.pod.as_mut() else {
                continue;
            };
            match pod.phase {
                Phase::Pending => {
                    pod.phase = Phase::Running;
                    instance.agent = Known::Known(api::Status {
                        pod_uid: pod.uid.clone(),
                        instance: instance.name.clone(),
                        phase: api::Phase::Recovering,
                        config_hash: Some(hash.clone()),
                        program: Some(agent.clone()),
                        ..api::Status::default()
                    });
                }
                Phase::Running => {
                    let Known::Known(status) = &mut instance.agent else {
                        continue;
                    };
                    if status.phase == api::Phase::Recovering {
                        status.phase = api::Phase::Running;
                        status.pending_restart.clear();
                        status.restart_primary_first = false;
                        status.nonce.push('+');
                    }
                    status.role = if is_seat {
                        InstanceRole::Primary
                    } else {
                        InstanceRole::Replica
                    };
                    status.ready = is_seat || primary_ready;
                    pod.ready = status.ready;
                    self.wanted.initialised |= is_seat;
                }
                _ => pod.ready = false,
            }
        }
        let streaming: Vec<String> = self
            .instances
            .values()
            .filter(|i| i.ordinal != seat && i.agent().is_some_and(|s| s.ready))
            .map(|i| i.name.clone())
            .collect();
        for instance in self.instances.values_mut() {
            let is_seat = instance.ordinal == seat;
            if let Known::Known(status) = &mut instance.agent {
                status.streaming = if is_seat { streaming.clone() } else { vec![] };
            }
        }
    }
}

/// One pass over what is seen, checked against the promises.
fn pass(world: &World) -> (Plan, Choice) {
    let seen = world.seen();
    let planned = plan(&world.wanted, &seen);
    let members: Vec<String> = planned
        .membership
        .members
        .iter()
        .map(|o| names::instance(SET, *o))
        .collect();
    let confirmations = usize::from(members.len() >= 3);
    let seat = world.seat();
    let setting = Setting {
        instances: &seen,
        members: &members,
        candidates: &planned.candidates,
        seat: &seat,
        confirmations,
        config_hash: &world.wanted.config_hash,
        unseen: None,
        refusals: 0,
        door: Door::Open,
    };
    let choice = choose(&setting);
    if let Some(step) = &choice.step {
        let me = &step.instance;
        if setting.serves(me) {
            for other in members.iter().filter(|m| *m != me) {
                assert!(
                    setting.serves(other),
                    "{} while {other} is down",
                    step.step()
                );
            }
        } else {
            assert!(setting.is_down(me), "{me} may be serving");
            let stuck = setting.instance(me).is_none_or(Instance::is_stuck);
            let primary = seen.iter().find(|i| i.name == seat && i.name != *me);
            let flight = primary.and_then(Instance::in_flight);
            assert!(stuck || flight.is_none(), "{} meanwhile", step.step());
        }
        if *me != seat && setting.streaming().contains(me) {
            let remain = setting
                .streaming()
                .iter()
                .filter(|s| *s != me && members.contains(s));
            assert!(
                remain.count() >= confirmations,
                "{} leaves no quorum",
                step.step()
            );
        }
        if let Change::HandOver { to } = &step.change {
            let to = to.as_ref().expect("somebody takes over");
            assert!(*me == seat && setting.streaming().contains(to) && setting.serves(to));
        } else if *me == seat
            && setting.serves(me)
            && members.len() > 1
            && !matches!(step.change, Change::Upgrade { .. })
        {
            let status = setting.instance(me).and_then(Instance::agent).unwrap();
            assert!(
                status.restart_primary_first,
                "a primary is disturbed though somebody could take over"
            );
        }
    }
    assert_eq!(
        choice.refused.len() + usize::from(choice.step.is_some()),
        planned.candidates.len(),
        "what waits is told"
    );
    (planned, choice)
}

fn run(world: &mut World) -> bool {
    let (planned, choice) = pass(world);
    for step in &planned.steps {
        world.act(step);
    }
    if let Some(candidate) = &choice.step {
        world.disturb(candidate);
    }
    let idle = planned.steps.is_empty() && planned.candidates.is_empty();
    world.tick();
    idle
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_keeps_its_promises_and_settles(count in 1..6_u32, events in prop::collection::vec(event(), 0..40)) {
        let mut world = World::new(count);
        for event in &events {
            world.happens(event);
            run(&mut world);
        }
        let wanted = |world: &World| {
            let live: Vec<_> = world.instances.values()
                .filter(|i| i.claim.is_some() || i.pod.is_some()).collect();
            live.len() == world.wanted.count as usize && live.iter().all(|i| i.serves())
        };
        while !world.unreachable.is_empty() {
            run(&mut world);
        }
        let at_rest = |world: &World| {
            let (planned, _) = pass(world);
            planned.steps.is_empty() && planned.candidates.is_empty()
        };
        let settled = (0..200).find(|_| run(&mut world) && wanted(&world) && at_rest(&world));
        prop_assert!(settled.is_some(), "never settles: {:#?}", pass(&world));
        for _ in 0..3 {
            let planned = pass(&world);
            prop_assert!(run(&mut world), "a settled set is left alone: {planned:?}");
        }
        let live: Vec<&Instance> = world.instances.values().filter(|i| i.pod.is_some()).collect();
        prop_assert_eq!(live.len(), world.wanted.count as usize);
        for instance in live {
            let claim = instance.claim.as_ref().unwrap();
            prop_assert_eq!(claim.asked, world.wanted.storage);
            prop_assert_eq!(instance.pod.as_ref().unwrap().revision.as_ref(), Some(&world.wanted.revision));
            prop_assert_eq!(instance.agent().unwrap().program.as_ref(), Some(&world.wanted.agent));
            prop_assert_eq!(instance.agent().unwrap().config_hash.as_ref(), Some(&world.wanted.config_hash));
        }
    }
}

#[test]
fn the_first_instance_comes_alone_and_then_all_others_at_once() {
    let mut world = World::new(3);
    let (first, _) = pass(&world);
    assert_eq!(
        first.steps,
        [
            Step::CreateClaim {
                instance: "db-1".into()
            },
            Step::CreatePod {
                instance: "db-1".into()
            }
        ]
    );
    world.wanted.initialised = true;
    world.entry("db-1").claim = Some(ClaimSeen {
        bound: true,
        asked: 10,
        ..ClaimSeen::default()
    });
    let (then, _) = pass(&world);
    let pods = then
        .steps
        .iter()
        .filter(|s| matches!(s, Step::CreatePod { .. }));
    assert_eq!(pods.count(), 3);
}

#[test]
fn the_labels_follow_the_primary() {
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.seat = 2;
    let labels = |planned: &Plan| {
        let of = |s: &Step| matches!(s, Step::SetRole { .. });
        planned.steps.iter().filter(|s| of(s)).count()
    };
    assert_eq!(
        labels(&pass(&world).0),
        0,
        "not before they do as they shall"
    );
    world.tick();
    let (planned, _) = pass(&world);
    let mut roles: Vec<_> = planned
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::SetRole { instance, role, .. } => Some((instance.as_str(), *role)),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    assert_eq!(roles, [("db-1", "replica"), ("db-2", "primary")]);
}

#[test]
fn the_volume_of_a_primary_with_data_is_never_replaced() {
    let lost = |world: &World| {
        let (planned, _) = pass(world);
        let of_the_primary = |s: &&Step| matches!(s, Step::CreateClaim { instance } | Step::CreatePod { instance } if instance == "db-1");
        assert_eq!(planned.steps.iter().find(of_the_primary), None);
        let trouble = planned.troubles.first().expect("a trouble").clone();
        assert_eq!(trouble.kind, super::plan::TroubleKind::PrimaryVolumeLost);
        trouble.sentence
    };
    let mut world = World::new(1);
    world.wanted.initialised = true;
    assert!(lost(&world).contains("So that it goes on, give it back"));
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.seat = 1;
    world.entry("db-1").claim = None;
    world.entry("db-1").pod = None;
    assert!(lost(&world).contains("takes over by itself. If none does, give it back"));
}

#[test]
fn where_members_lead_themselves_a_lost_volume_is_replaced_once_the_engine_says_that_nobody_needs_it()
 {
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.self_led = true;
    world.with_claim(2, |claim| claim.lost = true);
    let steps = |world: &World| {
        let (planned, _) = pass(world);
        let of_it =
            |s: &&Step| matches!(s, Step::DeleteClaim { instance, .. } if instance == "db-2");
        let replaced = planned.candidates.iter().any(|c| c.instance == "db-2");
        (
            planned.steps.iter().filter(of_it).count(),
            replaced,
            planned.troubles.len(),
        )
    };
    assert_eq!(steps(&world), (0, false, 1), "it may be the only copy");
    world.wanted.spared.insert("db-2".into());
    assert_eq!(steps(&world), (1, true, 0));
    world.entry("db-2").pod = None;
    assert_eq!(steps(&world), (1, false, 0));
}

#[test]
fn where_members_lead_themselves_data_of_no_use_goes_once_the_engine_says_that_nobody_needs_it() {
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.self_led = true;
    world.wanted.unusable.insert(2, "it is too new".into());
    let steps = |world: &World| {
        let (planned, _) = pass(world);
        let of_it = |name: &str| name == "db-2";
        let deleted =
            |s: &&Step| matches!(s, Step::DeleteClaim { instance, .. } if of_it(instance));
        let made = |s: &&Step| matches!(s, Step::CreatePod { instance } if of_it(instance));
        (
            planned
                .candidates
                .iter()
                .filter(|c| of_it(&c.instance))
                .count(),
            planned.steps.iter().filter(deleted).count(),
            planned.steps.iter().filter(made).count(),
            planned.unfinished.len(),
        )
    };
    assert_eq!(steps(&world), (1, 0, 0, 0), "its pod goes first");
    world.entry("db-2").pod = None;
    assert_eq!(steps(&world), (0, 0, 0, 1), "no pod is made on it");
    world.wanted.spared.insert("db-2".into());
    assert_eq!(steps(&world), (0, 1, 0, 0));
}

#[test]
fn an_unreachable_instance_is_not_disturbed_and_a_full_volume_grows_all_the_same() {
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.revision = "r9".into();
    world.wanted.storage = 20;
    for ordinal in 1..=3 {
        world.unreachable.insert(ordinal, 9);
    }
    let (planned, choice) = pass(&world);
    assert_eq!(planned.steps.len(), 3, "all three grow");
    assert_eq!(choice.step, None);
    assert!(
        choice
            .refused
            .iter()
            .all(|r| r.predicate == "unknown_is_not_down")
    );
}

#[test]
fn an_agent_that_was_given_up_by_one_is_not_offered_to_others() {
    let mut world = World::new(3);
    for _ in 0..20 {
        run(&mut world);
    }
    world.wanted.agent = program(9);
    let (planned, choice) = pass(&world);
    assert_eq!(planned.candidates.len(), 3);
    let first = choice.step.unwrap();
    assert_eq!(first.step(), "upgrade the agent of db-3");
    let Known::Known(status) = &mut world.entry("db-3").agent else {
        panic!("it answers");
    };
    status.given_up = Some(api::GivenUp {
        sha256: "p9".into(),
        why: "it ended: exit code 1".into(),
    });
    let (planned, _) = pass(&world);
    assert_eq!(planned.candidates, []);
    assert_eq!(
        planned.troubles[0].kind,
        super::plan::TroubleKind::AgentGivenUp
    );
    // The next release is tried again.
    world.wanted.agent = program(10);
    assert_eq!(pass(&world).0.candidates.len(), 3);
}
