//! The operator dies, and is upgraded.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::failover::{primary, written};
use super::kit::{INSTANCES, Look, READY, Sandbox};

/// Namespace of the operators, as the chart's tests install them.
pub(crate) const SYSTEM: &str = "mainstay-system";

/// The operator of PostgreSQL.
const OPERATOR: &str = "mainstay-postgres";

/// Pods of the operators.
fn pods(s: &Sandbox<'_>) -> Api<Pod> {
    Api::namespaced(s.ctx.client.clone(), SYSTEM)
}

/// Kill the operator's pods without a goodbye.
pub(crate) async fn kill(s: &Sandbox<'_>) -> Result<()> {
    for pod in pods(s).list(&ListParams::default()).await? {
        pods(s)
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
    }
    Ok(())
}

/// It dies while it makes the set, while it scales and while it replaces pods.
pub async fn operator_restarted(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.until("the first pod", READY, || async {
        let n = s.pod_uids("db").await?.len();
        Ok(if n > 0 {
            Look::Done(())
        } else {
            Look::seen(&n)
        })
    })
    .await?;
    kill(s).await?;
    s.settled("db", READY).await?;
    s.admin_sql(
        "db-1",
        "create table t as select generate_series(1, 500) id",
    )
    .await?;
    let before = s.pod_uids("db").await?;
    s.change("db", &json!({"resources": {"memory": "300Mi"}}))
        .await?;
    s.until("the first replaced pod", READY, || async {
        let now = s.pod_uids("db").await?;
        Ok(if now == before {
            Look::seen(&now)
        } else {
            Look::Done(())
        })
    })
    .await?;
    kill(s).await?;
    s.settled("db", READY).await?;
    let now = s.pod_uids("db").await?;
    ensure!(
        before.iter().all(|pod| !now.contains(pod)),
        "not every pod was replaced"
    );
    let n = s.admin_sql("db-1", "select count(*) from t").await?;
    ensure!(n == "500", "{n} rows are left");
    Ok(())
}

/// When each engine was started.
async fn started(s: &Sandbox<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in INSTANCES {
        all.push(
            s.admin_sql(name, "select pg_postmaster_start_time()")
                .await?,
        );
    }
    Ok(all)
}

/// Programs of the agents, as the status tells them.
async fn agents(s: &Sandbox<'_>) -> Result<BTreeSet<String>> {
    let status = s
        .api::<Postgres>()
        .get("db")
        .await?
        .status
        .unwrap_or_default();
    let agents = status
        .instances
        .into_iter()
        .map(|i| i.agent.unwrap_or_default());
    Ok(agents.collect())
}

/// An upgrade of the operator leaves every data pod and every engine alone, while an application
/// writes; the agents are upgraded beside their engines, and changes asked for afterwards are made.
pub async fn operator_upgraded(s: &Sandbox<'_>) -> Result<()> {
    let (writer, primary_before) = written(s).await?;
    let before = (s.pod_uids("db").await?, started(s).await?);
    let agents_before = agents(s).await?;
    ensure!(agents_before.len() == 1, "{agents_before:?}");
    let deployments: Api<Deployment> = Api::namespaced(s.ctx.client.clone(), SYSTEM);
    let stamp = format!("{:?}", std::time::SystemTime::now());
    let patch = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "operator",
        "image": s.ctx.images.operator_next,
        "env": [{"name": "MAINSTAY_IMAGE", "value": s.ctx.images.operator_next}],
    }]}, "metadata": {"annotations": {"e2e/upgraded": stamp}}}}});
    deployments
        .patch(OPERATOR, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    s.until("the new operator to be available", READY, || async {
        let now = deployments.get(OPERATOR).await?;
        let status = now.status.clone().unwrap_or_default();
        let done = status.observed_generation == now.metadata.generation
            && status.updated_replicas == status.replicas
            && status.available_replicas == status.replicas
            && status.replicas.unwrap_or(0) > 0;
        Ok(if done {
            Look::Done(())
        } else {
            Look::seen(&status)
        })
    })
    .await?;
    s.change("db", &json!({"parameters": {"work_mem": "5MB"}}))
        .await?;
    s.until("every agent to be the new operator's", READY, || async {
        let now = agents(s).await?;
        Ok(if now.len() == 1 && now != agents_before {
            Look::Done(())
        } else {
            Look::seen(&now)
        })
    })
    .await?;
    s.settled("db", READY).await?;
    ensure!(
        before == (s.pod_uids("db").await?, started(s).await?),
        "upgrading the operator replaced a data pod, or restarted an engine"
    );
    ensure!(
        primary(s, "db").await? == primary_before,
        "upgrading the agents moved the primary"
    );
    println!(
        "   longest pause of writes: {} ms",
        writer.holds().await?.as_millis()
    );
    ensure!(
        s.admin_sql("db-2", "show work_mem").await? == "5MB",
        "the new operator makes no changes"
    );
    Ok(())
}
