//! What backups, and a beginning from one, add to a set: containers, their volumes and files, and the keys.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, KeyToPath, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use mainstay_crds::common::backup::OnFull;
use mainstay_shared::agent::paths;
use mainstay_shared::names;
use mainstay_shared::operator::desired::parts::{container_security, environment, port, resources};
use mainstay_shared::operator::desired::volumes::{SECRET_MODE, bin, mount, named, scratch};

use crate::agent::place::{DATA, SOCKETS};
use crate::backup::settings::{
    AUTHORITY, BACKUP_FILE, ESCROW_KEYS, INSTANCE_KEYS, MEMORY_MIB, REPOSITORY, RESTORE_FILE,
    RESTORE_REPOSITORY, RESTORE_SECRETS, RUN, SECRETS,
};
use crate::settings::ArchiveSettings;
use crate::validate::backup::{Access, AuthorityRef};
use crate::validate::{Backup, Recovery, Validated};

/// Name of the folder that PostgreSQL's container shares with who makes backups.
pub const RUN_VOLUME: &str = "backup-run";
/// Processor time of the container that makes backups, in thousandths of a processor.
const CPU_MILLIS: i64 = 50;
/// Most that the shared folder holds: a socket, and the list of files of the backup that an increment is made
/// on, about 200 bytes for each file. It counts as memory of who writes it.
const RUN_BYTES: i64 = 64 << 20;
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
    let mut all = BTreeMap::new();
    if let Some(backup) = &v.backup {
        let text = serde_json::to_string_pretty(&backup.settings)?;
        all.insert(BACKUP_FILE.to_owned(), text);
    }
    if let Some(recovery) = &v.recovery {
        let text = serde_json::to_string_pretty(&recovery.settings)?;
        all.insert(RESTORE_FILE.to_owned(), text);
    }
    Ok(all)
}

/// What agents must know of the archive.
pub fn archive(backup: &Backup) -> ArchiveSettings {
    ArchiveSettings {
        timeout_seconds: ARCHIVE_TIMEOUT,
        summary_days: backup.summary_days,
        stop_writes: backup.on_full == OnFull::StopWrites,
    }
}

/// The volume that a repository is on, with the set's own.
const OWN_REPOSITORY: &str = "repository";
/// The volume that a repository is on from which a set is made.
const OTHER_REPOSITORY: &str = "restore-repository";

/// The volume that a repository is on, if it is on one.
pub(super) fn repository(name: &str, access: &Access) -> Option<Volume> {
    Some(Volume {
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: access.claim.clone()?,
            read_only: None,
        }),
        ..named(name)
    })
}

/// The set's own repository, where it is on a volume.
pub(super) fn own_repository(backup: &Backup) -> Option<Volume> {
    repository(OWN_REPOSITORY, &backup.access)
}

/// Where the set's own repository is read, where it is on a volume.
pub(super) fn own_repository_is_read(backup: &Backup) -> Option<VolumeMount> {
    let claim = backup.access.claim.as_ref()?;
    Some(repository_mount(
        OWN_REPOSITORY,
        RESTORE_REPOSITORY,
        claim,
        true,
    ))
}

/// A claim's name is a part of where it is: a container that has one claim and is told of another by its files finds
/// no folder.
pub(super) fn repository_mount(
    volume: &str,
    folder: &str,
    claim: &str,
    read_only: bool,
) -> VolumeMount {
    mount(volume, &format!("{folder}/{claim}"), read_only)
}

/// The volume on which the repository is that a set is made from. A pod has a claim once: where it is that of the
/// set's own, that one.
fn other_repository(v: &Validated) -> Option<(&'static str, &str)> {
    let other = v.recovery.as_ref()?.access.claim.as_ref()?;
    let own = v.backup.as_ref().and_then(|b| b.access.claim.as_ref());
    let volume = if own == Some(other) {
        OWN_REPOSITORY
    } else {
        OTHER_REPOSITORY
    };
    Some((volume, other))
}

/// Makes backups and stores the log, beside the engine, in its image since it runs the engine's own tools.
///
/// No probe: the pod must not be unready, nor start late, for it. What it waits for it says in its report.
pub fn sidecar(v: &Validated) -> Container {
    let (request, limit) = MEMORY_MIB;
    let mib = |n: u32| i64::from(n) << 20;
    let claim = v.backup.as_ref().and_then(|b| b.access.claim.as_ref());
    let repository = claim.map(|c| repository_mount(OWN_REPOSITORY, REPOSITORY, c, false));
    let mut mounts = vec![
        mount("data", DATA, true),
        mount("config", paths::CONFIG, true),
        mount("tls", paths::TLS, true),
        bin(true),
        mount("sockets", SOCKETS, true),
        mount("tmp", "/tmp", false),
        run(),
        mount("backup-secrets", SECRETS, true),
    ];
    mounts.extend(repository);
    Container {
        name: names::BACKUP.into(),
        args: Some(vec![names::BACKUP.into()]),
        restart_policy: Some("Always".into()),
        ports: Some(vec![port("backup", names::BACKUP_PORT)]),
        resources: Some(resources(CPU_MILLIS, mib(request), mib(limit))),
        volume_mounts: Some(mounts),
        ..container(v)
    }
}

/// Brings the data of the first instance back. It has what the engine has, since it runs one.
pub fn restore(v: &Validated) -> Container {
    let mut mounts = vec![
        mount("data", DATA, false),
        mount("config", paths::CONFIG, true),
        mount("tls", paths::TLS, true),
        bin(true),
        mount("shm", "/dev/shm", false),
        mount("tmp", "/tmp", false),
        run(),
        mount("restore-secrets", RESTORE_SECRETS, true),
    ];
    let other = other_repository(v);
    mounts.extend(other.map(|(name, c)| repository_mount(name, RESTORE_REPOSITORY, c, true)));
    Container {
        name: names::RESTORE.into(),
        args: Some(vec![names::RESTORE.into()]),
        resources: Some(resources(
            v.common.cpu_milli,
            v.common.memory,
            v.common.memory,
        )),
        volume_mounts: Some(mounts),
        ..container(v)
    }
}

/// Brings a replica's data back from the set's own repository, where it has none.
pub fn seed(v: &Validated, identifier: &str) -> Container {
    let mut container = restore(v);
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.retain(|m| m.name != OTHER_REPOSITORY && m.name != OWN_REPOSITORY);
    mounts.extend(v.backup.as_ref().and_then(own_repository_is_read));
    let major = v.major.to_string();
    let args = ["seed", "--identifier", identifier, "--major", &major];
    container.args = Some(args.map(str::to_owned).to_vec());
    container
}

/// A container with the engine's image and this program.
pub(super) fn container(v: &Validated) -> Container {
    Container {
        image: Some(v.common.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![format!("{}/{}", paths::BIN, paths::BINARY)]),
        env: Some(environment()),
        security_context: Some(container_security()),
        ..Container::default()
    }
}

/// The mount of the shared folder.
pub fn run() -> VolumeMount {
    mount(RUN_VOLUME, RUN, false)
}

/// Volumes of these containers.
pub fn volumes(v: &Validated, beside: &Beside<'_>) -> Vec<Volume> {
    let set = v.common.set.name.as_str();
    let mut all = Vec::new();
    if beside.any() {
        all.push(run_volume());
    }
    if let Some(backup) = beside.backup {
        all.push(own_secrets("backup-secrets", set, backup));
        if beside.seeded.is_some() {
            all.push(own_secrets("restore-secrets", set, backup));
        }
        all.extend(own_repository(backup));
    }
    if let Some(recovery) = beside.restored {
        let keys = (recovery.keys.as_str(), &[INSTANCE_KEYS, ESCROW_KEYS][..]);
        all.push(secrets("restore-secrets", &recovery.access, Some(keys)));
        if other_repository(v).is_some_and(|(name, _)| name == OTHER_REPOSITORY) {
            all.extend(repository(OTHER_REPOSITORY, &recovery.access));
        }
    }
    all
}

/// The shared folder.
pub(super) fn run_volume() -> Volume {
    scratch(RUN_VOLUME, Some("Memory"), Some(RUN_BYTES))
}

/// What opens the set's own repository.
pub(super) fn own_secrets(name: &str, set: &str, backup: &Backup) -> Volume {
    let own = names::backup_keys(set);
    secrets(
        name,
        &backup.access,
        Some((own.as_str(), &[INSTANCE_KEYS][..])),
    )
}

/// What opens a store, and nothing that opens what is in it.
pub(super) fn store_secrets(name: &str, access: &Access) -> Volume {
    secrets(name, access, None)
}

/// Credentials, keys and certificates in one folder. None has to be there for the pod to start: a database
/// must come up whatever is wrong with its backups, and who lacks something says so.
fn secrets(name: &str, access: &Access, keys: Option<(&str, &[&str])>) -> Volume {
    let same = |key: &&str| item(key, key);
    let credentials = access.credentials.as_ref();
    let credentials =
        credentials.map(|name| of_secret(name, access.keys.iter().map(same).collect()));
    let mut sources: Vec<VolumeProjection> = credentials.into_iter().collect();
    sources.extend(keys.map(|(name, keys)| of_secret(name, keys.iter().map(same).collect())));
    match &access.authority {
        Some(AuthorityRef::Secret(name, key)) => {
            sources.push(of_secret(name, vec![item(key, AUTHORITY)]));
        }
        Some(AuthorityRef::ConfigMap(name, key)) => sources.push(VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: name.clone(),
                items: Some(vec![item(key, AUTHORITY)]),
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        }),
        None => {}
    }
    Volume {
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(SECRET_MODE),
            sources: Some(sources),
        }),
        ..named(name)
    }
}

fn of_secret(name: &str, items: Vec<KeyToPath>) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: name.to_owned(),
            items: Some(items),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    }
}
