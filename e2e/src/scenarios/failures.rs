//! What breaks, and comes back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use crate::cluster::Faults;

use super::kit::{Look, READY, Sandbox, condition, condition_message};

/// Kill the oldest process called `name` (its command's first word) in an instance.
pub(super) async fn signal(
    s: &Sandbox<'_>,
    instance: &str,
    signal: &str,
    pattern: &str,
) -> Result<()> {
    // The image has no pkill: look through /proc. PID 1 is never matched.
    let script = "for d in /proc/[0-9]*; do p=${d#/proc/}; [ $p = 1 ] || [ $p = $$ ] && continue; \
                  if tr '\\0' ' ' < $d/cmdline 2>/dev/null | grep -q -- \"$1\"; then kill -\"$0\" $p && exit 0; fi; done; exit 3";
    s.exec(instance, "postgres", &["sh", "-c", script, signal, pattern])
        .await?;
    Ok(())
}

/// Rows of a table that each scenario fills before it breaks something.
async fn filled(s: &Sandbox<'_>) -> Result<()> {
    s.admin_sql(
        "db-1",
        "create table t as select generate_series(1, 500) id",
    )
    .await?;
    Ok(())
}

/// The rows are all there, on every instance.
async fn complete(s: &Sandbox<'_>, instances: &[&str]) -> Result<()> {
    for instance in instances {
        s.until(
            &format!("500 rows on {instance}"),
            Duration::from_secs(30),
            || async {
                let n = s.admin_sql(instance, "select count(*) from t").await;
                Ok(match n {
                    Ok(n) if n == "500" => Look::Done(()),
                    other => Look::seen(&other),
                })
            },
        )
        .await?;
    }
    Ok(())
}

/// A replica's pod, then the primary's: both come back on their own volumes.
pub async fn pod_deleted(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    filled(s).await?;
    let claims = s.api::<PersistentVolumeClaim>();
    for instance in ["db-3", "db-1"] {
        let volume = claims
            .get(&format!("{instance}-data"))
            .await?
            .spec
            .and_then(|c| c.volume_name);
        s.delete::<Pod>(instance, READY).await?;
        s.settled("db", READY).await?;
        let now = claims
            .get(&format!("{instance}-data"))
            .await?
            .spec
            .and_then(|c| c.volume_name);
        ensure!(
            volume == now,
            "{instance} has volume {now:?} after {volume:?}"
        );
        complete(s, &["db-1", "db-2", "db-3"]).await?;
    }
    Ok(())
}

/// The postmaster is killed, on the primary and on a replica; the container is not restarted.
pub async fn engine_killed(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 2})).await?;
    s.settled("db", READY).await?;
    filled(s).await?;
    let pods = s.pod_uids("db").await?;
    for instance in ["db-1", "db-2"] {
        let before = s
            .admin_sql(instance, "select pg_postmaster_start_time()")
            .await?;
        signal(s, instance, "KILL", "bin/postgres ").await?;
        s.until(&format!("{instance} to run again"), READY, || async {
            let now = s
                .admin_sql(instance, "select pg_postmaster_start_time()")
                .await;
            Ok(match now {
                Ok(now) if now != before => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
        s.settled("db", READY).await?;
    }
    complete(s, &["db-1", "db-2"]).await?;
    ensure!(pods == s.pod_uids("db").await?, "pods were replaced");
    let restarts = restarts(s, "db-1").await?;
    ensure!(
        restarts == 0,
        "the container was restarted {restarts} times"
    );
    Ok(())
}

/// Restarts of the engine's container.
async fn restarts(s: &Sandbox<'_>, pod: &str) -> Result<i32> {
    let status = s.api::<Pod>().get(pod).await?.status.unwrap_or_default();
    Ok(status
        .container_statuses
        .into_iter()
        .flatten()
        .map(|c| c.restart_count)
        .sum())
}

/// SIGKILL leaves the engine running; SIGSTOP is answered by the watchdog.
pub async fn agent_killed(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({})).await?;
    s.settled("db", READY).await?;
    filled(s).await?;
    let started = s
        .admin_sql("db-1", "select pg_postmaster_start_time()")
        .await?;
    signal(s, "db-1", "KILL", "/mainstay/bin/[a-z-]* agent").await?;
    // Whether the engine lived is seen at once; whether the agent is back, by readiness after a change.
    let now = s
        .admin_sql("db-1", "select pg_postmaster_start_time()")
        .await?;
    ensure!(started == now, "the engine did not outlive the agent");
    s.change("db", &json!({"parameters": {"work_mem": "9MB"}}))
        .await?;
    s.settled("db", READY).await?;
    ensure!(
        s.admin_sql("db-1", "show work_mem").await? == "9MB",
        "the new agent does not work"
    );
    ensure!(
        started
            == s.admin_sql("db-1", "select pg_postmaster_start_time()")
                .await?,
        "the new agent restarted the engine"
    );

    signal(s, "db-1", "STOP", "/mainstay/bin/[a-z-]* agent").await?;
    s.until("the watchdog to restart the engine", READY, || async {
        let now = s
            .admin_sql("db-1", "select pg_postmaster_start_time()")
            .await;
        Ok(match now {
            Ok(now) if now != started => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await?;
    s.settled("db", READY).await?;
    complete(s, &["db-1"]).await?;
    ensure!(
        restarts(s, "db-1").await? == 0,
        "the container was restarted"
    );
    Ok(())
}

/// The claim and the pod of the only instance go: the set says so and makes no empty database.
pub async fn only_volume_lost(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({})).await?;
    s.settled("db", READY).await?;
    lose(s, "db-1").await?;
    let api = s.api::<Postgres>();
    s.until("Stalled", READY, || async {
        let pg = api.get("db").await?;
        let stalled = condition(&pg, "Stalled") == Some("True")
            && condition(&pg, "Ready") != Some("True")
            && condition_message(&pg, "Stalled").is_some_and(|m| m.contains("volume"));
        Ok(if stalled {
            Look::Done(())
        } else {
            Look::seen(&pg.status.map(|st| st.conditions))
        })
    })
    .await
}

/// Delete claim and pod of an instance, which is asked nothing before.
pub(super) async fn lose(s: &Sandbox<'_>, instance: &str) -> Result<()> {
    s.api::<PersistentVolumeClaim>()
        .delete(&format!("{instance}-data"), &DeleteParams::default())
        .await?;
    s.api::<Pod>()
        .delete(instance, &DeleteParams::default().grace_period(0))
        .await?;
    Ok(())
}

/// Node of an instance, as its pod says.
pub(crate) async fn node_of(s: &Sandbox<'_>, instance: &str) -> Result<String> {
    let pod = s.api::<Pod>().get(instance).await?;
    pod.spec
        .and_then(|p| p.node_name)
        .context("the pod is on no node")
}

/// The faults that the cluster knows; without them a scenario cannot be run, which is no success.
pub(crate) fn faults<'a>(s: &'a Sandbox<'_>) -> Result<&'a dyn Faults> {
    s.ctx
        .cluster
        .faults()
        .context("this cluster has no faults: run this scenario on a local cluster")
}

/// The nodes of a replica and of the primary lose power and come back: so do their instances, on
/// their volumes.
pub async fn node_rebooted(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    filled(s).await?;
    for instance in ["db-2", "db-1"] {
        let node = node_of(s, instance).await?;
        let before = s.api::<Pod>().get(instance).await?;
        let begun = before.status.and_then(|st| st.start_time).map(|t| t.0);
        faults(s)?.crash(&node).await?;
        faults(s)?.boot(&node).await?;
        s.until(
            &format!("{instance} to have been started again"),
            READY,
            || async {
                let pod = s.api::<Pod>().get(instance).await?;
                let again = pod.status.clone().is_some_and(|st| {
                    let restarted = st
                        .container_statuses
                        .iter()
                        .flatten()
                        .any(|c| c.restart_count > 0);
                    restarted || st.start_time.map(|t| t.0) != begun
                });
                Ok(if again {
                    Look::Done(())
                } else {
                    Look::seen(&pod.status.and_then(|st| st.phase))
                })
            },
        )
        .await?;
        s.settled("db", READY).await?;
        complete(s, &["db-1", "db-2", "db-3"]).await?;
    }
    Ok(())
}

/// A replica's node is cut off: writes go on with the other replica's acknowledgement, the status
/// says what is missing, and the replica streams again once the link is back.
pub async fn replica_cut_off(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    let node = node_of(s, "db-3").await?;
    faults(s)?.cut(&node).await?;
    let outcome = while_cut_off(s).await;
    faults(s)?.heal(&node).await?;
    outcome?;
    s.settled("db", READY).await?;
    complete(s, &["db-1", "db-2", "db-3"]).await
}

async fn while_cut_off(s: &Sandbox<'_>) -> Result<()> {
    let api = s.api::<Postgres>();
    s.until("the status to miss one instance", READY, || async {
        let pg = api.get("db").await?;
        let status = pg.status.unwrap_or_default();
        let missed = status
            .instances
            .iter()
            .any(|i| i.name == "db-3" && !i.ready);
        Ok(if missed {
            Look::Done(())
        } else {
            Look::seen(&status.instances)
        })
    })
    .await?;
    s.admin_sql(
        "db-1",
        "set statement_timeout = '20s'; create table t as select generate_series(1, 500) id",
    )
    .await?;
    Ok(())
}
