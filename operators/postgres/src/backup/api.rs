//! What a restore tells, as far as it is PostgreSQL's own.

use jiff::Timestamp;
use mainstay_shared::backups::container::restoring;
use serde::{Deserialize, Serialize};

pub use restoring::RestoreStep;

/// What a restore tells.
pub type RestoreReport = restoring::RestoreReport<Reached>;

/// The point that a restore ended at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// Place in the log.
    pub lsn: String,
    /// Timeline that recovery went along.
    #[serde(default)]
    pub along: u32,
    /// Timeline that the restored data writes from there on.
    pub timeline: u32,
    /// When the last transaction before it was committed, by the former primary's clock; none if there is
    /// none after the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// In PostgreSQL's words why it ended there.
    pub because: String,
}
