use mainstay_shared::election::member::{Epoch, Holder, Member};
use proptest::prelude::*;

use super::*;

fn ballot(epoch: u64, name: &str) -> Ballot {
    Ballot {
        epoch: Epoch(epoch),
        holder: Holder {
            member: Member::new(name, "g"),
            pod: "p".into(),
            nonce: "n".into(),
        },
    }
}

fn lead(epoch: u64, timeline: u64) -> Wanted {
    Wanted::Primary {
        ballot: ballot(epoch, "db-1"),
        timeline,
        group: None,
        open: false,
    }
}

fn present(role: Role, timeline: u64) -> Data {
    Data::Present {
        identifier: "7".into(),
        role,
        timeline,
        end: None,
    }
}

fn shut_down(timeline: u64) -> Data {
    Data::Present {
        identifier: "7".into(),
        role: Role::Primary,
        timeline,
        end: Some(90),
    }
}

fn observed<'a>(wanted: &'a Wanted, data: &'a Data, engine: &'a Engine) -> Observed<'a> {
    Observed {
        wanted,
        because: "the election",
        missing: None,
        identifier: Some("7"),
        reachable: true,
        parting: Parting::None,
        data,
        known: true,
        engine,
        role: Role::Replica,
        promoted: None,
        promoting: false,
        detached: false,
        stood_down: false,
        hard_stopping: false,
        clean: true,
        ending: false,
        restart: false,
        mute: false,
        rejoin: Rejoin::Rewind,
        busy: false,
        pausing: false,
    }
}

#[test]
fn who_was_stopped_to_be_handed_over_waits_a_moment_for_whom_to_follow() {
    let shut_down = shut_down(1);
    let wanted = Wanted::Detached;
    let mut o = observed(&wanted, &shut_down, &Engine::Absent);
    assert_eq!(next(&o), Next::Start(Role::Replica), "nobody came");
    o.stood_down = true;
    assert!(matches!(next(&o), Next::Wait(_)));
    let crashed = present(Role::Primary, 1);
    o.data = &crashed;
    assert_eq!(next(&o), Next::Start(Role::Replica), "its end is not known");
    let follow = Wanted::Follow(ballot(2, "db-2"));
    let mut o = observed(&follow, &shut_down, &Engine::Absent);
    o.stood_down = true;
    assert_eq!(next(&o), Next::Start(Role::Replica));
    let back = lead(2, 2);
    o.wanted = &back;
    assert_eq!(next(&o), Next::Start(Role::Replica), "to be promoted anew");
}

const RUNS: Engine = Engine::Running { pid: 7 };

#[test]
fn a_new_set_is_made_by_its_founder_and_copied_by_the_others() {
    let o = observed(&Wanted::Initialise, &Data::None, &Engine::Absent);
    assert_eq!(next(&o), Next::Initialise);
    let follow = Wanted::Follow(ballot(1, "db-1"));
    let mut o = observed(&follow, &Data::None, &Engine::Absent);
    assert_eq!(next(&o), Next::Clone);
    o.identifier = None;
    assert!(matches!(next(&o), Next::Wait(_)));
}

#[test]
fn a_start_is_a_replicas_unless_the_data_was_promoted_for_this_ballot() {
    let wanted = lead(3, 4);
    let data = present(Role::Primary, 4);
    let mut o = observed(&wanted, &data, &Engine::Absent);
    assert_eq!(next(&o), Next::Start(Role::Replica));
    let mine = ballot(3, "db-1");
    o.promoted = Some(&mine);
    assert_eq!(next(&o), Next::Start(Role::Primary));
    let before = present(Role::Primary, 3);
    o.data = &before;
    assert_eq!(
        next(&o),
        Next::Start(Role::Replica),
        "promotion did not happen"
    );
}

#[test]
fn only_who_receives_from_nobody_is_promoted() {
    let wanted = lead(3, 4);
    let data = present(Role::Replica, 3);
    let mut o = observed(&wanted, &data, &RUNS);
    assert_eq!(next(&o), Next::Tend(Role::Replica));
    o.detached = true;
    assert_eq!(next(&o), Next::Promote);
}

#[test]
fn a_former_primary_is_rewound_and_follows() {
    let wanted = Wanted::Follow(ballot(4, "db-2"));
    let data = present(Role::Primary, 3);
    let mut o = observed(&wanted, &data, &Engine::Absent);
    o.parting = Parting::Rewind;
    assert_eq!(next(&o), Next::Rewind);
    o.reachable = false;
    assert!(matches!(next(&o), Next::Wait(_)));
    o.reachable = true;
    o.parting = Parting::Copy;
    assert_eq!(next(&o), Next::Replace);
}

#[test]
fn foreign_and_strange_data_is_left_alone() {
    let wanted = Wanted::Follow(ballot(4, "db-2"));
    let foreign = Data::Present {
        identifier: "8".into(),
        role: Role::Replica,
        timeline: 1,
        end: None,
    };
    assert!(matches!(
        next(&observed(&wanted, &foreign, &Engine::Absent)),
        Next::Fail(_)
    ));
    let strange = Data::Unusable("it is a cake".into());
    assert!(matches!(
        next(&observed(&wanted, &strange, &Engine::Absent)),
        Next::Fail(_)
    ));
}

#[test]
fn the_volume_is_looked_at_before_the_end() {
    let wanted = Wanted::Stopped;
    let data = present(Role::Primary, 4);
    let mut o = observed(&wanted, &data, &Engine::Absent);
    o.ending = true;
    o.known = false;
    assert!(matches!(next(&o), Next::Wait(_)));
    o.known = true;
    assert_eq!(next(&o), Next::End);
}

fn wishes() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        Just(Wanted::Unchanged),
        Just(Wanted::Initialise),
        Just(Wanted::Detached),
        Just(Wanted::Stopped),
        Just(Wanted::Follow(ballot(3, "db-2"))),
        Just(lead(3, 4)),
    ]
}

fn engines() -> impl Strategy<Value = Engine> {
    prop_oneof![
        Just(Engine::Absent),
        Just(RUNS),
        Just(Engine::Exited {
            how: "x".into(),
            clean: false
        }),
    ]
}

fn volumes() -> impl Strategy<Value = Data> {
    prop_oneof![
        Just(Data::None),
        (3..5_u64).prop_map(|t| present(Role::Primary, t)),
        (3..5_u64).prop_map(|t| present(Role::Replica, t)),
        (3..5_u64).prop_map(shut_down),
        Just(Data::Broken("x".into())),
        Just(Data::Unusable("x".into())),
    ]
}

proptest! {
    #[test]
    fn the_dangerous_steps_have_their_conditions(
        wanted in wishes(),
        data in volumes(),
        engine in engines(),
        set in prop_oneof![Just(None), Just(Some("7")), Just(Some("8"))],
        promotions in prop_oneof![Just(None), Just(Some(2)), Just(Some(3))],
        parting in prop_oneof![
            Just(Parting::None), Just(Parting::Behind), Just(Parting::Rewind), Just(Parting::Copy), Just(Parting::Outdated)
        ],
        rejoin in prop_oneof![Just(Rejoin::Rewind), Just(Rejoin::Reclone), Just(Rejoin::Manual)],
        role in prop_oneof![Just(Role::Primary), Just(Role::Replica)],
        flags: [bool; 12],
    ) {
        let promoted = promotions.map(|e| ballot(e, "db-1"));
        let [known, detached, stood_down, hard_stopping, clean, ending, restart, busy, pausing, reachable, promoting, mute] = flags;
        let o = Observed {
            wanted: &wanted, because: "x", missing: None, identifier: set, reachable, parting,
            data: &data, known, engine: &engine, role, promoted: promoted.as_ref(), detached, stood_down,
            promoting, hard_stopping, clean, ending, restart, busy, pausing, mute, rejoin,
        };
        let running = matches!(engine, Engine::Running { .. });
        let idle = clean && !running && !busy && !ending && !hard_stopping;
        let same = set.is_none_or(|s| s == "7");
        match next(&o) {
            Next::Initialise => prop_assert!(idle && data == Data::None && wanted == Wanted::Initialise),
            Next::Clone => prop_assert!(idle && data == Data::None && set.is_some()
                && matches!(wanted, Wanted::Follow(_))),
            Next::Rewind | Next::Replace => {
                prop_assert!(idle && reachable && set.is_some()
                    && (same || matches!(data, Data::Broken(_))) && matches!(wanted, Wanted::Follow(_)));
                let own = matches!(parting, Parting::Rewind | Parting::Copy);
                prop_assert!(rejoin != Rejoin::Manual || !own || matches!(data, Data::Broken(_)));
            }
            Next::Revive => prop_assert!(running && mute && !busy && role == Role::Replica),
            Next::Start(Role::Primary) => {
                let Wanted::Primary { ballot, timeline, .. } = &wanted else { panic!("{wanted:?}") };
                prop_assert!(idle && same && promoted.as_ref() == Some(ballot));
                let own = match &data {
                    Data::Present { timeline, .. } => Some(timeline),
                    _ => None,
                };
                prop_assert_eq!(own, Some(timeline));
            }
            Next::Start(Role::Replica) => {
                let shut_down = matches!(&data, Data::Present { role: Role::Primary, end: Some(_), .. });
                prop_assert!(idle && same && !(shut_down && stood_down && wanted == Wanted::Detached));
            }
            Next::Promote => {
                let leads = matches!(wanted, Wanted::Primary { .. });
                prop_assert!(running && detached && role == Role::Replica && leads);
            }
            Next::Stop => {
                prop_assert!(running && !busy);
                let leads = matches!(wanted, Wanted::Primary { .. });
                prop_assert!(!(leads && promoting && role == Role::Replica) || ending || restart);
            }
            Next::Halt => prop_assert!(running && role == Role::Primary),
            Next::End => prop_assert!(ending && !running && known),
            Next::Tend(Role::Primary) => {
                let may = match &wanted {
                    Wanted::Primary { ballot, .. } => promoted.as_ref() == Some(ballot),
                    Wanted::Unchanged => true,
                    _ => false,
                };
                prop_assert!(may);
            }
            _ => {}
        }
    }
}

#[test]
fn data_that_has_parted_waits_for_a_person_where_that_is_asked_for() {
    let wanted = Wanted::Follow(ballot(4, "db-2"));
    let data = present(Role::Primary, 3);
    let mut o = observed(&wanted, &data, &Engine::Absent);
    let mut by = |rejoin, parting| {
        (o.rejoin, o.parting) = (rejoin, parting);
        next(&o)
    };
    for parting in [Parting::Rewind, Parting::Copy] {
        let next = by(Rejoin::Manual, parting);
        assert!(matches!(next, Next::Fail(why) if why.contains("spec.rejoin")));
        assert_eq!(by(Rejoin::Reclone, parting), Next::Replace);
    }
    assert_eq!(by(Rejoin::Rewind, Parting::Rewind), Next::Rewind);
    assert_eq!(by(Rejoin::Rewind, Parting::Copy), Next::Replace);
    // Nothing of its own is lost.
    for rejoin in [Rejoin::Manual, Rejoin::Reclone, Rejoin::Rewind] {
        assert_eq!(by(rejoin, Parting::Behind), Next::Rewind);
        assert_eq!(by(rejoin, Parting::Outdated), Next::Replace);
        assert_eq!(by(rejoin, Parting::None), Next::Start(Role::Replica));
    }
}

#[test]
fn a_replica_that_answers_nobody_is_started_anew() {
    let wanted = Wanted::Follow(ballot(4, "db-2"));
    let data = present(Role::Replica, 3);
    let mut o = observed(&wanted, &data, &RUNS);
    o.mute = true;
    assert_eq!(next(&o), Next::Revive);
    o.busy = true;
    assert!(matches!(next(&o), Next::Wait(_)));
}
