//! Which process is which: a file per process, written by the process itself before it becomes the
//! program it is to run.

use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{LocalError, at};

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl Record {
    /// This process.
    pub fn own() -> Option<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Some(Self {
            pid,
            start: start_time(pid)?,
        })
    }

    /// Whether the process still lives. One that has ended and was not reaped does not.
    pub fn alive(self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Sends a signal, to this process and to none that has its number later.
    pub fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        // The handle pins the process: only now it is sure which one it is.
        if self.alive() {
            let _ = rustix::process::pidfd_send_signal(handle, signal);
        }
    }

    /// Writes the record at once or not at all.
    pub fn write(self, path: &Path) -> Result<(), LocalError> {
        let draft = path.with_extension("draft");
        std::fs::write(&draft, format!("{} {}\n", self.pid, self.start)).map_err(at(&draft))?;
        std::fs::rename(&draft, path).map_err(at(path))
    }

    /// Reads a record; `None` where there is none.
    pub fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }
}

/// When a process started; `None` if there is none or it is a zombie.
fn start_time(pid: i32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may hold anything, also blanks and parentheses: what counts is behind it.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_record_lives_and_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("self");
        let own = Record::own().unwrap();
        own.write(&path).unwrap();
        assert_eq!(Record::read(&path), Some(own));
        assert!(own.alive());
        assert!(
            !Record {
                start: own.start + 1,
                ..own
            }
            .alive()
        );
        assert_eq!(Record::read(&folder.path().join("none")), None);
    }

    #[test]
    fn stat_with_a_strange_name() {
        let rest = "0 ".repeat(18);
        assert_eq!(parse(&format!("7 (a) b) S {rest}4711 0")), Some(4711));
        assert_eq!(parse(&format!("7 (a) Z {rest}4711 0")), None);
    }
}
