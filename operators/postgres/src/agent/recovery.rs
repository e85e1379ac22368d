//! How far an engine is that takes no connections yet: its title says which file of the log it is at. I/O
//! of `/proc`, and of the log's folder for the size of a file.

use std::fs;
use std::path::Path;

/// Name of the file of the log that the engine with that first process recovers from, or waits for. None
/// when it does not recover, or its titles are switched off.
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
    // The second when it has no such file at all: rewinding throws away what the other has not.
    let at = ["startup recovering ", "startup waiting for "];
    let (_, rest) = at.iter().find_map(|words| title.split_once(words))?;
    let name: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    is_file(&name).then_some(name)
}

/// Whether a file of the log is called so: timeline and place, in hexadecimal digits.
pub fn is_file(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Size of each file of the log in that folder. None when there is no file.
pub fn size(log: &Path) -> Option<u64> {
    let files = fs::read_dir(log).ok()?.flatten();
    let mut files = files.filter(|f| f.file_name().to_str().is_some_and(is_file));
    files.find_map(|f| Some(f.metadata().ok()?.len()))
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
        let waits = "postgres: db-1: startup waiting for 000000010000000000000003";
        assert_eq!(in_title(waits).as_deref(), Some("000000010000000000000003"));
        assert_eq!(in_title("postgres: db-1: walwriter "), None);
        assert_eq!(in_title("postgres: db-1: startup recovering 00"), None);
    }

    #[test]
    fn any_file_of_the_log_tells_the_size_of_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(size(folder.path()), None);
        fs::write(folder.path().join("00000002.history"), "1").unwrap();
        assert_eq!(size(folder.path()), None);
        fs::write(folder.path().join("000000010000000000000004"), [0; 64]).unwrap();
        assert_eq!(size(folder.path()), Some(64));
    }

    #[test]
    fn only_the_engines_own_processes_count() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(file(own), None);
        assert!(parent(own).is_some());
    }
}
