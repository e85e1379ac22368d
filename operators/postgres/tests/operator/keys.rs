//! Keys of a deleted set are destroyed: in which order, what holds it up, and another operator that goes on. What the
//! pod in the repository did the test says itself.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_backup::crypto::{ExposeSecret as _, Keyring};
use mainstay_backup::shred::{ShredReport, ShredSettings};
use mainstay_crds::operation::OperationStatus;

use super::*;

const KEYS: &str = "db-backup-keys";

/// Somebody's keys of backups.
fn keys(world: &World) {
    let text = Keyring::generate([9; 32]).to_text();
    world.api.put(&Secret {
        metadata: ObjectMeta {
            name: Some(KEYS.into()),
            namespace: Some("shop".into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "instance.key".to_owned(),
            ByteString(text.expose_secret().as_bytes().to_vec()),
        )])),
        ..Secret::default()
    });
}

fn asks(world: &World) {
    let operation = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "shred", "namespace": "shop", "generation": 1},
        "spec": {
            "target": {"kind": "Postgres", "name": "db"}, "action": "DestroyKeys",
            "destroyKeys": {
                "confirm": "db",
                "repository": {"s3": {"bucket": "backups"}, "credentials": "store"},
            },
        },
    });
    let operation: Operation = serde_json::from_value(operation).unwrap();
    world.api.put(&operation);
}

fn status(world: &World) -> OperationStatus {
    let operation: Option<Operation> = world.api.get(SHOP, "shred");
    operation.and_then(|o| o.status).unwrap_or_default()
}

fn pod(world: &World) -> Option<Pod> {
    let all = world.api.list::<Pod>().into_iter();
    all.filter(|p| p.name_any().starts_with("destroy-keys-"))
        .find(|p| p.metadata.deletion_timestamp.is_none())
}

fn secret(world: &World) -> Option<Secret> {
    world.api.get(SHOP, KEYS)
}

async fn until_pod(world: &mut World) -> Pod {
    world.until("the pod", |w| pod(w).is_some()).await;
    pod(world).unwrap()
}

/// The pod has ended with these words.
fn ends(world: &World, pod: &Pod, report: &ShredReport) {
    let words = serde_json::to_string(report).unwrap();
    assert!(world.api.edit::<Pod>(SHOP, &pod.name_any(), |pod| {
        let phase = if report.done { "Succeeded" } else { "Failed" };
        pod.status = Some(PodStatus {
            phase: Some(phase.into()),
            container_statuses: Some(vec![ContainerStatus {
                name: "destroy-keys".into(),
                state: Some(ContainerState {
                    terminated: Some(ContainerStateTerminated {
                        exit_code: i32::from(!report.done),
                        message: Some(words),
                        ..ContainerStateTerminated::default()
                    }),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        });
    }));
}

async fn until_over(world: &mut World) -> OperationStatus {
    world
        .until("it to be over", |w| {
            status(w).phase.is_some_and(OperationPhase::is_over)
        })
        .await;
    status(world)
}

fn good() -> ShredReport {
    ShredReport {
        done: true,
        removed: 2,
        backups: 3,
        ..ShredReport::default()
    }
}

#[tokio::test]
async fn the_copies_go_first_then_the_secret_and_the_status_says_so() {
    let mut world = World::new();
    keys(&world);
    world.start();
    asks(&world);
    let made = until_pod(&mut world).await;
    let said = status(&world).keys.unwrap();
    assert_eq!(said.recipients.len(), 1);
    assert_eq!(said.secret, KEYS);
    let spec = made.spec.clone().unwrap();
    let told = spec.containers[0].env.as_ref().unwrap()[0]
        .value
        .clone()
        .unwrap();
    assert!(!told.contains("SECRET"), "no key is in it");
    let told: ShredSettings = serde_json::from_str(&told).unwrap();
    assert_eq!(told.recipients, said.recipients);
    assert_eq!(told.repository.prefix, "shop/db");
    assert_eq!(world.api.list::<NetworkPolicy>().len(), 1);
    assert!(secret(&world).is_some(), "it goes last");
    ends(&world, &made, &good());
    let over = until_over(&mut world).await;
    assert_eq!(over.phase, Some(OperationPhase::Succeeded), "{over:?}");
    assert!(secret(&world).is_none());
    let keys = over.keys.unwrap();
    assert!(keys.secret_gone_at.is_some());
    assert_eq!(keys.copies.unwrap().removed, 2);
    world.until("the pod to go", |w| pod(w).is_none()).await;
    world.rests().await;
}

#[tokio::test]
async fn a_set_that_is_there_keeps_its_keys() {
    let mut world = backups::backed_up_of(1).await;
    asks(&world);
    let over = until_over(&mut world).await;
    assert_eq!(over.phase, Some(OperationPhase::Failed));
    let why = over.message.unwrap();
    assert!(why.contains("delete it first"), "{why}");
    assert!(secret(&world).is_some() && pod(&world).is_none());
    world.settled().await;
}

#[tokio::test]
async fn what_the_repository_refuses_leaves_the_secret_and_the_store_is_tried_again() {
    let mut world = World::new();
    keys(&world);
    world.start();
    asks(&world);
    let first = until_pod(&mut world).await;
    let away = ShredReport {
        message: "the store is away".into(),
        passes: true,
        ..ShredReport::default()
    };
    ends(&world, &first, &away);
    world
        .until("another pod", |w| {
            pod(w).is_some_and(|p| p.uid() != first.uid())
        })
        .await;
    let why = status(&world).message.unwrap();
    assert!(why.contains("the store is away"), "{why}");
    let second = pod(&world).unwrap();
    let refused = ShredReport {
        message: "the backups are encrypted to escrow recipients as well".into(),
        ..ShredReport::default()
    };
    ends(&world, &second, &refused);
    let over = until_over(&mut world).await;
    assert_eq!(over.phase, Some(OperationPhase::Failed));
    assert!(over.message.unwrap().contains("the Secret is as it was"));
    assert!(secret(&world).is_some());
}

#[tokio::test]
async fn an_operator_that_is_killed_at_any_write_is_gone_on_from() {
    let mut tried = 0;
    for n in 1.. {
        let mut world = World::new();
        keys(&world);
        world.crash_once_after(n);
        world.start();
        asks(&world);
        let over = |w: &World| status(w).phase.is_some_and(OperationPhase::is_over);
        let begin = Instant::now();
        while !over(&world) || pod(&world).is_some() || world.api.has_crashed() {
            assert!(begin.elapsed() < PATIENCE, "{:?}", status(&world));
            world.turn().await;
            let runs = |p: &Pod| p.status.as_ref().is_none_or(|s| s.phase.is_none());
            if let Some(made) = pod(&world).filter(runs) {
                ends(&world, &made, &good());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let over = status(&world);
        assert_eq!(
            over.phase,
            Some(OperationPhase::Succeeded),
            "after write {n}: {over:?}"
        );
        assert!(secret(&world).is_none());
        if world.crashes == 0 {
            break;
        }
        tried = n;
    }
    assert!(tried >= 5, "only {tried} writes were tried");
}
