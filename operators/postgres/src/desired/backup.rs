//! What backups, and a beginning from one, add to a set: containers, their volumes and files, and the keys.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};
use mainstay_crds::common::backup::OnFull;
use mainstay_shared::operator::desired::backup::{
    self, Around, OTHER_REPOSITORY, OWN_REPOSITORY, common_mounts, own_repository_is_read,
};
use mainstay_shared::operator::desired::volumes::mount;

use crate::agent::place::{DATA, SOCKETS};
use crate::settings::ArchiveSettings;
use crate::validate::{Backup, Recovery, Validated};

pub use backup::{RUN_VOLUME, run};

/// Seconds for which a piece of the log may stay unfinished: what can be lost with all volumes.
const ARCHIVE_TIMEOUT: u32 = 60;

/// What is beside the engine of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// Backups.
    pub backup: Option<&'a Backup>,
    /// What its data is made from.
    pub restored: Option<&'a Recovery>,
    /// Identifier of the set's data, where a replica's is brought back from the set's own repository. Not together with
    /// the one before.
    pub seeded: Option<&'a str>,
}

impl Beside<'_> {
    /// Whether there is anything.
    pub fn any(&self) -> bool {
        self.backup.is_some() || self.restored.is_some()
    }
}

/// Ports of the stores that pods reach. A beginning is over one day, and the port is open for as long as the
/// resource names it.
pub fn stores(v: &Validated) -> BTreeSet<u16> {
    let backup = v.backup.as_ref().and_then(|b| b.access.port);
    let recovery = v.recovery.as_ref().and_then(|r| r.access.port);
    backup.into_iter().chain(recovery).collect()
}

/// Files of the ConfigMap.
///
/// # Errors
/// When one cannot be written as JSON, which it always can.
pub fn files(v: &Validated) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let restore = v.recovery.as_ref().map(|r| &r.settings);
    backup::files(v.backup.as_ref().map(|b| &b.settings), restore)
}

/// What agents must know of the archive.
pub fn archive(backup: &Backup) -> ArchiveSettings {
    ArchiveSettings {
        timeout_seconds: ARCHIVE_TIMEOUT,
        summary_days: backup.summary_days,
        stop_writes: backup.on_full == OnFull::StopWrites,
    }
}

/// Makes backups and stores the log, beside the engine, in its image since it runs the engine's own tools.
pub fn sidecar(v: &Validated, own: &Backup) -> Container {
    let mut mounts = vec![mount("data", DATA, true)];
    mounts.extend(common_mounts());
    mounts.push(mount("sockets", SOCKETS, true));
    mounts.push(mount("tmp", "/tmp", false));
    backup::sidecar(&v.common, &own.access, mounts)
}

/// What a container has that runs an engine of its own.
fn of_an_engine() -> Vec<VolumeMount> {
    let mut mounts = vec![mount("data", DATA, false)];
    mounts.extend(common_mounts());
    mounts.push(mount("shm", "/dev/shm", false));
    mounts.push(mount("tmp", "/tmp", false));
    mounts
}

/// Brings the data of the first instance back. It has what the engine has, since it runs one.
pub fn restore(v: &Validated) -> Container {
    let own = v.backup.as_ref().map(|b| &b.access);
    let other = v.recovery.as_ref().map(|r| &r.access);
    backup::restore(&v.common, own, other, of_an_engine())
}

/// Brings a replica's data back from the set's own repository, where it has none.
pub fn seed(v: &Validated, identifier: &str) -> Container {
    let mut container = restore(v);
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.retain(|m| m.name != OTHER_REPOSITORY && m.name != OWN_REPOSITORY);
    let own = v.backup.as_ref().map(|b| &b.access);
    mounts.extend(own.and_then(own_repository_is_read));
    let major = v.major.to_string();
    let args = ["seed", "--identifier", identifier, "--major", &major];
    container.args = Some(args.map(str::to_owned).to_vec());
    container
}

/// Volumes of these containers.
pub fn volumes(v: &Validated, beside: &Beside<'_>) -> Vec<Volume> {
    let around = Around {
        own: beside.backup.map(|b| &b.access),
        seeded: beside.seeded.is_some(),
        restored: beside.restored.map(|r| (&r.access, r.keys.as_str())),
    };
    backup::volumes(&v.common.set.name, around)
}
