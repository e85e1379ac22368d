//! Where instances run.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Where instances run. Two instances never share a node unless `nodes: Preferred`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// One instance per zone as far as zones go round. Default: `Preferred`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Requirement>,
    /// One instance per node. Default: `Required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Requirement>,
    /// Nodes reserved for such instances: a label they carry and a taint that instances tolerate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_nodes: Option<DedicatedNodes>,
    /// Labels that a node must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label_map")]
    pub node_labels: Option<BTreeMap<String, String>>,
    /// Name of the PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::priority_class())]
    pub priority_class: Option<String>,
}

/// How strong a wish for spreading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Requirement {
    /// An instance that cannot be placed so waits, and the status says why.
    Required,
    /// An instance that cannot be placed so is placed anyway, and `survives` says what that costs.
    Preferred,
}

/// Nodes labelled `key=value` and tainted `key=value:NoSchedule`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct DedicatedNodes {
    /// Key of both the label and the taint, for example `example.com/node-type`.
    #[schemars(length(max = 317))]
    #[x_kube(validation = rules::dedicated_key())]
    pub key: String,
    /// Value of both.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::dedicated_value())]
    pub value: String,
}

impl Placement {
    /// The wish for zones: preferred unless said.
    pub fn zones(this: Option<&Self>) -> Requirement {
        this.and_then(|p| p.zones).unwrap_or(Requirement::Preferred)
    }

    /// The wish for nodes: required unless said.
    pub fn nodes(this: Option<&Self>) -> Requirement {
        this.and_then(|p| p.nodes).unwrap_or(Requirement::Required)
    }
}
