//! The ConfigMap with what the agents must know.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use mainstay_crds::common::Rejoin;
use mainstay_shared::agent::config::{SetConfig, Zones, timelines};
use mainstay_shared::agent::paths::{CONFIG_FILE, ZONES_FILE};
use mainstay_shared::names;

use super::backup;
use super::memory::maxmemory;
use crate::settings::{RedisConfig, RedisSettings};
use crate::validate::Validated;

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
pub fn config(v: &Validated, members: &[String]) -> RedisConfig {
    SetConfig {
        set: v.common.set.name.clone(),
        namespace: v.common.set.namespace.clone(),
        members: members.to_vec(),
        durability: v.common.durability,
        enforcement: v.common.enforcement,
        across_zones: v.common.across_zones,
        max_lag: v.common.max_lag,
        rejoin: Rejoin::default(),
        engine: RedisSettings {
            flavour: v.flavour,
            version: v.version.clone(),
            parameters: parameters(v),
            persistence: v.persistence,
            replicas: v.replicas,
            sentinel: v.sentinel,
            clustered: v.shards.is_some(),
        },
    }
}

/// The user's parameters, and those that follow from other fields.
fn parameters(v: &Validated) -> BTreeMap<String, String> {
    let mut all = v.parameters.clone();
    let bytes = maxmemory(v.common.memory, v.persistence);
    all.insert("maxmemory".into(), bytes.to_string());
    all.insert("maxmemory-policy".into(), v.policy.clone());
    all
}
