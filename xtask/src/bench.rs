//! `cargo xtask bench`: the figures of docs/benchmarks.md.

pub mod demo;
mod images;
mod sets;
mod suite;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::figures::{self, Spread, memory, requests};
use mainstay_e2e::scenarios::kit::{READY, Sandbox};
use mainstay_e2e::scenarios::set::Kind;
use mainstay_e2e::stage;
use serde_json::json;
use suite::Measure;

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    figure: Figure,
    /// Name of the local cluster to measure on; it is left running.
    #[arg(long, default_value = "bench", global = true)]
    name: String,
}

#[derive(Subcommand)]
enum Figure {
    /// Speed and memory of backups, restores and the archive, against `pg_basebackup | zstd`, with a real PostgreSQL and
    /// an S3 server in memory. Needs no cluster.
    Backups {
        /// How large the database is, in MiB. Five times as much has to be free in the folder. With more than 2048 the log
        /// that has piled up is left out.
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// How often what is compared is measured.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// The folder where everything is: by default in memory. On a disk, the disk is measured too.
        #[arg(long, default_value = suite::MEMORY)]
        folder: PathBuf,
    },
    /// How large a repository gets with a full backup and ten increments; against pgBackRest's, where it is installed and
    /// knows the version of PostgreSQL.
    BackupSize {
        /// How large the database is, in MiB.
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// The folder where everything is.
        #[arg(long, default_value = suite::MEMORY)]
        folder: PathBuf,
    },
    /// Requests a second of a Redis with TLS and of one without; speed and memory of its backups and restores, with an S3
    /// server in memory. Needs no cluster.
    Redis {
        /// How large the dataset is, in MiB. Five times as much memory has to be free.
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// How often everything is measured.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Another build of the operator's program: its backups and restores are measured in turn with this one's, and
        /// nothing else.
        #[arg(long)]
        other: Option<PathBuf>,
    },
    /// Slots a second that move to a fourth shard of a Redis Cluster, without keys and with them, and how long an application's
    /// writes pause meanwhile: processes on loopback with TLS, and the planner. Needs no cluster of Kubernetes.
    Cluster {
        /// How large the dataset is, in MiB. Four times as much memory has to be free.
        #[arg(long, default_value_t = 256)]
        mib: u64,
        /// How often.
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// The folder where everything is: by default in memory. On a disk, what it costs to note slots is measured too.
        #[arg(long, default_value = suite::MEMORY)]
        folder: PathBuf,
    },
    /// Seconds from applying a `Postgres` with three instances to `Ready`.
    Creation {
        /// How often.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Memory and processor time of operators, agents and inits with one settled set of three.
    Memory {
        /// Of which kind it is.
        #[arg(long, value_enum, default_value = "postgres")]
        kind: Kind,
        /// Length of the idle window in seconds.
        #[arg(long, default_value_t = 120)]
        window: u64,
    },
    /// API requests per minute that one settled set of three adds to an idle installation.
    Requests {
        /// Length of each window in seconds.
        #[arg(long, default_value_t = 120)]
        window: u64,
    },
    /// Seconds of `cargo xtask demo` with everything built: on no cluster, and on its own that runs.
    /// Its cluster, named after `--name` with `-demo` added, is removed before each run and at the end.
    Demo {
        /// How often.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Sizes of the images: as they are loaded, and as a registry would keep them.
    Images,
    /// Memory and times of an operator with many settled sets whose agents and engines are fakes.
    /// Needs no cluster.
    Sets {
        /// How many sets of three.
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// How often, each time with a new operator.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Length of the idle window in seconds.
        #[arg(long, default_value_t = 60)]
        window: u64,
    },
}

const BACKUPS: Measure = Measure {
    program: Some("mainstay-postgres"),
    suite: "backup",
    name: "figures::figures",
};
const BACKUP_SIZE: Measure = Measure {
    name: "size::size",
    ..BACKUPS
};
const REDIS: Measure = Measure {
    program: Some("mainstay-redis"),
    suite: "agent",
    name: "figures::figures",
};

const CLUSTER: Measure = Measure {
    program: None,
    suite: "shards",
    name: "figures::figures",
};

/// Measure and print.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    Ok(crate::runtime()?.block_on(measure(args))?)
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    match args.figure {
        Figure::Backups {
            mib,
            runs,
            ref folder,
        } => return suite::measure(&BACKUPS, mib, runs, folder).await,
        Figure::BackupSize { mib, ref folder } => {
            return suite::measure(&BACKUP_SIZE, mib, 1, folder).await;
        }
        Figure::Redis {
            mib,
            runs,
            ref other,
        } => {
            let other = other.as_deref();
            return suite::beside(&REDIS, other, mib, runs, Path::new(suite::MEMORY)).await;
        }
        Figure::Cluster {
            mib,
            runs,
            ref folder,
        } => return suite::measure(&CLUSTER, mib, runs, folder).await,
        Figure::Demo { runs } => return demo::measure(&args.name, runs),
        Figure::Images => return images::measure().await,
        Figure::Sets {
            count,
            runs,
            window,
        } => return sets::measure(count, runs, Duration::from_secs(window)).await,
        Figure::Creation { .. } | Figure::Memory { .. } | Figure::Requests { .. } => {}
    }
    let ctx = stage::local(&args.name, &Steps::shown()).await?;
    match args.figure {
        Figure::Backups { .. }
        | Figure::BackupSize { .. }
        | Figure::Redis { .. }
        | Figure::Cluster { .. }
        | Figure::Demo { .. }
        | Figure::Images
        | Figure::Sets { .. } => {}
        Figure::Creation { runs } => {
            let times: Vec<f64> = figures::creation(&ctx, runs)
                .await?
                .iter()
                .map(Duration::as_secs_f64)
                .collect();
            if let Some(spread) = Spread::of(&times) {
                println!(
                    "creation to Ready, three instances, seconds (min / median / max): {spread}"
                );
            }
        }
        Figure::Memory { kind, window } => {
            let sandbox = Sandbox::new(&ctx, "figure-memory").await?;
            let spec = match kind {
                Kind::Postgres | Kind::Redis => json!({"instances": 3}),
                Kind::RedisCluster => json!({"mode": "Cluster", "shards": 3}),
            };
            kind.apply(&sandbox, "db", &spec).await?;
            kind.settled(&sandbox, "db").await?;
            let before = ticks(&memory::processes()?);
            tokio::time::sleep(Duration::from_secs(window)).await;
            let processes = memory::processes()?;
            for (role, used) in ticks(&processes) {
                let of_role: Vec<_> = processes.iter().filter(|p| p.role == role).collect();
                let anon: Vec<f64> = of_role.iter().map(|p| mib(p.rss_anon_kib)).collect();
                let all: Vec<f64> = of_role.iter().map(|p| mib(p.rss_kib)).collect();
                let grown = used.saturating_sub(before.get(&role).copied().unwrap_or(0));
                // A clock tick is 10 ms on every kernel we support.
                let millicores = per(grown * 10, window) / per(u64::try_from(of_role.len())?, 1);
                if let (Some(anon), Some(all)) = (Spread::of(&anon), Spread::of(&all)) {
                    println!(
                        "{role}: RssAnon MiB {anon}, VmRSS MiB {all}, processor {millicores:.1} mcore each"
                    );
                }
            }
            sandbox.remove().await?;
        }
        Figure::Requests { window } => {
            let window = Duration::from_secs(window);
            let idle = requests::per_minute(&ctx.client, window).await?;
            let sandbox = Sandbox::new(&ctx, "figure-requests").await?;
            sandbox.postgres("db", &json!({"instances": 3})).await?;
            sandbox.settled("db", READY).await?;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let settled = requests::per_minute(&ctx.client, window).await?;
            println!(
                "requests per minute more than without it (the pods' own watches by kubelets included):"
            );
            for (what, more) in requests::difference(&settled, &idle, 1.0) {
                println!("  {more:>7.1} {what}");
            }
            sandbox.remove().await?;
        }
    }
    Ok(())
}

/// Clock ticks by role.
fn ticks(processes: &[memory::Process]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for process in processes {
        *sums.entry(process.role.clone()).or_insert(0) += process.ticks;
    }
    sums
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[allow(clippy::cast_precision_loss)] // Far below 2^52.
fn per(amount: u64, of: u64) -> f64 {
    amount as f64 / of as f64
}
