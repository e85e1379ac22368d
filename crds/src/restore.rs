//! `kind: Restore`: an add-on goes back in time where it is, and its volumes from before are kept.

#![allow(
    clippy::duplicated_attributes,
    reason = "each column says what type it has"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::backup::{RecoveryTarget, rules};
use crate::common::{Target, rules as common, sentences};

/// Shortest and longest `timeoutSeconds`.
pub const TIMEOUT: std::ops::RangeInclusive<i32> = 10..=86_400;
/// `timeoutSeconds` unless said.
pub const DEFAULT_TIMEOUT: i32 = 600;

/// An add-on goes back to a moment in place: same name, same Services, same Secret. All of it is stopped, new
/// volumes are made from its repository, and the volumes from before are kept until `confirm`, or used again with
/// `revert`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    category = "mainstay",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "An add-on goes back to a moment in place. The volumes from before are kept until spec.confirm, or used again with spec.revert. Deleting this object deletes no data.",
    selectable = ".spec.target.kind",
    selectable = ".spec.target.name",
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.target.name",
        description = "What goes back."
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "How far it is."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What it waits for, or what came of it."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = common::name()
)]
#[x_kube(validation = is_fixed(), validation = stays("cancel"), validation = stays("confirm"), validation = stays("revert"))]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// What goes back, in the same namespace. It needs `spec.backup`, whose repository is read.
    pub target: Target,
    /// To which moment. Default: the latest that the repository has. Of an engine that keeps no log (Redis) `time` alone:
    /// the newest backup from before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<RecoveryTarget>,
    /// Id of the backup to begin with (`status.backupId` of a `Backup`). Default: the newest from before the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::backup_id())]
    pub backup: Option<String>,
    /// Seconds after which it is given up if it has not begun by then, from when the operator first saw it: nothing
    /// is stopped hours later because something is well again. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = timeout())]
    pub timeout_seconds: Option<i32>,
    /// Whether it is given up before it begins. Once the instances are being stopped only `revert` goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Whether what came of it is good: then the volumes that are kept are deleted. After a `revert` these are the
    /// restored ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<bool>,
    /// Whether the volumes from before are used again. It can be done once, until they are deleted; what was
    /// written since the restore stays on the restored volumes, which are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<bool>,
}

impl RestoreSpec {
    /// Seconds after which it is given up if it has not begun.
    pub fn timeout_seconds(&self) -> i32 {
        self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.unwrap_or(false)
    }

    /// Whether what is kept is not needed any more.
    pub fn is_confirmed(&self) -> bool {
        self.confirm.unwrap_or(false)
    }

    /// Whether the volumes from before are to be used again.
    pub fn is_reverted(&self) -> bool {
        self.revert.unwrap_or(false)
    }
}

/// A restore as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Reconciling` while it goes on, `Stalled` when it needs a person (meanings as in kstatus).
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// What it waits for, or what came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the instances began to be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// When the restored data served first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Time>,
    /// When nothing more was to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was before: written before anything is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Before>,
    /// Name of the instance that is made from the repository; the others are copied from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// In words what the restore reached, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// Highest epoch of the set that is known: what comes after is above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Highest number of a history of its data that is known, the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
}

/// What was before a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Instance that was primary.
    pub primary: String,
    /// Instances whose volumes are kept.
    #[schemars(length(max = 99), inner(length(max = 63)))]
    pub instances: Vec<String>,
    /// The id by which the set owns its repository: the restored data has it too.
    pub owner: String,
    /// Up to here everything that was committed was in the repository; where no log is kept, the moment of the newest
    /// backup. What was committed later, until the
    /// instances had stopped, may be on the volumes from before alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_until: Option<Time>,
}

/// How far a restore is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RestorePhase {
    /// It has not begun; the message says what it waits for.
    #[default]
    Pending,
    /// All instances are being stopped, and their volumes set aside.
    Stopping,
    /// The first instance is being made from the repository.
    Restoring,
    /// The restored data serves; the volumes from before are kept, and wait for `confirm` or `revert`.
    Restored,
    /// It is over: the volumes from before are deleted.
    Confirmed,
    /// All instances are being stopped, and the volumes from before put in place again.
    Reverting,
    /// The volumes from before are in use again; the restored ones are kept until `confirm`.
    Reverted,
    /// Nothing was done; the message says why.
    Failed,
    /// It was given up before anything was done.
    Cancelled,
}

impl RestorePhase {
    /// Whether the set is between two states of its data: nothing else decides about its instances.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Stopping | Self::Restoring | Self::Reverting)
    }

    /// Whether nothing more comes of it, whatever is asked for.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed | Self::Cancelled)
    }
}

fn timeout() -> Rule {
    Rule::new(format!(
        "self >= {} && self <= {}",
        TIMEOUT.start(),
        TIMEOUT.end()
    ))
    .message(sentences::RESTORE_TIMEOUT)
}

/// What goes back, and to where, stays.
fn is_fixed() -> Rule {
    let same = |field: &str| {
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        )
    };
    Rule::new(format!(
        "self.target == oldSelf.target && {} && {}",
        same("moment"),
        same("backup")
    ))
    .message(sentences::RESTORE_CHANGES)
}

/// What was said is not taken back.
fn stays(field: &str) -> Rule {
    Rule::new(format!(
        "!(has(oldSelf.{field}) && oldSelf.{field}) || (has(self.{field}) && self.{field})"
    ))
    .message(sentences::RESTORE_SAID)
    .field_path(format!(".{field}"))
}
