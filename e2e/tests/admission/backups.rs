//! `Backup` objects: bad ones, each with its exact sentence, changes that are not allowed, and how they read.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kube::api::{Api, Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::backup::Backup;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::sentences;
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::api::merge;
use serde_json::{Value, json};

use super::changes::{refused, unchanged};
use super::{Server, trial};

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    let bad = [
        (
            "a kind that is none",
            json!({"target": {"kind": "Deployment"}}),
            sentences::TARGET_KIND,
        ),
        (
            "no time at all",
            json!({"timeoutSeconds": 0}),
            rules::TIMEOUT,
        ),
        (
            "a month",
            json!({"timeoutSeconds": 2_592_000}),
            rules::TIMEOUT,
        ),
    ];
    let changes = [
        (
            "another target",
            json!({"target": {"name": "other"}}),
            rules::BACKUP_CHANGES,
        ),
        (
            "incremental now",
            json!({"incremental": true}),
            rules::BACKUP_CHANGES,
        ),
        (
            "a cancellation taken back",
            json!({"cancel": null}),
            sentences::CANCELLED,
        ),
    ];
    let mut trials = Vec::new();
    for (name, patch, sentence) in bad {
        let name = format!("backup::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            refused(self::api(&server), &backup("bad", &patch)?, sentence).await
        }));
    }
    for (number, (name, patch, sentence)) in changes.into_iter().enumerate() {
        let name = format!("backup::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            let good = backup(&format!("fixed-{number}"), &json!({"cancel": true}))?;
            unchanged(self::api(&server), &good, &patch, sentence).await
        }));
    }
    trials.push(trial("backup::can be selected and read", api, read));
    trials
}

fn backup(name: &str, spec: &Value) -> Result<Backup> {
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Backup", "metadata": {"name": name},
        "spec": {"target": {"kind": "Postgres", "name": "db"}},
    });
    merge(&mut object, &json!({ "spec": spec }));
    Ok(serde_json::from_value(object)?)
}

fn api(server: &Server) -> Api<Backup> {
    Api::namespaced(server.client.clone(), "shop")
}

async fn read(server: Server) -> Result<()> {
    let backups = api(&server);
    // As the schedule names them for a set with the longest name there may be.
    let name = format!("{}-202601020304", "a".repeat(50));
    let other = backup(&name, &json!({"target": {"name": "selected"}}))?;
    backups.create(&PostParams::default(), &other).await?;
    let status = json!({"status": {"phase": "Running", "progress": "42%", "instance": "selected-2",
        "message": "selected-2: copies files", "conditions": []}});
    let parameters = PatchParams::default();
    let patch = Patch::Merge(status);
    backups.patch_status(&name, &parameters, &patch).await?;
    let by = "spec.target.kind=Postgres,spec.target.name=selected";
    let found = backups
        .list(&kube::api::ListParams::default().fields(by))
        .await?;
    ensure!(found.items.len() == 1, "{:?}", found.items);
    let printed = server
        .api
        .kubectl(&["get", "backups", "--namespace", "shop", &name])
        .await?;
    let words = [
        "TARGET",
        "PHASE",
        "DONE",
        "42%",
        "selected-2",
        "copies files",
    ];
    for word in words {
        ensure!(printed.contains(word), "{word} is not in\n{printed}");
    }
    Ok(())
}
