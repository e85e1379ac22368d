//! The volumes of a pod, and where they are mounted.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeFile,
    EmptyDirVolumeSource, KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection,
};
use mainstay_crds::common::quantity;
use mainstay_shared::agent::paths;
use mainstay_shared::names;

use crate::agent::place::{DATA, SOCKETS};
use crate::desired::backup::{self, Beside};
use crate::validate::Validated;

/// Volumes that live and die with the pod.
const SCRATCH: [&str; 5] = ["bin", "run", "shm", "sockets", "tmp"];

/// Volumes that live and die with the pod.
pub fn scratches(beside: &Beside<'_>) -> Vec<&'static str> {
    let mut all = SCRATCH.to_vec();
    if beside.any() {
        all.push(backup::RUN_VOLUME);
    }
    all
}

/// Readable by the group only: PostgreSQL refuses keys that others may read.
pub(in crate::desired) const SECRET_MODE: i32 = 0o440;
/// Seconds that a token is valid; the kubelet renews it well before.
const TOKEN_SECONDS: i64 = 3607;

/// The volumes of `instance`.
pub fn volumes(v: &Validated, instance: &str, beside: &Beside<'_>) -> Vec<Volume> {
    let set = &v.set.name;
    let mut all = vec![
        Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::data_claim(instance),
                read_only: None,
            }),
            ..named("data")
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(set),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("config")
        },
        secret("tls", names::certificate(instance)),
        secret("access", names::access_secret(set)),
        Volume {
            projected: Some(service_account()),
            ..named("service-account")
        },
        scratch("bin", None, None),
        // In memory: the agent's heart-beat must not wait for a disk.
        scratch("run", Some("Memory"), Some(16 << 20)),
        scratch("sockets", Some("Memory"), Some(1 << 20)),
        shm(v.memory),
        scratch("tmp", None, None),
    ];
    all.extend(backup::volumes(v, beside));
    all
}

/// The mounts of the engine's container; with backups it shares a folder with who makes them.
pub fn mounts(backups: bool) -> Vec<VolumeMount> {
    let mut all = vec![
        mount("data", DATA, false),
        mount("config", paths::CONFIG, true),
        mount("tls", paths::TLS, true),
        mount("access", paths::ACCESS, true),
        mount("service-account", paths::SERVICE_ACCOUNT, true),
        // Writable for the agent that is upgraded in place.
        bin(false),
        mount("run", paths::RUN, false),
        mount("sockets", SOCKETS, false),
        mount("shm", "/dev/shm", false),
        mount("tmp", "/tmp", false),
    ];
    if backups {
        all.push(backup::run());
    }
    all
}

/// The mount of the binary's folder.
pub fn bin(read_only: bool) -> VolumeMount {
    mount("bin", paths::BIN, read_only)
}

/// What the usual automatic mount would hold.
fn service_account() -> ProjectedVolumeSource {
    ProjectedVolumeSource {
        default_mode: Some(SECRET_MODE),
        sources: Some(vec![
            VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    expiration_seconds: Some(TOKEN_SECONDS),
                    path: "token".into(),
                    audience: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: "kube-root-ca.crt".into(),
                    items: Some(vec![KeyToPath {
                        key: "ca.crt".into(),
                        path: "ca.crt".into(),
                        mode: None,
                    }]),
                    optional: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                downward_api: Some(DownwardAPIProjection {
                    items: Some(vec![DownwardAPIVolumeFile {
                        path: "namespace".into(),
                        field_ref: Some(ObjectFieldSelector {
                            api_version: Some("v1".into()),
                            field_path: "metadata.namespace".into(),
                        }),
                        ..DownwardAPIVolumeFile::default()
                    }]),
                }),
                ..VolumeProjection::default()
            },
        ]),
    }
}

pub(in crate::desired) fn secret(name: &str, secret: String) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..named(name)
    }
}

pub(in crate::desired) fn scratch(name: &str, medium: Option<&str>, limit: Option<i64>) -> Volume {
    Volume {
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: limit.map(quantity::of_bytes),
        }),
        ..named(name)
    }
}

/// Parallel queries exchange rows through it; it counts as memory of the container.
pub(in crate::desired) fn shm(memory: i64) -> Volume {
    scratch("shm", Some("Memory"), Some((memory / 4).max(64 << 20)))
}

pub(in crate::desired) fn named(name: &str) -> Volume {
    Volume {
        name: name.into(),
        ..Volume::default()
    }
}

pub(in crate::desired) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
