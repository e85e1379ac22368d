//! A set goes back where it is, and back again to its volumes from before: what the operator does to the Lease and to claims is
//! done here by hand.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use mainstay_backup::api::{Outcome, OwnerState};
use mainstay_backup::ids::OwnerId;
use mainstay_redis::backup::shards::Dataset;
use mainstay_redis::resp::words;
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::RestoreStep;

use crate::backup::{Vault, back_up, fill, is_all_there, until};
use crate::pod::{Pod, Set};
use crate::processes::replace;
use crate::wait_for;

/// The Lease of before goes, and there is another one, as the operator makes it.
async fn changed_over(set: &Set, first: &str, epoch: u64, identifier: Option<String>) {
    let leases: Api<Lease> = Api::namespaced(set.client.clone(), &set.namespace);
    leases
        .delete(&set.name, &DeleteParams::default())
        .await
        .unwrap();
    let slices: Api<EndpointSlice> = Api::namespaced(set.client.clone(), &set.namespace);
    let name = format!("{}-rw", set.name);
    slices
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let meta = |name: &str| ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    };
    let slice = EndpointSlice {
        metadata: meta(&name),
        address_type: "IPv4".into(),
        ..EndpointSlice::default()
    };
    slices.create(&PostParams::default(), &slice).await.unwrap();
    let record = Record {
        seat: first.to_owned(),
        epoch,
        system_identifier: identifier,
        ..Record::default()
    };
    let mut lease = Lease {
        metadata: meta(&set.name),
        spec: None,
    };
    lease.metadata.annotations = Some(record.to_annotations());
    leases.create(&PostParams::default(), &lease).await.unwrap();
}

/// The highest number of a history that the other side has, as the operator tells it.
fn told(pod: &Pod, timeline: i64) {
    let file = pod.path(paths::CONFIG).join(paths::TIMELINES_FILE);
    replace(&file, &timeline.to_string());
    pod.give();
}

/// It leads what comes after everything that was: epoch and timeline.
async fn leads(set: &Set, pod: &Pod, above: (u64, i64)) -> (Status, (u64, i64)) {
    let status = set.until(pod, "ready", |s| s.ready).await;
    wait_for("the endpoints", async || {
        set.endpoint().await.as_ref() == Some(&pod.address)
    })
    .await;
    let now = (set.record().await.epoch, status.timeline.unwrap());
    assert!(now.0 > above.0 && now.1 > above.1, "{now:?} {above:?}");
    (status, now)
}

#[tokio::test]
async fn a_set_goes_back_in_place_and_back_again() {
    let mut set = Set::new(2).await;
    let vault = Vault::new().await;
    let mut before = set.all(1).await;
    let mut db = set.connect(&before[0]).await.unwrap();
    fill(&mut db).await;
    assert_eq!(db.wait(1).await, 1);
    let identifier = set.identifier().await;
    let owner = OwnerId::of(&identifier);
    let beside = vault.beside(&set, &before[1]);
    let made = back_up(&set, &before[1], "first").await;
    assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
    beside.end();
    // What is lost by mistake, and what came later.
    db.call(words(["FLUSHALL"])).await.unwrap();
    db.set("newest", "1").await.unwrap();
    assert_eq!(db.wait(1).await, 1);
    let status = set.until(&before[0], "ready", |s| s.ready).await;
    let was = (set.record().await.epoch, status.timeline.unwrap());

    // Replicas first, then the primary.
    for pod in before.iter_mut().rev() {
        assert!(pod.terminate(), "{}", pod.log());
    }
    changed_over(&set, "db-3", was.0, None).await;
    set.config.members = vec!["db-3".into(), "db-4".into()];
    let mut founder = set.pod(3, 3);
    told(&founder, was.1);
    let stranger = OwnerId::of("another");
    let refused = vault.restore_as(&set, &founder, |r| r.owner = Some(stranger));
    assert_eq!(refused.step, RestoreStep::Failed, "{refused:?}");
    assert!(
        refused.message.contains("bootstrap.recovery"),
        "{refused:?}"
    );
    let report = vault.restore_as(&set, &founder, |r| {
        r.owner = Some(owner.clone());
        r.epoch = was.0;
    });
    assert_eq!(report.step, RestoreStep::Done, "{report:?}");
    assert_eq!(report.owner.as_ref(), Some(&owner));
    set.start(&mut founder, "uid-3");
    let (status, restored) = leads(&set, &founder, was).await;
    assert_eq!(status.system_identifier.as_ref(), Some(&identifier));
    let mut db = set.connect(&founder).await.unwrap();
    is_all_there(&mut db).await;
    assert_eq!(db.get("newest").await, None);
    db.set("restored", "1").await.unwrap();
    // Others are copied from it, and the repository is still the set's.
    let mut copy = set.pod(4, 4);
    told(&copy, was.1);
    set.start(&mut copy, "uid-4");
    set.until(&copy, "following", |s| s.ready).await;
    assert_eq!(db.wait(1).await, 1);
    let beside = vault.beside(&set, &copy);
    let report = until(&set, &copy, "ours", |r| {
        r.ownership.state == OwnerState::Ours
    })
    .await;
    assert_eq!(report.ownership.owner.as_ref(), Some(&owner));
    let made = back_up(&set, &copy, "second").await;
    assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
    let backups = vault.backups(&copy).await;
    let epochs: Vec<u64> = backups
        .iter()
        .map(|manifest| Dataset::of(manifest).unwrap().epoch)
        .collect();
    assert_eq!(epochs, [was.0, restored.0]);
    beside.end();

    // And back again to the newest data: nothing of the other side comes with it.
    assert!(copy.terminate() && founder.terminate());
    changed_over(&set, "db-1", restored.0, Some(identifier.clone())).await;
    set.config.members = vec!["db-1".into(), "db-2".into()];
    for (pod, uid) in before.iter_mut().zip(["uid-5", "uid-6"]) {
        set.mount(pod);
        told(pod, restored.1);
        set.start(pod, uid);
    }
    let leader = set.leader(&before, None).await;
    // They go on from their own epochs.
    let above = (was.0, restored.1);
    let (status, _) = leads(&set, &before[leader], above).await;
    assert_eq!(status.system_identifier.as_ref(), Some(&identifier));
    set.until(&before[1 - leader], "following", |s| s.ready)
        .await;
    let mut db = set.connect(&before[leader]).await.unwrap();
    assert_eq!(db.get("newest").await.as_deref(), Some("1"));
    assert_eq!((db.get("restored").await, db.size().await), (None, 1));
    db.set("again", "1").await.unwrap();
    assert_eq!(db.wait(1).await, 1);
    set.finish(before);
}
