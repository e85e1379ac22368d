//! What the definition promises to users and operators: established, documented, with columns,
//! names and a status apart from the spec.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::postgres::Postgres;
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::postgres_cases::patched;
use serde_json::{Value, json};

use super::{Server, trial};

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    vec![
        trial(
            "definition::is established and structural",
            api,
            established,
        ),
        trial("definition::explains its fields", api, explained),
        trial("definition::has columns and short names", api, listed),
        trial("definition::keeps the status apart", api, status_apart),
        trial("definition::takes a full status", api, full_status),
        trial("definition::can be selected by version", api, selected),
    ]
}

/// Stores a resource under a name of its own.
async fn store(server: &Server, name: &str, patch: Value) -> Result<Api<Postgres>> {
    let mut resource = patched(&patch);
    resource["metadata"]["name"] = json!(name);
    let postgreses: Api<Postgres> = Api::namespaced(server.client.clone(), "shop");
    let resource: Postgres = serde_json::from_value(resource)?;
    postgreses.create(&PostParams::default(), &resource).await?;
    Ok(postgreses)
}

async fn established(server: Server) -> Result<()> {
    for name in ["postgreses.mainstay.dev", "redises.mainstay.dev"] {
        is_established(&server, name)
            .await
            .with_context(|| name.to_owned())?;
    }
    Ok(())
}

async fn is_established(server: &Server, name: &str) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    let definition = definitions.get(name).await?;
    let conditions = definition
        .status
        .and_then(|s| s.conditions)
        .unwrap_or_default();
    let is = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    ensure!(is("Established") && is("NamesAccepted"), "{conditions:?}");
    ensure!(!is("NonStructuralSchema"), "{conditions:?}");
    Ok(())
}

async fn explained(server: Server) -> Result<()> {
    for (field, words) in [
        ("pg", "A PostgreSQL with replicas"),
        ("pg.spec.durability", "When a write is acknowledged"),
        ("pg.spec.storage.size", "can grow and never shrink"),
        ("pg.spec.network.clients.podLabels", "Pods by labels"),
        ("pg.status.survives", "What can be lost right now"),
        ("rd", "A Redis or Valkey with replicas"),
        ("rd.spec.persistence", "What is on the volume"),
    ] {
        let text = server.api.kubectl(&["explain", field]).await?;
        // kubectl breaks lines at its own width.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(text.contains(words), "{field}: {text}");
    }
    Ok(())
}

async fn listed(server: Server) -> Result<()> {
    store(&server, "listed", json!({})).await?;
    for names in ["pg", "postgres", "postgreses", "mainstay"] {
        let text = server
            .api
            .kubectl(&["get", names, "--namespace", "shop"])
            .await?;
        let expected = [
            "NAME",
            "READY",
            "PRIMARY",
            "INSTANCES",
            "VERSION",
            "WAITING",
            "AGE",
        ];
        // The category has other kinds as well, each with a header of its own.
        let mut lines = text
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        ensure!(lines.any(|columns| columns == expected), "{names}: {text}");
    }
    Ok(())
}

async fn status_apart(server: Server) -> Result<()> {
    let postgreses = store(
        &server,
        "apart",
        json!({ "status": { "primary": "apart-9" } }),
    )
    .await?;
    let created = postgreses.get("apart").await?;
    ensure!(created.status.is_none(), "a user could set the status");

    let parameters = PatchParams::default();
    let both = json!({ "status": { "primary": "apart-1" }, "spec": { "instances": 5 } });
    postgreses
        .patch_status("apart", &parameters, &Patch::Merge(&both))
        .await?;
    let seen = postgreses.get("apart").await?;
    ensure!(
        seen.spec.instances == Some(3),
        "the status changed the spec"
    );
    let primary = seen.status.as_ref().and_then(|s| s.primary.as_deref());
    ensure!(primary == Some("apart-1"), "{:?}", seen.status);
    ensure!(
        seen.metadata.generation == Some(1),
        "a status counts as a change of the spec"
    );

    let spec = json!({ "spec": { "instances": 5 }, "status": { "primary": "apart-2" } });
    postgreses
        .patch("apart", &parameters, &Patch::Merge(&spec))
        .await?;
    let seen = postgreses.get("apart").await?;
    let primary = seen.status.as_ref().and_then(|s| s.primary.as_deref());
    ensure!(primary == Some("apart-1"), "the spec changed the status");
    ensure!(seen.metadata.generation == Some(2), "generation is not 2");
    Ok(())
}

/// Each field of the status is kept as written: none is unknown to the schema.
async fn full_status(server: Server) -> Result<()> {
    let postgreses = store(&server, "status", json!({})).await?;
    let at = "2026-11-21T10:00:00Z";
    let status = json!({
        "observedGeneration": 1,
        "conditions": [
            { "type": "Ready", "status": "True", "reason": "RoundTrip", "message": "m", "lastTransitionTime": at, "observedGeneration": 1 },
            { "type": "Stalled", "status": "False", "reason": "Fine", "message": "", "lastTransitionTime": at },
        ],
        "endpoints": { "primary": "db-rw.shop.svc:5432", "replicas": "db-ro.shop.svc:5432" },
        "secretRef": { "name": "db-app" },
        "version": "17.6",
        "image": "postgres:17.6",
        "primary": "db-1",
        "ready": "3/3",
        "systemIdentifier": "7560000000000000000",
        "durability": "quorum",
        "acknowledged": { "outlives": "Zone", "replicas": 1, "of": ["db-2", "db-3"], "maxLagBytes": 1 },
        "weakened": [{ "role": "batch", "database": "app", "setting": "synchronous_commit", "value": "off" }],
        "instances": [
            { "name": "db-1", "node": "n1", "zone": "a", "role": "Primary", "ready": true, "state": "s", "lagMiB": 0, "revision": "r" },
            { "name": "db-2", "role": "Unknown", "ready": false },
        ],
        "recovery": {
            "repository": "s3://b/shop/db", "owner": "00112233445566778899aabbccddeeff", "earliest": at, "latest": at,
            "lastBackup": { "id": "i", "at": at, "incremental": true, "bytes": 2, "storedBytes": 1 },
            "backups": 1, "storedBytes": 1, "nextBackup": at, "guarded": true, "keptByLocks": ["k until t"],
        },
        "survives": { "node": true, "zone": false, "reason": "one zone" },
        "certificates": [{ "name": "db-1", "servedSerial": "0a", "notAfter": at }],
        "pendingChanges": ["restart"],
        "waitingFor": [{ "step": "restart db-2", "predicate": "primary_last", "reason": "r", "since": at }],
        "waiting": "restart db-2",
    });
    let patch = json!({ "status": status });
    postgreses
        .patch_status(
            "status",
            &PatchParams::default().validation_strict(),
            &Patch::Merge(&patch),
        )
        .await?;
    let seen = postgreses.get("status").await?;
    let seen = serde_json::to_value(seen.status.context("no status")?)?;
    ensure!(seen == status, "written: {status:#}\nread: {seen:#}");
    Ok(())
}

async fn selected(server: Server) -> Result<()> {
    let older = json!({ "spec": { "version": "16" } });
    let postgreses = store(&server, "selected", older).await?;
    let found = postgreses
        .list(&ListParams::default().fields("spec.version=16"))
        .await?;
    let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
    ensure!(names == ["selected"], "{names:?}");
    Ok(())
}
