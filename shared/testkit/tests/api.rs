//! The semantics of the real API server that the fake one imitates, stated through a client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests say what they expect

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::{Api, ResourceExt};
use mainstay_crds::postgres::Postgres;
use mainstay_testkit::api::{FakeApi, Fault, Rule, Verb};
use mainstay_testkit::fixtures;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str, data: &Value) -> ConfigMap {
    from(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": data}))
}

fn maps(api: &FakeApi) -> Api<ConfigMap> {
    Api::namespaced(api.client(), "shop")
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_object_is_made_once_read_and_listed() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let made = maps
        .create(&PostParams::default(), &config_map("a", &json!({"k": "v"})))
        .await
        .unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some());
    assert!(made.creation_timestamp().is_some());
    let again = maps
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await;
    assert_eq!(code(again), (409, "AlreadyExists".into()));
    assert_eq!(maps.get("a").await.unwrap().data, made.data);
    assert_eq!(code(maps.get("b").await), (404, "NotFound".into()));
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap();
    let listed = maps
        .list(&ListParams::default().labels("app=b"))
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        2
    );
    let named: ConfigMap = from(json!({"metadata": {"generateName": "x-"}}));
    let first = maps.create(&PostParams::default(), &named).await.unwrap();
    let second = maps.create(&PostParams::default(), &named).await.unwrap();
    assert_ne!(first.name_any(), second.name_any());
}

#[tokio::test]
async fn a_replace_needs_the_version_it_was_made_on() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let made = maps
        .create(&PostParams::default(), &config_map("a", &json!({"k": "v"})))
        .await
        .unwrap();
    let mut first = made.clone();
    first.data = Some(BTreeMap::from([("k".into(), "1".into())]));
    maps.replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    assert_eq!(
        code(maps.replace("a", &PostParams::default(), &made).await),
        (409, "Conflict".into())
    );
    // Without a version it is unconditional.
    let mut blind = made.clone();
    blind.metadata.resource_version = None;
    maps.replace("a", &PostParams::default(), &blind)
        .await
        .unwrap();
    // With the uid of an object that is gone it makes none.
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(api.client(), "shop");
    let stale: Lease =
        from(json!({"metadata": {"name": "l", "uid": "gone", "resourceVersion": "1"}}));
    assert_eq!(
        code(leases.replace("l", &PostParams::default(), &stale).await),
        (409, "Conflict".into())
    );
}

#[tokio::test]
async fn a_delete_needs_the_uid_and_version_in_its_preconditions() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let made = maps
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let with = |uid: &str, version: &str| {
        DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
        })
    };
    let (uid, version) = (made.uid().unwrap(), made.resource_version().unwrap());
    assert_eq!(
        code(maps.delete("a", &with("other", &version)).await).0,
        409
    );
    assert_eq!(code(maps.delete("a", &with(&uid, "0")).await).0, 409);
    maps.delete("a", &with(&uid, &version)).await.unwrap();
    assert_eq!(code(maps.delete("a", &with(&uid, &version)).await).0, 404);
}

#[tokio::test]
async fn the_status_and_the_rest_are_written_apart_and_only_the_rest_raises_the_generation() {
    let api = FakeApi::new();
    let all: Api<Postgres> = Api::namespaced(api.client(), "shop");
    let made = all
        .create(&PostParams::default(), &fixtures::postgres("shop", "db", 3))
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let status = json!({"apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres",
        "metadata": {"name": "db"}, "status": {"primary": "db-1"}, "spec": {"instances": 9}});
    let apply = PatchParams::apply("m").force();
    let after = all
        .patch_status("db", &apply, &Patch::Apply(&status))
        .await
        .unwrap();
    assert_eq!(after.metadata.generation, Some(1));
    assert_eq!(after.status.unwrap().primary.as_deref(), Some("db-1"));
    assert_eq!(after.spec.instances, Some(3));
    let spec = json!({"spec": {"instances": 1}, "status": {"primary": "other"}});
    let after = all
        .patch("db", &PatchParams::default(), &Patch::Merge(&spec))
        .await
        .unwrap();
    assert_eq!(after.metadata.generation, Some(2));
    assert_eq!(after.status.unwrap().primary.as_deref(), Some("db-1"));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let after = all
        .patch("db", &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    assert_eq!(after.metadata.generation, Some(2));
}

#[tokio::test]
async fn an_apply_without_effect_changes_nothing_and_one_that_leaves_out_removes() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let full = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}},
        "data": {"k": "v", "l": "w"}});
    let ours = PatchParams::apply("ours").force();
    let first = maps.patch("a", &ours, &Patch::Apply(&full)).await.unwrap();
    let second = maps.patch("a", &ours, &Patch::Apply(&full)).await.unwrap();
    assert_eq!(first.resource_version(), second.resource_version());
    maps.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(&json!({"data": {"theirs": "1"}})),
    )
    .await
    .unwrap();
    let less = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let third = maps.patch("a", &ours, &Patch::Apply(&less)).await.unwrap();
    let expected = BTreeMap::from([("k".into(), "v".into()), ("theirs".into(), "1".into())]);
    assert_eq!(third.data, Some(expected));
    assert_eq!(third.metadata.labels, None);
    let clash = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "other"}});
    let timid = PatchParams::apply("another");
    assert_eq!(
        code(maps.patch("a", &timid, &Patch::Apply(&clash)).await).0,
        409
    );
    let bold = PatchParams::apply("another").force();
    maps.patch("a", &bold, &Patch::Apply(&clash)).await.unwrap();
}

#[tokio::test]
async fn finalizers_hold_an_object_and_the_last_one_lets_it_go() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let held: ConfigMap = from(json!({"metadata": {"name": "a", "finalizers": ["x/y"]}}));
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let going = maps.get("a").await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["x/y", "z/z"]}});
    assert_eq!(
        code(
            maps.patch("a", &PatchParams::default(), &Patch::Merge(&more))
                .await
        )
        .0,
        422
    );
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
    assert_eq!(code(maps.get("a").await).0, 404);
}

#[tokio::test]
async fn what_is_owned_goes_with_its_owners_when_garbage_is_collected() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let owner = maps
        .create(&PostParams::default(), &config_map("owner", &json!({})))
        .await
        .unwrap();
    let mut dependent = config_map("owned", &json!({}));
    dependent.metadata.owner_references = Some(vec![from(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().unwrap()}))]);
    maps.create(&PostParams::default(), &dependent)
        .await
        .unwrap();
    assert_eq!(api.collect_garbage(), 0);
    maps.delete("owner", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(api.collect_garbage(), 1);
    assert!(api.list::<ConfigMap>().is_empty());
}

#[tokio::test]
async fn a_pod_on_a_node_ends_gracefully_and_another_at_once() {
    let api = FakeApi::new();
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    for (name, node) in [("placed", json!("n1")), ("pending", Value::Null)] {
        let pod: Pod =
            from(json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}}));
        pods.create(&PostParams::default(), &pod).await.unwrap();
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    assert!(
        pods.get("placed")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    assert_eq!(code(pods.get("pending").await).0, 404);
    assert_eq!(api.end_deleted_pods(), ["placed"]);
    assert_eq!(code(pods.get("placed").await).0, 404);
}

#[tokio::test]
async fn services_and_secrets_are_filled_in() {
    let api = FakeApi::new();
    let services: Api<Service> = Api::namespaced(api.client(), "shop");
    let service: Service =
        from(json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 5432}]}}));
    let made = services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let port = &made.spec.unwrap().ports.unwrap()[0];
    assert_eq!(port.protocol.as_deref(), Some("TCP"));
    let secrets: Api<Secret> = Api::namespaced(api.client(), "shop");
    let secret: Secret = from(json!({"metadata": {"name": "s"}, "stringData": {"user": "app"}}));
    let made = secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    assert_eq!(made.data.unwrap()["user"].0, b"app");
    assert_eq!(made.string_data, None);
}

type Told = (String, String);

fn told(event: WatchEvent<ConfigMap>) -> Told {
    match event {
        WatchEvent::Added(o) => ("ADDED".into(), o.name_any()),
        WatchEvent::Modified(o) => ("MODIFIED".into(), o.name_any()),
        WatchEvent::Deleted(o) => ("DELETED".into(), o.name_any()),
        WatchEvent::Bookmark(_) => ("BOOKMARK".into(), String::new()),
        WatchEvent::Error(status) => ("ERROR".into(), status.code.to_string()),
    }
}

async fn next(
    stream: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> Option<Told> {
    tokio::time::timeout(Duration::from_secs(5), stream.try_next())
        .await
        .unwrap()
        .unwrap()
        .map(told)
}

#[tokio::test]
async fn a_watch_tells_what_happens_as_its_selector_sees_it() {
    let api = FakeApi::new();
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config_map("old", &json!({})))
        .await
        .unwrap();
    let version = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let parameters = WatchParams::default().labels("app=a");
    let mut stream = maps.watch(&parameters, &version).await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap();
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let relabel = json!({"metadata": {"labels": {"app": "z"}}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&relabel))
        .await
        .unwrap();
    let back = json!({"metadata": {"labels": {"app": "a"}}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&back))
        .await
        .unwrap();
    maps.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(&json!({"data": {"k": "v"}})),
    )
    .await
    .unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    for expected in ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"] {
        assert_eq!(next(&mut stream).await, Some((expected.into(), "a".into())));
    }
    api.cut_watches();
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_is_told_that_it_is_too_old() {
    let api = FakeApi::new();
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap();
    api.compact();
    let mut stream = maps
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    assert_eq!(
        next(&mut stream).await,
        Some(("ERROR".into(), "410".into()))
    );
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_lagging_watch_shows_the_past_until_it_may_catch_up() {
    let api = FakeApi::new();
    let maps = maps(&api);
    let mut stream = maps
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    api.lag_watches(1);
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(50), stream.try_next()).await;
    assert!(waiting.is_err(), "the event must not be seen yet");
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap();
    assert_eq!(next(&mut stream).await, Some(("ADDED".into(), "a".into())));
    api.lag_watches(0);
    assert_eq!(next(&mut stream).await, Some(("ADDED".into(), "b".into())));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_sends_bookmarks() {
    let api = FakeApi::new();
    let maps = maps(&api);
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let mut stream = maps
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    let event = tokio::time::timeout(Duration::from_mins(2), stream.try_next())
        .await
        .unwrap()
        .unwrap();
    let Some(WatchEvent::Bookmark(bookmark)) = event else {
        panic!("{event:?}")
    };
    assert_eq!(bookmark.metadata.resource_version, "1");
}

#[tokio::test]
async fn only_metadata_can_be_read_and_watched() {
    let api = FakeApi::new();
    maps(&api)
        .create(&PostParams::default(), &config_map("a", &json!({"k": "v"})))
        .await
        .unwrap();
    let maps = maps(&api);
    let listed = maps.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items[0].name_any(), "a");
    let stream = maps
        .watch_metadata(&WatchParams::default(), "0")
        .await
        .unwrap();
    let first = stream.boxed().try_next().await.unwrap();
    assert!(matches!(first, Some(WatchEvent::Added(object)) if object.name_any() == "a"));
}

#[tokio::test]
async fn faults_strike_whom_they_are_meant_for() {
    let api = FakeApi::new();
    let maps = maps(&api);
    api.add_rule(
        Rule::new(Fault::Conflict)
            .verb(Verb::Create)
            .resource("configmaps")
            .after(1)
            .times(1),
    );
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let second = maps
        .create(&PostParams::default(), &config_map("b", &json!({})))
        .await;
    assert_eq!(code(second), (409, "Conflict".into()));
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap();
    api.add_rule(Rule::new(Fault::Code(503)).client("test").times(1));
    assert_eq!(code(maps.get("a").await).0, 503);
    api.add_rule(Rule::new(Fault::LostAnswer).times(1));
    let lost = maps
        .create(&PostParams::default(), &config_map("c", &json!({})))
        .await;
    assert!(matches!(lost, Err(kube::Error::Service(_))), "{lost:?}");
    maps.get("c").await.expect("it had effect");
    api.add_rule(Rule::new(Fault::Unreachable).times(1));
    maps.create(&PostParams::default(), &config_map("d", &json!({})))
        .await
        .unwrap_err();
    assert_eq!(code(maps.get("d").await).0, 404);
    api.add_rule(Rule::new(Fault::Hang).times(1));
    let hung = tokio::time::timeout(Duration::from_millis(50), maps.get("a")).await;
    assert!(hung.is_err());
}

#[tokio::test]
async fn after_a_crash_nothing_answers_until_the_restart() {
    let api = FakeApi::new();
    let maps = maps(&api);
    api.crash_at_write(2);
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    maps.get("a").await.unwrap();
    maps.create(&PostParams::default(), &config_map("b", &json!({})))
        .await
        .unwrap_err();
    assert!(api.has_crashed());
    maps.get("a").await.unwrap_err();
    api.restart();
    maps.get("b")
        .await
        .expect("the write at which it crashed had effect");
}

#[tokio::test]
async fn every_request_is_recorded_with_what_came_of_it() {
    let api = FakeApi::new();
    let maps: Api<ConfigMap> = Api::namespaced(api.client_as("operator"), "shop");
    maps.get_opt("a").await.unwrap();
    maps.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let seen: Vec<_> = api
        .requests()
        .iter()
        .map(|r| (r.verb, r.name.clone(), r.code))
        .collect();
    assert_eq!(
        seen,
        [
            (Verb::Get, Some("a".into()), Some(404)),
            (Verb::Create, None, Some(201))
        ]
    );
    assert_eq!(api.writes().len(), 1);
    assert_eq!(api.writes()[0].client, "operator");
    api.forget_requests();
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn the_same_server_answers_over_http() {
    let api = FakeApi::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(api.clone().serve(listener));
    let uri = format!("http://{address}").parse().unwrap();
    let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    let mut stream = maps
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    maps.create(&PostParams::default(), &config_map("a", &json!({"k": "v"})))
        .await
        .unwrap();
    assert_eq!(next(&mut stream).await, Some(("ADDED".into(), "a".into())));
    assert!(api.get::<ConfigMap>(Some("shop"), "a").is_some());
    server.abort();
}
