//! Figures of slots that move (`cargo xtask bench cluster`).

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use mainstay_e2e::figures::Spread;
use redis::TlsCertificates;
use redis::cluster::ClusterClientBuilder;

use crate::client::PASSWORD;
use crate::cluster::Cluster;
use mainstay_redis::settings::PORT;

/// How many go to a fourth shard.
const SLOTS: u64 = 16_384 / 4;
/// Bytes of a value.
const VALUE: u64 = 1024;
/// Keys that are on their way at once while the dataset is made.
const AT_ONCE: usize = 64;

fn number(name: &str, otherwise: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.map_or(otherwise, |text| text.parse().unwrap())
}

/// A dataset of so many MiB.
async fn load(cluster: &Cluster, mib: u64) {
    let seeds = cluster.client().seeds.into_iter();
    let seeds = seeds.map(|seed| format!("rediss://{}:{PORT}", seed.split(':').next().unwrap()));
    let client = ClusterClientBuilder::new(seeds)
        .username("app")
        .password(PASSWORD)
        .certs(TlsCertificates {
            client_tls: None,
            root_cert: Some(cluster.ca().as_bytes().to_vec()),
        })
        .build()
        .unwrap();
    let connection = client.get_async_connection().await.unwrap();
    let keys = (mib << 20) / VALUE;
    stream::iter(0..keys)
        .map(|n| {
            let mut connection = connection.clone();
            async move {
                // What does not become smaller when it is written down.
                let value: String = (0..VALUE)
                    .map(|at| char::from(b'!' + u8::try_from((n * 31 + at * at) % 90).unwrap()))
                    .collect();
                let mut set = redis::cmd("SET");
                set.arg(format!("filled-{n}")).arg(value);
                set.query_async::<()>(&mut connection).await
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .unwrap();
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
fn per(amount: u64, time: Duration) -> f64 {
    amount as f64 / time.as_secs_f64()
}

#[tokio::test]
#[ignore = "a measurement: cargo xtask bench cluster"]
async fn figures() {
    let (mib, rounds) = (
        number("MAINSTAY_FIGURES_MIB", 256),
        number("MAINSTAY_FIGURES_ROUNDS", 1),
    );
    let mut first = 10;
    for mib in [0, mib] {
        let (mut slots, mut data, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            first += 1;
            let mut cluster = Cluster::new(first, 3, 1).await;
            cluster.converge().await;
            load(&cluster, mib).await;
            let writer = cluster.writer();
            cluster.scale(4);
            let took = cluster.move_slots().await;
            cluster.converge().await;
            cluster.assert_as_asked().await;
            pauses.push(writer.stop().await.pause.as_secs_f64());
            slots.push(per(SLOTS, took));
            // A fourth of it.
            data.push(per(mib << 18, took) / f64::from(1 << 20));
        }
        println!(
            "a dataset of {mib} MiB in values of {VALUE} bytes, from 3 shards to 4 (min / median / max):"
        );
        for (what, values) in [
            ("slots a second", &slots),
            ("MiB a second", &data),
            ("longest pause of an application's writes, s", &pauses),
        ] {
            println!("  {what}: {}", Spread::of(values).unwrap());
        }
    }
}
