//! What something that is done once is done to.

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use super::sentences;

/// Kinds that something is done to.
pub const KINDS: &[&str] = &["Postgres", "Redis"];

/// The resource that something is done to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Target {
    /// Its kind: `Postgres` or `Redis`.
    #[schemars(length(max = 63))]
    #[x_kube(validation = known_kind())]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
}

fn known_kind() -> Rule {
    let kinds: Vec<String> = KINDS.iter().map(|k| format!("'{k}'")).collect();
    Rule::new(format!("self in [{}]", kinds.join(","))).message(sentences::TARGET_KIND)
}
