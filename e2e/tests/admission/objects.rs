//! The objects of a set as the operator writes them (its snapshots), sent with the operator's own
//! rights into a namespace that takes only restricted pods; and the rights that agents get by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use mainstay_e2e::apiserver::ApiServer;
use serde_json::Value;

use super::{Server, render, trial, workspace};

/// Where the operator's snapshot tests keep them.
const SNAPSHOTS: &str = "operators/postgres/src/desired/snapshots";
const OPERATOR: &str = "system:serviceaccount:mainstay-system:mainstay-postgres";
const AGENT: &str = "system:serviceaccount:objects:db";

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    vec![trial(
        "objects::are taken from the operator and give agents no more than they need",
        api,
        taken,
    )]
}

async fn taken(server: Server) -> Result<()> {
    let api = &server.api;
    let rights = render(api, "mainstay", &["templates/rbac.yaml"]).await?;
    api.kubectl(&["create", "namespace", "mainstay-system"])
        .await?;
    api.apply(&rights).await?;
    api.kubectl(&["create", "namespace", "objects"]).await?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    api.kubectl(&["label", "namespace", "objects", restricted])
        .await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.json");
    std::fs::write(&file, objects()?.to_string())?;
    let file = file.to_string_lossy();
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=mainstay",
        "--as",
        OPERATOR,
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

    for (verb, what, allowed) in [
        ("get", "leases/db", true),
        ("list", "leases/db", true),
        ("watch", "leases/db", true),
        ("update", "leases/db", true),
        ("update", "endpointslices/db-rw", true),
        ("delete", "leases/db", false),
        ("get", "leases/other", false),
        ("list", "leases", false),
        ("update", "endpointslices/db-ro", false),
        ("get", "secrets/db-app", false),
        ("get", "pods/db-1", false),
    ] {
        let ask = ["-n", "objects", "auth", "can-i", verb, what, "--as", AGENT];
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
            "-n", "objects", "auth", "can-i", verb, what, "--as", OPERATOR,
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
fn objects() -> Result<Value> {
    let mut items = snapshots()?;
    for object in &mut items {
        object["metadata"]["namespace"] = "objects".into();
        let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            subject["namespace"] = "objects".into();
        }
    }
    Ok(serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

/// Every object of a set, as the operator's snapshot tests keep them.
pub fn snapshots() -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(workspace()?.join(SNAPSHOTS))? {
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
