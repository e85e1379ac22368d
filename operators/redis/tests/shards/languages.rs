//! Applications with the clients for a cluster of redis-py, ioredis and Jedis, while a shard fails over.

use std::time::{Duration, Instant};

use futures::future::join_all;
use mainstay_redis::settings::PORT;
use mainstay_shared::pki::issue_authority;

use super::client::PASSWORD;
use super::clients::{self, Client, Language};
use super::cluster::{self, Cluster};
use super::fill;

/// So many keys are spread over all slots before something happens.
const KEYS: u64 = 1000;

#[tokio::test]
async fn applications_of_other_languages_write_to_all_shards_and_follow_a_fail_over() {
    let all = clients::all().await;
    let mut cluster = Cluster::new(5, 3, 1).await;
    cluster.converge().await;
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong] = ["right", "wrong"].map(|name| folder.path().join(name));
    let seeds = cluster.client().seeds;
    let (host, _) = seeds[0].split_once(':').unwrap();
    let port = PORT.to_string();
    let stranger = issue_authority("shop", "other", jiff::Timestamp::now()).unwrap();
    for (binding, ca) in [(&right, cluster.ca()), (&wrong, &stranger.ca)] {
        let keys = [
            ("host", host),
            ("port", &port),
            ("username", "app"),
            ("password", PASSWORD),
            ("ca.crt", ca),
        ];
        clients::mount(binding, &keys);
    }
    let refused: Vec<_> = all.iter().map(|l| l.start("cluster", &wrong, 0)).collect();
    join_all(refused.into_iter().map(Client::refuses)).await;

    let begun = Instant::now();
    let start = |l: &Language| l.start("cluster", &right, KEYS);
    let mut clients: Vec<Client> = all.iter().map(start).collect();
    for client in &mut clients {
        client.more(KEYS).await;
    }
    println!("{KEYS} keys of each: {:?}", begun.elapsed());
    let before: Vec<u64> = clients.iter().map(Client::wrote).collect();
    // What was written until here is on replicas as well.
    fill(&cluster).await;

    let gone = cluster.primaries().await.into_keys().next().unwrap();
    for client in &mut clients {
        client.pause();
    }
    cluster.kill(&gone);
    let begun = Instant::now();
    while cluster.primaries().await.len() < 3 || cluster.primaries().await.contains_key(&gone) {
        assert!(begun.elapsed() < cluster::LONG, "nobody is elected");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("elected after {:?}", begun.elapsed());
    // Of so many some are in its slots.
    let mut after = Vec::new();
    for client in &mut clients {
        after.push(client.wrote());
        client.more(100).await;
        println!("{} paused for {:?}", client.library, client.pause());
    }
    let mut reader = cluster.client();
    for (n, client) in clients.into_iter().enumerate() {
        let library = client.library;
        let complaints = client.complaints();
        let last = client.finish().await;
        println!("{library} wrote {last}, and said:\n{complaints}");
        // What was written while the primary was lost may be lost with it.
        for number in (1..=before[n]).chain(after[n] + 1..=last) {
            let found = reader.get(&Language::key(library, number)).await;
            assert_eq!(found, Some(number.to_string()), "{library}: {number}");
        }
    }
    assert_eq!(reader.open.len(), 3, "keys are on each of three shards");
    cluster.start(&gone);
    cluster.converge().await;
    cluster.assert_as_asked().await;
}
