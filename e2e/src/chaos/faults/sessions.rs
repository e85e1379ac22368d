//! Sessions that wait for replicas are cancelled and ended.
//!
//! PostgreSQL then says in a warning that the write is on this server and perhaps nowhere else, and
//! shows it to everybody. A client that has gone meanwhile does not hear that. Whoever finds the row when
//! it tries again knows nothing: so the writers here write in any case.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{pods, renamed};
use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::Undo;
use crate::faults::pod::Deletion;
use crate::scenarios::failures::node_of;

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        waits_cancelled,
        "no replica is reached, and sessions that wait for one are cancelled and ended, in turn"
    )
    .retried_for_sure(),
    fault!(
        waits_cancelled_pod_forced,
        "the same, and then the primary's pod is deleted by force: what only it has is nobody's promise"
    )
    .retried_for_sure(),
];

/// For how long, and with what pauses: a primary without replicas lets go after ten seconds, and every
/// question takes its time, too.
const LONG: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(500);

/// Part the primary from its replicas, and cancel and end who waits for them.
async fn cancelled<'b>(g: &'b Ground<'b>, node: &'b str, table: &'b str) -> Result<Undo<'b>> {
    let mut others = Vec::new();
    for replica in &g.replicas {
        others.push(g.address(replica).await?);
    }
    let parted = g.links(node, table).await?.part(&others, 100).await?;
    let since = Instant::now();
    let mut met = [0, 0];
    for turn in (0..2).cycle() {
        tokio::time::sleep(PAUSE).await;
        if since.elapsed() > LONG {
            break;
        }
        let how = ["pg_cancel_backend", "pg_terminate_backend"][turn];
        let sql = format!(
            "select count({how}(pid)) from pg_stat_activity \
             where backend_type = 'client backend' and wait_event = 'SyncRep'"
        );
        let count: usize = g.sandbox.admin_sql(&g.primary, &sql).await?.parse()?;
        met[turn] += count;
    }
    ensure!(
        met.iter().all(|n| *n > 0),
        "nobody waited to be cancelled, or to be ended: {met:?}"
    );
    Ok(parted)
}

async fn waits_cancelled(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let parted = cancelled(g, &node, &table).await?;
    parted.undo().await?;
    let since = Instant::now();
    g.writer.more(100).await?;
    Ok(since)
}

async fn waits_cancelled_pod_forced(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let parted = cancelled(g, &node, &table).await?;
    let gone = pods::gone(g, &[&g.primary], Deletion::Forced).await?;
    // The next pod has another address, so nothing parts it from the others: whoever is elected, it or one
    // of them, has taken writes then.
    g.writer.more(200).await?;
    parted.undo().await?;
    let since = Instant::now();
    renamed(g, &[&g.primary], &gone).await?;
    Ok(since)
}
