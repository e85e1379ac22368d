//! Whatever the machine writes is read back, and `kubectl get lease` shows it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::election::group::Group;
use crate::election::member::{Ballot, Epoch};

const NAME: &str = "[a-z]([-a-z0-9]{0,12}[a-z0-9])?";
const HEX: &str = "[0-9a-f]{1,16}";

fn member() -> impl Strategy<Value = Member> {
    (NAME, HEX).prop_map(|(name, generation)| Member::new(name, generation))
}

fn some_holder() -> impl Strategy<Value = Holder> {
    (member(), "[-0-9a-f]{1,36}", HEX).prop_map(|(member, pod, nonce)| Holder {
        member,
        pod: pod.into(),
        nonce: nonce.into(),
    })
}

fn group() -> impl Strategy<Value = Group> {
    let voters = prop::collection::btree_set(member(), 0..4);
    (member(), voters, 0..3_usize).prop_map(|(primary, voters, acks)| Group {
        primary,
        voters,
        acks,
    })
}

fn charter() -> impl Strategy<Value = Charter> {
    (
        (any::<u64>(), some_holder(), any::<u64>()),
        prop::collection::vec(group(), 0..3),
        prop::collection::btree_set(member(), 0..5),
        (any::<u64>(), any::<u64>()),
        prop::option::of(member()),
        prop::option::of("[0-9]{1,19}"),
    )
        .prop_map(
            |((epoch, holder, version), groups, members, (timeline, fork), successor, id)| {
                Charter {
                    ballot: Ballot {
                        epoch: Epoch(epoch),
                        holder,
                    },
                    version,
                    groups,
                    members: BTreeSet::from_iter(members),
                    timeline,
                    fork,
                    successor,
                    identifier: id.map(Text::from),
                }
            },
        )
}

fn write() -> impl Strategy<Value = Write> {
    (
        charter(),
        any::<bool>(),
        (any::<u64>(), any::<u64>()),
        any::<u64>(),
        0..1_000_000_u64,
        any::<bool>(),
    )
        .prop_map(
            |(charter, held, (epoch, lsn), mark, transitions, missing)| Write {
                precondition: if missing {
                    Precondition::Missing
                } else {
                    Precondition::Version("u1/7".into())
                },
                holder: held.then(|| charter.ballot.holder.clone()),
                charter,
                published: Position {
                    epoch: Epoch(epoch),
                    lsn,
                },
                mark,
                transitions,
            },
        )
}

fn own<'a>(labels: &'a BTreeMap<String, String>, identifier: Option<&'a str>) -> Own<'a> {
    Own {
        namespace: "shop",
        set: "db",
        labels,
        instance: "db-2",
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        identifier,
        duration: Duration::from_secs(6),
    }
}

/// As the operator makes it.
fn unheld() -> Lease {
    let mut lease = Lease::default();
    lease.metadata.uid = Some("u1".into());
    lease.metadata.resource_version = Some("7".into());
    let note = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    lease.metadata.annotations = Some(BTreeMap::from([note(SEAT, "db-1"), note("mine", "kept")]));
    lease
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(write in write()) {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut lease = written(Some(&unheld()), &write, &own(&labels, Some("73")), now).unwrap();
        if write.precondition == Precondition::Missing {
            prop_assert_eq!(&lease.metadata.uid, &None);
            prop_assert_eq!(&lease.metadata.resource_version, &None);
            prop_assert_eq!(lease.metadata.labels.as_ref(), Some(&labels));
        } else {
            prop_assert_eq!(&lease.metadata.annotations.as_ref().unwrap()["mine"], "kept");
            prop_assert_eq!(lease.metadata.resource_version.as_deref(), Some("7"));
        }
        lease.metadata.uid = Some("u2".into());
        lease.metadata.resource_version = Some("8".into());
        let look = read(&lease).unwrap();
        prop_assert!(shows(&look, &write));
        prop_assert_eq!(&look.seat, &Some("db-1".to_owned()));
        prop_assert!(!look.may_found("db-1"));
        prop_assert_eq!(look.address.is_some(), write.holder.is_some());
        let id = write.charter.identifier.clone().map_or("73".to_owned(), String::from);
        prop_assert_eq!(look.identifier, Some(id));
        prop_assert_eq!(&look.seen, &Seen {
            version: "u2/8".into(),
            holder: write.holder,
            charter: Some(write.charter),
            published: write.published,
            mark: write.mark,
            transitions: write.transitions,
        });
        let spec = lease.spec.unwrap();
        prop_assert_eq!(spec.renew_time, Some(MicroTime(now)));
        prop_assert_eq!(spec.lease_duration_seconds, Some(6));
        prop_assert_eq!(spec.acquire_time.is_some(), spec.holder_identity.is_some());
    }

    #[test]
    fn holders_are_read_as_they_are_displayed(one in some_holder()) {
        prop_assert_eq!(holder(&one.to_string()), one);
    }
}

#[test]
fn the_named_founder_may_found_until_something_stands_there() {
    let look = read(&unheld()).unwrap();
    assert!(look.may_found("db-1") && !look.may_found("db-2"));
    let mut lease = unheld();
    let annotations = lease.metadata.annotations.as_mut().unwrap();
    annotations.insert(SYSTEM_IDENTIFIER.into(), "73".into());
    assert!(!read(&lease).unwrap().may_found("db-1"));
}

#[test]
fn a_strangers_hold_is_a_hold_and_damage_is_an_error() {
    let mut lease = unheld();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some("somebody".into()),
        ..LeaseSpec::default()
    });
    assert!(read(&lease).unwrap().seen.holder.is_some());
    let annotations = lease.metadata.annotations.as_mut().unwrap();
    annotations.insert(CHARTER.into(), "{".into());
    assert!(matches!(
        read(&lease),
        Err(LeaseError::Annotation { key: CHARTER, .. })
    ));
}

#[test]
fn another_version_is_not_replaced() {
    let labels = BTreeMap::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut write = write().new_tree(&mut runner).unwrap().current();
    write.precondition = Precondition::Version("u1/6".into());
    let refused = written(
        Some(&unheld()),
        &write,
        &own(&labels, None),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(refused.unwrap_err(), LeaseError::Outdated);
}

#[test]
fn only_a_lower_version_of_the_same_object_is_older() {
    let lease = |uid: &str, version: &str| {
        let mut lease = Lease::default();
        lease.metadata.uid = Some(uid.into());
        lease.metadata.resource_version = Some(version.into());
        lease
    };
    assert!(is_older(&lease("a", "9"), &lease("a", "10")));
    assert!(!is_older(&lease("a", "10"), &lease("a", "10")));
    assert!(!is_older(&lease("b", "9"), &lease("a", "10")));
    assert!(!is_older(&lease("a", "x"), &lease("a", "10")));
}
