//! A pooler comes, is told of, survives an upgrade of the operator, and goes.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use mainstay_crds::postgres::pooler::Pooler;

use super::*;

fn asked(image: Option<&str>) -> Pooler {
    Pooler {
        replicas: Some(true),
        image: image.map(str::to_owned),
        ..Pooler::default()
    }
}

/// What the controller of Deployments would say once all pods run.
fn all_ready(world: &World) {
    for name in ["db-pooler-rw", "db-pooler-ro"] {
        assert!(world.api.edit::<Deployment>(SHOP, name, |d| {
            let wanted = d.spec.as_ref().and_then(|s| s.replicas);
            d.status = Some(DeploymentStatus {
                observed_generation: d.metadata.generation,
                ready_replicas: wanted,
                updated_replicas: wanted,
                replicas: wanted,
                ..DeploymentStatus::default()
            });
        }));
    }
}

fn of_pooler<K>(world: &World) -> Vec<String>
where
    K: kube::Resource<DynamicType = ()> + serde::de::DeserializeOwned,
{
    let names = world.api.list::<K>().into_iter().map(|o| o.name_any());
    names.filter(|n| n.contains("pooler")).collect()
}

fn images(world: &World) -> Vec<String> {
    let deployments = world.api.list::<Deployment>().into_iter();
    let pods = deployments.filter_map(|d| d.spec?.template.spec);
    let all = pods.flat_map(|p| {
        p.init_containers
            .unwrap_or_default()
            .into_iter()
            .chain(p.containers)
    });
    all.filter_map(|c| c.image).collect()
}

#[tokio::test]
async fn a_pooler_is_made_and_told_of_and_goes_without_a_trace() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let pods = world.pod_uids();
    assert_eq!(of_pooler::<Deployment>(&world), [] as [&str; 0]);
    assert_eq!(world.status().pooler, None);

    world.change(|pg| pg.spec.pooler = Some(asked(Some("pgbouncer:1.24.1"))));
    world
        .until("the pooler to be told of", |w| w.status().pooler.is_some())
        .await;
    world.quiet().await;
    let status = world.status();
    let pooler = status.pooler.unwrap();
    assert_eq!(pooler.primary, "db-pooler-rw.shop.svc:5432");
    assert_eq!(pooler.primary_ready, "0/2");
    let waits = |world: &World| -> Vec<String> {
        let waiting = world.status().waiting_for.into_iter();
        waiting
            .map(|w| w.step)
            .filter(|s| s.contains("pooler"))
            .collect()
    };
    assert_eq!(
        waits(&world),
        [
            "start the pooler db-pooler-rw",
            "start the pooler db-pooler-ro"
        ]
    );
    assert!(!of_pooler::<Secret>(&world).is_empty(), "a certificate");
    let keys = world
        .api
        .get::<Secret>(SHOP, "db-app")
        .unwrap()
        .data
        .unwrap();
    assert!(keys.contains_key("pooler-uri"));

    all_ready(&world);
    world
        .until("the pods to be counted", |w| waits(w).is_empty())
        .await;
    let pooler = world.status().pooler.unwrap();
    assert_eq!(pooler.primary_ready, "2/2");
    assert_eq!(pooler.replicas_ready.as_deref(), Some("2/2"));
    world.rests().await;

    world.change(|pg| pg.spec.pooler = None);
    world
        .until("the pooler to be gone", |w| {
            of_pooler::<Deployment>(w).is_empty() && of_pooler::<Secret>(w).is_empty()
        })
        .await;
    world.quiet().await;
    assert_eq!(of_pooler::<Service>(&world), [] as [&str; 0]);
    assert_eq!(of_pooler::<ConfigMap>(&world), [] as [&str; 0]);
    assert_eq!(world.status().pooler, None);
    let keys = world.api.get::<Secret>(SHOP, "db-app").unwrap();
    assert!(keys.data.unwrap().keys().all(|k| !k.starts_with("pooler")));
    assert_eq!(world.pod_uids(), pods, "no data pod is made anew");
}

#[tokio::test]
async fn an_upgrade_of_the_operator_leaves_poolers_as_they_are() {
    let mut world = World::new();
    world.start();
    world.create(2);
    world.change(|pg| pg.spec.pooler = Some(asked(None)));
    world
        .until("a sentence about the image", |w| w.stalled().is_some())
        .await;
    let (_, sentence) = world.stalled().unwrap();
    assert!(sentence.contains("no image of PgBouncer"), "{sentence}");

    world.beside.pooler = Some("pgbouncer:1.24.1");
    world.start();
    world.settled().await;
    all_ready(&world);
    world.quiet().await;
    let before = images(&world);
    assert_eq!(before.len(), 4);
    world.beside.pooler = Some("pgbouncer:1.25.0");
    world.start_version("0.2.0", "17.12");
    world.quiet().await;
    assert_eq!(images(&world), before, "clients keep their connections");
    world.change(|pg| {
        let pooler = pg.spec.pooler.as_mut().unwrap();
        pooler.resources = serde_json::from_value(json!({"memory": "128Mi"})).unwrap();
    });
    world
        .until("new pods of everything that is newer", |w| {
            let now = images(w);
            now.iter().filter(|i| *i == "pgbouncer:1.25.0").count() == 2
                && now.iter().filter(|i| i.ends_with(":0.2.0")).count() == 2
        })
        .await;
}

#[tokio::test]
async fn a_pooler_that_is_not_to_be_had_keeps_no_instance_from_being_made() {
    let mut world = World::new();
    let refusal = "deployments.apps \"db-pooler-rw\" is forbidden: no such image is allowed here";
    world.api.add_rule(
        Rule::new(Fault::Forbid(refusal))
            .client("operator")
            .resource("deployments")
            .name("db-pooler-rw"),
    );
    world.start();
    world.create(3);
    world.change(|pg| pg.spec.pooler = Some(asked(Some("pgbouncer:1.24.1"))));
    world
        .until("three instances", |w| {
            w.status().ready.as_deref() == Some("3/3")
        })
        .await;
    let status = world.status();
    let told = |kind| conditions::find(&status.conditions, kind).map(|c| c.message.clone());
    let words = [told(conditions::STALLED), told(conditions::RECONCILING)];
    let words = words.map(Option::unwrap_or_default).join(" ");
    assert!(words.contains("no such image is allowed here"), "{words}");
}
