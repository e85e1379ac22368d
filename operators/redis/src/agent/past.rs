//! What an agent keeps beside the dataset: in memory for the next process of the container, and on the volume for the next
//! start of the engine. I/O.

use std::fs;
use std::io;
use std::path::Path;

use mainstay_shared::agent::state::{sync_folder, write_durably};
use mainstay_shared::election::member::{Ballot, Position};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How far the dataset went when the engine that had it was stopped in order, and wrote it all.
///
/// It is on the volume only while no engine runs: whatever is written afterwards makes it untrue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orderly {
    /// End of its history.
    pub position: Position,
}

/// For which ballot the engine's start of that number was elected. In memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elected {
    /// The ballot.
    pub ballot: Ballot,
    /// The start; none: no engine ran then.
    pub start: Option<u64>,
}

/// What is in a file; none when there is none, or it is not understood.
pub fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Keep it durably.
///
/// # Errors
/// The volume.
pub fn keep<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    write_durably(file, &serde_json::to_vec(value)?)
}

/// Forget it durably, if it is there.
///
/// # Errors
/// The volume.
pub fn forget(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => file.parent().map_or(Ok(()), sync_folder),
    }
}
