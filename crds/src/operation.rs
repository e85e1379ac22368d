//! `kind: Operation`: something that is done once, with a beginning and an end.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::common::Target;
use crate::common::backup::Repository;
use crate::common::{rules as common, sentences};

/// Shortest and longest `timeoutSeconds`.
pub const TIMEOUT: std::ops::RangeInclusive<i32> = 10..=86_400;
/// `timeoutSeconds` unless said.
pub const DEFAULT_TIMEOUT: i32 = 300;
/// Something that is done once to an add-on: for example another instance takes over as primary.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Operation",
    plural = "operations",
    category = "mainstay",
    namespaced,
    status = "OperationStatus",
    derive = "PartialEq",
    doc = "Something that is done once to an add-on: for example another instance takes over as primary.",
    selectable = ".spec.target.kind",
    selectable = ".spec.target.name",
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.target.name",
        description = "What it is done to."
    ),
    printcolumn(
        name = "Action",
        type_ = "string",
        json_path = ".spec.action",
        description = "What is done."
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = common::name()
)]
#[x_kube(
    validation = is_fixed(),
    validation = stays_cancelled(),
    validation = to_is_of_a_switchover(),
    validation = keys_are_named(),
    validation = is_confirmed(),
    validation = rotates_a_password(),
    validation = has_two_passwords(),
)]
#[serde(rename_all = "camelCase")]
pub struct OperationSpec {
    /// What it is done to, in the same namespace.
    pub target: Target,
    /// What is done.
    pub action: Action,
    /// Name of the instance that takes over in a `Switchover`. Default: the one that lacks least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = common::instance())]
    pub to: Option<String>,
    /// What a `DestroyKeys` destroys; it needs this block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_keys: Option<DestroyKeys>,
    /// Whose password a `RotatePassword` changes. Default: that of the target's own application, in the Secret `<name>-app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_password: Option<RotatePassword>,
    /// Seconds after which it is given up, from when the operator first saw it. A `Drill` is given up when it has not
    /// begun by then; how long it may take its own block says. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = timeout())]
    pub timeout_seconds: Option<i32>,
    /// Whether it is given up. What has begun in an instance may still go to its end; the status says
    /// what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Another instance takes over as primary, and the former one follows it.
    Switchover,
    /// A drill is made now: a backup is restored where nobody uses it, as `spec.backup.drill` of the target says.
    Drill,
    /// The keys of the backups of a set that was deleted are destroyed, for good: nothing brings them back.
    DestroyKeys,
    /// An application gets another password, and nobody who connects is refused for it: every instance knows the new one before
    /// the Secret that applications read has it, and the one before is taken for an hour more.
    RotatePassword,
}

/// Whose password is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotatePassword {
    /// Name of the `Access` whose login it is. Default: the login that the target has by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub access: Option<String>,
}

/// Which keys are destroyed, and what stays.
///
/// The set has been deleted. Its Secret `<name>-backup-keys` is deleted, and before that the copies of the keys in the
/// repository that are encrypted to escrow recipients. Backups are encrypted to escrow recipients as well, each of them:
/// whoever holds an escrow key reads them also afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestroyKeys {
    /// The name of the set once more, so that no other one is meant.
    #[schemars(length(max = 63))]
    pub confirm: String,
    /// Where its backups are, as `spec.backup.repository` had it. Default of `prefix`: `<namespace>/<name>`.
    pub repository: Repository,
    /// Whether it is done although whoever holds an escrow key reads the backups afterwards. Default: false, and
    /// where backups were made for escrow recipients nothing is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow_stays: Option<bool>,
}

impl OperationSpec {
    /// Seconds after which it is given up.
    pub fn timeout_seconds(&self) -> i32 {
        self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.unwrap_or(false)
    }
}

/// An operation as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Reconciling` while it goes on, `Stalled` when it has failed (meanings as in kstatus).
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<OperationPhase>,
    /// What it waits for, or what came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was when it began: written before anything is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Beginning>,
    /// What a `DestroyKeys` destroys, and has destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<DestroyedKeys>,
    /// How far a `RotatePassword` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotatedPassword>,
}

/// How far a password is changed. Each step is written down before it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotatedPassword {
    /// Name of the Secret that the application reads. It changes last.
    pub secret: String,
    /// Uid of the `Access`, where there is one: one of the same name that is made later is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_uid: Option<String>,
    /// When every instance was seen to know the new password: the Secret is written from then on, whatever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<Time>,
    /// Uid of the Secret with the new password that they knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming_uid: Option<String>,
}

/// Keys that are destroyed. What is destroyed is written down before anything is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestroyedKeys {
    /// Name of the Secret.
    pub secret: String,
    /// Its uid.
    pub secret_uid: String,
    /// Public parts of the keys: what is encrypted to these alone nobody opens any more.
    #[schemars(length(max = 256))]
    pub recipients: Vec<String>,
    /// Where the backups are.
    pub repository: String,
    /// What came of the repository; none as long as nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// When it was seen that the Secret is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_gone_at: Option<Time>,
    /// Claims of volumes of the set that were there still: the data itself is on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volumes: Vec<String>,
}

/// Copies of the keys in a repository, encrypted to escrow recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Copies {
    /// When they were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// How many were removed, by the pod that told so last.
    pub removed: i32,
    /// Those that could not be: a lock of the bucket keeps them. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub kept: Vec<KeptCopy>,
    /// How many backups of these keys are in the repository.
    pub backups: i32,
    /// Public parts of other keys, which open backups or copies: escrow recipients. At most 8, and that there are such
    /// as no backup names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub others: Vec<String>,
}

/// A copy that is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptCopy {
    /// Its key in the store, below the prefix.
    pub key: String,
    /// Until when; left out: for as long as somebody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// What was when a hand-over began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beginning {
    /// Instance that was primary.
    pub primary: String,
    /// Under which epoch.
    pub epoch: i64,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// It has not begun; the message says what it waits for.
    #[default]
    Pending,
    /// It has begun.
    Running,
    /// It is done.
    Succeeded,
    /// It was not done; the message says why.
    Failed,
    /// It was cancelled before it was done.
    Cancelled,
}

impl OperationPhase {
    /// Whether nothing more comes of it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

fn timeout() -> Rule {
    Rule::new(format!(
        "self >= {} && self <= {}",
        TIMEOUT.start(),
        TIMEOUT.end()
    ))
    .message(sentences::TIMEOUT)
}

/// What is done, and to what, stays.
fn is_fixed() -> Rule {
    Rule::new(
        "self.target == oldSelf.target && self.action == oldSelf.action && \
         has(self.to) == has(oldSelf.to) && (!has(self.to) || self.to == oldSelf.to) && \
         has(self.destroyKeys) == has(oldSelf.destroyKeys) && \
         (!has(self.destroyKeys) || self.destroyKeys == oldSelf.destroyKeys) && \
         has(self.rotatePassword) == has(oldSelf.rotatePassword) && \
         (!has(self.rotatePassword) || self.rotatePassword == oldSelf.rotatePassword)",
    )
    .message(sentences::OPERATION_CHANGES)
}

/// Nobody takes over but in a switchover.
fn to_is_of_a_switchover() -> Rule {
    Rule::new("self.action == 'Switchover' || !has(self.to)")
        .message(sentences::NOBODY_TAKES_OVER)
        .field_path(".to")
}

/// What is destroyed is said, and in no other operation.
fn keys_are_named() -> Rule {
    Rule::new("(self.action == 'DestroyKeys') == has(self.destroyKeys)")
        .message(sentences::KEYS_ARE_NAMED)
        .field_path(".destroyKeys")
}

/// Nothing is destroyed by mistake.
fn is_confirmed() -> Rule {
    Rule::new("!has(self.destroyKeys) || self.destroyKeys.confirm == self.target.name")
        .message(sentences::CONFIRM)
        .field_path(".destroyKeys.confirm")
}

/// Whose password it is is said in no other operation.
fn rotates_a_password() -> Rule {
    Rule::new("self.action == 'RotatePassword' || !has(self.rotatePassword)")
        .message(sentences::NO_PASSWORD)
        .field_path(".rotatePassword")
}

/// Two passwords of a login are valid at once, or no change of one is without a refusal.
fn has_two_passwords() -> Rule {
    Rule::new("self.action != 'RotatePassword' || self.target.kind != 'Postgres'")
        .message(sentences::ONE_PASSWORD)
        .field_path(".action")
}

/// A cancellation cannot be taken back.
fn stays_cancelled() -> Rule {
    Rule::new("!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)")
        .message(sentences::CANCELLED)
}
