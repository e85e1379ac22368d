//! What an agent remembers on its data volume, outside the engine's folder. I/O.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::election::record::Record;

const FILE: &str = "state.json";

/// The memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Minted whenever the data directory is made or copied anew: with the instance's name it is
    /// the member's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// Highest epoch that this volume has seen. It never goes back.
    #[serde(default)]
    pub epoch: u64,
    /// The set's record as last seen, for when the API server is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Commits wait for replicas: switched on when one streamed for the first time.
    #[serde(default)]
    pub synchronous: bool,
}

/// The file with it.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Memory in `folder`, which is made if need be.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Read it; a volume without a file remembers nothing.
    ///
    /// # Errors
    /// Also when the file cannot be understood: to forget a promise would be worse than to stop.
    pub fn read(&self) -> io::Result<Memory> {
        match fs::read(self.folder.join(FILE)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(e) => Err(e),
        }
    }

    /// Write it durably: when this returns it survives a power cut.
    pub fn write(&self, memory: &Memory) -> io::Result<()> {
        write_durably(&self.folder.join(FILE), &serde_json::to_vec_pretty(memory)?)
    }
}

/// Write a file so that after a power cut the old or the new content is there, whole.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Make renames in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_and_does_not_forget_what_it_cannot_read() {
        let folder = std::env::temp_dir().join(format!("mainstay-state-{}", std::process::id()));
        let store = Store::open(folder.clone()).unwrap();
        assert_eq!(store.read().unwrap(), Memory::default());
        let memory = Memory {
            epoch: 7,
            synchronous: true,
            ..Memory::default()
        };
        store.write(&memory).unwrap();
        assert_eq!(store.read().unwrap(), memory);
        fs::write(folder.join(FILE), "{").unwrap();
        assert!(store.read().is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
