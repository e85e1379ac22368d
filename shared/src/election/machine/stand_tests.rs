//! Who stands first.

use super::*;
use crate::election::charter::Durable;
use crate::election::machine::Start;
use crate::election::member::Holder;
use crate::election::message::{Input, Peer};
use crate::election::policy::{Policy, Timing};

/// Places of `db-1`, `db-2`… with those zones, each as it reckons itself.
fn ranks(zones: &[Option<&str>], across_zones: bool) -> Vec<u32> {
    let members = (1..).map(|n| Member::new(format!("db-{n}"), "g"));
    let peer = |zone: Option<&str>| Peer {
        zone: zone.map(Into::into),
        ..Peer::default()
    };
    let peers: BTreeMap<Member, Peer> = members.zip(zones.iter().copied().map(peer)).collect();
    let holder = |member: &Member| Holder {
        member: member.clone(),
        pod: "p".into(),
        nonce: "n".into(),
    };
    let first = peers.keys().next().unwrap();
    let charter = Charter {
        ballot: Ballot {
            epoch: Epoch(3),
            holder: holder(first),
        },
        version: 1,
        groups: vec![Group::alone(first.clone())],
        members: peers.keys().cloned().collect(),
        timeline: 2,
        fork: 0,
        successor: None,
        identifier: None,
    };
    let rank = |member| {
        let mut machine = Machine::new(Start {
            me: holder(member),
            policy: Policy {
                durability: Durability::Required,
                across_zones,
                max_lag: 0,
                timing: Timing::DEFAULT,
            },
            durable: Durable::default(),
            now: Moment::ZERO,
        });
        machine.peers = peers.clone();
        machine.rank(&charter)
    };
    peers.keys().map(rank).collect()
}

#[test]
fn who_has_more_voters_in_other_zones_stands_first() {
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(ranks(&[a, a, b], true), [1, 2, 0]);
    assert_eq!(ranks(&[a, b, b, b], true), [0, 1, 2, 3]);
    assert_eq!(ranks(&[b, a, b, b], true), [1, 0, 2, 3]);
    assert_eq!(ranks(&[a, a, b], false), [0, 1, 2], "zones do not count");
    assert_eq!(ranks(&[a, b, Some("c")], true), [0, 1, 2], "all are alike");
    // Nobody knows whether it is elsewhere.
    assert_eq!(ranks(&[None, a, b], true), [2, 0, 1]);
    assert_eq!(ranks(&[None, None, None], true), [0, 1, 2]);
}

fn holder(member: &Member, nonce: &str) -> Holder {
    Holder {
        member: member.clone(),
        pod: member.name.clone(),
        nonce: nonce.into(),
    }
}

fn machine(me: Holder, charter: &Charter) -> Machine {
    Machine::new(Start {
        me,
        policy: Policy {
            durability: Durability::Required,
            across_zones: false,
            max_lag: 0,
            timing: Timing::DEFAULT,
        },
        durable: Durable {
            promise: None,
            charter: Some(charter.clone()),
        },
        now: Moment::ZERO,
    })
}

/// Its container has started anew; the Lease, in the name of the process before, would run for seconds more.
#[test]
fn others_hear_that_the_engine_of_the_process_before_has_ended() {
    let [a, b] = ["db-1", "db-2"].map(|name| Member::new(name, "g"));
    let before = holder(&a, "before");
    let charter = Charter {
        ballot: Ballot {
            epoch: Epoch(3),
            holder: before.clone(),
        },
        version: 1,
        groups: vec![Group {
            primary: a.clone(),
            voters: [b.clone()].into(),
            acks: 1,
        }],
        members: [a.clone(), b.clone()].into(),
        timeline: 2,
        fork: 0,
        successor: None,
        identifier: None,
    };
    let sight = Sight::Seen(Seen {
        version: "1/1".into(),
        holder: Some(before.clone()),
        charter: Some(charter.clone()),
        published: Position::default(),
        mark: 7,
        transitions: 1,
    });
    let now = Timing::DEFAULT.duration * 2;
    let told = Ask::Released {
        ballot: charter.ballot.clone(),
        successor: None,
    };
    let says = |me: Holder, engine: Engine| {
        let mut machine = machine(me, &charter);
        machine.step(now, Input::Lease(sight.clone()));
        machine.step(now, Input::Engine(engine))
    };
    let next = holder(&a, "next");
    let said = [Effect::Ask(b.clone(), told.clone())];
    assert_eq!(says(next.clone(), Engine::Ended), said);
    assert_eq!(says(next, Engine::Unknown), [], "its engine may be there");
    assert_eq!(says(before, Engine::Ended), [], "it knows its own terms");
    assert_eq!(says(holder(&b, "n"), Engine::Ended), [], "another leads");

    let mut other = machine(holder(&b, "n"), &charter);
    let data = Engine::Detached {
        position: Position::default(),
        timeline: 2,
    };
    other.step(now, Input::Lease(sight));
    other.step(now, Input::Engine(data));
    assert!(matches!(other.role, Role::Follower), "the Lease lives");
    other.step(now, Input::Asked(a, told));
    assert!(matches!(other.role, Role::Candidate(_)));
}
