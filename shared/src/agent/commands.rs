//! What the programs of every engine do by their subcommands, with the sentence of each failure.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::init::{self, Options, engine, supervisor::Bounds};
use super::install::install;
use super::paths;
use super::place::root;
use crate::telemetry;

/// The subcommand of what becomes the engine.
const ENGINE: &str = "engine";

/// How a program ends, and what it says of a failure.
pub fn ended(result: Result<(), String>) -> ExitCode {
    match result {
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

/// An error in words.
///
/// # Errors
/// What there was.
pub fn said<E: ToString>(ended: Result<(), E>) -> Result<(), String> {
    ended.map_err(|e| e.to_string())
}

/// `install`: copy this program into a folder, for the engine's image to run.
///
/// # Errors
/// It cannot be copied.
pub fn installed(folder: &Path) -> Result<(), String> {
    let path = install(folder, paths::BINARY);
    path.map(drop)
        .map_err(|e| format!("cannot install into {}: {e}", folder.display()))
}

/// `init`: be PID 1 of a data pod, with these seconds of silence and of an orderly stop.
///
/// # Errors
/// See [`init::run`].
pub fn started(watchdog: u64, stop: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("where am I: {e}"))?;
    let program = program.display().to_string();
    let options = Options {
        agent: vec![program.clone(), "agent".to_owned()],
        engine: vec![program, ENGINE.to_owned(), "--".to_owned()],
        socket: paths::under(&root(), paths::INIT_SOCKET),
        bounds: Bounds {
            watchdog: Duration::from_secs(watchdog),
            grace: Duration::from_secs(stop),
        },
    };
    said(init::run(&options))
}

/// `engine`: what PID 1 starts, which becomes the engine of this command line. It returns only when that failed.
pub fn became(argv: &[String]) -> ExitCode {
    let error = engine::become_engine(argv);
    let program = argv.first().map_or("the engine", String::as_str);
    ended(Err(format!("{program} cannot be run: {error}")));
    ExitCode::from(engine::NOT_FOUND)
}

/// `agent`: a runtime of the process that PID 1 starts to look after the engine.
///
/// # Errors
/// As [`told`].
pub fn attended() -> Result<Runtime, String> {
    // What PID 1 waits for is blocked here too, and would be in every program that is run from here.
    engine::hear_signals().map_err(|e| format!("signals: {e}"))?;
    told()
}

/// A runtime.
///
/// # Errors
/// The system gives none.
pub fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("no runtime: {e}"))
}

/// A runtime of a process that logs.
///
/// # Errors
/// As [`runtime`], and when the log's filter is none.
pub fn told() -> Result<Runtime, String> {
    let filter = std::env::var(telemetry::LOG_FILTER).ok();
    telemetry::init(filter.as_deref()).map_err(|e| e.to_string())?;
    runtime()
}

/// Do it. A thread that waits for a hung volume must not hold the end up.
///
/// # Errors
/// What there was.
pub fn released<E: ToString>(
    runtime: Runtime,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    let ended = said(runtime.block_on(work));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}
