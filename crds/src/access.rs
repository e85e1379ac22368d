//! `kind: Access`: a login of its own for one application, with no more rights than it needs.

#![allow(
    clippy::duplicated_attributes,
    reason = "each column says what type it has"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::cel::list;
use crate::common::{SecretRef, Target, rules as common};

/// Kinds whose operators make logins.
pub const KINDS: &[&str] = &["Redis"];
/// Most patterns of one list.
pub const MOST_PATTERNS: usize = 32;
/// Longest pattern, in bytes.
pub const LONGEST_PATTERN: usize = 256;
/// Names that sets use themselves: of logins.
pub const RESERVED: &[&str] = &["app", "default"];
/// Names that sets use themselves: ends of the names of Secrets.
pub const RESERVED_ENDS: &[&str] = &["-access", "-app", "-backup-keys", "-internal", "-tls"];
/// Redis' categories of commands that an application may be given. What concerns the server (`admin`, `dangerous`) is in
/// none that anybody is given.
pub const CATEGORIES: &[&str] = &[
    "bitmap",
    "blocking",
    "fast",
    "geo",
    "hash",
    "hyperloglog",
    "keyspace",
    "list",
    "pubsub",
    "read",
    "scripting",
    "set",
    "slow",
    "sortedset",
    "stream",
    "string",
    "transaction",
    "write",
];

/// Of a name that a set uses.
pub const NAME: &str = "metadata.name is the name of the login and of its Secret, and sets use this one themselves: write another that \
     is not app or default and does not end in -access, -app, -backup-keys, -internal or -tls";
/// Of `target.kind`.
pub const TARGET: &str = "there are logins of kind Redis alone: write Redis; the application of a Postgres has the Secret <name>-app";
/// Of another target.
pub const TARGET_CHANGES: &str = "a login stays where it was made: make another one under another name, and delete this one when \
     nobody uses it any more";
/// Of a `Redis` without what it may do.
pub const GRANTS: &str = "say what it may do: write redis with keys, readOnlyKeys or channels, for example redis: {keys: [\"orders:*\"]}";
/// Of a pattern.
pub const PATTERN: &str = "write patterns of 1 to 256 visible ASCII characters without spaces, for example orders:* for all keys that begin \
     with orders:";
/// Of a category.
pub const CATEGORY: &str = "write categories of commands among bitmap, blocking, fast, geo, hash, hyperloglog, keyspace, list, pubsub, read, \
     scripting, set, slow, sortedset, stream, string, transaction and write, without @, or leave categories out for all of them";

/// A login of its own for one application, with a Secret to connect.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "Access",
    plural = "accesses",
    category = "mainstay",
    namespaced,
    status = "AccessStatus",
    derive = "PartialEq",
    doc = "A login of its own for one application, with no more rights than it needs. The Secret of the same name says how to connect. Deleting this object ends the login and its connections.",
    selectable = ".spec.target.kind",
    selectable = ".spec.target.name",
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.target.name",
        description = "Where it logs in."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every instance that serves knows it."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What it waits for."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = common::name(),
    validation = is_free()
)]
#[x_kube(validation = is_of_a_kind(), validation = is_fixed(), validation = has_grants())]
#[serde(rename_all = "camelCase")]
pub struct AccessSpec {
    /// Where it logs in, in the same namespace. It cannot be changed.
    pub target: Target,
    /// What it may do there, of kind `Redis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisGrants>,
}

/// What a login may do in a Redis. It never may do anything with the server: no `CONFIG`, `ACL`, `SHUTDOWN`, `FLUSHALL`, `KEYS`
/// and the like. Names of keys are no secret: `SCAN` tells those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisGrants {
    /// Patterns of keys that it reads and writes, for example `orders:*`; `*` for every key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 256)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = patterns())]
    pub keys: Vec<String>,
    /// Patterns of keys that it only reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 256)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = patterns())]
    pub read_only_keys: Vec<String>,
    /// Patterns of channels on which it publishes and listens. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 256)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = patterns())]
    pub channels: Vec<String>,
    /// Categories of commands that it may use, in Redis' words without `@`: for example `read`, `write`, `pubsub`. Connecting is
    /// always among them. Default: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 32)),
        extend("x-kubernetes-list-type" = "set")
    )]
    #[x_kube(validation = categories())]
    pub categories: Vec<String>,
}

/// A login as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` when every instance that serves knows the login as it is; `Stalled` when it needs a person (meanings as in
    /// kstatus).
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
    pub conditions: Vec<Condition>,
    /// What it waits for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The login's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The Secret that says how to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Whether a name can be that of a login and its Secret.
pub fn is_free_name(name: &str) -> bool {
    !RESERVED.contains(&name) && !RESERVED_ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a pattern can stand in an access list.
pub fn is_pattern(pattern: &str) -> bool {
    (1..=LONGEST_PATTERN).contains(&pattern.len()) && pattern.bytes().all(|b| b.is_ascii_graphic())
}

/// The name is no set's.
fn is_free() -> Rule {
    let ends: Vec<String> = RESERVED_ENDS
        .iter()
        .map(|end| format!("self.metadata.name.endsWith('{end}')"))
        .collect();
    Rule::new(format!(
        "!(self.metadata.name in {} || {})",
        list(RESERVED),
        ends.join(" || ")
    ))
    .message(NAME)
}

/// The target makes logins.
fn is_of_a_kind() -> Rule {
    Rule::new(format!("self.target.kind in {}", list(KINDS)))
        .message(TARGET)
        .field_path(".target.kind")
}

/// It stays where it is.
fn is_fixed() -> Rule {
    Rule::new("self.target == oldSelf.target")
        .message(TARGET_CHANGES)
        .field_path(".target")
}

/// A login that may do nothing is a mistake.
fn has_grants() -> Rule {
    let some = |field: &str| format!("(has(self.redis.{field}) && self.redis.{field}.size() > 0)");
    Rule::new(format!(
        "has(self.redis) && ({} || {} || {})",
        some("keys"),
        some("readOnlyKeys"),
        some("channels")
    ))
    .message(GRANTS)
    .field_path(".redis")
}

fn patterns() -> Rule {
    Rule::new("self.all(p, p.matches('^[!-~]+$'))").message(PATTERN)
}

fn categories() -> Rule {
    Rule::new(format!("self.all(c, c in {})", list(CATEGORIES))).message(CATEGORY)
}
