//! The planner of cluster mode with real engines: processes in cluster mode on loopback, with TLS for clients and among
//! themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

mod client;
#[path = "../clients/mod.rs"]
mod clients;
mod cluster;
mod figures;
mod languages;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::Cluster;
use mainstay_redis::shards::plan::{Act, Failover};

/// Keys that every replica has.
async fn fill(cluster: &Cluster) {
    let mut client = cluster.client();
    for n in 0..200 {
        client.set(&format!("key-{n}"), "1").await;
    }
    client.wait_for_replicas().await;
}

async fn assert_filled(cluster: &Cluster) {
    let mut client = cluster.client();
    for n in 0..200 {
        assert_eq!(client.get(&format!("key-{n}")).await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn it_scales_out_and_in_with_every_key_while_its_executor_is_killed() {
    let mut cluster = Cluster::new(1, 3, 1).await;
    cluster.converge().await;
    cluster.assert_as_asked().await;
    assert!(cluster.plan().await.is_settled(), "it is left alone");

    let mut client = cluster.client();
    let value = "v".repeat(1024);
    for n in 0..6_000 {
        client.set(&format!("key-{n}"), &value).await;
    }

    // Somebody writes all the time; the executor is killed in the midst of slots.
    let writer = cluster.writer();
    cluster.scale(4);
    let begun = Instant::now();
    let mut killed = 0;
    let mut half_way = 0;
    while killed < 12 {
        let plan = cluster.plan().await;
        half_way += cluster.half_way();
        if let Some(Act::Moves(_)) = &plan.disruptive {
            killed += 1;
            let soon = Duration::from_millis(2 + 3 * killed);
            let _ = tokio::time::timeout(soon, cluster.execute(plan)).await;
            cluster.forget_connections();
        } else {
            cluster.execute(plan).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(
            begun.elapsed() < cluster::LONG,
            "it does not come to move slots"
        );
    }
    assert!(half_way > 0, "it was never killed half-way through a slot");
    let moving = Instant::now();
    cluster.converge().await;
    println!(
        "scale-out, after 12 kills: {:?}; in one go the rest: {:?}",
        begun.elapsed(),
        moving.elapsed()
    );
    cluster.assert_as_asked().await;

    cluster.scale(3);
    let begun = Instant::now();
    cluster.converge().await;
    println!("scale-in: {:?}", begun.elapsed());
    cluster.assert_as_asked().await;

    let written = writer.stop().await.keys;
    assert!(written.len() > 20, "{} keys were written", written.len());
    let mut client = cluster.client();
    let mut lost = Vec::new();
    for (key, version) in &written {
        let found = client.get(key).await.and_then(|v| v.parse::<u64>().ok());
        if found.is_none_or(|found| found < *version) {
            lost.push((key, version, found));
        }
    }
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for n in 0..6_000 {
        assert_eq!(
            client.get(&format!("key-{n}")).await.as_ref(),
            Some(&value),
            "key-{n}"
        );
    }
}

#[tokio::test]
async fn a_primary_is_lost_and_returns_and_then_all_addresses_change() {
    let mut cluster = Cluster::new(2, 3, 1).await;
    cluster.converge().await;
    fill(&cluster).await;
    let before = cluster.primaries().await;

    // The engine elects, the planner leaves it alone meanwhile.
    let lost = before.keys().next().unwrap().clone();
    cluster.kill(&lost);
    let begun = Instant::now();
    loop {
        let plan = cluster.plan().await;
        assert_eq!(plan.disruptive, None, "{plan:?}");
        assert!(!plan.is_settled(), "a member is away");
        if !cluster.primaries().await.contains_key(&lost) && cluster.primaries().await.len() == 3 {
            break;
        }
        assert!(
            begun.elapsed() < cluster::LONG,
            "nobody is elected: {plan:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("elected after {:?}", begun.elapsed());
    cluster.start(&lost);
    cluster.converge().await;
    cluster.assert_as_asked().await;

    // One whose volume is lost comes back as another node; the former one is forgotten.
    let replica = cluster.replicas().await.into_iter().next().unwrap();
    cluster.kill(&replica);
    cluster.wipe(&replica);
    cluster.start(&replica);
    cluster.converge().await;
    cluster.assert_as_asked().await;

    cluster.move_all();
    cluster.converge().await;
    cluster.assert_as_asked().await;
    assert_filled(&cluster).await;
}

#[tokio::test]
async fn a_majority_of_primaries_is_lost_and_replicas_take_over() {
    let mut cluster = Cluster::new(4, 3, 1).await;
    cluster.converge().await;
    fill(&cluster).await;
    let primaries = cluster.primaries().await;
    let lost: Vec<String> = primaries.into_keys().take(2).collect();
    for name in &lost {
        cluster.kill(name);
    }
    let begun = Instant::now();
    let mut forced = Vec::new();
    loop {
        let now = cluster.primaries().await;
        if now.len() == 3 && !lost.iter().any(|name| now.contains_key(name)) {
            break;
        }
        let plan = cluster.plan().await;
        if let Some(Act::Failover { how, .. }) = &plan.disruptive {
            assert!(
                begun.elapsed() > Duration::from_secs(14),
                "the engine has its time"
            );
            forced.push(*how);
        }
        cluster.execute(plan).await;
        assert!(
            begun.elapsed() < cluster::LONG,
            "nobody takes over: {forced:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("taken over after {:?}: {forced:?}", begun.elapsed());
    assert_eq!(forced.first(), Some(&Failover::Takeover));
    for name in &lost {
        cluster.start(name);
    }
    cluster.converge().await;
    cluster.assert_as_asked().await;
    assert_filled(&cluster).await;
}

#[tokio::test]
async fn members_are_restarted_without_a_shard_that_has_no_primary() {
    let mut cluster = Cluster::new(3, 3, 1).await;
    cluster.converge().await;
    let writer = cluster.writer();
    cluster.outdate_all();
    cluster.converge().await;
    cluster.assert_as_asked().await;
    let written: BTreeMap<String, u64> = writer.stop().await.keys;
    assert!(!written.is_empty());
    let mut client = cluster.client();
    for (key, version) in &written {
        let found = client.get(key).await.and_then(|v| v.parse::<u64>().ok());
        assert!(found >= Some(*version), "{key}: {found:?} after {version}");
    }
}
