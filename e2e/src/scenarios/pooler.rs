//! The connection pooler: applications go through it, and planned hand-overs are only latency to them.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use mainstay_crds::operation::OperationPhase;
use mainstay_workload::ledger::Outcome;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::failover::{another_primary, equal, primary};
use super::failures::node_of;
use super::kit::{INSTANCES, Look, READY, Sandbox};
use super::operations::{ask, over};
use super::writer::Writer;

/// Words of a connection through the pooler, besides those of the binding.
const POOLED: &str = "host=$(cat pooler-host) sslmode=verify-full sslrootcert=/binding/ca.crt";
/// The same to replicas.
const POOLED_READS: &str =
    "host=$(cat pooler-replica-host) sslmode=verify-full sslrootcert=/binding/ca.crt";

/// SQL through a pooler, from the pod called `app`.
async fn sql(s: &Sandbox<'_>, words: &str, sql: &str) -> Result<String> {
    let script = format!(
        "cd /binding; PGPASSWORD=$(cat password) PGCONNECT_TIMEOUT=5 exec psql -XAtq -v ON_ERROR_STOP=1 \
         \"port=$(cat port) dbname=$(cat database) user=$(cat username) {words}\" -c \"$0\""
    );
    s.exec("app", "psql", &["sh", "-c", &script, sql]).await
}

/// Sixteen clients that do nothing most of the time, for so many seconds, through a pooler. One that meets
/// an error gives up, and is told of.
async fn load(s: &Sandbox<'_>, host: &str, script: &str, seconds: u64) -> Result<String> {
    let bench = format!(
        "cd /binding; echo \"$0\" | PGPASSWORD=$(cat password) PGSSLMODE=verify-full PGSSLROOTCERT=/binding/ca.crt \
         exec pgbench -n -M prepared -c 16 -j 2 -R 200 -T {seconds} -f - -h $(cat {host}) -p $(cat port) \
         -U $(cat username) $(cat database) 2>&1"
    );
    let said = s.exec("app", "psql", &["sh", "-c", &bench, script]).await?;
    let figures: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("latency") || l.contains("failed") || l.contains("processed"))
        .collect();
    ensure!(
        said.contains("number of failed transactions: 0 ") && !said.contains("aborted"),
        "clients through the pooler met errors: {said}"
    );
    Ok(figures.join("; "))
}

/// A set of three with poolers for both sides, and a pod called `app` that may connect.
async fn pooled(s: &Sandbox<'_>, pooler: Value) -> Result<()> {
    s.postgres("db", &json!({"instances": 3, "pooler": pooler}))
        .await?;
    s.settled("db", READY).await?;
    s.client("app", "db", true).await?;
    Ok(())
}

/// Switchovers on request, and a primary that is told to go, while clients write and read through poolers:
/// none of them meets an error.
pub async fn pooler_hand_over(s: &Sandbox<'_>) -> Result<()> {
    pooled(s, json!({"replicas": true})).await?;
    sql(s, POOLED, "create table load (at timestamptz)").await?;
    let before = primary(s, "db").await?;
    let replica = INSTANCES.into_iter().find(|i| *i != before);
    let node = node_of(s, replica.context("there are three")?).await?;
    let writer = Writer::through_pooler(s, &node).await?;
    let inserts = load(s, "pooler-host", "insert into load values (now());", 60);
    let reads = load(
        s,
        "pooler-replica-host",
        "select count(*) from load where at < now();",
        60,
    );
    let hand_overs = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for name in ["first", "second"] {
            ask(s, name, &json!({})).await?;
            let done = over(s, name).await?;
            ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
            s.settled("db", READY).await?;
        }
        writer.more(50).await?;
        let verdict = writer.verdict().await?;
        s.say(&format!(
            "switchovers through the pooler: writes paused for {:?} at most",
            verdict.gap()
        ));
        let now = primary(s, "db").await?;
        s.api::<Pod>()
            .delete(&now, &DeleteParams::default())
            .await?;
        another_primary(s, &now).await?;
        anyhow::Ok(())
    };
    let (inserts, reads, hand_overs) = tokio::join!(inserts, reads, hand_overs);
    hand_overs?;
    s.say(&format!("writers: {}", inserts?));
    s.say(&format!("readers: {}", reads?));
    equal(s).await?;
    writer.more(50).await?;
    let verdict = writer.verdict().await?;
    ensure!(verdict.holds(), "{verdict}");
    // Before its first row is written the pooler may not be reached yet.
    let ledger = writer.ledger().await?;
    let served = ledger
        .iter()
        .skip_while(|e| e.outcome != Outcome::Acknowledged);
    let errors: Vec<_> = served
        .filter(|e| matches!(e.outcome, Outcome::Failed | Outcome::Unknown))
        .collect();
    ensure!(
        errors.is_empty(),
        "the writer through the pooler met errors: {errors:?}"
    );
    s.say(&format!("writes paused for {:?} at most", verdict.gap()));
    Ok(())
}

/// Who gets in and who does not, where reads go, another password, a transaction that is too long, and
/// the end of the pooler.
pub async fn pooler_serves(s: &Sandbox<'_>) -> Result<()> {
    pooled(s, json!({"replicas": true, "pauseSeconds": 1})).await?;
    let tls = sql(
        s,
        POOLED,
        "create table t as select 1 as id; select count(*) from t",
    )
    .await?;
    ensure!(tls == "1", "the pooler answered {tls:?}");
    let replica = sql(s, POOLED_READS, "select pg_is_in_recovery()").await?;
    ensure!(replica == "t", "the pooler for reads leads to {replica:?}");
    let facts = sql(
        s,
        POOLED,
        "select not pg_is_in_recovery(), (select ssl from pg_stat_ssl where pid = pg_backend_pid())",
    );
    ensure!(facts.await? == "t|t", "not the primary, or without TLS");

    let refused = async |words: &str, why: &str| {
        let said = format!("{:?}", sql(s, words, "select 1").await.err());
        ensure!(said.contains(why), "{words} was answered with {said}");
        anyhow::Ok(())
    };
    refused("host=$(cat pooler-host) sslmode=disable", "SSL required").await?;
    refused(
        "host=$(cat pooler-host) sslmode=verify-full sslrootcert=system",
        "certificate verify failed",
    )
    .await?;
    for nobody in [
        "postgres",
        "mainstay_pooler",
        "mainstay_replication",
        "nobody",
    ] {
        refused(&format!("{POOLED} user={nobody}"), "FATAL").await?;
    }
    refused(&format!("{POOLED} dbname=pgbouncer"), "FATAL").await?;
    password_changes(s).await?;
    long_transaction(s).await?;
    removed(s).await
}

/// Another password in the application's Secret is the one that the pooler takes.
async fn password_changes(s: &Sandbox<'_>) -> Result<()> {
    let secrets = s.api::<Secret>();
    let patch = Patch::Merge(json!({"stringData": {"password": "another-password-of-mine"}}));
    secrets
        .patch("db-app", &PatchParams::default(), &patch)
        .await?;
    let login = format!(
        "PGPASSWORD=another-password-of-mine; export PGPASSWORD; cd /binding; exec psql -XAtq \"port=$(cat port) dbname=$(cat database) user=$(cat username) {POOLED}\" -c 'insert into t values (2); select count(*) from t'"
    );
    s.until("the other password to be taken", READY, || async {
        let got = s.exec("app", "psql", &["sh", "-c", &login]).await;
        Ok(match got {
            Ok(rows) if rows == "2" => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await?;
    let old = "PGPASSWORD=wrong-password; export PGPASSWORD; cd /binding";
    let script = format!(
        "{old}; exec psql -XAtq \"port=$(cat port) dbname=$(cat database) user=$(cat username) {POOLED}\" -c 'select 1'"
    );
    let wrong = s.exec("app", "psql", &["sh", "-c", &script]).await;
    ensure!(wrong.is_err(), "a wrong password was taken");
    s.until("the mounted password to be the new one", READY, || async {
        Ok(match sql(s, POOLED, "select 1").await {
            Ok(_) => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await
}

/// A transaction that outlasts the limit is broken off, and its client is told; others wait.
async fn long_transaction(s: &Sandbox<'_>) -> Result<()> {
    let long = sql(s, POOLED, "select pg_sleep(60)");
    let short = load(s, "pooler-host", "insert into t values (3);", 20);
    let hand_over = async {
        // Else it would wait with the others, and run on the next primary.
        let leads = primary(s, "db").await?;
        let runs = "select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%' and state = 'active'";
        s.until("the long transaction to run", READY, || async {
            Ok(match s.admin_sql(&leads, runs).await {
                Ok(count) if count == "1" => Look::Done(()),
                other => Look::seen(&other),
            })
        })
        .await?;
        ask(s, "long", &json!({})).await?;
        let done = over(s, "long").await?;
        ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
        anyhow::Ok(())
    };
    let (long, short, hand_over) = tokio::join!(long, short, hand_over);
    hand_over?;
    let said = format!("{:?}", long.err());
    ensure!(
        said.contains("terminating connection due to administrator command"),
        "a long transaction was answered with {said}"
    );
    s.say(&format!("beside a long transaction: {}", short?));
    s.settled("db", READY).await?;
    Ok(())
}

/// Names of the pooler's objects of a kind.
async fn of_the_pooler<K>(s: &Sandbox<'_>) -> Result<Vec<String>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let all = s.api::<K>().list(&ListParams::default()).await?;
    let names = all.iter().map(ResourceExt::name_any);
    Ok(names.filter(|n| n.contains("pooler")).collect())
}

/// Without the block nothing of the pooler is left, and the database goes on.
async fn removed(s: &Sandbox<'_>) -> Result<()> {
    let pods = s.api::<Pod>();
    let own = ListParams::default().labels("app.kubernetes.io/name=postgres");
    let uids = async || -> Result<Vec<Option<String>>> {
        Ok(pods.list(&own).await?.iter().map(Pod::uid).collect())
    };
    let before = uids().await?;
    s.change("db", &json!({"pooler": null})).await?;
    let pg = s.settled("db", READY).await?;
    ensure!(pg.status.is_some_and(|st| st.pooler.is_none()));
    s.until("everything of the pooler to be gone", READY, || async {
        let mut left = Vec::new();
        left.extend(of_the_pooler::<Deployment>(s).await?);
        left.extend(of_the_pooler::<Service>(s).await?);
        left.extend(of_the_pooler::<ConfigMap>(s).await?);
        left.extend(of_the_pooler::<Secret>(s).await?);
        left.extend(of_the_pooler::<NetworkPolicy>(s).await?);
        left.extend(of_the_pooler::<PodDisruptionBudget>(s).await?);
        left.extend(of_the_pooler::<Pod>(s).await?);
        let secret = s.api::<Secret>().get("db-app").await?;
        let keys = secret.data.unwrap_or_default();
        left.extend(keys.into_keys().filter(|k| k.starts_with("pooler")));
        let role = "select count(*) from pg_roles where rolname = 'mainstay_pooler'";
        let primary = primary(s, "db").await?;
        if s.admin_sql(&primary, role).await? != "0" {
            left.push("role mainstay_pooler".to_owned());
        }
        Ok(if left.is_empty() {
            Look::Done(())
        } else {
            Look::seen(&left)
        })
    })
    .await?;
    ensure!(uids().await? == before, "a data pod was replaced");
    Ok(())
}
