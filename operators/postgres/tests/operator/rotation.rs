//! A role of PostgreSQL has one password: no operation changes it, and the sentence says what does.

use k8s_openapi::ByteString;
use mainstay_crds::common::sentences::ONE_PASSWORD;

use super::*;

#[tokio::test]
async fn a_password_is_changed_by_hand_and_pods_are_told_to_look() {
    let mut world = World::new();
    world.start();
    world.create(2);
    world.settled().await;
    let told = |w: &World| -> Vec<Option<String>> {
        let pods: Vec<Pod> = w.api.list();
        let note = |p: &Pod| p.annotations().get(names::USERS_HASH).cloned();
        pods.iter().map(note).collect()
    };
    let before = told(&world);
    assert!(before[0].is_some() && before.iter().all(|n| *n == before[0]));
    // The API server refuses it as well; this one came past it.
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "rotate", "namespace": "shop", "generation": 1},
        "spec": {"target": {"kind": "Postgres", "name": "db"}, "action": "RotatePassword"},
    }))
    .unwrap();
    world.api.put(&operation);
    world
        .until("it to be refused", |w| {
            let operation: Operation = w.api.get(SHOP, "rotate").unwrap();
            let status = operation.status.unwrap_or_default();
            status.phase == Some(OperationPhase::Failed)
                && status.message.as_deref() == Some(ONE_PASSWORD)
        })
        .await;
    let pods = world.pod_uids();
    world.api.edit::<Secret>(SHOP, "db-app", |secret| {
        let data = secret.data.as_mut().unwrap();
        data.insert("password".into(), ByteString(b"by-hand".to_vec()));
    });
    world
        .until("pods to be told to look", |w| {
            let now = told(w);
            now != before && now.iter().all(|n| *n == now[0])
        })
        .await;
    assert_eq!(world.pod_uids(), pods);
    world.rests().await;
}
