//! What PostgreSQL runs as its `archive_command`: success only when the file is in the repository, or when
//! nobody ever needs it. I/O.

use std::path::Path;
use std::time::Duration;

use super::socket::{Question, ask};

/// How long PostgreSQL is kept waiting: a store that is slow is waited for, one that is away is told.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same while PostgreSQL stops, which waits for us: an orderly stop, and with it a hand-over, must not
/// wait for a store. What is not stored then, the next primary stores.
const STOPPING: Duration = Duration::from_secs(1);
/// What ends PostgreSQL's archiver at once: above 125 it does not try again.
pub const GIVE_UP: u8 = 200;

/// Why the file has to stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Kept {
    /// In a sentence; PostgreSQL writes it into its log.
    pub why: String,
    /// Whether PostgreSQL should not try again now.
    pub give_up: bool,
}

/// Asks for a file, by its path as PostgreSQL gives it: relative to the data directory, where this runs.
///
/// # Errors
/// It has to stay.
pub async fn push(socket: &Path, path: &Path, data: &Path) -> Result<(), Kept> {
    let stopping = stopping(&data.join("postmaster.pid"));
    let kept = |why: String| Kept {
        why,
        give_up: stopping,
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| kept(format!("{} is no file of the log", path.display())))?;
    let patience = if stopping { STOPPING } else { PATIENCE };
    let question = Question {
        file: name.to_owned(),
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or_default(),
    };
    let answer = ask(socket, &question).await.map_err(|error| {
        kept(format!(
            "{name} is kept: the backup container does not answer: {error}"
        ))
    })?;
    if answer.stored {
        return Ok(());
    }
    let why = answer.why.unwrap_or_default();
    Err(kept(format!("{name} is kept: {why}")))
}

/// Whether PostgreSQL has been told to stop: it says so on the eighth line of its lock file.
fn stopping(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .nth(7)
        .is_some_and(|line| line.trim() == "stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_seen_in_the_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postmaster.pid");
        assert!(!stopping(&file));
        for (status, expected) in [("ready   ", false), ("stopping", true), ("standby ", false)] {
            std::fs::write(
                &file,
                format!("1\n/data\n2\n5432\n/run\n*\n  3 4\n{status}\n"),
            )
            .unwrap();
            assert_eq!(stopping(&file), expected, "{status}");
        }
    }

    #[tokio::test]
    async fn without_anybody_who_answers_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let path = Path::new("pg_wal/000000010000000000000001");
        let kept = push(&socket, path, folder.path()).await.unwrap_err();
        assert!(
            kept.why.contains("000000010000000000000001 is kept"),
            "{kept}"
        );
        assert!(!kept.give_up);
    }
}
