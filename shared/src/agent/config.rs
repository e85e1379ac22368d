//! What the operator tells the agents of one set, as one JSON file in a ConfigMap.

use std::collections::BTreeMap;

use mainstay_crds::common::{Durability, Enforcement, Rejoin};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::paths::TIMELINES_FILE;
use crate::hex::hex;

/// Configuration of every member of a set. `E` is the engine's part.
///
/// Guarantee: it holds no secret. A container restart needs neither API server nor operator, since
/// this file is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetConfig<E> {
    /// Name of the set: of the custom resource, of the Lease.
    pub set: String,
    /// Its namespace.
    pub namespace: String,
    /// Instances that belong to the set, by name.
    pub members: Vec<String>,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// With `quorum`: what happens while too few replicas can acknowledge.
    #[serde(default, skip_serializing_if = "Enforcement::is_default")]
    pub enforcement: Enforcement,
    /// With `quorum`: a replica in the primary's zone does not count for an acknowledgement, where
    /// instances are in more than one zone. Zones are told apart from this, by [`Zones`].
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub across_zones: bool,
    /// With `async`: most log, in bytes, that the replica which has most may lack; from there on commits
    /// wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<u64>,
    /// What becomes of data that has parted from the primary's.
    #[serde(default, skip_serializing_if = "Rejoin::is_default")]
    pub rejoin: Rejoin,
    /// The engine's own part.
    pub engine: E,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_yes(it: &bool) -> bool {
    *it
}

/// Zones of nodes by the nodes' names, as a file of its own beside the configuration
/// ([`super::paths::ZONES_FILE`]): wherever a pod is scheduled, the configuration and its hash stay.
///
/// A node's zone does not change, so what is mounted is right or absent, never outdated: an agent
/// looks for its own node.
pub type Zones = BTreeMap<String, String>;

/// The file with the highest number of a history that volumes have which were set aside
/// ([`super::paths::TIMELINES_FILE`]); none where there are none.
pub fn timelines(highest: u64) -> Option<(String, String)> {
    (highest > 0).then(|| (TIMELINES_FILE.to_owned(), highest.to_string()))
}

impl<E: Serialize> SetConfig<E> {
    /// The file's text and its hash, by which operator and agent know that they speak of the same.
    ///
    /// # Errors
    /// When `E` cannot be written as JSON, which a plain data type always can.
    pub fn render(&self) -> Result<(String, String), serde_json::Error> {
        let text = serde_json::to_string_pretty(self)?;
        let hash = hash(&text);
        Ok((text, hash))
    }
}

/// Hash of a rendered configuration: 16 hexadecimal digits of SHA-256.
pub fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..8])
}

/// Hash of logins, by which operator and agent know that they speak of the same. `None` when they cannot be written as JSON,
/// which plain data always can.
pub fn users_hash(roles: &[Role]) -> Option<String> {
    let mut roles: Vec<&Role> = roles.iter().collect();
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    serde_json::to_string(&roles).ok().map(|text| hash(&text))
}

/// A login that the agent makes in the engine: never a password, only what checks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Login name.
    pub name: String,
    /// What the engine keeps to check the password, for example a SCRAM verifier.
    pub verifier: String,
    /// Grants and engine-specific facts, for example `database: app`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}
