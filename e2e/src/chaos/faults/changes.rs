//! What is asked for, under load and while other things fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use mainstay_crds::operation::OperationPhase;
use rustix::process::Signal;
use serde_json::json;

use super::{pods, renamed};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::pod::Deletion;
use crate::scenarios::kit::{INSTANCES, Look, READY};
use crate::scenarios::operations;

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        switchover,
        "another instance is asked to take over, by an Operation"
    )
    .of_any(),
    fault!(
        switchover_lagging,
        "another instance is asked to take over while one lacks 64 MiB"
    ),
    fault!(
        rolling_parameter,
        "a parameter that needs a restart: every engine is restarted, one after the other"
    ),
    fault!(
        rolling_parameter_open_session,
        "the same, while a client's transaction is open on the primary and never ends"
    ),
    fault!(
        rolling_image,
        "a new image: every pod is replaced, one after the other"
    ),
    fault!(
        scaled,
        "from 3 to 5 instances while the primary's pod is deleted by force, and back while the primary's engine is killed"
    ),
];

async fn moved(g: &Ground<'_>) -> Result<()> {
    let done = operations::over(g.sandbox, "move").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    Ok(())
}

async fn switchover(g: &Ground<'_>) -> Result<Instant> {
    let since = Instant::now();
    let set = json!({"kind": g.kind.name(), "name": "db"});
    let ask = json!({"target": set, "to": g.replica()?});
    operations::ask(g.sandbox, "move", &ask).await?;
    moved(g).await?;
    Ok(since)
}

/// So much of the log in messages.
const BACKLOG: &str = "select count(pg_logical_emit_message(false, 'lag', repeat('x', 1 << 20))) from generate_series(1, 64)";
/// Less than after which the primary gives up a replica.
const LAG: Duration = Duration::from_secs(6);

async fn switchover_lagging(g: &Ground<'_>) -> Result<Instant> {
    let laggard = g.replicas.last().context("a replica")?;
    let stopped = g.process(laggard, "walreceiver").await?.stop()?;
    g.sandbox.admin_sql(&g.primary, BACKLOG).await?;
    operations::ask(g.sandbox, "move", &json!({})).await?;
    // The length of the lag: nothing is waited for.
    tokio::time::sleep(LAG).await;
    stopped.undo().await?;
    let since = Instant::now();
    moved(g).await?;
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

/// A transaction that has written, and a statement in it that does not end by itself.
const OPEN: &str = "begin; create table open_session (n int); select pg_sleep(3600)";
/// How many of these there are.
const OPEN_ONES: &str =
    "select count(*) from pg_stat_activity where query like 'begin; create table open_session%'";

async fn rolling_parameter_open_session(g: &Ground<'_>) -> Result<Instant> {
    let session = async {
        let ended = g.sandbox.admin_sql(&g.primary, OPEN).await;
        ensure!(ended.is_err(), "the transaction was not ended: {ended:?}");
        Ok(())
    };
    let change = async {
        g.sandbox
            .until("an open transaction", READY, || async {
                let open = g.sandbox.admin_sql(&g.primary, OPEN_ONES).await;
                Ok(match open {
                    Ok(count) if count == "1" => Look::Done(()),
                    other => Look::seen(&other),
                })
            })
            .await?;
        rolling_parameter(g).await
    };
    let ((), since) = tokio::try_join!(session, change)?;
    Ok(since)
}

async fn rolling_image(g: &Ground<'_>) -> Result<Instant> {
    let mut before = BTreeSet::new();
    for instance in INSTANCES {
        before.extend(g.pod(instance).await?.uid());
    }
    let image = &g.sandbox.ctx.images.postgres_next;
    g.sandbox.change("db", &json!({"image": image})).await?;
    let since = Instant::now();
    renamed(g, &INSTANCES, &before).await?;
    Ok(since)
}

async fn scaled(g: &Ground<'_>) -> Result<Instant> {
    let pods = g.sandbox.api::<Pod>();
    // There are three nodes.
    let shared = json!({"placement": {"nodes": "Preferred"}});
    g.sandbox.change("db", &shared).await?;
    g.settled().await?;
    let before = g.leads().await?;
    g.sandbox.change("db", &json!({"instances": 5})).await?;
    g.sandbox
        .until("a fourth instance", READY, || async {
            Ok(match pods.get_opt("db-4").await? {
                Some(_) => Look::Done(()),
                None => Look::NotYet("there is none".to_owned()),
            })
        })
        .await?;
    pods::replaced(g, &[&before], Deletion::Forced).await?;
    // Whoever is elected: its own next pod may be in time for it.
    g.writer.more(100).await?;
    g.settled().await?;
    let now = g.leads().await?;
    g.sandbox.change("db", &json!({"instances": 3})).await?;
    g.engine(&now).await?.signal(Signal::KILL)?;
    Ok(Instant::now())
}
