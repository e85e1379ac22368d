//! Day 2: changes that users ask for.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use mainstay_crds::common::{Durability, InstanceRole};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::failover::primary;
use super::kit::{Look, READY, Sandbox, Side, condition, condition_message};

/// 1 → 3 → 2: data is on every replica, and what is removed leaves nothing.
pub async fn scale(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 1})).await?;
    s.settled("db", READY).await?;
    s.admin_sql(
        "db-1",
        "create table t as select generate_series(1, 1000) id",
    )
    .await?;
    s.change("db", &json!({"instances": 3})).await?;
    let pg = s.settled("db", READY).await?;
    ensure!(pg.status.and_then(|st| st.durability) == Some(Durability::Quorum));
    for replica in ["db-2", "db-3"] {
        let n = s.admin_sql(replica, "select count(*) from t").await?;
        ensure!(n == "1000", "{replica} has {n} rows");
    }
    s.change("db", &json!({"instances": 2})).await?;
    let pg = s.settled("db", READY).await?;
    let status = pg.status.unwrap_or_default();
    ensure!(
        status.durability == Some(Durability::Async),
        "two instances are {:?}",
        status.durability
    );
    ensure!(
        status.primary.as_deref() == Some("db-1"),
        "the primary is {:?}",
        status.primary
    );
    let claims = s.api::<PersistentVolumeClaim>();
    s.until("the third claim to be gone", READY, || async {
        let left = claims.get_opt("db-3-data").await?;
        Ok(left.map_or(Look::Done(()), |c| {
            Look::seen(&c.metadata.deletion_timestamp)
        }))
    })
    .await?;
    s.until(
        "the slot of the third to be dropped",
        Duration::from_secs(30),
        || async {
            let slots = s
                .admin_sql(
                    "db-1",
                    "select string_agg(slot_name, ' ') from pg_replication_slots",
                )
                .await?;
            Ok(if slots.contains(' ') {
                Look::NotYet(slots)
            } else {
                Look::Done(())
            })
        },
    )
    .await?;
    // An acknowledged write must not wait for a replica that is gone.
    s.admin_sql(
        "db-1",
        "set statement_timeout = '5s'; insert into t values (1001)",
    )
    .await?;
    Ok(())
}

/// `work_mem` is live; `max_connections` needs a restart, and pods stay the same.
pub async fn parameters(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    let pods = s.pod_uids("db").await?;
    let started = started(s).await?;
    s.change("db", &json!({"parameters": {"work_mem": "7MB"}}))
        .await?;
    s.settled("db", READY).await?;
    for instance in ["db-1", "db-2", "db-3"] {
        let now = s.admin_sql(instance, "show work_mem").await?;
        ensure!(now == "7MB", "{instance} has work_mem {now}");
    }
    ensure!(
        started == self::started(s).await?,
        "a live parameter restarted PostgreSQL"
    );
    s.change(
        "db",
        &json!({"parameters": {"work_mem": "7MB", "max_connections": "123"}}),
    )
    .await?;
    s.settled("db", READY).await?;
    for instance in ["db-1", "db-2", "db-3"] {
        let now = s.admin_sql(instance, "show max_connections").await?;
        ensure!(now == "123", "{instance} has max_connections {now}");
    }
    // A decrease of what replicas must match goes the other way round.
    s.change(
        "db",
        &json!({"parameters": {"work_mem": "7MB", "max_connections": "60"}}),
    )
    .await?;
    s.settled("db", READY).await?;
    for instance in ["db-1", "db-2", "db-3"] {
        let now = s.admin_sql(instance, "show max_connections").await?;
        ensure!(now == "60", "{instance} has max_connections {now}");
    }
    ensure!(pods == s.pod_uids("db").await?, "a parameter replaced pods");
    Ok(())
}

/// When each instance's PostgreSQL was started.
async fn started(s: &Sandbox<'_>) -> Result<Vec<String>> {
    let mut times = Vec::new();
    for instance in ["db-1", "db-2", "db-3"] {
        times.push(
            s.admin_sql(instance, "select pg_postmaster_start_time()")
                .await?,
        );
    }
    Ok(times)
}

/// Memory, then image: every pod is replaced, the primary last, and data stays.
pub async fn resources_and_image(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    s.admin_sql(
        "db-1",
        "create table t as select generate_series(1, 100) id",
    )
    .await?;
    let before = s.pod_uids("db").await?;
    s.change("db", &json!({"resources": {"memory": "320Mi"}}))
        .await?;
    s.settled("db", READY).await?;
    let resized = s.pod_uids("db").await?;
    ensure!(
        before.iter().all(|pod| !resized.contains(pod)),
        "not every pod was replaced: {before:?} {resized:?}"
    );
    let last = primary(s, "db").await?;
    s.change("db", &json!({"image": s.ctx.images.postgres_next}))
        .await?;
    s.settled("db", READY).await?;
    let pods = s.api::<Pod>();
    let mut created = Vec::new();
    for instance in ["db-1", "db-2", "db-3"] {
        let pod = pods.get(instance).await?;
        let image = pod
            .spec
            .as_ref()
            .and_then(|p| p.containers.first())
            .and_then(|c| c.image.clone());
        ensure!(
            image.as_ref() == Some(&s.ctx.images.postgres_next),
            "{instance} runs {image:?}"
        );
        created.push((
            pod.creation_timestamp().context("a pod without a time")?.0,
            instance,
        ));
    }
    created.sort();
    ensure!(
        created.last().map(|c| c.1) == Some(&*last),
        "the primary {last} was not last: {created:?}"
    );
    let n = s.admin_sql("db-1", "select count(*) from t").await?;
    ensure!(n == "100", "{n} rows are left");
    Ok(())
}

/// A claim grows while PostgreSQL runs, and PostgreSQL is not restarted for it.
pub async fn volume_grows(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 2})).await?;
    s.settled("db", READY).await?;
    let pods = s.pod_uids("db").await?;
    s.change("db", &json!({"storage": {"size": "1536Mi"}}))
        .await?;
    s.settled("db", READY).await?;
    for instance in ["db-1", "db-2"] {
        let kib = s
            .exec(
                instance,
                "postgres",
                &[
                    "sh",
                    "-c",
                    "df -k --output=size /var/lib/postgresql/data | tail -1",
                ],
            )
            .await?;
        let kib: u64 = kib.trim().parse()?;
        ensure!(
            kib > 1_300_000,
            "the file system of {instance} has {kib} KiB"
        );
    }
    ensure!(pods == s.pod_uids("db").await?, "growth replaced pods");
    Ok(())
}

/// The user's password follows the Secret; a lost certificate is issued and served anew.
pub async fn credentials_and_certificates(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({})).await?;
    let pg = s.settled("db", READY).await?;
    let client = s.client("app", "db", true).await?;
    client.sql(Side::Primary, "select 1").await?;
    let pods = s.pod_uids("db").await?;
    let started = s
        .admin_sql("db-1", "select pg_postmaster_start_time()")
        .await?;

    let serial = |pg: &Postgres| {
        pg.status
            .as_ref()
            .and_then(|st| st.certificates.first())
            .map(|c| c.served_serial.clone())
    };
    let old = serial(&pg).context("no certificate in status")?;
    let secrets = s.api::<Secret>();
    secrets.delete("db-1-tls", &DeleteParams::default()).await?;
    let api = s.api::<Postgres>();
    s.until("another certificate to be served", READY, || async {
        let now = serial(&api.get("db").await?);
        Ok(if now.as_ref().is_some_and(|n| *n != old) {
            Look::Done(())
        } else {
            Look::seen(&now)
        })
    })
    .await?;
    client.sql(Side::Primary, "select 1").await?;

    let changed = json!({"stringData": {"password": "another-password-of-the-user-1"}});
    secrets
        .patch("db-app", &PatchParams::default(), &Patch::Merge(changed))
        .await?;
    s.until("the new password to be valid", READY, || async {
        let tried = s
            .exec("app", "psql", &["sh", "-c", "cd /binding; PGPASSWORD=another-password-of-the-user-1 psql -XAtq \"host=$(cat host) dbname=app user=app sslmode=verify-full sslrootcert=/binding/ca.crt\" -c 'select 1'"])
            .await;
        Ok(tried.map_or_else(|e| Look::NotYet(e.to_string()), |_| Look::Done(())))
    })
    .await?;
    ensure!(pods == s.pod_uids("db").await?, "pods were replaced");
    ensure!(
        started
            == s.admin_sql("db-1", "select pg_postmaster_start_time()")
                .await?,
        "PostgreSQL was restarted"
    );
    Ok(())
}

/// With the annotation nothing is changed; without it the change is made.
pub async fn paused(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({})).await?;
    s.settled("db", READY).await?;
    let api = s.api::<Postgres>();
    let annotate = |value: serde_json::Value| {
        let api = api.clone();
        async move {
            let patch = json!({"metadata": {"annotations": {"mainstay.dev/reconcile": value}}});
            api.patch("db", &PatchParams::default(), &Patch::Merge(patch))
                .await
        }
    };
    annotate(json!("paused")).await?;
    s.change("db", &json!({"instances": 2})).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(
        s.pod_uids("db").await?.len() == 1,
        "a paused resource was changed"
    );
    annotate(json!(null)).await?;
    let pg = s.settled("db", READY).await?;
    let replicas = pg
        .status
        .unwrap_or_default()
        .instances
        .iter()
        .filter(|i| i.role == InstanceRole::Replica)
        .count();
    ensure!(replicas == 1, "{replicas} replicas after the pause");
    Ok(())
}

/// A missing class, more instances than nodes, and quotas that are used up are said in words and
/// mended by the user.
pub async fn impossible_wishes_stall(s: &Sandbox<'_>) -> Result<()> {
    let api = s.api::<Postgres>();
    s.postgres("classless", &json!({"storage": {"class": "no-such-class"}}))
        .await?;
    s.postgres("crowded", &json!({"instances": 5})).await?;
    for (name, word) in [("classless", "no-such-class"), ("crowded", "node")] {
        stalled(s, name, word).await?;
    }
    s.change("crowded", &json!({"instances": 3})).await?;
    let pg = s.settled("crowded", READY).await?;
    ensure!(
        condition(&pg, "Stalled") != Some("True"),
        "it is still Stalled"
    );
    api.delete("crowded", &DeleteParams::default()).await?;
    let apart = Sandbox::new(s.ctx, "quotas").await?;
    quotas(&apart).await?;
    apart.clean_up().await
}

/// A quota refuses the second pod, then another one the third claim; each is lifted.
async fn quotas(s: &Sandbox<'_>) -> Result<()> {
    let quotas = s.api::<ResourceQuota>();
    let limit = |name: &'static str, hard: serde_json::Value| {
        let quotas = quotas.clone();
        async move {
            let quota: ResourceQuota = serde_json::from_value(json!({
                "metadata": {"name": name}, "spec": {"hard": hard},
            }))?;
            quotas.create(&PostParams::default(), &quota).await?;
            s.until(&format!("quota {name} to count"), READY, || async {
                let status = quotas.get(name).await?.status.unwrap_or_default();
                Ok(if status.used.is_some() {
                    Look::Done(())
                } else {
                    Look::seen(&status)
                })
            })
            .await
        }
    };
    limit("few-pods", json!({"pods": "1"})).await?;
    s.postgres("db", &json!({"instances": 2})).await?;
    stalled(s, "db", "exceeded quota: few-pods").await?;
    ensure!(s.pod_uids("db").await?.len() == 1, "the quota was not kept");
    quotas.delete("few-pods", &DeleteParams::default()).await?;
    s.settled("db", READY).await?;

    limit("few-volumes", json!({"persistentvolumeclaims": "2"})).await?;
    s.change("db", &json!({"instances": 3})).await?;
    stalled(s, "db", "exceeded quota: few-volumes").await?;
    ensure!(
        s.pod_uids("db").await?.len() == 2,
        "a pod was made without its claim"
    );
    quotas
        .delete("few-volumes", &DeleteParams::default())
        .await?;
    let pg = s.settled("db", READY).await?;
    ensure!(
        condition(&pg, "Stalled") != Some("True"),
        "it is still Stalled"
    );
    Ok(())
}

/// Until the set is `Stalled` with a sentence that has this word.
async fn stalled(s: &Sandbox<'_>, name: &str, word: &str) -> Result<()> {
    let api = s.api::<Postgres>();
    s.until(&format!("{name} to be Stalled"), READY, || async {
        let pg = api.get(name).await?;
        let message = condition_message(&pg, "Stalled").unwrap_or_default();
        let stalled = condition(&pg, "Stalled") == Some("True") && message.contains(word);
        Ok(if stalled {
            Look::Done(())
        } else {
            Look::seen(&pg.status.map(|st| st.conditions))
        })
    })
    .await
}
