//! The volume claim of an instance.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use mainstay_crds::common::quantity;
use mainstay_shared::names;

use crate::validate::Validated;

/// The data claim of `instance`. It has no owner: it outlives the resource.
///
/// Caveat: it is `ReadWriteOnce`, since `ReadWriteOncePod` is refused by volumes that are no CSI
/// driver's. What keeps two pods off one volume is that an instance has one pod, by name.
pub fn claim(v: &Validated, instance: &str) -> PersistentVolumeClaim {
    let mut metadata = v.set.kept(names::data_claim(instance), "data");
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::INSTANCE.to_owned(), instance.to_owned());
    PersistentVolumeClaim {
        metadata,
        spec: Some(spec(v)),
        status: None,
    }
}

/// A volume for data: as large as an instance's, of the same class.
pub fn spec(v: &Validated) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".into()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([(
                "storage".to_owned(),
                quantity::of_bytes(v.storage),
            )])),
            limits: None,
        }),
        storage_class_name: v.storage_class.clone(),
        volume_mode: Some("Filesystem".into()),
        ..PersistentVolumeClaimSpec::default()
    }
}
