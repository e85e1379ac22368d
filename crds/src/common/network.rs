//! Who may connect.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may connect. Nobody else can: every instance is isolated by network policies.
///
/// Besides the clients listed here, pods of the same namespace that carry the label
/// `access.mainstay.dev/<name of the resource>: allow` may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Clients that may connect, besides labelled pods of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub clients: Vec<AllowedClient>,
}

/// Pods that may connect. At least one of the two selectors is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedClient {
    /// Namespaces by labels; absent: the namespace of the resource.
    /// Every namespace carries `kubernetes.io/metadata.name: <its name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Pods by labels; absent: every pod of those namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<BTreeMap<String, String>>,
}
