//! What apply writes to an API server, and what it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests say what they expect

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use mainstay_crds::postgres::{Postgres, PostgresStatus};
use mainstay_shared::apply::inventory::{self, Seen};
use mainstay_shared::apply::io::{self, Created, Deleted};
use mainstay_shared::apply::{Cause, Object, Why};
use mainstay_shared::names::{MANAGED_BY, MANAGER, SET_UID};
use mainstay_testkit::api::{FakeApi, Fault, Rule, Verb};
use mainstay_testkit::fixtures;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<K>(value: Value) -> Object
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let typed: K = serde_json::from_value(value).unwrap();
    Object::of(&typed).unwrap()
}

fn meta(name: &str) -> Value {
    json!({"namespace": "shop", "name": name, "labels": {MANAGED_BY: MANAGER, SET_UID: "u"}})
}

/// Objects as a set has them, with the fields that the API server fills in left out.
fn desired() -> Vec<Object> {
    vec![
        object::<ConfigMap>(json!({"metadata": meta("db-config"), "data": {"set.json": "{}"}})),
        object::<Service>(
            json!({"metadata": meta("db-rw"), "spec": {"ports": [{"name": "sql", "port": 5432}]}}),
        ),
        object::<Service>(
            json!({"metadata": meta("db-peers"), "spec": {"clusterIP": "None",
            "publishNotReadyAddresses": true, "selector": {"app": "db"},
            "ports": [{"name": "sql", "port": 5432}, {"name": "agent", "port": 8443}]}}),
        ),
        object::<Secret>(json!({"metadata": meta("db-access"), "stringData": {"app": "x"}})),
        object::<ServiceAccount>(
            json!({"metadata": meta("db"), "automountServiceAccountToken": false}),
        ),
        object::<Role>(
            json!({"metadata": meta("db"), "rules": [{"apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"], "resourceNames": ["db"], "verbs": ["get", "update"]}]}),
        ),
        object::<RoleBinding>(json!({"metadata": meta("db"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "db"},
            "subjects": [{"kind": "ServiceAccount", "name": "db", "namespace": "shop"}]})),
        object::<PodDisruptionBudget>(json!({"metadata": meta("db"),
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "db"}}}})),
        object::<NetworkPolicy>(
            json!({"metadata": meta("db"), "spec": {"podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Ingress", "Egress"], "egress": [],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 5432}]}]}}),
        ),
    ]
}

fn live(api: &FakeApi) -> Vec<Object> {
    fn all<K>(api: &FakeApi) -> Vec<Object>
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        api.list::<K>()
            .iter()
            .map(|typed| Object::of(typed).unwrap())
            .collect()
    }
    [
        all::<ConfigMap>(api),
        all::<Service>(api),
        all::<Secret>(api),
        all::<ServiceAccount>(api),
        all::<Role>(api),
        all::<RoleBinding>(api),
        all::<PodDisruptionBudget>(api),
        all::<NetworkPolicy>(api),
    ]
    .concat()
}

#[tokio::test]
async fn a_second_pass_writes_nothing() {
    let api = FakeApi::new();
    let client = api.client();
    let first = io::apply_all(&client, &desired(), &live(&api)).await;
    assert!(first.errors.is_empty(), "{:?}", first.errors);
    assert_eq!(first.applied.len(), desired().len());
    api.forget_requests();
    let second = io::apply_all(&client, &desired(), &live(&api)).await;
    assert!(second.applied.is_empty(), "{:?}", second.applied);
    assert_eq!(api.requests(), []);
}

#[tokio::test]
async fn drift_is_repaired_and_then_left_alone_and_what_others_add_stays() {
    let api = FakeApi::new();
    let client = api.client();
    io::apply_all(&client, &desired(), &live(&api)).await;
    api.edit::<Service>(Some("shop"), "db-peers", |service| {
        let spec = service.spec.as_mut().unwrap();
        spec.selector
            .as_mut()
            .unwrap()
            .insert("evil".into(), "yes".into());
        service
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("team".into(), "t".into());
    });
    let report = io::apply_all(&client, &desired(), &live(&api)).await;
    let why: Vec<_> = report
        .applied
        .iter()
        .map(|(key, why)| (key.name.as_str(), why))
        .collect();
    assert_eq!(
        why,
        [("db-peers", &Why::Drifted("spec.selector.evil".into()))]
    );
    let repaired: Service = api.get(Some("shop"), "db-peers").unwrap();
    assert_eq!(repaired.spec.unwrap().selector.unwrap().len(), 1);
    assert_eq!(repaired.metadata.labels.unwrap()["team"], "t");
    let settled = io::apply_all(&client, &desired(), &live(&api)).await;
    assert!(settled.applied.is_empty(), "{:?}", settled.applied);
}

#[tokio::test]
async fn a_label_that_is_not_wanted_any_more_goes() {
    let api = FakeApi::new();
    let client = api.client();
    let with = object::<ConfigMap>(
        json!({"metadata": {"namespace": "shop", "name": "c", "labels": {"a": "b"}}}),
    );
    let without = object::<ConfigMap>(json!({"metadata": {"namespace": "shop", "name": "c"}}));
    io::apply_all(&client, &[with], &live(&api)).await;
    io::apply_all(&client, std::slice::from_ref(&without), &live(&api)).await;
    let left: ConfigMap = api.get(Some("shop"), "c").unwrap();
    assert_eq!(left.metadata.labels, None);
    assert!(
        io::apply_all(&client, &[without], &live(&api))
            .await
            .applied
            .is_empty()
    );
}

#[tokio::test]
async fn objects_after_one_that_is_refused_are_applied_all_the_same() {
    let api = FakeApi::new();
    api.add_rule(
        Rule::new(Fault::Code(403))
            .verb(Verb::Apply)
            .resource("services"),
    );
    let report = io::apply_all(&api.client(), &desired(), &[]).await;
    assert_eq!(report.errors.len(), 2);
    assert_eq!(report.applied.len(), desired().len() - 2);
    assert!(
        report.errors[0]
            .to_string()
            .starts_with("cannot apply Service db-rw in namespace shop: ")
    );
}

#[tokio::test]
async fn a_pass_that_dies_at_any_write_is_finished_by_the_next() {
    for n in 1..=desired().len() {
        let api = FakeApi::new();
        api.crash_at_write(n);
        io::apply_all(&api.client(), &desired(), &[]).await;
        assert!(api.has_crashed());
        api.restart();
        io::apply_all(&api.client(), &desired(), &live(&api)).await;
        let settled = io::apply_all(&api.client(), &desired(), &live(&api)).await;
        assert!(
            settled.applied.is_empty() && settled.errors.is_empty(),
            "{n}: {settled:?}"
        );
        assert_eq!(live(&api).len(), desired().len());
    }
}

#[tokio::test]
async fn what_is_made_once_is_never_written_over() {
    let api = FakeApi::new();
    let client = api.client();
    let secret = |text: &str| {
        object::<Secret>(json!({"metadata": meta("db-app"), "stringData": {"password": text}}))
    };
    assert_eq!(
        io::create(&client, &secret("first")).await.unwrap(),
        Created::Made
    );
    assert_eq!(
        io::create(&client, &secret("second")).await.unwrap(),
        Created::Exists
    );
    let kept: Secret = api.get(Some("shop"), "db-app").unwrap();
    assert_eq!(kept.data.unwrap()["password"].0, b"first");
}

#[tokio::test]
async fn only_what_was_seen_is_deleted() {
    let api = FakeApi::new();
    let client = api.client();
    io::apply_all(&client, &desired(), &[]).await;
    let unwanted = inventory::prune("u", &live(&api), &desired()[1..]);
    let [config] = &unwanted[..] else {
        panic!("{unwanted:?}")
    };
    assert_eq!(config.key.name, "db-config");
    api.edit::<ConfigMap>(Some("shop"), "db-config", |map| map.data = None);
    assert_eq!(io::delete(&client, config).await.unwrap(), Deleted::Changed);
    let seen =
        Seen::of(&Object::of(&api.get::<ConfigMap>(Some("shop"), "db-config").unwrap()).unwrap());
    assert_eq!(
        io::delete(&client, &seen.clone().unwrap()).await.unwrap(),
        Deleted::Going
    );
    assert_eq!(
        io::delete(&client, &seen.unwrap()).await.unwrap(),
        Deleted::Gone
    );
}

#[tokio::test]
async fn a_status_never_lands_on_a_new_resource_of_the_same_name() {
    let api = FakeApi::new();
    let client = api.client();
    api.put(&fixtures::postgres("shop", "db", 1));
    let old: Postgres = api.get(Some("shop"), "db").unwrap();
    let status = PostgresStatus {
        primary: Some("db-1".into()),
        ..PostgresStatus::default()
    };
    io::write_status(&client, &old, &status).await.unwrap();
    assert_eq!(
        api.get::<Postgres>(Some("shop"), "db").unwrap().status,
        Some(status.clone())
    );
    api.destroy::<Postgres>(Some("shop"), "db");
    let gone = io::write_status(&client, &old, &status).await.unwrap_err();
    assert!(
        matches!(gone.cause, Cause::Conflict(_) | Cause::NotFound(_)),
        "{gone}"
    );
    api.put(&fixtures::postgres("shop", "db", 1));
    let refused = io::write_status(&client, &old, &status).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::Conflict(_)), "{refused}");
    assert_eq!(
        api.get::<Postgres>(Some("shop"), "db").unwrap().status,
        None
    );
}
