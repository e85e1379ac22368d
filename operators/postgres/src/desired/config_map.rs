//! The ConfigMap with what the agents must know.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use mainstay_shared::agent::config::{SetConfig, Zones, timelines};
use mainstay_shared::agent::paths::{CONFIG_FILE, ZONES_FILE};
use mainstay_shared::names;

use super::{backup, parameters};
use crate::settings::{PostgresConfig, PostgresSettings};
use crate::validate::{Pooler, Validated};

/// The ConfigMap, and the hash of the configuration in it. Zones are no part of that: whatever is
/// scheduled, nothing has to be loaded. What backups are told is none either: the agents do not read it.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn config_map(
    v: &Validated,
    members: &[String],
    zones: &Zones,
) -> Result<(ConfigMap, String), serde_json::Error> {
    let (text, hash) = config(v, members).render()?;
    let zones = serde_json::to_string_pretty(zones)?;
    let mut data = BTreeMap::from([
        (CONFIG_FILE.to_owned(), text),
        (ZONES_FILE.to_owned(), zones),
    ]);
    data.extend(backup::files(v)?);
    data.extend(timelines(v.timelines));
    let map = ConfigMap {
        metadata: v.common.set.owned(names::config_map(&v.common.set.name)),
        data: Some(data),
        ..ConfigMap::default()
    };
    Ok((map, hash))
}

/// What the agents must know of the set.
pub fn config(v: &Validated, members: &[String]) -> PostgresConfig {
    SetConfig {
        set: v.common.set.name.clone(),
        namespace: v.common.set.namespace.clone(),
        members: members.to_vec(),
        durability: v.common.durability,
        enforcement: v.common.enforcement,
        across_zones: v.common.across_zones,
        max_lag: v.common.max_lag,
        rejoin: v.rejoin,
        engine: PostgresSettings {
            major: v.major,
            parameters: parameters::parameters(v),
            database: v.database.clone(),
            owner: v.owner.clone(),
            max_slot_wal_keep_mib: parameters::slot_wal_mib(v.common.storage),
            host_rules: Vec::new(),
            pooler: v.pooler.as_ref().map(Pooler::settings),
            archive: v.backup.as_ref().map(backup::archive),
        },
    }
}
