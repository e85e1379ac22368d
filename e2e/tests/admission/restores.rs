//! `Restore` objects: bad ones, each with its exact sentence, and changes that are not allowed.

use std::sync::Arc;

use anyhow::Result;
use kube::api::{Api, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::sentences;
use mainstay_crds::restore::Restore;
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
            "two moments",
            json!({"moment": {"lsn": "0/3000148"}}),
            rules::ONE_TARGET,
        ),
        (
            "a time that is none",
            json!({"moment": {"time": "yesterday"}}),
            rules::TIME,
        ),
        (
            "a backup by another name than its id",
            json!({"backup": "before-upgrade"}),
            rules::BACKUP_ID,
        ),
        (
            "no time at all",
            json!({"timeoutSeconds": 0}),
            sentences::RESTORE_TIMEOUT,
        ),
        (
            "a week",
            json!({"timeoutSeconds": 604_800}),
            sentences::RESTORE_TIMEOUT,
        ),
    ];
    let changes = [
        (
            "another target",
            json!({"target": {"name": "other"}}),
            sentences::RESTORE_CHANGES,
        ),
        (
            "another moment",
            json!({"moment": {"time": "2026-01-02T03:04:06Z"}}),
            sentences::RESTORE_CHANGES,
        ),
        (
            "no moment any more",
            json!({"moment": null}),
            sentences::RESTORE_CHANGES,
        ),
        (
            "another backup",
            json!({"backup": "20260102t030405z-0011223344556677"}),
            sentences::RESTORE_CHANGES,
        ),
        (
            "a cancellation taken back",
            json!({"cancel": false}),
            sentences::RESTORE_SAID,
        ),
        (
            "a confirmation taken back",
            json!({"confirm": null}),
            sentences::RESTORE_SAID,
        ),
        (
            "a way back that is taken back",
            json!({"revert": false}),
            sentences::RESTORE_SAID,
        ),
    ];
    let mut trials = Vec::new();
    for (name, patch, sentence) in bad {
        let name = format!("restore::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            refused(self::api(&server), &restore("bad", &patch)?, sentence).await
        }));
    }
    for (number, (name, patch, sentence)) in changes.into_iter().enumerate() {
        let name = format!("restore::refused::{name}");
        trials.push(trial(name, api, move |server| async move {
            let said = json!({"cancel": true, "confirm": true, "revert": true});
            let good = restore(&format!("restore-{number}"), &said)?;
            unchanged(self::api(&server), &good, &patch, sentence).await
        }));
    }
    trials.push(trial("restore::is taken as it should be", api, taken));
    trials
}

fn restore(name: &str, spec: &Value) -> Result<Restore> {
    let mut object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore", "metadata": {"name": name},
        "spec": {
            "target": {"kind": "Postgres", "name": "db"},
            "moment": {"time": "2026-01-02T03:04:05Z"},
        },
    });
    merge(&mut object, &json!({ "spec": spec }));
    Ok(serde_json::from_value(object)?)
}

fn api(server: &Server) -> Api<Restore> {
    Api::namespaced(server.client.clone(), "shop")
}

/// Every kind of moment, and none; what is said is said later as well.
async fn taken(server: Server) -> Result<()> {
    let restores = api(&server);
    let moments = [
        json!(null),
        json!({"time": null, "lsn": "1/A0000028"}),
        json!({"time": null, "xid": "731"}),
        json!({"time": null, "name": "before-upgrade"}),
    ];
    for (number, moment) in moments.iter().enumerate() {
        let object = restore(&format!("good-{number}"), &json!({"moment": moment}))?;
        restores.create(&PostParams::default(), &object).await?;
    }
    for said in ["cancel", "confirm", "revert"] {
        let body = kube::api::Patch::Merge(json!({"spec": {said: true}}));
        restores
            .patch("good-0", &kube::api::PatchParams::default(), &body)
            .await?;
    }
    Ok(())
}
