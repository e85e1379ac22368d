//! Memory of our processes, read from `/proc` of the host that runs the local cluster's nodes.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

/// One of our processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// `operator of` an engine, `agent`, `init` or `backup`.
    pub role: String,
    /// Anonymous resident memory in KiB: what the process itself costs, shared program text left out.
    pub rss_anon_kib: u64,
    /// All resident memory in KiB.
    pub rss_kib: u64,
    /// Processor time used so far, in clock ticks.
    pub ticks: u64,
}

/// Every running process of an operator or an agent on this machine.
///
/// # Errors
/// When none runs, or `/proc` cannot be read.
pub fn processes() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let folder = entry.path();
        let Ok(command) = fs::read(folder.join("cmdline")) else {
            continue;
        };
        let words: Vec<_> = command
            .split(|b| *b == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let [program, role, ..] = words.as_slice() else {
            continue;
        };
        // As its image has it, and as the init container installs it.
        if program == "/operator" {
            let engine = engine(&folder).unwrap_or_else(|| "an engine".to_owned());
            found.extend(look(&folder, &format!("{role} of {engine}")));
        } else if program.starts_with("/mainstay/bin/") {
            found.extend(look(&folder, role));
        }
    }
    ensure!(
        !found.is_empty(),
        "no operator and no agent runs on this machine"
    );
    Ok(found)
}

/// The engine that an operator looks after, by the name of its pod: all have the same command line.
fn engine(folder: &Path) -> Option<String> {
    let environment = fs::read(folder.join("environ")).ok()?;
    engine_in(&environment)
}

fn engine_in(environment: &[u8]) -> Option<String> {
    let mut all = environment.split(|b| *b == 0);
    let pod = all.find_map(|word| word.strip_prefix(b"POD_NAME=mainstay-"))?;
    let pod = String::from_utf8_lossy(pod);
    Some(pod.split('-').next()?.to_owned())
}

/// One process by its number, if it runs.
pub fn process(pid: u32, role: &str) -> Option<Process> {
    look(&Path::new("/proc").join(pid.to_string()), role)
}

fn look(folder: &Path, role: &str) -> Option<Process> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    // One that has ended and was not waited for has a status, and no memory.
    if !status.contains("VmRSS:") {
        return None;
    }
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // Fields 14 and 15, counted after the command's closing parenthesis.
    let after = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks = after.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    Some(Process {
        role: role.to_owned(),
        rss_anon_kib: field(&status, "RssAnon:"),
        rss_kib: field(&status, "VmRSS:"),
        ticks: ticks.sum(),
    })
}

/// A number of KiB in `/proc/…/status`.
fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        assert_eq!(
            field("VmRSS:\t  1200 kB\nRssAnon:\t 300 kB\n", "RssAnon:"),
            300
        );
        assert_eq!(field("", "RssAnon:"), 0);
    }

    #[test]
    fn operators_are_told_apart_by_their_pods() {
        let environment = b"PATH=/\0POD_NAME=mainstay-redis-5d9f-x2x\0A=b\0";
        assert_eq!(engine_in(environment).as_deref(), Some("redis"));
        assert_eq!(engine_in(b"POD_NAME=db-1\0"), None);
    }
}
