//! What PostgreSQL's drills are told, and what their pod has besides that of every engine's.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use mainstay_shared::backups::drill::{Drill, Start};
use mainstay_shared::operator::desired::drill::{self, Shape};
use mainstay_shared::operator::desired::volumes::mount;
use mainstay_shared::operator::validated::backup::for_reading;

use super::pod::USER;
use super::pod::volumes::shm;
use crate::agent::place::DATA;
use crate::backup::settings::{DrillSettings, RestoreSettings, Target};
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
        major: v.major,
        backup: None,
        target: start.moment.map_or(Target::Latest, Target::Time),
        owner: None,
    };
    let asks = DrillSettings {
        resource: backup.settings.resource.clone(),
        database: v.database.clone(),
        role: v.owner.clone(),
        statement_seconds: wanted.common.check_seconds(),
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
    let (_, memory) = wanted.common.size(&v.common);
    let shape = Shape {
        user: USER,
        data: DATA,
        storage: v.common.storage,
        volumes: vec![shm(memory)],
        mounts: vec![mount("shm", "/dev/shm", false)],
    };
    let own = &backup.access;
    drill::pod(&v.common, &wanted.common, own, drill, operator_image, shape)
}
