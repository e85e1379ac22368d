use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mainstay_crds::common::{AllowedClient, Durability, Enforcement, KeptVolumes};
use mainstay_crds::redis::Redis;
use mainstay_shared::agent::config::Zones;
use mainstay_shared::apply::{Object, inventory};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::desired::{Surroundings, Template, certificate, claim};
use mainstay_shared::operator::validated::Common;
use mainstay_testkit::objects::{is_label, unrestricted};
use proptest::prelude::*;
use serde_json::json;

use super::config_map::config;
use super::objects;
use super::pod::pod;
use super::revision::revision;
use crate::settings::{Flavour, Persistence, ReplicasToWrite};
use crate::validate::{Catalogue, Validated, validate};

/// A set called `cache` in namespace `shop` with three instances and every default.
pub fn cache() -> Validated {
    Validated {
        common: Common {
            set: SetId {
                api_version: "mainstay.dev/v1alpha1".into(),
                kind: "Redis".into(),
                namespace: "shop".into(),
                name: "cache".into(),
                uid: "6c1f4a52-0d5b-4e0e-9f4e-2f6d8f1d2a11".into(),
            },
            generation: 1,
            paused: false,
            instances: 3,
            image: "redis:8.0.2".into(),
            image_is_named: true,
            image_pull_secrets: vec![],
            memory: 512 << 20,
            cpu_milli: 250,
            durability: Durability::Async,
            enforcement: Enforcement::Required,
            across_zones: false,
            max_lag: None,
            storage: 20 << 30,
            storage_class: None,
            certificate_hours: 2160,
            windows: mainstay_shared::rollout::Windows::default(),
            placement: None,
            clients: vec![],
            protected: true,
            volumes: KeptVolumes::Retain,
            backup: None,
            self_led: false,
        },
        flavour: Flavour::Redis,
        version: "8.0".into(),
        persistence: Persistence::Aof,
        replicas: Some(ReplicasToWrite {
            count: 1,
            max_lag_seconds: 10,
        }),
        policy: "noeviction".into(),
        parameters: BTreeMap::new(),
        sentinel: false,
        shards: None,
        backup: None,
        recovery: None,
        timelines: 0,
        formed: false,
    }
}

#[test]
fn it_is_what_a_resource_with_every_default_means() {
    let resource: Redis = serde_json::from_value(json!({
        "metadata": {
            "name": "cache", "namespace": "shop", "generation": 1, "uid": cache().common.set.uid,
        },
        "spec": {
            "version": "8.0", "instances": 3, "image": "redis:8.0.2", "storage": {"size": "20Gi"},
        },
    }))
    .unwrap();
    assert_eq!(validate(&resource, &Catalogue::default()), Ok(cache()));
}

fn api_servers() -> BTreeSet<(IpAddr, u16)> {
    BTreeSet::from([([172, 30, 0, 1].into(), 6443)])
}

/// Everything but Secrets: the applied objects, the slice, and claim and pod of each instance.
fn all(v: &Validated) -> Vec<Object> {
    let set = &v.common.set;
    let instances = 1..=u32::try_from(v.common.instances).unwrap();
    let members: Vec<String> = instances.map(|n| names::instance(&set.name, n)).collect();
    let around = Surroundings {
        operator_namespace: "mainstay",
        api_servers: &api_servers(),
        members: &members,
        zones: &Zones::new(),
        operator_image: "mainstay/redis-operator:0.1.0",
        drilling: false,
        live: &[],
    };
    let made = objects(v, &around).unwrap();
    let revision = revision(v);
    let template = Template {
        operator_image: "mainstay/redis-operator:0.1.0",
        seat: &members[0],
        revision: &revision,
        config_hash: &made.config_hash,
        identifier: None,
    };
    let mut all: Vec<Object> = made.apply.into_iter().chain(made.once).collect();
    for instance in &members {
        let class = v.common.storage_class.as_deref();
        let claim = claim::claim(set, instance, v.common.storage, class);
        all.push(Object::of(&claim).unwrap());
        all.push(Object::of(&pod(v, instance, &template)).unwrap());
    }
    all
}

#[test]
fn each_object_as_it_is_written() {
    let mut v = cache();
    v.common.clients = vec![AllowedClient {
        namespace_labels: Some(BTreeMap::from([("team".into(), "web".into())])),
        pod_labels: None,
    }];
    for object in all(&v) {
        let key = object.key();
        // One instance stands for all.
        if !key.name.contains("-2") && !key.name.contains("-3") {
            let name = format!("{}-{}", key.kind.to_lowercase(), key.name);
            insta::assert_json_snapshot!(name, object.value);
        }
    }
}

#[test]
fn agents_are_told_what_follows_from_other_fields() {
    let mut v = cache();
    v.parameters.insert("hz".into(), "20".into());
    let config = config(&v, &["cache-1".into()]);
    let parameters = &config.engine.parameters;
    assert_eq!(parameters["hz"], "20");
    assert_eq!(parameters["maxmemory"], (336 << 20).to_string());
    assert_eq!(parameters["maxmemory-policy"], "noeviction");
    assert_eq!(config.engine.replicas, v.replicas);
    assert!(!config.across_zones);
}

#[test]
fn a_pod_has_the_replicas_password_and_not_the_probes() {
    let all = all(&cache());
    let pod = all
        .iter()
        .find(|o| o.key().name == "cache-2" && o.resource.kind == "Pod");
    let volumes = &pod.unwrap().value["spec"]["volumes"];
    let mut volumes = volumes.as_array().unwrap().iter();
    let internal = volumes.find(|v| v["name"] == "internal").unwrap();
    assert_eq!(
        internal["secret"]["items"],
        json!([{"key": "replication", "path": "replication"}])
    );
}

prop_compose! {
    fn any_resource()(
        name in "[a-z]([-a-z0-9]{0,48}[a-z0-9])?",
        namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        instances in 1..=9_i32,
        memory in 256_i64..100_000,
        storage in 1_i64..100_000,
        valkey in any::<bool>(),
        pull in proptest::collection::vec("[a-z]{1,10}", 0..3),
    ) -> Validated {
        let of = cache();
        Validated {
            common: Common {
                set: SetId { name, namespace, ..of.common.set },
                instances,
                memory: memory << 20,
                storage: storage << 30,
                image_pull_secrets: pull,
                ..of.common
            },
            flavour: if valkey { Flavour::Valkey } else { Flavour::Redis },
            ..of
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_object_is_named_and_labelled_so_that_it_is_found(v in any_resource()) {
        let mut seen = BTreeSet::new();
        for object in all(&v) {
            let key = object.key();
            prop_assert!(is_label(&key.name), "{key}");
            prop_assert_eq!(key.namespace.as_deref(), Some(v.common.set.namespace.as_str()));
            prop_assert!(inventory::belongs(&object, &v.common.set.uid), "{}", key);
            prop_assert!(seen.insert(key));
        }
    }

    #[test]
    fn every_pod_is_restricted_and_its_data_leaves_room(v in any_resource()) {
        for object in all(&v).iter().filter(|o| o.resource.kind == "Pod") {
            prop_assert_eq!(unrestricted(&object.value), Vec::<String>::new());
        }
        let config = config(&v, &[]);
        let maxmemory: i64 = config.engine.parameters["maxmemory"].parse().unwrap();
        prop_assert!(maxmemory > 0 && maxmemory <= v.common.memory / 4 * 3);
    }
}

#[test]
fn nothing_is_made_while_no_api_server_is_known() {
    let v = cache();
    let around = Surroundings {
        operator_namespace: "mainstay",
        api_servers: &BTreeSet::new(),
        members: &[],
        zones: &Zones::new(),
        operator_image: "mainstay/redis-operator:0.1.0",
        drilling: false,
        live: &[],
    };
    assert!(objects(&v, &around).is_err());
}

#[path = "drill_tests.rs"]
mod drill;

/// The set with backups, and a beginning from those of another.
pub fn backed_up(beginning: bool) -> Validated {
    let mut spec = json!({
        "version": "8.0", "instances": 3, "image": "redis:8.0.2", "storage": {"size": "20Gi"},
        "parameters": {"databases": "64"},
        "backup": {
            "repository": {"s3": {"bucket": "backups"}, "credentials": "backup-store"},
            "encryption": {"iAcceptKeyLoss": true},
        },
    });
    if beginning {
        spec["bootstrap"] = json!({"recovery": {
            "repository": {"volume": {"claimName": "old"}, "prefix": "shop/old"},
            "keys": "old-keys", "backup": "20260102t030405z-0011223344556677",
        }});
    }
    let resource: Redis = serde_json::from_value(json!({
        "metadata": {"name": "cache", "namespace": "shop", "generation": 1, "uid": cache().common.set.uid},
        "spec": spec,
    }))
    .unwrap();
    validate(&resource, &Catalogue::default()).unwrap()
}

fn container<'a>(pod: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    let all = pod["spec"]["initContainers"].as_array().unwrap();
    all.iter().find(|c| c["name"] == name)
}

fn mounts(container: &serde_json::Value) -> BTreeSet<&str> {
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    mounts.map(|m| m["mountPath"].as_str().unwrap()).collect()
}

fn named<'a>(all: &'a [Object], kind: &str, name: &str) -> &'a serde_json::Value {
    let found = all
        .iter()
        .find(|o| o.resource.kind == kind && o.key().name == name);
    &found.unwrap().value
}

#[test]
fn who_makes_backups_has_neither_the_data_nor_the_engines_socket() {
    let all = all(&backed_up(false));
    let pod = named(&all, "Pod", "cache-2");
    let beside = container(pod, "backup").unwrap();
    assert_eq!(beside["restartPolicy"], "Always");
    assert_eq!(
        mounts(beside),
        BTreeSet::from([
            "/mainstay/backup-run",
            "/mainstay/backup-secrets",
            "/mainstay/bin",
            "/mainstay/config",
            "/mainstay/internal",
            "/mainstay/tls",
            "/tmp",
        ])
    );
    // Its password is the only one that it gets, and nothing keeps the pod from starting.
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let of = |name: &str| volumes.iter().find(|v| v["name"] == name).unwrap();
    let password = &of("backup-password")["secret"];
    assert_eq!(password["optional"], true);
    assert_eq!(
        password["items"],
        json!([{"key": "backup", "path": "backup"}])
    );
    for source in of("backup-secrets")["projected"]["sources"]
        .as_array()
        .unwrap()
    {
        assert_eq!(source["secret"]["optional"], true);
    }
    assert!(container(pod, "restore").is_none());
    let policy = named(&all, "NetworkPolicy", "cache").to_string();
    assert!(
        policy.contains("443") && policy.contains("9632"),
        "{policy}"
    );
}

#[test]
fn a_sentinel_has_a_service_over_all_agents_and_its_port_is_open_to_clients() {
    let mut v = cache();
    v.sentinel = true;
    let with = all(&v);
    let service = named(&with, "Service", "cache-sentinel");
    let spec = &service["spec"];
    assert_eq!(spec["ports"][0]["port"], 26379);
    assert_eq!(spec["publishNotReadyAddresses"], true);
    assert_eq!(spec["selector"], json!(v.common.set.selector()));
    let ingress = &named(&with, "NetworkPolicy", "cache")["spec"]["ingress"][2];
    let ports = ingress["ports"].as_array().unwrap().iter();
    let ports: Vec<_> = ports.map(|p| p["port"].as_u64()).collect();
    assert_eq!(ports, [Some(6379), Some(26379)]);
    let without = all(&cache());
    let names =
        |all: &[Object]| -> BTreeSet<String> { all.iter().map(|o| o.key().to_string()).collect() };
    let more: Vec<String> = names(&with).difference(&names(&without)).cloned().collect();
    assert_eq!(more.len(), 1, "{more:?}");
    // No pod is made anew for it.
    assert_eq!(revision(&v), revision(&cache()));
    for pod in ["cache-1", "cache-2"] {
        let spec = |all: &[Object]| named(all, "Pod", pod)["spec"].clone();
        assert_eq!(spec(&with), spec(&without));
    }
    assert!(
        !config(&cache(), &[])
            .render()
            .unwrap()
            .0
            .contains("sentinel")
    );
    assert!(config(&v, &[]).engine.sentinel);
}

#[test]
fn certificates_bear_the_name_of_the_sentinels_service_while_there_is_one() {
    use mainstay_shared::operator::engine::Engine;
    let mut v = cache();
    let spec = |v: &Validated| {
        let services = crate::engine::RedisEngine::services(v);
        certificate::leaf_spec(&v.common.set, "cache-2", &services, 24).dns_names
    };
    let host = "cache-sentinel.shop.svc".to_owned();
    assert!(!spec(&v).contains(&host));
    let before = spec(&v);
    v.sentinel = true;
    assert!(spec(&v).contains(&host));
    assert!(before.iter().all(|name| spec(&v).contains(name)));
}

#[test]
fn only_the_first_instance_is_made_from_a_repository_and_only_while_there_is_no_data() {
    let v = backed_up(true);
    let all = all(&v);
    let first = container(named(&all, "Pod", "cache-1"), "restore").unwrap();
    assert!(mounts(first).contains("/data"));
    assert!(mounts(first).contains("/mainstay/restore-repository/old"));
    assert!(!mounts(first).contains("/mainstay/internal"));
    assert!(container(named(&all, "Pod", "cache-2"), "restore").is_none());
    let revision = revision(&v);
    let template = Template {
        operator_image: "mainstay/redis-operator:0.1.0",
        seat: "cache-1",
        revision: &revision,
        config_hash: "hash",
        identifier: Some("0011"),
    };
    let later = Object::of(&pod(&v, "cache-1", &template)).unwrap();
    assert!(container(&later.value, "restore").is_none());
}

#[test]
fn containers_are_told_what_they_have_to_know() {
    let all = all(&backed_up(true));
    let files = &named(&all, "ConfigMap", "cache-config")["data"];
    let file = |name: &str| files[name].as_str().unwrap();
    let backup: crate::backup::settings::Settings =
        serde_json::from_str(file("backup.json")).unwrap();
    assert_eq!(backup.repository.prefix, "shop/cache");
    let restore: crate::backup::settings::RestoreSettings =
        serde_json::from_str(file("restore.json")).unwrap();
    assert_eq!(
        (restore.version.as_str(), restore.databases),
        ("8.0", Some(64))
    );
    assert_eq!(restore.repository.prefix, "shop/old");
    assert!(restore.backup.is_some());
}

#[test]
fn backups_make_pods_anew_once_and_their_schedule_does_not() {
    let mut v = backed_up(false);
    assert_ne!(revision(&v), revision(&cache()));
    let before = revision(&v);
    let backup = v.backup.as_mut().unwrap();
    backup.settings.repository.prefix = "elsewhere".into();
    backup.policy.count = Some(3);
    assert_eq!(revision(&v), before);
    v.backup.as_mut().unwrap().access.credentials = Some("others".into());
    assert_ne!(revision(&v), before);
}

#[test]
fn of_a_cluster_as_many_are_restored_as_it_has_shards_until_it_was_formed() {
    let resource: Redis = serde_json::from_value(json!({
        "metadata": {"name": "cache", "namespace": "shop", "generation": 1, "uid": cache().common.set.uid,
            "creationTimestamp": "2026-03-01T12:00:00Z"},
        "spec": {
            "version": "8.0", "mode": "Cluster", "shards": 3, "replicas": 1, "image": "redis:8.0.2",
            "storage": {"size": "20Gi"},
            "bootstrap": {"recovery": {
                "repository": {"volume": {"claimName": "old"}, "prefix": "shop/old"}, "keys": "old-keys",
            }},
        },
    }))
    .unwrap();
    let mut v = validate(&resource, &Catalogue::default()).unwrap();
    let restored = |v: &Validated| -> Vec<String> {
        let all = all(v);
        let pods = all.iter().filter(|o| o.resource.kind == "Pod");
        let restored = pods.filter(|pod| container(&pod.value, "restore").is_some());
        restored.map(|pod| pod.key().name).collect()
    };
    assert_eq!(restored(&v), ["cache-1", "cache-2", "cache-3"]);
    let told: crate::backup::settings::RestoreSettings = serde_json::from_str(
        named(&all(&v), "ConfigMap", "cache-config")["data"]["restore.json"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    let cluster = told.cluster.unwrap();
    assert_eq!((cluster.set.as_str(), cluster.shards), ("cache", 3));
    assert_eq!(cluster.uid, v.common.set.uid);
    assert_eq!(cluster.made, "2026-03-01T12:00:00Z".parse().ok());
    // One that loses its volume later receives from the others.
    v.formed = true;
    assert!(restored(&v).is_empty());
}
