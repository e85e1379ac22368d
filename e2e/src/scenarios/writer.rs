//! An application that writes all the while and keeps a ledger of what was acknowledged.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;

use crate::workload::ledger::Verdict;

use super::kit::{Look, READY, Sandbox};

/// A pod that writes a row every few milliseconds through the primary Service of the set `db`.
pub struct Writer<'a> {
    sandbox: &'a Sandbox<'a>,
}

impl<'a> Writer<'a> {
    /// Started on a node, and writing.
    pub async fn start(sandbox: &'a Sandbox<'a>, node: &str) -> Result<Self> {
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
                             "--connect-timeout", "1s", "--answer-timeout", "1s"],
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

    /// Wait until so many more rows were acknowledged.
    pub async fn more(&self, rows: usize) -> Result<Verdict> {
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

    /// Writes go on, and nothing that was acknowledged is lost. The longest pause, to be told.
    pub async fn holds(&self) -> Result<Duration> {
        let verdict = self.more(50).await?;
        ensure!(verdict.holds(), "{verdict}");
        Ok(verdict.gap())
    }
}
