//! Work that is done in another process's network namespace, on a thread of its own.

use std::fs::File;
use std::thread::{Builder, JoinHandle};

use nix::sched::{CloneFlags, setns};

use super::FaultError;

/// Does `work` in the network namespace of a process, on a new thread: only that one enters it.
///
/// # Errors
/// The process has ended, or there can be no thread.
pub fn network_of<T: Send + 'static>(
    pid: i32,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<Result<T, FaultError>>, FaultError> {
    let what = format!("network namespace of process {pid}");
    let failed = |what: String| move |source| FaultError::Process { what, source };
    let net = File::open(format!("/proc/{pid}/ns/net")).map_err(failed(what.clone()))?;
    let enter = move || {
        let entered = setns(net, CloneFlags::CLONE_NEWNET);
        entered.map_err(|errno| failed(what)(errno.into()))?;
        Ok(work())
    };
    let thread = Builder::new().name(name.to_owned()).spawn(enter);
    thread.map_err(failed(format!("thread {name}")))
}
