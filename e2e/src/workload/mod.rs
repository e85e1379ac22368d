//! The workload: a client that writes, keeps a ledger of what was acknowledged, and checks it.

pub mod binding;
pub mod journal;
pub mod ledger;
pub mod network;
pub mod postgres;
pub mod terms;
pub mod writer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use journal::Journal;
use ledger::Verdict;
use postgres::{Postgres, Side};
use writer::{Again, Pace};

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
        /// Write something whenever a write of unknown outcome is tried again, also where it is found:
        /// where sessions that wait for replicas are cancelled, that it is there is no promise.
        #[arg(long)]
        retries_write: bool,
        /// Stop after this time.
        #[arg(long, value_parser = duration)]
        lasting: Option<Duration>,
    },
    /// Checks that every acknowledged row of a ledger is there. Exit code 1 when not. A sentence for
    /// people goes to standard error, JSON to standard output.
    Verify {
        #[command(flatten)]
        on: On,
        /// File of the ledger.
        #[arg(long)]
        ledger: PathBuf,
        /// Which server is asked.
        #[arg(long, value_enum, default_value = "primary")]
        side: Side,
    },
    /// Prints a ledger.
    Ledger {
        /// Its file.
        #[arg(long)]
        ledger: PathBuf,
    },
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

/// Which rows of which database.
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
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
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
        Command::Postgres(PostgresCommand::Write {
            on,
            ledger,
            interval,
            retry,
            connect_timeout,
            answer_timeout,
            retries_write,
            lasting,
        }) => {
            let mut journal = Journal::open(ledger.as_deref())?;
            let pace = Pace {
                interval,
                retry,
                connect: connect_timeout,
                answer: answer_timeout,
                again: Again::of(retries_write),
                end: lasting.map(|lasting| Instant::now() + lasting),
            };
            until_told(writer::run(&on.postgres(), pace, &mut journal))
                .await?
                .transpose()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Postgres(PostgresCommand::Verify { on, ledger, side }) => {
            let entries = journal::read(&ledger)?;
            let verdict = Verdict::new(&entries, &on.postgres().present(side).await?);
            eprintln!("{verdict}");
            println!("{}", serde_json::to_string(&verdict)?);
            Ok(if verdict.holds() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Postgres(PostgresCommand::Ledger { ledger }) => {
            for entry in journal::read(&ledger)? {
                println!("{entry}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Postgres(PostgresCommand::Check {
            binding,
            replica,
            patience,
        }) => {
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
