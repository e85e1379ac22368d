//! What a drill tells: a restore into an instance that nobody uses, and what was found there. Values only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::BackupId;

/// Longest of all sentences in a report, in characters: Kubernetes keeps 4096 bytes of last words.
pub const SENTENCE: usize = 240;
/// Checks of a report: those that failed first.
pub const CHECKS: usize = 8;

/// What came of a drill, as the last words of the container that did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillReport {
    /// Everything was restored, and all checks hold.
    pub passed: bool,
    /// In a sentence what holds, or what does not.
    pub message: String,
    /// The backup that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Bytes that were brought back, as they were before they were stored.
    pub bytes: u64,
    /// Public part of the key that opened it; none if it was not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where recovery ended, in the engine's terms: a place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// History that the restored data had until there, in the engine's terms: a timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// When the newest commit that was recovered was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// When the restore began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// When the restored engine answered: the recovery time ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How many checks there were, built-in ones too.
    pub checks: u32,
    /// Those that did not hold, at most [`CHECKS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedCheck>,
}

/// A check that does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCheck {
    /// What was checked: a user's statement as it is written, or the name of a built-in check.
    pub what: String,
    /// What was found instead.
    pub found: String,
}
