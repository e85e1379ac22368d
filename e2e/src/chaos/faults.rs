//! The faults. Each returns from when it counts that things get whole again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use mainstay_crds::operation::OperationPhase;
use rustix::process::Signal;
use serde_json::json;

use super::Ground;
use crate::faults::pod::{Deletion, delete};
use crate::faults::process::{self, PodProcess};
use crate::faults::{Undo, link, node};
use crate::scenarios::failover::another_primary;
use crate::scenarios::failures::{faults, node_of};
use crate::scenarios::kit::{INSTANCES, Look, READY, Sandbox};
use crate::scenarios::operations;
use crate::scenarios::operators::SYSTEM;

/// A fault.
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub what: &'static str,
    /// Do it, and wait until it has had its effect.
    pub run: for<'a> fn(&'a Ground<'a>) -> BoxFuture<'a, Result<Instant>>,
}

macro_rules! fault {
    ($function:ident, $what:literal) => {
        Fault {
            name: stringify!($function),
            what: $what,
            run: |ground| Box::pin($function(ground)),
        }
    };
}

/// All of them.
pub const ALL: &[Fault] = &[
    fault!(pod_forced, "the primary's pod is deleted by force"),
    fault!(
        pod_deleted,
        "the primary's pod is deleted in order, as a drain does"
    ),
    fault!(
        postmaster_killed,
        "SIGKILL to the primary's first engine process"
    ),
    fault!(
        postmaster_stopped,
        "SIGSTOP to the primary's first engine process"
    ),
    fault!(agent_killed, "SIGKILL to the primary's agent"),
    fault!(agent_stopped, "SIGSTOP to the primary's agent"),
    fault!(
        container_killed,
        "SIGKILL to the first process of the primary's container"
    ),
    fault!(node_cut, "the primary's node is cut off, and comes back"),
    fault!(replica_cut, "a replica's node is cut off, and comes back"),
    fault!(
        peers_cut,
        "the primary reaches the API server and its clients, and no replica, until another one leads"
    ),
    fault!(
        lossy,
        "for 20 seconds the primary's links to its replicas lose one packet in twenty"
    ),
    fault!(
        replicas_cut,
        "the nodes of both replicas are cut off, and come back"
    ),
    fault!(
        drained,
        "the primary's node is drained: cordoned, its pod evicted"
    ),
    fault!(node_crashed, "the primary's node loses power, and boots"),
    fault!(all_forced, "all pods are deleted by force at once"),
    fault!(two_forced, "two of three pods are deleted by force at once"),
    fault!(lease_deleted, "the set's Lease is deleted"),
    fault!(
        without_operator,
        "the primary's pod is deleted by force while no operator runs"
    ),
    fault!(
        api_server_frozen,
        "the API server answers nobody for 20 seconds"
    ),
    fault!(
        switchover,
        "another instance is asked to take over, by an Operation"
    ),
    fault!(
        rolling_parameter,
        "a parameter that needs a restart: every engine is restarted, one after the other"
    ),
    fault!(
        rolling_image,
        "a new image: every pod is replaced, one after the other"
    ),
];

async fn pod(g: &Ground<'_>, instance: &str) -> Result<Pod> {
    Ok(g.sandbox.api::<Pod>().get(instance).await?)
}

/// Delete pods, and wait until others bear their names.
async fn replaced(g: &Ground<'_>, instances: &[&str], how: Deletion) -> Result<Instant> {
    let mut before = BTreeSet::new();
    for instance in instances {
        let pod = pod(g, instance).await?;
        before.extend(pod.uid());
        delete(&g.sandbox.ctx.client, &pod, how).await?;
    }
    let since = Instant::now();
    renamed(g, instances, &before).await?;
    Ok(since)
}

async fn renamed(g: &Ground<'_>, instances: &[&str], before: &BTreeSet<String>) -> Result<()> {
    for instance in instances {
        g.sandbox
            .until(&format!("another pod {instance}"), READY, || async {
                let now = g.sandbox.api::<Pod>().get_opt(instance).await?;
                Ok(match now.and_then(|p| p.uid()) {
                    Some(uid) if !before.contains(&uid) => Look::Done(()),
                    other => Look::seen(&other),
                })
            })
            .await?;
    }
    Ok(())
}

async fn pod_forced(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &[&g.primary], Deletion::Forced).await
}

async fn pod_deleted(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &[&g.primary], Deletion::Graceful).await
}

async fn all_forced(g: &Ground<'_>) -> Result<Instant> {
    replaced(g, &INSTANCES, Deletion::Forced).await
}

async fn two_forced(g: &Ground<'_>) -> Result<Instant> {
    let other = g.replicas.first().context("a replica")?;
    replaced(g, &[&g.primary, other], Deletion::Forced).await
}

const POSTMASTER: &str = "bin/postgres -D";
const AGENT: &str = "mainstay agent";
const INIT: &str = "mainstay init";

/// The process of an instance's pod whose command line contains `part`; of several the first.
async fn process_of(g: &Ground<'_>, instance: &str, part: &str) -> Result<PodProcess> {
    let uid = pod(g, instance).await?.uid().context("a pod has a uid")?;
    let all = process::of_pod(&uid, part)?;
    let first = all.into_iter().next();
    first.with_context(|| format!("no process of {instance} is called {part:?}"))
}

/// Send a signal to such a process of the primary, and wait until another one is in its place.
async fn signalled(g: &Ground<'_>, part: &str, signal: Signal) -> Result<Instant> {
    let before = process_of(g, &g.primary, part).await?;
    before.signal(signal)?;
    let since = Instant::now();
    g.sandbox
        .until(&format!("another process {part:?}"), READY, || async {
            Ok(match process_of(g, &g.primary, part).await {
                Ok(now) if now.pid != before.pid => Look::Done(()),
                Ok(_) => Look::NotYet("it is still there".to_owned()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await?;
    Ok(since)
}

async fn postmaster_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, POSTMASTER, Signal::KILL).await
}

async fn postmaster_stopped(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, POSTMASTER, Signal::STOP).await
}

async fn agent_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, AGENT, Signal::KILL).await
}

async fn agent_stopped(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, AGENT, Signal::STOP).await
}

async fn container_killed(g: &Ground<'_>) -> Result<Instant> {
    signalled(g, INIT, Signal::KILL).await
}

/// The primary is away until another one has taken writes.
async fn succeeded(g: &Ground<'_>, away: Undo<'_>) -> Result<Instant> {
    another_primary(g.sandbox, &g.primary).await?;
    g.writer.more(200).await?;
    away.undo().await?;
    Ok(Instant::now())
}

async fn node_cut(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let cut = node::cut(faults(g.sandbox)?, &name).await?;
    succeeded(g, cut).await
}

async fn node_crashed(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let off = node::power_off(faults(g.sandbox)?, &name).await?;
    succeeded(g, off).await
}

/// How long a replica is away: longer than the connections to it are kept without an answer.
const CUT: Duration = Duration::from_secs(12);

async fn replica_cut(g: &Ground<'_>) -> Result<Instant> {
    let replica = g.replicas.last().context("a replica")?;
    let name = node_of(g.sandbox, replica).await?;
    let cut = node::cut(faults(g.sandbox)?, &name).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(CUT).await;
    g.writer.more(200).await?;
    cut.undo().await?;
    Ok(Instant::now())
}

/// Part the primary's pod from the replicas' pods.
async fn parted<'a>(g: &'a Ground<'a>, node: &'a str, percent: u8) -> Result<Undo<'a>> {
    let mut others = Vec::new();
    for replica in &g.replicas {
        others.push(address(g, replica).await?);
    }
    let own = address(g, &g.primary).await?;
    Ok(link::part(faults(g.sandbox)?, node, own, &others, percent).await?)
}

async fn address(g: &Ground<'_>, instance: &str) -> Result<IpAddr> {
    let ip = pod(g, instance).await?.status.and_then(|s| s.pod_ip);
    Ok(ip.context("a pod that runs has an address")?.parse()?)
}

async fn peers_cut(g: &Ground<'_>) -> Result<Instant> {
    let node = node_of(g.sandbox, &g.primary).await?;
    let parted = parted(g, &node, 100).await?;
    succeeded(g, parted).await
}

/// Long enough for several renewals, and for a connection that stalls to be noticed.
const LOSSY: Duration = Duration::from_secs(20);

async fn lossy(g: &Ground<'_>) -> Result<Instant> {
    let node = node_of(g.sandbox, &g.primary).await?;
    let parted = parted(g, &node, 5).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(LOSSY).await;
    parted.undo().await?;
    g.writer.more(200).await?;
    Ok(Instant::now())
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
    let node = node_of(g.sandbox, &g.primary).await?;
    let before = pod(g, &g.primary).await?;
    operations::cordon(g.sandbox, &node, true).await?;
    let outcome = evicted(g, &before).await;
    operations::cordon(g.sandbox, &node, false).await?;
    outcome?;
    let since = Instant::now();
    let uid = before.uid().into_iter().collect();
    renamed(g, &[&g.primary], &uid).await?;
    Ok(since)
}

/// Evict a pod as `kubectl drain` does: again and again until its budget lets it go.
async fn evicted(g: &Ground<'_>, pod: &Pod) -> Result<()> {
    let pods = g.sandbox.api::<Pod>();
    let (name, uid) = (pod.name_any(), pod.uid());
    g.sandbox
        .until(&format!("{name} to be evicted"), READY, || async {
            let now = pods.get_opt(&name).await?;
            if now.as_ref().and_then(ResourceExt::uid) != uid {
                return Ok(Look::Done(()));
            }
            let evicted = pods.evict(&name, &EvictParams::default()).await;
            Ok(Look::seen(&evicted))
        })
        .await
}

async fn lease_deleted(g: &Ground<'_>) -> Result<Instant> {
    let leases = g.sandbox.api::<Lease>();
    let before = leases.get("db").await?.uid();
    leases.delete("db", &DeleteParams::default()).await?;
    let since = Instant::now();
    g.sandbox
        .until("the Lease to be held again", READY, || async {
            let now = leases.get_opt("db").await?;
            let held = now.as_ref().is_some_and(|l| {
                let holder = l.spec.as_ref().and_then(|s| s.holder_identity.as_ref());
                l.uid() != before && holder.is_some_and(|h| !h.is_empty())
            });
            Ok(if held {
                Look::Done(())
            } else {
                Look::seen(&now.and_then(|l| l.spec))
            })
        })
        .await?;
    Ok(since)
}

async fn without_operator(g: &Ground<'_>) -> Result<Instant> {
    scale(g, 0).await?;
    let uid = pod(g, &g.primary).await?.uid();
    delete(
        &g.sandbox.ctx.client,
        &pod(g, &g.primary).await?,
        Deletion::Forced,
    )
    .await?;
    let went_on = g.writer.more(200).await;
    scale(g, 2).await?;
    went_on?;
    let since = Instant::now();
    renamed(g, &[&g.primary], &uid.into_iter().collect()).await?;
    Ok(since)
}

/// Have so many operators, and wait until it is so.
async fn scale(g: &Ground<'_>, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(g.sandbox.ctx.client.clone(), SYSTEM);
    let all = deployments.list(&ListParams::default()).await?;
    ensure!(!all.items.is_empty(), "no operator is installed");
    for deployment in all {
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

/// How long the API server is away: much longer than a Lease lasts.
const AWAY: Duration = Duration::from_secs(20);

async fn api_server_frozen(g: &Ground<'_>) -> Result<Instant> {
    without_api_server(g.sandbox, AWAY).await?;
    Ok(Instant::now())
}

/// The API server stands still for so long.
pub(crate) async fn without_api_server(s: &Sandbox<'_>, time: Duration) -> Result<()> {
    let frozen = process::by_id(faults(s)?.api_server()?)?.stop()?;
    tokio::time::sleep(time).await;
    frozen.undo().await?;
    Ok(())
}

async fn switchover(g: &Ground<'_>) -> Result<Instant> {
    let since = Instant::now();
    let to = g.replicas.first().context("a replica")?;
    operations::ask(g.sandbox, "move", &json!({"to": to})).await?;
    let done = operations::over(g.sandbox, "move").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    Ok(since)
}

async fn rolling_parameter(g: &Ground<'_>) -> Result<Instant> {
    let since = Instant::now();
    let parameters = json!({"parameters": {"max_connections": "150"}});
    g.sandbox.change("db", &parameters).await?;
    for instance in INSTANCES {
        g.sandbox
            .until(&format!("150 connections of {instance}"), READY, || async {
                let show = g
                    .sandbox
                    .admin_sql_in(instance, "app", "show max_connections");
                Ok(match show.await {
                    Ok(now) if now == "150" => Look::Done(()),
                    other => Look::seen(&other),
                })
            })
            .await?;
    }
    Ok(since)
}

async fn rolling_image(g: &Ground<'_>) -> Result<Instant> {
    let mut before = BTreeSet::new();
    for instance in INSTANCES {
        before.extend(pod(g, instance).await?.uid());
    }
    let image = &g.sandbox.ctx.images.postgres_next;
    g.sandbox.change("db", &json!({"image": image})).await?;
    let since = Instant::now();
    renamed(g, &INSTANCES, &before).await?;
    Ok(since)
}
