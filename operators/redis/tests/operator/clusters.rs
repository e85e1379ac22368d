//! A cluster: what the operator makes of one whose members do not answer. That they do is tried with agents.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_crds::operation::{Operation, OperationPhase};
use mainstay_crds::restore::{Restore, RestorePhase};
use mainstay_redis::settings::CLUSTER_ROLE;

use super::*;

#[tokio::test]
async fn all_members_begin_at_once_and_what_they_wait_for_is_said() {
    let mut world = World::new();
    start(&mut world);
    put(&world, "Retain");
    world
        .until("all members to be asked", |w| {
            let waits = w.status().waiting_for;
            w.api.list::<Pod>().len() == 6
                && waits.iter().any(|wait| wait.predicate == "see_somebody")
        })
        .await;
    assert_eq!(world.claims().len(), 6);
    let status = world.status();
    assert!(!status.cluster.unwrap().formed);
    assert_eq!(status.primary, None);
    assert_eq!(status.endpoints.unwrap().replicas, None);

    // Clients are led to whoever serves; nobody writes the endpoints, and there is no Service of replicas.
    let service: Service = world.api.get(SHOP, "db-rw").unwrap();
    assert!(service.spec.unwrap().selector.is_some());
    assert!(world.api.get::<Service>(SHOP, "db-ro").is_none());
    assert!(world.api.get::<EndpointSlice>(SHOP, "db-rw").is_none());
    let policy: NetworkPolicy = world.api.get(SHOP, "db").unwrap();
    let policy = serde_json::to_string(&policy.spec).unwrap();
    assert_eq!(policy.matches("16379").count(), 2, "in and out: {policy}");

    // The operator has a user of its own there, and no pod its password.
    assert!(config(&world).engine.clustered);
    let role = &roles(&world)[CLUSTER_ROLE];
    let own = data(&world, "db-internal")["cluster"].clone();
    assert_eq!(role.verifier, format!("#{}", hex(&Sha256::digest(&own.0))));
    let pods = serde_json::to_string(&world.api.list::<Pod>()).unwrap();
    assert!(!pods.contains("\"cluster\""), "{pods}");
}

fn put(world: &World, volumes: &str) {
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"namespace": "shop", "name": "db", "generation": 1},
        "spec": {"version": "8.0", "mode": "Cluster", "shards": 3, "storage": {"size": "1Gi"},
                 "deletion": {"protection": false, "volumes": volumes}},
    }))
    .unwrap();
    world.api.put(&redis);
}

#[tokio::test]
async fn what_was_formed_under_the_same_name_before_is_not_asked_of_the_next() {
    let formed = |w: &World| {
        let redis = w.api.get::<Redis>(SHOP, "db")?;
        Some(redis.status?.cluster?.formed)
    };
    let mut world = World::new();
    start(&mut world);
    put(&world, "Delete");
    world
        .until("it to be looked at", |w| formed(w) == Some(false))
        .await;
    // As an operator finds it that starts anew.
    world.stop().await;
    world.api.edit::<Redis>(SHOP, "db", |redis| {
        let status = redis.status.as_mut().unwrap();
        status.cluster.as_mut().unwrap().formed = true;
    });
    start(&mut world);
    world
        .until("the loss to be said", |w| formed(w) == Some(true))
        .await;
    world.quiet().await;
    assert_eq!(formed(&world), Some(true), "a loss is a loss");
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Redis>(SHOP, "db").is_none()
        })
        .await;
    put(&world, "Delete");
    world
        .until("the next to be new", |w| formed(w) == Some(false))
        .await;
}

#[tokio::test]
async fn nobody_hands_over_on_request() {
    let mut world = World::new();
    start(&mut world);
    put(&world, "Delete");
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"namespace": "shop", "name": "move", "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}, "action": "Switchover"},
    }))
    .unwrap();
    world.api.put(&operation);
    let over = |w: &World| {
        let operation: Operation = w.api.get(SHOP, "move").unwrap();
        operation.status.unwrap_or_default()
    };
    world
        .until("the operation to be refused", |w| {
            over(w).phase == Some(OperationPhase::Failed)
        })
        .await;
    let why = over(&world).message.unwrap();
    assert!(why.contains("agree by themselves"), "{why}");
}

/// Pods with a container that restores.
fn restored(world: &World) -> Vec<String> {
    let pods = world.api.list::<Pod>().into_iter();
    let restores = |pod: &Pod| {
        let first = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
        first.is_some_and(|all| all.iter().any(|c| c.name == "restore"))
    };
    let mut names: Vec<String> = pods
        .filter(restores)
        .filter_map(|p| p.metadata.name)
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_cluster_from_a_repository_begins_with_a_shard_in_each_of_its_first_members() {
    let mut world = World::new();
    start(&mut world);
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"namespace": "shop", "name": "db", "generation": 1, "creationTimestamp": "2026-03-01T12:00:00Z"},
        "spec": {"version": "8.0", "mode": "Cluster", "shards": 3, "storage": {"size": "1Gi"},
            "deletion": {"protection": false, "volumes": "Delete"},
            "bootstrap": {"recovery": {
                "repository": {"volume": {"claimName": "old"}, "prefix": "shop/old"}, "keys": "old-keys",
            }}},
    }))
    .unwrap();
    world.api.put(&redis);
    let waits = |w: &World, predicate: &str| {
        let mut waits = w.status().waiting_for.into_iter();
        waits.any(|wait| wait.predicate == predicate)
    };
    world
        .until("all members to be waited for", |w| {
            w.api.list::<Pod>().len() == 6 && waits(w, "every_shard_first")
        })
        .await;
    assert_eq!(restored(&world), ["db-1", "db-2", "db-3"]);
    let map: ConfigMap = world.api.get(SHOP, "db-config").unwrap();
    let told: serde_json::Value = serde_json::from_str(&map.data.unwrap()["restore.json"]).unwrap();
    assert_eq!(told["cluster"]["made"], "2026-03-01T12:00:00Z", "{told}");

    // In place it does not go back.
    let restore: Restore = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore",
        "metadata": {"namespace": "shop", "name": "back", "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}},
    }))
    .unwrap();
    world.api.put(&restore);
    let over = |w: &World| {
        let restore: Restore = w.api.get(SHOP, "back").unwrap();
        restore.status.unwrap_or_default()
    };
    world
        .until("the restore to be refused", |w| {
            over(w).phase == Some(RestorePhase::Failed)
        })
        .await;
    let why = over(&world).message.unwrap();
    assert!(why.contains("bootstrap.recovery"), "{why}");

    // Once it was formed, a member without its volume is made like any other.
    world.stop().await;
    world.api.edit::<Redis>(SHOP, "db", |redis| {
        let status = redis.status.as_mut().unwrap();
        status.cluster.as_mut().unwrap().formed = true;
    });
    world.api.destroy::<Pod>(SHOP, "db-2");
    start(&mut world);
    world
        .until("its pod to be made anew", |w| {
            w.api.list::<Pod>().len() == 6
        })
        .await;
    assert_eq!(restored(&world), ["db-1", "db-3"]);
}
