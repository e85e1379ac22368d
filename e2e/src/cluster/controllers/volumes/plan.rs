//! What a claim or a volume needs next: values in, a value out.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use mainstay_crds::common::quantity;

use super::objects::{FINALIZER, PROVISIONER};

/// Set by Kubernetes on a claim whose class has an external provisioner.
const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Set by the scheduler on a claim that waits for its first consumer.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Set on volumes that were made on demand; the value is who made them.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Conditions of a claim that say that growth is under way.
pub(super) const GROWING: [&str; 3] = [
    "Resizing",
    "FileSystemResizePending",
    "ControllerResizeError",
];

/// What a claim needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimPlan {
    /// Nothing, or nothing from us, or not yet.
    Nothing,
    /// A volume of `bytes` on `node`.
    Provision {
        /// Node that the scheduler chose.
        node: String,
        /// Size of the file, in bytes.
        bytes: u64,
    },
    /// The claim asks for what these volumes cannot do; the sentence goes into an event.
    Refuse(String),
    /// Its volume and its file system must have `bytes`; then volume and claim must say so.
    Grow {
        /// Size to reach, in bytes.
        bytes: u64,
    },
}

/// What a volume needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumePlan {
    /// It is not ours.
    Nothing,
    /// It must be mounted, if it is not.
    Mount,
    /// Its claim is gone and its data is not wanted: the object is to be deleted. The data goes
    /// afterwards, when nobody can claim it any more.
    Delete,
    /// The object is being deleted: file and mount go, then our finalizer.
    Destroy,
    /// The object is being deleted, but the data was to be retained: only the mount goes, then our
    /// finalizer.
    LetGo,
}

/// Whether `volume` was made by this provisioner.
pub fn is_ours(volume: &PersistentVolume) -> bool {
    volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(PROVISIONER)
}

/// Name of the volume that is made for a claim: unique for ever, hence safe to make twice.
pub fn volume_name(claim_uid: &str) -> String {
    format!("pvc-{claim_uid}")
}

/// What `claim` needs, given the volume that was made for it or that it is bound to.
pub fn claim(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>) -> ClaimPlan {
    if claim.metadata.deletion_timestamp.is_some() {
        return ClaimPlan::Nothing;
    }
    match volume {
        None => provision(claim),
        Some(volume) => grow(claim, volume),
    }
}

fn provision(claim: &PersistentVolumeClaim) -> ClaimPlan {
    let annotations = claim.annotations();
    if annotations.get(STORAGE_PROVISIONER).map(String::as_str) != Some(PROVISIONER) {
        return ClaimPlan::Nothing;
    }
    let Some(spec) = &claim.spec else {
        return ClaimPlan::Nothing;
    };
    let Some(node) = annotations
        .get(SELECTED_NODE)
        .filter(|node| !node.is_empty())
    else {
        return ClaimPlan::Nothing;
    };
    if spec
        .volume_name
        .as_ref()
        .is_some_and(|name| !name.is_empty())
    {
        return ClaimPlan::Nothing;
    }
    if spec
        .volume_mode
        .as_ref()
        .is_some_and(|mode| mode != "Filesystem")
    {
        return ClaimPlan::Refuse(
            "local volumes hold a file system; volumeMode Block cannot be had".into(),
        );
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if let Some(mode) = modes
        .iter()
        .find(|mode| mode.starts_with("ReadWriteMany") || mode.starts_with("ReadOnlyMany"))
    {
        return ClaimPlan::Refuse(format!(
            "a local volume belongs to one node; ask for ReadWriteOnce instead of {mode}"
        ));
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return ClaimPlan::Refuse(
            "local volumes are made empty; remove dataSource from the claim".into(),
        );
    }
    match requested(claim) {
        Ok(bytes) => ClaimPlan::Provision {
            node: node.clone(),
            bytes,
        },
        Err(sentence) => ClaimPlan::Refuse(sentence),
    }
}

fn grow(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> ClaimPlan {
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    if !bound || !is_ours(volume) || volume.metadata.deletion_timestamp.is_some() {
        return ClaimPlan::Nothing;
    }
    let Ok(wanted) = requested(claim) else {
        return ClaimPlan::Nothing;
    };
    let size = |capacity: Option<&std::collections::BTreeMap<_, _>>| {
        let quantity = capacity?.get("storage")?;
        quantity::whole(quantity)
            .ok()
            .and_then(|size| u64::try_from(size).ok())
    };
    let volume_size =
        size(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref())).unwrap_or(0);
    let claim_size = size(status.and_then(|status| status.capacity.as_ref())).unwrap_or(0);
    let under_way = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
        .iter()
        .any(|condition| GROWING.contains(&condition.type_.as_str()));
    // A volume may be larger than its claim asks for; it never shrinks.
    let goal = wanted.max(volume_size);
    if volume_size < goal || claim_size < goal || under_way {
        ClaimPlan::Grow { bytes: goal }
    } else {
        ClaimPlan::Nothing
    }
}

/// The size that a claim asks for, in bytes.
fn requested(claim: &PersistentVolumeClaim) -> Result<u64, String> {
    let asked = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"))
        .ok_or("the claim asks for no storage; set spec.resources.requests.storage")?;
    match quantity::whole(asked).map(u64::try_from) {
        Ok(Ok(bytes)) if bytes > 0 => Ok(bytes),
        _ => Err(format!(
            "{} is no size of a volume; ask for example for 1Gi",
            asked.0
        )),
    }
}

/// What `volume` needs.
pub fn volume(volume: &PersistentVolume) -> VolumePlan {
    if !is_ours(volume) {
        return VolumePlan::Nothing;
    }
    let wanted = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        != Some("Delete");
    let phase = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let released = matches!(phase, Some("Released" | "Failed"));
    let deleting = volume.metadata.deletion_timestamp.is_some();
    // Kubernetes holds an object with its own finalizer as long as a claim is bound to it.
    let only_ours = volume
        .finalizers()
        .iter()
        .all(|finalizer| finalizer == FINALIZER);
    match (deleting, wanted) {
        (false, false) if released => VolumePlan::Delete,
        (true, _) if !only_ours => VolumePlan::Mount,
        (true, true) => VolumePlan::LetGo,
        (true, false) => VolumePlan::Destroy,
        (false, _) => VolumePlan::Mount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn a_claim(change: impl FnOnce(&mut Value)) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u1", "annotations": {
                STORAGE_PROVISIONER: PROVISIONER, SELECTED_NODE: "node2",
            }},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"},
        });
        change(&mut claim);
        serde_json::from_value(claim).unwrap()
    }

    fn bound(asked: &str, has: &str) -> PersistentVolumeClaim {
        a_claim(|claim| {
            claim["spec"]["volumeName"] = json!("pvc-u1");
            claim["spec"]["resources"]["requests"]["storage"] = json!(asked);
            claim["status"] = json!({"phase": "Bound", "capacity": {"storage": has}});
        })
    }

    fn a_volume(change: impl FnOnce(&mut Value)) -> PersistentVolume {
        let mut volume = json!({
            "metadata": {"name": "pvc-u1", "annotations": {PROVISIONED_BY: PROVISIONER}, "finalizers": [FINALIZER]},
            "spec": {"capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Delete"},
            "status": {"phase": "Bound"},
        });
        change(&mut volume);
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn a_claim_gets_a_volume_once_a_node_is_chosen() {
        let made = ClaimPlan::Provision {
            node: "node2".into(),
            bytes: 1 << 30,
        };
        assert_eq!(claim(&a_claim(|_| ()), None), made);
        let waits: [fn(&mut Value); 5] = [
            |c| c["metadata"]["annotations"][SELECTED_NODE] = json!(""),
            |c| c["metadata"]["annotations"] = json!({STORAGE_PROVISIONER: PROVISIONER}),
            |c| c["metadata"]["annotations"][STORAGE_PROVISIONER] = json!("someone.else"),
            |c| c["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            |c| c["spec"]["volumeName"] = json!("by-hand"),
        ];
        for change in waits {
            assert_eq!(claim(&a_claim(change), None), ClaimPlan::Nothing);
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let bad: [fn(&mut Value); 5] = [
            |c| c["spec"]["volumeMode"] = json!("Block"),
            |c| c["spec"]["accessModes"] = json!(["ReadWriteOnce", "ReadWriteMany"]),
            |c| c["spec"]["dataSource"] = json!({"kind": "VolumeSnapshot", "name": "s"}),
            |c| c["spec"]["resources"] = json!({}),
            |c| c["spec"]["resources"]["requests"]["storage"] = json!("0"),
        ];
        for change in bad {
            let plan = claim(&a_claim(change), None);
            assert!(matches!(plan, ClaimPlan::Refuse(_)), "{plan:?}");
        }
    }

    #[test]
    fn a_volume_grows_until_everybody_says_so() {
        let two = ClaimPlan::Grow { bytes: 2 << 30 };
        let small = a_volume(|_| ());
        let large = a_volume(|v| v["spec"]["capacity"]["storage"] = json!("2Gi"));
        assert_eq!(
            claim(&bound("1Gi", "1Gi"), Some(&small)),
            ClaimPlan::Nothing
        );
        assert_eq!(claim(&bound("2Gi", "1Gi"), Some(&small)), two);
        // Interrupted after one of the two writes.
        assert_eq!(claim(&bound("2Gi", "2Gi"), Some(&small)), two);
        assert_eq!(claim(&bound("2Gi", "1Gi"), Some(&large)), two);
        assert_eq!(
            claim(&bound("2Gi", "2Gi"), Some(&large)),
            ClaimPlan::Nothing
        );
        // A larger volume than asked for stays as it is.
        assert_eq!(
            claim(&bound("1Gi", "2Gi"), Some(&large)),
            ClaimPlan::Nothing
        );
        // A condition that others set is cleared.
        let mut pending = bound("2Gi", "2Gi");
        pending.status.as_mut().unwrap().conditions = Some(vec![
            serde_json::from_value(json!({"type": "Resizing", "status": "True"})).unwrap(),
        ]);
        assert_eq!(claim(&pending, Some(&large)), two);
        // Not ours, or not yet bound.
        let foreign = a_volume(|v| v["metadata"]["annotations"] = json!({}));
        assert_eq!(
            claim(&bound("2Gi", "1Gi"), Some(&foreign)),
            ClaimPlan::Nothing
        );
        assert_eq!(claim(&a_claim(|_| ()), Some(&small)), ClaimPlan::Nothing);
    }

    #[test]
    fn data_goes_only_when_released_and_not_wanted() {
        let plan = |phase: &str, policy: &str, deleting: bool, finalizers: &[&str]| {
            volume(&a_volume(|v| {
                v["status"]["phase"] = json!(phase);
                v["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
                v["metadata"]["finalizers"] = json!(finalizers);
                if deleting {
                    v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
            }))
        };
        let protected = &[FINALIZER, "kubernetes.io/pv-protection"];
        assert_eq!(plan("Bound", "Delete", false, protected), VolumePlan::Mount);
        assert_eq!(
            plan("Available", "Delete", false, protected),
            VolumePlan::Mount
        );
        assert_eq!(
            plan("Released", "Retain", false, protected),
            VolumePlan::Mount
        );
        assert_eq!(
            plan("Released", "Delete", false, protected),
            VolumePlan::Delete
        );
        assert_eq!(
            plan("Released", "Delete", true, protected),
            VolumePlan::Mount
        );
        assert_eq!(plan("Bound", "Delete", true, protected), VolumePlan::Mount);
        assert_eq!(
            plan("Released", "Delete", true, &[FINALIZER]),
            VolumePlan::Destroy
        );
        assert_eq!(
            plan("Released", "Retain", true, &[FINALIZER]),
            VolumePlan::LetGo
        );
        let foreign = a_volume(|v| v["metadata"]["annotations"] = json!({}));
        assert_eq!(volume(&foreign), VolumePlan::Nothing);
    }
}
