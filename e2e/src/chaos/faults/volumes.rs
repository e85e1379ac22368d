//! Volumes that are full, that hang, whose data is damaged, and that are lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::{pods, renamed, succeeded};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::pod::Deletion;
use crate::faults::volume::Volume;
use crate::scenarios::failures::faults;
use crate::scenarios::kit::{Look, READY};

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        primary_full,
        "the primary's volume is full and its log needs a new file; then all volumes are grown"
    ),
    fault!(
        replica_full,
        "a replica's volume is full and its log needs a new file; then there is space again"
    ),
    fault!(
        primary_frozen,
        "writes to the primary's volume never return, until another one leads"
    )
    .of_every(),
    fault!(
        replica_frozen,
        "writes to a replica's volume never return, for 15 seconds"
    )
    .of_every(),
    fault!(
        replica_damaged,
        "a replica's data is damaged and its engine killed; its volume is deleted, as the status says"
    ),
    fault!(
        primary_volume_lost,
        "the primary's volume is lost with its pod"
    )
    .of_every(),
    fault!(
        recloned_pod_forced,
        "a replica's volume is lost; as soon as it is copied anew the primary's pod is deleted by force"
    )
    .of_every(),
];

async fn volume(g: &Ground<'_>, instance: &str) -> Result<Volume> {
    let claim = format!("{instance}-data");
    let client = &g.sandbox.ctx.client;
    Ok(Volume::of_claim(client, &g.sandbox.namespace, &claim).await?)
}

/// Has the log go on in a new file.
const SWITCH: &str = "select pg_logical_emit_message(false, 'next', ''), pg_switch_wal()";
/// There are fewer files that wait to be used again.
const FILES: usize = 12;
/// A server whose volume is full may answer nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Have the log of the primary need new files.
async fn switch(g: &Ground<'_>) {
    for _ in 0..FILES {
        let asked = g.sandbox.admin_sql(&g.primary, SWITCH);
        // That it fails is what is waited for.
        if !matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_))) {
            return;
        }
    }
}

async fn primary_full(g: &Ground<'_>) -> Result<Instant> {
    let full = volume(g, &g.primary).await?.fill(faults(g.sandbox)?).await;
    let full = full?;
    switch(g).await;
    g.succeeded().await?;
    g.writer.more(200).await?;
    let larger = json!({"storage": {"size": "2Gi"}});
    g.sandbox.change("db", &larger).await?;
    let since = Instant::now();
    // What fills it stays until then: it is the growth that helps.
    g.settled().await?;
    full.undo().await?;
    Ok(since)
}

/// Wait until the status says something of an instance that is not ready.
async fn says(g: &Ground<'_>, instance: &str, words: &str) -> Result<()> {
    let what = format!("{instance} to be not ready and to say {words:?}");
    g.sandbox
        .until(&what, READY, || async {
            let pg = g.sandbox.api::<Postgres>().get("db").await?;
            let instances = pg.status.unwrap_or_default().instances;
            let found = instances.into_iter().find(|i| i.name == instance);
            let found = found.context("the status misses an instance")?;
            let said = found.state.clone().unwrap_or_default();
            Ok(if !found.ready && said.contains(words) {
                Look::Done(())
            } else {
                Look::seen(&found)
            })
        })
        .await
}

async fn replica_full(g: &Ground<'_>) -> Result<Instant> {
    let replica = g.replica()?;
    let full = volume(g, replica).await?.fill(faults(g.sandbox)?).await;
    let full = full?;
    switch(g).await;
    says(g, replica, "").await?;
    g.writer.more(200).await?;
    full.undo().await?;
    Ok(Instant::now())
}

async fn primary_frozen(g: &Ground<'_>) -> Result<Instant> {
    let frozen = volume(g, &g.primary)
        .await?
        .freeze(faults(g.sandbox)?)
        .await;
    succeeded(g, frozen?).await?;
    Ok(Instant::now())
}

/// Longer than connections are kept without an answer.
const FROZEN: Duration = Duration::from_secs(15);

async fn replica_frozen(g: &Ground<'_>) -> Result<Instant> {
    let frozen = volume(g, g.replica()?)
        .await?
        .freeze(faults(g.sandbox)?)
        .await;
    let frozen = frozen?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(FROZEN).await;
    g.writer.more(200).await?;
    frozen.undo().await?;
    Ok(Instant::now())
}

async fn replica_damaged(g: &Ground<'_>) -> Result<Instant> {
    let replica = g.replica()?;
    let volume = volume(g, replica).await?;
    let engine = g.engine(replica).await?;
    volume
        .damage(faults(g.sandbox)?, "pgdata/global/pg_control")
        .await?;
    engine.kill()?;
    says(g, replica, "delete its volume claim").await?;
    g.writer.more(200).await?;
    lost(g, replica, volume).await
}

/// The volume goes, and the pod that holds it.
async fn lost(g: &Ground<'_>, instance: &str, volume: Volume) -> Result<Instant> {
    volume.lose().await?;
    let gone = pods::gone(g, &[instance], Deletion::Forced).await?;
    let since = Instant::now();
    renamed(g, &[instance], &gone).await?;
    Ok(since)
}

async fn primary_volume_lost(g: &Ground<'_>) -> Result<Instant> {
    let since = lost(g, &g.primary, volume(g, &g.primary).await?).await?;
    g.succeeded().await?;
    Ok(since)
}

async fn recloned_pod_forced(g: &Ground<'_>) -> Result<Instant> {
    let replica = g.replica()?;
    lost(g, replica, volume(g, replica).await?).await?;
    g.settled().await?;
    let gone = pods::gone(g, &[&g.primary], Deletion::Forced).await?;
    let since = Instant::now();
    renamed(g, &[&g.primary], &gone).await?;
    Ok(since)
}
