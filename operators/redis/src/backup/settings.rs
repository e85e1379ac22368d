//! What the operator tells the containers that restore and look, as far as it is Redis' own: the rest is
//! [`mainstay_shared::backups::container::settings`]. No secret is in them.

use jiff::Timestamp;
use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

pub use mainstay_shared::backups::container::settings::*;

use crate::settings::{Flavour, Persistence};

/// A restore into a new set, or of a set in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSettings {
    /// For people: which resource is made, for example `shop/cache2`.
    pub resource: String,
    /// Where from. Its recipients do not matter, but whether it is encrypted does.
    pub repository: RepositorySpec,
    /// Whose program the image holds: backups of the other are refused.
    #[serde(default)]
    pub flavour: Flavour,
    /// Version that the image holds, for example `8.0`: backups of a newer one are refused.
    pub version: String,
    /// What shall be on the volume.
    #[serde(default)]
    pub persistence: Persistence,
    /// How many databases the set has; none: as many as Redis has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<u32>,
    /// The backup; none: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Where no backup is named: the newest that is no later than this; none: the newest of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
    /// Where a set goes back in its own repository: the id by which it owns that, which the dataset keeps. None: the
    /// dataset is a new set's, and gets an identifier of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// Highest epoch that is known of the set: the dataset bears it, so that its first promotion has a higher one.
    #[serde(default)]
    pub epoch: u64,
    /// A cluster is made: this instance gets a shard of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<FoundedCluster>,
    /// Every shard of the backup is brought back, each into a folder of its own: what a drill of a cluster looks at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_shard: bool,
}

/// A cluster that is made from a backup, each of its first instances from a shard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundedCluster {
    /// Name of the set: an instance's number is which shard it gets.
    pub set: String,
    /// Uid of the resource. With the backup's id it makes the identifier that all of them bear, without a word between them.
    pub uid: String,
    /// How many shards are asked for.
    pub shards: usize,
    /// When the resource was made. Where no backup is named all take the newest that was whole by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
}

/// What a drill checks once its data is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillSettings {
    /// For people: whose backups are tried, for example `shop/cache`.
    pub resource: String,
    /// Whose program the image holds.
    #[serde(default)]
    pub flavour: Flavour,
    /// What the restore has written.
    #[serde(default)]
    pub persistence: Persistence,
    /// How many databases the set has; none: as many as Redis has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<u32>,
    /// Every shard of a cluster's backup was restored, as many as that has: they are looked at one after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_shard: bool,
    /// Longest time for one question, in seconds.
    pub question_seconds: u32,
    /// Questions, in this order.
    pub checks: Vec<DrillCheck>,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DrillCheck {
    /// How many keys there are.
    Keys {
        /// In this database; none: in all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        database: Option<u32>,
        /// No fewer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<u64>,
        /// No more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<u64>,
    },
    /// A key that is there.
    Key {
        /// In this database.
        database: u32,
        /// Its name.
        name: String,
        /// Its type, in Redis' words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        /// Its value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// A command that reads.
    Command {
        /// In this database.
        database: u32,
        /// Word by word.
        words: Vec<String>,
        /// Its answer as text; none: `true` or a number other than zero.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<String>,
    },
}
