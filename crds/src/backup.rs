//! `kind: Backup`: a backup of an add-on, made once.

#![allow(
    clippy::duplicated_attributes,
    reason = "each column says what type it has"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Target;
use crate::common::backup::rules;
use crate::common::sentences;

/// Shortest and longest `timeoutSeconds`.
pub const TIMEOUT: std::ops::RangeInclusive<i32> = 60..=604_800;
/// `timeoutSeconds` unless said.
pub const DEFAULT_TIMEOUT: i32 = 43_200;

/// A backup of an add-on into its repository (`spec.backup`), made once: on demand by whoever makes this
/// object, or by the schedule.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    category = "mainstay",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    doc = "A backup of an add-on into its repository, made once: on demand, or by the schedule. Deleting this object deletes no backup: that is retention's.",
    selectable = ".spec.target.kind",
    selectable = ".spec.target.name",
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.target.name",
        description = "What it is a backup of."
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How far it is."
    ),
    printcolumn(
        name = "Done",
        type_ = "string",
        json_path = ".status.progress",
        description = "How much of it is stored."
    ),
    printcolumn(
        name = "Kind",
        type_ = "string",
        json_path = ".status.kind",
        description = "Whether it is full, or holds only changes."
    ),
    printcolumn(
        name = "Size",
        type_ = "string",
        json_path = ".status.size",
        description = "How large it is as stored."
    ),
    printcolumn(
        name = "From",
        type_ = "string",
        json_path = ".status.instance",
        description = "The instance that it is made from."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What it waits for, or what came of it."
    ),
    printcolumn(
        name = "Id",
        type_ = "string",
        json_path = ".status.backupId",
        description = "Its id in the repository.",
        priority = 1
    )
)]
#[x_kube(validation = is_fixed(), validation = stays_cancelled())]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// What it is a backup of, in the same namespace. It needs `spec.backup`.
    pub target: Target,
    /// Whether it holds only the changes since the newest backup, where the engine can do that: what it
    /// cannot is made as a full one. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<bool>,
    /// Seconds after which it is given up, retries included, from when the operator first saw it.
    /// Default: 43200 (12 hours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = timeout())]
    pub timeout_seconds: Option<i32>,
    /// Whether it is given up. What it has stored by then is no backup, and is removed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

impl BackupSpec {
    /// Seconds after which it is given up.
    pub fn timeout_seconds(&self) -> i32 {
        self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.unwrap_or(false)
    }

    /// Whether it is to hold only changes.
    pub fn is_incremental(&self) -> bool {
        self.incremental.unwrap_or(false)
    }
}

/// A backup as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Reconciling` while it goes on, `Stalled` when it has failed (meanings as in kstatus).
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// What it waits for, or what came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How often it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    /// The attempt that goes on, or was the last: written before anything is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The instance that it is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How much of it is stored, for `kubectl get`, for example `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Bytes that are stored by now, of what it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Bytes of what it holds, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// Bytes that are stored in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<i64>,
    /// `Full` or `Incremental`, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Where it is, once it is done, for example `s3://bucket/shop/db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Its id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The backup that it holds the changes since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it was begun, by the instance's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Time>,
    /// When it was complete, by the instance's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// The moment whose state it is, of an engine that keeps no log besides its backups: nothing after that is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_at: Option<Time>,
    /// Bytes as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<i64>,
    /// The same for `kubectl get`, for example `1.4 GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// One time that a backup is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Under which name the instance was asked.
    pub order: String,
    /// Name of the instance.
    pub instance: String,
    /// Uid of its pod.
    pub pod_uid: String,
    /// Since when it does not answer, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Time>,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// It has not begun, or waits to be tried again; the message says why.
    #[default]
    Pending,
    /// It is being made.
    Running,
    /// It is in the repository.
    Succeeded,
    /// It was not made; the message says why.
    Failed,
    /// It was cancelled before it was done.
    Cancelled,
    /// It was made, and has been removed from the repository since.
    Expired,
}

impl BackupPhase {
    /// Whether nothing more is done for it.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

fn timeout() -> Rule {
    Rule::new(format!(
        "self >= {} && self <= {}",
        TIMEOUT.start(),
        TIMEOUT.end()
    ))
    .message(rules::TIMEOUT)
}

/// What it is a backup of, and how, stays.
fn is_fixed() -> Rule {
    Rule::new(
        "self.target == oldSelf.target && \
         (has(self.incremental) && self.incremental) == (has(oldSelf.incremental) && oldSelf.incremental)",
    )
    .message(rules::BACKUP_CHANGES)
}

/// A cancellation cannot be taken back.
fn stays_cancelled() -> Rule {
    Rule::new("!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)")
        .message(sentences::CANCELLED)
}
