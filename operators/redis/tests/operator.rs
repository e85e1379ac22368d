//! The operator against an API server that keeps state and fails on demand, with agents that answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

#[path = "operator/backups.rs"]
mod backups;
#[path = "operator/clusters.rs"]
mod clusters;
#[path = "operator/drills.rs"]
mod drills;
#[path = "operator/going_back.rs"]
mod going_back;
#[path = "../../postgres/tests/operator/restores.rs"]
mod restores;
#[path = "operator/rotation.rs"]
mod rotation;
#[allow(dead_code, reason = "tests of another engine use more of it")]
#[path = "../../postgres/tests/operator/sidecar.rs"]
mod sidecar;
#[path = "operator/versions.rs"]
mod versions;

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use mainstay_crds::access::{Access, CATEGORY};
use mainstay_crds::common::{Deletion, KeptVolumes};
use mainstay_crds::redis::{Bound, Redis, Sentinel};
use mainstay_redis::engine::RedisEngine;
use mainstay_redis::settings::{PROBE_ROLE, REPLICATION_ROLE, RedisConfig};
use mainstay_redis::validate::Catalogue;
use mainstay_shared::access::existing_roles;
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::program::Own;
use mainstay_shared::conditions;
use mainstay_shared::hex::hex;
use mainstay_shared::operator::run::Settings;
use mainstay_shared::pki;
use mainstay_testkit::world::{Beside, SHOP, STRIDES};
use serde_json::json;
use sha2::{Digest, Sha256};

type AnyWorld<B> = mainstay_testkit::world::World<RedisEngine, B>;
type World = AnyWorld<()>;

/// What stands for the operator's program.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn start(world: &mut World) {
    start_with(world, "8.0.2");
}

/// Start an operator whose catalogue has this Redis.
fn start_with<B: Beside>(world: &mut AnyWorld<B>, version: &str) {
    let redis = json!({"7.0": "redis:7.0.15", "8.0": format!("redis:{version}")});
    let catalogue = json!({ "redis": redis }).to_string();
    world.start_with(Settings {
        namespace: "mainstay-system".into(),
        image: "mainstay/redis-operator:0.1.0".into(),
        catalogue: Catalogue::from_json(&catalogue).unwrap(),
        program: Own::at(Path::new(PROGRAM)).unwrap(),
    });
}

fn create(world: &World, instances: i32) {
    create_of(world, "8.0", instances);
}

fn create_of(world: &World, version: &str, instances: i32) {
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"namespace": "shop", "name": "db", "generation": 1},
        "spec": {"version": version, "instances": instances, "storage": {"size": "1Gi"}},
    }))
    .unwrap();
    world.api.put(&redis);
}

fn data<B>(world: &AnyWorld<B>, secret: &str) -> BTreeMap<String, ByteString> {
    world.api.get::<Secret>(SHOP, secret).unwrap().data.unwrap()
}

fn config(world: &World) -> RedisConfig {
    let map: ConfigMap = world.api.get(SHOP, "db-config").unwrap();
    serde_json::from_str(&map.data.unwrap()["set.json"]).unwrap()
}

#[tokio::test]
async fn three_instances_come_up_and_a_settled_set_is_left_alone() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 3);
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
    assert_eq!(status.image.as_deref(), Some("redis:8.0.2"));
    let bound = Bound {
        replicas: 1,
        seconds: 10,
    };
    assert_eq!(status.bound, Some(bound));
    let endpoints = status.endpoints.unwrap();
    assert_eq!(endpoints.primary, "db-rw.shop.svc:6379");
    let service: Service = world.api.get(SHOP, "db-rw").unwrap();
    assert_eq!(service.spec.unwrap().selector, None);
    assert!(status.survives.unwrap().node);
    world.rests().await;
}

#[tokio::test]
async fn a_crash_at_any_write_does_no_harm() {
    for strides in STRIDES {
        let mut world = World::new();
        world.crash_after_each(strides);
        start(&mut world);
        create(&world, 2);
        world
            .until("the set to settle", |w| {
                w.is_settled() && !w.api.has_crashed()
            })
            .await;
        world.crash_no_more();
        world.settled().await;
        assert_eq!(world.api.list::<Pod>().len(), 2, "{strides:?}");
        // However its passwords were made: what checks each is made of it.
        let roles = existing_roles(&data(&world, "db-access"));
        let own = data(&world, "db-internal");
        let of = [
            ("app", data(&world, "db-app")["password"].clone()),
            (PROBE_ROLE, own["probe"].clone()),
            (REPLICATION_ROLE, own["replication"].clone()),
        ];
        for (name, password) in of {
            let check = format!("#{}", hex(&Sha256::digest(&password.0)));
            let first = roles[name].verifier.split(' ').next();
            assert_eq!(first, Some(check.as_str()), "{name}, {strides:?}");
        }
        world.crashed_enough(20, strides);
    }
}

#[tokio::test]
async fn faults_of_the_api_server_do_no_harm() {
    for seed in 1..=4 {
        let mut world = World::new();
        world.api.chaos(seed, 5);
        start(&mut world);
        create(&world, 3);
        world.until("the set to settle", World::is_settled).await;
        world.api.calm();
        world.change(|redis| {
            redis.spec.instances = Some(2);
        });
        world.settled().await;
        assert_eq!(world.claims(), ["db-1-data", "db-2-data"]);
    }
}

#[tokio::test]
async fn more_memory_replaces_pods_one_at_a_time_and_the_primary_last() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 3);
    world.settled().await;
    let before = config(&world).engine.parameters["maxmemory"].clone();
    world.api.forget_requests();
    world.change(|redis| {
        redis.spec.resources = Some(serde_json::from_value(json!({"memory": "1Gi"})).unwrap());
    });
    world.settled().await;
    let writes = world.api.writes();
    let deleted: Vec<&str> = writes
        .iter()
        .filter(|w| w.resource == "pods" && w.client == "operator" && w.code < Some(300))
        .filter(|w| format!("{:?}", w.verb) == "Delete")
        .filter_map(|w| w.name.as_deref())
        .collect();
    assert_eq!(deleted, ["db-3", "db-2", "db-1"]);
    let after = &config(&world).engine.parameters["maxmemory"];
    assert_eq!(
        (before.as_str(), after.as_str()),
        ("352321536", "754974720")
    );
}

#[tokio::test]
async fn a_changed_parameter_keeps_every_pod() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 3);
    world.settled().await;
    let pods = world.pod_uids();
    world.change(|redis| {
        redis.spec.parameters.insert("hz".into(), "20".into());
        redis.spec.maxmemory_policy = Some("allkeys-lru".into());
    });
    world
        .until("every agent to have loaded it", |w| {
            let hash = |name: &str| {
                let agent = w.cluster.agent("shop", name);
                agent.map(|a| a.status().config_hash)
            };
            let first = hash("db-1");
            w.is_settled()
                && config(w).engine.parameters.contains_key("hz")
                && ["db-2", "db-3"].iter().all(|n| hash(n) == first)
        })
        .await;
    assert_eq!(world.pod_uids(), pods);
    assert_eq!(
        config(&world).engine.parameters["maxmemory-policy"],
        "allkeys-lru"
    );
}

#[tokio::test]
async fn a_changed_password_leaves_the_former_one_and_the_sets_own() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 1);
    world.settled().await;
    let roles = |w: &World| existing_roles(&data(w, "db-access"));
    let (before, own) = (roles(&world), data(&world, "db-internal"));
    let former = before["app"].verifier.clone();
    let changed = world.api.edit::<Secret>(SHOP, "db-app", |secret| {
        let data = secret.data.as_mut().unwrap();
        data.insert("password".into(), ByteString(b"another-one".to_vec()));
    });
    assert!(changed);
    world
        .until("agents to be told", |w| roles(w)["app"] != before["app"])
        .await;
    world.quiet().await;
    let after = roles(&world);
    let words: Vec<&str> = after["app"].verifier.split(' ').collect();
    assert_eq!((words.len(), words[1]), (2, former.as_str()));
    for name in [PROBE_ROLE, REPLICATION_ROLE] {
        assert_eq!(after[name], before[name]);
    }
    assert_eq!(data(&world, "db-internal"), own);
    let uri = data(&world, "db-app")["uri"].0.clone();
    let uri = String::from_utf8(uri).unwrap();
    assert_eq!(uri, "rediss://app:another-one@db-rw.shop.svc:6379");
    // A restarted operator, which remembers nothing, leaves all of it as it is.
    start(&mut world);
    world.quiet().await;
    assert_eq!(roles(&world), after);
}

fn ask_for(world: &World, name: &str, redis: &serde_json::Value) {
    let access: Access = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Access",
        "metadata": {"namespace": "shop", "name": name, "generation": 1},
        "spec": {"target": {"kind": "Redis", "name": "db"}, "redis": redis},
    }))
    .unwrap();
    world.api.put(&access);
}

/// Whether a condition of a login holds, and what is said of it.
fn said(world: &World, name: &str, condition: &str) -> (bool, String) {
    let access: Access = world.api.get(SHOP, name).unwrap();
    let status = access.status.unwrap_or_default();
    let holds = conditions::is_true(&status.conditions, condition);
    (holds, status.message.unwrap_or_default())
}

/// Ask for the login `orders`, and wait until it is ready.
async fn has_orders(world: &mut World, redis: &serde_json::Value) {
    ask_for(world, "orders", redis);
    world
        .until("the login to be ready", |w| {
            said(w, "orders", conditions::READY).0
        })
        .await;
}

fn roles(world: &World) -> BTreeMap<String, Role> {
    existing_roles(&data(world, "db-access"))
}

fn check(password: &str) -> String {
    format!("#{}", hex(&Sha256::digest(password.as_bytes())))
}

#[tokio::test]
async fn a_login_has_a_secret_and_its_rights_and_ends_with_its_resource() {
    let mut world = World::new();
    // Asked for before there is a set: nothing is lost, and why it waits is said.
    ask_for(&world, "orders", &json!({"keys": ["orders:*"]}));
    start(&mut world);
    world
        .until("the login to wait for its set", |w| {
            said(w, "orders", conditions::READY)
                .1
                .contains("no Redis called db")
        })
        .await;
    create(&world, 2);
    world.settled().await;
    world
        .until("the login to be ready", |w| {
            said(w, "orders", conditions::READY).0
        })
        .await;
    let before = roles(&world);
    let own = data(&world, "orders");
    let text = |key: &str| String::from_utf8(own[key].0.clone()).unwrap();
    let password = text("password");
    assert_eq!(text("username"), "orders");
    assert_eq!(
        text("uri"),
        format!("rediss://orders:{password}@db-rw.shop.svc:6379")
    );
    assert_eq!(text("host"), "db-rw.shop.svc");
    assert!(text("ca.crt").contains("BEGIN CERTIFICATE"));
    assert_eq!(before["orders"].verifier, check(&password));
    assert!(before["orders"].attributes["rules"].contains("~orders:* "));
    world.rests().await;

    // Its password is changed: the former one is taken as well for a while.
    world.api.edit::<Secret>(SHOP, "orders", |secret| {
        let data = secret.data.as_mut().unwrap();
        data.insert("password".into(), ByteString(b"another-one".to_vec()));
    });
    let both = format!("{} {}", check("another-one"), check(&password));
    world
        .until("agents to be told", |w| {
            roles(w)["orders"].verifier == both && said(w, "orders", conditions::READY).0
        })
        .await;
    let others = |all: &BTreeMap<String, Role>| {
        let mut all = all.clone();
        all.remove("orders");
        all
    };
    assert_eq!(others(&roles(&world)), others(&before));

    // What cannot be, and came past the API server, changes nothing.
    world.api.edit::<Access>(SHOP, "orders", |access| {
        access.metadata.generation = Some(2);
        let redis = access.spec.redis.as_mut().unwrap();
        redis.categories = vec!["admin".into()];
    });
    world
        .until("it to be refused", |w| {
            said(w, "orders", conditions::STALLED)
                == (true, format!("spec.redis.categories: {CATEGORY}"))
        })
        .await;
    world.quiet().await;
    assert_eq!(roles(&world)["orders"].verifier, both);

    // It ends, and one of the same name that comes after has nothing of it.
    world.api.destroy::<Access>(SHOP, "orders");
    world
        .until("agents to be told of the end", |w| {
            !roles(w).contains_key("orders") && w.api.get::<Secret>(SHOP, "orders").is_none()
        })
        .await;
    assert_eq!(roles(&world), others(&before));
    has_orders(&mut world, &json!({"channels": ["*"]})).await;
    let verifier = roles(&world)["orders"].verifier.clone();
    assert!(!verifier.contains(' ') && verifier != check("another-one"));
    world.rests().await;
}

#[tokio::test]
async fn an_endpoint_for_clients_of_a_sentinel_comes_and_goes_and_no_pod_is_disturbed() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 2);
    has_orders(&mut world, &json!({"keys": ["orders:*"]})).await;
    world.settled().await;
    let pods = world.pod_uids();
    let secrets = ["db-app", "orders"];
    let before = secrets.map(|name| data(&world, name));
    let names = |w: &World, instance: &str| {
        let own = data(w, &format!("{instance}-tls"));
        let certificate = String::from_utf8(own["tls.crt"].0.clone()).unwrap();
        pki::facts(&certificate).unwrap().dns_names
    };
    let host = "db-sentinel.shop.svc".to_owned();
    assert!(!names(&world, "db-1").contains(&host));

    world.change(|redis| redis.spec.sentinel = Some(Sentinel {}));
    world
        .until("everything to be there", |w| {
            w.is_settled()
                && w.api.get::<Service>(SHOP, "db-sentinel").is_some()
                && ["db-1", "db-2"].iter().all(|i| names(w, i).contains(&host))
                && secrets
                    .iter()
                    .all(|name| data(w, name).contains_key("sentinel-host"))
        })
        .await;
    assert!(config(&world).engine.sentinel);
    for (name, before) in secrets.iter().zip(&before) {
        let mut now = data(&world, name);
        let text = |key: &str| String::from_utf8(now[key].0.clone()).unwrap();
        assert_eq!(text("sentinel-host"), host);
        assert_eq!(
            (text("sentinel-port"), text("sentinel-master")),
            ("26379".into(), "db".into())
        );
        now.retain(|key, _| !key.starts_with("sentinel-"));
        assert_eq!(now, *before, "{name}");
    }
    let policy: NetworkPolicy = world.api.get(SHOP, "db").unwrap();
    let open = |policy: NetworkPolicy| {
        let text = serde_json::to_string(&policy.spec).unwrap();
        text.matches("26379").count()
    };
    assert_eq!(open(policy), 1);
    world.rests().await;

    world.change(|redis| redis.spec.sentinel = None);
    world
        .until("everything to be gone", |w| {
            w.is_settled()
                && w.api.get::<Service>(SHOP, "db-sentinel").is_none()
                && ["db-1", "db-2"]
                    .iter()
                    .all(|i| !names(w, i).contains(&host))
        })
        .await;
    assert_eq!(secrets.map(|name| data(&world, name)), before);
    assert_eq!(open(world.api.get(SHOP, "db").unwrap()), 0);
    assert!(!config(&world).engine.sentinel);
    assert_eq!(world.pod_uids(), pods);
    world.rests().await;
}

#[tokio::test]
async fn a_secret_that_is_somebody_elses_is_left_alone() {
    let mut world = World::new();
    let theirs: Secret = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "orders"}, "stringData": {"password": "theirs"},
    }))
    .unwrap();
    world.api.put(&theirs);
    start(&mut world);
    create(&world, 1);
    world.settled().await;
    ask_for(&world, "orders", &json!({"keys": ["*"]}));
    // So are those of the set itself.
    ask_for(&world, "db-app", &json!({"keys": ["*"]}));
    let before = (data(&world, "db-app"), roles(&world));
    world
        .until("both to be told", |w| {
            said(w, "orders", conditions::READY)
                .1
                .contains("in the way")
                && said(w, "db-app", conditions::STALLED).0
        })
        .await;
    world.quiet().await;
    let left: Secret = world.api.get(SHOP, "orders").unwrap();
    assert_eq!(left.string_data, theirs.string_data);
    assert_eq!((data(&world, "db-app"), roles(&world)), before);
}

#[tokio::test]
async fn a_crash_at_any_write_keeps_one_password_of_a_login() {
    for strides in STRIDES {
        let mut world = World::new();
        world.crash_after_each(strides);
        start(&mut world);
        create(&world, 1);
        ask_for(&world, "orders", &json!({"keys": ["orders:*"]}));
        world
            .until("the login to be ready", |w| {
                !w.api.has_crashed() && said(w, "orders", conditions::READY).0
            })
            .await;
        world.crash_no_more();
        world.settled().await;
        let password = data(&world, "orders")["password"].0.clone();
        let password = String::from_utf8(password).unwrap();
        assert_eq!(roles(&world)["orders"].verifier, check(&password));
        world.api.destroy::<Access>(SHOP, "orders");
        world
            .until("its end", |w| !roles(w).contains_key("orders"))
            .await;
    }
}

#[tokio::test]
async fn another_image_in_the_catalogue_rolls_nothing() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 2);
    world.settled().await;
    let pods = world.pod_uids();
    start_with(&mut world, "8.0.3");
    world.quiet().await;
    assert_eq!(world.pod_uids(), pods);
    assert_eq!(world.status().image.as_deref(), Some("redis:8.0.2"));
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 1);
    world.settled().await;
    let pods = world.pod_uids();
    world.change(|redis| {
        redis.spec.durability = Some("quorum".into());
        redis.spec.instances = Some(3);
    });
    world
        .until("the resource to be refused", |w| w.stalled().is_some())
        .await;
    let (_, message) = world.stalled().unwrap();
    assert!(message.contains("Redis can promise no quorum"), "{message}");
    assert_eq!(world.pod_uids(), pods);
    world.change(|redis| redis.spec.durability = None);
    world.settled().await;
    assert_eq!(world.stalled(), None);
}

#[tokio::test]
async fn a_primary_that_loses_its_volume_is_not_begun_again() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 2);
    world.settled().await;
    let identifier = world.status().system_identifier;
    assert!(identifier.is_some());
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
    assert_eq!(world.claims(), ["db-2-data"]);
    assert!(world.api.get::<Pod>(SHOP, "db-1").is_none());
    assert_eq!(world.status().system_identifier, identifier);
}

#[tokio::test]
async fn a_set_of_another_kind_keeps_its_name() {
    let mut world = World::new();
    let lease: Lease = serde_json::from_value(json!({"metadata": {
        "namespace": "shop", "name": "db",
        "labels": {"app.kubernetes.io/managed-by": "mainstay", "app.kubernetes.io/name": "postgres"},
    }}))
    .unwrap();
    world.api.put(&lease);
    start(&mut world);
    create(&world, 1);
    world
        .until("the name to be refused", |w| w.stalled().is_some())
        .await;
    let (reason, message) = world.stalled().unwrap();
    assert_eq!(reason, "NameTaken");
    assert!(message.contains("under another name"), "{message}");
    assert!(world.api.list::<Service>().is_empty());
    // The other one goes.
    world.api.destroy::<Lease>(SHOP, "db");
    world.settled().await;
    assert_eq!(world.stalled(), None);
}

#[tokio::test]
async fn the_end_keeps_data_and_passwords_and_a_new_set_adopts_them() {
    let mut world = World::new();
    start(&mut world);
    create(&world, 2);
    world.settled().await;
    let (password, own) = (
        data(&world, "db-app")["password"].clone(),
        data(&world, "db-internal"),
    );
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Redis>(SHOP, "db").is_none()
        })
        .await;
    assert_eq!(world.claims().len(), 2);

    create(&world, 2);
    world.change(|redis| {
        redis.spec.deletion = Some(Deletion {
            volumes: Some(KeptVolumes::Delete),
            ..Deletion::default()
        });
    });
    world.settled().await;
    assert_eq!(data(&world, "db-app")["password"], password);
    assert_eq!(data(&world, "db-internal"), own);
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Redis>(SHOP, "db").is_none()
        })
        .await;
    assert!(world.claims().is_empty(), "{:?}", world.claims());
    let secrets = world.api.list::<Secret>();
    let names: Vec<String> = secrets.iter().map(ResourceExt::name_any).collect();
    assert!(names.is_empty(), "{names:?}");
}

async fn delete(world: &World) {
    let api: kube::Api<Redis> = kube::Api::namespaced(world.api.client(), "shop");
    let parameters = kube::api::DeleteParams::default();
    api.delete("db", &parameters).await.unwrap();
}
