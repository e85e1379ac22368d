use super::*;
use crate::agent::api::Acknowledging;
use crate::instances::fixture::{members, status, three};

fn restart(instance: &str) -> Candidate {
    Candidate {
        instance: instance.into(),
        change: Change::Restart { nonce: "n".into() },
        why: "max_connections".into(),
    }
}

fn chosen(instances: &[Instance], candidates: &[Candidate], refusals: u32) -> Choice {
    chosen_by(Door::Open, instances, candidates, refusals)
}

fn chosen_by(
    door: Door,
    instances: &[Instance],
    candidates: &[Candidate],
    refusals: u32,
) -> Choice {
    choose(&Setting {
        instances,
        members: &members(),
        candidates,
        seat: "db-1",
        confirmations: 1,
        config_hash: "",
        unseen: None,
        refusals,
        door,
    })
}

fn step(choice: &Choice) -> String {
    choice
        .step
        .as_ref()
        .map_or_else(String::new, Candidate::step)
}

#[test]
fn a_primary_hands_over_to_who_lacks_least_before_it_is_restarted() {
    let mut set = three("db-1");
    status(&mut set, "db-2").lag_bytes = Some(9 << 20);
    status(&mut set, "db-3").lag_bytes = Some(1 << 20);
    let choice = chosen(&set, &[restart("db-1")], 0);
    assert_eq!(step(&choice), "hand over from db-1 to db-3");
    let why = choice.step.unwrap().why;
    assert_eq!(why, "restart db-1: max_connections");
    set[2].pod.as_mut().unwrap().cordoned = true;
    let choice = chosen(&set, &[restart("db-1")], 0);
    assert_eq!(
        step(&choice),
        "hand over from db-1 to db-2",
        "it would move again"
    );
}

#[test]
fn a_primary_that_refuses_again_and_again_is_restarted_as_it_is() {
    let set = three("db-1");
    let all = [restart("db-1")];
    assert!(step(&chosen(&set, &all, REFUSALS - 1)).starts_with("hand over"));
    assert_eq!(step(&chosen(&set, &all, REFUSALS)), "restart db-1");
}

#[test]
fn a_limit_that_is_lowered_is_lowered_on_the_primary_in_place() {
    let mut set = three("db-1");
    status(&mut set, "db-1").restart_primary_first = true;
    let all = [restart("db-1"), restart("db-2"), restart("db-3")];
    let choice = chosen(&set, &all, 0);
    assert_eq!(step(&choice), "restart db-1");
    assert_eq!(choice.refused.len(), 2);
}

#[test]
fn replicas_that_wait_for_their_primary_are_not_replaced_meanwhile() {
    let mut set = three("db-1");
    let replace = |instance: &str| Candidate {
        instance: instance.into(),
        change: Change::Replace {
            uid: instance.into(),
            resource_version: "1".into(),
        },
        why: "memory".into(),
    };
    let all = [replace("db-2"), replace("db-3")];
    // The primary is being made anew; agents and kubelets agree that nobody serves.
    set[0].pod.as_mut().unwrap().deleting = true;
    for name in ["db-2", "db-3"] {
        status(&mut set, name).ready = false;
    }
    for instance in &mut set[1..] {
        instance.pod.as_mut().unwrap().ready = false;
    }
    let choice = chosen(&set, &all, 0);
    assert_eq!(choice.step, None, "{choice:?}");
    assert!(choice.refused[0].reason.contains("db-1 is being deleted"));
    // What an agent says is of a moment: without the kubelet's word nothing is disturbed.
    set[0].pod.as_mut().unwrap().deleting = false;
    set[1].pod.as_mut().unwrap().ready = true;
    let choice = chosen(&set, &all[..1], 0);
    assert_eq!(choice.step, None, "{choice:?}");
    // One that cannot run as it is waits for nobody.
    set[0].pod.as_mut().unwrap().deleting = true;
    set[1].pod.as_mut().unwrap().waiting = Some(crate::instances::Waiting {
        reason: "CrashLoopBackOff".into(),
        message: "back-off".into(),
        since: None,
    });
    assert_eq!(step(&chosen(&set, &all, 0)), "replace db-2");
}

#[test]
fn what_is_wanted_waits_for_a_window_and_what_is_broken_does_not() {
    let mut set = three("db-1");
    let opens = "2026-11-28T02:30:00Z".parse().unwrap();
    let upgrade = Candidate {
        change: Change::Upgrade { nonce: "n".into() },
        ..restart("db-2")
    };
    let leave = Candidate {
        change: Change::HandOver { to: None },
        ..restart("db-1")
    };
    let refusal = |door, candidate: &Candidate, set: &[Instance]| {
        let choice = chosen_by(door, set, std::slice::from_ref(candidate), 0);
        choice.refused.first().map(|w| w.predicate)
    };
    let window = Some("wait_for_maintenance_window");
    let until = Door::Until(opens);
    assert_eq!(refusal(until, &restart("db-2"), &set), window);
    assert_eq!(refusal(until, &restart("db-1"), &set), window);
    assert_eq!(refusal(until, &upgrade, &set), None, "nobody notices");
    assert_eq!(refusal(Door::Frozen, &upgrade, &set), window);
    assert_eq!(
        refusal(Door::Frozen, &leave, &set),
        None,
        "it was asked for"
    );
    assert_eq!(refusal(Door::Open, &restart("db-2"), &set), None);
    set[1].pod = None;
    assert_eq!(
        refusal(Door::Frozen, &restart("db-2"), &set),
        None,
        "it is down"
    );
}

#[test]
fn only_who_commits_wait_for_takes_over() {
    let mut set = three("db-1");
    status(&mut set, "db-2").lag_bytes = Some(0);
    status(&mut set, "db-3").lag_bytes = Some(9 << 20);
    status(&mut set, "db-1").acknowledging = Some(Acknowledging {
        needed: 1,
        of: vec!["db-3".into()],
    });
    let choice = chosen(&set, &[restart("db-1")], 0);
    assert_eq!(step(&choice), "hand over from db-1 to db-3");
}
