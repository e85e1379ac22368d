//! The pod of an instance.

use k8s_openapi::api::core::v1::{KeyToPath, Pod, SecretVolumeSource, Volume};
use mainstay_shared::names;
use mainstay_shared::operator::desired::Template;
use mainstay_shared::operator::desired::parts::install;
use mainstay_shared::operator::desired::pod::{self, SCRATCH, Server, Shape};
use mainstay_shared::operator::desired::volumes::{SECRET_MODE, mount, named};

use super::backup::{self, Beside, RUN_VOLUME};
use crate::engine::CONTAINER;
use crate::settings::{DATA, INTERNAL, PORT, PORT_NAME, REPLICATION_PASSWORD};
use crate::validate::Validated;

/// User and group of the official images.
pub(crate) const USER: i64 = 999;
/// Seconds for an orderly stop: a primary waits for its replicas, and what is in memory may have to be written.
const STOP_SECONDS: i64 = 100;
/// The engine's container.
const SERVER: Server<'static> = Server {
    name: CONTAINER,
    port_name: PORT_NAME,
    port: PORT,
    stop_seconds: STOP_SECONDS,
    start_seconds: 120,
};

/// The pod of `instance`.
pub fn pod(v: &Validated, instance: &str, template: &Template<'_>) -> Pod {
    let mounts = pod::mounts(DATA, vec![mount("internal", INTERNAL, true)]);
    let restored = v.recovery.as_ref();
    let restored = restored.filter(|_| is_founder(v, instance, template));
    let beside = Beside {
        backup: v.backup.as_ref(),
        restored,
    };
    let mut first = vec![install(template.operator_image)];
    first.extend(restored.map(|_| backup::restore(v)));
    first.extend(beside.backup.map(|own| backup::sidecar(v, own)));
    let mut scratches = SCRATCH.to_vec();
    if beside.backup.is_some() || restored.is_some() {
        scratches.push(RUN_VOLUME);
    }
    let mut volumes = vec![internal(v)];
    volumes.extend(backup::volumes(v, &beside));
    let shape = Shape {
        user: USER,
        stop_seconds: STOP_SECONDS,
        scratches,
        first,
        engine: pod::server(&v.common, SERVER, mounts),
        volumes: pod::volumes(&v.common.set.name, instance, volumes),
    };
    pod::pod(&v.common, instance, template, shape)
}

/// Whether an instance is made from a backup: the first of a set that has no data yet; of a cluster that was not formed yet as many as
/// it has shards.
fn is_founder(v: &Validated, instance: &str, template: &Template<'_>) -> bool {
    let Some(shards) = v.shards else {
        return instance == template.seat && template.identifier.is_none();
    };
    let number = names::ordinal(&v.common.set.name, instance);
    let number = number.and_then(|n| usize::try_from(n).ok());
    !v.formed && number.is_some_and(|n| n <= shards.count)
}

/// Of the set's own passwords the one that a replica needs: the probe's is none of the pods' business.
fn internal(v: &Validated) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::internal_secret(&v.common.set.name)),
            default_mode: Some(SECRET_MODE),
            items: Some(vec![KeyToPath {
                key: REPLICATION_PASSWORD.into(),
                path: REPLICATION_PASSWORD.into(),
                mode: None,
            }]),
            ..SecretVolumeSource::default()
        }),
        ..named("internal")
    }
}
