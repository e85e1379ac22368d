//! Long ones: failures one after the other while an application writes.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::failures::signal;
use super::kit::{Look, READY, Sandbox};
use super::operators;
use crate::faults::process;

/// How often everything is broken once.
const ROUNDS: usize = 4;
/// Fewer acknowledged writes than this are no load.
const LOAD: u64 = 1000;

/// In rounds: a replica's pod, an agent, the primary's engine, the operators; each mended before the
/// next. What was acknowledged to an application that wrote all the time is there at the end.
pub async fn failures_under_load(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    begin(s).await?;
    for round in 0..ROUNDS {
        let replica = format!("db-{}", 2 + round % 2);
        s.delete::<Pod>(&replica, READY).await?;
        s.settled("db", READY).await?;
        let instance = format!("db-{}", 1 + round % 3);
        signal(s, &instance, "KILL", "/mainstay/bin/[a-z-]* agent").await?;
        s.settled("db", READY).await?;
        let before = started(s).await?;
        signal(s, "db-1", "KILL", "bin/postgres ").await?;
        s.until("the primary's engine to run again", READY, || async {
            Ok(match started(s).await {
                Ok(now) if now != before => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
        operators::kill(s).await?;
        s.settled("db", READY).await?;
    }
    let verdict = end(s).await?;
    let acknowledged = verdict["acknowledged"].as_u64().unwrap_or_default();
    ensure!(
        acknowledged > LOAD,
        "only {acknowledged} writes were acknowledged: {verdict}"
    );
    Ok(())
}

async fn started(s: &Sandbox<'_>) -> Result<String> {
    s.admin_sql("db-1", "select pg_postmaster_start_time()")
        .await
}

/// A pod that writes first, as an init container, and when that is told to stop checks its ledger.
async fn begin(s: &Sandbox<'_>) -> Result<()> {
    let container = |name: &str, args: &[&str]| {
        json!({
            "name": name,
            "image": s.ctx.images.workload,
            "args": args,
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "volumeMounts": [
                {"name": "binding", "mountPath": "/binding", "readOnly": true},
                {"name": "ledger", "mountPath": "/ledger"},
            ],
        })
    };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "writer", "labels": {"access.mainstay.dev/db": "allow"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [container("write", &["postgres", "write", "--ledger", "/ledger/entries"])],
            "containers": [container("verify", &["postgres", "verify", "--ledger", "/ledger/entries"])],
            "volumes": [
                {"name": "binding", "secret": {"secretName": "db-app", "defaultMode": 0o440}},
                {"name": "ledger", "emptyDir": {}},
            ],
        },
    }))?;
    s.api::<Pod>()
        .create(&kube::api::PostParams::default(), &pod)
        .await?;
    s.until("the application to write", READY, || async {
        Ok(match writers(s).await? {
            found if found.is_empty() => Look::NotYet("no such process yet".to_owned()),
            _ => Look::Done(()),
        })
    })
    .await
}

async fn writers(s: &Sandbox<'_>) -> Result<Vec<process::PodProcess>> {
    let pod = s.api::<Pod>().get("writer").await?;
    let uid = pod.uid().context("the writer's pod has no uid")?;
    Ok(process::of_pod(&uid, "postgres write")?)
}

/// Stop writing, and what the check of the ledger says.
async fn end(s: &Sandbox<'_>) -> Result<Value> {
    let writers = writers(s).await?;
    ensure!(
        !writers.is_empty(),
        "the application does not write any more"
    );
    for writer in writers {
        writer.signal(Signal::TERM)?;
    }
    let pods = s.api::<Pod>();
    let phase = s
        .until("the ledger to be checked", READY, || async {
            let phase = pods.get("writer").await?.status.and_then(|st| st.phase);
            Ok(match phase.as_deref() {
                Some("Succeeded" | "Failed") => Look::Done(phase.unwrap_or_default()),
                _ => Look::seen(&phase),
            })
        })
        .await?;
    let log = LogParams {
        container: Some("verify".to_owned()),
        ..LogParams::default()
    };
    let log = pods.logs("writer", &log).await?;
    if phase != "Succeeded" {
        bail!("the ledger does not hold: {log}");
    }
    let verdict = log.lines().find_map(|line| serde_json::from_str(line).ok());
    verdict.with_context(|| format!("no verdict in {log:?}"))
}
