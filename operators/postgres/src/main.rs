//! One binary: the operator, and the processes in data pods. Wiring only.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mainstay_postgres::agent;
use mainstay_postgres::backup;
use mainstay_postgres::engine::Postgresql;
use mainstay_postgres::pooler::{self, config::Side};
use mainstay_shared::agent::commands::{
    self, attended, became, installed, released, runtime, said, started, told,
};
use mainstay_shared::backups::container;
use mainstay_shared::operator::serve;

/// Mainstay for PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "mainstay-postgres", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// PID 1 of a data pod: starts the agent and the engine, and watches the agent.
    Init {
        /// Seconds of silence after which the agent counts as dead and the engine is stopped.
        #[arg(long, env = "MAINSTAY_WATCHDOG_SECONDS", default_value_t = 10)]
        watchdog: u64,
        /// Seconds for an orderly stop; below the pod's grace period.
        #[arg(long, env = "MAINSTAY_STOP_SECONDS", default_value_t = 25)]
        stop: u64,
    },
    /// The agent in a data pod; started by `init`.
    Agent,
    /// Started by `init`: hears signals again, and becomes the engine.
    Engine {
        /// Program and arguments of the engine.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// PID 1 of a pooler's pod: PgBouncer, and what holds its clients back around hand-overs.
    Pooler {
        /// Where it leads to.
        #[arg(long)]
        side: Side,
    },
    /// In a data pod: stores the log, makes base backups.
    Backup,
    /// In the pod of a new set's founder, before everything else: makes its data from a repository.
    Restore,
    /// In an instance's pod, before everything else: a replica's data from the set's own repository.
    Seed {
        /// System identifier of the set's data.
        #[arg(long)]
        identifier: String,
        /// Major version of PostgreSQL.
        #[arg(long)]
        major: u32,
    },
    /// In the pod of a drill, after `restore`: looks at what was restored.
    Drill,
    /// In a pod of its own: removes the copies of destroyed keys from a repository.
    DestroyKeys,
    /// What PostgreSQL runs to get a file of its log back, while `restore` replays it.
    Fetch {
        /// Where it is asked for.
        #[arg(long)]
        socket: PathBuf,
        /// Name of the file.
        file: String,
        /// Where it is to be, relative to the data directory.
        path: PathBuf,
    },
    /// What PostgreSQL runs to have a file of its log archived.
    Push {
        /// Where it is asked for.
        #[arg(long)]
        socket: PathBuf,
        /// The file, relative to the data directory.
        path: PathBuf,
    },
    /// The operator: looks after every `Postgres` of the cluster.
    Operator(serve::Options),
    /// Copy this program into a folder, for the engine's image to run.
    Install {
        /// The folder.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        // PostgreSQL runs these: it reads their exit codes, and writes what they say into its log.
        Command::Push { socket, path } => return push(&socket, &path),
        Command::Fetch { socket, file, path } => return fetch(&socket, &file, &path),
        Command::Engine { argv } => return became(&argv),
        Command::Install { folder } => installed(&folder),
        Command::Init { watchdog, stop } => started(watchdog, stop),
        // It sets up its telemetry by itself.
        Command::Operator(options) => {
            runtime().and_then(|r| said(r.block_on(serve::serve::<Postgresql>(options))))
        }
        Command::Pooler { side } => told().and_then(|r| said(r.block_on(pooler::run(side)))),
        Command::Restore => told().and_then(|r| said(r.block_on(backup::restore::run()))),
        Command::Seed { identifier, major } => {
            let wanted = backup::restore::seed::Wanted { identifier, major };
            told().and_then(|r| said(r.block_on(backup::restore::seed::run(&wanted))))
        }
        Command::Drill => told().and_then(|r| said(r.block_on(backup::drill::run()))),
        Command::DestroyKeys => told().and_then(|r| said(r.block_on(container::shred::run()))),
        Command::Backup => {
            container::allocator::sparing();
            told().and_then(|r| released(r, backup::run()))
        }
        Command::Agent => attended().and_then(|r| released(r, agent::run())),
    };
    commands::ended(ended)
}

/// PostgreSQL runs it in its data directory, and writes what it says into its log.
fn push(socket: &Path, path: &Path) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(backup::push::push(socket, path, Path::new("."))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(kept) => {
            eprintln!("{kept}");
            if kept.give_up {
                ExitCode::from(backup::push::GIVE_UP)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// PostgreSQL runs it in its data directory. Whatever goes wrong ends recovery: only the answer that there is
/// no such file ends the log.
fn fetch(socket: &Path, file: &str, path: &Path) -> ExitCode {
    let asked = runtime().and_then(|runtime| {
        let asked = runtime.block_on(backup::restore::log::ask(socket, file, path));
        asked.map_err(|e| format!("{file}: {e}"))
    });
    match asked {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(backup::restore::log::FATAL)
        }
    }
}
