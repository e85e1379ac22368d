//! Logins: bad ones, each with its exact sentence, and changes that are not allowed.

use std::sync::Arc;

use anyhow::Result;
use kube::api::{Api, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::access::{
    Access, CATEGORIES, CATEGORY, GRANTS, NAME, PATTERN, TARGET, TARGET_CHANGES,
};
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::api::merge;
use serde_json::{Value, json};

use super::changes::{refused, unchanged};
use super::{Server, trial};

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    let bad = [
        (
            "of a PostgreSQL",
            json!({"target": {"kind": "Postgres"}}),
            TARGET,
        ),
        ("that may do nothing", json!({"redis": null}), GRANTS),
        (
            "with nothing to do it to",
            json!({"redis": {"keys": []}}),
            GRANTS,
        ),
        (
            "with a space in a key",
            json!({"redis": {"keys": ["a ~*"]}}),
            PATTERN,
        ),
        (
            "with an empty pattern",
            json!({"redis": {"channels": [""]}}),
            PATTERN,
        ),
        (
            "with a line's end",
            json!({"redis": {"readOnlyKeys": ["a\n+@all"]}}),
            PATTERN,
        ),
        (
            "with letters that are not ASCII",
            json!({"redis": {"keys": ["bücher:*"]}}),
            PATTERN,
        ),
        (
            "for the server",
            json!({"redis": {"categories": ["read", "admin"]}}),
            CATEGORY,
        ),
        (
            "with an at sign",
            json!({"redis": {"categories": ["@read"]}}),
            CATEGORY,
        ),
    ];
    let mut trials = Vec::new();
    for (name, patch, sentence) in bad {
        let name = format!("access::refused::one {name}");
        trials.push(trial(name, api, move |server| async move {
            refused(self::api(&server), &access("bad", &patch)?, sentence).await
        }));
    }
    for taken in [
        "app",
        "default",
        "cache-app",
        "cache-internal",
        "cache-1-tls",
    ] {
        let name = format!("access::refused::one called {taken}");
        trials.push(trial(name, api, move |server| async move {
            refused(self::api(&server), &access(taken, &json!({}))?, NAME).await
        }));
    }
    trials.push(trial("access::refused::another target", api, moved));
    trials.push(trial("access::accepted::everything there is", api, all));
    trials
}

fn access(name: &str, spec: &Value) -> Result<Access> {
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Access", "metadata": {"name": name},
        "spec": {"target": {"kind": "Redis", "name": "cache"}, "redis": {"keys": ["orders:*"]}},
    });
    merge(&mut object, &json!({ "spec": spec }));
    Ok(serde_json::from_value(object)?)
}

fn api(server: &Server) -> Api<Access> {
    Api::namespaced(server.client.clone(), "shop")
}

async fn moved(server: Server) -> Result<()> {
    let good = access("moved", &json!({}))?;
    let patch = json!({"target": {"name": "other"}});
    unchanged(api(&server), &good, &patch, TARGET_CHANGES).await
}

async fn all(server: Server) -> Result<()> {
    let everything = json!({"redis": {
        "keys": ["*", "orders:[0-9]*", "\"'{}%R~"], "readOnlyKeys": ["prices:*"], "channels": ["*"], "categories": CATEGORIES,
    }});
    let created = access("everything", &everything)?;
    api(&server)
        .create(&PostParams::default(), &created)
        .await?;
    Ok(())
}
