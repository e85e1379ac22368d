//! Whose the data is. Pure.
//!
//! A repository belongs to an instance's data, so the id has to travel with the data: to replicas that are
//! copied, to volumes that are adopted, into every backup. Data that `initdb` made has PostgreSQL's system
//! identifier, which is just that: minted with the data, the same in every member, unknown to no release.
//! The id of such data is derived from it, so that nobody has to write anything when backups are switched
//! on. Data that was restored has the identifier of what it was restored from, and must not have its id:
//! a restore leaves a [`Provenance`] in the data directory, which counts instead.

use mainstay_backup::crypto::sha256;
use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

/// What a restore leaves in the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// The id, minted by the restore.
    pub owner: OwnerId,
    /// The timeline that the restored data began: its log before that is another repository's.
    pub timeline: u32,
    /// Whose data it was.
    pub from: OwnerId,
    /// The backup that it was restored from.
    pub backup: BackupId,
}

/// The id of data that `initdb` made.
pub fn derived(system_identifier: &str) -> OwnerId {
    let digest = sha256(format!("mainstay owner {system_identifier}").as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    OwnerId::new(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_new_data_follows_from_its_identifier() {
        assert_eq!(derived("7301"), derived("7301"));
        assert_ne!(derived("7301"), derived("7302"));
    }
}
