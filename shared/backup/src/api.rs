//! What is told of the backups of an instance, and what may be asked for, as JSON over HTTP.
//!
//! Who makes backups serves this beside the engine; the operator reads it and gives orders. Values only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{BackupId, OwnerId};
use crate::layout::Label;
use crate::retention::Policy;

/// GET: [`Report`]. With `?after=<sequence>&wait=<milliseconds>` it answers when the report has another
/// sequence number, or after the wait.
pub const REPORT: &str = "/v1/backup";
/// POST [`Order`]: taken (202), or refused with a sentence. What came of it is in [`Report::results`].
pub const ORDERS: &str = "/v1/backup/orders";
/// Results of orders that are remembered: the oldest go first.
pub const RESULTS: usize = 16;

/// Everything that is known.
///
/// Guarantee: nothing here is a guess. What could not be told is absent, or `Unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Changes with every change of any other field but [`Self::running`]'s figures, within one process.
    pub sequence: u64,
    /// Name of the instance.
    pub instance: String,
    /// Minted at every start of the process: after another one, orders without a result are lost.
    pub nonce: String,
    /// Hash of the settings that are in force: the first 16 hexadecimal digits of the SHA-256 of their file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_hash: Option<String>,
    /// Whether this instance writes the log now, so that what it says of the archive counts.
    pub writes_log: bool,
    /// Whose the repository is.
    pub ownership: Ownership,
    /// How far the log is stored.
    pub archive: Archive,
    /// The first moment that can be recovered; none while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Timestamp>,
    /// Every moment from `earliest`, or from the end of the last gap, to this one can be recovered. Only
    /// who writes the log can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
    /// Pieces of the log that are missing, after the oldest backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Backups, the oldest first; the newest 200.
    pub catalogue: Vec<BackupEntry>,
    /// Folders of backups that are none, and why: a person should look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
    /// When the catalogue was read last; none if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue_at: Option<Timestamp>,
    /// The backup that is being made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// What came of the last orders, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<OrderResult>,
    /// What retention did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneReport>,
}

/// Whose the repository is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ownership {
    /// What is known of it.
    pub state: OwnerState,
    /// The id of this instance's data; who wants to adopt its repository names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// Why nothing is written, in a sentence, unless it is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the store does not guard what is written once; none where it does, or that is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unguarded: Option<String>,
}

/// Whether this instance may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerState {
    /// Not asked yet, or the store does not answer.
    #[default]
    Unknown,
    /// The repository is its own.
    Ours,
    /// It is another's, or cannot be told whose: nothing is written until a person has done something.
    Refused,
}

/// How far the log is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Archive {
    /// In a word.
    pub state: ArchiveState,
    /// Why it is not `Ok`, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The newest piece that was stored, or was found stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_piece: Option<String>,
    /// When a piece was, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// Pieces that the engine keeps for us now.
    pub waiting_pieces: u32,
    /// Their size in bytes.
    pub waiting_bytes: u64,
    /// Pieces that were let go without being stored, since the store last took what there was: its volume was
    /// nearly full of them.
    #[serde(skip_serializing_if = "is_none")]
    pub let_go: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

/// State of the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveState {
    /// Not known yet.
    #[default]
    Unknown,
    /// What is finished is stored.
    Ok,
    /// More than a few pieces wait, and they become fewer or are being stored.
    Behind,
    /// The store does not take anything now; the engine keeps its log.
    Unreachable,
    /// Nothing is stored until a person has looked: two contents of one piece, or another's repository.
    Broken,
}

/// Pieces of the log that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// In which history.
    pub history: Label,
    /// The last piece that is there before it.
    pub after: Label,
    /// The next one that is there.
    pub before: Label,
}

/// A backup that can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupEntry {
    /// Which one.
    pub id: BackupId,
    /// What it holds only the changes since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<BackupId>,
    /// The order that it was made for, if it was made for one: the uid of its resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// When it was begun.
    pub begun: Timestamp,
    /// When it was complete.
    pub ended: Timestamp,
    /// The moment that it restores to without any further log.
    pub consistent_at: Timestamp,
    /// Plain bytes of its files.
    pub plain_bytes: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// The first piece of the log that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_from: Option<Label>,
    /// The history in which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Label>,
    /// Why it cannot be restored; none where it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// A folder of a backup that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unread {
    /// Which one.
    pub id: BackupId,
    /// Why, in a sentence.
    pub why: String,
}

/// A backup that is being made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// The order.
    pub order: String,
    /// The backup's id.
    pub id: BackupId,
    /// Since when.
    pub begun: Timestamp,
    /// What is being done, in a few words.
    pub step: String,
    /// Whether it holds only the changes since another.
    pub incremental: bool,
    /// Plain bytes that were read.
    pub plain_bytes: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
    /// Plain bytes that there are, about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Plain bytes in a second, since it was begun.
    pub rate: u64,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderResult {
    /// Which one: the text of the order.
    pub order: String,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The backup is there.
    Done {
        /// Its id.
        id: BackupId,
    },
    /// There is none.
    Failed {
        /// Why, in a sentence.
        why: String,
        /// Whether the same order may succeed later by itself.
        retryable: bool,
    },
    /// It was cancelled.
    Cancelled,
}

/// What retention did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneReport {
    /// When.
    pub at: Timestamp,
    /// Backups that went.
    pub backups: Vec<BackupId>,
    /// How many pieces of the log went.
    pub pieces: u64,
    /// What a lock keeps: `<key> until <time>`, the first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Why it ended early, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the plan was, for people: what stays and why, and what goes.
    pub plan: String,
}

/// What may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// Make a backup. One at a time: while another is being made it is refused (409). An order that runs,
    /// or whose backup is in the catalogue, is not made twice.
    Take {
        /// Text of the order, for example the uid of its resource; unique.
        order: String,
        /// Whether the changes since the newest backup would do. The engine may give everything all the same.
        incremental: bool,
        /// A chain is not longer than so many increments: then everything is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chain: Option<u32>,
    },
    /// Give up the backup that is being made for an order. One that is not being made is a success.
    Cancel {
        /// Text of the order.
        order: String,
    },
    /// Let go what no promise needs.
    Prune {
        /// The promises.
        policy: Policy,
    },
    /// Read the catalogue again, and claim the repository again where it was refused.
    Refresh,
}
