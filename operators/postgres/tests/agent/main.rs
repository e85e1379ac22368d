//! Agents with real PostgreSQL and a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

mod alone;
mod api;
mod copies;
mod full;
mod pod;
mod processes;
mod promise;
mod repair;
mod replicas;
mod upgrade;
#[path = "../common/volume.rs"]
mod volume;

use std::time::{Duration, Instant};

use mainstay_crds::common::Durability;
use mainstay_shared::agent::api::Status;
use pod::{Pod, Set};

/// A set of one instance that is ready.
async fn one_instance() -> (Set, Pod, Status) {
    let set = Set::new(1, Durability::Async).await;
    let mut one = set.pod(1);
    set.start(&mut one, "uid-1", true);
    let status = set.until(&one, "ready", |s| s.ready).await;
    (set, one, status)
}

async fn show(client: &tokio_postgres::Client, name: &str) -> String {
    client
        .query_one(&format!("show {name}"), &[])
        .await
        .unwrap()
        .get(0)
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < pod::LONG, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
