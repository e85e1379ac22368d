//! The objects that the provisioner writes.

use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use mainstay_crds::common::quantity;
use serde_json::{Value, json};

use super::plan::volume_name;

/// Name of the provisioner, as storage classes give it.
pub const PROVISIONER: &str = "local.mainstay.dev";
/// Name of the default storage class.
pub const STORAGE_CLASS: &str = "local-loop";
/// Finalizer on volumes: data goes before the object is gone.
pub const FINALIZER: &str = "local.mainstay.dev/data";

/// The default storage class.
pub fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
        "reclaimPolicy": "Delete",
    })
}

/// The volume for `claim`, whose file system is mounted at `mount` on `node`.
pub fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &str,
    mount: &Path,
) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(&claim.uid().unwrap_or_default()),
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": spec.resources.and_then(|resources| resources.requests?.remove("storage"))},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(),
                "name": claim.name_any(),
                "uid": claim.uid(),
                "resourceVersion": claim.resource_version(),
            },
            "storageClassName": class.name_any(),
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "volumeMode": "Filesystem",
            "local": {"path": mount},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    })
}

/// The larger of what claim and volume say, in the claim's own words where they are the same size.
pub fn size_in_words(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    bytes: u64,
) -> Quantity {
    let asked = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let has = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    [asked, has]
        .into_iter()
        .flatten()
        .find(|words| {
            quantity::whole(words)
                .ok()
                .and_then(|size| u64::try_from(size).ok())
                == Some(bytes)
        })
        .cloned()
        .unwrap_or_else(|| Quantity(bytes.to_string()))
}

/// Merge patch of a claim's status that says that growth is done. Conditions of others stay.
pub fn grown_status(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let kept: Vec<_> = claim
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|condition| !super::plan::GROWING.contains(&condition.type_.as_str()))
        .collect();
    json!({
        "metadata": {"resourceVersion": claim.resource_version()},
        "status": {
            "capacity": {"storage": size},
            "allocatedResources": {"storage": size},
            "allocatedResourceStatuses": null,
            "conditions": kept,
        },
    })
}

/// The folder in which the file system of a `local` volume is mounted, and the node it is on.
pub fn place(volume: &PersistentVolume) -> Option<(&Path, &str)> {
    let spec = volume.spec.as_ref()?;
    let path = Path::new(&spec.local.as_ref()?.path);
    let terms = &spec
        .node_affinity
        .as_ref()?
        .required
        .as_ref()?
        .node_selector_terms;
    let node = terms
        .first()?
        .match_expressions
        .as_ref()?
        .first()?
        .values
        .as_ref()?
        .first()?;
    Some((path, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_leads_back_to_its_place_and_claim() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .unwrap();
        let class: StorageClass = serde_json::from_value(storage_class()).unwrap();
        let made: PersistentVolume =
            serde_json::from_value(volume(&claim, &class, "node2", Path::new("/s/v/pvc-u1")))
                .unwrap();
        assert_eq!(place(&made), Some((Path::new("/s/v/pvc-u1"), "node2")));
        assert!(super::super::plan::is_ours(&made));
        let spec = made.spec.clone().unwrap();
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u1"));
        assert_eq!(
            spec.persistent_volume_reclaim_policy.as_deref(),
            Some("Delete")
        );
        assert_eq!(size_in_words(&claim, &made, 1 << 30).0, "1Gi");
        assert_eq!(size_in_words(&claim, &made, 7).0, "7");
    }

    #[test]
    fn grown_status_keeps_conditions_of_others() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "data"},
            "status": {"conditions": [{"type": "Resizing", "status": "True"}, {"type": "Other", "status": "True"}]},
        }))
        .unwrap();
        let patch = grown_status(&claim, &Quantity("2Gi".into()));
        assert_eq!(
            patch["status"]["conditions"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
    }
}
