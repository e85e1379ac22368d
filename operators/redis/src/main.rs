//! One binary: the operator, and the processes in data pods. Wiring only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mainstay_redis::engine::RedisEngine;
use mainstay_redis::{agent, backup};
use mainstay_shared::agent::commands::{
    self, attended, became, installed, released, runtime, said, started, told,
};
use mainstay_shared::backups::container;
use mainstay_shared::operator::serve;

/// Mainstay for Redis and Valkey.
#[derive(Debug, Parser)]
#[command(name = "mainstay-redis", version)]
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
    /// In a data pod: makes backups.
    Backup,
    /// In the pod of a new set's founder, before everything else: makes its data from a repository.
    Restore,
    /// In the pod of a drill, after `restore`: looks at what was restored.
    Drill,
    /// In a pod of its own: removes the copies of destroyed keys from a repository.
    DestroyKeys,
    /// The operator: looks after every `Redis` of the cluster.
    Operator(serve::Options),
    /// Copy this program into a folder, for the engine's image to run.
    Install {
        /// The folder.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Engine { argv } => return became(&argv),
        Command::Install { folder } => installed(&folder),
        Command::Init { watchdog, stop } => started(watchdog, stop),
        Command::Agent => attended().and_then(|r| released(r, agent::run())),
        Command::Restore => told().and_then(|r| said(r.block_on(backup::restore::run()))),
        Command::Drill => told().and_then(|r| said(r.block_on(backup::drill::run()))),
        Command::DestroyKeys => told().and_then(|r| said(r.block_on(container::shred::run()))),
        Command::Backup => {
            container::allocator::sparing();
            told().and_then(|r| released(r, backup::run()))
        }
        // It sets up its telemetry by itself.
        Command::Operator(options) => {
            runtime().and_then(|r| said(r.block_on(serve::serve::<RedisEngine>(options))))
        }
    };
    commands::ended(ended)
}
