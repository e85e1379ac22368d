use super::*;
use crate::instances::fixture::{members, three};

fn candidate(instance: &str, change: Change) -> Candidate {
    Candidate {
        instance: instance.into(),
        change,
        why: "parameters".into(),
    }
}

fn restart(instance: &str) -> Candidate {
    candidate(instance, Change::Restart { nonce: "n".into() })
}

fn upgrade(instance: &str) -> Candidate {
    candidate(instance, Change::Upgrade { nonce: "n".into() })
}

fn chosen(door: Door, unseen: Option<&str>, candidates: &[Candidate], steered: &Steered) -> Choice {
    choose(
        &Setting {
            instances: &three("db-1"),
            members: &members(),
            candidates,
            seat: "db-1",
            confirmations: 0,
            config_hash: "",
            unseen,
            refusals: 0,
            door,
        },
        steered,
    )
}

fn granted(instance: &str) -> Steered {
    Steered {
        granted: Some(instance.into()),
        ..Steered::default()
    }
}

fn step(choice: &Choice) -> Option<String> {
    choice.step.as_ref().map(Candidate::step)
}

#[test]
fn only_who_is_granted_is_disturbed() {
    let both = [restart("db-1"), restart("db-2")];
    let choice = chosen(Door::Open, None, &both, &granted("db-2"));
    assert_eq!(step(&choice).as_deref(), Some("restart db-2"));
    assert_eq!(choice.refused[0].predicate, NOT_ITS_TURN);
    let none = chosen(Door::Open, None, &both, &Steered::default());
    assert_eq!((none.step, none.refused.len()), (None, 2));
}

#[test]
fn windows_and_what_is_not_seen_yet_hold_back_who_is_granted() {
    let one = [restart("db-1")];
    let frozen = chosen(Door::Frozen, None, &one, &granted("db-1"));
    assert_eq!(frozen.refused[0].predicate, "wait_for_maintenance_window");
    let unseen = chosen(Door::Open, Some("db-2"), &one, &granted("db-1"));
    assert_eq!(
        unseen.refused[0].predicate,
        "wait_for_the_cache_to_catch_up"
    );
    assert_eq!((frozen.step, unseen.step), (None, None));
}

#[test]
fn agents_are_upgraded_one_at_a_time_when_all_is_calm() {
    let both = [upgrade("db-1"), upgrade("db-2")];
    let calm = Steered {
        calm: true,
        ..Steered::default()
    };
    let choice = chosen(Door::Open, None, &both, &calm);
    assert_eq!(step(&choice).as_deref(), Some("upgrade the agent of db-1"));
    assert_eq!(choice.refused.len(), 1);
    let busy = chosen(Door::Open, None, &both, &Steered::default());
    assert_eq!(busy.step, None);
}

#[test]
fn who_is_superseded_waits_for_no_window() {
    let replace = Change::Replace {
        uid: "u".into(),
        resource_version: "1".into(),
    };
    let one = [candidate("db-2", replace)];
    let mut steered = granted("db-2");
    let held = chosen(Door::Frozen, None, &one, &steered);
    assert_eq!(held.refused[0].predicate, "wait_for_maintenance_window");
    let why = "db-1 is newer".to_owned();
    steered.superseded.insert("db-2".into(), why);
    let now = chosen(Door::Frozen, None, &one, &steered);
    assert_eq!(step(&now).as_deref(), Some("replace db-2"));
    let unseen = chosen(Door::Frozen, Some("db-3"), &one, &steered);
    assert_eq!(
        unseen.step, None,
        "nor is it done on the ground of the past"
    );
    steered.granted = None;
    assert_eq!(chosen(Door::Open, None, &one, &steered).step, None);
}
