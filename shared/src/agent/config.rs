//! What the operator tells the agents of one set, as one JSON file in a ConfigMap.

use std::collections::BTreeMap;

use mainstay_crds::common::{Durability, Enforcement};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    /// Zones of instances by their names, as far as they are known: a replica in the primary's
    /// zone does not count for an acknowledgement.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zones: BTreeMap<String, String>,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// With `quorum`: what happens while too few replicas can acknowledge.
    #[serde(default, skip_serializing_if = "Enforcement::is_default")]
    pub enforcement: Enforcement,
    /// The engine's own part.
    pub engine: E,
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
