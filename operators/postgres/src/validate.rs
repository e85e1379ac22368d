//! From a spec to what is meant by it: defaults applied, quantities read, illegal combinations
//! unrepresentable.

use std::collections::BTreeMap;

use mainstay_crds::common::{AllowedClient, Durability, KeptVolumes, Placement};
use mainstay_shared::metadata::SetId;

/// A `Postgres` as it is meant. Everything derived is derived from this.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Identity of the resource.
    pub set: SetId,
    /// Major version, for example 17.
    pub major: u32,
    /// Image of the engine: the catalogue's or the user's.
    pub image: String,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// Number of instances, at least 1.
    pub instances: i32,
    /// Memory of each instance, in bytes.
    pub memory: i64,
    /// Processor time of each instance, in thousandths of a processor.
    pub cpu_milli: i64,
    /// Size of each volume, in bytes.
    pub storage: i64,
    /// StorageClass of the volumes; none: the cluster's default.
    pub storage_class: Option<String>,
    /// When a write is acknowledged: the effective value.
    pub durability: Durability,
    /// The user's parameters; none of them is managed.
    pub parameters: BTreeMap<String, String>,
    /// Where instances run.
    pub placement: Option<Placement>,
    /// Hours that an instance's certificate is valid.
    pub certificate_hours: i64,
    /// Clients that may connect, besides labelled pods of the namespace.
    pub clients: Vec<AllowedClient>,
    /// Whether deletion is refused.
    pub protected: bool,
    /// What becomes of the volumes of a deleted resource.
    pub volumes: KeptVolumes,
    /// Name of the application's database.
    pub database: String,
    /// Name of the role that owns it.
    pub owner: String,
}
