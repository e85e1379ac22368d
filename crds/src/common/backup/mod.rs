//! Backups, and beginning from one: the blocks that every add-on has in the same form.

pub mod checks;
pub mod drill;
pub mod repository;
pub mod rules;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use drill::{Check, Drill, DrillRecord, DrillResult, DrillTarget, KeyCount};
pub use repository::{Authority, Azure, Gcs, KeyRef, Repository, S3, Volume};

use super::{Durability, quantity};

/// Backups in a repository of the set's own, and the archive of its log.
///
/// Everything is encrypted in the `age` format, to the set's own keys (the Secret
/// `<name>-backup-keys`, which stays when the resource is deleted) and to the escrow recipients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backups {
    /// Where backups and the log are kept.
    pub repository: Repository,
    /// Who can open them besides the set itself.
    pub encryption: Encryption,
    /// When backups are made. Default: every day, at a time that differs from set to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How long backups are kept. Default: every moment of the last 14 days can be recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What gives way while the store takes nothing and the log that waits for it has nearly filled an instance's
    /// volume. Default: `StopWrites` with durability `quorum`, else `BreakArchive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_full: Option<OnFull>,
    /// Whether an instance that has no data is first given the newest backup and the log that is stored, and takes
    /// only what follows from the primary. Default: false, and it is copied from the primary. It spares the primary the
    /// reading; it takes longer where much log has to be replayed, and what a store asks for reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_replicas: Option<bool>,
    /// How much of the network may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Restores into an instance that nobody uses, which prove that backups can be restored. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
    /// The owner (`status.recovery.owner`) of a repository that another set has left behind under this
    /// prefix: it is taken over, and the former owner writes nothing there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::owner())]
    pub adopt: Option<String>,
}

/// Who can open backups besides the set itself. It needs at least one recipient, unless
/// `iAcceptKeyLoss` is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::escrow())]
pub struct Encryption {
    /// Escrow recipients of age, as `age-keygen -y` prints them (`age1…`). Keep their identities away
    /// from the cluster: they open every backup when everything else is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 128)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = rules::recipients())]
    pub recipients: Vec<String>,
    /// Without any recipient backups can be opened with the Secret `<name>-backup-keys` alone: whoever
    /// loses it has lost all of them. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i_accept_key_loss: Option<bool>,
}

/// When backups are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Five fields as cron has them, in UTC: minute, hour, day of the month, month, day of the week
    /// (0 and 7 are Sunday). For example `"30 2 * * *"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::cron())]
    pub cron: Option<String>,
    /// So many incremental backups, which hold only changes, after each full one. Default: 0, every
    /// backup is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::incrementals())]
    pub incrementals: Option<i32>,
}

/// How long backups are kept. Each promise holds by itself: what any of them needs stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Every moment of so many days can be recovered. Default: 14, unless `count` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::days())]
    pub days: Option<i32>,
    /// So many of the newest backups are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::count())]
    pub count: Option<i32>,
}

/// How much of the network backups, archive and recovery of one instance may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes in a second, for example `50Mi`. Default: as fast as it goes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "quantity::read_option"
    )]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = rules::bandwidth())]
    pub bandwidth: Option<Quantity>,
    /// Requests with contents at a time. Default: 3. Each takes 8 MiB of the backup container's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::concurrency())]
    pub concurrency: Option<i32>,
}

/// What gives way where both cannot be had: writes, or an archive without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFull {
    /// Writes are refused until the store takes the log again or the volume has grown: nothing that was written
    /// is missing in the repository afterwards.
    StopWrites,
    /// The oldest log that waits is let go. The moments of it cannot be recovered, and a full backup is made as
    /// soon as the store is back.
    BreakArchive,
}

impl OnFull {
    /// What holds where the user asked for `asked`.
    pub fn effective(asked: Option<Self>, durability: Durability) -> Self {
        asked.unwrap_or(match durability {
            Durability::Quorum => Self::StopWrites,
            Durability::Async => Self::BreakArchive,
        })
    }
}

/// What the first data of a set is made from. Default: it is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// A repository of backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

/// Data as it was at some moment, from a repository of backups, of this or of another set that may be
/// gone. The repository is only read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::prefix_is_named())]
pub struct Recovery {
    /// Where the backups are. `prefix` has to be written.
    pub repository: Repository,
    /// Name of the Secret, in the same namespace, with what opens them: the key `instance.key`, as the
    /// Secret `<name>-backup-keys` of the set that made them has it, or the key `escrow.key` with the
    /// identity of an escrow recipient.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::secret())]
    pub keys: String,
    /// Id of the backup to begin with. Default: the newest from before the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::backup_id())]
    pub backup: Option<String>,
    /// To which moment. Default: the latest that the repository has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RecoveryTarget>,
}

/// A moment. At most one of the fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_target())]
pub struct RecoveryTarget {
    /// A time with its offset, for example `"2026-01-02T03:04:05Z"`: the last commit before it is the
    /// last one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = rules::time())]
    pub time: Option<String>,
    /// A position in the log, for example `"1/A0000028"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17))]
    #[x_kube(validation = rules::lsn())]
    pub lsn: Option<String>,
    /// A transaction by its number, which is the last one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rules::xid())]
    pub xid: Option<String>,
    /// A point that was named before, for PostgreSQL by `pg_create_restore_point`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::point())]
    pub name: Option<String>,
}

/// What can be recovered, and how the archive of the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// Where the repository is, for example `s3://bucket/shop/db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The id by which this set owns the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The earliest moment that can be recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Time>,
    /// The latest moment that can be recovered, as it was when last written here: while the archive goes
    /// on it is written anew every few minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Time>,
    /// The newest backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// Backups that the repository holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<i32>,
    /// Bytes of these backups as stored, without the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
    /// When the next scheduled backup is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_backup: Option<Time>,
    /// What gives way while the store takes nothing and its log has nearly filled a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_full: Option<OnFull>,
    /// In a sentence what is kept of a resource that is being deleted, once that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Name of the last `Backup` of a resource that is being deleted, once it is complete: only then, or where none
    /// is asked for, do its volumes go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_backup: Option<String>,
    /// Whether the store keeps to it that nothing is written twice; `false`: two writers would not be kept
    /// apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarded: Option<bool>,
    /// What retention could not delete, and until when, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub kept_by_locks: Vec<String>,
    /// The last drills, the newest first, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub drills: Vec<DrillRecord>,
    /// How far the drill is that goes on, or what the next one waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<String>,
    /// When the next drill is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_drill: Option<Time>,
}

/// The newest backup of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Its id in the repository.
    pub id: String,
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Whether it holds only the changes since another one.
    #[serde(default)]
    pub incremental: bool,
    /// Bytes of what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Bytes as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
}
