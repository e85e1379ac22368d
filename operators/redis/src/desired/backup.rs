//! What backups, and a beginning from one, add to a set: containers, their volumes and files.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, KeyToPath, SecretVolumeSource, Volume};
use mainstay_shared::names;
use mainstay_shared::operator::desired::backup::{self, Around, common_mounts};
use mainstay_shared::operator::desired::volumes::{SECRET_MODE, mount, named};

use crate::backup::settings::{FoundedCluster, RestoreSettings};
use crate::settings::{BACKUP_PASSWORD, DATA, INTERNAL};
use crate::validate::Validated;
use crate::validate::backup::{Backup, Recovery};

pub use backup::RUN_VOLUME;

/// The volume with the password of who makes backups.
const PASSWORD: &str = "backup-password";

/// What is beside the engine of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// Backups.
    pub backup: Option<&'a Backup>,
    /// What its data is made from.
    pub restored: Option<&'a Recovery>,
}

/// Ports of the stores that pods reach. A beginning is over one day, and the port is open for as long as the
/// resource names it.
pub fn stores(v: &Validated) -> BTreeSet<u16> {
    let backup = v.backup.as_ref().and_then(|b| b.access.port);
    let recovery = v.recovery.as_ref().and_then(|r| r.source.access.port);
    backup.into_iter().chain(recovery).collect()
}

/// Files of the ConfigMap.
///
/// # Errors
/// When one cannot be written as JSON, which it always can.
pub fn files(v: &Validated) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let restore = v.recovery.as_ref().map(|r| restore_settings(v, r));
    backup::files(v.backup.as_ref().map(|b| &b.settings), restore.as_ref())
}

/// What the container that restores is told.
fn restore_settings(v: &Validated, recovery: &Recovery) -> RestoreSettings {
    RestoreSettings {
        resource: recovery.source.resource.clone(),
        repository: recovery.source.repository.clone(),
        flavour: v.flavour,
        version: v.version.clone(),
        persistence: v.persistence,
        databases: v.databases(),
        backup: recovery.source.backup.clone(),
        moment: recovery.moment,
        owner: recovery.owner.clone(),
        epoch: recovery.epoch,
        cluster: v.shards.map(|shards| FoundedCluster {
            set: v.common.set.name.clone(),
            uid: v.common.set.uid.clone(),
            shards: shards.count,
            made: recovery.made,
        }),
        every_shard: false,
    }
}

/// Makes backups, beside the engine. It has neither the data nor the engine's socket: it comes in as a user that may
/// receive the dataset.
pub fn sidecar(v: &Validated, own: &Backup) -> Container {
    let mut mounts = common_mounts();
    mounts.push(mount("tmp", "/tmp", false));
    mounts.push(mount(PASSWORD, INTERNAL, true));
    backup::sidecar(&v.common, &own.access, mounts)
}

/// Brings the data of the first instance back. It has what the engine has, since it runs one.
pub fn restore(v: &Validated) -> Container {
    let mut mounts = vec![mount("data", DATA, false)];
    mounts.extend(common_mounts());
    mounts.push(mount("tmp", "/tmp", false));
    let own = v.backup.as_ref().map(|b| &b.access);
    let other = v.recovery.as_ref().map(|r| &r.source.access);
    backup::restore(&v.common, own, other, mounts)
}

/// Volumes of these containers.
pub fn volumes(v: &Validated, beside: &Beside<'_>) -> Vec<Volume> {
    let set = v.common.set.name.as_str();
    let around = Around {
        own: beside.backup.map(|b| &b.access),
        seeded: false,
        restored: beside.restored.map(|r| (&r.source.access, r.keys.as_str())),
    };
    let mut all = backup::volumes(set, around);
    if beside.backup.is_some() {
        all.push(password(set));
    }
    all
}

/// The password with which backups are made, and no other. It need not be there for the pod to start.
fn password(set: &str) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::internal_secret(set)),
            default_mode: Some(SECRET_MODE),
            items: Some(vec![KeyToPath {
                key: BACKUP_PASSWORD.into(),
                path: BACKUP_PASSWORD.into(),
                mode: None,
            }]),
            optional: Some(true),
        }),
        ..named(PASSWORD)
    }
}
