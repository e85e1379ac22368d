//! The ConfigMap with what the agents must know.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use mainstay_shared::agent::config::{SetConfig, Zones};
use mainstay_shared::agent::paths::{CONFIG_FILE, ZONES_FILE};
use mainstay_shared::names;

use super::{backup, parameters};
use crate::settings::{PostgresConfig, PostgresSettings, TIMELINES_FILE};
use crate::validate::{Pooler, Validated};

/// Nodes that instances have left, of which the zone is still told: more is history.
const MOST_LEFT: usize = 16;

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
    if v.timelines > 0 {
        data.insert(TIMELINES_FILE.to_owned(), v.timelines.to_string());
    }
    let map = ConfigMap {
        metadata: v.set.owned(names::config_map(&v.set.name)),
        data: Some(data),
        ..ConfigMap::default()
    };
    Ok((map, hash))
}

/// Zones of the nodes on which instances are, or were as `told` says: so an instance that comes back
/// to its node knows its zone from the start, and a restart changes nothing. `zone` is what is known
/// of a node.
pub fn zones(told: &Zones, nodes: &[&str], zone: impl Fn(&str) -> Option<String>) -> Zones {
    let find = |node: &str| Some((node.to_owned(), zone(node)?));
    let left = told.keys().filter(|node| !nodes.contains(&node.as_str()));
    let left = left.filter_map(|node| find(node)).take(MOST_LEFT);
    nodes
        .iter()
        .filter_map(|node| find(node))
        .chain(left)
        .collect()
}

/// What the agents must know of the set.
pub fn config(v: &Validated, members: &[String]) -> PostgresConfig {
    SetConfig {
        set: v.set.name.clone(),
        namespace: v.set.namespace.clone(),
        members: members.to_vec(),
        durability: v.durability,
        enforcement: v.enforcement,
        across_zones: v.across_zones,
        max_lag: v.max_lag,
        rejoin: v.rejoin,
        engine: PostgresSettings {
            major: v.major,
            parameters: parameters::parameters(v),
            database: v.database.clone(),
            owner: v.owner.clone(),
            max_slot_wal_keep_mib: parameters::slot_wal_mib(v.storage),
            host_rules: Vec::new(),
            pooler: v.pooler.as_ref().map(Pooler::settings),
            archive: v.backup.as_ref().map(backup::archive),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_left_stays_told_while_it_exists() {
        let known = |node: &str| match node {
            "n1" | "n2" => Some("a".to_owned()),
            "n3" => Some("b".to_owned()),
            _ => None,
        };
        let first = zones(&Zones::new(), &["n1", "n3", "unlabelled"], known);
        let of = |pairs: &[(&str, &str)]| -> Zones {
            let owned = |(n, z): &(&str, &str)| ((*n).to_owned(), (*z).to_owned());
            pairs.iter().map(owned).collect()
        };
        assert_eq!(first, of(&[("n1", "a"), ("n3", "b")]));
        // A pod is away: nothing changes.
        assert_eq!(zones(&first, &["n1"], known), first);
        let moved = zones(&first, &["n1", "n2"], known);
        assert_eq!(moved, of(&[("n1", "a"), ("n2", "a"), ("n3", "b")]));
        let gone = |node: &str| known(node).filter(|_| node != "n3");
        assert_eq!(
            zones(&moved, &["n1", "n2"], gone),
            of(&[("n1", "a"), ("n2", "a")])
        );
        let many: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
        let told = many.iter().map(|n| (n.clone(), "z".to_owned())).collect();
        let bounded = zones(&told, &["n1"], |_| Some("z".into()));
        assert_eq!(bounded.len(), MOST_LEFT + 1);
    }
}
