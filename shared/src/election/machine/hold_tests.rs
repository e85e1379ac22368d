//! A term that goes on in another process.

use std::time::Duration;

use super::*;
use crate::election::charter::Durable;
use crate::election::machine::{Start, Tenure};
use crate::election::member::{Ballot, Epoch, Holder, Position};
use crate::election::message::{Input, Order, Seen, Sight, Written};
use crate::election::policy::{Durability, Policy, Timing};

const TIMING: Timing = Timing::DEFAULT;
/// When the process before renewed last.
const SENT: Moment = Duration::from_secs(100);

/// A holder alone, and what it wrote 100 s after the machine's start.
fn tenure() -> Tenure {
    let holder = Holder {
        member: Member::new("db-1", "g"),
        pod: "p".into(),
        nonce: "n".into(),
    };
    let charter = Charter {
        ballot: Ballot {
            epoch: Epoch(3),
            holder: holder.clone(),
        },
        version: 1,
        groups: vec![Group::alone(holder.member.clone())],
        members: [holder.member.clone()].into(),
        timeline: 2,
        fork: 0,
        successor: None,
        identifier: None,
    };
    Tenure {
        holder,
        applied: charter.last().cloned(),
        charter,
        until: SENT + TIMING.deadline,
        mark: 7,
        opened: Some(1),
        leaving: false,
    }
}

fn sight(tenure: &Tenure) -> Sight {
    Sight::Seen(Seen {
        version: "1/1".into(),
        holder: Some(tenure.holder.clone()),
        charter: Some(tenure.charter.clone()),
        published: Position::default(),
        mark: tenure.mark,
        transitions: 1,
    })
}

fn engine(tenure: &Tenure, now: Moment) -> Engine {
    Engine::Primary(Primary {
        ballot: tenure.charter.ballot.clone(),
        recovered: 1,
        lsn: 2,
        in_force: tenure.applied.clone(),
        since: 1,
        flushed: BTreeMap::new(),
        healthy_at: now,
    })
}

/// The process that goes on with it.
fn resumed(tenure: &Tenure, now: Moment) -> Machine {
    let start = Start {
        me: tenure.holder.clone(),
        policy: Policy {
            durability: Durability::Required,
            across_zones: false,
            max_lag: 0,
            timing: TIMING,
        },
        durable: Durable {
            promise: None,
            charter: Some(tenure.charter.clone()),
        },
        now,
    };
    Machine::resume(start, tenure.clone())
}

/// However long after the last renewal the next process begins, it renews as soon as that is due and
/// it knows how its engine is.
#[test]
fn the_next_process_renews_when_that_of_before_would_have() {
    for age in (0..3900).step_by(100).map(Duration::from_millis) {
        let tenure = tenure();

        let began = SENT + age;
        let mut machine = resumed(&tenure, began);
        assert!(machine.holds().is_some());
        let due = began.max(SENT + TIMING.renew);
        let mut written = None;
        for millis in (0..5000).step_by(50).map(Duration::from_millis) {
            let now = began + millis;
            let input = match millis.as_millis() {
                0 => Input::Engine(engine(&tenure, now)),
                50 => Input::Lease(sight(&tenure)),
                _ => Input::Tick,
            };
            for effect in machine.step(now, input) {
                assert_ne!(effect, Effect::HardStop, "{age:?} after the renewal");
                if matches!(effect, Effect::WriteLease(_)) {
                    written.get_or_insert(now);
                }
            }
            if written.is_some() {
                break;
            }
        }
        let written = written.expect("it renews");
        assert!(
            written <= due + Duration::from_millis(50),
            "{age:?}: {written:?}"
        );
        assert!(written >= SENT + TIMING.renew, "{age:?}: too often");
    }
}

/// Its successor leads before the answer to its last write has come.
#[test]
fn who_has_let_go_and_stopped_is_not_stopped_hard_when_another_leads() {
    let now = SENT + Duration::from_millis(10);
    let tenure = tenure();
    let next = Charter {
        ballot: Ballot {
            epoch: Epoch(4),
            holder: Holder {
                member: Member::new("db-2", "g"),
                ..tenure.holder.clone()
            },
        },
        ..tenure.charter.clone()
    };
    let elsewhere = Sight::Seen(Seen {
        version: "1/3".into(),
        holder: Some(next.ballot.holder.clone()),
        charter: Some(next),
        published: Position::default(),
        mark: 1,
        transitions: 2,
    });
    for stopped in [true, false] {
        let mut machine = resumed(&tenure, now);
        let mut done = Vec::new();
        let mut step = |input| done.extend(machine.step(now, input));
        step(Input::Lease(sight(&tenure)));
        step(Input::Engine(engine(&tenure, now)));
        step(Input::Order(Order::HandOver(None)));
        if stopped {
            step(Input::Engine(Engine::Detached {
                position: Position::default(),
                timeline: 2,
            }));
        }
        step(Input::Lease(elsewhere.clone()));
        assert_eq!(done.contains(&Effect::HardStop), !stopped, "{done:?}");
        let let_go = |e: &Effect| matches!(e, Effect::WriteLease(w) if w.holder.is_none());
        assert_eq!(done.iter().any(let_go), stopped, "{done:?}");
        assert!(machine.holds().is_none());
    }
}

/// Nobody answers its last write.
#[test]
fn who_has_let_go_and_stopped_leaves_the_next_turn_to_others_when_its_time_is_over() {
    let now = SENT + Duration::from_millis(10);
    let tenure = tenure();
    let mut machine = resumed(&tenure, now);
    let detached = Engine::Detached {
        position: Position::default(),
        timeline: 2,
    };
    for input in [
        Input::Lease(sight(&tenure)),
        Input::Engine(engine(&tenure, now)),
        Input::Order(Order::HandOver(None)),
        Input::Engine(detached),
    ] {
        machine.step(now, input);
    }
    assert!(machine.holds().is_some());
    for millis in (0..5900).step_by(100).map(Duration::from_millis) {
        let input = if millis.is_zero() {
            Input::Written(Written::Unanswered)
        } else {
            Input::Lease(sight(&tenure))
        };
        let done = machine.step(now + TIMING.deadline + millis, input);
        assert!(!done.contains(&Effect::HardStop), "{millis:?}: {done:?}");
        assert!(machine.holds().is_none());
        assert!(
            matches!(machine.role, Role::Follower),
            "{millis:?}: it stands"
        );
    }
}

/// What it had in memory is gone, so others are better, and need not wait for the Lease's expiry.
#[test]
fn a_term_whose_engine_has_ended_is_let_go_at_once() {
    let now = SENT + Duration::from_millis(10);
    let mut tenure = tenure();
    let other = Member::new("db-2", "g");
    tenure.charter.members.insert(other.clone());
    let mut machine = resumed(&tenure, now);
    machine.step(now, Input::Lease(sight(&tenure)));
    machine.step(now, Input::Engine(engine(&tenure, now)));
    let done = machine.step(now, Input::Engine(Engine::Ended));
    let told = |e: &Effect| matches!(e, Effect::Ask(to, Ask::Released { .. }) if *to == other);
    assert!(done.iter().any(told), "{done:?}");
    let let_go = |e: &Effect| matches!(e, Effect::WriteLease(w) if w.holder.is_none());
    assert!(done.iter().any(let_go), "{done:?}");
    assert_eq!(
        machine.wanted(),
        Wanted::Stopped,
        "nothing is promoted again"
    );

    let detached = Engine::Detached {
        position: Position::default(),
        timeline: 2,
    };
    machine.step(now, Input::Written(Written::Done("1/2".into())));
    assert!(machine.holds().is_none());
    let done = machine.step(now, Input::Engine(detached));
    assert_eq!(done, [], "it is the others' turn");
    assert!(matches!(machine.role, Role::Follower));
}

/// Nobody else can have anything: it leads again, under another epoch, as soon as it knows what it has.
#[test]
fn who_is_alone_leads_again_when_its_engine_is_back() {
    let now = SENT + Duration::from_millis(10);
    let tenure = tenure();
    let mut machine = resumed(&tenure, now);
    machine.step(now, Input::Lease(sight(&tenure)));
    machine.step(now, Input::Engine(engine(&tenure, now)));
    let done = machine.step(now, Input::Engine(Engine::Ended));
    assert_eq!(done, [], "it keeps the Lease's name");
    assert!(machine.holds().is_none());
    assert_eq!(machine.wanted(), Wanted::Detached, "it is started");

    machine.step(now, Input::Engine(Engine::Unknown));
    assert!(matches!(machine.role, Role::Follower));
    let later = now + TIMING.renew / 2;
    machine.step(later, Input::Lease(sight(&tenure)));
    let detached = Engine::Detached {
        position: Position::default(),
        timeline: 2,
    };
    machine.step(later, Input::Engine(detached));
    assert!(matches!(machine.role, Role::Candidate(_)));
}

/// Others may have been told by the process before that it has stopped.
#[test]
fn the_next_process_goes_on_leaving() {
    let now = SENT + Duration::from_millis(10);
    let mut machine = resumed(&tenure(), now);
    for input in [
        Input::Lease(sight(&tenure())),
        Input::Engine(engine(&tenure(), now)),
        Input::Order(Order::HandOver(None)),
    ] {
        machine.step(now, input);
    }
    let kept = machine.tenure().unwrap();
    assert!(kept.leaving);
    let next = resumed(&kept, now);
    assert!(next.holds().is_some());
    assert_eq!(next.wanted(), Wanted::Stopped);
}
