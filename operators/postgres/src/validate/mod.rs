//! From a spec to what is meant by it: defaults applied, quantities read, illegal combinations
//! unrepresentable.

pub mod backup;
mod catalogue;
mod parameters;
mod pooler;
mod problem;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mainstay_crds::common::rules::MAX_LAG_BYTES;
use mainstay_crds::common::{Durability, Enforcement, Quorum, Rejoin};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::rules::{MAJORS, MAX_INSTANCES, RESERVED_DATABASES, RESERVED_OWNERS};
use mainstay_shared::operator::validated::Common;
use mainstay_shared::operator::validated::read::{self, Asked, Image};

pub use backup::{Backup, Recovery};
pub use catalogue::{Catalogue, CatalogueError};
pub use pooler::Pooler;
pub use problem::Problem;

/// A `Postgres` as it is meant. Everything derived is derived from this.
///
/// Guarantees, when it comes from [`validate`]: `major` is one that Mainstay runs, `durability` is
/// quorum only from three instances, no parameter is managed or unknown, sizes are positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// What every engine has of it.
    pub common: Common,
    /// Major version, for example 17.
    pub major: u32,
    /// What becomes of data that has parted from the primary's.
    pub rejoin: Rejoin,
    /// The user's parameters; none of them is managed.
    pub parameters: BTreeMap<String, String>,
    /// The connection pooler, if one is asked for.
    pub pooler: Option<Pooler>,
    /// Backups, if they are asked for, with what is PostgreSQL's own in them.
    pub backup: Option<Backup>,
    /// What the first data is made from, if it is not empty.
    pub recovery: Option<Recovery>,
    /// Highest timeline that data which was left by a restore in place has: promotions take higher ones.
    pub timelines: u64,
    /// Name of the application's database.
    pub database: String,
    /// Name of the role that owns it.
    pub owner: String,
}

/// What the resource means, or everything that is wrong with it.
///
/// # Errors
/// Each problem says what to write instead; the list is never empty.
pub fn validate(resource: &Postgres, catalogue: &Catalogue) -> Result<Validated, Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    let spec = &resource.spec;
    let instances = spec.instances();
    let asked = Asked {
        instances,
        image_pull_secrets: &spec.image_pull_secrets,
        resources: spec.resources.as_ref(),
        storage: &spec.storage,
        placement: spec.placement.as_ref(),
        tls: spec.tls.as_ref(),
        maintenance: spec.maintenance.as_ref(),
        network: spec.network.as_ref(),
        deletion: spec.deletion.as_ref(),
    };
    let mut common = read::common(resource, &asked, &mut problems);
    let major = major(&spec.version, &mut problems);
    let image = Image {
        asked: spec.image.as_deref(),
        version: major.map(|_| spec.version.as_str()),
        found: major.and_then(|major| catalogue.image(major)),
    };
    let image = image.read(|| catalogue.majors(), &mut problems);
    let durability = Durability::effective(spec.durability, instances);
    let enforcement = Enforcement::of(spec.quorum.as_ref());
    if !(1..=MAX_INSTANCES).contains(&instances) {
        problems.push(Problem::Instances);
    } else if durability == Durability::Quorum && instances < enforcement.fewest_instances() {
        problems.push(Problem::Quorum);
    }
    if durability != Durability::Quorum && Quorum::says(spec.quorum.as_ref()) {
        problems.push(Problem::Enforcement);
    }
    let max_lag = spec.asynchronous.as_ref().and_then(|a| a.max_lag_bytes);
    if let Some(bytes) = max_lag {
        if !MAX_LAG_BYTES.contains(&bytes) {
            problems.push(Problem::MaxLag);
        }
        if durability != Durability::Async || instances < 2 {
            problems.push(Problem::Asynchronous);
        }
    }
    parameters::check(
        &parameters::Subject {
            parameters: &spec.parameters,
            version: &spec.version,
            major,
            durability,
            memory: common.memory,
        },
        &mut problems,
    );
    let pooler = pooler::read(resource, catalogue, &mut problems);
    let mut said = Vec::new();
    let set = common.stored();
    let backup = backup::backup(resource, set, major, durability, &mut said);
    let recovery = backup::recovery(resource, set, major, &mut said);
    backup::last(spec.deletion.as_ref(), spec.backup.is_some(), &mut said);
    let own = backup.as_ref().map(|b| &b.settings.repository);
    let other = recovery.as_ref().map(|r| &r.settings.repository);
    backup::apart(own, other, &mut said);
    problems.extend(said.into_iter().map(Problem::from));
    if !syntax::is_identifier(spec.database(), RESERVED_DATABASES) {
        problems.push(Problem::Database);
    }
    if !syntax::is_identifier(spec.owner(), RESERVED_OWNERS) {
        problems.push(Problem::Owner);
    }
    common.image_is_named = spec.image.is_some();
    common.durability = durability;
    common.enforcement = enforcement;
    common.across_zones = Quorum::across_zones(spec.quorum.as_ref());
    common.max_lag = max_lag.and_then(|bytes| u64::try_from(bytes).ok());
    common.backup = backup.as_ref().map(Backup::common);
    match (major, image) {
        (Some(major), Some(image)) if problems.is_empty() => Ok(Validated {
            common: Common { image, ..common },
            major,
            rejoin: spec.rejoin.unwrap_or_default(),
            parameters: spec.parameters.clone(),
            pooler,
            backup,
            recovery,
            timelines: 0,
            database: spec.database().to_owned(),
            owner: spec.owner().to_owned(),
        }),
        _ => Err(problems),
    }
}

fn major(version: &str, problems: &mut Vec<Problem>) -> Option<u32> {
    let major = MAJORS.iter().find(|m| m.to_string() == version).copied();
    if major.is_none() {
        problems.push(Problem::Version);
    }
    major
}
