//! What is done to a Redis Cluster only: its slots move, its members are parted, replaced, and get other certificates.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use mainstay_crds::redis::Redis;
use serde_json::json;

use super::identities::{self, Identities};
use super::{pods, renamed, succeeded};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::pod::Deletion;
use crate::scenarios::failures::node_of;
use crate::scenarios::kit::{Look, READY};
use crate::scenarios::operators;
use crate::scenarios::set::cluster;

const KILLS: &str = "it kills the operators";

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        members_cut,
        "the primary of a shard reaches its clients and no member on another node, until another one leads"
    )
    .of_cluster(),
    fault!(
        reshard_operator_killed,
        "slots move to a fourth shard and back, and the operator is killed again and again meanwhile"
    )
    .of_cluster()
    .alone(KILLS),
    fault!(
        reshard_pod_forced,
        "slots move to a fourth shard, and the pod of a primary that gives some is deleted by force; and back"
    )
    .of_cluster(),
    fault!(
        rolled,
        "more memory for each member: every pod is replaced, shard by shard"
    )
    .of_cluster(),
    fault!(
        certificates_renewed,
        "all certificates are issued anew at once; no engine is started again"
    )
    .of_cluster(),
];

async fn members_cut(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let links = g.links(&node, &table).await?;
    let mut others = Vec::new();
    for instance in g.kind.instances().iter().filter(|i| **i != g.primary) {
        others.push(g.address(instance).await?);
    }
    let parted = links.part(&others, 100).await?;
    succeeded(g, parted).await?;
    Ok(Instant::now())
}

/// Slots move within this time, while everything else goes on.
const MOVED: Duration = Duration::from_secs(420);

/// Ask for so many shards, and wait until slots move.
async fn begin(g: &Ground<'_>, shards: i32) -> Result<()> {
    let before = cluster(g.sandbox, "db").await?.slots_to_move;
    ensure!(before == 0, "{before} slots are on their way already");
    let shape = json!({"shards": shards});
    g.sandbox.change_of::<Redis>("db", &shape).await?;
    moving(g).await
}

async fn moving(g: &Ground<'_>) -> Result<()> {
    g.sandbox
        .until("slots to be on their way", READY, || async {
            let now = cluster(g.sandbox, "db").await?;
            Ok(if now.slots_to_move > 0 {
                Look::Done(())
            } else {
                Look::seen(&now)
            })
        })
        .await
}

/// How often the operator is killed, and after how long each time.
const INTERRUPTED: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(400),
    Duration::from_millis(1100),
];

async fn reshard_operator_killed(g: &Ground<'_>) -> Result<Instant> {
    let mut since = Instant::now();
    for shards in [4, 3] {
        begin(g, shards).await?;
        for after in INTERRUPTED {
            // The length of the work that is lost: nothing is waited for.
            tokio::time::sleep(after).await;
            operators::kill(g.sandbox).await?;
            since = Instant::now();
            g.writer.more(50).await?;
        }
        g.kind.settled_within(g.sandbox, "db", MOVED).await?;
    }
    Ok(since)
}

async fn reshard_pod_forced(g: &Ground<'_>) -> Result<Instant> {
    begin(g, 4).await?;
    pods::replaced(g, &[&g.primary], Deletion::Forced).await?;
    g.writer.more(100).await?;
    g.kind.settled_within(g.sandbox, "db", MOVED).await?;
    let since = Instant::now();
    let back = json!({"shards": 3});
    g.sandbox.change_of::<Redis>("db", &back).await?;
    g.kind.settled_within(g.sandbox, "db", MOVED).await?;
    Ok(since)
}

async fn rolled(g: &Ground<'_>) -> Result<Instant> {
    let instances = g.kind.instances();
    let mut before = BTreeSet::new();
    for instance in instances {
        before.extend(g.pod(instance).await?.uid());
    }
    let more = json!({"resources": {"memory": "320Mi"}});
    g.sandbox.change_of::<Redis>("db", &more).await?;
    let since = Instant::now();
    renamed(g, instances, &before).await?;
    Ok(since)
}

async fn certificates_renewed(g: &Ground<'_>) -> Result<Instant> {
    let before = Identities::of(g).await?;
    let since = Instant::now();
    identities::issue_anew(g).await?;
    before.until_others(g).await?;
    g.writer.more(200).await?;
    before.of_same_engines(g).await?;
    Ok(since)
}
