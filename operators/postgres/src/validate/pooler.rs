//! The connection pooler as it is meant.

use mainstay_crds::common::quantity;
use mainstay_crds::common::rules::{MAX_CPU_MILLIS, MIN_CPU_MILLIS};
use mainstay_crds::common::sentences;
use mainstay_crds::postgres::Postgres;
use mainstay_crds::postgres::pooler::{self as rules, PoolMode};
use mainstay_shared::operator::validated::read::{bytes, within};
use mainstay_shared::operator::validated::syntax;

use super::{Catalogue, Problem};
use crate::settings::PoolerSettings;

/// What is left out means these.
const INSTANCES: i32 = 2;
const POOL_SIZE: i32 = 20;
const CLIENTS: i32 = 1000;
const PAUSE_SECONDS: i32 = 5;
const CPU_MILLIS: i64 = 100;
const MEMORY: i64 = 64 << 20;
/// PostgreSQL's own default.
const DEFAULT_CONNECTIONS: u32 = 100;
/// Connections that are not for clients: reserved ones, agents, the operator's probe, lookups of poolers.
const KEPT: i64 = 20;

/// A connection pooler. Defaults are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooler {
    /// Pods that lead to the primary, and as many that lead to replicas.
    pub instances: i32,
    /// When a client gives its server connection back.
    pub mode: PoolMode,
    /// Whether there is one that leads to replicas.
    pub replicas: bool,
    /// Connections to PostgreSQL of one pod for one user and database.
    pub pool_size: i32,
    /// Clients of one pod.
    pub max_connections: i32,
    /// For how long transactions are waited for.
    pub pause_seconds: u32,
    /// Processor time of each pod, in thousandths of a processor.
    pub cpu_milli: i64,
    /// Memory of each pod, in bytes.
    pub memory: i64,
    /// Image: the catalogue's or the user's.
    pub image: String,
    /// Whether the user names the image; else the catalogue's is pinned by the pods that run it.
    pub image_is_named: bool,
}

impl Pooler {
    /// What the agents of the data pods must know of it.
    pub fn settings(&self) -> PoolerSettings {
        PoolerSettings {
            pause_seconds: match self.mode {
                PoolMode::Transaction => self.pause_seconds,
                // A session would have to end for its connection to be free.
                PoolMode::Session => 0,
            },
        }
    }
}

/// What is asked for, or what is wrong with it.
pub fn read(
    resource: &Postgres,
    catalogue: &Catalogue,
    problems: &mut Vec<Problem>,
) -> Option<Pooler> {
    let spec = &resource.spec;
    let asked = spec.pooler.as_ref()?;
    let mut number =
        |field, asked: Option<i32>, default, range: &std::ops::RangeInclusive<i32>, sentence| {
            let value = asked.unwrap_or(default);
            if !range.contains(&value) {
                problems.push(Problem::Pooler(field, sentence));
            }
            value
        };
    let pods = 1..=rules::MAX_INSTANCES;
    let instances = number(
        "instances",
        asked.instances,
        INSTANCES,
        &pods,
        rules::INSTANCES,
    );
    let sizes = &rules::POOL_SIZES;
    let pool_size = number(
        "poolSize",
        asked.pool_size,
        POOL_SIZE,
        sizes,
        rules::POOL_SIZE,
    );
    let max_connections = number(
        "maxConnections",
        asked.max_connections,
        CLIENTS,
        &rules::CLIENTS,
        rules::MAX_CONNECTIONS,
    );
    let pauses = &rules::PAUSES;
    let pause = number(
        "pauseSeconds",
        asked.pause_seconds,
        PAUSE_SECONDS,
        pauses,
        rules::PAUSE,
    );
    let replicas = asked.replicas.unwrap_or(false);
    if replicas && spec.instances() < 2 {
        problems.push(Problem::PoolerReplicas);
    }
    let size = asked.resources.clone().unwrap_or_default();
    let cpu = size.cpu.map_or(Some(CPU_MILLIS), |q| {
        within(quantity::milli(&q).ok(), MIN_CPU_MILLIS, MAX_CPU_MILLIS)
    });
    if cpu.is_none() {
        problems.push(Problem::Pooler("resources.cpu", sentences::CPU));
    }
    let memory = size.memory.map_or(Some(MEMORY), |q| {
        bytes(&q, rules::MIN_MEMORY, rules::MAX_MEMORY)
    });
    if memory.is_none() {
        problems.push(Problem::Pooler("resources.memory", rules::MEMORY));
    }
    if asked
        .image
        .as_ref()
        .is_some_and(|i| !syntax::is_fixed_image(i))
    {
        problems.push(Problem::Pooler("image", sentences::IMAGE));
    }
    let image = asked.image.as_deref().or(catalogue.pooler());
    if image.is_none() {
        problems.push(Problem::NoPoolerImage);
    }
    if pods.contains(&instances) && sizes.contains(&pool_size) {
        problems.extend(too_large(resource, instances, pool_size));
    }
    Some(Pooler {
        instances,
        mode: asked.mode.unwrap_or_default(),
        replicas,
        pool_size,
        max_connections,
        pause_seconds: u32::try_from(pause).unwrap_or_default(),
        cpu_milli: cpu?,
        memory: memory?,
        image: image?.to_owned(),
        image_is_named: asked.image.is_some(),
    })
}

/// The pods for the primary together take no more connections than it has for clients. What is wrong
/// with the parameter itself is said by its own rules.
fn too_large(resource: &Postgres, pods: i32, size: i32) -> Option<Problem> {
    let parameters = &resource.spec.parameters;
    let max_connections = match parameters.get("max_connections") {
        Some(value) => value.trim().parse().ok()?,
        None => DEFAULT_CONNECTIONS,
    };
    let used = i64::from(pods) * i64::from(size);
    (used > i64::from(max_connections) - KEPT).then_some(Problem::PoolerTooLarge {
        pods,
        size,
        max_connections,
    })
}
