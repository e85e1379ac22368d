//! A connection pooler in front of a `Postgres`: PgBouncer.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{quantity, rules};

/// Most pods of a pooler.
pub const MAX_INSTANCES: i32 = 9;
/// Server connections that a pool may have.
pub const POOL_SIZES: std::ops::RangeInclusive<i32> = 1..=1000;
/// Client connections that a pod may take.
pub const CLIENTS: std::ops::RangeInclusive<i32> = 10..=20_000;
/// Seconds for which transactions are waited for.
pub const PAUSES: std::ops::RangeInclusive<i32> = 1..=30;
/// Smallest memory of a pod, in bytes.
pub const MIN_MEMORY: i64 = 32 << 20;
/// Largest memory of a pod, in bytes.
pub const MAX_MEMORY: i64 = 64 << 30;

/// Of `pooler.instances`.
pub const INSTANCES: &str = "write a number of pods between 1 and 9; 2 go on when a node is lost";
/// Of `pooler.poolSize`.
pub const POOL_SIZE: &str = "write a number of server connections between 1 and 1000, for example 20: so many \
     transactions of one user in one database run at once through one pod";
/// Of `pooler.maxConnections`.
pub const MAX_CONNECTIONS: &str =
    "write a number of client connections between 10 and 20000, for example 1000";
/// Of `pooler.pauseSeconds`.
pub const PAUSE: &str = "write seconds between 1 and 30, or leave it out for 5";
/// Of `pooler.resources.memory`.
pub const MEMORY: &str = "write an amount of memory between 32Mi and 64Gi, for example 64Mi";
/// Of `pooler.replicas` without any.
pub const REPLICAS: &str =
    "there is no replica to read from: write instances: 2 or more, or remove pooler.replicas";

/// A connection pooler (PgBouncer) in front of the database, in pods of its own.
///
/// Applications connect to it by the keys `pooler-host` and `pooler-uri` of their Secret, with the same
/// user and password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pooler {
    /// Number of its pods. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = instances())]
    pub instances: Option<i32>,
    /// When a client gives its server connection back. Default: `transaction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PoolMode>,
    /// Whether there is one for reads from replicas as well, with as many pods. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<bool>,
    /// Most connections of one pod to PostgreSQL for one user and database. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = pool_size())]
    pub pool_size: Option<i32>,
    /// Most clients of one pod. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = max_connections())]
    pub max_connections: Option<i32>,
    /// For how long a planned hand-over waits for transactions that run, while new ones are held
    /// back. Longer ones are broken off. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = pause())]
    pub pause_seconds: Option<i32>,
    /// Size of each pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<PoolerResources>,
    /// Image to run instead of the catalogue's. It must hold PgBouncer 1.21 or newer; never `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
}

/// When a client gives its server connection back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// At the end of each transaction: few connections serve many clients. What lives longer than a
    /// transaction (SET, advisory locks of a session, LISTEN, temporary tables) cannot be used.
    #[default]
    Transaction,
    /// When it disconnects: everything can be used. A hand-over breaks its sessions off, as without a
    /// pooler.
    Session,
}

/// Size of a pooler's pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolerResources {
    /// Processor time reserved for each pod, for example `100m`. Default: `100m`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "quantity::read_option"
    )]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = rules::cpu())]
    pub cpu: Option<Quantity>,
    /// Memory of each pod, request and limit at once. Default: `64Mi`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "quantity::read_option"
    )]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = memory())]
    pub memory: Option<Quantity>,
}

/// A pooler as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolerStatus {
    /// `host:port` that leads to the primary.
    pub primary: String,
    /// Ready pods and wanted ones of it, for example `2/2`.
    pub primary_ready: String,
    /// `host:port` that leads to replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<String>,
    /// Ready pods and wanted ones of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_ready: Option<String>,
}

fn within(range: &std::ops::RangeInclusive<i32>, sentence: &str) -> Rule {
    Rule::new(format!(
        "self >= {} && self <= {}",
        range.start(),
        range.end()
    ))
    .message(sentence)
}

fn instances() -> Rule {
    within(&(1..=MAX_INSTANCES), INSTANCES)
}

fn pool_size() -> Rule {
    within(&POOL_SIZES, POOL_SIZE)
}

fn max_connections() -> Rule {
    within(&CLIENTS, MAX_CONNECTIONS)
}

fn pause() -> Rule {
    within(&PAUSES, PAUSE)
}

fn memory() -> Rule {
    rules::between("32Mi", "64Gi", MEMORY)
}

/// A pooler for replicas needs some.
pub fn replicas() -> Rule {
    Rule::new(
        "!has(self.pooler) || !has(self.pooler.replicas) || !self.pooler.replicas || \
         (has(self.instances) && self.instances >= 2)",
    )
    .message(REPLICAS)
    .field_path(".pooler.replicas")
}
