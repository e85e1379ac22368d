//! How far an engine is that takes no connections yet: its title says which file of the log it is at. I/O
//! of `/proc` only.

use std::fs;

/// Name of the file of the log that the engine with that first process recovers from. None when it does
/// not recover, or its titles are switched off.
pub fn file(engine: i32) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent(*pid) == Some(engine))
        .find_map(|pid| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            in_title(&String::from_utf8_lossy(&title))
        })
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn in_title(title: &str) -> Option<String> {
    let (_, rest) = title.split_once("startup recovering ")?;
    let name: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    (name.len() == 24).then_some(name)
}

/// Place in the log, in bytes, where a file of that name and size begins.
pub fn begin(file: &str, size: u64) -> Option<u64> {
    let part = |range| u64::from_str_radix(file.get(range)?, 16).ok();
    Some((part(8..16)? << 32) + part(16..24)?.checked_mul(size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_says_where_recovery_is() {
        let title = "postgres: db-1: startup recovering 00000003000000010000000A\0\0\0";
        let name = in_title(title).unwrap();
        assert_eq!(begin(&name, 16 << 20), Some((1 << 32) + (10 << 24)));
        assert_eq!(in_title("postgres: db-1: walwriter "), None);
        assert_eq!(in_title("postgres: db-1: startup recovering 00"), None);
    }

    #[test]
    fn only_the_engines_own_processes_count() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(file(own), None);
        assert!(parent(own).is_some());
    }
}
