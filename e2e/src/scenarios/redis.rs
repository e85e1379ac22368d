//! Redis: what `WAIT` confirmed is there, whoever was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use mainstay_crds::redis::Redis;
use serde_json::json;

use super::kit::{INSTANCES, Look, READY, Sandbox};

/// Pod of the application, and its container.
const CLIENT: &str = "client";
/// How it asks: over TLS with the set's authority, as the user of its Secret.
const ASK: &str = "ask() { REDISCLI_AUTH=$(cat /binding/password) timeout 3 redis-cli --tls --cacert /binding/ca.crt \
    --user \"$(cat /binding/username)\" -h \"$(cat /binding/host)\" -p \"$(cat /binding/port)\" \"$@\"; }; ";
/// Writes one key after the other. What one replica at least confirmed goes into the ledger, with the time.
const WRITE: &str = "n=0; while :; do n=$((n+1)); \
    case \"$(printf 'SET key:%s v\\nWAIT 1 1000\\n' $n | ask 2>&1 | tr '\\n' ' ')\" in \
    'OK 1 '|'OK 2 ') echo \"$n $(date +%s%3N)\" >> /dev/shm/ledger;; *) sleep 0.02;; esac; done";

/// A write that a replica confirmed: the key's number, and when, in milliseconds since 1970.
type Confirmed = (u64, u64);

async fn primary(s: &Sandbox<'_>) -> Result<String> {
    let redis = s.api::<Redis>().get("db").await?;
    let primary = redis.status.and_then(|status| status.primary);
    primary.context("the status names no primary")
}

/// Wait until all instances are ready, and who is primary.
async fn settled(s: &Sandbox<'_>) -> Result<String> {
    s.until("the set to be whole", READY, || async {
        let redis = s.api::<Redis>().get("db").await?;
        let status = redis.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let whole = status.observed_generation == redis.metadata.generation
            && status.ready.as_deref() == Some("3/3")
            && ready.is_some_and(|c| c.status == "True");
        Ok(match status.primary {
            Some(primary) if whole => Look::Done(primary),
            _ => Look::seen(&(status.ready, status.waiting, status.conditions)),
        })
    })
    .await
}

async fn shell(s: &Sandbox<'_>, script: &str) -> Result<String> {
    let script = format!("{ASK}{script}");
    s.exec(CLIENT, CLIENT, &["sh", "-c", &script]).await
}

async fn ledger(s: &Sandbox<'_>) -> Result<Vec<Confirmed>> {
    let text = shell(s, "cat /dev/shm/ledger 2>/dev/null || true").await?;
    let entry = |line: &str| -> Result<Confirmed> {
        let (number, at) = line.split_once(' ').context("a line of the ledger")?;
        Ok((number.parse()?, at.parse()?))
    };
    text.lines().map(entry).collect()
}

/// Wait until so many more writes were confirmed.
async fn more(s: &Sandbox<'_>, writes: usize) -> Result<Vec<Confirmed>> {
    let before = ledger(s).await?.len();
    s.until("more writes to be confirmed", READY, || async {
        let now = ledger(s).await?;
        Ok(if now.len() >= before + writes {
            Look::Done(now)
        } else {
            Look::seen(&now.len())
        })
    })
    .await
}

/// Every confirmed write is there. Says how long none was at most, after `since` entries of the ledger.
async fn holds(s: &Sandbox<'_>, since: usize) -> Result<Duration> {
    let confirmed = more(s, 20).await?;
    let held = shell(s, "ask keys 'key:*'").await?;
    let held: BTreeSet<&str> = held.lines().collect();
    let lost = confirmed
        .iter()
        .filter(|(number, _)| !held.contains(format!("key:{number}").as_str()));
    let lost: Vec<_> = lost.collect();
    ensure!(
        lost.is_empty(),
        "{} of {} confirmed writes are lost: {lost:?}",
        lost.len(),
        confirmed.len()
    );
    let times = confirmed[since.saturating_sub(1)..].windows(2);
    let longest = times.map(|pair| pair[1].1.saturating_sub(pair[0].1)).max();
    Ok(Duration::from_millis(longest.unwrap_or_default()))
}

async fn delete(s: &Sandbox<'_>, pod: &str, with: &DeleteParams) -> Result<()> {
    s.api::<Pod>().delete(pod, with).await?;
    Ok(())
}

async fn another_primary(s: &Sandbox<'_>, before: &str) -> Result<()> {
    s.until("another primary", READY, || async {
        Ok(match primary(s).await {
            Ok(now) if now != before => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await
}

/// An application writes over TLS, and has a replica confirm each write. The primary's pod is deleted by force, then
/// told to go, then all pods are deleted by force at once.
pub async fn redis_pods_lost(s: &Sandbox<'_>) -> Result<()> {
    let object = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis", "metadata": {"name": "db"},
        "spec": {
            "version": "8.0", "instances": 3, "storage": {"size": "1Gi"},
            "resources": {"cpu": "50m", "memory": "256Mi"},
            "deletion": {"protection": false, "volumes": "Delete"},
        },
    });
    let apply = PatchParams::apply("e2e").force();
    let sets = s.api::<Redis>();
    sets.patch("db", &apply, &Patch::Apply(&object)).await?;
    let first = settled(s).await?;
    ensure!(first == "db-1", "{first} is the first primary");
    let image = &s.ctx.images.redis;
    s.client_pod(CLIENT, "db", true, image, CLIENT).await?;
    // Its quotes stay what they are where the script comes as a variable.
    let writer = format!("WRITER={ASK}{WRITE}");
    let begin = "setsid sh -c 'eval \"$WRITER\"' </dev/null >/dev/null 2>&1 &";
    let start = ["env", writer.as_str(), "sh", "-c", begin];
    s.exec(CLIENT, CLIENT, &start).await?;
    let before = more(s, 50).await?;

    let forced = DeleteParams::default().grace_period(0);
    delete(s, &first, &forced).await?;
    another_primary(s, &first).await?;
    let gap = holds(s, before.len()).await?;
    s.say(&format!(
        "a primary's pod deleted by force: no write confirmed for {gap:?}"
    ));

    let second = settled(s).await?;
    let before = more(s, 50).await?;
    delete(s, &second, &DeleteParams::default()).await?;
    another_primary(s, &second).await?;
    let gap = holds(s, before.len()).await?;
    s.say(&format!(
        "a primary's pod told to go: no write confirmed for {gap:?}"
    ));

    settled(s).await?;
    let before = more(s, 50).await?;
    for pod in INSTANCES {
        delete(s, pod, &forced).await?;
    }
    let gap = holds(s, before.len()).await?;
    s.say(&format!(
        "all pods deleted by force: no write confirmed for {gap:?}"
    ));
    settled(s).await?;
    Ok(())
}
