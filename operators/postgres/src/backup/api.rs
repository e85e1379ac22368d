//! The interface of the container that makes backups, and what a restore tells.
//!
//! It listens on [`mainstay_shared::names::BACKUP_PORT`] with the instance's certificate. Reports are for the
//! operator and members of the set, orders for the operator only.

use jiff::Timestamp;
use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

pub use mainstay_backup::api::*;

/// What a restore tells: in the container's termination message, and while it runs on the first line of
/// [`super::settings::RESTORE_STATUS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreReport {
    /// What is being done.
    pub step: RestoreStep,
    /// In a sentence what is being done; after a failure why, and what was reached.
    pub message: String,
    /// Whether the same may succeed later by itself; of a failure.
    pub retryable: bool,
    /// The backup that is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Public part of the newest key that opens it; none if it is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Plain bytes that were brought back.
    pub bytes: u64,
    /// Plain bytes that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The last piece of the log that was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_piece: Option<String>,
    /// What was reached; once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
    /// The id that the restored data bears from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// Steps of a restore, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    /// The repository is read, and whether it can be done is judged.
    #[default]
    Choosing,
    /// The backup is brought back.
    Fetching,
    /// It is checked, and combined if it is a chain.
    Checking,
    /// The log is replayed.
    Replaying,
    /// What was reached is checked, and the data made ready.
    Finishing,
    /// It is done.
    Done,
    /// It failed: nothing is left that could be taken for data.
    Failed,
}

/// The point that a restore ended at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
