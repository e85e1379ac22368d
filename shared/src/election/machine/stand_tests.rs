//! Who stands first.

use super::*;
use crate::election::charter::Durable;
use crate::election::machine::Start;
use crate::election::member::Holder;
use crate::election::message::Peer;
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
