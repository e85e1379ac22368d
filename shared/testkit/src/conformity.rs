//! What the fake API server imitates, as a script whose outcome the real one must share.
//!
//! The script runs on either; what comes out holds no times, uids or versions, so that both can be
//! compared line by line.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::{Api, Client, ResourceExt};
use mainstay_crds::postgres::Postgres;
use mainstay_shared::apply::Object;
use mainstay_shared::apply::io::apply_all;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fixtures;

/// Lines of what happened.
struct Log(Vec<String>);

impl Log {
    /// Note what came of a request: a refusal's code and reason, or what `show` picks of the object.
    fn note<T>(&mut self, what: &str, result: &Result<T, kube::Error>, show: impl Fn(&T) -> Value) {
        let line = match result {
            Ok(object) => format!("{what}: {}", show(object)),
            Err(kube::Error::Api(status)) => format!("{what}: {} {}", status.code, status.reason),
            Err(other) => format!("{what}: {other}"),
        };
        self.0.push(line);
    }
}

fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the kind")
}

fn quiet<T>(_: &T) -> Value {
    "done".into()
}

fn data(map: &ConfigMap) -> Value {
    json!([map.data, map.metadata.labels, map.metadata.finalizers])
}

/// Run the script in a namespace that exists and holds nothing of ours. Returns its lines.
///
/// # Panics
/// When a request that sets the stage fails.
pub async fn script(client: &Client, namespace: &str) -> Vec<String> {
    let mut log = Log(vec![]);
    writes(client, namespace, &mut log).await;
    applies(client, namespace, &mut log).await;
    deletes(client, namespace, &mut log).await;
    custom(client, namespace, &mut log).await;
    defaults(client, namespace, &mut log).await;
    watches(client, namespace, &mut log).await;
    log.0
}

async fn writes(client: &Client, namespace: &str, log: &mut Log) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let post = PostParams::default();
    let a: ConfigMap =
        from(json!({"metadata": {"name": "a", "labels": {"app": "x"}}, "data": {"k": "v"}}));
    let made = maps.create(&post, &a).await;
    log.note("create", &made, data);
    log.note("create again", &maps.create(&post, &a).await, data);
    let made = made.expect("it was made");
    log.note(
        "create with a version",
        &maps.create(&post, &made).await,
        data,
    );
    log.note("get what is not there", &maps.get("none").await, data);
    let mut next = made.clone();
    next.data = from(json!({"k": "w"}));
    log.note("replace", &maps.replace("a", &post, &next).await, data);
    log.note(
        "replace of an old version",
        &maps.replace("a", &post, &made).await,
        data,
    );
    let mut other = made.clone();
    (other.metadata.resource_version, other.metadata.uid) = (None, Some("other".into()));
    log.note(
        "replace of another uid",
        &maps.replace("a", &post, &other).await,
        data,
    );
    let absent: ConfigMap = from(json!({"metadata": {"name": "none"}}));
    log.note(
        "replace what is not there",
        &maps.replace("none", &post, &absent).await,
        data,
    );
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let gone: Lease =
        from(json!({"metadata": {"name": "l", "uid": "gone", "resourceVersion": "1"}}));
    log.note(
        "replace a lease that is gone",
        &leases.replace("l", &post, &gone).await,
        quiet,
    );
    let merge =
        Patch::Merge(json!({"data": {"k": null, "l": "1"}, "metadata": {"labels": {"b": "c"}}}));
    log.note(
        "merge",
        &maps.patch("a", &PatchParams::default(), &merge).await,
        data,
    );
    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}, "data": {"z": "z"}}));
    log.note(
        "merge on an old version",
        &maps.patch("a", &PatchParams::default(), &stale).await,
        data,
    );
    let listed = maps
        .list(&ListParams::default().labels("app=x,b in (c, d),!z"))
        .await;
    log.note("list", &listed, |list| {
        json!(
            list.items
                .iter()
                .map(ResourceExt::name_any)
                .collect::<Vec<_>>()
        )
    });
    let listed = maps
        .list(&ListParams::default().fields("metadata.name=a"))
        .await;
    log.note("list by name", &listed, |list| json!(list.items.len()));
}

async fn applies(client: &Client, namespace: &str, log: &mut Log) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let ours = PatchParams::apply("ours").force();
    let of = |meta: Value, data: Value| {
        let mut value =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data});
        value["metadata"]["name"] = "applied".into();
        Patch::Apply(value)
    };
    let full = of(
        json!({"labels": {"x": "y"}, "finalizers": ["test.mainstay.dev/a"]}),
        json!({"k": "v", "l": "w"}),
    );
    let first = maps.patch("applied", &ours, &full).await;
    log.note("apply", &first, data);
    let second = maps.patch("applied", &ours, &full).await;
    let version = |made: &Result<ConfigMap, kube::Error>| {
        made.as_ref().ok().and_then(ResourceExt::resource_version)
    };
    log.0.push(format!(
        "apply again changes: {}",
        version(&first) != version(&second)
    ));
    let theirs = Patch::Merge(json!({"data": {"theirs": "1"}, "metadata": {"labels": {"t": "u"}}}));
    log.note(
        "others add",
        &maps
            .patch("applied", &PatchParams::default(), &theirs)
            .await,
        data,
    );
    let less = of(json!({}), json!({"k": "v"}));
    log.note(
        "apply less",
        &maps.patch("applied", &ours, &less).await,
        data,
    );
    let clash = of(json!({}), json!({"k": "other"}));
    log.note(
        "apply against",
        &maps
            .patch("applied", &PatchParams::apply("b"), &clash)
            .await,
        data,
    );
    log.note(
        "apply by force",
        &maps
            .patch("applied", &PatchParams::apply("b").force(), &clash)
            .await,
        data,
    );
    log.note(
        "apply nothing",
        &maps
            .patch(
                "applied",
                &PatchParams::apply("b").force(),
                &of(json!({}), json!({})),
            )
            .await,
        data,
    );
    let gone = of(json!({"uid": "gone"}), json!({}));
    log.note(
        "apply to another uid",
        &maps.patch("applied", &ours, &gone).await,
        data,
    );
    let nameless = Patch::Apply(json!({"metadata": {"name": "applied"}}));
    log.note(
        "apply without kind",
        &maps.patch("applied", &ours, &nameless).await,
        data,
    );
}

async fn deletes(client: &Client, namespace: &str, log: &mut Log) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let a = maps.get("a").await.expect("a is there");
    let with = |uid: &str, version: &str| {
        let conditions = Preconditions {
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
        };
        DeleteParams::default().preconditions(conditions)
    };
    let (uid, version) = (
        a.uid().unwrap_or_default(),
        a.resource_version().unwrap_or_default(),
    );
    log.note(
        "delete another uid",
        &maps.delete("a", &with("other", &version)).await,
        |gone| json!(gone.is_left()),
    );
    log.note(
        "delete an old version",
        &maps.delete("a", &with(&uid, "1")).await,
        |gone| json!(gone.is_left()),
    );
    log.note(
        "delete",
        &maps.delete("a", &with(&uid, &version)).await,
        |gone| json!(gone.is_left()),
    );
    log.note(
        "delete again",
        &maps.delete("a", &with(&uid, &version)).await,
        |gone| json!(gone.is_left()),
    );
    let held: ConfigMap =
        from(json!({"metadata": {"name": "held", "finalizers": ["test.mainstay.dev/x"]}}));
    maps.create(&PostParams::default(), &held)
        .await
        .expect("it is made");
    log.note(
        "delete what is held",
        &maps.delete("held", &DeleteParams::default()).await,
        |gone| json!(gone.is_left()),
    );
    let going = maps.get("held").await;
    log.note("it goes", &going, |map| {
        json!(map.metadata.deletion_timestamp.is_some())
    });
    log.note(
        "delete it again",
        &maps.delete("held", &DeleteParams::default()).await,
        |gone| json!(gone.is_left()),
    );
    let more = Patch::Merge(
        json!({"metadata": {"finalizers": ["test.mainstay.dev/x", "test.mainstay.dev/y"]}}),
    );
    log.note(
        "hold it longer",
        &maps.patch("held", &PatchParams::default(), &more).await,
        data,
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    log.note(
        "let it go",
        &maps.patch("held", &PatchParams::default(), &release).await,
        quiet,
    );
    log.note("it is gone", &maps.get("held").await, data);
}

async fn custom(client: &Client, namespace: &str, log: &mut Log) {
    let all: Api<Postgres> = Api::namespaced(client.clone(), namespace);
    let show = |db: &Postgres| {
        let primary = db.status.as_ref().and_then(|status| status.primary.clone());
        json!([db.metadata.generation, db.spec.instances, primary])
    };
    let mut db = fixtures::postgres(namespace, "db", 3);
    db.status = Some(from(json!({"primary": "ignored"})));
    log.note(
        "create a resource",
        &all.create(&PostParams::default(), &db).await,
        show,
    );
    let (ours, patch) = (PatchParams::apply("ours").force(), PatchParams::default());
    let mut status = json!({"apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres",
        "metadata": {"name": "db"}, "status": {"primary": "db-1", "waiting": "w"}});
    log.note(
        "apply a status",
        &all.patch_status("db", &ours, &Patch::Apply(&status)).await,
        show,
    );
    status["status"] = json!({"waiting": "w"});
    log.note(
        "apply less of it",
        &all.patch_status("db", &ours, &Patch::Apply(&status)).await,
        show,
    );
    let spec = Patch::Merge(json!({"spec": {"instances": 1}, "status": {"primary": "other"}}));
    log.note(
        "change the spec",
        &all.patch("db", &patch, &spec).await,
        show,
    );
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    log.note(
        "change a label",
        &all.patch("db", &patch, &label).await,
        show,
    );
    log.note(
        "delete the resource",
        &all.delete("db", &DeleteParams::default()).await,
        quiet,
    );
    log.note(
        "status of what is gone",
        &all.patch_status("db", &ours, &Patch::Apply(&status)).await,
        show,
    );
}

async fn defaults(client: &Client, namespace: &str, log: &mut Log) {
    let post = PostParams::default();
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service: Service =
        from(json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 5432}]}}));
    log.note(
        "create a Service",
        &services.create(&post, &service).await,
        |service| {
            let mut spec = json!(service.spec);
            let assigned = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
            spec.as_object_mut()
                .into_iter()
                .for_each(|map| map.retain(|key, _| !assigned.contains(&key.as_str())));
            spec
        },
    );
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret: Secret = from(json!({"metadata": {"name": "s"}, "stringData": {"user": "app"}}));
    log.note(
        "create a Secret",
        &secrets.create(&post, &secret).await,
        |s| json!([s.data, s.type_, s.string_data]),
    );
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let policy: NetworkPolicy = from(
        json!({"metadata": {"name": "p"}, "spec": {"podSelector": {},
        "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 5432}], "from": [{"podSelector": {}}]}]}}),
    );
    log.note(
        "create a policy",
        &policies.create(&post, &policy).await,
        |policy| json!(policy.spec),
    );
}

async fn watches(client: &Client, namespace: &str, log: &mut Log) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let version = maps
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version;
    let parameters = WatchParams::default().labels("app=w");
    let stream = maps
        .watch(&parameters, &version.unwrap_or_default())
        .await
        .expect("a watch");
    let map = |name: &str, app: &str| -> ConfigMap {
        from(json!({"metadata": {"name": name, "labels": {"app": app}}}))
    };
    for (name, app) in [("w0", "z"), ("w1", "w")] {
        maps.create(&PostParams::default(), &map(name, app))
            .await
            .expect("it is made");
    }
    for app in ["z", "w"] {
        let label = Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
        maps.patch("w1", &PatchParams::default(), &label)
            .await
            .expect("it is labelled");
    }
    let change = Patch::Merge(json!({"data": {"k": "v"}}));
    maps.patch("w1", &PatchParams::default(), &change)
        .await
        .expect("it is changed");
    maps.patch("w1", &PatchParams::default(), &change)
        .await
        .expect("it stays");
    maps.delete("w1", &DeleteParams::default())
        .await
        .expect("it is deleted");
    let told = stream.take(5).try_collect::<Vec<WatchEvent<ConfigMap>>>();
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), told).await;
    for event in told.expect("five events in time").expect("a watch") {
        let (kind, map) = match event {
            WatchEvent::Added(map) => ("added", map),
            WatchEvent::Modified(map) => ("modified", map),
            WatchEvent::Deleted(map) => ("deleted", map),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
        };
        log.0
            .push(format!("told {kind}: {} {}", map.name_any(), data(&map)));
    }
}

/// Apply objects (of the kinds that operators apply; `namespace` is set in each), read them back, and
/// say what a second pass would still write: nothing, if apply knows the API server's ways.
///
/// # Panics
/// When a kind is unknown or an object cannot be applied or read.
pub async fn unsettled(client: &Client, namespace: &str, objects: &[Value]) -> Vec<String> {
    let desired: Vec<Object> = objects
        .iter()
        .map(|value| addressed(value, namespace))
        .collect();
    let report = apply_all(client, &desired, &[]).await;
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let mut live = vec![];
    for object in &desired {
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &object.resource);
        let read = api.get(&object.key().name).await.expect("it was applied");
        live.push(Object::dynamic(object.resource.clone(), &read).expect("JSON"));
    }
    let again = apply_all(client, &desired, &live).await;
    again
        .applied
        .iter()
        .map(|(key, why)| format!("{key}: {why}"))
        .collect()
}

fn addressed(value: &Value, namespace: &str) -> Object {
    let mut value = value.clone();
    value["metadata"]["namespace"] = namespace.into();
    let version = value["apiVersion"].as_str().expect("a version").to_owned();
    let kind = value["kind"].as_str().expect("a kind").to_owned();
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let gvk = kube::core::GroupVersionKind::gvk(group, version, &kind);
    Object {
        resource: kube::core::ApiResource::from_gvk(&gvk),
        value,
    }
}
