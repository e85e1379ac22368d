//! Operations: bad ones, each with its exact sentence, and changes that are not allowed.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kube::api::{Api, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::common::sentences;
use mainstay_crds::operation::Operation;
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::api::merge;
use serde_json::{Value, json};

use super::changes::{refused, unchanged};
use super::{Server, trial};

/// What is refused when it is made: its name, what differs from a good one, and the sentence.
fn bad() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "a kind that is none",
            json!({"target": {"kind": "Deployment"}}),
            sentences::TARGET_KIND,
        ),
        (
            "an instance that is no name",
            json!({"to": "DB 2"}),
            sentences::INSTANCE,
        ),
        (
            "an instance that takes over in a drill",
            json!({"action": "Drill"}),
            sentences::NOBODY_TAKES_OVER,
        ),
        (
            "keys that are destroyed in a switchover",
            json!({"destroyKeys": keys("db")}),
            sentences::KEYS_ARE_NAMED,
        ),
        (
            "nothing said of the keys",
            json!({"action": "DestroyKeys", "to": null}),
            sentences::KEYS_ARE_NAMED,
        ),
        (
            "keys of another set",
            json!({"action": "DestroyKeys", "to": null, "destroyKeys": keys("other")}),
            sentences::CONFIRM,
        ),
        (
            "keys without a word",
            json!({"action": "DestroyKeys", "to": null, "destroyKeys": keys("")}),
            sentences::CONFIRM,
        ),
        (
            "keys in two stores",
            json!({"action": "DestroyKeys", "to": null, "destroyKeys": {
                "confirm": "db",
                "repository": {"credentials": "store", "s3": {"bucket": "backups"}, "gcs": {"bucket": "backups"}},
            }}),
            mainstay_crds::common::backup::rules::ONE_STORE,
        ),
        (
            "a password in a switchover",
            json!({"rotatePassword": {}}),
            sentences::NO_PASSWORD,
        ),
        (
            "another password of PostgreSQL",
            json!({"action": "RotatePassword", "to": null}),
            sentences::ONE_PASSWORD,
        ),
        (
            "no time at all",
            json!({"timeoutSeconds": 0}),
            sentences::TIMEOUT,
        ),
        (
            "a week",
            json!({"timeoutSeconds": 604_800}),
            sentences::TIMEOUT,
        ),
    ]
}

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    let changes = [
        (
            "another target",
            json!({"target": {"name": "other"}}),
            sentences::OPERATION_CHANGES,
        ),
        (
            "another instance",
            json!({"to": "db-3"}),
            sentences::OPERATION_CHANGES,
        ),
        (
            "no instance any more",
            json!({"to": null}),
            sentences::OPERATION_CHANGES,
        ),
        (
            "a cancellation taken back",
            json!({"cancel": false}),
            sentences::CANCELLED,
        ),
    ];
    let mut trials = Vec::new();
    for (name, patch, sentence) in bad() {
        let name = format!("operation::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            refused(self::api(&server), &operation("bad", &patch)?, sentence).await
        }));
    }
    for (number, (name, patch, sentence)) in changes.into_iter().enumerate() {
        let name = format!("operation::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            let good = operation(&format!("fixed-{number}"), &json!({"cancel": true}))?;
            unchanged(self::api(&server), &good, &patch, sentence).await
        }));
    }
    trials.push(trial(
        "operation::keys are destroyed where that is confirmed, and stay named",
        api,
        destroyed,
    ));
    trials.push(trial(
        "operation::a login of a Redis gets another password, and stays named",
        api,
        rotated,
    ));
    trials.push(trial("operation::can be selected by target", api, selected));
    trials
}

fn keys(confirm: &str) -> Value {
    json!({
        "confirm": confirm,
        "repository": {"credentials": "store", "s3": {"bucket": "backups"}},
    })
}

fn operation(name: &str, spec: &Value) -> Result<Operation> {
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation", "metadata": {"name": name},
        "spec": {
            "target": {"kind": "Postgres", "name": "db"}, "action": "Switchover", "to": "db-2",
        },
    });
    merge(&mut object, &json!({ "spec": spec }));
    Ok(serde_json::from_value(object)?)
}

fn api(server: &Server) -> Api<Operation> {
    Api::namespaced(server.client.clone(), "shop")
}

async fn destroyed(server: Server) -> Result<()> {
    let asked = json!({"action": "DestroyKeys", "to": null, "destroyKeys": keys("db")});
    let good = operation("shred", &asked)?;
    let other = json!({"destroyKeys": {"escrowStays": true}});
    unchanged(api(&server), &good, &other, sentences::OPERATION_CHANGES).await
}

async fn rotated(server: Server) -> Result<()> {
    let asked = json!({
        "target": {"kind": "Redis"}, "action": "RotatePassword", "to": null, "rotatePassword": {"access": "orders"},
    });
    let good = operation("rotate", &asked)?;
    let other = json!({"rotatePassword": {"access": "prices"}});
    unchanged(api(&server), &good, &other, sentences::OPERATION_CHANGES).await
}

async fn selected(server: Server) -> Result<()> {
    let operations = api(&server);
    let other = operation("of-another", &json!({"target": {"name": "selected"}}))?;
    operations.create(&PostParams::default(), &other).await?;
    let by = "spec.target.kind=Postgres,spec.target.name=selected";
    let found = operations
        .list(&kube::api::ListParams::default().fields(by))
        .await?;
    ensure!(found.items.len() == 1, "{:?}", found.items);
    Ok(())
}
