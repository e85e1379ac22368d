//! Another version of Redis, in place and under load; and Valkey.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use mainstay_crds::operation::OperationPhase;
use mainstay_crds::redis::Redis;
use serde_json::{Value, json};

use super::failover::set_with_place;
use super::failures::node_of;
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::operations::{ask, over};
use super::redis_cluster::even;
use super::set::Kind;
use super::writer::Writer;
use crate::chaos::fault::Place;

/// A set that may do nothing would have done something by then.
const MEANWHILE: Duration = Duration::from_secs(10);

/// Six members are made anew within this time, on a machine that does much else.
const CHANGED: Duration = Duration::from_secs(420);

/// A set of three that runs this, with a writer of which each second write is confirmed by a replica. Returns the
/// primary too.
async fn written<'a>(s: &'a Sandbox<'a>, spec: &Value) -> Result<(Writer<'a>, String)> {
    let (node, before) = set_with_place(s, Kind::Redis, spec, Place::WithReplica).await?;
    Ok((Writer::of_redis(s, &node).await?, before))
}

/// The version that the primary runs.
async fn version(s: &Sandbox<'_>) -> Result<String> {
    let status = s.api::<Redis>().get("db").await?.status;
    status
        .and_then(|s| s.version)
        .context("the status has no version")
}

/// Redis 7.0 becomes 8.0 under load, hands over as before, and does not go back.
pub async fn redis_version(s: &Sandbox<'_>) -> Result<()> {
    let (writer, before) = written(s, &json!({"version": "7.0", "instances": 3})).await?;
    ensure!(version(s).await?.starts_with("7.0."), "it is no Redis 7.0");
    let pods = s.pod_uids("db").await?;
    s.change_of::<Redis>("db", &json!({"version": "8.0"}))
        .await?;
    s.settled_of::<Redis>("db", READY).await?;
    let now = version(s).await?;
    ensure!(now.starts_with("8.0."), "the primary runs {now}");
    all_are_new(s, &pods).await?;
    let primary = Kind::Redis.primary(s, "db").await?;
    ensure!(primary != before, "{before} did not hand over");
    let gap = writer.holds().await?;
    s.say(&format!("7.0 to 8.0: writes paused for {gap:?} at most"));

    // It hands over as it did before, also to who was made anew last.
    ask(
        s,
        "back",
        &json!({"target": {"kind": "Redis", "name": "db"}, "to": before}),
    )
    .await?;
    let done = over(s, "back").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    s.settled_of::<Redis>("db", READY).await?;
    writer.holds().await?;

    does_not_go_back(s, &writer).await
}

/// A Redis Cluster of 7.0 becomes one of 8.0 under load; it does not go back.
pub async fn redis_cluster_version(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"version": "7.0", "mode": "Cluster", "shards": 3, "replicas": 1});
    s.apply::<Redis>("db", &spec).await?;
    s.settled_of::<Redis>("db", READY).await?;
    let before = even(s, 3).await?;
    let beside = before.shards.first().and_then(|s| s.replicas.first());
    let beside = beside.context("the first shard has a replica")?;
    let writer = Writer::of_cluster(s, &node_of(s, beside).await?).await?;
    let pods = s.pod_uids("db").await?;
    s.change_of::<Redis>("db", &json!({"version": "8.0"}))
        .await?;
    s.settled_of::<Redis>("db", CHANGED).await?;
    let set = s.api::<Redis>().get("db").await?.status.unwrap_or_default();
    let newer = |version: &Option<String>| version.as_ref().is_some_and(|v| v.starts_with("8.0."));
    let all = set.instances.iter().filter(|i| newer(&i.version)).count();
    ensure!(all == 6, "{all} of six run 8.0: {:?}", set.instances);
    all_are_new(s, &pods).await?;
    even(s, 3).await?;
    let gap = writer.holds().await?;
    s.say(&format!("7.0 to 8.0: writes paused for {gap:?} at most"));

    does_not_go_back(s, &writer).await?;
    let verdict = writer.verdict().await?;
    s.say(&format!(
        "of {} confirmed writes none is lost",
        verdict.acknowledged
    ));
    Ok(())
}

/// None of these pods is left.
async fn all_are_new(s: &Sandbox<'_>, pods: &[(String, String)]) -> Result<()> {
    let after = s.pod_uids("db").await?;
    let kept = after.iter().filter(|pod| pods.contains(pod)).count();
    ensure!(kept == 0, "{kept} pods are still those of 7.0");
    Ok(())
}

/// What 8.0 has written no 7.0 reads: nothing is done, and a sentence says why.
async fn does_not_go_back(s: &Sandbox<'_>, writer: &Writer<'_>) -> Result<()> {
    let pods = s.pod_uids("db").await?;
    s.change_of::<Redis>("db", &json!({"version": "7.0"}))
        .await?;
    stalls(s, "write 8.0").await?;
    tokio::time::sleep(MEANWHILE).await;
    stalls(s, "write 8.0").await?;
    ensure!(s.pod_uids("db").await? == pods, "a pod was replaced");
    writer.holds().await?;
    s.change_of::<Redis>("db", &json!({"version": "8.0"}))
        .await?;
    s.settled_of::<Redis>("db", READY).await?;
    ensure!(s.pod_uids("db").await? == pods, "a pod was replaced");
    writer.holds().await?;
    Ok(())
}

/// Wait until the set says that it cannot go on, for this reason.
async fn stalls(s: &Sandbox<'_>, words: &str) -> Result<()> {
    s.until(&format!("db to stall: {words}"), READY, || async {
        let set = s.api::<Redis>().get("db").await?;
        let status = set.status.unwrap_or_default();
        let said = status.conditions.iter().any(|c| {
            let of_now = c.observed_generation == set.metadata.generation;
            c.type_ == "Stalled" && c.status == "True" && c.message.contains(words) && of_now
        });
        Ok(if said {
            Look::Done(())
        } else {
            Look::seen(&status.conditions)
        })
    })
    .await
}

/// A Valkey that an application writes to; its primary's pod is deleted by force. It is never a Redis.
pub async fn valkey(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"engine": "Valkey", "version": "8.1", "instances": 3});
    let (writer, before) = written(s, &spec).await?;
    ensure!(version(s).await?.starts_with("8.1."), "it is no Valkey 8.1");
    let answer = writer.run(&["call", "HELLO"]).await?;
    ensure!(answer.contains("valkey"), "{answer} answers");
    let force = DeleteParams::default().grace_period(0);
    s.api::<Pod>().delete(&before, &force).await?;
    let now = Kind::Redis.another_primary(s, &before).await?;
    ensure!(INSTANCES.contains(&now.as_str()), "{now} is primary");
    s.settled_of::<Redis>("db", READY).await?;
    let gap = writer.holds().await?;
    s.say(&format!("writes paused for {gap:?} at most"));

    let other = json!({"engine": "Redis", "version": "8.0"});
    let refused = s.change_of::<Redis>("db", &other).await.err();
    let refused = refused.context("a Valkey became a Redis")?;
    let why = format!("{refused:#}");
    ensure!(why.contains("engine cannot be changed"), "{why}");
    Ok(())
}
