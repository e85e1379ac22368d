//! Killing the engine at once. I/O.

use std::sync::Arc;

use super::driver::HardStop;
use crate::agent::init::client::InitClient;
use crate::agent::init::processes::kill_all;
use crate::agent::init::protocol::Command;

/// Kills every process around PID 1 `init` but PID 1 and this one, and has PID 1 do so until none
/// is left.
///
/// It waits for nothing: neither the volume nor the loop that writes to PID 1 has to work for the
/// first blow.
pub fn killer(init: InitClient, init_pid: i32) -> HardStop {
    Arc::new(move || {
        let killed = kill_all(init_pid, &[]);
        let told = init.try_send(Command::HardStop);
        tracing::error!(killed, told = told.is_ok(), "the engine is stopped hard");
    })
}
