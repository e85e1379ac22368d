//! The heartbeat between an agent and PID 1. I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::interval;

use super::clock::boottime;
use super::init::client::InitClient;
use super::init::processes::kill_all;
use super::init::protocol::Command;

/// A loop that did not turn for this long is stuck.
const STUCK: Duration = Duration::from_mins(1);
/// PID 1 that is silent for longer is taken for dead.
const INIT_SILENT: Duration = Duration::from_secs(10);

/// Whether a loop turns, that tells in `turned` the time since boot, in seconds, of its last turn.
pub fn turns(turned: &AtomicU64) -> bool {
    let last = Duration::from_secs(turned.load(Ordering::Relaxed));
    boottime().saturating_sub(last) < STUCK
}

/// Tell PID 1 that the loop turns, and watch PID 1: an engine whose PID 1 is gone is stopped.
pub async fn beat(init: InitClient, turned: Arc<AtomicU64>) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        if turns(&turned) && init.send(Command::Heartbeat).await.is_err() {
            tracing::error!("the connection to PID 1 is gone");
            std::process::exit(1);
        }
        let heard = init.heard().borrow().at;
        if boottime().saturating_sub(heard) > INIT_SILENT {
            tracing::error!("PID 1 is silent: the engine is stopped");
            kill_all(nix::unistd::getppid().as_raw(), &[]);
        }
    }
}
