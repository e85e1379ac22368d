//! Redis Cluster in pods: it forms, an application uses it by its own protocol, and it goes on and grows meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams};
use mainstay_crds::redis::{ClusterStatus, Redis};
use serde_json::json;

use super::failures::node_of;
use super::kit::{Look, READY, Sandbox};
use super::set::cluster;
use super::writer::Writer;

/// All slots of a cluster.
const SLOTS: i32 = 16_384;
/// Slots move within this time, on a machine that does much else.
const MOVED: Duration = Duration::from_secs(420);

/// So many shards with a replica each, and as many slots in each as can be.
pub(super) async fn even(s: &Sandbox<'_>, shards: i32) -> Result<ClusterStatus> {
    let now = cluster(s, "db").await?;
    let share = SLOTS / shards;
    let fair = |slots: i32| (share..=share + 1).contains(&slots);
    ensure!(
        now.formed && now.slots == SLOTS && now.slots_to_move == 0,
        "{now:?}"
    );
    ensure!(now.shards.len() == usize::try_from(shards)?, "{now:?}");
    let whole = now
        .shards
        .iter()
        .all(|s| fair(s.slots) && s.replicas.len() == 1);
    ensure!(whole, "{now:?}");
    Ok(now)
}

/// No shard has both its members in one zone.
async fn apart(s: &Sandbox<'_>, now: &ClusterStatus) -> Result<()> {
    let redis = s.api::<Redis>().get("db").await?;
    let instances = redis.status.unwrap_or_default().instances;
    let zone = |name: &String| {
        let found = instances.iter().find(|i| i.name == *name);
        found.and_then(|i| i.zone.clone())
    };
    for shard in &now.shards {
        let all = shard.replicas.iter().chain([&shard.primary]);
        let zones: BTreeSet<_> = all.clone().map(zone).collect();
        ensure!(zones.len() == all.count(), "{shard:?} is in {zones:?}");
    }
    Ok(())
}

/// What a replica says that was asked to take over, and what one that was elected.
const ASKED: &str = "Manual failover user request accepted";
const ELECTED: &str = "Failover election won";

/// Whether the engine that leads now was asked to, by the operator, since then; what it says of it.
async fn asked(s: &Sandbox<'_>, heir: &str, since: Instant) -> Result<bool> {
    let which = LogParams {
        // Whole seconds, and one for what is rounded.
        since_seconds: Some(i64::try_from(since.elapsed().as_secs())? + 1),
        ..LogParams::default()
    };
    let log = s.api::<Pod>().logs(heir, &which).await?;
    ensure!(
        log.contains(ELECTED),
        "{heir} does not say how it came to lead: {log}"
    );
    Ok(log.contains(ASKED))
}

/// Three shards form; a primary's pod is deleted by force, and slots move to a fourth shard and back, while an application writes.
pub async fn redis_cluster(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"mode": "Cluster", "shards": 3, "replicas": 1});
    s.apply::<Redis>("db", &spec).await?;
    s.settled_of::<Redis>("db", READY).await?;
    let formed = even(s, 3).await?;
    apart(s, &formed).await?;

    let first = formed.shards.first().context("there are three")?;
    let beside = first.replicas.first().context("it has one")?;
    let writer = Writer::of_cluster(s, &node_of(s, beside).await?).await?;
    let since = Instant::now();
    let force = DeleteParams::default().grace_period(0);
    s.api::<Pod>().delete(&first.primary, &force).await?;
    s.until("another primary of its shard", READY, || async {
        let now = cluster(s, "db").await?;
        let leads = |name: &String| now.shards.iter().any(|s| s.primary == *name && s.slots > 0);
        Ok(if leads(beside) {
            Look::Done(())
        } else {
            Look::seen(&now)
        })
    })
    .await?;
    ensure!(
        !asked(s, beside, since).await?,
        "{beside} was asked to take over from one that was lost"
    );
    s.settled_of::<Redis>("db", READY).await?;
    even(s, 3).await?;
    let gap = writer.holds().await?;
    s.say(&format!(
        "a primary's pod was deleted by force: writes paused for {gap:?} at most"
    ));

    // Told to go in order, it hands over before it ends.
    let now = even(s, 3).await?;
    let shard = now.shards.last().context("there are three")?;
    let last = shard.primary.clone();
    let heir = shard.replicas.first().context("it has one")?.clone();
    let since = Instant::now();
    s.api::<Pod>()
        .delete(&last, &DeleteParams::default())
        .await?;
    s.until("its shard to be handed over", READY, || async {
        let now = cluster(s, "db").await?;
        let leads = now.shards.iter().any(|s| s.primary == last && s.slots > 0);
        Ok(if leads {
            Look::seen(&now)
        } else {
            Look::Done(())
        })
    })
    .await?;
    ensure!(
        asked(s, &heir, since).await?,
        "{heir} was elected: it was not asked to take over"
    );
    s.settled_of::<Redis>("db", READY).await?;
    even(s, 3).await?;
    writer.holds().await?;

    for shards in [4, 3] {
        let begun = Instant::now();
        s.change_of::<Redis>("db", &json!({"shards": shards}))
            .await?;
        s.settled_of::<Redis>("db", MOVED).await?;
        let now = even(s, shards).await?;
        apart(s, &now).await?;
        s.say(&format!("to {shards} shards in {:?}", begun.elapsed()));
    }
    let gap = writer.holds().await?;
    let verdict = writer.verdict().await?;
    s.say(&format!(
        "writes paused for {gap:?} at most; of {} confirmed none is lost, of {} only taken {} are",
        verdict.acknowledged,
        verdict.taken,
        verdict.forgotten.len()
    ));
    Ok(())
}
