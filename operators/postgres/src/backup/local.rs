//! PostgreSQL's data directory, for reading only. I/O.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_backup::ids::OwnerId;

use super::lineage::Lineage;
use super::owner::{Provenance, derived};
use super::settings::OWNER_FILE;
use super::wal::history_file;
use crate::agent::place::Place;
use crate::agent::recovery;

/// Where PostgreSQL keeps its log.
pub fn wal(place: &Place) -> PathBuf {
    place.data().join("pg_wal")
}

/// Names of the files that PostgreSQL wants archived, sorted.
pub fn ready(place: &Place) -> io::Result<Vec<String>> {
    ready_in(&wal(place))
}

/// The same of the folder of a log.
pub fn ready_in(log: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(log.join("archive_status"))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready")) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The volume, and the log on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Size of the volume, in bytes.
    pub size: u64,
    /// What is free on it.
    pub free: u64,
    /// Size of a file of the log; 0 where there is none.
    pub file: u64,
    /// Names of the files of the log.
    pub log: HashSet<String>,
    /// Names of what PostgreSQL wants archived, sorted.
    pub ready: Vec<String>,
}

impl Look {
    /// Whether that is a whole file of the log: what tells how histories descend is small, and needed for ever.
    pub fn is_whole(&self, name: &str) -> bool {
        recovery::is_file(name) && self.log.contains(name)
    }
}

/// Looks at volume and log.
pub fn look(place: &Place) -> io::Result<Look> {
    let volume = rustix::fs::statvfs(place.volume())?;
    let (mut log, mut file) = (HashSet::new(), 0);
    for entry in fs::read_dir(wal(place))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if recovery::is_file(&name) {
            if file == 0 {
                // It may go just now.
                file = entry.metadata().map_or(0, |meta| meta.len());
            }
            log.insert(name);
        }
    }
    Ok(Look {
        size: volume.f_blocks * volume.f_frsize,
        free: volume.f_bavail * volume.f_frsize,
        file,
        log,
        ready: ready(place)?,
    })
}

/// The descent of a timeline.
///
/// # Errors
/// Its history file is missing or not understood; a sentence.
pub fn lineage(place: &Place, timeline: u32) -> Result<Lineage, String> {
    if timeline == 1 {
        return Ok(Lineage::first());
    }
    let file = history_file(timeline);
    let text = fs::read_to_string(wal(place).join(&file))
        .map_err(|e| format!("{file} cannot be read: {e}"))?;
    Lineage::parse(timeline, &text).map_err(|e| e.to_string())
}

/// Whether a timeline's file says that it was only claimed.
pub fn only_claimed(place: &Place, timeline: u32) -> bool {
    lineage(place, timeline).is_ok_and(|lineage| lineage.only_claimed())
}

/// What a restore left in the data directory, if the data was restored.
///
/// # Errors
/// It is there and not understood: nobody can tell whose the data is. A sentence.
pub fn provenance(place: &Place) -> Result<Option<Provenance>, String> {
    provenance_in(&place.data())
}

/// The same of any data directory.
///
/// # Errors
/// As [`provenance`].
pub fn provenance_in(data: &Path) -> Result<Option<Provenance>, String> {
    match fs::read(data.join(OWNER_FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| format!("{OWNER_FILE} in the data directory is not understood: {e}")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!(
            "{OWNER_FILE} in the data directory cannot be read: {e}"
        )),
    }
}

/// Whose the data is, and the timeline with which its own log begins.
///
/// # Errors
/// As [`provenance`].
pub fn owner(place: &Place, system_identifier: &str) -> Result<(OwnerId, u32), String> {
    Ok(match provenance(place)? {
        Some(provenance) => {
            let first = provenance.first();
            (provenance.owner, first)
        }
        None => (derived(system_identifier), 1),
    })
}
