//! Where a ledger is written, and where it goes on after a restart.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::ledger::{self, Entry};

/// Why a ledger cannot be kept; a client without one must not write.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("the ledger {path}: {source}")]
    File {
        /// The file, or `standard output`.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("the ledger {path}: {source}")]
    Content {
        /// The file.
        path: String,
        /// The line.
        source: ledger::NoEntry,
    },
}

/// An open ledger. Each entry is in the hands of the system before `append` returns.
pub struct Journal {
    out: Box<dyn Write + Send>,
    name: String,
    next: u64,
}

impl Journal {
    /// Opens the ledger in `file`, going on where it ends; standard output without a file.
    ///
    /// # Errors
    /// The file cannot be opened, or holds something else.
    pub fn open(file: Option<&Path>) -> Result<Self, JournalError> {
        let Some(path) = file else {
            let out = Box::new(std::io::stdout());
            return Ok(Self {
                out,
                name: "standard output".into(),
                next: 1,
            });
        };
        let name = path.display().to_string();
        let failed = |source| JournalError::File {
            path: name.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(failed)?;
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let entries = read_entries(&text, &name)?;
        // A line that a kill tore is removed: it must not swallow the next one.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        // The number that was under way at the kill is skipped, for its write may have happened.
        let next = entries
            .iter()
            .map(|entry| entry.id)
            .max()
            .map_or(1, |last| last + 2);
        Ok(Self {
            out: Box::new(file),
            name,
            next,
        })
    }

    /// A number that no entry of this ledger has.
    pub fn next_id(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let line = format!("{entry}\n");
        let done = self
            .out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.flush());
        done.map_err(|source| JournalError::File {
            path: self.name.clone(),
            source,
        })
    }
}

/// The entries of the ledger in `file`.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read(file: &Path) -> Result<Vec<Entry>, JournalError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|source| JournalError::File {
        path: name.clone(),
        source,
    })?;
    read_entries(&text, &name)
}

fn read_entries(text: &str, name: &str) -> Result<Vec<Entry>, JournalError> {
    ledger::parse(text).map_err(|source| JournalError::Content {
        path: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Outcome;
    use super::*;

    #[test]
    fn a_ledger_goes_on_after_a_kill_and_never_uses_a_number_twice() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut journal = Journal::open(Some(file.path())).unwrap();
        let mut write = |id| {
            let entry = Entry {
                id,
                sent: 1,
                done: 2,
                outcome: Outcome::Acknowledged,
                term: None,
                detail: String::new(),
            };
            journal.append(&entry).unwrap();
        };
        write(1);
        write(2);
        // In flight: 3, killed before or within its line.
        let mut again = Journal::open(Some(file.path())).unwrap();
        assert!(again.next_id() > 3);
        OpenOptions::new()
            .append(true)
            .open(file.path())
            .unwrap()
            .write_all(b"LEDGER 3 1")
            .unwrap();
        let mut again = Journal::open(Some(file.path())).unwrap();
        let id = again.next_id();
        assert!(id > 3);
        again
            .append(&Entry {
                id,
                sent: 1,
                done: 2,
                outcome: Outcome::Failed,
                term: None,
                detail: "x".into(),
            })
            .unwrap();
        let ids: Vec<u64> = read(file.path())
            .unwrap()
            .iter()
            .map(|entry| entry.id)
            .collect();
        assert_eq!(ids, [1, 2, id]);
    }
}
