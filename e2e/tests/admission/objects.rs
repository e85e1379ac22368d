//! The objects of a set as the operator writes them (its snapshots), sent with the operator's own
//! rights into a namespace that takes only restricted pods; and the rights that agents get by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use mainstay_e2e::apiserver::ApiServer;
use serde_json::Value;

use super::{Server, render_with, trial, workspace};

/// A set as an operator's snapshot tests have it.
#[derive(Clone, Copy)]
struct Set {
    engine: &'static str,
    name: &'static str,
    namespace: &'static str,
}

const SETS: [Set; 2] = [
    Set {
        engine: "postgres",
        name: "db",
        namespace: "objects",
    },
    Set {
        engine: "redis",
        name: "cache",
        namespace: "objects-of-redis",
    },
];

impl Set {
    fn operator(self) -> String {
        format!(
            "system:serviceaccount:mainstay-system:mainstay-{}",
            self.engine
        )
    }

    fn agent(self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    vec![trial(
        "objects::are taken from the operator and give agents no more than they need",
        api,
        taken,
    )]
}

async fn taken(server: Server) -> Result<()> {
    let api = &server.api;
    let both = ["redis.enabled=true"];
    let rights = render_with(api, "mainstay", &["templates/rbac.yaml"], &both).await?;
    api.kubectl(&["create", "namespace", "mainstay-system"])
        .await?;
    api.apply(&rights).await?;
    for set in SETS {
        taken_of(api, set)
            .await
            .with_context(|| set.engine.to_owned())?;
    }
    Ok(())
}

async fn taken_of(api: &ApiServer, set: Set) -> Result<()> {
    let namespace = set.namespace;
    api.kubectl(&["create", "namespace", namespace]).await?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    api.kubectl(&["label", "namespace", namespace, restricted])
        .await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.json");
    std::fs::write(&file, objects(set)?.to_string())?;
    let file = file.to_string_lossy();
    let (operator, agent) = (set.operator(), set.agent());
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=mainstay",
        "--as",
        &operator,
        "-f",
    ];
    let apply: Vec<&str> = apply.into_iter().chain([file.as_ref()]).collect();
    api.kubectl(&apply).await?;
    let first = versions(api, &file).await?;
    api.kubectl(&apply).await?;
    let second = versions(api, &file).await?;
    // Claims and pods are made once and never applied.
    let applied = |key: &str| !key.starts_with("PersistentVolumeClaim") && !key.starts_with("Pod ");
    let changed: Vec<_> = first
        .iter()
        .filter(|(key, version)| applied(key) && second.get(*key) != Some(version))
        .collect();
    ensure!(changed.is_empty(), "the second time changed {changed:?}");

    let name = set.name;
    for (verb, what, allowed) in [
        ("get", format!("leases/{name}"), true),
        ("list", format!("leases/{name}"), true),
        ("watch", format!("leases/{name}"), true),
        ("update", format!("leases/{name}"), true),
        ("update", format!("endpointslices/{name}-rw"), true),
        ("delete", format!("leases/{name}"), false),
        ("get", "leases/other".to_owned(), false),
        ("list", "leases".to_owned(), false),
        ("update", format!("endpointslices/{name}-ro"), false),
        ("get", format!("secrets/{name}-app"), false),
        ("get", format!("pods/{name}-1"), false),
    ] {
        let ask = [
            "-n", namespace, "auth", "can-i", verb, &what, "--as", &agent,
        ];
        // It fails when the answer is no.
        let answer = api.kubectl(&ask).await.is_ok_and(|a| a.trim() == "yes");
        ensure!(answer == allowed, "an agent may {verb} {what}: {answer}");
    }
    // Of what users make it writes the status, and of a restore the finalizer.
    for (verb, what, allowed) in [
        ("watch", "restores.mainstay.dev", true),
        ("patch", "restores.mainstay.dev", true),
        ("create", "restores.mainstay.dev", false),
        ("delete", "restores.mainstay.dev", false),
        ("patch", "operations.mainstay.dev", false),
    ] {
        let ask = [
            "-n", namespace, "auth", "can-i", verb, what, "--as", &operator,
        ];
        let answer = api.kubectl(&ask).await.is_ok_and(|a| a.trim() == "yes");
        ensure!(
            answer == allowed,
            "the operator may {verb} {what}: {answer}"
        );
    }
    Ok(())
}

/// All of them as one list, in the namespace of this test.
fn objects(set: Set) -> Result<Value> {
    let mut items = of(set)?;
    for object in &mut items {
        object["metadata"]["namespace"] = set.namespace.into();
        let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            subject["namespace"] = set.namespace.into();
        }
    }
    Ok(serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

/// Every object of a PostgreSQL's set, as the operator's snapshot tests keep them.
pub fn snapshots() -> Result<Vec<Value>> {
    of(SETS[0])
}

fn of(set: Set) -> Result<Vec<Value>> {
    let folder = format!("operators/{}/src/desired/snapshots", set.engine);
    let mut items = Vec::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(workspace()?.join(folder))? {
        paths.push(entry?.path());
    }
    // By name a role comes before its binding, as the API server wants it.
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let object = text.splitn(3, "---\n").nth(2);
        let object = object.with_context(|| format!("{} is no snapshot", path.display()))?;
        items.push(serde_json::from_str(object)?);
    }
    ensure!(items.len() >= 10, "only {} snapshots", items.len());
    Ok(items)
}

/// Resource versions by kind and name.
async fn versions(api: &ApiServer, file: &str) -> Result<BTreeMap<String, String>> {
    let text = api.kubectl(&["get", "-f", file, "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array().context("no list")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .map(|o| {
            let meta = &o["metadata"];
            let key = format!("{} {}", text(&o["kind"]), text(&meta["name"]));
            (key, text(&meta["resourceVersion"]))
        })
        .collect())
}
