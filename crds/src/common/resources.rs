//! What an instance may use.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{quantity, rules};

/// Size of each instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processor time reserved for each instance, for example `500m` or `2`. Default: `250m`.
    /// It is a request without a limit: idle processor time may be used.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "quantity::read_option"
    )]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = rules::cpu())]
    pub cpu: Option<Quantity>,
    /// Memory of each instance, request and limit at once, for example `2Gi`. Default: `512Mi`.
    /// The engine's own memory settings are derived from it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "quantity::read_option"
    )]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = rules::memory())]
    pub memory: Option<Quantity>,
}
