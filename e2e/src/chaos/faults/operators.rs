//! No operator runs.

use std::time::Instant;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use rustix::process::Signal;
use serde_json::json;

use super::{pods, processes, renamed};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::pod::Deletion;
use crate::scenarios::kit::{Look, READY};
use crate::scenarios::operators::SYSTEM;

const NO_OPERATOR: &str = "no operator runs";

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        without_operator_pod_forced,
        "the primary's pod is deleted by force while no operator runs"
    )
    .alone(NO_OPERATOR)
    .of_every(),
    fault!(
        without_operator_pod_deleted,
        "the primary's pod is deleted in order while no operator runs"
    )
    .alone(NO_OPERATOR)
    .of_every(),
    fault!(
        without_operator_postmaster_killed,
        "SIGKILL to the primary's first engine process while no operator runs"
    )
    .alone(NO_OPERATOR),
    fault!(
        without_operator_postmaster_stopped,
        "SIGSTOP to the primary's first engine process while no operator runs"
    )
    .alone(NO_OPERATOR),
    fault!(
        without_operator_engine_killed,
        "SIGKILL to the primary's engine while no operator runs"
    )
    .alone(NO_OPERATOR)
    .of_every_redis(),
    fault!(
        without_operator_engine_stopped,
        "SIGSTOP to the primary's engine while no operator runs"
    )
    .alone(NO_OPERATOR)
    .of_every_redis(),
];

async fn without_operator_pod_forced(g: &Ground<'_>) -> Result<Instant> {
    without_pod(g, Deletion::Forced).await
}

async fn without_operator_pod_deleted(g: &Ground<'_>) -> Result<Instant> {
    without_pod(g, Deletion::Graceful).await
}

async fn without_pod(g: &Ground<'_>, how: Deletion) -> Result<Instant> {
    let operators = away(g).await?;
    let outcome = async {
        let gone = pods::gone(g, &[&g.primary], how).await?;
        g.writer.more(200).await?;
        anyhow::Ok(gone)
    };
    let outcome = outcome.await;
    scale(g, operators).await?;
    let since = Instant::now();
    renamed(g, &[&g.primary], &outcome?).await?;
    Ok(since)
}

async fn without_operator_engine_killed(g: &Ground<'_>) -> Result<Instant> {
    without_engine(g, Signal::KILL).await
}

async fn without_operator_engine_stopped(g: &Ground<'_>) -> Result<Instant> {
    without_engine(g, Signal::STOP).await
}

async fn without_operator_postmaster_killed(g: &Ground<'_>) -> Result<Instant> {
    without_operator_engine_killed(g).await
}

async fn without_operator_postmaster_stopped(g: &Ground<'_>) -> Result<Instant> {
    without_operator_engine_stopped(g).await
}

async fn without_engine(g: &Ground<'_>, how: Signal) -> Result<Instant> {
    let operators = away(g).await?;
    let outcome = async {
        let before = processes::signal(g, g.kind.process(), how).await?;
        processes::another(g, g.kind.process(), before).await?;
        g.writer.more(200).await
    };
    let outcome = outcome.await;
    scale(g, operators).await?;
    outcome?;
    Ok(Instant::now())
}

/// Have no operators; returns how many there were.
async fn away(g: &Ground<'_>) -> Result<i32> {
    let all = deployments(g).list(&ListParams::default()).await?;
    let counts = all.items.iter().filter_map(|d| d.spec.as_ref()?.replicas);
    let before = counts.max().unwrap_or(0);
    ensure!(before > 0, "no operator is installed");
    scale(g, 0).await?;
    Ok(before)
}

fn deployments(g: &Ground<'_>) -> Api<Deployment> {
    Api::namespaced(g.sandbox.ctx.client.clone(), SYSTEM)
}

/// Have so many operators, and wait until it is so.
async fn scale(g: &Ground<'_>, replicas: i32) -> Result<()> {
    let deployments = deployments(g);
    for deployment in deployments.list(&ListParams::default()).await? {
        let name = deployment.name_any();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments
            .patch(&name, &PatchParams::default(), &patch)
            .await?;
        g.sandbox
            .until(&format!("{replicas} of {name}"), READY, || async {
                let status = deployments.get(&name).await?.status.unwrap_or_default();
                let done = status.replicas.unwrap_or(0) == replicas
                    && status.available_replicas.unwrap_or(0) == replicas;
                Ok(if done {
                    Look::Done(())
                } else {
                    Look::seen(&status)
                })
            })
            .await?;
    }
    Ok(())
}
