use mainstay_shared::election::member::{Epoch, Holder, Member};
use proptest::prelude::*;

use super::*;

fn ballot(epoch: u64) -> Ballot {
    Ballot {
        epoch: Epoch(epoch),
        holder: Holder {
            member: Member::new("db-1", "g"),
            pod: "p".into(),
            nonce: "n".into(),
        },
    }
}

fn primary(epoch: u64) -> Wanted {
    Wanted::Primary {
        ballot: ballot(epoch),
        timeline: 2,
        group: None,
        open: true,
    }
}

const UP: Engine = Engine::Running { pid: 7 };

fn replica() -> Running {
    Running {
        role: Role::Replica,
        detached: true,
        data: Data::Of("s".into()),
        promoted: false,
    }
}

fn observed<'a>(wanted: &'a Wanted, running: Option<&'a Running>) -> Observed<'a> {
    Observed {
        wanted,
        because: "the election",
        missing: None,
        identifier: Some("s"),
        reachable: true,
        named: true,
        engine: &UP,
        running,
        upstream: None,
        settled: true,
        ended: false,
        promoting: false,
        hard_stopping: false,
        clean: true,
        ending: false,
        leaving: false,
        restart: false,
        mute: false,
        founding: false,
        busy: false,
        pausing: false,
    }
}

#[test]
fn it_starts_whatever_is_wanted_but_for_a_term_whose_engine_has_ended() {
    let stopped = Engine::Exited {
        how: "signal 9".into(),
        clean: false,
    };
    for wanted in [
        Wanted::Unchanged,
        Wanted::Detached,
        Wanted::Initialise,
        primary(2),
    ] {
        let o = Observed {
            engine: &stopped,
            ..observed(&wanted, None)
        };
        assert_eq!(next(&o), Next::Start, "{wanted:?}");
        assert_eq!(
            next(&Observed {
                clean: false,
                ..o.clone()
            }),
            Next::Clean
        );
        let o = Observed { ended: true, ..o };
        let starts = next(&o) == Next::Start;
        assert_eq!(starts, !matches!(wanted, Wanted::Primary { .. }));
    }
}

#[test]
fn only_the_start_that_was_elected_is_promoted() {
    let (wanted, running) = (primary(2), replica());
    let o = observed(&wanted, Some(&running));
    assert_eq!(next(&o), Next::Promote);
    assert!(matches!(
        next(&Observed {
            ended: true,
            ..o.clone()
        }),
        Next::Wait(_)
    ));
    assert!(matches!(
        next(&Observed {
            settled: false,
            ..o.clone()
        }),
        Next::Wait(_)
    ));
    let other = ballot(1);
    let receives = Running {
        detached: false,
        ..running.clone()
    };
    assert_eq!(next(&observed(&wanted, Some(&receives))), Next::Detach);
    assert_eq!(
        next(&Observed {
            upstream: Some(&other),
            ..o
        }),
        Next::Detach
    );
}

#[test]
fn it_receives_only_from_who_leads() {
    let (wanted, running) = (Wanted::Follow(ballot(3)), replica());
    let o = observed(&wanted, Some(&running));
    assert_eq!(next(&o), Next::Follow);
    assert!(matches!(
        next(&Observed {
            reachable: false,
            ..o.clone()
        }),
        Next::Wait(_)
    ));
    let unnamed = Observed {
        named: false,
        ..o.clone()
    };
    match next(&unnamed) {
        Next::Wait(what) => assert!(what.contains("to name it"), "{what}"),
        other => panic!("{other:?}: nobody would ask it for what it receives"),
    }
    let (before, now) = (ballot(2), ballot(3));
    let receives = Running {
        detached: false,
        ..running.clone()
    };
    let o = Observed {
        running: Some(&receives),
        ..o
    };
    assert_eq!(
        next(&Observed {
            upstream: Some(&before),
            ..o.clone()
        }),
        Next::Detach
    );
    assert_eq!(
        next(&Observed {
            upstream: Some(&now),
            ..o.clone()
        }),
        Next::Tend(Role::Replica)
    );
    let foreign = Running {
        data: Data::Of("t".into()),
        ..receives.clone()
    };
    assert!(matches!(
        next(&observed(&wanted, Some(&foreign))),
        Next::Fail(_)
    ));
}

#[test]
fn data_is_founded_only_in_nothing() {
    let wanted = Wanted::Initialise;
    for (data, found) in [
        (Data::Empty, true),
        (Data::Unmarked, false),
        (Data::Of("s".into()), false),
    ] {
        let running = Running { data, ..replica() };
        assert_eq!(
            next(&observed(&wanted, Some(&running))) == Next::Found,
            found
        );
    }
}

#[test]
fn who_makes_the_first_data_is_left_in_peace() {
    let running = Running {
        role: Role::Primary,
        detached: false,
        ..replica()
    };
    for wanted in [Wanted::Initialise, Wanted::Detached] {
        let founds = |founding| {
            next(&Observed {
                founding,
                busy: true,
                ..observed(&wanted, Some(&running))
            })
        };
        assert!(matches!(founds(true), Next::Wait(_)));
        assert_eq!(founds(false), Next::Halt);
    }
}

#[test]
fn a_container_that_ends_hands_over_first() {
    let running = Running {
        role: Role::Primary,
        detached: false,
        promoted: true,
        ..replica()
    };
    let ends = |wanted, leaving| {
        next(&Observed {
            ending: true,
            leaving,
            ..observed(wanted, Some(&running))
        })
    };
    assert_eq!(ends(&Wanted::Stopped, true), Next::HandOver);
    let leads = primary(2);
    assert!(matches!(ends(&leads, true), Next::Wait(_)));
    assert_eq!(ends(&leads, false), Next::Stop);
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        Just(Wanted::Unchanged),
        Just(Wanted::Initialise),
        Just(Wanted::Detached),
        Just(Wanted::Stopped),
        (1..4_u64).prop_map(|e| Wanted::Follow(ballot(e))),
        (1..4_u64).prop_map(primary),
    ]
}

fn any_running() -> impl Strategy<Value = Option<Running>> {
    let data = prop_oneof![
        Just(Data::Empty),
        Just(Data::Unmarked),
        Just(Data::Of("s".to_owned())),
        Just(Data::Of("t".to_owned())),
    ];
    let running =
        (any::<(bool, bool, bool)>(), data).prop_map(|((primary, detached, promoted), data)| {
            Running {
                role: if primary {
                    Role::Primary
                } else {
                    Role::Replica
                },
                detached: detached && !primary,
                data,
                promoted: promoted && primary,
            }
        });
    prop::option::of(running)
}

proptest! {
    #[test]
    fn whatever_is_observed_the_guarantees_hold(
        wanted in any_wanted(),
        running in any_running(),
        runs in any::<bool>(),
        upstream in prop::option::of(1..4_u64),
        facts in any::<[bool; 15]>(),
    ) {
        let exited = Engine::Exited { how: String::new(), clean: false };
        let upstream = upstream.map(ballot);
        let o = Observed {
            wanted: &wanted,
            because: "",
            missing: facts[0].then_some("a mount"),
            identifier: facts[1].then_some("s"),
            reachable: facts[2],
            named: facts[14],
            engine: if runs { &UP } else { &exited },
            running: running.as_ref().filter(|_| runs),
            upstream: upstream.as_ref(),
            settled: facts[3],
            ended: facts[4],
            promoting: false,
            hard_stopping: facts[5],
            clean: facts[6],
            ending: facts[7],
            leaving: facts[8],
            restart: facts[9],
            mute: facts[10],
            founding: facts[13],
            busy: facts[11],
            pausing: facts[12],
        };
        let next = next(&o);
        let role = o.running.map(|r| r.role);
        match &next {
            Next::Start => prop_assert!(!runs && o.clean && o.missing.is_none() && !o.hard_stopping && !o.ending),
            Next::Promote => {
                let r = o.running.unwrap();
                let to_lead = matches!(wanted, Wanted::Primary { .. });
                prop_assert!(to_lead && !o.ended);
                // One that can write has been promoted for nothing else, or it were killed.
                prop_assert!(r.role == Role::Replica && r.detached && o.upstream.is_none() && o.settled);
            }
            Next::Found => {
                let r = o.running.unwrap();
                prop_assert!(wanted == Wanted::Initialise && r.data == Data::Empty && r.detached);
            }
            Next::Follow => {
                prop_assert!(matches!(wanted, Wanted::Follow(_)) && o.reachable && role == Some(Role::Replica));
                prop_assert!(o.running.unwrap().detached && o.upstream.is_none() && o.named);
                if o.identifier.is_some() {
                    prop_assert!(o.running.unwrap().data != Data::Of("t".to_owned()));
                }
            }
            Next::HandOver => prop_assert!(wanted == Wanted::Stopped && role == Some(Role::Primary)),
            Next::Halt | Next::Revive => prop_assert!(runs),
            _ => {}
        }
        // Nobody that can write goes on against the election.
        if role == Some(Role::Primary) && !o.hard_stopping && !o.founding
            && matches!(wanted, Wanted::Detached | Wanted::Follow(_)) {
            prop_assert_eq!(next, Next::Halt);
        }
    }
}
