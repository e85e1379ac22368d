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
    /// Whether a last backup is made before anything goes; until it is there the resource stays, and its status
    /// says what it waits for. Default: true where there are backups and `volumes` is `Delete`. `false` ends
    /// the wait, also while the resource is being deleted; once the backup has begun nothing else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_backup: Option<bool>,
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

    /// Whether a last backup is made of a resource, which has `backups` or not: what was asked for counts also
    /// where it cannot be.
    pub fn final_backup(this: Option<&Self>, backups: bool) -> bool {
        let asked = this.and_then(|d| d.final_backup);
        asked.unwrap_or(backups && Self::volumes(this) == KeptVolumes::Delete)
    }

    /// What becomes of the volumes: kept unless `Delete` is asked for.
    pub fn volumes(this: Option<&Self>) -> KeptVolumes {
        this.and_then(|d| d.volumes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_backup_is_made_where_volumes_go() {
        let of = |volumes, final_backup| Deletion {
            volumes,
            final_backup,
            ..Deletion::default()
        };
        let made = |d: &Deletion, backups| Deletion::final_backup(Some(d), backups);
        let go = Some(KeptVolumes::Delete);
        assert!(made(&of(go, None), true));
        assert!(!made(&of(go, None), false), "there is no repository");
        assert!(!made(&of(go, Some(false)), true));
        assert!(!made(&of(None, None), true), "the volumes stay");
        assert!(made(&of(None, Some(true)), true));
        assert!(made(&of(go, Some(true)), false), "refused, not forgotten");
        assert!(!Deletion::final_backup(None, true));
    }
}
