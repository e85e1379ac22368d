//! `kind: Postgres`.

pub mod parameters;
pub mod pooler;
pub mod rules;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use self::pooler::{Pooler, PoolerStatus};
use crate::common::{
    Acknowledged, Asynchronous, Backups, Bootstrap, CertificateStatus, Deletion, Durability,
    Endpoints, InstanceStatus, Maintenance, Network, Placement, Quorum, RecoveryStatus, Rejoin,
    Resources, SecretRef, Storage, Survives, Tls, WaitingFor, Weakened, backup, rules as common,
};

/// A PostgreSQL with replicas, TLS and its own credentials.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Postgres",
    plural = "postgreses",
    shortname = "pg",
    category = "mainstay",
    namespaced,
    status = "PostgresStatus",
    derive = "PartialEq",
    doc = "A PostgreSQL with replicas, TLS and its own credentials.",
    selectable = ".spec.version",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether a client's round trip succeeds."
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        json_path = ".status.primary",
        description = "The instance that takes writes."
    ),
    printcolumn(
        name = "Instances",
        type_ = "string",
        json_path = ".status.ready",
        description = "Ready instances and wanted ones."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "Version that the primary runs."
    ),
    printcolumn(
        name = "Waiting",
        type_ = "string",
        json_path = ".status.waiting",
        description = "What waits, and for what."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = common::name(),
    validation = backup::rules::not_on_own_data(&["backup"]),
    validation = backup::rules::not_on_own_data(&["bootstrap", "recovery"])
)]
#[x_kube(
    validation = rules::quorum(),
    validation = rules::enforcement(),
    validation = rules::asynchronous(),
    validation = pooler::replicas(),
    validation = rules::synchronous_commit(),
    validation = rules::known_parameters(),
    validation = rules::parameters_of_the_version(),
    validation = rules::application_is_fixed(),
    validation = rules::incrementals(),
    validation = rules::checks(),
    validation = backup::rules::bootstrap_is_fixed(),
    validation = backup::rules::final_backup()
)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSpec {
    /// Major version of PostgreSQL, for example `"17"`. The operator's image catalogue holds the
    /// image of each; `image` overrides it.
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::version(), validation = rules::version_back(), validation = rules::version_up())]
    pub version: String,
    /// Number of instances: one primary, the others replicas. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::instances())]
    pub instances: Option<i32>,
    /// Image to run instead of the catalogue's. It must hold the same major version; never `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = common::image())]
    pub image: Option<String>,
    /// Names of Secrets with registry credentials for `image`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 253)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = common::pull_secrets())]
    pub image_pull_secrets: Vec<String>,
    /// Size of each instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// PostgreSQL's own parameters by their own names. Those that Mainstay manages are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameter_map")]
    pub parameters: BTreeMap<String, String>,
    /// The volume of each instance.
    pub storage: Storage,
    /// When a write is acknowledged. Default: `quorum` from three instances, else `async`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// How `durability: quorum` is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// How `durability: async` is kept.
    #[serde(default, rename = "async", skip_serializing_if = "Option::is_none")]
    pub asynchronous: Option<Asynchronous>,
    /// What becomes of an instance whose data has parted from the primary's. Default: `Rewind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoin: Option<Rejoin>,
    /// Where instances run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// A connection pooler in pods of its own. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<Pooler>,
    /// When instances may be disturbed. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Backups, and the archive of the log, by which any moment can be recovered. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backups>,
    /// What the first data is made from. Default: it is empty. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What happens when the resource is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// The application's database and owner. Default: both are called `app`. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,
}

/// The application's database, made when the set is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Application {
    /// Name of the database. Default: `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::database())]
    pub database: Option<String>,
    /// Name of the role that owns it. Default: `app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::owner())]
    pub owner: Option<String>,
}

/// Schema of `parameters`.
fn parameter_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 1024 },
        "maxProperties": 128,
        "x-kubernetes-validations": rules::of_parameters(),
    })
}

impl PostgresSpec {
    /// Number of instances: 1 unless said.
    pub fn instances(&self) -> i32 {
        self.instances.unwrap_or(1)
    }

    /// Name of the application's database: `app` unless said.
    pub fn database(&self) -> &str {
        self.application
            .as_ref()
            .and_then(|a| a.database.as_deref())
            .unwrap_or("app")
    }

    /// Name of the role that owns the application's database: `app` unless said.
    pub fn owner(&self) -> &str {
        self.application
            .as_ref()
            .and_then(|a| a.owner.as_deref())
            .unwrap_or("app")
    }
}

/// A PostgreSQL as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled` (meanings as in kstatus), `Degraded`, `StorageHealthy`,
    /// `CertificatesValid`, `BackupHealthy` where there are backups, and `RecoveryProven` where there are drills.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
    pub conditions: Vec<Condition>,
    /// Where clients connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The connection pooler, where one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<PoolerStatus>,
    /// The Secret that an application mounts to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Full version that the primary runs, for example `17.12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Image in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name of the primary instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Ready instances and wanted ones, for example `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// PostgreSQL's system identifier. A set that has one is never initialised again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// What an acknowledged write survives right now, as configured in the running primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// What becomes of a write that is acknowledged now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// Settings of roles and databases by which what is acknowledged to them is worth less than
    /// `durability` says, at most 16. The primary is asked every half minute.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub weakened: Vec<Weakened>,
    /// Each instance.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "maxItems" = 64))]
    pub instances: Vec<InstanceStatus>,
    /// What can be lost right now with the database going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survives: Option<Survives>,
    /// What can be recovered, where there are backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    /// Certificates as served.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "maxItems" = 64))]
    pub certificates: Vec<CertificateStatus>,
    /// Changes that are asked for and not made yet, in words.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub pending_changes: Vec<String>,
    /// What waits, and for what.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub waiting_for: Vec<WaitingFor>,
    /// The first of `waitingFor` in a few words, for `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}
