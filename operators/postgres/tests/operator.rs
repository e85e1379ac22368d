//! The operator against an API server that keeps state and fails on demand, with agents that answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::ResourceExt;
use mainstay_crds::common::{Deletion, InstanceStatus, KeptVolumes};
use mainstay_crds::operation::{Operation, OperationPhase};
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_postgres::operator::Settings;
use mainstay_postgres::validate::Catalogue;
use mainstay_shared::agent::api::{GivenUp, Program};
use mainstay_shared::agent::program::Own;
use mainstay_shared::conditions::{self, reasons};
use mainstay_shared::names;
use mainstay_testkit::agent::FakeAgent;
use mainstay_testkit::api::{FakeApi, Fault, Rule, Verb};
use mainstay_testkit::cluster::FakeCluster;
use mainstay_testkit::fixtures;
use mainstay_testkit::world::{PATIENCE, SHOP, STRIDES};
use serde_json::json;

#[path = "operator/backups.rs"]
mod backups;
#[path = "operator/drills.rs"]
mod drills;
#[path = "operator/going_back.rs"]
mod going_back;
#[path = "operator/keys.rs"]
mod keys;
#[path = "operator/leaving.rs"]
mod leaving;
#[path = "operator/pooler.rs"]
mod pooler;
#[path = "operator/restores.rs"]
mod restores;
#[path = "operator/rotation.rs"]
mod rotation;
#[path = "operator/sidecar.rs"]
mod sidecar;
#[path = "operator/world.rs"]
mod world;

use world::{Begin, World};

#[tokio::test]
async fn three_instances_come_up_and_a_settled_set_is_left_alone() {
    let mut world = World::new();
    world.start();
    world.create(3);
    // The probe is made beside the passes, and takes its time on a busy machine.
    world
        .until("the probe to end", |w| {
            let status = w.status();
            let ready = conditions::find(&status.conditions, conditions::READY);
            w.is_settled() && ready.is_some_and(|c| c.status != "Unknown")
        })
        .await;
    world.quiet().await;
    let status = world.status();
    assert_eq!(status.ready.as_deref(), Some("3/3"));
    assert_eq!(status.primary.as_deref(), Some("db-1"));
    assert_eq!(status.image.as_deref(), Some("postgres:17.12"));
    let survives = status.survives.unwrap();
    assert!(survives.node, "{survives:?}");
    world.rests().await;
}

#[tokio::test]
async fn a_crash_at_any_write_does_no_harm() {
    for strides in STRIDES {
        let mut world = World::new();
        world.crash_after_each(strides);
        world.start();
        world.create(2);
        world
            .until("the set to settle", |w| {
                w.is_settled() && !w.api.has_crashed()
            })
            .await;
        world.crash_no_more();
        world.settled().await;
        assert_eq!(
            world.api.list::<Pod>().len(),
            2,
            "crashes after {strides:?}"
        );
        let authorities = world
            .api
            .list::<Secret>()
            .into_iter()
            .filter(|s| s.name_any().rsplit('.').next() == Some("ca"));
        assert_eq!(authorities.count(), 1);
        world.crashed_enough(20, strides);
    }
}

#[tokio::test]
async fn faults_of_the_api_server_do_no_harm() {
    for seed in 1..=4 {
        let mut world = World::new();
        world.api.chaos(seed, 5);
        world.start();
        world.create(3);
        world.until("the set to settle", World::is_settled).await;
        world.api.calm();
        world.change(|pg| pg.spec.instances = Some(2));
        world.settled().await;
    }
}

#[tokio::test]
async fn scaling_down_removes_the_highest_with_its_claim_and_certificate() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    world.change(|pg| pg.spec.instances = Some(2));
    world.settled().await;
    assert_eq!(world.claims(), ["db-1-data", "db-2-data"]);
    assert!(world.api.get::<Secret>(SHOP, "db-3-tls").is_none());
    let config: ConfigMap = world.api.get(SHOP, "db-config").unwrap();
    assert!(!config.data.unwrap()["set.json"].contains("db-3"));
}

#[tokio::test]
async fn resources_replace_pods_one_at_a_time_and_the_primary_last() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let before = world.pod_uids();
    world.api.forget_requests();
    world.change(|pg| {
        pg.spec.resources = Some(serde_json::from_value(json!({"memory": "1Gi"})).unwrap());
    });
    world.settled().await;
    assert!(world.pod_uids().iter().all(|uid| !before.contains(uid)));
    let writes = world.api.writes();
    let order: Vec<(&str, &str)> = writes
        .iter()
        .filter(|w| w.resource == "pods" && w.client == "operator" && w.code < Some(300))
        .filter_map(|w| match format!("{:?}", w.verb).as_str() {
            "Delete" => Some(("delete", w.name.as_deref()?)),
            "Create" => Some(("create", "")),
            _ => None,
        })
        .collect();
    let deleted: Vec<&str> = order
        .iter()
        .filter(|o| o.0 == "delete")
        .map(|o| o.1)
        .collect();
    assert_eq!(deleted, ["db-3", "db-2", "db-1"]);
    let alternate = order
        .chunks(2)
        .all(|pair| pair[0].0 == "delete" && pair[1].0 == "create");
    assert!(alternate, "{order:?}");
}

#[tokio::test]
async fn a_restart_parameter_restarts_engines_and_keeps_pods() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let pods = world.pod_uids();
    world.change(|pg| {
        pg.spec
            .parameters
            .insert("max_connections".into(), "150".into());
    });
    world
        .until("the configuration to be in force", |w| {
            let hash = |name: &str| {
                w.cluster
                    .agent("shop", name)
                    .map(|a| a.status().config_hash)
            };
            let first = hash("db-1");
            w.is_settled() && ["db-2", "db-3"].iter().all(|n| hash(n) == first)
        })
        .await;
    for name in ["db-1", "db-2", "db-3"] {
        let agent = world.cluster.agent("shop", name).unwrap();
        agent.set(|status| status.pending_restart = vec!["max_connections".into()]);
    }
    world
        .until("every engine to be restarted", |w| {
            ["db-1", "db-2", "db-3"].iter().all(|n| {
                w.cluster
                    .agent("shop", n)
                    .is_some_and(|a| a.restarts() == 1)
            })
        })
        .await;
    world.settled().await;
    assert_eq!(world.pod_uids(), pods);
}

/// Stands for the operator's program.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// The agents run another program than the operator's.
fn outdate_agents(world: &World) {
    for name in ["db-1", "db-2", "db-3"] {
        world.cluster.agent("shop", name).unwrap().set(|status| {
            status.program = Some(Program {
                sha256: "0".repeat(64),
                architecture: std::env::consts::ARCH.into(),
            });
        });
    }
}

#[tokio::test]
async fn agents_of_another_release_are_upgraded_beside_their_engines() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let pods = world.pod_uids();
    outdate_agents(&world);
    let own = Own::at(Path::new(PROGRAM)).unwrap().program.sha256;
    world
        .until("every agent to be upgraded", |w| {
            let agents = w.status().instances;
            let upgraded = |i: &InstanceStatus| i.agent.as_deref() == own.get(..12);
            agents.len() == 3 && agents.iter().all(upgraded)
        })
        .await;
    world.settled().await;
    assert_eq!(world.pod_uids(), pods);
    for name in ["db-1", "db-2", "db-3"] {
        let agent = world.cluster.agent("shop", name).unwrap();
        assert_eq!(agent.restarts(), 1, "{name} once");
    }
}

#[tokio::test]
async fn an_agent_that_was_given_up_stops_the_upgrade_of_the_others() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let own = Own::at(Path::new(PROGRAM)).unwrap().program.sha256;
    world.cluster.agent("shop", "db-3").unwrap().set(|status| {
        status.given_up = Some(GivenUp {
            sha256: own,
            why: "it ended: exit code 1".into(),
        });
    });
    outdate_agents(&world);
    world
        .until("the set to stall", |w| w.stalled().is_some())
        .await;
    world.quiet().await;
    let (reason, sentence) = world.stalled().unwrap();
    assert_eq!(reason, "AgentGivenUp");
    assert!(
        sentence.contains("db-3") && sentence.contains("exit code 1"),
        "{sentence}"
    );
    for name in ["db-1", "db-2", "db-3"] {
        let agent = world.cluster.agent("shop", name).unwrap();
        assert_eq!(agent.restarts(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_switchover_is_done_once_whoever_sees_its_end() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let pods = world.pod_uids();
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "move", "namespace": "shop", "generation": 1},
        "spec": {"target": {"kind": "Postgres", "name": "db"}, "action": "Switchover", "to": "db-3"},
    }))
    .unwrap();
    world.api.put(&operation);
    let said = |w: &World| {
        let operation: Option<Operation> = w.api.get(SHOP, "move");
        operation.and_then(|o| o.status).unwrap_or_default()
    };
    world
        .until("what was before to be written", |w| said(w).from.is_some())
        .await;
    // Another operator sees what came of it.
    world.start();
    world
        .until("the operation to end", |w| {
            said(w).phase.is_some_and(OperationPhase::is_over)
        })
        .await;
    let status = said(&world);
    assert_eq!(status.phase, Some(OperationPhase::Succeeded), "{status:?}");
    world.settled().await;
    assert_eq!(world.status().primary.as_deref(), Some("db-3"));
    assert_eq!(world.pod_uids(), pods);
    let restarts: usize = ["db-1", "db-2", "db-3"]
        .iter()
        .filter_map(|n| world.cluster.agent("shop", n))
        .map(FakeAgent::restarts)
        .sum();
    assert_eq!(
        restarts, 1,
        "the former primary follows, nobody else is disturbed"
    );
    // It is over, whatever leads later.
    world.quiet().await;
    assert_eq!(said(&world), status);
}

#[tokio::test]
async fn an_operation_on_nothing_says_so_and_its_time_does_not_begin() {
    let mut world = World::new();
    world.start();
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
        "metadata": {"name": "lost", "namespace": "shop", "generation": 1},
        "spec": {"target": {"kind": "Postgres", "name": "nothing"}, "action": "Switchover"},
    }))
    .unwrap();
    world.api.put(&operation);
    let said = |w: &World| {
        let operation: Option<Operation> = w.api.get(SHOP, "lost");
        operation.and_then(|o| o.status).unwrap_or_default()
    };
    world
        .until("it to say so", |w| said(w).message.is_some())
        .await;
    let status = said(&world);
    assert_eq!(status.phase, Some(OperationPhase::Pending));
    assert_eq!(status.started_at, None);
    let message = status.message.clone().unwrap();
    assert!(message.contains("no Postgres called nothing"), "{message}");
    // Another operator has nothing new to say.
    world.start();
    world.quiet().await;
    assert_eq!(said(&world), status);
}

#[tokio::test]
async fn another_image_in_the_catalogue_or_a_restarted_operator_rolls_nothing() {
    let mut world = World::new();
    world.start();
    world.create(2);
    world.settled().await;
    let pods = world.pod_uids();
    world.quiet().await;
    world.api.forget_requests();
    world.start_version("0.2.0", "17.13");
    world.quiet().await;
    assert_eq!(world.pod_uids(), pods);
    // Nor does the status waver until everybody has answered the new operator.
    let written = world.api.writes();
    assert!(
        !written.iter().any(|w| w.resource.contains("postgreses")),
        "{written:?}"
    );
    world.change(|pg| pg.spec.instances = Some(3));
    world.settled().await;
    let images: Vec<_> = world
        .api
        .list::<Pod>()
        .into_iter()
        .filter_map(|p| p.spec?.containers.first()?.image.clone())
        .collect();
    assert!(images.iter().all(|i| i == "postgres:17.12"), "{images:?}");
}

#[tokio::test]
async fn what_others_delete_or_change_is_put_right() {
    let mut world = World::new();
    world.start();
    world.create(1);
    world.settled().await;
    assert!(world.api.destroy::<Service>(SHOP, "db-peers"));
    world.api.edit::<ConfigMap>(SHOP, "db-config", |map| {
        map.data = Some([("set.json".to_owned(), "{}".to_owned())].into());
    });
    world
        .until("both to be put right", |w| {
            let config = w
                .api
                .get::<ConfigMap>(SHOP, "db-config")
                .and_then(|m| m.data);
            w.api.get::<Service>(SHOP, "db-peers").is_some()
                && config.is_some_and(|d| d["set.json"].contains("db-1"))
        })
        .await;
    world.settled().await;
}

#[tokio::test]
async fn a_replica_that_loses_its_volume_is_made_anew() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let lost: PersistentVolumeClaim = world.api.get(SHOP, "db-2-data").unwrap();
    world
        .api
        .destroy::<PersistentVolumeClaim>(SHOP, "db-2-data");
    world.api.destroy::<Pod>(SHOP, "db-2");
    world
        .until("a new claim", |w| {
            w.api
                .get::<PersistentVolumeClaim>(SHOP, "db-2-data")
                .is_some_and(|c| c.uid() != lost.uid())
        })
        .await;
    world.settled().await;
}

#[tokio::test]
async fn a_primary_that_loses_its_volume_is_not_initialised_again() {
    let mut world = World::new();
    world.start();
    world.create(2);
    world.settled().await;
    world
        .api
        .destroy::<PersistentVolumeClaim>(SHOP, "db-1-data");
    world.api.destroy::<Pod>(SHOP, "db-1");
    world
        .until("the set to stall", |w| {
            w.stalled().is_some_and(|(_, why)| why.contains("volume"))
        })
        .await;
    world.quiet().await;
    assert!(
        world
            .api
            .get::<PersistentVolumeClaim>(SHOP, "db-1-data")
            .is_none()
    );
    assert!(world.api.get::<Pod>(SHOP, "db-1").is_none());
}

#[tokio::test]
async fn the_end_keeps_what_was_asked_for_and_a_new_set_adopts_it() {
    let mut world = World::new();
    world.start();
    world.create(2);
    world.settled().await;
    let password = |w: &World| {
        w.api
            .get::<Secret>(SHOP, "db-app")
            .and_then(|s| s.data)
            .unwrap()["password"]
            .clone()
    };
    let before = password(&world);
    let identifier = world.status().system_identifier;
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Postgres>(SHOP, "db").is_none()
        })
        .await;
    world
        .until("the rest to be gone", |w| {
            w.api.list::<Service>().is_empty()
        })
        .await;
    assert_eq!(world.claims().len(), 2);
    assert!(world.api.list::<Pod>().is_empty());

    world.create(2);
    world.change(|pg| {
        pg.spec.deletion = Some(Deletion {
            volumes: Some(KeptVolumes::Delete),
            ..Deletion::default()
        });
    });
    world.settled().await;
    assert_eq!(password(&world), before);
    assert_eq!(world.status().system_identifier, identifier);
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Postgres>(SHOP, "db").is_none()
        })
        .await;
    assert!(world.claims().is_empty(), "{:?}", world.claims());
    let secrets: Vec<_> = world
        .api
        .list::<Secret>()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(secrets.is_empty(), "{secrets:?}");
}

async fn delete(world: &World) {
    let api: kube::Api<Postgres> = kube::Api::namespaced(world.api.client(), "shop");
    api.delete("db", &kube::api::DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn paused_means_that_nothing_is_changed() {
    let mut world = World::new();
    world.start();
    world.create(1);
    world.settled().await;
    world.change(|pg| {
        pg.annotations_mut()
            .insert(names::RECONCILE.into(), "paused".into());
        pg.spec.instances = Some(2);
    });
    world.quiet().await;
    assert_eq!(world.api.list::<Pod>().len(), 1);
    world.change(|pg| {
        pg.annotations_mut().remove(names::RECONCILE);
    });
    world.settled().await;
}

#[tokio::test]
async fn a_certificate_that_is_lost_is_issued_anew() {
    let mut world = World::new();
    world.start();
    world.create(1);
    world.settled().await;
    let old: Secret = world.api.get(SHOP, "db-1-tls").unwrap();
    world.api.destroy::<Secret>(SHOP, "db-1-tls");
    world
        .until("a new certificate", |w| {
            let now = w.api.get::<Secret>(SHOP, "db-1-tls");
            now.is_some_and(|s| s.data != old.data)
        })
        .await;
    let agent = world.cluster.agent("shop", "db-1").unwrap();
    let pair = mainstay_shared::pki::from_secret(
        &world
            .api
            .get::<Secret>(SHOP, "db-1-tls")
            .unwrap()
            .data
            .unwrap(),
    )
    .unwrap();
    let tls =
        mainstay_shared::pki::server_config(&pair, mainstay_shared::pki::ClientAuth::Optional)
            .unwrap();
    agent.serve_certificate(Arc::new(tls));
    world.settled().await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_stalls_the_set_until_it_is_raised() {
    for (resource, refusal) in [
        (
            "pods",
            "pods \"db-1\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3",
        ),
        (
            "persistentvolumeclaims",
            "persistentvolumeclaims \"db-1-data\" is forbidden: exceeded quota: small, requested: requests.storage=1Gi, used: requests.storage=0, limited: requests.storage=512Mi",
        ),
    ] {
        let mut world = World::new();
        world.api.add_rule(
            Rule::new(Fault::Forbid(refusal))
                .client("operator")
                .verb(Verb::Create)
                .resource(resource),
        );
        world.start();
        world.create(2);
        world
            .until("the set to stall", |w| w.stalled().is_some())
            .await;
        let (reason, sentence) = world.stalled().unwrap();
        assert_eq!(reason, reasons::QUOTA);
        assert!(
            sentence.contains("exceeded quota: small") && sentence.contains("ask for"),
            "{sentence}"
        );
        assert_eq!(
            world.metric(r#"mainstay_objects_in_backoff{kind="Postgres"}"#),
            Some(1.0)
        );
        let errors = r#"mainstay_reconciles_total{kind="Postgres",outcome="error",reason="quota"}"#;
        assert!(world.metric(errors) >= Some(1.0));
        assert!(
            world.api.list::<Pod>().is_empty(),
            "a pod without its claim"
        );
        world.api.calm();
        world.settled().await;
        assert_eq!(world.stalled(), None);
        assert_eq!(
            world.metric(r#"mainstay_objects_in_backoff{kind="Postgres"}"#),
            Some(0.0)
        );
    }
}

#[tokio::test]
async fn metrics_tell_what_passes_came_to() {
    let mut world = World::new();
    world.start();
    world.create(3);
    world.settled().await;
    let blocked = |rule: &str| {
        format!(r#"mainstay_steps_blocked_total{{kind="Postgres",predicate="{rule}"}}"#)
    };
    assert_eq!(world.metric(&blocked("primary_last")), None);
    world.change(|pg| {
        pg.spec.resources = Some(serde_json::from_value(json!({"memory": "1Gi"})).unwrap());
    });
    world.settled().await;
    assert!(world.metric(&blocked("one_instance_at_a_time")) > Some(0.0));
    let passes = world.metric(r#"mainstay_reconcile_duration_seconds_count{kind="Postgres"}"#);
    let took = world.metric(r#"mainstay_reconcile_duration_seconds_sum{kind="Postgres"}"#);
    assert!(
        passes > Some(3.0) && took > Some(0.0),
        "{passes:?} {took:?}"
    );
    let waiting = r#"mainstay_reconciles_total{kind="Postgres",outcome="progressing",reason="wait_until_it_serves"}"#;
    assert!(world.metric(waiting) > Some(0.0));
    assert!(
        world.metric(r#"mainstay_reconciles_total{kind="Postgres",outcome="done",reason=""}"#)
            > Some(0.0)
    );
}

#[tokio::test]
async fn a_pass_that_runs_ends_when_the_operator_is_asked_to_stop() {
    let mut world = World::new();
    let slow = Rule::new(Fault::Late(Duration::from_millis(500)));
    let slow = slow.client("operator").verb(Verb::Create);
    world.api.add_rule(slow.resource("secrets").times(1));
    world.start();
    world.create(1);
    world
        .until("a pass to begin", |w| !w.api.writes().is_empty())
        .await;
    assert_eq!(
        world.status().observed_generation,
        None,
        "the pass has begun and not ended"
    );
    world.stop().await;
    assert_eq!(world.status().observed_generation, Some(1));
    let writes = world.api.writes().len();
    world.change(|pg| pg.spec.instances = Some(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.api.writes().len(), writes, "nothing begins any more");
}
