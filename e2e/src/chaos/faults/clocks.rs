//! Clocks that are wrong.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::chaos::fault::{AGENT, Fault, Ground, fault};
use crate::faults::clock::{self, Clocks};

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        primary_wall_clock_wrong,
        "for 15 seconds the wall clock of the primary's agent is an hour ahead"
    )
    .of_any(),
    fault!(
        primary_clock_jumps,
        "the clocks of the primary's agent jump an hour ahead, as after a pause of its machine, and 15 seconds later it is killed"
    )
    .of_any(),
    fault!(
        replica_clock_jumps,
        "the clocks of a replica's agent jump an hour ahead, as after a pause of its machine, and 15 seconds later it is killed"
    )
    .of_any(),
    fault!(
        async_replica_clock_jumps,
        "the same, and commits wait for nobody"
    )
    .without_waiting(),
];

const AN_HOUR: u32 = 3600;
/// Longer than a Lease lasts.
const AHEAD: Duration = Duration::from_secs(15);

async fn primary_wall_clock_wrong(g: &Ground<'_>) -> Result<Instant> {
    ahead(g, &g.primary, Clocks::Wall).await
}

async fn primary_clock_jumps(g: &Ground<'_>) -> Result<Instant> {
    ahead(g, &g.primary, Clocks::SinceStart).await
}

async fn replica_clock_jumps(g: &Ground<'_>) -> Result<Instant> {
    ahead(g, g.replica()?, Clocks::SinceStart).await
}

async fn async_replica_clock_jumps(g: &Ground<'_>) -> Result<Instant> {
    replica_clock_jumps(g).await
}

async fn ahead(g: &Ground<'_>, instance: &str, clocks: Clocks) -> Result<Instant> {
    let agent = g.process(instance, AGENT).await?;
    let wrong = clock::forward(agent, clocks, AN_HOUR)?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(AHEAD).await;
    g.writer.more(50).await?;
    wrong.undo().await?;
    let since = Instant::now();
    g.writer.more(200).await?;
    Ok(since)
}
