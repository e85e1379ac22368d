//! Pods that are deleted.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use kube::ResourceExt as _;

use super::renamed;
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::pod::{Deletion, delete};

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(pod_forced, "the primary's pod is deleted by force").of_every(),
    fault!(
        pod_deleted,
        "the primary's pod is deleted in order, as a drain does"
    )
    .of_every(),
    fault!(
        two_forced,
        "two of three pods, or both of a shard, are deleted by force at once"
    )
    .of_every(),
    fault!(all_forced, "all pods are deleted by force at once").of_every(),
    fault!(
        async_pod_forced,
        "the primary's pod is deleted by force, and commits wait for nobody"
    )
    .without_waiting(),
];

/// Delete pods; returns which.
pub(super) async fn gone(
    g: &Ground<'_>,
    instances: &[&str],
    how: Deletion,
) -> Result<BTreeSet<String>> {
    let mut before = BTreeSet::new();
    for instance in instances {
        let pod = g.pod(instance).await?;
        before.extend(pod.uid());
        delete(&g.sandbox.ctx.client, &pod, how).await?;
    }
    Ok(before)
}

/// Delete pods, and wait until others bear their names.
pub(super) async fn replaced(g: &Ground<'_>, instances: &[&str], how: Deletion) -> Result<Instant> {
    let before = gone(g, instances, how).await?;
    let since = Instant::now();
    renamed(g, instances, &before).await?;
    Ok(since)
}

async fn pod_forced(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &[&g.primary], Deletion::Forced).await
}

async fn async_pod_forced(g: &Ground<'_>) -> Result<Instant> {
    pod_forced(g).await
}

async fn pod_deleted(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &[&g.primary], Deletion::Graceful).await
}

async fn two_forced(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &[&g.primary, g.replica()?], Deletion::Forced).await
}

async fn all_forced(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, g.kind.instances(), Deletion::Forced).await
}
