//! Whose the data is. Pure.
//!
//! A repository belongs to an instance's data, so the id has to travel with the data: to replicas that are
//! copied, to volumes that are adopted, into every backup. Data that `initdb` made has PostgreSQL's system
//! identifier, which is just that: minted with the data, the same in every member, unknown to no release.
//! The id of such data is derived from it, so that nobody has to write anything when backups are switched
//! on. Data that was restored has the identifier of what it was restored from, and must not have its id:
//! a restore leaves a [`Provenance`] in the data directory, which counts instead.

use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

/// What a restore leaves in the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// The id, minted by the restore.
    pub owner: OwnerId,
    /// The timeline that the restored data began.
    pub timeline: u32,
    /// The timeline with which the log begins that is in its owner's repository, where that is an earlier one: the set
    /// went back in time in place. None: the log before `timeline` is another repository's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// Whose data it was.
    pub from: OwnerId,
    /// The backup that it was restored from.
    pub backup: BackupId,
}

impl Provenance {
    /// The timeline with which its own log begins.
    pub fn first(&self) -> u32 {
        self.first.unwrap_or(self.timeline)
    }

    /// That of data which went back in place, and stays `owner`'s. `was`: what was left in the data by an earlier
    /// restore; without it the data was made by `initdb`, with this system identifier.
    ///
    /// Where the data is from before the owner had it (the repository was adopted), its log begins now.
    pub fn in_place(
        owner: OwnerId,
        was: Option<&Self>,
        system_identifier: &str,
        timeline: u32,
        from: OwnerId,
        backup: BackupId,
    ) -> Self {
        let first = match was {
            Some(was) => (was.owner == owner).then(|| was.first()),
            None => (derived(system_identifier) == owner).then_some(1),
        };
        Self {
            owner,
            timeline,
            first,
            from,
            backup,
        }
    }
}

/// The id of data that `initdb` made.
pub fn derived(system_identifier: &str) -> OwnerId {
    OwnerId::of(system_identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_went_back_in_place_stays_its_owners() {
        let backup: BackupId = "20260102t030405z-0011223344556677".parse().unwrap();
        let made = |owner: &OwnerId, was: Option<&Provenance>| {
            let from = derived("7301");
            Provenance::in_place(owner.clone(), was, "7301", 4, from, backup.clone())
        };
        let own = derived("7301");
        let once = made(&own, None);
        assert_eq!(
            (once.owner.clone(), once.first(), once.timeline),
            (own.clone(), 1, 4)
        );
        // Twice, from a backup of after the first time.
        assert_eq!(made(&own, Some(&once)).first(), 1);
        // The backup is of a former owner, whose repository was adopted.
        let other = OwnerId::new([9; 16]);
        assert_eq!(made(&other, None).first(), 4);
        assert_eq!(made(&other, Some(&once)).first(), 4);
        let restored = Provenance {
            first: None,
            owner: other.clone(),
            timeline: 3,
            ..once
        };
        assert_eq!(made(&other, Some(&restored)).first(), 3);
        let text = serde_json::to_string(&restored).unwrap();
        assert!(
            !text.contains("first"),
            "as releases before wrote it: {text}"
        );
    }

    #[test]
    fn the_id_of_new_data_follows_from_its_identifier() {
        assert_eq!(derived("7301"), derived("7301"));
        assert_ne!(derived("7301"), derived("7302"));
    }
}
