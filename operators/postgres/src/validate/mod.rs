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

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt};
use mainstay_crds::common::rules::{
    MAX_CERTIFICATE_HOURS, MAX_CPU_MILLIS, MAX_LAG_BYTES, MAX_MEMORY, MAX_STORAGE, MIN_CPU_MILLIS,
    MIN_MEMORY, MIN_STORAGE,
};
use mainstay_crds::common::{
    AllowedClient, Deletion, Durability, Enforcement, KeptVolumes, Placement, Quorum, Rejoin,
    quantity,
};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::rules::{MAJORS, MAX_INSTANCES, RESERVED_DATABASES, RESERVED_OWNERS};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names;
use mainstay_shared::operator::validated::{PAUSED, is_paused};
use mainstay_shared::rollout::Windows;

pub use backup::{Backup, Recovery};
pub use catalogue::{Catalogue, CatalogueError};
pub use pooler::Pooler;
pub use problem::Problem;

/// Processor time of an instance that names none, in thousandths of a processor.
const CPU_MILLIS: i64 = 250;
/// Memory of an instance that names none, in bytes.
const MEMORY: i64 = 512 << 20;
/// Hours that a certificate is valid unless said.
const CERTIFICATE_HOURS: i32 = 2160;

/// A `Postgres` as it is meant. Everything derived is derived from this.
///
/// Guarantees, when it comes from [`validate`]: `major` is one that Mainstay runs, `durability` is
/// quorum only from three instances, no parameter is managed or unknown, sizes are positive.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent wishes, not a state"
)]
pub struct Validated {
    /// Identity of the resource.
    pub set: SetId,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether the user wants no change made (annotation `mainstay.dev/reconcile: paused`).
    pub paused: bool,
    /// Major version, for example 17.
    pub major: u32,
    /// Image of the engine: the catalogue's or the user's.
    pub image: String,
    /// Whether the user names the image; else it is the catalogue's, which is pinned by the pods
    /// that run it.
    pub image_is_named: bool,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// Number of instances, at least 1.
    pub instances: i32,
    /// Memory of each instance, in bytes.
    pub memory: i64,
    /// Processor time of each instance, in thousandths of a processor.
    pub cpu_milli: i64,
    /// Size of each volume, in bytes.
    pub storage: i64,
    /// StorageClass of the volumes; none: the cluster's default.
    pub storage_class: Option<String>,
    /// When a write is acknowledged: the effective value.
    pub durability: Durability,
    /// What happens while too few replicas can acknowledge, with `quorum`.
    pub enforcement: Enforcement,
    /// Whether only replicas in other zones acknowledge, with `quorum` and instances in several.
    pub across_zones: bool,
    /// Most log, in bytes, that the replica which has most may lack, with `async`.
    pub max_lag: Option<u64>,
    /// What becomes of data that has parted from the primary's.
    pub rejoin: Rejoin,
    /// The user's parameters; none of them is managed.
    pub parameters: BTreeMap<String, String>,
    /// Where instances run.
    pub placement: Option<Placement>,
    /// Hours that an instance's certificate is valid.
    pub certificate_hours: i64,
    /// When instances may be disturbed.
    pub windows: Windows,
    /// Clients that may connect, besides labelled pods of the namespace.
    pub clients: Vec<AllowedClient>,
    /// The connection pooler, if one is asked for.
    pub pooler: Option<Pooler>,
    /// Backups, if they are asked for.
    pub backup: Option<Backup>,
    /// What the first data is made from, if it is not empty.
    pub recovery: Option<Recovery>,
    /// Highest timeline that data which was left by a restore in place has: promotions take higher ones.
    pub timelines: u64,
    /// Whether deletion is refused.
    pub protected: bool,
    /// What becomes of the volumes of a deleted resource.
    pub volumes: KeptVolumes,
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
    let mut problems = Vec::new();
    let spec = &resource.spec;
    let set = identity(resource, &mut problems);
    let paused = paused(resource, &mut problems);
    let major = major(&spec.version, &mut problems);
    let image = image(resource, major, catalogue, &mut problems);
    let instances = spec.instances();
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
    pull_secrets(&spec.image_pull_secrets, &mut problems);
    let (cpu_milli, memory) = resources(resource, &mut problems);
    let storage = storage(resource, &mut problems);
    parameters::check(
        &parameters::Subject {
            parameters: &spec.parameters,
            version: &spec.version,
            major,
            durability,
            memory,
        },
        &mut problems,
    );
    placement(spec.placement.as_ref(), &mut problems);
    let certificate_hours = spec
        .tls
        .as_ref()
        .and_then(|tls| tls.certificate_hours)
        .unwrap_or(CERTIFICATE_HOURS);
    if !(1..=MAX_CERTIFICATE_HOURS).contains(&certificate_hours) {
        problems.push(Problem::CertificateHours);
    }
    let windows = Windows::read(spec.maintenance.as_ref()).unwrap_or_else(|wrong| {
        problems.extend(wrong.into_iter().map(Problem::Window));
        Windows::default()
    });
    let clients = clients(resource, &mut problems);
    let pooler = pooler::read(resource, catalogue, &mut problems);
    let backup = backup::backup(resource, set.as_ref(), major, durability, &mut problems);
    let recovery = backup::recovery(resource, set.as_ref(), major, &mut problems);
    backup::last(resource, &mut problems);
    backup::apart(backup.as_ref(), recovery.as_ref(), &mut problems);
    if !syntax::is_identifier(spec.database(), RESERVED_DATABASES) {
        problems.push(Problem::Database);
    }
    if !syntax::is_identifier(spec.owner(), RESERVED_OWNERS) {
        problems.push(Problem::Owner);
    }
    match (set, major, image) {
        (Some(set), Some(major), Some(image)) if problems.is_empty() => Ok(Validated {
            set,
            generation: resource.metadata.generation.unwrap_or_default(),
            paused,
            major,
            image,
            image_is_named: spec.image.is_some(),
            image_pull_secrets: spec.image_pull_secrets.clone(),
            instances,
            memory,
            cpu_milli,
            storage,
            storage_class: spec.storage.class.clone(),
            durability,
            enforcement,
            across_zones: Quorum::across_zones(spec.quorum.as_ref()),
            max_lag: max_lag.and_then(|bytes| u64::try_from(bytes).ok()),
            rejoin: spec.rejoin.unwrap_or_default(),
            parameters: spec.parameters.clone(),
            placement: spec.placement.clone(),
            certificate_hours: certificate_hours.into(),
            windows,
            clients,
            pooler,
            backup,
            recovery,
            timelines: 0,
            protected: Deletion::is_protected(spec.deletion.as_ref()),
            volumes: Deletion::volumes(spec.deletion.as_ref()),
            database: spec.database().to_owned(),
            owner: spec.owner().to_owned(),
        }),
        _ => Err(problems),
    }
}

fn identity(resource: &Postgres, problems: &mut Vec<Problem>) -> Option<SetId> {
    let name = resource.name_any();
    if !syntax::is_set_name(&name) {
        problems.push(Problem::Name);
    }
    let stored = (resource.namespace(), resource.uid());
    let (Some(namespace), Some(uid)) = stored else {
        problems.push(Problem::NotStored);
        return None;
    };
    Some(SetId {
        api_version: Postgres::api_version(&()).into_owned(),
        kind: Postgres::kind(&()).into_owned(),
        namespace,
        name,
        uid,
    })
}

fn paused(resource: &Postgres, problems: &mut Vec<Problem>) -> bool {
    if let Some(other) = resource
        .annotations()
        .get(names::RECONCILE)
        .filter(|value| *value != PAUSED)
    {
        problems.push(Problem::Pause(other.clone()));
    }
    is_paused(resource)
}

fn major(version: &str, problems: &mut Vec<Problem>) -> Option<u32> {
    let major = MAJORS.iter().find(|m| m.to_string() == version).copied();
    if major.is_none() {
        problems.push(Problem::Version);
    }
    major
}

fn image(
    resource: &Postgres,
    major: Option<u32>,
    catalogue: &Catalogue,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    if let Some(image) = &resource.spec.image {
        if !syntax::is_fixed_image(image) {
            problems.push(Problem::Image);
        }
        return Some(image.clone());
    }
    let major = major?;
    let image = catalogue.image(major);
    if image.is_none() {
        problems.push(Problem::NoImage {
            major,
            available: catalogue.majors(),
        });
    }
    image.map(str::to_owned)
}

fn pull_secrets(secrets: &[String], problems: &mut Vec<Problem>) {
    for (i, name) in secrets.iter().enumerate() {
        if secrets[..i].contains(name) {
            problems.push(Problem::PullSecretTwice(name.clone()));
        }
    }
    if !secrets.iter().all(|name| syntax::is_subdomain(name)) {
        problems.push(Problem::PullSecret);
    }
}

/// Processor time in thousandths and memory in bytes.
fn resources(resource: &Postgres, problems: &mut Vec<Problem>) -> (i64, i64) {
    let resources = resource.spec.resources.as_ref();
    let cpu = resources.and_then(|r| r.cpu.as_ref());
    let memory = resources.and_then(|r| r.memory.as_ref());
    let cpu = cpu.map_or(Some(CPU_MILLIS), |q| {
        within(quantity::milli(q).ok(), MIN_CPU_MILLIS, MAX_CPU_MILLIS)
    });
    let memory = memory.map_or(Some(MEMORY), |q| bytes(q, MIN_MEMORY, MAX_MEMORY));
    if cpu.is_none() {
        problems.push(Problem::Cpu);
    }
    if memory.is_none() {
        problems.push(Problem::Memory);
    }
    (cpu.unwrap_or(CPU_MILLIS), memory.unwrap_or(MEMORY))
}

fn storage(resource: &Postgres, problems: &mut Vec<Problem>) -> i64 {
    let storage = &resource.spec.storage;
    if storage
        .class
        .as_ref()
        .is_some_and(|c| !syntax::is_subdomain(c))
    {
        problems.push(Problem::StorageClass);
    }
    let size = bytes(&storage.size, MIN_STORAGE, MAX_STORAGE);
    if size.is_none() {
        problems.push(Problem::StorageSize);
    }
    size.unwrap_or(MIN_STORAGE)
}

fn bytes(quantity: &Quantity, least: i64, most: i64) -> Option<i64> {
    within(quantity::whole(quantity).ok(), least, most)
}

fn within(amount: Option<i64>, least: i64, most: i64) -> Option<i64> {
    amount.filter(|n| (least..=most).contains(n))
}

fn placement(placement: Option<&Placement>, problems: &mut Vec<Problem>) {
    let Some(placement) = placement else {
        return;
    };
    if let Some(nodes) = &placement.dedicated_nodes {
        if !syntax::is_label_key(&nodes.key) {
            problems.push(Problem::DedicatedKey);
        }
        if !syntax::is_label_value(&nodes.value) {
            problems.push(Problem::DedicatedValue);
        }
    }
    labels(
        placement.node_labels.as_ref(),
        "spec.placement.nodeLabels",
        problems,
    );
    if placement
        .priority_class
        .as_ref()
        .is_some_and(|name| !syntax::is_subdomain(name))
    {
        problems.push(Problem::PriorityClass);
    }
}

fn clients(resource: &Postgres, problems: &mut Vec<Problem>) -> Vec<AllowedClient> {
    let clients = resource.spec.network.as_ref().map(|n| n.clients.clone());
    let clients = clients.unwrap_or_default();
    for (i, client) in clients.iter().enumerate() {
        let (pods, namespaces) = (client.pod_labels.as_ref(), client.namespace_labels.as_ref());
        if pods.is_none_or(BTreeMap::is_empty) && namespaces.is_none_or(BTreeMap::is_empty) {
            problems.push(Problem::ClientSelects(i));
        }
        let field = format!("spec.network.clients[{i}]");
        labels(pods, &format!("{field}.podLabels"), problems);
        labels(namespaces, &format!("{field}.namespaceLabels"), problems);
    }
    clients
}

fn labels(labels: Option<&BTreeMap<String, String>>, field: &str, problems: &mut Vec<Problem>) {
    let good = |(key, value): (&String, &String)| {
        syntax::is_label_key(key) && syntax::is_label_value(value)
    };
    if !labels.into_iter().flatten().all(good) {
        problems.push(Problem::Labels(field.to_owned()));
    }
}
