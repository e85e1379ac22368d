//! `kind: Redis`.

pub mod parameters;
pub mod rules;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::common::{
    Backups, Bootstrap, CertificateStatus, Deletion, Endpoints, InstanceStatus, Maintenance,
    Network, Placement, RecoveryStatus, Resources, SecretRef, Storage, Survives, Tls, WaitingFor,
    backup, rules as common,
};

/// A Redis or Valkey with replicas, TLS and its own credentials.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Redis",
    plural = "redises",
    shortname = "rd",
    category = "mainstay",
    namespaced,
    status = "RedisStatus",
    derive = "PartialEq",
    doc = "A Redis or Valkey with replicas, TLS and its own credentials.",
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
    validation = rules::engine_is_fixed(),
    validation = rules::mode_is_fixed(),
    validation = rules::shards(),
    validation = rules::only_in_clusters(),
    validation = rules::not_in_clusters(),
    validation = rules::kept_in_clusters(),
    validation = rules::one_database(),
    validation = rules::version(),
    validation = rules::bounded(),
    validation = rules::bounded_block(),
    validation = rules::min_replicas(),
    validation = rules::none_with_replicas(),
    validation = rules::parameters_of_the_version(&parameters::LACKING[0]),
    validation = rules::parameters_of_the_version(&parameters::LACKING[1]),
    validation = rules::appendfsync(),
    validation = rules::save(),
    validation = rules::no_incrementals(),
    validation = rules::no_log_to_give_way(),
    validation = rules::no_seeds(),
    validation = rules::checks(),
    validation = rules::checks_of_one_database(),
    validation = rules::checks_of_keys(),
    validation = rules::no_moments(),
    validation = rules::backups_of_what_is_kept(),
    validation = rules::made_from_what_is_kept(),
    validation = backup::rules::bootstrap_is_fixed(),
    validation = backup::rules::final_backup()
)]
#[serde(rename_all = "camelCase")]
pub struct RedisSpec {
    /// Whose program it is: `Redis` or `Valkey`. Default: `Redis`. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::engine())]
    pub engine: Option<String>,
    /// Version, for example `"8.0"`. The operator's image catalogue holds the image of each; `image` overrides it. It may
    /// be changed for a newer one: replicas are replaced first, then the primary hands over. From then on a lower one is
    /// `Stalled`, since it would not read the data.
    #[schemars(length(max = 16))]
    pub version: String,
    /// How instances belong together. Default: `Replication`, one primary and replicas of it. `Cluster`: shards of a primary
    /// and replicas each, which own a part of the keys; clients speak the cluster's own protocol. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::mode())]
    pub mode: Option<String>,
    /// Number of instances: one primary, the others replicas. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::instances())]
    pub instances: Option<i32>,
    /// With `mode: Cluster`: among how many shards the keys are divided, from 3 on. Slots move when it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<i32>,
    /// With `mode: Cluster`: replicas of each shard. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::replicas())]
    pub replicas: Option<i32>,
    /// Image to run instead of the catalogue's. It must hold the same version; never `latest`.
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
    /// Size of each instance. Of its memory, data may take what is left after 64 MiB for the agent: three quarters of
    /// it, so that a fork has room; nine tenths without persistence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What is done when data has taken all memory that it may, in Redis' own words. Default: `noeviction`, writes are
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::policy())]
    pub maxmemory_policy: Option<String>,
    /// Redis' own parameters by their own names. Those that Mainstay manages are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameter_map")]
    pub parameters: BTreeMap<String, String>,
    /// The volume of each instance.
    pub storage: Storage,
    /// What is on the volume. Default: `aof`, every write, synced once in a second (`parameters: {appendfsync: always}`:
    /// before each is answered). `rdb`: a snapshot now and then. `none`: nothing, for a cache of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::persistence())]
    pub persistence: Option<String>,
    /// When a write is taken. `async`: always. `bounded`: while enough replicas were heard of lately, so that what is
    /// lost with a primary is bounded in time. Default: `bounded` from three instances, else `async`. Either way it is
    /// answered before replicas have it; `WAIT` tells whether they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::durability())]
    pub durability: Option<String>,
    /// How `durability: bounded` is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded: Option<Bounded>,
    /// Backups, each of the whole dataset, in a repository of the set's own. There is no log between them: `onFull`,
    /// `schedule.incrementals` and `seedReplicas` are refused. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backups>,
    /// What the first data is made from. It cannot be changed, and does nothing once there is data. A moment
    /// (`recovery.target`) is refused: a backup is named by its id, or the newest is taken. Default: it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// An endpoint for clients that speak the Sentinel protocol: `{}` switches it on. Default: none. The instances' agents
    /// answer on port 26379, over TLS, with the logins of the data port. It is no Sentinel: there is no such process, and it
    /// has no vote; the agents elect the primary, and tell who it is. Secrets of applications have `sentinel-host`,
    /// `sentinel-port` and `sentinel-master` then. Clients without a Sentinel's protocol need none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<Sentinel>,
    /// Where instances run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// When instances may be disturbed. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// What happens when the resource is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

/// How `durability: bounded` is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bounded {
    /// Replicas without which a primary takes no write. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas_to_write: Option<i32>,
    /// Seconds since one was heard of, after which it does not count. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::max_lag())]
    pub max_lag_seconds: Option<i32>,
}

/// The endpoint for clients that speak the Sentinel protocol. Nothing about it is to be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Sentinel {}

/// Schema of `parameters`.
fn parameter_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 1024 },
        "maxProperties": 64,
        "x-kubernetes-validations": rules::of_parameters(),
    })
}

impl RedisSpec {
    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        self.mode.as_deref() == Some("Cluster")
    }

    /// Replicas of each shard of a cluster: 1 unless said.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    /// Number of instances: 1 unless said; of a cluster all members of all shards.
    pub fn instances(&self) -> i32 {
        if self.is_cluster() {
            let each = self.replicas().saturating_add(1);
            return self.shards.unwrap_or(0).saturating_mul(each);
        }
        self.instances.unwrap_or(1)
    }
}

/// A Redis as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisStatus {
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
    /// The Secret that an application mounts to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Full version that the primary runs, for example `8.0.2`.
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
    /// Identifier of the set's data. A set that has one is never begun empty again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// Within which bound writes can be lost with the primary; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// Of a cluster: its shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// Each instance.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "maxItems" = 64))]
    pub instances: Vec<InstanceStatus>,
    /// What can be lost right now with the set going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survives: Option<Survives>,
    /// What can be recovered, where there are backups: `latest` is the moment of the newest one.
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

/// Within which bound writes can be lost with the primary, with `durability: bounded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// A primary takes no write while fewer replicas were heard of.
    pub replicas: i32,
    /// Within these seconds.
    pub seconds: i32,
}

/// A cluster as its members describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Every slot has had an owner once. From then on a slot without one is a loss, which is said and not mended.
    #[serde(default)]
    pub formed: bool,
    /// Slots, of 16384, that have an owner which answers.
    #[serde(default)]
    pub slots: i32,
    /// Slots that are still to move to another shard.
    #[serde(default)]
    pub slots_to_move: i32,
    /// Each shard.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub shards: Vec<ShardStatus>,
}

/// A shard of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// Instance that takes its writes.
    pub primary: String,
    /// Instances that follow it.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub replicas: Vec<String>,
    /// How many slots it owns.
    #[serde(default)]
    pub slots: i32,
}
