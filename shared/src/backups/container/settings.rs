//! What the operator tells the containers that make backups, restore and look: files, folders and the backup
//! container's settings, as far as every engine has them alike. No secret is in them.

use mainstay_backup::ids::OwnerId;
use serde::{Deserialize, Serialize};

pub use mainstay_backup::spec::{
    ACCESS_KEY, ACCESS_KEY_ID, AUTHORITY, ESCROW_KEYS, INSTANCE_KEYS, PlaceSpec, RepositorySpec,
    SECRET_ACCESS_KEY, SERVICE_ACCOUNT, SESSION_TOKEN, SpecError,
};

/// Key in the set's ConfigMap, hence file in [`crate::agent::paths::CONFIG`], with [`Settings`].
pub const BACKUP_FILE: &str = "backup.json";
/// Key in the set's ConfigMap, hence file in the same folder, with the engine's settings of a restore.
pub const RESTORE_FILE: &str = "restore.json";
/// File in the same folder, of a drill's own ConfigMap, with the engine's settings of one; beside it a
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
/// Folder (an `emptyDir` in memory) that the engine's container and the backup container may share; the
/// restoring container has it too.
pub const RUN: &str = "/mainstay/backup-run";
/// File, in [`RUN`], with a [`super::restoring::RestoreReport`] as JSON, replaced as it changes.
pub const RESTORE_STATUS: &str = "/mainstay/backup-run/restore.json";
/// Where Kubernetes takes a container's last words from.
pub const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// Environment variable with a [`mainstay_backup::shred::ShredSettings`] as JSON, of the pod that removes copies of
/// keys. Its secrets are in [`SECRETS`], its volume in [`REPOSITORY`].
pub const SHRED: &str = "MAINSTAY_DESTROY_KEYS";
/// Memory of the backup container that it needs, and is held to, where the resource says nothing: MiB.
pub const MEMORY_MIB: (u32, u32) = (64, 256);
/// Key in a backup's details: text of the order that it was made for.
pub const ORDER: &str = "order";

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
    /// Whether log that waits for the store is let go before it fills the volume, which leaves a gap: then a full
    /// backup is needed. Of no meaning where no log is kept.
    #[serde(default)]
    pub break_archive: bool,
}
