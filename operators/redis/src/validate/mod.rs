//! From a spec to what is meant by it: defaults applied, quantities read, illegal combinations
//! unrepresentable.

pub mod backup;
mod catalogue;
pub mod change;
pub mod cluster;
mod parameters;
mod problem;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mainstay_crds::redis::rules::{BOUNDED_FROM, LAG_SECONDS, MAX_INSTANCES, POLICIES, VERSIONS};
use mainstay_crds::redis::{Bounded, Redis, RedisSpec};
use mainstay_shared::operator::validated::Common;
use mainstay_shared::operator::validated::read::{self, Asked, Image};

pub use backup::{Backup, Recovery};
pub use catalogue::{Catalogue, CatalogueError};
pub use cluster::Shards;
pub use problem::Problem;

use crate::settings::{Flavour, Persistence, ReplicasToWrite};
use crate::version::name;

/// The parameter that says how many databases there are.
pub const DATABASES: &str = "databases";
/// Seconds since a replica was heard of, unless said.
const MAX_LAG_SECONDS: u32 = 10;

/// A `Redis` as it is meant. Everything derived is derived from this.
///
/// Guarantees, when it comes from [`validate`]: the version is one that Mainstay runs, `replicas` leaves one to be
/// lost, without persistence there is one instance, no parameter is managed or unknown, sizes are positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// What every engine has of it.
    pub common: Common,
    /// Whose program it is.
    pub flavour: Flavour,
    /// Version, for example `8.0`.
    pub version: String,
    /// What is on the volume.
    pub persistence: Persistence,
    /// Replicas without which a primary takes no write, with `durability: bounded`.
    pub replicas: Option<ReplicasToWrite>,
    /// What is done when data has taken all memory that it may.
    pub policy: String,
    /// The user's parameters; none of them is managed.
    pub parameters: BTreeMap<String, String>,
    /// Agents answer clients of a Sentinel.
    pub sentinel: bool,
    /// Of a cluster its shards; none: one primary and its replicas.
    pub shards: Option<Shards>,
    /// Backups, if they are asked for.
    pub backup: Option<Backup>,
    /// What the first data is made from; none: it is empty.
    pub recovery: Option<Recovery>,
    /// Highest timeline that data which was left by a restore in place has: promotions take higher ones.
    pub timelines: u64,
    /// Of a cluster: every slot has had an owner once. No member is made from a backup then.
    pub formed: bool,
}

impl Validated {
    /// How many databases there are; none: as many as Redis has by itself.
    pub fn databases(&self) -> Option<u32> {
        self.parameters.get(DATABASES)?.parse().ok()
    }
}

/// What the resource means, or everything that is wrong with it.
///
/// # Errors
/// Each problem says what to write instead; the list is never empty.
pub fn validate(resource: &Redis, catalogue: &Catalogue) -> Result<Validated, Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    let spec = &resource.spec;
    let asked = Asked {
        instances: spec.instances(),
        image_pull_secrets: &spec.image_pull_secrets,
        resources: spec.resources.as_ref(),
        storage: &spec.storage,
        placement: spec.placement.as_ref(),
        tls: spec.tls.as_ref(),
        maintenance: spec.maintenance.as_ref(),
        network: spec.network.as_ref(),
        deletion: spec.deletion.as_ref(),
    };
    let common = read::common(resource, &asked, &mut problems);
    let flavour = flavour(spec, &mut problems);
    let version = flavour.and_then(|flavour| version(spec, flavour, &mut problems));
    let image = Image {
        asked: spec.image.as_deref(),
        version,
        found: flavour
            .zip(version)
            .and_then(|(f, v)| catalogue.image(f, v)),
    };
    let available = || catalogue.versions(flavour.unwrap_or_default());
    let image = image.read(available, &mut problems);
    let modes = ["Replication", "Cluster"];
    if spec.mode.as_deref().is_some_and(|m| !modes.contains(&m)) {
        problems.push(Problem::Mode);
    }
    let shards = cluster::shards(spec, &mut problems);
    let replicas = if spec.is_cluster() {
        // The bound is of an election that replicas take part in.
        None
    } else {
        replicas(spec, &mut problems)
    };
    let persistence = persistence(spec, &mut problems);
    let policy = spec.maxmemory_policy.as_deref().unwrap_or("noeviction");
    if !POLICIES.contains(&policy) {
        problems.push(Problem::Policy);
    }
    parameters::check(&spec.parameters, persistence, &mut problems);
    if let Some((flavour, version)) = flavour.zip(version) {
        parameters::check_version(&spec.parameters, name(flavour), version, &mut problems);
    }
    let mut said = Vec::new();
    let set = common.stored();
    let kept = persistence != Some(Persistence::None);
    let backup = backup::backup(resource, set, kept, &mut said);
    let recovery = backup::recovery(resource, set, kept, &mut said);
    backup::last(spec.deletion.as_ref(), spec.backup.is_some(), &mut said);
    let own = backup.as_ref().map(|b| &b.settings.repository);
    let other = recovery.as_ref().map(|r| &r.source.repository);
    backup::apart(own, other, &mut said);
    problems.extend(said.into_iter().map(Problem::from));
    match (flavour, version, image, persistence) {
        (Some(flavour), Some(version), Some(image), Some(persistence)) if problems.is_empty() => {
            Ok(Validated {
                common: Common {
                    image,
                    image_is_named: spec.image.is_some(),
                    backup: backup.as_ref().map(Backup::common),
                    self_led: shards.is_some(),
                    placement: match shards {
                        Some(_) => Some(cluster::placement(common.placement)),
                        None => common.placement,
                    },
                    ..common
                },
                flavour,
                version: version.to_owned(),
                persistence,
                replicas,
                policy: policy.to_owned(),
                parameters: spec.parameters.clone(),
                sentinel: spec.sentinel.is_some(),
                shards,
                backup,
                recovery,
                timelines: 0,
                formed: false,
            })
        }
        _ => Err(problems),
    }
}

fn flavour(spec: &RedisSpec, problems: &mut Vec<Problem>) -> Option<Flavour> {
    match spec.engine.as_deref() {
        None | Some("Redis") => Some(Flavour::Redis),
        Some("Valkey") => Some(Flavour::Valkey),
        Some(_) => {
            problems.push(Problem::Engine);
            None
        }
    }
}

fn version<'a>(
    spec: &'a RedisSpec,
    flavour: Flavour,
    problems: &mut Vec<Problem>,
) -> Option<&'a str> {
    let version = spec.version.as_str();
    let of = |(engine, versions): &(&str, &[&str])| {
        *engine == name(flavour) && versions.contains(&version)
    };
    if VERSIONS.iter().any(of) {
        Some(version)
    } else {
        problems.push(Problem::Version);
        None
    }
}

fn persistence(spec: &RedisSpec, problems: &mut Vec<Problem>) -> Option<Persistence> {
    match spec.persistence.as_deref() {
        None | Some("aof") => Some(Persistence::Aof),
        Some("rdb") => Some(Persistence::Rdb),
        Some("none") => {
            if spec.instances() > 1 && !spec.is_cluster() {
                problems.push(Problem::NoneWithReplicas);
            }
            Some(Persistence::None)
        }
        Some(_) => {
            problems.push(Problem::Persistence);
            None
        }
    }
}

/// How many replicas a write needs; also whether there are as many instances as there may be.
fn replicas(spec: &RedisSpec, problems: &mut Vec<Problem>) -> Option<ReplicasToWrite> {
    let instances = spec.instances();
    let counted = (1..=MAX_INSTANCES).contains(&instances);
    if !counted {
        problems.push(Problem::Instances);
    }
    let bounded = match spec.durability.as_deref() {
        Some("bounded") => true,
        Some("async") => false,
        None => instances >= BOUNDED_FROM,
        Some(_) => {
            problems.push(Problem::Durability);
            return None;
        }
    };
    let Bounded {
        min_replicas_to_write,
        max_lag_seconds,
    } = spec.bounded.clone().unwrap_or_default();
    if max_lag_seconds.is_some_and(|n| !LAG_SECONDS.contains(&n)) {
        problems.push(Problem::MaxLag);
    }
    if !bounded {
        if min_replicas_to_write.is_some() || max_lag_seconds.is_some() {
            problems.push(Problem::BoundedBlock);
        }
        return None;
    }
    if counted && instances < BOUNDED_FROM {
        problems.push(Problem::Bounded);
        return None;
    }
    let count = min_replicas_to_write.unwrap_or(1);
    if counted && !(1..=instances - 2).contains(&count) {
        problems.push(Problem::MinReplicas);
    }
    let seconds = max_lag_seconds.and_then(|n| u32::try_from(n).ok());
    Some(ReplicasToWrite {
        count: u32::try_from(count).unwrap_or(1),
        max_lag_seconds: seconds.unwrap_or(MAX_LAG_SECONDS),
    })
}
