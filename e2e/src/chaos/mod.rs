//! Faults under load, again and again: what each costs, and whether a promise was broken.
//!
//! One run is a fresh set of three with `durability: quorum` in a namespace of its own, and a client
//! that writes through the primary Service, from a node that is not the primary's, and reconnects
//! every 10 ms. Then comes the fault, and the wait until all is whole again. At the end the client's
//! ledger is compared with the rows, number by number, and all instances with each other.

pub mod faults;
pub mod record;

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

use crate::scenarios::Context;
use crate::scenarios::failover::{equal, written};
use crate::scenarios::kit::{INSTANCES, READY, Sandbox};
use crate::scenarios::writer::Writer;
use faults::Fault;

/// What a fault is done to.
pub struct Ground<'a> {
    /// The namespace.
    pub sandbox: &'a Sandbox<'a>,
    /// Who is primary before.
    pub primary: String,
    /// The others; the client is on the node of the first.
    pub replicas: Vec<String>,
    /// The client.
    pub writer: Writer<'a>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Longest time between two acknowledgements.
    pub gap: Duration,
    /// From the fault, or from when its cause was taken away, until everything was whole again.
    pub whole: Duration,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that are gone.
    pub lost: usize,
    /// Writes that were refused and are there.
    pub resurrected: usize,
}

/// Do it once, in a namespace of its own.
///
/// # Errors
/// What did not come about in time; a broken promise is none, but in the result.
pub async fn run(ctx: &Context, fault: &Fault) -> Result<Run> {
    let sandbox = Sandbox::new(ctx, &format!("chaos-{}", fault.name)).await?;
    match run_in(&sandbox, fault).await {
        Ok(run) => {
            sandbox.remove().await?;
            Ok(run)
        }
        // The namespace is left to be looked at, without load for the runs that follow.
        Err(error) => {
            let seen = sandbox.diagnose().await;
            let force = DeleteParams::default().grace_period(0);
            let stopped = sandbox.api::<Pod>().delete("writer", &force).await;
            stopped.context("the client was not stopped")?;
            Err(error.context(seen))
        }
    }
}

/// Do it once in an empty namespace, which is left as it is then.
///
/// # Errors
/// As [`run`].
pub async fn run_in(sandbox: &Sandbox<'_>, fault: &Fault) -> Result<Run> {
    let (writer, primary) = written(sandbox).await?;
    let others = INSTANCES.into_iter().filter(|i| *i != primary);
    let ground = Ground {
        sandbox,
        replicas: others.map(str::to_owned).collect(),
        primary,
        writer,
    };
    let since = (fault.run)(&ground).await?;
    sandbox.settled("db", READY).await?;
    let whole = since.elapsed();
    let verdict = ground.writer.more(50).await?;
    equal(sandbox).await?;
    Ok(Run {
        gap: verdict.gap(),
        whole,
        acknowledged: verdict.acknowledged,
        lost: verdict.lost.len(),
        resurrected: verdict.resurrected.len(),
    })
}

/// The highest rate of failure that none in so many runs leaves possible, with 95 % confidence.
pub fn upper_bound(runs: usize) -> f64 {
    let runs = u32::try_from(runs.max(1)).unwrap_or(u32::MAX);
    1.0 - 0.05_f64.powf(1.0 / f64::from(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_runs_without_a_failure_leave_five_percent() {
        assert!((upper_bound(59) - 0.05).abs() < 0.001);
        assert!(upper_bound(1) > 0.9);
    }
}
