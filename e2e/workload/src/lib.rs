//! The workload: a client that writes, keeps a ledger of what was acknowledged, and checks it.

pub mod binding;
pub mod cluster;
pub mod journal;
pub mod ledger;
pub mod network;
pub mod postgres;
pub mod redis;
mod sentinel;
pub mod terms;
pub mod tls;
pub mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use cluster::Cluster;
use journal::Journal;
use ledger::{Entry, Outcome, Verdict};
use postgres::{Postgres, Side};
use redis::{Confirm, Redis};
use writer::{Again, Engine, Pace};

/// A client for tests: writes, keeps a ledger of what was acknowledged, and checks it.
#[derive(Debug, Parser)]
#[command(name = "mainstay-workload", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// PostgreSQL.
    #[command(subcommand)]
    Postgres(PostgresCommand),
    /// Redis or Valkey.
    #[command(subcommand)]
    Redis(RedisCommand),
    /// Connects to a listener and says whether it was reached. Exit code: 0 reached, 1 no answer,
    /// 2 refused, 3 anything else.
    TcpProbe {
        /// `host:port`.
        address: String,
        /// Longest time to wait.
        #[arg(long, default_value = "1s", value_parser = duration)]
        timeout: Duration,
    },
    /// Listens on ports and greets whoever connects.
    Serve {
        /// The ports.
        #[arg(required = true)]
        ports: Vec<u16>,
    },
}

#[derive(Debug, Subcommand)]
enum PostgresCommand {
    /// Inserts numbered rows until it is told to stop; writes the ledger.
    Write {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        writing: Writing,
        /// Write something whenever a write of unknown outcome is tried again, also where it is found:
        /// where sessions that wait for replicas are cancelled, that it is there is no promise.
        #[arg(long)]
        retries_write: bool,
    },
    /// Checks that every acknowledged row of a ledger is there. Exit code 1 when not. A sentence for
    /// people goes to standard error, JSON to standard output.
    Verify {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        kept: Kept,
        /// Which server is asked.
        #[arg(long, value_enum, default_value = "primary")]
        side: Side,
    },
    /// Prints a ledger.
    Ledger(Awaited),
    /// Writes one row, reads it, and says over what connection.
    Check {
        /// Folder of the binding.
        #[arg(long, default_value = "/binding")]
        binding: PathBuf,
        /// Read it on a replica too.
        #[arg(long)]
        replica: bool,
        /// How long a replica may take to have it.
        #[arg(long, default_value = "10s", value_parser = duration)]
        patience: Duration,
    },
}

#[derive(Debug, Subcommand)]
enum RedisCommand {
    /// Sets numbered keys until it is told to stop; writes the ledger.
    Write {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        writing: Writing,
        /// So many replicas must confirm a write (`WAIT`), or it is no promise and written again. 0: none is
        /// asked, and every write is only taken.
        #[arg(long, default_value_t = 1)]
        wait: u32,
        /// Replicas are asked for each so many numbers; others are only taken.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        wait_every: u64,
        /// Longest time that replicas may take to confirm.
        #[arg(long, default_value = "500ms", value_parser = duration)]
        wait_timeout: Duration,
        /// A new connection for each write.
        #[arg(long)]
        fresh: bool,
        /// It is a cluster, which is spoken to by its own protocol.
        #[arg(long)]
        cluster: bool,
        /// Find the primary as clients of a Sentinel do, instead of by the binding's host.
        #[arg(long)]
        sentinel: bool,
    },
    /// Checks that every acknowledged key of a ledger is on the primary. Exit code 1 when not. A sentence for
    /// people goes to standard error, JSON to standard output.
    Verify {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        kept: Kept,
        /// It is a cluster.
        #[arg(long)]
        cluster: bool,
    },
    /// Prints a ledger.
    Ledger(Awaited),
    /// Prints the numbers that are there, of all ledgers: a name and a number on each line.
    Rows {
        #[command(flatten)]
        on: On,
        /// Another host of the set; without, the primary's.
        #[arg(long)]
        host: Option<String>,
    },
    /// Prints a tag: keys with it, in braces, are all in one slot, of a member of a cluster.
    Tag {
        #[command(flatten)]
        on: On,
        /// The member's host: a primary.
        #[arg(long)]
        host: String,
    },
    /// Sends one command to the primary and prints the answer.
    Call {
        #[command(flatten)]
        on: On,
        /// Another host of the set; without, the primary's.
        #[arg(long)]
        host: Option<String>,
        /// Its words.
        #[arg(required = true)]
        words: Vec<String>,
    },
}

/// Whose ledger in which database.
#[derive(Debug, clap::Args)]
struct On {
    /// Folder with the files of the binding (servicebinding.io).
    #[arg(long, default_value = "/binding")]
    binding: PathBuf,
    /// Name of the ledger; rows of different names do not meet.
    #[arg(long, default_value = "workload")]
    run: String,
}

impl On {
    fn postgres(self) -> Postgres {
        Postgres {
            binding: self.binding,
            run: self.run,
        }
    }

    fn cluster(self, confirm: Confirm) -> Cluster {
        Cluster {
            binding: self.binding,
            run: self.run,
            confirm,
            fresh: false,
        }
    }

    fn redis(self) -> Redis {
        Redis {
            binding: self.binding,
            run: self.run,
            confirm: Confirm::NOBODY,
            fresh: false,
            sentinel: false,
        }
    }
}

/// How is written.
#[derive(Debug, clap::Args)]
struct Writing {
    /// File of the ledger; standard output without.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// From the beginning of one write to that of the next; 0s: at once.
    #[arg(long, default_value = "10ms", value_parser = duration)]
    interval: Duration,
    /// From a failure to the next attempt.
    #[arg(long, default_value = "10ms", value_parser = duration)]
    retry: Duration,
    /// Longest time that a connection may take to be made.
    #[arg(long, default_value = "2s", value_parser = duration)]
    connect_timeout: Duration,
    /// Longest time that a write may take.
    #[arg(long, default_value = "5s", value_parser = duration)]
    answer_timeout: Duration,
    /// Stop after this time.
    #[arg(long, value_parser = duration)]
    lasting: Option<Duration>,
}

impl Writing {
    /// Writes to the end, or until it is told to stop.
    async fn run<E: Engine>(self, engine: &E, again: Again) -> Result<ExitCode, Error> {
        let mut journal = Journal::open(self.ledger.as_deref())?;
        let pace = Pace {
            interval: self.interval,
            retry: self.retry,
            connect: self.connect_timeout,
            answer: self.answer_timeout,
            again,
            end: self.lasting.map(|lasting| Instant::now() + lasting),
        };
        until_told(writer::run(engine, pace, &mut journal))
            .await?
            .transpose()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A ledger that was written.
#[derive(Debug, clap::Args)]
struct Kept {
    /// Its file.
    #[arg(long)]
    ledger: PathBuf,
}

/// A ledger that is printed, when it has come so far.
#[derive(Debug, clap::Args)]
struct Awaited {
    #[command(flatten)]
    kept: Kept,
    /// Wait until so many writes are acknowledged.
    #[arg(long, default_value_t = 0)]
    acknowledged: usize,
    /// Count those as well that a server took without a promise.
    #[arg(long)]
    taken: bool,
    /// Wait no longer than this.
    #[arg(long, default_value = "20s", value_parser = duration)]
    within: Duration,
}

/// How often a ledger is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Says what a ledger and the numbers that are there come to.
///
/// The ledger is read before the numbers are: while somebody writes, it knows of none that they lack.
fn verify(entries: &[Entry], present: &BTreeSet<u64>) -> Result<ExitCode, Error> {
    let verdict = Verdict::new(entries, present);
    eprintln!("{verdict}");
    println!("{}", serde_json::to_string(&verdict)?);
    Ok(if verdict.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Awaited {
    async fn print(self) -> Result<ExitCode, Error> {
        let begun = Instant::now();
        let counted = if self.taken {
            Outcome::Taken
        } else {
            Outcome::Acknowledged
        };
        let entries = loop {
            let entries = journal::read(&self.kept.ledger)?;
            let so_far = ledger::reached(&entries, counted);
            if so_far >= self.acknowledged || begun.elapsed() >= self.within {
                break entries;
            }
            tokio::time::sleep(LOOK).await;
        };
        for entry in entries {
            println!("{entry}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Runs a command to its end.
pub async fn main(args: Args) -> ExitCode {
    match run(args.command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::TcpProbe { address, timeout } => {
            let reach = network::probe(&address, timeout).await;
            println!("{}", reach.word());
            Ok(ExitCode::from(reach.code()))
        }
        Command::Serve { ports } => {
            until_told(network::serve(&ports)).await?.transpose()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Postgres(command) => on_postgres(command).await,
        Command::Redis(command) => on_redis(command).await,
    }
}

async fn on_postgres(command: PostgresCommand) -> Result<ExitCode, Error> {
    match command {
        PostgresCommand::Write {
            on,
            writing,
            retries_write,
        } => writing.run(&on.postgres(), Again::of(retries_write)).await,
        PostgresCommand::Verify { on, kept, side } => {
            let entries = journal::read(&kept.ledger)?;
            verify(&entries, &on.postgres().present(side).await?)
        }
        PostgresCommand::Ledger(awaited) => awaited.print().await,
        PostgresCommand::Check {
            binding,
            replica,
            patience,
        } => {
            let checked = postgres::check(&binding, replica, patience).await?;
            println!(
                "connected to {} (PostgreSQL {}, {}, certificate verified)",
                checked.host, checked.server, checked.tls
            );
            println!("wrote and read row {}", checked.row);
            if let Some((host, address)) = checked.replica {
                println!("read the same row through {host} on the replica at {address}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn on_redis(command: RedisCommand) -> Result<ExitCode, Error> {
    match command {
        RedisCommand::Write {
            on,
            writing,
            wait,
            wait_every,
            wait_timeout,
            fresh,
            cluster,
            sentinel,
        } => {
            let confirm = Confirm {
                replicas: wait,
                every: wait_every,
                within: wait_timeout,
            };
            if cluster {
                let cluster = Cluster {
                    fresh,
                    ..on.cluster(confirm)
                };
                return writing.run(&cluster, Again::InAnyCase).await;
            }
            let redis = Redis {
                confirm,
                fresh,
                sentinel,
                ..on.redis()
            };
            // What replicas did not confirm is not there for others until it is written again.
            writing.run(&redis, Again::InAnyCase).await
        }
        RedisCommand::Verify { on, kept, cluster } => {
            let entries = journal::read(&kept.ledger)?;
            if cluster {
                let last = entries.iter().map(|e| e.id).max().unwrap_or(0);
                let present = on.cluster(Confirm::NOBODY).present(last).await?;
                return verify(&entries, &present);
            }
            verify(&entries, &on.redis().present().await?)
        }
        RedisCommand::Ledger(awaited) => awaited.print().await,
        RedisCommand::Rows { on, host } => {
            let mut connection = on.redis().connect_to(host.as_deref()).await?;
            for (run, ids) in connection.rows().await? {
                for id in ids {
                    println!("{run} {id}");
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        RedisCommand::Tag { on, host } => {
            let mut connection = on.redis().connect_to(Some(&host)).await?;
            println!("{}", connection.tag().await?);
            Ok(ExitCode::SUCCESS)
        }
        RedisCommand::Call { on, host, words } => {
            let mut connection = on.redis().connect_to(host.as_deref()).await?;
            let (name, rest) = words.split_first().map_or(("", &[][..]), |(n, r)| (n, r));
            let mut command = ::redis::cmd(name);
            command.arg(rest);
            let answer: ::redis::Value = connection.ask(&command).await?;
            println!("{answer:?}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The outcome of `work`, or nothing when the process is told to stop before. As PID 1 of its pod it
/// would otherwise ignore SIGTERM.
async fn until_told<T>(work: impl Future<Output = T>) -> std::io::Result<Option<T>> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(tokio::select! {
        done = work => Some(done),
        _ = term.recv() => None,
        _ = int.recv() => None,
    })
}

/// `250ms`, `1s`, `1.5s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)];
    units
        .iter()
        .find_map(|(unit, seconds)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            Duration::try_from_secs_f64(number * seconds).ok()
        })
        .ok_or_else(|| format!("{text:?} is no time; write for example 250ms, 1.5s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for bad in ["", "1", "-1s", "xs", "1h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
