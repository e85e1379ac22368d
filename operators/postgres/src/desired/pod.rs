//! The pod of an instance.

use k8s_openapi::api::core::v1::{Container, Pod};
use mainstay_shared::operator::desired::Template;
use mainstay_shared::operator::desired::parts::install;
use mainstay_shared::operator::desired::pod::{self, Server, Shape};

use super::backup;
use crate::engine::CONTAINER;
use crate::settings::{PORT, PORT_NAME};
use crate::validate::Validated;

pub(in crate::desired) mod volumes;

/// User and group of the official images.
pub(super) const USER: i64 = 999;
/// Seconds for an orderly stop: its checkpoint may have to write all of the cache.
const STOP_SECONDS: i64 = 280;
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
    let restored = v.recovery.as_ref();
    let restored = restored.filter(|_| instance == template.seat && template.identifier.is_none());
    let seed = v.backup.as_ref().filter(|b| b.seed);
    let beside = backup::Beside {
        backup: v.backup.as_ref(),
        restored,
        seeded: seed.and(template.identifier),
    };
    let shape = Shape {
        user: USER,
        stop_seconds: STOP_SECONDS,
        scratches: volumes::scratches(&beside),
        first: first(v, template, &beside),
        engine: pod::server(&v.common, SERVER, volumes::mounts(v.backup.is_some())),
        volumes: volumes::volumes(v, instance, &beside),
    };
    pod::pod(&v.common, instance, template, shape)
}

/// What is started before the engine: the program, the data where it comes from a repository, and what
/// makes backups, which goes on beside the engine.
fn first(v: &Validated, template: &Template<'_>, beside: &backup::Beside<'_>) -> Vec<Container> {
    let mut all = vec![install(template.operator_image)];
    if beside.restored.is_some() {
        all.push(backup::restore(v));
    }
    if let Some(identifier) = beside.seeded {
        all.push(backup::seed(v, identifier));
    }
    if let Some(own) = beside.backup {
        all.push(backup::sidecar(v, own));
    }
    all
}
