//! Containers around a repository, as every engine has them: what makes backups, what restores, and what both need.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, KeyToPath, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use serde::Serialize;

use super::parts::{container_security, environment, port, resources};
use super::store::{Access, AuthorityRef};
use super::volumes::{SECRET_MODE, bin, mount, named, scratch};
use crate::agent::paths;
use crate::backups::container::settings::{
    AUTHORITY, BACKUP_FILE, ESCROW_KEYS, INSTANCE_KEYS, MEMORY_MIB, REPOSITORY, RESTORE_FILE,
    RESTORE_REPOSITORY, RESTORE_SECRETS, RUN, SECRETS,
};
use crate::names;
use crate::operator::validated::Common;

/// Name of the folder that the engine's container may share with who makes backups.
pub const RUN_VOLUME: &str = "backup-run";
/// Processor time of the container that makes backups, in thousandths of a processor.
const CPU_MILLIS: i64 = 50;
/// Most that the shared folder holds: a socket, and the list of files of the backup that an increment is made
/// on, about 200 bytes for each file. It counts as memory of who writes it.
const RUN_BYTES: i64 = 64 << 20;
/// The volume that a repository is on, with the set's own.
pub const OWN_REPOSITORY: &str = "repository";
/// The volume that a repository is on from which a set is made.
pub const OTHER_REPOSITORY: &str = "restore-repository";
/// The volume with what opens the set's own repository.
const OWN_SECRETS: &str = "backup-secrets";
/// The volume with what opens a repository that is restored from.
pub const RESTORE_SECRETS_VOLUME: &str = "restore-secrets";

/// Files of the ConfigMap of a set: what the containers of backups, and of a beginning from a repository, are told.
///
/// # Errors
/// When one cannot be written as JSON, which it always can.
pub fn files(
    backup: Option<&impl Serialize>,
    restore: Option<&impl Serialize>,
) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let backup = backup.map(serde_json::to_string_pretty).transpose()?;
    let restore = restore.map(serde_json::to_string_pretty).transpose()?;
    let backup = backup.map(|text| (BACKUP_FILE.to_owned(), text));
    let restore = restore.map(|text| (RESTORE_FILE.to_owned(), text));
    Ok(backup.into_iter().chain(restore).collect())
}

/// The volume that a repository is on, if it is on one.
pub fn repository(name: &str, access: &Access) -> Option<Volume> {
    Some(Volume {
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: access.claim.clone()?,
            read_only: None,
        }),
        ..named(name)
    })
}

/// The set's own repository, where it is on a volume.
pub fn own_repository(own: &Access) -> Option<Volume> {
    repository(OWN_REPOSITORY, own)
}

/// Where the set's own repository is read, where it is on a volume.
pub fn own_repository_is_read(own: &Access) -> Option<VolumeMount> {
    let claim = own.claim.as_ref()?;
    Some(repository_mount(
        OWN_REPOSITORY,
        RESTORE_REPOSITORY,
        claim,
        true,
    ))
}

/// A claim's name is a part of where it is: a container that has one claim and is told of another by its files finds
/// no folder.
pub fn repository_mount(volume: &str, folder: &str, claim: &str, read_only: bool) -> VolumeMount {
    mount(volume, &format!("{folder}/{claim}"), read_only)
}

/// The volume on which the repository is that a set is made from. A pod has a claim once: where it is that of the
/// set's own, that one.
fn other_repository<'a>(
    own: Option<&Access>,
    other: &'a Access,
) -> Option<(&'static str, &'a str)> {
    let other = other.claim.as_ref()?;
    let own = own.and_then(|own| own.claim.as_ref());
    let volume = if own == Some(other) {
        OWN_REPOSITORY
    } else {
        OTHER_REPOSITORY
    };
    Some((volume, other))
}

/// Makes backups beside the engine, in its image, with the engine's own mounts.
///
/// No probe: the pod must not be unready, nor start late, for it. What it waits for it says in its report.
pub fn sidecar(common: &Common, own: &Access, mounts: Vec<VolumeMount>) -> Container {
    let (request, limit) = MEMORY_MIB;
    let mib = |n: u32| i64::from(n) << 20;
    let claim = own.claim.as_ref();
    let repository = claim.map(|c| repository_mount(OWN_REPOSITORY, REPOSITORY, c, false));
    let mut all = mounts;
    all.push(run());
    all.push(mount(OWN_SECRETS, SECRETS, true));
    all.extend(repository);
    Container {
        name: names::BACKUP.into(),
        args: Some(vec![names::BACKUP.into()]),
        restart_policy: Some("Always".into()),
        ports: Some(vec![port("backup", names::BACKUP_PORT)]),
        resources: Some(resources(CPU_MILLIS, mib(request), mib(limit))),
        volume_mounts: Some(all),
        ..container(common)
    }
}

/// Brings the data of the first instance back, with the engine's own mounts and what the engine may use, since it runs
/// one. `other`: the repository, beside the set's own.
pub fn restore(
    common: &Common,
    own: Option<&Access>,
    other: Option<&Access>,
    mounts: Vec<VolumeMount>,
) -> Container {
    let mut all = mounts;
    all.push(run());
    all.push(mount(RESTORE_SECRETS_VOLUME, RESTORE_SECRETS, true));
    let other = other.and_then(|other| other_repository(own, other));
    all.extend(other.map(|(name, c)| repository_mount(name, RESTORE_REPOSITORY, c, true)));
    Container {
        name: names::RESTORE.into(),
        args: Some(vec![names::RESTORE.into()]),
        resources: Some(resources(common.cpu_milli, common.memory, common.memory)),
        volume_mounts: Some(all),
        ..container(common)
    }
}

/// A container with the engine's image and this program.
pub fn container(common: &Common) -> Container {
    Container {
        image: Some(common.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![format!("{}/{}", paths::BIN, paths::BINARY)]),
        env: Some(environment()),
        security_context: Some(container_security()),
        ..Container::default()
    }
}

/// What both containers have of every engine's: configuration, certificate, program.
pub fn common_mounts() -> Vec<VolumeMount> {
    vec![
        mount("config", paths::CONFIG, true),
        mount("tls", paths::TLS, true),
        bin(true),
    ]
}

/// The mount of the shared folder.
pub fn run() -> VolumeMount {
    mount(RUN_VOLUME, RUN, false)
}

/// What an instance has besides its engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// Backups are made: how their repository is reached.
    pub own: Option<&'a Access>,
    /// Its data is brought back from there.
    pub seeded: bool,
    /// Its data is made from this repository, with the keys in the Secret of that name.
    pub restored: Option<(&'a Access, &'a str)>,
}

/// Volumes of these containers, of the set of that name.
pub fn volumes(set: &str, around: Around<'_>) -> Vec<Volume> {
    let mut all = Vec::new();
    if around.own.is_some() || around.restored.is_some() {
        all.push(run_volume());
    }
    if let Some(own) = around.own {
        all.push(own_secrets(OWN_SECRETS, set, own));
        if around.seeded {
            all.push(own_secrets(RESTORE_SECRETS_VOLUME, set, own));
        }
        all.extend(own_repository(own));
    }
    if let Some((other, keys)) = around.restored {
        let keys = (keys, &[INSTANCE_KEYS, ESCROW_KEYS][..]);
        all.push(secrets(RESTORE_SECRETS_VOLUME, other, Some(keys)));
        if other_repository(around.own, other).is_some_and(|(name, _)| name == OTHER_REPOSITORY) {
            all.extend(repository(OTHER_REPOSITORY, other));
        }
    }
    all
}

/// The shared folder.
pub fn run_volume() -> Volume {
    scratch(RUN_VOLUME, Some("Memory"), Some(RUN_BYTES))
}

/// What opens the set's own repository.
pub fn own_secrets(name: &str, set: &str, access: &Access) -> Volume {
    let own = names::backup_keys(set);
    secrets(name, access, Some((own.as_str(), &[INSTANCE_KEYS][..])))
}

/// What opens a store, and nothing that opens what is in it.
pub fn store_secrets(name: &str, access: &Access) -> Volume {
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
