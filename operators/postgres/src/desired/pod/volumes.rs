//! The volumes of a pod, and where they are mounted.

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use mainstay_shared::operator::desired::pod;
use mainstay_shared::operator::desired::volumes::{mount, scratch};

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
    let own = vec![
        scratch("sockets", Some("Memory"), Some(1 << 20)),
        shm(v.common.memory),
    ];
    let mut all = pod::volumes(&v.common.set.name, instance, own);
    all.extend(backup::volumes(v, beside));
    all
}

/// The mounts of the engine's container; with backups it shares a folder with who makes them.
pub fn mounts(backups: bool) -> Vec<VolumeMount> {
    let own = vec![
        mount("sockets", SOCKETS, false),
        mount("shm", "/dev/shm", false),
    ];
    let mut all = pod::mounts(DATA, own);
    if backups {
        all.push(backup::run());
    }
    all
}

/// Parallel queries exchange rows through it; it counts as memory of the container.
pub(in crate::desired) fn shm(memory: i64) -> Volume {
    scratch("shm", Some("Memory"), Some((memory / 4).max(64 << 20)))
}
