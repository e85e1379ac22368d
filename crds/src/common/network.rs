//! Who may connect.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Who may connect. Nobody else can: every instance is isolated by network policies.
///
/// Besides the clients listed here, pods of the same namespace that carry the label
/// `access.mainstay.dev/<name of the resource>: allow` may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Clients that may connect, besides labelled pods of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub clients: Vec<AllowedClient>,
}

/// Pods that may connect. At least one of the two selectors is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::client_selects())]
pub struct AllowedClient {
    /// Namespaces by labels; absent: the namespace of the resource.
    /// Every namespace carries `kubernetes.io/metadata.name: <its name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label_map")]
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Pods by labels; absent: every pod of those namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label_map")]
    pub pod_labels: Option<BTreeMap<String, String>>,
}
