//! The primary is lost or leaves, and a replica takes over. A client writes all the while and keeps
//! a ledger of what was acknowledged.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::failures::{faults, node_of};
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::writer::Writer;
use crate::chaos::faults::without_api_server;

/// The primary's name, by the status.
pub(crate) async fn primary(s: &Sandbox<'_>, set: &str) -> Result<String> {
    let pg = s.api::<Postgres>().get(set).await?;
    let status = pg.status.unwrap_or_default();
    status.primary.context("the status names no primary")
}

/// Wait until another instance is primary.
pub(crate) async fn another_primary(s: &Sandbox<'_>, before: &str) -> Result<String> {
    s.until("another primary", READY, || async {
        Ok(match primary(s, "db").await {
            Ok(now) if now != before => Look::Done(now),
            other => Look::seen(&other),
        })
    })
    .await
}

/// A set with a writer on a node that is not the primary's. Returns the primary too.
pub(crate) async fn written<'a>(s: &'a Sandbox<'a>) -> Result<(Writer<'a>, String)> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    let before = primary(s, "db").await?;
    let replica = INSTANCES.into_iter().find(|i| *i != before);
    let node = node_of(s, replica.context("there are three")?).await?;
    Ok((Writer::start(s, &node).await?, before))
}

/// All instances hold the same rows, and stream.
pub(crate) async fn equal(s: &Sandbox<'_>) -> Result<()> {
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
    for instance in INSTANCES {
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

/// Nothing is lost; how long writes paused is told and not judged.
async fn tell(s: &Sandbox<'_>, writer: &Writer<'_>) -> Result<()> {
    let gap = writer.holds().await?;
    s.say(&format!("writes paused for {gap:?} at most"));
    Ok(())
}

/// The primary's pod is deleted without a goodbye.
pub async fn primary_killed(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    let force = DeleteParams::default().grace_period(0);
    s.api::<Pod>().delete(&before, &force).await?;
    another_primary(s, &before).await?;
    equal(s).await?;
    tell(s, &writer).await
}

/// The primary's pod is deleted in order, as a drain or a rolling update does.
pub async fn primary_leaves(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s).await?;
    s.api::<Pod>()
        .delete(&before, &DeleteParams::default())
        .await?;
    another_primary(s, &before).await?;
    equal(s).await?;
    tell(s, &writer).await
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
    tell(s, &writer).await
}

/// The API server is away for longer than a Lease lasts: the primary goes on all the while, and stays.
pub async fn api_server_away(s: &Sandbox<'_>) -> Result<()> {
    let away = Duration::from_secs(20);
    let (writer, before) = written(s).await?;
    without_api_server(s, away).await?;
    equal(s).await?;
    let now = primary(s, "db").await?;
    ensure!(now == before, "{now} is primary after {before}");
    let gap = writer.holds().await?;
    // One that had stopped would have been away from when its Lease ran out.
    ensure!(gap < away / 2, "writes paused for {gap:?}");
    Ok(())
}
