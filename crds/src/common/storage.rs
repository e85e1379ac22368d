//! The volume of each instance.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{quantity, rules};

/// The volume of each instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::storage_class_is_fixed())]
pub struct Storage {
    /// Size of the volume of each instance, for example `20Gi`. It can grow and never shrink.
    #[serde(deserialize_with = "quantity::read")]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = rules::storage_size(), validation = rules::storage_grows())]
    pub size: Quantity,
    /// Name of the StorageClass; absent: the cluster's default. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::storage_class())]
    pub class: Option<String>,
}
