//! The volumes of a pod, and where they are mounted.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use mainstay_shared::agent::paths;
use mainstay_shared::names;
use mainstay_shared::operator::desired::volumes::{
    bin, mount, named, scratch, secret, service_account,
};

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

/// The volumes of `instance`.
pub fn volumes(v: &Validated, instance: &str, beside: &Beside<'_>) -> Vec<Volume> {
    let set = &v.common.set.name;
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
        shm(v.common.memory),
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

/// Parallel queries exchange rows through it; it counts as memory of the container.
pub(in crate::desired) fn shm(memory: i64) -> Volume {
    scratch("shm", Some("Memory"), Some((memory / 4).max(64 << 20)))
}
