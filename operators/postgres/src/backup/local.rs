//! PostgreSQL's data directory, for reading only. I/O.

use std::fs;
use std::io;
use std::path::PathBuf;

use mainstay_backup::ids::OwnerId;

use super::lineage::Lineage;
use super::owner::{Provenance, derived};
use super::settings::OWNER_FILE;
use super::wal::history_file;
use crate::agent::place::Place;

/// Where PostgreSQL keeps its log.
pub fn wal(place: &Place) -> PathBuf {
    place.data().join("pg_wal")
}

/// Names of the files that PostgreSQL wants archived, sorted.
pub fn ready(place: &Place) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(wal(place).join("archive_status"))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready")) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
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
    match fs::read(place.data().join(OWNER_FILE)) {
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
        Some(provenance) => (provenance.owner, provenance.timeline),
        None => (derived(system_identifier), 1),
    })
}
