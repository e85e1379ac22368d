//! What the operator tells the container that restores, as far as it is Redis' own: the rest is
//! [`mainstay_shared::backups::container::settings`]. No secret is in them.

use mainstay_backup::ids::BackupId;
use serde::{Deserialize, Serialize};

pub use mainstay_shared::backups::container::settings::*;

use crate::settings::{Flavour, Persistence};

/// A restore into a new set.
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
}
