//! The parts of a status that are the same for every add-on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where clients connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// `host:port` that takes reads and writes.
    pub primary: String,
    /// `host:port` that takes reads, from replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<String>,
}

/// The Secret that an application mounts to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of the resource.
    pub name: String,
}

/// What an instance does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InstanceRole {
    /// It takes writes.
    Primary,
    /// It follows the primary.
    Replica,
    /// Not known: it does not answer.
    #[default]
    Unknown,
}

/// One instance as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Name of the instance: its pod and its volume claim bear it.
    pub name: String,
    /// Node it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Zone of that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What it does now.
    pub role: InstanceRole,
    /// Whether it serves: a primary takes connections, a replica streams.
    pub ready: bool,
    /// In words what it is doing when it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Bytes of the primary's log that it has not replayed yet, rounded down to whole MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_mi_b: Option<i64>,
    /// Full version of the engine that it runs, for example `17.6`: while another version comes, instances differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Revision of the pod template it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The program of its agent: the first 12 digits of its SHA-256, the same in all instances once an
    /// upgrade of the operator is through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// What can be lost right now with the add-on going on, computed from what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survives {
    /// Whether any one node can be lost.
    pub node: bool,
    /// Whether any one zone can be lost.
    pub zone: bool,
    /// Why not, when one of them cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The largest part of the cluster that can be lost, whichever it is, with no acknowledged write lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outlives {
    /// None: the primary alone may have it.
    #[default]
    Nothing,
    /// Any one node.
    Node,
    /// Any one zone.
    Zone,
}

/// A write from the moment it is acknowledged, by what the primary does now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// What can be lost without it.
    pub outlives: Outlives,
    /// So many replicas have it on disk as well.
    pub replicas: i32,
    /// Of these instances.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub of: Vec<String>,
    /// Bytes of the log that the replica which has most may lack before writes wait for it, with
    /// `durability: async` and `async.maxLagBytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag_bytes: Option<i64>,
}

/// A setting of a role, a database, or one in the other, by which what is acknowledged is worth less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weakened {
    /// The role; left out: every role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The database; left out: every database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Name of the setting, for example `synchronous_commit`.
    pub setting: String,
    /// Its value.
    pub value: String,
}

/// A certificate as served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Instance that serves it.
    pub name: String,
    /// Serial number as served, in hexadecimal.
    pub served_serial: String,
    /// When it ends.
    pub not_after: Time,
}

/// Something that waits, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingFor {
    /// The step that waits, for example `restart db-2`.
    pub step: String,
    /// Name of the rule that holds it back, for example `primary_last`.
    pub predicate: String,
    /// The rule's reason in a sentence.
    pub reason: String,
    /// Since when.
    pub since: Time,
}
