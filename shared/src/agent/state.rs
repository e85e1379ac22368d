//! What an agent remembers on its data volume, outside the engine's folder. I/O.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The file with it, and what it holds. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Store {
    file: PathBuf,
    memory: Arc<Mutex<Memory>>,
}

impl Store {
    /// Memory in `folder`, which is made if need be; a new volume remembers nothing.
    ///
    /// # Errors
    /// Also when the file cannot be understood: to forget a promise would be worse than to stop.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = folder.join(FILE);
        let memory = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(e) => return Err(e),
        };
        Ok(Self {
            file,
            memory: Arc::new(Mutex::new(memory)),
        })
    }

    /// What it remembers.
    pub fn get(&self) -> Memory {
        self.lock().clone()
    }

    /// Change it durably: when this returns it survives a power cut. What changes nothing writes
    /// nothing; the epoch never goes back.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> io::Result<()> {
        let mut memory = self.lock();
        let mut new = memory.clone();
        change(&mut new);
        new.epoch = new.epoch.max(memory.epoch);
        if new != *memory {
            write_durably(&self.file, &serde_json::to_vec_pretty(&new)?)?;
            *memory = new;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // The memory is replaced as a whole, so a panic elsewhere leaves no half of it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
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
        let store = Store::open(&folder).unwrap();
        assert_eq!(store.get(), Memory::default());
        store.update(|m| m.epoch = 7).unwrap();
        store.update(|m| m.epoch = 3).unwrap();
        assert_eq!(
            Store::open(&folder).unwrap().get().epoch,
            7,
            "it never goes back"
        );
        fs::write(folder.join(FILE), "{").unwrap();
        assert!(Store::open(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
