//! Processes inside a pod that are killed, stopped and continued.
//!
//! They are found by the control group of their pod, on this machine: that works for clusters whose
//! nodes share its process ids, as the local one's do.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{FaultError, Undo};

/// A process of a pod, or one that is known by its number. The handle stays with the process: it never means another with its number.
#[derive(Debug)]
pub struct PodProcess {
    /// Its number on this machine.
    pub pid: i32,
    /// Its command line, words separated by blanks.
    pub command: String,
    handle: OwnedFd,
}

/// The processes of the pod with `uid` whose command line contains `part`, in order of their
/// numbers. Threads and processes that are ending are left out.
///
/// # Errors
/// The table of processes cannot be read.
pub fn of_pod(uid: &str, part: &str) -> Result<Vec<PodProcess>, FaultError> {
    let table = std::fs::read_dir("/proc").map_err(failed("read /proc"))?;
    let mut pids: Vec<i32> = table
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids
        .into_iter()
        .filter_map(|pid| one(pid, uid, part))
        .collect())
}

/// The process with that number.
///
/// # Errors
/// There is none.
pub fn by_id(pid: i32) -> Result<PodProcess, FaultError> {
    let what = || format!("process {pid}");
    let id = Pid::from_raw(pid).ok_or_else(|| FaultError::Nothing(what()))?;
    let handle = pidfd_open(id, PidfdFlags::empty()).map_err(|e| failed(what())(e.into()))?;
    Ok(PodProcess {
        pid,
        command: what(),
        handle,
    })
}

fn one(pid: i32, uid: &str, part: &str) -> Option<PodProcess> {
    // The handle first: what is read afterwards is of the same process, as long as it lives.
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let folder = Path::new("/proc").join(pid.to_string());
    if !in_pod(&std::fs::read_to_string(folder.join("cgroup")).ok()?, uid) {
        return None;
    }
    let command = std::fs::read(folder.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command)
        .replace('\0', " ")
        .trim_end()
        .to_owned();
    (!command.is_empty() && command.contains(part)).then_some(PodProcess {
        pid,
        command,
        handle,
    })
}

/// Whether a `/proc/PID/cgroup` file names a group below that of the pod. The systemd driver writes
/// underscores for dashes.
fn in_pod(groups: &str, uid: &str) -> bool {
    let plain = format!("pod{uid}");
    let systemd = format!("pod{}.slice", uid.replace('-', "_"));
    groups
        .lines()
        .flat_map(|line| line.split('/'))
        .any(|part| part == plain || part.ends_with(&systemd))
}

fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> FaultError {
    move |source| FaultError::Process {
        what: what.into(),
        source,
    }
}

impl PodProcess {
    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended, or may not be signalled.
    pub fn signal(&self, signal: Signal) -> Result<(), FaultError> {
        let what = format!(
            "signal {signal:?} to process {} ({})",
            self.pid, self.command
        );
        pidfd_send_signal(self.handle.as_fd(), signal).map_err(|error| failed(what)(error.into()))
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// The process has ended already.
    pub fn kill(&self) -> Result<(), FaultError> {
        self.signal(Signal::KILL)
    }

    /// Stops it until undone: it holds what it has and does nothing.
    ///
    /// # Errors
    /// The process has ended.
    pub fn stop(self) -> Result<Undo<'static>, FaultError> {
        self.signal(Signal::STOP)?;
        let what = format!("process {} ({}) is stopped", self.pid, self.command);
        Ok(Undo::new(what, move || {
            Box::pin(async move {
                match self.signal(Signal::CONT) {
                    // Killed meanwhile: nothing is left to continue.
                    Err(FaultError::Process { source, .. })
                        if source.raw_os_error()
                            == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
                    {
                        Ok(())
                    }
                    continued => continued,
                }
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_known_by_the_group_of_their_pod() {
        let uid = "7bc25f90-eca0-4fa6-918e-de7eb3ed7805";
        let cgroupfs = format!("3:memory:/mainstay/x/node1/kubepods/burstable/pod{uid}/0123abcd\n");
        let systemd = "0::/kubepods.slice/kubepods-pod7bc25f90_eca0_4fa6_918e_de7eb3ed7805.slice/cri-0123.scope\n";
        assert!(in_pod(&cgroupfs, uid));
        assert!(in_pod(systemd, uid));
        assert!(!in_pod(&cgroupfs, "7bc25f90"));
        assert!(!in_pod("0::/user.slice\n", uid));
    }

    #[tokio::test]
    async fn a_stopped_process_goes_on_when_the_guard_is_dropped() {
        let state = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = || PodProcess {
            pid,
            command: "sleep".into(),
            handle: pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap(),
        };
        let stopped = process().stop().unwrap();
        while state(child.id()) != 'T' {
            std::thread::yield_now();
        }
        drop(stopped);
        while state(child.id()) == 'T' {
            std::thread::yield_now();
        }
        process().kill().unwrap();
        child.wait().unwrap();
    }
}
