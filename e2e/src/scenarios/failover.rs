//! The primary is lost or leaves, and a replica takes over. A client writes all the while and keeps
//! a ledger of what was acknowledged.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use crate::workload::ledger::Verdict;

use super::failures::{faults, node_of};
use super::kit::{Look, READY, Sandbox};

/// A pod that writes a row every few milliseconds through the primary Service.
struct Writer<'a> {
    sandbox: &'a Sandbox<'a>,
}

impl<'a> Writer<'a> {
    /// Started on a node, and writing.
    async fn start(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "writer", "labels": {"access.mainstay.dev/db": "allow"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                    "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "writer",
                    "image": sandbox.ctx.images.workload,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["postgres", "write", "--ledger", "/ledger/ledger",
                             "--connect-timeout", "1s", "--answer-timeout", "2s"],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "binding", "mountPath": "/binding", "readOnly": true},
                        {"name": "ledger", "mountPath": "/ledger"},
                    ],
                }],
                "volumes": [
                    {"name": "binding", "secret": {"secretName": "db-app", "defaultMode": 0o440}},
                    {"name": "ledger", "emptyDir": {}},
                ],
            },
        }))?;
        sandbox
            .api::<Pod>()
            .create(&PostParams::default(), &pod)
            .await?;
        let writer = Self { sandbox };
        writer.more(100).await?;
        Ok(writer)
    }

    /// What the ledger and the primary say.
    async fn verdict(&self) -> Result<Verdict> {
        let verify = [
            "/mainstay-workload",
            "postgres",
            "verify",
            "--ledger",
            "/ledger/ledger",
        ];
        let text = self.sandbox.exec("writer", "writer", &verify).await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Wait until so many more rows were acknowledged.
    async fn more(&self, rows: usize) -> Result<Verdict> {
        let before = self.verdict().await.map_or(0, |v| v.acknowledged);
        self.sandbox
            .until(&format!("{rows} more rows"), READY, || async {
                Ok(match self.verdict().await {
                    Ok(v) if v.acknowledged >= before + rows => Look::Done(v),
                    other => Look::seen(&other),
                })
            })
            .await
    }

    /// Nothing acknowledged is lost, and the longest pause was at most this.
    async fn holds(&self, most: Duration) -> Result<()> {
        let verdict = self.more(50).await?;
        println!(
            "   longest gap {:?}, {} rows",
            verdict.gap(),
            verdict.acknowledged
        );
        ensure!(verdict.holds(), "{verdict}");
        ensure!(
            verdict.gap() <= most,
            "writes paused for {:?}",
            verdict.gap()
        );
        Ok(())
    }
}

/// The primary's name, by the status.
pub async fn primary(s: &Sandbox<'_>, set: &str) -> Result<String> {
    let pg = s.api::<Postgres>().get(set).await?;
    let status = pg.status.unwrap_or_default();
    status.primary.context("the status names no primary")
}

/// Wait until another instance is primary.
async fn another_primary(s: &Sandbox<'_>, before: &str) -> Result<String> {
    s.until("another primary", READY, || async {
        Ok(match primary(s, "db").await {
            Ok(now) if now != before => Look::Done(now),
            other => Look::seen(&other),
        })
    })
    .await
}

/// A set with a writer on a node that is not the primary's. Returns the primary too.
async fn written<'a>(s: &'a Sandbox<'a>) -> Result<(Writer<'a>, String)> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    let before = primary(s, "db").await?;
    let replica = ["db-1", "db-2", "db-3"].into_iter().find(|i| *i != before);
    let node = node_of(s, replica.context("there are three")?).await?;
    Ok((Writer::start(s, &node).await?, before))
}

/// All instances hold the same rows, and stream.
async fn equal(s: &Sandbox<'_>) -> Result<()> {
    s.settled("db", READY).await?;
    let now = primary(s, "db").await?;
    let last = s
        .admin_sql_in(&now, "app", "select max(id) from mainstay_ledger")
        .await?;
    // Rows are written all the while: those up to here are compared.
    let sum = format!(
        "select count(*), md5(string_agg(id::text, ',' order by id)) from mainstay_ledger where id <= {last}"
    );
    let expected = s.admin_sql_in(&now, "app", &sum).await?;
    for instance in ["db-1", "db-2", "db-3"] {
        s.until(&format!("the rows on {instance}"), READY, || async {
            Ok(match s.admin_sql_in(instance, "app", &sum).await {
                Ok(rows) if rows == expected => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
    }
    Ok(())
}

/// The primary's pod is deleted without a goodbye.
pub async fn primary_killed(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    let force = DeleteParams::default().grace_period(0);
    s.api::<Pod>().delete(&before, &force).await?;
    another_primary(s, &before).await?;
    equal(s).await?;
    writer.holds(Duration::from_secs(20)).await
}

/// The primary's pod is deleted in order, as a drain or a rolling update does.
pub async fn primary_leaves(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    s.api::<Pod>()
        .delete(&before, &DeleteParams::default())
        .await?;
    another_primary(s, &before).await?;
    equal(s).await?;
    writer.holds(Duration::from_secs(20)).await
}

/// The primary's node is cut off; it comes back later, and its instance as a replica.
pub async fn primary_cut_off(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    let node = node_of(s, &before).await?;
    faults(s)?.cut(&node).await?;
    let outcome = another_primary(s, &before).await;
    let went_on = writer.more(100).await;
    faults(s)?.heal(&node).await?;
    outcome?;
    went_on?;
    equal(s).await?;
    writer.holds(Duration::from_secs(40)).await
}
