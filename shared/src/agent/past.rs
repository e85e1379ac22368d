//! What an agent keeps beside the engine, as JSON in a file: in memory for the next process of the container, or on the volume
//! for the next start of the engine. I/O.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mounts::place_file;
use super::state::{sync_folder, write_durably};

/// What is in a file; none when there is none, or it is not understood.
pub fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Keep it in a file in memory, which nobody else can read.
///
/// # Errors
/// The file cannot be written.
pub fn note<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    place_file(file, &serde_json::to_string(value)?, 0o600)
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
