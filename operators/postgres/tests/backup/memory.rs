//! How much memory the backup container takes.

use mainstay_backup::api::ArchiveState;

use crate::figures::fill;
use crate::kit::{Where, World};
use crate::meter::peak;

/// The most that it may have of its own.
const MOST: u64 = 64 << 20;

/// Several segments are stored at a time, and each is compressed and encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn log_that_has_piled_up_is_stored_within_64_mib() {
    let world = World::new(Where::S3, true).await;
    let mut node = world.node("db-1");
    node.initialise_with(16);
    node.start(None);
    fill(&node, 256);
    let last = node.switch();
    node.start_sidecar();
    let ((), most) = peak(node.sidecar_pid(), || {
        world.until(&node, "stored", |r| {
            r.archive.state == ArchiveState::Ok && r.archive.last_piece.as_ref() >= Some(&last)
        });
    });
    println!("memory at its most: {most}");
    assert!(most.own < MOST, "{most}");
}
