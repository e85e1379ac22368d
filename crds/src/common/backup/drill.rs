//! Drills: restores into an instance that nobody uses, which prove that backups can be restored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{checks, rules};
use crate::common::Resources;

/// Drills that a status tells of.
pub const KEPT: usize = 10;
/// `timeoutSeconds` unless said: four hours.
const TIMEOUT: i32 = 14_400;

/// An instance that nobody uses, restored from the repository again and again, and looked at as a user would.
/// It has a pod and a volume of its own, which nothing reaches, and which are removed afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Five fields as cron has them, in UTC. Default: once a week, at a time that differs from set to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::drill_cron())]
    pub schedule: Option<String>,
    /// Which moment is recovered. Default: `Latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<DrillTarget>,
    /// What must hold of the restored data, besides what every drill looks at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub checks: Vec<Check>,
    /// Size of the restored instance. Default: that of the set's instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Whether pod and volume of a drill that failed stay until the next one is due, or somebody deletes the
    /// pod. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_on_failure: Option<bool>,
    /// Seconds that a drill may take once it has room, after which it has failed. Default: 14400, four hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::drill_timeout())]
    pub timeout_seconds: Option<i32>,
}

impl Drill {
    /// Seconds that a drill may take.
    pub fn timeout_seconds(&self) -> i32 {
        self.timeout_seconds.unwrap_or(TIMEOUT)
    }
}

/// Which moment a drill recovers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrillTarget {
    /// The latest that the repository has.
    #[default]
    Latest,
    /// Any moment that can be recovered, another one in each drill.
    Random,
}

/// Something that must hold of the restored data. `sql` is of a `Postgres`; `keys`, `key` and `command` are of a
/// `Redis`. Exactly one of them is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = checks::one(),
    validation = checks::type_of_a_key(),
    validation = checks::database_of_keys(),
    validation = checks::expect_of_an_answer()
)]
pub struct Check {
    /// One statement that returns a row, for example `select count(*) > 0 from orders`. It is run by the owner of the
    /// application's database, and may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = rules::sql())]
    pub sql: Option<String>,
    /// How many keys there are, in `database` or, where that is left out, in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyCount>,
    /// A key that is there, with `type` of that type, with `expect` a string of that value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = checks::key())]
    pub key: Option<String>,
    /// Type of `key` in Redis' words: `hash`, `list`, `set`, `stream`, `string` or `zset`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = checks::kind())]
    pub kind: Option<String>,
    /// A command that only reads, word by word, for example `[HGET, "orders:1", state]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    #[x_kube(validation = checks::command())]
    pub command: Vec<String>,
    /// Number of the database in which `keys`, `key` or `command` look. Default: 0, and for `keys` all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = checks::database())]
    pub database: Option<i32>,
    /// What is answered, as text: of `sql` the first value of the first row, of `key` its value, of `command` a number, a
    /// text, or the items of a list with a line for each. Default: true, or a number other than zero; of `key`: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub expect: Option<String>,
}

/// How many keys there are. At least one of the fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = checks::count())]
pub struct KeyCount {
    /// No fewer than so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
    /// No more than so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<i64>,
}

/// What a drill came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrillResult {
    /// Everything was restored, and every check holds.
    Passed,
    /// It was not restored, or a check does not hold; the message says why.
    Failed,
    /// It was not made, so it says nothing of the backups; the message says why.
    #[default]
    Skipped,
}

/// A drill that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillRecord {
    /// When it was due.
    pub due: Time,
    /// When it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Time>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// What it came to.
    pub result: DrillResult,
    /// In a sentence what holds, or what does not.
    pub message: String,
    /// Id of the backup that was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Public part of the key that opened it; left out where it was not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// History that the data had, for PostgreSQL the timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// The moment that was asked for; left out: the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Time>,
    /// Where recovery ended, for PostgreSQL a position in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// When the newest commit that was recovered was made; where there is no log, the moment of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Time>,
    /// Seconds from that commit to the moment that was asked for, or to the beginning of the drill: the
    /// recovery point as measured. Left out where no commit of after the backup is stored yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_seconds: Option<i64>,
    /// Seconds from the beginning of the restore until the restored instance answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_seconds: Option<i64>,
    /// Bytes that were restored, as they were before they were stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// How many checks there were, those that every drill makes as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<i32>,
    /// Checks that do not hold, and what was found, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub failed: Vec<String>,
}
