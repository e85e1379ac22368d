//! The API server is away, or forgets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use mainstay_workload::ledger::Verdict;
use rustix::process::Signal;

use super::processes;
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::{Undo, node, process};
use crate::scenarios::failures::{faults, node_of};
use crate::scenarios::kit::{Look, READY, Sandbox};

const NOBODY: &str = "nobody has an API server";

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(lease_deleted, "the set's Lease is deleted").of_any(),
    fault!(
        api_server_frozen,
        "the API server answers nobody for 20 seconds"
    )
    .alone(NOBODY)
    .of_every(),
    fault!(
        api_server_away_long,
        "the API server answers nobody for 3 minutes"
    )
    .alone(NOBODY)
    .of_every(),
    fault!(
        engine_lost_without_api_server,
        "SIGKILL to the primary's first engine process while the API server answers nobody, for 20 seconds"
    )
    .alone(NOBODY)
    .of_every(),
    fault!(
        pod_lost_without_api_server,
        "the primary's node loses power while the API server answers nobody, for 20 seconds"
    )
    .alone(NOBODY)
    .of_every(),
];

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

/// How long the API server is away: much longer than a Lease lasts.
const AWAY: Duration = Duration::from_secs(20);
/// As long as a control plane is upgraded.
const LONG: Duration = Duration::from_mins(3);

async fn api_server_frozen(g: &Ground<'_>) -> Result<Instant> {
    idle(g, AWAY).await
}

async fn api_server_away_long(g: &Ground<'_>) -> Result<Instant> {
    idle(g, LONG).await
}

/// Nothing else happens: the primary goes on all the while, and stays.
async fn idle(g: &Ground<'_>, time: Duration) -> Result<Instant> {
    let frozen = frozen(g.sandbox)?;
    tokio::time::sleep(time).await;
    frozen.undo().await?;
    let since = Instant::now();
    let entries = g.writer.more(50).await?;
    let gap = Verdict::new(&entries, &BTreeSet::new()).gap();
    // One that had stopped would have been away from when its Lease ran out.
    ensure!(gap < time / 2, "writes paused for {gap:?}");
    let now = g.leads().await?;
    ensure!(now == g.primary, "{now} is primary after {}", g.primary);
    Ok(since)
}

fn frozen(s: &Sandbox<'_>) -> Result<Undo<'static>> {
    Ok(process::by_id(faults(s)?.api_server()?)?.stop()?)
}

/// Between the API server's end and the other loss: the Lease has not run out.
const BEFORE: Duration = Duration::from_secs(2);

async fn engine_lost_without_api_server(g: &Ground<'_>) -> Result<Instant> {
    let engine = g.engine(&g.primary).await?;
    let frozen = frozen(g.sandbox)?;
    tokio::time::sleep(BEFORE).await;
    engine.signal(Signal::KILL)?;
    tokio::time::sleep(AWAY).await;
    frozen.undo().await?;
    let since = Instant::now();
    processes::another(g, g.kind.process(), engine.pid).await?;
    g.writer.more(50).await?;
    Ok(since)
}

async fn pod_lost_without_api_server(g: &Ground<'_>) -> Result<Instant> {
    let name = node_of(g.sandbox, &g.primary).await?;
    let frozen = frozen(g.sandbox)?;
    tokio::time::sleep(BEFORE).await;
    let off = node::power_off(faults(g.sandbox)?, &name).await?;
    tokio::time::sleep(AWAY).await;
    frozen.undo().await?;
    g.succeeded().await?;
    g.writer.more(50).await?;
    off.undo().await?;
    Ok(Instant::now())
}
