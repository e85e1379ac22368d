//! Passwords and certificates are changed while applications write, also such as connect anew all the time.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use mainstay_crds::operation::OperationPhase;
use mainstay_workload::ledger::{Entry, Outcome};
use mainstay_workload::redis::CONFIRMED_BY;
use serde_json::json;
use tokio::time::sleep;

use super::identities::{self, Identities};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::scenarios::failures::node_of;
use crate::scenarios::kit::READY;
use crate::scenarios::operations::{ask, over};
use crate::scenarios::set::Kind;
use crate::scenarios::writer::Writer;

/// This family.
pub const FAULTS: &[Fault] = &[fault!(
    credentials_rotated,
    "another password is asked for by an Operation and all certificates are issued anew; one client keeps its connection, one reads the Secret anew and connects for each write, and one comes with the new password"
)
.of_every_redis()];

/// What applications read.
const APPLICATION: &str = "db-app";
/// Connects for each write.
const FRESH: &str = "fresh";
/// Comes when the password has changed.
const NEWCOMER: &str = "newcomer";
/// The operation that asks for another password.
const ROTATION: &str = "rotate-password";

/// Both write at leisure, since each of their connections begins with a handshake; with each member of a cluster.
fn options(kind: Kind) -> [&'static str; 5] {
    let interval = if kind == Kind::RedisCluster {
        "250ms"
    } else {
        "50ms"
    };
    ["--fresh", "--wait", "1", "--interval", interval]
}

/// The kubelet looks at a pod that changes, and mounts what its Secrets hold by now.
async fn look_again(g: &Ground<'_>, note: &str) -> Result<()> {
    let again = json!({"metadata": {"annotations": {"e2e/mounts": note}}});
    let pods = g.sandbox.api::<Pod>();
    pods.patch(FRESH, &PatchParams::default(), &Patch::Merge(again))
        .await?;
    Ok(())
}

/// Has it look each second.
async fn remount(g: &Ground<'_>) -> Result<Infallible> {
    for count in 0_u32.. {
        look_again(g, &count.to_string()).await?;
        sleep(Duration::from_secs(1)).await;
    }
    bail!("it was looked at for ever")
}

async fn credentials_rotated(g: &Ground<'_>) -> Result<Instant> {
    let s = g.sandbox;
    let node = node_of(s, g.replica()?).await?;
    let fresh = Writer::another(s, g.kind, FRESH, &node, &options(g.kind)).await?;
    let known = Identities::of(g).await?;
    // In its first second a pod's packets may be dropped: its address comes to network policies only then.
    let (written, begun) = (g.writer.ledger().await?.len(), fresh.ledger().await?.len());

    let since = Instant::now();
    identities::issue_anew(g).await?;
    let before = s.password(APPLICATION).await?;
    let what = json!({"target": {"kind": "Redis", "name": "db"}, "action": "RotatePassword"});
    ask(s, ROTATION, &what).await?;
    // Meanwhile the client finds what its Secret holds within a second, and comes with that.
    let done = tokio::select! {
        done = over(s, ROTATION) => done?,
        never = remount(g) => match never? {},
    };
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    ensure!(
        s.password(APPLICATION).await? != before,
        "the password is the same"
    );
    known.until_others(g).await?;
    // It has nothing but the new password.
    let newcomer = Writer::another(s, g.kind, NEWCOMER, &node, &options(g.kind)).await?;
    look_again(g, "once more").await?;
    let came = newcomer.more(50).await?;
    let refused = came
        .iter()
        .find(|e| e.detail.contains("authentication failed"));
    ensure!(
        refused.is_none(),
        "who came with the new password: {refused:?}"
    );
    let connected = fresh.more(200).await?.split_off(begun);

    known.of_same_engines(g).await?;
    let kept = g.writer.ledger().await?.split_off(written);
    for (who, entries) in [(FRESH, connected), ("the client", kept)] {
        let errors: Vec<String> = errors(&entries).map(Entry::to_string).collect();
        ensure!(
            errors.is_empty(),
            "{who} had {} errors: {:?}",
            errors.len(),
            errors.iter().take(5).collect::<Vec<_>>()
        );
    }
    for client in [&fresh, &newcomer] {
        let verdict = client.verdict().await?;
        ensure!(verdict.holds(), "{verdict}");
    }
    // Whose ledger is judged with the others' writes on.
    for name in [FRESH, NEWCOMER] {
        s.delete::<Pod>(name, READY).await?;
    }
    Ok(since)
}

/// What was neither taken nor acknowledged. Replicas of a busy machine may be slow; that they were always there
/// is known from their logs.
fn errors(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let error = |e: &&Entry| e.outcome < Outcome::Taken && !e.detail.starts_with(CONFIRMED_BY);
    entries.iter().filter(error)
}
