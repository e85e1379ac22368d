//! The volume claim of an instance.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use mainstay_crds::common::quantity;

use crate::metadata::SetId;
use crate::names;

/// The data claim of `instance`. It has no owner: it outlives the resource.
///
/// Caveat: it is `ReadWriteOnce`, since `ReadWriteOncePod` is refused by volumes that are no CSI
/// driver's. What keeps two pods off one volume is that an instance has one pod, by name.
pub fn claim(
    set: &SetId,
    instance: &str,
    storage: i64,
    class: Option<&str>,
) -> PersistentVolumeClaim {
    let mut metadata = set.kept(names::data_claim(instance), "data");
    metadata
        .labels
        .get_or_insert_default()
        .insert(names::INSTANCE.to_owned(), instance.to_owned());
    PersistentVolumeClaim {
        metadata,
        spec: Some(spec(storage, class)),
        status: None,
    }
}

/// A volume of so many bytes; of the cluster's default class unless one is named.
pub fn spec(storage: i64, class: Option<&str>) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".into()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([(
                "storage".to_owned(),
                quantity::of_bytes(storage),
            )])),
            limits: None,
        }),
        storage_class_name: class.map(str::to_owned),
        volume_mode: Some("Filesystem".into()),
        ..PersistentVolumeClaimSpec::default()
    }
}
