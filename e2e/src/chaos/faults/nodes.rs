//! Nodes that are cut off, lose power, or are drained.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::EvictParams;

use super::{renamed, succeeded};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::node;
use crate::scenarios::failures::{faults, node_of};
use crate::scenarios::kit::{INSTANCES, Look, READY};
use crate::scenarios::operations;
use crate::scenarios::writer::WRITER;

const CUTS: &str = "it cuts a node off";
const DRAINS: &str = "it cordons a node";

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(node_cut, "the primary's node is cut off, and comes back")
        .alone(CUTS)
        .of_every(),
    fault!(
        node_cut_with_client,
        "the primary's node is cut off, its client with it, and comes back"
    )
    .alone(CUTS)
    .beside_the_primary()
    .of_every(),
    fault!(replica_cut, "a replica's node is cut off, and comes back")
        .alone(CUTS)
        .of_every(),
    fault!(
        replicas_cut,
        "the nodes of both replicas are cut off, and come back"
    )
    .alone(CUTS)
    .of_any(),
    fault!(node_crashed, "the primary's node loses power, and boots")
        .alone("a node loses power")
        .of_every(),
    fault!(
        drained,
        "the primary's node is drained: cordoned, its pod evicted"
    )
    .alone(DRAINS)
    .of_every(),
    fault!(
        drained_in_turn,
        "each node is drained, one after the other, and put back when all is whole"
    )
    .alone(DRAINS)
    .of_any(),
    fault!(
        async_node_cut,
        "the primary's node is cut off, and comes back, and commits wait for nobody"
    )
    .alone(CUTS)
    .without_waiting(),
];

async fn node_cut(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let cut = node::cut(faults(g.sandbox)?, &name).await?;
    succeeded(g, cut).await?;
    Ok(Instant::now())
}

async fn async_node_cut(g: &Ground<'_>) -> Result<Instant> {
    node_cut(g).await
}

async fn node_cut_with_client(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let cut = node::cut(faults(g.sandbox)?, &name).await?;
    let next = g.succeeded().await?;
    // The client is not there to be asked.
    g.witnesses.hear(g.sandbox, &next).await?;
    cut.undo().await?;
    let since = Instant::now();
    g.writer.more(200).await?;
    Ok(since)
}

async fn node_crashed(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let off = node::power_off(faults(g.sandbox)?, &name).await?;
    succeeded(g, off).await?;
    Ok(Instant::now())
}

/// How long a replica is away: longer than the connections to it are kept without an answer.
const CUT: Duration = Duration::from_secs(12);

async fn replica_cut(g: &Ground<'_>) -> Result<Instant> {
    let replica = g.replicas.last().context("a replica")?;
    let name = node_of(g.sandbox, replica).await?;
    let cut = node::cut(faults(g.sandbox)?, &name).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(CUT).await;
    // Where it is on that node it is not there to be asked.
    let apart = node_of(g.sandbox, WRITER).await? != name;
    if apart {
        g.writer.more(200).await?;
    }
    cut.undo().await?;
    let since = Instant::now();
    if !apart {
        g.writer.more(200).await?;
    }
    Ok(since)
}

async fn replicas_cut(g: &Ground<'_>) -> Result<Instant> {
    let mut nodes = Vec::new();
    for replica in &g.replicas {
        nodes.push(node_of(g.sandbox, replica).await?);
    }
    let mut cut = Vec::new();
    for name in &nodes {
        cut.push(node::cut(faults(g.sandbox)?, name).await?);
    }
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(CUT).await;
    for cut in cut {
        cut.undo().await?;
    }
    let since = Instant::now();
    g.writer.more(200).await?;
    Ok(since)
}

async fn drained(g: &Ground<'_>) -> Result<Instant> {
    drain(g, &g.primary).await
}

/// Take an instance off its node as a drain does.
async fn drain(g: &Ground<'_>, instance: &str) -> Result<Instant> {
    let node = node_of(g.sandbox, instance).await?;
    let before = g.pod(instance).await?;
    operations::cordon(g.sandbox, &node, true).await?;
    let outcome = evicted(g, &before).await;
    operations::cordon(g.sandbox, &node, false).await?;
    outcome?;
    let since = Instant::now();
    let uid = before.uid().into_iter().collect();
    renamed(g, &[instance], &uid).await?;
    Ok(since)
}

/// Evict a pod as `kubectl drain` does: again and again until its budget lets it go.
async fn evicted(g: &Ground<'_>, pod: &Pod) -> Result<()> {
    let pods = g.sandbox.api::<Pod>();
    let (name, uid) = (pod.name_any(), pod.uid());
    g.sandbox
        .until(&format!("{name} to be evicted"), READY, || async {
            let now = pods.get_opt(&name).await?;
            if now.as_ref().and_then(kube::ResourceExt::uid) != uid {
                return Ok(Look::Done(()));
            }
            let evicted = pods.evict(&name, &EvictParams::default()).await;
            Ok(Look::seen(&evicted))
        })
        .await
}

async fn drained_in_turn(g: &Ground<'_>) -> Result<Instant> {
    let mut since = Instant::now();
    for instance in INSTANCES {
        since = drain(g, instance).await?;
        g.settled().await?;
    }
    Ok(since)
}
