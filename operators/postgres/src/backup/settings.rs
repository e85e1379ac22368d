//! What the operator tells the containers that make backups and restore: files of the set's ConfigMap. No
//! secret is in them.

use jiff::Timestamp;
use mainstay_backup::ids::{BackupId, OwnerId};
use serde::{Deserialize, Serialize};

pub use mainstay_backup::spec::{
    ACCESS_KEY, ACCESS_KEY_ID, AUTHORITY, ESCROW_KEYS, INSTANCE_KEYS, PlaceSpec, RepositorySpec,
    SECRET_ACCESS_KEY, SERVICE_ACCOUNT, SESSION_TOKEN, SpecError,
};

/// Key in the set's ConfigMap, hence file in [`mainstay_shared::agent::paths::CONFIG`], with [`Settings`].
pub const BACKUP_FILE: &str = "backup.json";
/// Key in the set's ConfigMap, hence file in the same folder, with [`RestoreSettings`].
pub const RESTORE_FILE: &str = "restore.json";
/// File in the same folder, of a drill's own ConfigMap, with [`DrillSettings`]; beside it a
/// [`RESTORE_FILE`].
pub const DRILL_FILE: &str = "drill.json";
/// Folder of the backup container's secrets (a projected volume): the store's credentials under the names
/// of [`PlaceSpec`], and [`INSTANCE_KEYS`] where it is encrypted. Mounted in that container only.
pub const SECRETS: &str = "/mainstay/backup-secrets";
/// Folder of the restoring container's secrets, for the repository that is restored from: as [`SECRETS`];
/// instead of [`INSTANCE_KEYS`] there may be [`ESCROW_KEYS`].
pub const RESTORE_SECRETS: &str = "/mainstay/restore-secrets";
/// In which folder a repository on a volume is mounted, under the name of its claim: in the backup container for
/// writing. So who has one claim and is told of another finds nothing, rather than the wrong one.
pub const REPOSITORY: &str = "/mainstay/repository";
/// The same of a repository that is restored from, for reading.
pub const RESTORE_REPOSITORY: &str = "/mainstay/restore-repository";
/// Folder (an `emptyDir` in memory) that the container of PostgreSQL and the backup container share; the
/// restoring container has it too.
pub const RUN: &str = "/mainstay/backup-run";
/// Socket, in [`RUN`], on which the archiver is asked.
pub const SOCKET: &str = "/mainstay/backup-run/archive.sock";
/// File, in [`RUN`], with a [`super::api::RestoreReport`] as JSON, replaced as it changes.
pub const RESTORE_STATUS: &str = "/mainstay/backup-run/restore.json";
/// Where Kubernetes takes a container's last words from.
pub const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// File, in PostgreSQL's data directory, with a [`super::owner::Provenance`] as JSON. Replicas and backups
/// have it too, for it is copied with the data.
pub const OWNER_FILE: &str = "mainstay.owner.json";
/// Environment variable with a [`mainstay_backup::shred::ShredSettings`] as JSON, of the pod that removes copies of
/// keys. Its secrets are in [`SECRETS`], its volume in [`REPOSITORY`].
pub const SHRED: &str = "MAINSTAY_DESTROY_KEYS";
/// Memory of the backup container that it needs, and is held to, where the resource says nothing: MiB.
pub const MEMORY_MIB: (u32, u32) = (64, 256);

/// Backups of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// For people: which resource, for example `shop/db`.
    pub resource: String,
    /// The repository.
    pub repository: RepositorySpec,
    /// Whether a store that does not guard what is written once is refused.
    #[serde(default)]
    pub immutable: bool,
    /// The owner whose repository it shall take over, where a person said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<OwnerId>,
    /// Whether log that waits for the store is let go before it fills the volume, which leaves a gap: then a new
    /// base backup is needed.
    #[serde(default)]
    pub break_archive: bool,
}

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
