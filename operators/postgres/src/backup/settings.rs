//! What the operator tells the containers that make backups and restore, as far as it is PostgreSQL's own: the rest is
//! [`mainstay_shared::backups::container::settings`]. No secret is in them.

use jiff::Timestamp;
use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

pub use mainstay_shared::backups::container::settings::*;

/// Socket, in [`RUN`], on which the archiver is asked.
pub const SOCKET: &str = "/mainstay/backup-run/archive.sock";
/// File, in PostgreSQL's data directory, with a [`super::owner::Provenance`] as JSON. Replicas and backups
/// have it too, for it is copied with the data.
pub const OWNER_FILE: &str = "mainstay.owner.json";

/// A restore into a new set, or of a set in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSettings {
    /// For people: which resource is made, for example `shop/db2`.
    pub resource: String,
    /// Where from. Its recipients do not matter, but whether it is encrypted does.
    pub repository: RepositorySpec,
    /// Major version that the image holds; a backup of another one is refused.
    pub major: u32,
    /// The backup; none: the newest that leads to the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// How far.
    pub target: Target,
    /// Where a set goes back in its own repository: the id by which it owns that, which the data keeps. None: the data
    /// is a new set's, and gets an id of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
}

/// Where a recovery ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// As far as the log goes.
    #[default]
    Latest,
    /// Where the backup is consistent, without further log.
    Immediate,
    /// The last transaction that was committed at or before it.
    Time(Timestamp),
    /// A place in the log, for example `0/3000148`: everything up to and with it.
    Lsn(String),
    /// The transaction with this number: everything up to and with its commit.
    Xid(u64),
    /// A point that was named with `pg_create_restore_point`.
    Name(String),
}

/// What a drill checks once its data is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillSettings {
    /// For people: whose backups are tried, for example `shop/db`.
    pub resource: String,
    /// Database in which the statements are run.
    pub database: String,
    /// Role that runs them; it may only read.
    pub role: String,
    /// Longest time for one statement, in seconds.
    pub statement_seconds: u32,
    /// Statements, in this order.
    pub checks: Vec<DrillCheck>,
}

/// A statement that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// One statement that returns at least one row.
    pub sql: String,
    /// What the first value of the first row must be, as text; none: `t` or a number other than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}
