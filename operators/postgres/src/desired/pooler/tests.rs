//! The objects of poolers.

use std::collections::BTreeSet;

use mainstay_shared::apply::{Key, Object};
use mainstay_shared::names;
use mainstay_shared::operator::desired::certificate::secret;
use mainstay_shared::pki;
use serde_json::{Value, json};

use super::{all, db, pooled, unrestricted};
use crate::desired::credentials;
use crate::desired::pooler::certificate;

fn keys(objects: &[Object]) -> BTreeSet<Key> {
    objects.iter().map(Object::key).collect()
}

fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Value {
    let found = |o: &&Object| o.resource.kind == kind && o.meta("name") == Some(name);
    &objects.iter().find(found).unwrap().value
}

#[test]
fn without_a_pooler_nothing_of_one_is_there() {
    let text = |objects: Vec<Object>| -> String {
        let all: Vec<String> = objects.iter().map(|o| o.value.to_string()).collect();
        all.join("\n")
    };
    assert!(!text(all(&db())).contains("pooler"));
    let (without, with) = (keys(&all(&db())), keys(&all(&pooled())));
    assert!(without.is_subset(&with));
    let added: Vec<String> = with
        .difference(&without)
        .map(|k| format!("{} {}", k.kind, k.name))
        .collect();
    assert_eq!(
        added,
        [
            "ConfigMap db-pooler",
            "Service db-pooler-peers",
            "Service db-pooler-ro",
            "Service db-pooler-rw",
            "Deployment db-pooler-ro",
            "Deployment db-pooler-rw",
            "NetworkPolicy db-pooler",
            "PodDisruptionBudget db-pooler-ro",
            "PodDisruptionBudget db-pooler-rw",
        ]
    );
}

#[test]
fn a_pod_of_a_pooler_is_restricted_and_none_of_the_sets_own() {
    let objects = all(&pooled());
    let own =
        find(&objects, "PodDisruptionBudget", "db")["spec"]["selector"]["matchLabels"].clone();
    for (side, component) in [("rw", "db-pooler-rw"), ("ro", "db-pooler-ro")] {
        let template = &find(&objects, "Deployment", component)["spec"]["template"];
        assert_eq!(unrestricted(template), [] as [&str; 0]);
        let labels = &template["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/component"], side);
        let matches = |selector: &Value| {
            let wanted = selector.as_object().unwrap();
            wanted.iter().all(|(key, value)| labels[key] == *value)
        };
        assert!(!matches(&own), "the set's budget counts it");
        for service in ["db-pooler-rw", "db-pooler-ro"] {
            let selector = &find(&objects, "Service", service)["spec"]["selector"];
            assert_eq!(matches(selector), service == component);
        }
        assert!(matches(
            &find(&objects, "Service", "db-pooler-peers")["spec"]["selector"]
        ));
        assert!(matches(
            &find(&objects, "NetworkPolicy", "db-pooler")["spec"]["podSelector"]["matchLabels"]
        ));
        assert_eq!(template["spec"]["automountServiceAccountToken"], false);
    }
}

#[test]
fn running_pods_keep_their_images_until_the_user_changes_them() {
    let image =
        |object: &Value, kind: &str| object["spec"]["template"]["spec"][kind][0]["image"].clone();
    let deployment = |v: &crate::validate::Validated, operator: &str, live: Option<&Object>| {
        let pooler = v.pooler.as_ref().unwrap();
        let side = crate::pooler::config::Side::Primary;
        let made = crate::desired::pooler::deployment_of(v, pooler, side, operator, live);
        Object::of(&made).unwrap()
    };
    let first = deployment(&pooled(), "operator:1", None);
    assert_eq!(image(&first.value, "initContainers"), "operator:1");
    let mut newer = pooled();
    newer.pooler.as_mut().unwrap().image = "pgbouncer:1.25.0".into();
    let same = deployment(&newer, "operator:2", Some(&first));
    assert_eq!(
        same, first,
        "neither the operator nor its catalogue rolls pods"
    );
    newer.pooler.as_mut().unwrap().pool_size = 5;
    assert_eq!(deployment(&newer, "operator:2", Some(&first)), first);
    newer.pooler.as_mut().unwrap().memory *= 2;
    let changed = deployment(&newer, "operator:2", Some(&first));
    assert_eq!(image(&changed.value, "initContainers"), "operator:2");
    assert_eq!(image(&changed.value, "containers"), "pgbouncer:1.25.0");
    let mut named = pooled();
    let pooler = named.pooler.as_mut().unwrap();
    (pooler.image, pooler.image_is_named) = ("mine:1".into(), true);
    let changed = deployment(&named, "operator:1", Some(&first));
    assert_eq!(image(&changed.value, "containers"), "mine:1");
}

#[test]
fn the_secret_tells_the_way_through_the_pooler_beside_the_other() {
    let password = mainstay_shared::access::Password::from_bytes(b"p@ss").unwrap();
    let keys = |v: &crate::validate::Validated| {
        let data = credentials::application_secret(v, &password, "PEM").data;
        data.unwrap()
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8(value.0).unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (before, mut after) = (keys(&db()), keys(&pooled()));
    let mut take = |key: &str| after.remove(key).unwrap();
    assert_eq!(take("pooler-host"), "db-pooler-rw.shop.svc");
    assert_eq!(take("pooler-replica-host"), "db-pooler-ro.shop.svc");
    assert_eq!(
        take("pooler-uri"),
        "postgresql://app:p%40ss@db-pooler-rw.shop.svc:5432/app?sslmode=verify-full"
    );
    assert_eq!(
        take("pooler-jdbc-uri"),
        "jdbc:postgresql://db-pooler-rw.shop.svc:5432/app?sslmode=verify-full"
    );
    assert_eq!(before, after, "the other keys stay as they are");
}

#[test]
fn the_certificate_bears_every_name_and_no_instances() {
    let spec = certificate::pooler_spec(&pooled());
    assert_eq!(spec.common_name, "pooler.mainstay");
    for name in [
        "db-pooler-rw.shop.svc",
        "db-pooler-ro.shop.svc.cluster.local",
        "db-pooler-peers.shop.svc",
    ] {
        assert!(spec.dns_names.iter().any(|n| n == name), "{name}");
    }
    assert!(!spec.dns_names.iter().any(|n| n.starts_with("db-rw")));
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let authority = pki::issue_authority("shop", "db", now).unwrap();
    let leaf = pki::issue_leaf(&authority, &spec, now).unwrap();
    let secret = secret(&pooled().common.set, &names::pooler("db"), &leaf);
    assert_eq!(secret.metadata.name.as_deref(), Some("db-pooler-tls"));
}

#[test]
fn what_the_pods_must_know_holds_no_secret_and_is_read_back() {
    let objects = all(&pooled());
    let text = &find(&objects, "ConfigMap", "db-pooler")["data"]["set.json"];
    let read: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(
        read,
        json!({"set": "db", "namespace": "shop", "mode": "transaction", "poolSize": 20,
            "maxConnections": 1000, "pauseSeconds": 5})
    );
    let agents = &find(&objects, "ConfigMap", "db-config")["data"]["set.json"];
    let agents: Value = serde_json::from_str(agents.as_str().unwrap()).unwrap();
    assert_eq!(agents["engine"]["pooler"], json!({"pauseSeconds": 5}));
}
