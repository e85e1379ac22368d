//! The agents' HTTPS interface: paths, and what goes over them as JSON.
//!
//! Clients other than the kubelet's probes show a certificate of the set's authority.

use mainstay_crds::common::InstanceRole;
use serde::{Deserialize, Serialize};

/// Liveness for the kubelet; no client certificate needed.
pub const LIVEZ: &str = "/livez";
/// Readiness for the kubelet; no client certificate needed.
pub const READYZ: &str = "/readyz";
/// Metrics in the `OpenMetrics` text format.
pub const METRICS: &str = "/metrics";
/// GET: [`Status`]. With `?after=<sequence>&wait=<milliseconds>` it answers when the status has a
/// higher sequence number, or after the wait: so watching costs no polling. For the operator and other instances.
pub const STATUS: &str = "/v1/status";
/// POST [`Reload`]: wait until the mounted configuration has that hash, apply it, answer [`Status`].
pub const RELOAD: &str = "/v1/reload";
/// POST [`Restart`]: restart the engine in place, answer [`Status`] once it runs again.
pub const RESTART: &str = "/v1/restart";
/// POST [`HandOver`]: let another instance take over as primary, answer [`Status`] once it has.
pub const HAND_OVER: &str = "/v1/hand-over";
/// PUT with `?sha256=<of the whole>&offset=<bytes before>`: a piece of a program of the agent, of at
/// most [`super::program::PIECE`] bytes.
pub const PROGRAM: &str = "/v1/program";
/// POST [`Upgrade`]: go on with the program that came in pieces, beside the running engine. Answers
/// [`Status`] before that; the next process tells [`Status::program`], or [`Status::given_up`].
pub const UPGRADE: &str = "/v1/upgrade";

/// What an agent knows of its engine and of itself.
///
/// Guarantee: nothing here is a guess. What could not be read is absent or `Unknown`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Grows with every change of any other field, within one agent process.
    pub sequence: u64,
    /// Version of the agent's program.
    pub agent_version: String,
    /// The agent's program; none from agents that cannot be upgraded in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// A program that was tried out in this container and did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// It changes with every start of the agent and of the engine.
    pub nonce: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Name of the instance.
    pub instance: String,
    /// Phase of the engine.
    pub phase: Phase,
    /// In a sentence what is being done or waited for when the phase is not `Running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it does.
    pub role: InstanceRole,
    /// Whether it serves: a primary takes connections, a replica streams from the primary.
    pub ready: bool,
    /// Its engine has ended and is not started for some seconds yet, so that another instance can take over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
    /// Full version of the engine, for example `17.12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Identifier of the data, the same in every member of a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// Timeline (or the engine's like) that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// Position in the log, in bytes: written by a primary, replayed by a replica.
    /// It moves with every write, so a change of it alone does not raise the sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Bytes that a replica is behind, as the primary's stream last told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<u64>,
    /// Hash of the configuration that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// Names of settings that are set and take effect only at a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_restart: Vec<String>,
    /// On a replica: names of settings that are asked lower than its data allows as long as it has not
    /// received the primary's lower values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<String>,
    /// Whether one of those is lowered and is a limit that a replica must not have lower than its
    /// primary (for example `max_connections`): then the primary restarts before its replicas.
    #[serde(default)]
    pub restart_primary_first: bool,
    /// On a primary whose door is open to clients: the epoch under which it is. Of an engine that tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_epoch: Option<u64>,
    /// On a primary: replicas that stream from it now, by instance name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streaming: Vec<String>,
    /// On a primary: whether commits wait for a replica now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<bool>,
    /// On a primary: who acknowledges a write besides it now; none when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledging: Option<Acknowledging>,
    /// On a primary whose replicas may lack so much and not more: whether commits wait for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttling: Option<bool>,
    /// On a primary that takes no writes now: why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses_writes: Option<String>,
    /// On a primary: settings by which what is acknowledged to some is worth less than it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weakened: Vec<Weakened>,
    /// Hash ([`super::config::users_hash`]) of the logins that are in force, of an engine that tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_hash: Option<String>,
    /// Zone of its node, as far as it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Size and use of the data volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Serial number, in hexadecimal, of the certificate that the engine was last told to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<String>,
    /// The last error, with what can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Who acknowledges a write besides the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledging {
    /// So many must; 0: nobody.
    pub needed: u32,
    /// Of these instances.
    pub of: Vec<String>,
}

/// A setting of a role, a database or one in the other by which an acknowledgement is worth less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Weakened {
    /// The role; none: every role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The database; none: every database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Name of the setting.
    pub setting: String,
    /// Its value.
    pub value: String,
}

/// A program of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// For which processors it is, as in [`std::env::consts::ARCH`].
    pub architecture: String,
}

/// A program that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Why, in words.
    pub why: String,
}

/// Phase of the engine in one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The agent has started and has not looked yet.
    #[default]
    Starting,
    /// It waits for something that `message` names.
    Waiting,
    /// It makes the first data directory of the set.
    Initialising,
    /// It copies the primary's data.
    Cloning,
    /// The engine starts or recovers.
    Recovering,
    /// The engine runs.
    Running,
    /// The engine is being stopped, or is stopped on purpose.
    Stopping,
    /// It cannot go on without a person; `last_error` says why.
    Failed,
}

/// A file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Size.
    pub size: u64,
    /// Free for an unprivileged writer.
    pub free: u64,
}

/// Body of a [`RELOAD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// Hash of the configuration that should be in force.
    pub config_hash: String,
}

/// Body of a [`RESTART`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Nonce from the status that the decision was made on; another one is refused (409), so that
    /// a restart is never made twice.
    pub nonce: String,
    /// Why, for the log.
    pub reason: String,
}

/// Body of a [`HAND_OVER`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOver {
    /// As in [`Restart`].
    pub nonce: String,
    /// Name of the instance that takes over. It streams from the primary.
    pub to: String,
    /// Why, for the log.
    pub reason: String,
}

/// Body of an [`UPGRADE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// As in [`Restart`].
    pub nonce: String,
    /// SHA-256 of the program, in hexadecimal.
    pub sha256: String,
    /// Why, for the log.
    pub reason: String,
}
