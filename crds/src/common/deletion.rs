//! What deleting a resource does, and what it leaves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when the resource is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Refuse to delete this resource. Default: true. Set it to false, apply, then delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<bool>,
    /// What becomes of the volumes. Default: `Retain`. Retained volumes, keys and credentials are
    /// adopted by a new resource of the same name in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<KeptVolumes>,
}

/// What becomes of the volumes of a deleted resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeptVolumes {
    /// Volume claims and credentials stay and can be adopted.
    #[default]
    Retain,
    /// Volume claims, credentials and keys are deleted with the resource.
    Delete,
}

impl Deletion {
    /// Whether deletion is refused: true unless switched off.
    pub fn is_protected(this: Option<&Self>) -> bool {
        this.and_then(|d| d.protection).unwrap_or(true)
    }

    /// What becomes of the volumes: kept unless `Delete` is asked for.
    pub fn volumes(this: Option<&Self>) -> KeptVolumes {
        this.and_then(|d| d.volumes).unwrap_or_default()
    }
}
