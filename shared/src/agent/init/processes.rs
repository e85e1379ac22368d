//! The processes around PID 1, read from `/proc`. I/O.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

struct Process {
    parent: i32,
    zombie: bool,
}

/// Kill every process around PID 1 `init` but itself, this process and those in `spared`, once.
/// Returns how many were there, those that already are dead and wait to be reaped not counted.
///
/// "Around" is the whole container when `init` is 1, else its descendants (as in tests).
/// A process that forks meanwhile needs another call: repeat until 0.
pub fn kill_all(init: i32, spared: &[i32]) -> usize {
    let me = getpid().as_raw();
    let all = list();
    let mut count = 0;
    for (&pid, process) in &all {
        let kept = pid == init || pid == me || spared.contains(&pid) || process.zombie;
        if kept || !(init == 1 || descends(&all, pid, init)) {
            continue;
        }
        // Gone in the meantime is as good.
        if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
            count += 1;
        }
    }
    count
}

fn descends(all: &HashMap<i32, Process>, pid: i32, ancestor: i32) -> bool {
    let mut at = pid;
    // Bounded: a parent chain read at different moments could close on itself.
    for _ in 0..64 {
        match all.get(&at) {
            Some(p) if p.parent == ancestor => return true,
            Some(p) => at = p.parent,
            None => return false,
        }
    }
    false
}

fn list() -> HashMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|e| {
            let pid: i32 = e.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse(&stat)?))
        })
        .collect()
}

/// The name in parentheses may hold anything, so fields are counted from its end.
fn parse(stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    Some(Process {
        zombie: state == "Z" || state == "X",
        parent: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_mislead() {
        let p = parse("42 (a) b (c)) Z 7 42 42 0").unwrap();
        assert!(p.zombie);
        assert_eq!(p.parent, 7);
    }

    #[test]
    fn own_process_is_listed() {
        assert!(list().contains_key(&getpid().as_raw()));
    }
}
