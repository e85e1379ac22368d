//! What the operator tells the poolers of a set, as one JSON file in a ConfigMap.

use mainstay_crds::postgres::pooler::PoolMode;
use serde::{Deserialize, Serialize};

/// Where a pooler leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// To the primary.
    #[value(name = "rw")]
    Primary,
    /// To replicas.
    #[value(name = "ro")]
    Replicas,
}

impl Side {
    /// As it stands in names and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "rw",
            Self::Replicas => "ro",
        }
    }
}

/// Configuration of the poolers of a set, as mounted. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolerConfig {
    /// Name of the set.
    pub set: String,
    /// Its namespace.
    pub namespace: String,
    /// When a client gives its server connection back.
    pub mode: PoolMode,
    /// Connections to PostgreSQL for one user and database.
    pub pool_size: i32,
    /// Clients.
    pub max_connections: i32,
    /// For how long transactions are waited for, in seconds.
    pub pause_seconds: u32,
}
