//! What Redis' drills are told, and their pod.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use mainstay_shared::backups::drill::{Drill, Start};
use mainstay_shared::operator::desired::drill::{self, Shape};
use mainstay_shared::operator::validated::backup::for_reading;

use super::pod::USER;
use crate::backup::settings::{DrillSettings, RestoreSettings};
use crate::settings::DATA;
use crate::validate::backup::Drill as Wanted;
use crate::validate::{Backup, Validated};

/// What a drill is told.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn config_map(
    v: &Validated,
    backup: &Backup,
    wanted: &Wanted,
    start: &Start,
) -> Result<ConfigMap, serde_json::Error> {
    let set = &v.common.set;
    let restore = RestoreSettings {
        resource: drill::resource(set, start),
        repository: for_reading(backup.settings.repository.clone()),
        flavour: v.flavour,
        version: v.version.clone(),
        persistence: v.persistence,
        databases: v.databases(),
        backup: None,
        moment: start.moment,
        owner: None,
        epoch: 0,
        cluster: None,
        every_shard: v.shards.is_some(),
    };
    let asks = DrillSettings {
        resource: backup.settings.resource.clone(),
        flavour: v.flavour,
        persistence: v.persistence,
        databases: v.databases(),
        every_shard: v.shards.is_some(),
        question_seconds: wanted.common.check_seconds(),
        checks: wanted.checks.clone(),
    };
    drill::config_map(set, start, &restore, &asks)
}

/// The pod of a drill.
pub fn pod(
    v: &Validated,
    backup: &Backup,
    wanted: &Wanted,
    drill: &Drill,
    operator_image: &str,
) -> Pod {
    // All shards lie beside each other, and one after the other is read. A backup of more shards than there are now has no more in it:
    // what they held went into these.
    let shards = v.shards.map_or(1, |shards| shards.count.max(1));
    let shards = i64::try_from(shards).unwrap_or(1);
    let shape = Shape {
        user: USER,
        data: DATA,
        storage: v.common.storage.saturating_mul(shards),
        volumes: Vec::new(),
        mounts: Vec::new(),
    };
    let own = &backup.access;
    drill::pod(&v.common, &wanted.common, own, drill, operator_image, shape)
}
