//! The ConfigMap with what the agents must know.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use mainstay_shared::agent::config::SetConfig;
use mainstay_shared::agent::paths::CONFIG_FILE;
use mainstay_shared::names;

use super::parameters;
use crate::settings::{PostgresConfig, PostgresSettings};
use crate::validate::{Pooler, Validated};

/// The ConfigMap, and the hash of its content.
///
/// # Errors
/// When it cannot be written as JSON, which it always can.
pub fn config_map(
    v: &Validated,
    members: &[String],
) -> Result<(ConfigMap, String), serde_json::Error> {
    let (text, hash) = config(v, members).render()?;
    let map = ConfigMap {
        metadata: v.set.owned(names::config_map(&v.set.name)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), text)])),
        ..ConfigMap::default()
    };
    Ok((map, hash))
}

/// What the agents must know of the set.
pub fn config(v: &Validated, members: &[String]) -> PostgresConfig {
    SetConfig {
        set: v.set.name.clone(),
        namespace: v.set.namespace.clone(),
        members: members.to_vec(),
        zones: BTreeMap::new(),
        durability: v.durability,
        enforcement: v.enforcement,
        engine: PostgresSettings {
            major: v.major,
            parameters: parameters::parameters(v),
            database: v.database.clone(),
            owner: v.owner.clone(),
            max_slot_wal_keep_mib: parameters::slot_wal_mib(v.storage),
            host_rules: Vec::new(),
            pooler: v.pooler.as_ref().map(Pooler::settings),
        },
    }
}
