use std::time::Duration;

use super::*;

fn me() -> Me {
    Me {
        instance: "db-1".into(),
        pod_uid: "u1".into(),
        nonce: "n1".into(),
        address: "10.0.0.1".into(),
    }
}

fn lease(seat: &str, epoch: u64, holder: Option<&str>) -> Lease {
    let record = Record {
        seat: seat.into(),
        epoch,
        ..Record::default()
    };
    let mut lease = Lease::default();
    lease.metadata.annotations = Some(record.to_annotations());
    lease.spec = Some(LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        ..LeaseSpec::default()
    });
    lease
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn claim(healthy: u64) -> Claim {
    Claim {
        system_identifier: "7".into(),
        healthy_at: at(healthy),
        epoch: 0,
        open: true,
    }
}

fn acquired(step: Step) -> u64 {
    match step {
        Step::Acquire(record) => record.epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_free_lease_is_acquired_under_a_new_epoch() {
    let mut claim = claim(10);
    let step = next(at(10), &me(), &lease("db-1", 3, None), at(10), None, &claim).unwrap();
    assert_eq!(acquired(step), 4);
    claim.epoch = 9;
    let step = next(at(10), &me(), &lease("db-1", 3, None), at(10), None, &claim).unwrap();
    assert_eq!(
        acquired(step),
        10,
        "the volume may have seen more than the Lease"
    );
}

#[test]
fn another_pod_must_be_silent_for_a_full_duration() {
    let other = lease("db-1", 3, Some("db-1/u0/n0"));
    let step = |now| next(at(now), &me(), &other, at(10), None, &claim(now)).unwrap();
    assert!(matches!(step(16), Step::Wait(_)));
    assert_eq!(acquired(step(17)), 4);
    let before = lease("db-1", 3, Some("db-1/u1/n0"));
    let same_pod = next(at(10), &me(), &before, at(10), None, &claim(10)).unwrap();
    assert_eq!(acquired(same_pod), 4, "the same pod waits for nobody");
}

#[test]
fn the_seat_of_another_and_foreign_data_are_left_alone() {
    let theirs = lease("db-2", 3, None);
    assert!(matches!(
        next(at(99), &me(), &theirs, at(0), None, &claim(99)),
        Ok(Step::Wait(_))
    ));
    let mut foreign = lease("db-1", 3, None);
    let record = Record {
        seat: "db-1".into(),
        system_identifier: Some("8".into()),
        ..Record::default()
    };
    foreign.metadata.annotations = Some(record.to_annotations());
    assert!(matches!(
        next(at(99), &me(), &foreign, at(0), None, &claim(99)),
        Ok(Step::Wait(_))
    ));
}

#[test]
fn renewal_needs_health_and_the_own_epoch() {
    let mine = lease("db-1", 3, Some("db-1/u1/n1"));
    let step =
        |now, healthy, held| next(at(now), &me(), &mine, at(10), held, &claim(healthy)).unwrap();
    assert!(matches!(step(12, 12, Some(3)), Step::Renew(r) if r.epoch == 3));
    assert!(matches!(step(17, 12, Some(3)), Step::Wait(_)));
    assert_eq!(
        acquired(step(12, 12, None)),
        4,
        "a process that does not know its epoch makes a new one"
    );
}

#[test]
fn what_is_written_is_read_back() {
    let record = Record {
        seat: "db-1".into(),
        epoch: 4,
        system_identifier: Some("7".into()),
        address: Some("10.0.0.1".into()),
    };
    let written = written(
        &lease("db-1", 3, None),
        &me(),
        &record,
        true,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(
        Record::from_annotations(written.metadata.annotations.as_ref().unwrap()),
        Ok(record)
    );
    let spec = written.spec.as_ref().unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("db-1/u1/n1"));
    assert_eq!(spec.lease_transitions, Some(1));
    assert_eq!(released(&written).spec.unwrap().holder_identity, None);
}
