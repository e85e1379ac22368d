//! What an agent remembers on its data volume, outside the engine's folder. I/O.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::election::charter::Durable;

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
    /// What this member has promised and heard of. Of the present generation.
    #[serde(default)]
    pub election: Durable,
    /// Which epoch claimed which timeline (or the engine's like) of the data in this volume, by the
    /// timeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promotions: BTreeMap<u64, u64>,
    /// The set's other instances as last met, by name, for when nobody tells where they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, Met>,
    /// What a newer version wrote: kept as it is.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

/// A peer as last met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Generation of its data.
    pub generation: String,
    /// Address of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Zone of its node, as far as it knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Memory {
    /// What stays when the data is made or copied anew: what was promised, claimed and flushed
    /// belonged to the generation before.
    #[must_use]
    pub fn renewed(self, generation: String) -> Self {
        Self {
            generation: Some(generation),
            epoch: self.epoch,
            election: Durable::default(),
            promotions: BTreeMap::new(),
            peers: self.peers,
            others: self.others,
        }
    }
}

/// A timeline is known under another epoch: the histories have parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data has timeline {timeline} as epoch {own} made it, not epoch {other}: rewind it or copy it anew"
)]
pub struct Parted {
    /// Which timeline.
    pub timeline: u64,
    /// Who made it in this volume.
    pub own: u64,
    /// Who made the other.
    pub other: u64,
}

/// A claim could not be noted.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The histories have parted.
    #[error(transparent)]
    Parted(#[from] Parted),
    /// The volume.
    #[error("the agent's state on the data volume: {0}")]
    Io(#[from] io::Error),
}

/// The file with it, and what it holds. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Store {
    file: PathBuf,
    memory: Arc<Mutex<Memory>>,
    /// Held while the file is written, so that reading the memory waits for no disk.
    writing: Arc<Mutex<()>>,
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
            writing: Arc::default(),
        })
    }

    /// What it remembers durably. It waits for no disk.
    pub fn get(&self) -> Memory {
        self.lock().clone()
    }

    /// Change it durably: when this returns it survives a power cut. What changes nothing writes
    /// nothing; the epoch never goes back. It waits for the disk, and for others who do.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> io::Result<()> {
        // It guards no data, so a panic elsewhere leaves nothing behind.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.get();
        let mut new = old.clone();
        change(&mut new);
        new.epoch = new.epoch.max(old.epoch);
        if new != old {
            write_durably(&self.file, &serde_json::to_vec_pretty(&new)?)?;
            *self.lock() = new;
        }
        Ok(())
    }

    /// Note durably which epoch claimed a timeline. Noted twice is no matter.
    ///
    /// # Errors
    /// When the data has that timeline of another epoch: nothing is noted then.
    pub fn claimed(&self, timeline: u64, epoch: u64) -> Result<(), ClaimError> {
        let mut parted = None;
        self.update(|m| {
            let own = *m.promotions.entry(timeline).or_insert(epoch);
            if own != epoch {
                parted = Some(Parted {
                    timeline,
                    own,
                    other: epoch,
                });
            }
        })?;
        parted.map_or(Ok(()), |parted| Err(parted.into()))
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

/// What is not there is gone.
///
/// # Errors
/// Any other than that it is not there.
pub fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
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
        store.claimed(2, 7).unwrap();
        store.claimed(2, 7).unwrap();
        assert!(matches!(store.claimed(2, 8), Err(ClaimError::Parted(_))));
        store
            .update(|m| *m = m.clone().renewed("g2".into()))
            .unwrap();
        assert_eq!(
            store.get().promotions,
            BTreeMap::new(),
            "of the data before"
        );
        fs::write(folder.join(FILE), r#"{"epoch":8,"later":{"a":1}}"#).unwrap();
        let newer = Store::open(&folder).unwrap();
        newer.update(|m| m.epoch = 9).unwrap();
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        assert!(text.contains("later"), "{text}");
        fs::write(folder.join(FILE), "{").unwrap();
        assert!(Store::open(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
