//! Long ones: failures one after the other while an application writes.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use super::failover::{another_primary, equal, primary, written};
use super::failures::signal;
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::operators;
use super::set::Kind;
use crate::chaos;

/// How often everything is broken once.
const ROUNDS: usize = 4;
/// Fewer acknowledged writes than this are no load.
const LOAD: usize = 1000;

/// In rounds: a replica's pod, an agent, the primary's engine, the primary's pod, the operators;
/// each mended before the next. What was acknowledged to an application that wrote all the time is
/// there at the end, on all instances.
pub async fn failures_under_load(s: &Sandbox<'_>) -> Result<()> {
    let (writer, _) = written(s).await?;
    for round in 0..ROUNDS {
        let now = primary(s, "db").await?;
        let replicas = INSTANCES.into_iter().filter(|i| *i != now);
        let replica = replicas.cycle().nth(round).unwrap_or("db-1");
        s.delete::<Pod>(replica, READY).await?;
        s.settled("db", READY).await?;
        let instance = format!("db-{}", 1 + round % 3);
        signal(s, &instance, "KILL", "/mainstay/bin/[a-z-]* agent").await?;
        s.settled("db", READY).await?;
        let before = started(s, &now).await?;
        signal(s, &now, "KILL", "bin/postgres ").await?;
        s.until("the killed engine to run again", READY, || async {
            Ok(match started(s, &now).await {
                Ok(again) if again != before => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
        s.settled("db", READY).await?;
        let now = primary(s, "db").await?;
        s.delete::<Pod>(&now, READY).await?;
        another_primary(s, &now).await?;
        operators::kill(s).await?;
        s.settled("db", READY).await?;
    }
    let gap = writer.holds().await?;
    s.say(&format!("writes paused for {gap:?} at most"));
    let verdict = writer.verdict().await?;
    ensure!(
        verdict.acknowledged > LOAD,
        "only {} writes were acknowledged",
        verdict.acknowledged
    );
    equal(s).await
}

/// Faults of `cargo xtask chaos` to one set of that kind, one after the other.
pub async fn faults(s: &Sandbox<'_>, kind: Kind, names: &[&str]) -> Result<()> {
    let faults = names.iter().map(|name| {
        let found = chaos::faults::called(name);
        found.with_context(|| format!("there is no fault {name}"))
    });
    let faults = faults.collect::<Result<Vec<_>>>()?;
    let run = chaos::one_after_another(s, kind, &faults, chaos::Oracle::Whole).await?;
    s.say(&format!(
        "writes paused for {:?} at most, whole again after {:?}",
        run.gap, run.whole
    ));
    ensure!(!run.broken(), "a promise was broken: {run:?}");
    Ok(())
}

async fn started(s: &Sandbox<'_>, instance: &str) -> Result<String> {
    s.admin_sql(instance, "select pg_postmaster_start_time()")
        .await
}
