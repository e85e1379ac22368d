//! Two zones, of which the larger is lost with the primary.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use mainstay_crds::common::Outlives;
use mainstay_crds::operation::OperationPhase;
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::failover::{equal, primary};
use super::failures::{faults, node_of};
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::operations::{ask, over};
use super::writer::Writer;

const ZONE: &str = "topology.kubernetes.io/zone";

async fn set_zone(nodes: &Api<Node>, node: &str, zone: &str) -> Result<()> {
    let labels = json!({"metadata": {"labels": {ZONE: zone}}});
    nodes
        .patch(node, &PatchParams::default(), &Patch::Merge(&labels))
        .await?;
    Ok(())
}

/// Three instances on three nodes of which two share a zone: a write is acknowledged only with a
/// replica in the other zone, and when the larger zone is cut off with the primary nothing is lost.
pub async fn zone_lost(s: &Sandbox<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(s.ctx.client.clone());
    let all = nodes.list(&kube::api::ListParams::default()).await?;
    let zoned: Vec<(String, String)> = all
        .into_iter()
        .filter(|n| n.spec.as_ref().and_then(|s| s.unschedulable) != Some(true))
        .filter_map(|n| {
            let zone = n.metadata.labels?.get(ZONE)?.clone();
            Some((n.metadata.name?, zone))
        })
        .collect();
    let [first, second, ..] = &zoned[..] else {
        anyhow::bail!("there are not two nodes with a zone: {zoned:?}");
    };
    ensure!(first.1 != second.1, "they share a zone already: {zoned:?}");
    set_zone(&nodes, &second.0, &first.1).await?;
    let outcome = lose_a_zone(s, &first.1).await;
    set_zone(&nodes, &second.0, &second.1).await?;
    outcome
}

async fn lose_a_zone(s: &Sandbox<'_>, large: &str) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    let pg = s.settled("db", READY).await?;
    let status = pg.status.unwrap_or_default();
    let is_near = |name: &str| {
        let mut all = status.instances.iter();
        all.any(|i| i.name == name && i.zone.as_deref() == Some(large))
    };
    let near: Vec<&str> = INSTANCES.into_iter().filter(|i| is_near(i)).collect();
    let far = INSTANCES.into_iter().find(|i| !is_near(i));
    let far = far.context("nobody is in the other zone")?;
    ensure!(near.len() == 2, "in zone {large} are {near:?}");
    if primary(s, "db").await? == far {
        ask(s, "move", &json!({"to": near[0]})).await?;
        let done = over(s, "move").await?;
        ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
        s.settled("db", READY).await?;
    }
    let before = primary(s, "db").await?;
    only_the_other_zone_acknowledges(s, &before, far).await?;

    let writer = Writer::start(s, &node_of(s, far).await?, false).await?;
    writer.more(200).await?;
    let mut cut = Vec::new();
    for instance in &near {
        cut.push(node_of(s, instance).await?);
    }
    for node in &cut {
        faults(s)?.cut(node).await?;
    }
    let took_over = s
        .until(&format!("{far} to lead"), READY, || async {
            let recovering = s.admin_sql(far, "select pg_is_in_recovery()").await;
            Ok(match recovering {
                Ok(no) if no == "f" => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await;
    // With nobody in another zone it acknowledges nothing.
    let stopped = writer.verdict().await;
    for node in &cut {
        faults(s)?.heal(node).await?;
    }
    took_over?;
    if let Ok(verdict) = stopped {
        s.say(&format!("while the zone was away: {verdict}"));
    }
    equal(s).await?;
    let gap = writer.holds().await?;
    s.say(&format!(
        "writes paused for {gap:?} at most, the zone's absence included"
    ));
    let now = primary(s, "db").await?;
    ensure!(now == far, "{now} is primary, not {far}");
    Ok(())
}

/// By the status and by what PostgreSQL waits for.
async fn only_the_other_zone_acknowledges(s: &Sandbox<'_>, primary: &str, far: &str) -> Result<()> {
    s.until("the status to say who acknowledges", READY, || async {
        let pg = s.api::<Postgres>().get("db").await?;
        let status = pg.status.unwrap_or_default();
        let acknowledged = status.acknowledged.clone().unwrap_or_default();
        let survives = status.survives.clone().unwrap_or_default();
        let only = acknowledged.of == [far] && acknowledged.replicas == 1;
        Ok(
            if only && acknowledged.outlives == Outlives::Zone && !survives.zone {
                Look::Done(())
            } else {
                Look::NotYet(format!("{acknowledged:?} {survives:?}"))
            },
        )
    })
    .await?;
    let waited_for = "select string_agg(split_part(application_name, '.', 1), ',') \
                      from pg_stat_replication where sync_state = 'quorum'";
    let waited_for = s.admin_sql(primary, waited_for).await?;
    ensure!(
        waited_for == far,
        "{primary} waits for {waited_for:?}, not for {far}"
    );
    Ok(())
}
