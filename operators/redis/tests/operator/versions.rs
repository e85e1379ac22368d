//! Another version: what the operator does, and what it refuses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::names;
use mainstay_testkit::agent::FakeAgent;
use mainstay_testkit::world::SHOP;

use super::{World, create_of, start};

/// Images of the pods, by name.
fn images(world: &World) -> BTreeMap<String, String> {
    let pods = world.api.list::<Pod>().into_iter();
    let image = |pod: &Pod| pod.spec.as_ref()?.containers[0].image.clone();
    pods.map(|pod| (pod.name_any(), image(&pod).unwrap_or_default()))
        .collect()
}

/// Uids of the claims, by name.
fn claims(world: &World) -> BTreeMap<String, String> {
    let claims = world.api.list::<PersistentVolumeClaim>().into_iter();
    claims
        .map(|claim| (claim.name_any(), claim.uid().unwrap()))
        .collect()
}

fn seat(world: &World) -> String {
    let lease = world.api.get(SHOP, "db");
    let lease: k8s_openapi::api::coordination::v1::Lease = lease.unwrap();
    Record::from_annotations(lease.annotations()).unwrap().seat
}

fn wish(world: &World, version: &str) {
    world.change(|redis| version.clone_into(&mut redis.spec.version));
}

/// A set of three of Redis 7.0.
async fn three() -> World {
    let mut world = World::new();
    start(&mut world);
    create_of(&world, "7.0", 3);
    world.settled().await;
    world
}

#[tokio::test]
async fn a_newer_version_replaces_replicas_first_and_nobody_goes_back() {
    let mut world = three().await;
    let before = claims(&world);
    world.api.forget_requests();
    wish(&world, "8.0");
    world.settled().await;
    let writes = world.api.writes();
    let deleted: Vec<&str> = writes
        .iter()
        .filter(|w| w.client == "operator" && format!("{:?}", w.verb) == "Delete")
        .filter(|w| w.code < Some(300))
        .filter_map(|w| w.name.as_deref())
        .collect();
    assert_eq!(
        deleted,
        ["db-3", "db-2", "db-1"],
        "no claim, and pods in this order"
    );
    assert_ne!(seat(&world), "db-1", "it has handed over");
    assert!(images(&world).values().all(|image| image == "redis:8.0.2"));
    assert_eq!(claims(&world), before);
    for claim in world.api.list::<PersistentVolumeClaim>() {
        let ran = claim.annotations().get(names::RAN);
        assert_eq!(
            ran.map(String::as_str),
            Some("8.0.2"),
            "{}",
            claim.name_any()
        );
    }

    // The primary's data is that of the newer version by now.
    let pods = world.pod_uids();
    wish(&world, "7.0");
    world.until("a sentence", |w| w.stalled().is_some()).await;
    let (_, why) = world.stalled().unwrap();
    assert!(
        why.starts_with("spec.version: ") && why.contains("write 8.0"),
        "{why}"
    );
    world.quiet().await;
    assert_eq!(world.pod_uids(), pods);
    // Nor where it is asked for anew, of volumes that were left.
    world.kill();
    for pod in world.api.list::<Pod>() {
        world.api.destroy::<Pod>(SHOP, &pod.name_any());
    }
    start(&mut world);
    world.quiet().await;
    assert!(
        world
            .stalled()
            .is_some_and(|(_, why)| why.contains("write 8.0"))
    );
    assert_eq!(claims(&world), before);

    wish(&world, "8.0");
    world.settled().await;
    assert_eq!(world.stalled(), None);
    assert_eq!(claims(&world), before);
}

#[tokio::test]
async fn before_the_hand_over_replicas_go_back_with_new_volumes() {
    let mut world = three().await;
    let before = claims(&world);
    wish(&world, "8.0");
    world
        .until("one of them to be newer", |w| {
            let agent = w.cluster.agent("shop", "db-3").map(FakeAgent::status);
            let ran = agent.filter(|s| s.ready).and_then(|s| s.engine_version);
            let claim: Option<PersistentVolumeClaim> = w.api.get(SHOP, "db-3-data");
            let noted = claim.is_some_and(|c| c.annotations().get(names::RAN) == ran.as_ref());
            noted && ran.as_deref() == Some("8.0.2")
        })
        .await;
    world.kill();
    assert_eq!(seat(&world), "db-1");
    wish(&world, "7.0");
    start(&mut world);
    world.settled().await;
    assert_eq!(world.stalled(), None);
    assert!(images(&world).values().all(|image| image == "redis:7.0.15"));
    let after = claims(&world);
    assert_eq!(
        after["db-1-data"], before["db-1-data"],
        "the primary's stays"
    );
    assert_ne!(after["db-3-data"], before["db-3-data"]);
    assert_eq!(seat(&world), "db-1");
}

#[tokio::test]
async fn who_is_older_than_a_primary_elected_half_way_is_made_anew_at_once() {
    let mut world = three().await;
    let before = claims(&world);
    wish(&world, "8.0");
    world
        .until("one of them to be newer", |w| {
            images(w)
                .get("db-3")
                .is_some_and(|image| image == "redis:8.0.2")
                && w.cluster
                    .agent("shop", "db-3")
                    .is_some_and(|a| a.status().ready)
        })
        .await;
    // The primary is lost, and the newer one elected.
    world
        .api
        .edit::<k8s_openapi::api::coordination::v1::Lease>(SHOP, "db", |lease| {
            let record = Record::from_annotations(lease.annotations()).unwrap();
            let next = Record {
                seat: "db-3".into(),
                address: None,
                ..record
            };
            lease.annotations_mut().extend(next.to_annotations());
            lease.spec.get_or_insert_default().holder_identity = None;
        });
    world.settled().await;
    assert!(images(&world).values().all(|image| image == "redis:8.0.2"));
    assert_eq!(claims(&world), before);
}

#[tokio::test]
async fn an_image_of_another_version_is_told_after_one_pod() {
    let mut world = three().await;
    world.change(|redis| redis.spec.image = Some("redis:8.0.2".into()));
    world.until("a sentence", |w| w.stalled().is_some()).await;
    let (_, why) = world.stalled().unwrap();
    assert!(
        why.starts_with("spec.image: redis:8.0.2 holds Redis 8.0.2")
            && why.contains("version: \"8.0\""),
        "{why}"
    );
    world.quiet().await;
    let newer = images(&world)
        .into_iter()
        .filter(|(_, image)| image == "redis:8.0.2");
    assert_eq!(newer.count(), 1);
    // Either way it goes on.
    wish(&world, "8.0");
    world.settled().await;
    assert!(images(&world).values().all(|image| image == "redis:8.0.2"));
}
