//! One binary: the operator, and the processes in data pods. Wiring only.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mainstay_redis::agent;
use mainstay_redis::engine::RedisEngine;
use mainstay_shared::agent::init::{self, Options, supervisor::Bounds};
use mainstay_shared::agent::install::install;
use mainstay_shared::agent::paths;
use mainstay_shared::agent::place::root;
use mainstay_shared::operator::serve;
use mainstay_shared::telemetry;
use tokio::runtime::Runtime;

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
        Command::Install { folder } => installed(&folder),
        Command::Init { watchdog, stop } => started(watchdog, stop),
        Command::Agent => ran(),
        // It sets up its telemetry by itself.
        Command::Operator(options) => runtime().and_then(|r| {
            let served = r.block_on(serve::serve::<RedisEngine>(options));
            served.map_err(|e| e.to_string())
        }),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "{}",
                serde_json::json!({ "level": "ERROR", "message": error })
            );
            ExitCode::FAILURE
        }
    }
}

fn installed(folder: &Path) -> Result<(), String> {
    let path = install(folder, paths::BINARY);
    path.map(drop)
        .map_err(|e| format!("cannot install into {}: {e}", folder.display()))
}

fn started(watchdog: u64, stop: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("where am I: {e}"))?;
    let options = Options {
        agent: vec![program.display().to_string(), "agent".to_owned()],
        socket: paths::under(&root(), paths::INIT_SOCKET),
        bounds: Bounds {
            watchdog: Duration::from_secs(watchdog),
            grace: Duration::from_secs(stop),
        },
    };
    init::run(&options).map_err(|e| e.to_string())
}

/// The agent. A thread that waits for a hung volume must not hold the end up.
fn ran() -> Result<(), String> {
    let filter = std::env::var(telemetry::LOG_FILTER).ok();
    telemetry::init(filter.as_deref()).map_err(|e| e.to_string())?;
    let runtime = runtime()?;
    let ended = runtime.block_on(agent::run()).map_err(|e| e.to_string());
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no runtime: {e}"))
}
