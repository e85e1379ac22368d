//! Links that lose packets, or are slow.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::chaos::fault::{Fault, Ground, fault};
use crate::faults::delay;
use crate::scenarios::failures::{faults, node_of};

/// This family.
pub const FAULTS: &[Fault] = &[
    fault!(
        lossy,
        "for 20 seconds the primary's links to its replicas lose one packet in twenty"
    )
    .of_any(),
    fault!(
        lossy_and_slow,
        "for 30 seconds the primary's links to its replicas lose one packet in twenty, and delay each other one by 200 ms"
    )
    .of_any(),
];

/// Long enough for several renewals, and for a connection that stalls to be noticed.
const LOSSY: Duration = Duration::from_secs(20);
/// Nearly each write takes half a second then.
const SLOW: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_millis(200);
/// Of a hundred packets.
const LOST: u8 = 5;

async fn others(g: &Ground<'_>) -> Result<Vec<std::net::IpAddr>> {
    let mut others = Vec::new();
    for replica in &g.replicas {
        others.push(g.address(replica).await?);
    }
    Ok(others)
}

async fn lossy(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let links = g.links(&node, &table).await?;
    let parted = links.part(&others(g).await?, LOST).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(LOSSY).await;
    parted.undo().await?;
    g.writer.more(200).await?;
    Ok(Instant::now())
}

async fn lossy_and_slow(g: &Ground<'_>) -> Result<Instant> {
    let (node, table) = (node_of(g.sandbox, &g.primary).await?, g.unique());
    let (others, links) = (others(g).await?, g.links(&node, &table).await?);
    let parted = links.part(&others, LOST).await?;
    // The pod's own address tells the queue from those of other sets on this node.
    let queue = match links.pod {
        std::net::IpAddr::V4(ip) => u16::from_be_bytes([ip.octets()[2], ip.octets()[3]]),
        std::net::IpAddr::V6(ip) => ip.segments()[7],
    };
    let slow = delay::slow(faults(g.sandbox)?, &node, queue, links.pod, &others, DELAY).await?;
    // The length of the fault: nothing is waited for.
    tokio::time::sleep(SLOW).await;
    slow.undo().await?;
    parted.undo().await?;
    g.writer.more(200).await?;
    Ok(Instant::now())
}
