//! An application that finds its Redis as clients of a Sentinel do, by the Service and the names of the cluster.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use mainstay_crds::operation::OperationPhase;
use serde_json::json;

use super::failover::set_with_place;
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::operations::{ask, over};
use super::set::Kind;
use super::writer::Writer;
use crate::chaos::fault::Place;
use crate::faults::pod::{Deletion, delete};

/// It follows a switchover, and then the loss of the primary's pod; nothing that a replica confirmed is lost.
pub async fn redis_sentinel(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"instances": 3, "sentinel": {}});
    let (node, before) = set_with_place(s, Kind::Redis, &spec, Place::WithReplica).await?;
    let writer = Writer::by_sentinel(s, &node).await?;

    let replica = INSTANCES.into_iter().find(|i| *i != before);
    let to = replica.context("there are three")?;
    let target = json!({"kind": "Redis", "name": "db"});
    ask(s, "move", &json!({"target": target, "to": to})).await?;
    let done = over(s, "move").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    Kind::Redis.settled(s, "db").await?;
    ensure!(Kind::Redis.primary(s, "db").await? == to, "{done:?}");
    writer.more(50).await?;

    let pod = s.api::<Pod>().get(to).await?;
    delete(&s.ctx.client, &pod, Deletion::Forced).await?;
    s.until("another pod of that name", READY, || async {
        let now = s.api::<Pod>().get_opt(to).await?;
        Ok(match now.map(|now| now.uid()) {
            Some(uid) if uid != pod.uid() => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await?;
    writer.more(50).await?;
    Kind::Redis.settled(s, "db").await?;
    let gap = writer.holds().await?;
    let now = Kind::Redis.primary(s, "db").await?;
    s.say(&format!(
        "{before}, {to}, {now}: writes paused for {gap:?} at most"
    ));
    Ok(())
}
