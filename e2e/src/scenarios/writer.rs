//! An application that writes all the while and keeps a ledger of what was acknowledged.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::workload::ledger::{self, Entry, Outcome, Verdict};

use super::kit::{Look, READY, Sandbox};

/// A pod that writes a row every few milliseconds through the primary Service of the set `db`.
pub struct Writer<'a> {
    sandbox: &'a Sandbox<'a>,
}

impl<'a> Writer<'a> {
    /// Started on a node, and writing. What nobody knows the outcome of it writes again if it is
    /// missing, or in any case.
    pub async fn start(sandbox: &'a Sandbox<'a>, node: &str, in_any_case: bool) -> Result<Self> {
        Self::bound(sandbox, node, in_any_case, json!(null)).await
    }

    /// The same through the set's pooler: what its Secret says of that is where the host usually is.
    pub async fn through_pooler(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
        let same = ["port", "database", "username", "password", "ca.crt"];
        let mut items = vec![json!({"key": "pooler-host", "path": "host"})];
        items.extend(same.map(|key| json!({"key": key, "path": key})));
        Self::bound(sandbox, node, false, json!(items)).await
    }

    async fn bound(
        sandbox: &'a Sandbox<'a>,
        node: &str,
        in_any_case: bool,
        items: Value,
    ) -> Result<Self> {
        // A pooler makes clients wait, and answers.
        let patience = if items.is_null() { "1s" } else { "15s" };
        let mut args = vec![
            "postgres",
            "write",
            "--ledger",
            "/ledger/ledger",
            "--connect-timeout",
            "1s",
            "--answer-timeout",
            patience,
        ];
        if in_any_case {
            args.push("--retries-write");
        }
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
                    "args": args,
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
                    {"name": "binding", "secret": {"secretName": "db-app", "defaultMode": 0o440, "items": items}},
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
    pub async fn verdict(&self) -> Result<Verdict> {
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

    /// The ledger.
    pub async fn ledger(&self) -> Result<Vec<Entry>> {
        let print = [
            "/mainstay-workload",
            "postgres",
            "ledger",
            "--ledger",
            "/ledger/ledger",
        ];
        let text = self.sandbox.exec("writer", "writer", &print).await?;
        // What is printed lacks the end of its last line.
        Ok(ledger::parse(&format!("{text}\n"))?)
    }

    /// Wait until so many more rows were acknowledged, whatever became of others. The ledger then.
    pub async fn more(&self, rows: usize) -> Result<Vec<Entry>> {
        let acknowledged = |entries: &[Entry]| {
            let all = entries.iter();
            all.filter(|e| e.outcome == Outcome::Acknowledged).count()
        };
        let before = self.ledger().await.map_or(0, |l| acknowledged(&l));
        self.sandbox
            .until(&format!("{rows} more rows"), READY, || async {
                Ok(match self.ledger().await {
                    Ok(entries) if acknowledged(&entries) >= before + rows => Look::Done(entries),
                    Ok(entries) => Look::seen(&entries.last()),
                    Err(error) => Look::NotYet(format!("{error:#}")),
                })
            })
            .await
    }

    /// Writes go on, and nothing that was acknowledged is lost. The longest pause, to be told.
    pub async fn holds(&self) -> Result<Duration> {
        self.more(50).await?;
        let verdict = self.verdict().await?;
        ensure!(verdict.holds(), "{verdict}");
        Ok(verdict.gap())
    }
}
