//! What `mode: Cluster` means.

use mainstay_crds::common::{Placement, Requirement};
use mainstay_crds::redis::RedisSpec;
use mainstay_crds::redis::rules::{MAX_REPLICAS, MAX_SHARDS, MIN_SHARDS, ONE_DATABASE};

use super::{DATABASES, Problem};

/// Shards of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    /// How many there are.
    pub count: usize,
    /// Replicas of each.
    pub replicas: usize,
}

/// Where members run. There are more of them than nodes, often: that no shard has two in one place is seen to by who follows
/// whom, so a node may have several.
pub fn placement(asked: Option<Placement>) -> Placement {
    let mut placement = asked.unwrap_or_default();
    placement.nodes.get_or_insert(Requirement::Preferred);
    placement
}

/// The shards that are asked for; none where it is no cluster.
pub fn shards(spec: &RedisSpec, problems: &mut Vec<Problem>) -> Option<Shards> {
    if !spec.is_cluster() {
        if spec.shards.is_some() || spec.replicas.is_some() {
            problems.push(Problem::OnlyInClusters);
        }
        return None;
    }
    let elsewhere = spec.instances.is_some()
        || spec.durability.is_some()
        || spec.bounded.is_some()
        || spec.sentinel.is_some();
    if elsewhere {
        problems.push(Problem::NotInClusters);
    }
    if spec.persistence.as_deref() == Some("none") {
        problems.push(Problem::KeptInClusters);
    }
    if spec.parameters.contains_key(DATABASES) {
        problems.push(Problem::ParameterElsewhere(ONE_DATABASE));
    }
    let count = spec
        .shards
        .filter(|n| (MIN_SHARDS..=MAX_SHARDS).contains(n));
    if count.is_none() {
        problems.push(Problem::Shards);
    }
    let replicas = Some(spec.replicas()).filter(|n| (0..=MAX_REPLICAS).contains(n));
    if replicas.is_none() {
        problems.push(Problem::Replicas);
    }
    let number = |n: i32| usize::try_from(n).ok();
    Some(Shards {
        count: count.and_then(number)?,
        replicas: replicas.and_then(number)?,
    })
}
