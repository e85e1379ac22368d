//! Objects as a whole: what must hold for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mainstay_crds::common::{
    AllowedClient, DedicatedNodes, Durability, Enforcement, KeptVolumes, Placement, Requirement,
};
use mainstay_crds::postgres::pooler::PoolMode;
use mainstay_shared::access::Password;
use mainstay_shared::apply::{Object, inventory};
use mainstay_shared::metadata::SetId;
use mainstay_shared::operator::desired::{
    DesiredError, Surroundings, Template, certificate, claim,
};
use mainstay_shared::{names, pki};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "drill_tests.rs"]
mod drill;
#[path = "pooler/tests.rs"]
mod pooler;

use super::pod::pod;
use super::revision::revision;
use super::{config_map, credentials, objects, parameters};
use crate::validate::{Pooler, Validated};
use mainstay_shared::operator::validated::Common;
use mainstay_testkit::objects::{is_label, unrestricted};

/// A set called `db` in namespace `shop` with three instances and every default.
pub fn db() -> Validated {
    Validated {
        common: Common {
            set: SetId {
                api_version: "mainstay.dev/v1alpha1".into(),
                kind: "Postgres".into(),
                namespace: "shop".into(),
                name: "db".into(),
                uid: "6c1f4a52-0d5b-4e0e-9f4e-2f6d8f1d2a11".into(),
            },
            generation: 1,
            paused: false,
            instances: 3,
            image: "postgres:17.12".into(),
            image_is_named: true,
            image_pull_secrets: vec![],
            memory: 512 << 20,
            cpu_milli: 250,
            durability: Durability::Quorum,
            enforcement: Enforcement::Required,
            across_zones: true,
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
        major: 17,
        rejoin: mainstay_crds::common::Rejoin::Rewind,
        parameters: BTreeMap::new(),
        pooler: None,
        backup: None,
        recovery: None,
        timelines: 0,
        database: "app".into(),
        owner: "app".into(),
    }
}

fn zones() -> mainstay_shared::agent::config::Zones {
    [("node-1".to_owned(), "zone-1".to_owned())].into()
}

/// The same with poolers for both sides.
pub fn pooled() -> Validated {
    Validated {
        pooler: Some(Pooler {
            instances: 2,
            mode: PoolMode::Transaction,
            replicas: true,
            pool_size: 20,
            max_connections: 1000,
            pause_seconds: 5,
            cpu_milli: 100,
            memory: 64 << 20,
            image: "pgbouncer:1.24.1".into(),
            image_is_named: false,
        }),
        ..db()
    }
}

/// The same with backups, begun from another set's.
pub fn backed_up() -> Validated {
    let resource = serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "shop", "uid": db().common.set.uid},
        "spec": {
            "version": "17", "instances": 3, "image": "postgres:17.12", "storage": {"size": "20Gi"},
            "backup": {
                "repository": {
                    "s3": {"bucket": "backups", "endpoint": "https://store.example.com:9000"},
                    "credentials": "store", "authority": {"configMap": {"name": "store-ca"}},
                },
                "encryption": {"iAcceptKeyLoss": true},
                "schedule": {"cron": "30 2 * * *", "incrementals": 6},
            },
            "bootstrap": {"recovery": {
                "repository": {"gcs": {"bucket": "old"}, "credentials": "old-store", "prefix": "shop/old"},
                "keys": "old-keys",
            }},
        },
    }));
    let catalogue = crate::validate::Catalogue::default();
    crate::validate::validate(&resource.unwrap(), &catalogue).unwrap()
}

/// The same with its repository on a volume, made from another one there.
fn on_a_volume() -> Validated {
    let resource = serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "shop", "uid": db().common.set.uid},
        "spec": {
            "version": "17", "instances": 3, "image": "postgres:17.12", "storage": {"size": "20Gi"},
            "backup": {
                "repository": {"volume": {"claimName": "backups", "path": "postgres"}},
                "encryption": {"iAcceptKeyLoss": true},
            },
            "bootstrap": {"recovery": {
                "repository": {"volume": {"claimName": "backups"}, "prefix": "shop/old"},
                "keys": "old-keys",
            }},
        },
    }));
    let catalogue = crate::validate::Catalogue::default();
    crate::validate::validate(&resource.unwrap(), &catalogue).unwrap()
}

fn api_servers() -> BTreeSet<(IpAddr, u16)> {
    BTreeSet::from([([172, 30, 0, 1].into(), 6443)])
}

fn members(v: &Validated) -> Vec<String> {
    (1..=u32::try_from(v.common.instances).unwrap())
        .map(|n| names::instance(&v.common.set.name, n))
        .collect()
}

/// Everything but Secrets: the applied objects, the slice, and claim and pod of each instance.
fn all(v: &Validated) -> Vec<Object> {
    let members = members(v);
    let around = Surroundings {
        operator_namespace: "mainstay",
        api_servers: &api_servers(),
        members: &members,
        zones: &zones(),
        operator_image: "mainstay/postgres-operator:0.1.0",
        drilling: false,
        live: &[],
    };
    let made = objects(v, &around).unwrap();
    let revision = revision(v);
    let template = Template {
        operator_image: "mainstay/postgres-operator:0.1.0",
        seat: &members[0],
        revision: &revision,
        config_hash: &made.config_hash,
        identifier: None,
    };
    let mut all: Vec<Object> = made.apply.into_iter().chain(made.once).collect();
    for instance in &members {
        all.push(
            Object::of(&claim::claim(
                &v.common.set,
                instance,
                v.common.storage,
                v.common.storage_class.as_deref(),
            ))
            .unwrap(),
        );
        all.push(Object::of(&pod(v, instance, &template)).unwrap());
    }
    all
}

#[test]
fn each_object_as_it_is_written() {
    let mut v = db();
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

/// The pod of an instance.
fn pod_of(v: &Validated, instance: &str) -> Value {
    let all = all(v);
    let pod = all
        .iter()
        .find(|o| o.resource.kind == "Pod" && o.key().name == instance);
    pod.unwrap().value.clone()
}

#[test]
fn backups_run_beside_the_engine_and_read_only_what_they_need() {
    let v = backed_up();
    let pod = pod_of(&v, "db-2");
    let first = pod["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<_> = first.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["install", "backup"],
        "only the first instance is restored"
    );
    let sidecar = &first[1];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert!(sidecar["readinessProbe"].is_null() && sidecar["startupProbe"].is_null());
    assert_eq!(
        sidecar["image"], "postgres:17.12",
        "it runs the engine's own tools"
    );
    let mounts = |container: &Value| -> BTreeMap<String, bool> {
        let all = container["volumeMounts"].as_array().unwrap().iter();
        all.map(|m| {
            (
                m["name"].as_str().unwrap().to_owned(),
                m["readOnly"] == true,
            )
        })
        .collect()
    };
    let of = mounts(sidecar);
    assert!(of["data"] && of["backup-secrets"] && of["tls"] && of["config"] && of["bin"]);
    assert!(!of.contains_key("access") && !of.contains_key("service-account"));
    let engine = mounts(&pod["spec"]["containers"][0]);
    assert!(engine.contains_key("backup-run") && !engine.contains_key("backup-secrets"));
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let secrets = volumes
        .iter()
        .find(|v| v["name"] == "backup-secrets")
        .unwrap();
    for source in secrets["projected"]["sources"].as_array().unwrap() {
        let of = source.as_object().unwrap().values().next().unwrap();
        assert_eq!(of["optional"], true, "{of}: the database comes up without");
    }
    let pod = pod_of(&v, "db-1");
    let first = pod["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(first[1]["name"], "restore");
    assert!(!mounts(&first[1])["data"], "it writes the data");
}

#[test]
fn replicas_are_brought_back_from_the_sets_own_repository_once_it_has_data() {
    let mut v = on_a_volume();
    let before = revision(&v);
    v.backup.as_mut().unwrap().seed = true;
    assert_eq!(
        revision(&v),
        before,
        "pods that have data need not be made anew"
    );
    let revision = revision(&v);
    let of = |instance: &str, identifier| {
        let template = Template {
            operator_image: "operator:1",
            seat: "db-1",
            revision: &revision,
            config_hash: "1",
            identifier,
        };
        Object::of(&pod(&v, instance, &template)).unwrap().value
    };
    let names = |pod: &Value| -> Vec<String> {
        let first = pod["spec"]["initContainers"].as_array().unwrap().iter();
        first
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&of("db-2", None)), ["install", "backup"]);
    // Without data it is made from another repository.
    let founder = of("db-1", None);
    assert_eq!(names(&founder), ["install", "restore", "backup"]);
    assert_eq!(
        founder["spec"]["initContainers"][1]["args"],
        json!(["restore"])
    );
    for instance in ["db-1", "db-2"] {
        let pod = of(instance, Some("7"));
        assert_eq!(names(&pod), ["install", "restore", "backup"]);
        let seed = &pod["spec"]["initContainers"][1];
        let args = json!(["seed", "--identifier", "7", "--major", "17"]);
        assert_eq!(seed["args"], args);
        let mount = mounted(seed, "repository").unwrap();
        assert_eq!(
            mount,
            ("/mainstay/restore-repository/backups".to_owned(), true)
        );
        assert_eq!(claims(&pod).len(), 2);
        let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
        let secrets = volumes.filter(|v| v["name"] == "restore-secrets");
        let secrets: Vec<&Value> = secrets.collect();
        let source = &secrets[0]["projected"]["sources"][0]["secret"];
        assert_eq!(
            (secrets.len(), &source["name"]),
            (1, &json!("db-backup-keys"))
        );
        assert_eq!(
            mounted(&pod["spec"]["containers"][0], "restore-secrets"),
            None
        );
        assert_eq!(unrestricted(&pod), Vec::<String>::new());
    }
}

#[test]
fn what_backups_are_told_is_read_back_and_restarts_nothing() {
    use crate::backup::settings::{BACKUP_FILE, RESTORE_FILE, RestoreSettings, Settings};
    let v = backed_up();
    let members = members(&v);
    let (map, hash) = config_map::config_map(&v, &members, &zones()).unwrap();
    let data = map.data.unwrap();
    let read: Settings = serde_json::from_str(&data[BACKUP_FILE]).unwrap();
    assert_eq!(read, v.backup.as_ref().unwrap().settings);
    assert_eq!(read.repository.prefix, "shop/db");
    let read: RestoreSettings = serde_json::from_str(&data[RESTORE_FILE]).unwrap();
    assert_eq!(read, v.recovery.as_ref().unwrap().settings);
    let mut faster = v.clone();
    let backup = faster.backup.as_mut().unwrap();
    backup.settings.repository.concurrency = Some(8);
    backup.cron = mainstay_shared::backups::cron::Cron::daily("x");
    let (_, same) = config_map::config_map(&faster, &members, &zones()).unwrap();
    assert_eq!((same, revision(&faster)), (hash, revision(&v)));
    let mut elsewhere = v.clone();
    elsewhere.backup.as_mut().unwrap().access.credentials = Some("other".into());
    assert_ne!(revision(&elsewhere), revision(&v), "what is mounted");
    let config = config_map::config(&v, &members);
    assert!(config.engine.archive.is_some());
    assert!(config_map::config(&db(), &members).engine.archive.is_none());
}

/// Names of the volumes of a pod that are claims, and where a container mounts one of them, and for reading only.
fn claims(pod: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let claims = volumes.filter(|v| v["persistentVolumeClaim"].is_object());
    claims
        .map(|v| {
            (
                text(&v["name"]),
                text(&v["persistentVolumeClaim"]["claimName"]),
            )
        })
        .collect()
}

fn mounted(container: &Value, volume: &str) -> Option<(String, bool)> {
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["name"] == volume)?;
    let path = mount["mountPath"].as_str().unwrap();
    Some((path.to_owned(), mount["readOnly"] == true))
}

#[test]
fn a_repository_on_a_volume_is_mounted_where_it_is_written_and_read() {
    use crate::backup::settings::{REPOSITORY, RESTORE_REPOSITORY};
    let v = on_a_volume();
    let pod = pod_of(&v, "db-1");
    let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        all.iter().map(pair).collect()
    };
    let both = pairs(&[("data", "db-1-data"), ("repository", "backups")]);
    assert_eq!(claims(&pod), both, "a claim is there once");
    let first = pod["spec"]["initContainers"].as_array().unwrap();
    let at = |path: &str, claim: &str, read_only| Some((format!("{path}/{claim}"), read_only));
    assert_eq!(first[1]["name"], "restore");
    assert_eq!(
        mounted(&first[1], "repository"),
        at(RESTORE_REPOSITORY, "backups", true)
    );
    assert_eq!(first[2]["name"], "backup");
    assert_eq!(
        mounted(&first[2], "repository"),
        at(REPOSITORY, "backups", false)
    );
    let engine = &pod["spec"]["containers"][0];
    assert_eq!(mounted(engine, "repository"), None);
    assert_eq!(unrestricted(&pod), Vec::<String>::new());

    let mut elsewhere = v.clone();
    let recovery = elsewhere.recovery.as_mut().unwrap();
    recovery.access.claim = Some("old".into());
    let pod = pod_of(&elsewhere, "db-1");
    let three = pairs(&[
        ("data", "db-1-data"),
        ("repository", "backups"),
        ("restore-repository", "old"),
    ]);
    assert_eq!(claims(&pod), three);
    let restore = &pod["spec"]["initContainers"][1];
    assert_eq!(
        mounted(restore, "restore-repository"),
        at(RESTORE_REPOSITORY, "old", true)
    );
    assert_eq!(mounted(restore, "repository"), None);

    // Another claim makes other pods; another folder is told by a file.
    let mut moved = v.clone();
    moved.backup.as_mut().unwrap().access.claim = Some("other".into());
    assert_ne!(revision(&moved), revision(&v));
    assert_eq!(
        v.backup.as_ref().unwrap().place,
        "volume://backups/postgres/shop/db"
    );
    assert!(
        super::backup::stores(&v).is_empty(),
        "nothing goes over the network"
    );
}

#[test]
fn stores_are_reached_at_their_ports() {
    let all = all(&backed_up());
    let policy = all
        .iter()
        .find(|o| o.resource.kind == "NetworkPolicy")
        .unwrap();
    let out = policy.value["spec"]["egress"]
        .as_array()
        .unwrap()
        .last()
        .unwrap();
    let ports: Vec<_> = out["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["port"].as_i64())
        .collect();
    assert_eq!(ports, [Some(443), Some(9000)]);
}

#[test]
fn without_an_api_servers_address_nothing_is_made() {
    let around = Surroundings {
        operator_namespace: "mainstay",
        api_servers: &BTreeSet::new(),
        members: &[],
        zones: &zones(),
        operator_image: "mainstay/postgres-operator:0.1.0",
        drilling: false,
        live: &[],
    };
    assert!(matches!(
        objects(&db(), &around),
        Err(DesiredError::ApiServersUnknown)
    ));
}

#[test]
fn the_configuration_is_read_back_by_the_agents() {
    let members = members(&db());
    let (map, hash) = config_map::config_map(&db(), &members, &zones()).unwrap();
    let text = &map.data.unwrap()[mainstay_shared::agent::paths::CONFIG_FILE];
    let read: crate::settings::PostgresConfig = serde_json::from_str(text).unwrap();
    assert_eq!(read, config_map::config(&db(), &members));
    assert_eq!(hash, mainstay_shared::agent::config::hash(text));
}

#[test]
fn every_instance_serves_the_names_by_which_it_is_dialled() {
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let authority = pki::issue_authority("shop", "db", now).unwrap();
    let spec = certificate::leaf_spec(&db().common.set, "db-2", &[], db().common.certificate_hours);
    let leaf = pki::issue_leaf(&authority, &spec, now).unwrap();
    let facts = pki::facts(&leaf.certificate).unwrap();
    for name in [
        names::instance_host("db-2", "db", "shop"),
        "db-rw.shop.svc".into(),
        "db-ro.shop.svc.cluster.local".into(),
        "localhost".into(),
    ] {
        assert!(facts.dns_names.contains(&name), "{name}");
    }
    let secret = certificate::authority_secret(&db().common.set, "mainstay", &authority);
    assert_eq!(secret.metadata.namespace.as_deref(), Some("mainstay"));
    let public = certificate::leaf_secret(&db().common.set, "db-2", &leaf);
    let text = serde_json::to_string(&plain(&Object::of(&public).unwrap())).unwrap();
    assert!(
        !text.contains(authority.key.expose()),
        "the authority's key stays at home"
    );
}

/// The object with the content of a Secret readable.
fn plain(object: &Object) -> Value {
    let mut value = object.value.clone();
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        for entry in data.values_mut() {
            let decoded = STANDARD.decode(entry.as_str().unwrap_or_default());
            if let Some(text) = decoded.ok().and_then(|b| String::from_utf8(b).ok()) {
                *entry = Value::String(text);
            }
        }
    }
    value
}

prop_compose! {
    fn any_resource()(
        name in "[a-z]([-a-z0-9]{0,48}[a-z0-9])?",
        namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        instances in 1..=9_i32,
        memory in 128_i64..100_000,
        storage in 1_i64..100_000,
        major in prop::sample::select(vec![15_u32, 16, 17, 18]),
        cpu_milli in 10_i64..64_000,
        pull in prop::collection::vec("[a-z]{1,10}", 0..3),
        dedicated in any::<bool>(),
        strict in any::<bool>(),
        backups in any::<bool>(),
    ) -> Validated {
        let wish = if strict { Requirement::Required } else { Requirement::Preferred };
        let placement = Placement {
            zones: Some(wish),
            nodes: Some(wish),
            dedicated_nodes: dedicated.then(|| DedicatedNodes {
                key: "example.com/for".into(),
                value: "databases".into(),
            }),
            ..Placement::default()
        };
        let of = if backups { backed_up() } else { db() };
        Validated {
            common: Common {
                set: SetId { name, namespace, ..of.common.set },
                instances,
                memory: memory << 20,
                storage: storage << 30,
                cpu_milli,
                image_pull_secrets: pull,
                durability: Durability::effective(None, instances),
                placement: Some(placement),
                ..of.common
            },
            major,
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
            let labels = object.value["metadata"]["labels"].as_object().unwrap();
            for value in labels.values() {
                prop_assert!(value.as_str().unwrap().len() <= 63);
            }
            // What Kubernetes collects with the resource is not what keeps data, and the reverse.
            let owned = object.value["metadata"]["ownerReferences"].is_array();
            prop_assert_eq!(owned, object.label(names::PART).is_none(), "{}", key);
            prop_assert!(seen.insert(key));
        }
    }

    #[test]
    fn every_pod_is_restricted(v in any_resource()) {
        for object in all(&v).iter().filter(|o| o.resource.kind == "Pod") {
            prop_assert_eq!(unrestricted(&object.value), Vec::<String>::new());
            let spec = &object.value["spec"];
            prop_assert!(is_label(spec["hostname"].as_str().unwrap()));
            prop_assert!(is_label(spec["subdomain"].as_str().unwrap()));
        }
    }

    #[test]
    fn sizes_fit_into_the_instance(v in any_resource()) {
        let p = parameters::parameters(&v);
        let mib = |name: &str| p[name].strip_suffix("MB").unwrap().parse::<i64>().unwrap() << 20;
        prop_assert!(mib("shared_buffers") <= v.common.memory / 4 + (16 << 20));
        prop_assert!(mib("maintenance_work_mem") <= v.common.memory / 4);
        let log = mib("max_wal_size") + mib("wal_keep_size")
            + (i64::from(parameters::slot_wal_mib(v.common.storage)) << 20);
        prop_assert!(log <= v.common.storage * 2 / 5, "log takes {log} of {}", v.common.storage);
    }

    #[test]
    fn only_the_applications_secret_holds_the_password(v in any_resource(), entropy: [u8; 32]) {
        let password = Password::from_entropy(&entropy);
        let app = credentials::application_secret(&v, &password, "PEM");
        let access =
            credentials::access_secret(&v, &password, &BTreeMap::new(), &[7; 16]).unwrap();
        let holds = |o: &Object| plain(o).to_string().contains(password.expose());
        prop_assert!(holds(&Object::of(&app).unwrap()));
        prop_assert!(!holds(&Object::of(&access).unwrap()));
        for object in all(&v) {
            prop_assert!(!holds(&object), "{}", object.key());
        }
    }
}

#[test]
fn the_check_of_pods_finds_what_is_not_restricted() {
    let pods = all(&db());
    let good = &pods
        .iter()
        .find(|o| o.resource.kind == "Pod")
        .unwrap()
        .value;
    for (path, value) in [
        ("/spec/containers/0/securityContext/privileged", json!(true)),
        (
            "/spec/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        ("/spec/initContainers/0/resources/requests", json!({})),
        ("/spec/securityContext/runAsUser", json!(0)),
        (
            "/spec/volumes/0",
            json!({"name": "host", "hostPath": {"path": "/"}}),
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(!unrestricted(&bad).is_empty(), "{path}");
    }
}
