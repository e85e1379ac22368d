//! The revision of a pod's template: the inputs of the resource that are in a pod, and their hash.
//!
//! The operator's own image, and how it shapes a pod, are not in it: upgrading the operator
//! restarts no data pod.

use std::collections::BTreeMap;

use mainstay_crds::common::quantity;
use serde_json::{Value, json};

use super::store::{Access, AuthorityRef};
use crate::agent::config::hash;
use crate::operator::validated::Common;

/// The inputs of a template, and the hash of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// 16 hexadecimal digits; a pod bears it as an annotation.
    pub hash: String,
    /// The inputs as a JSON object of texts; a pod bears them too, to tell differences.
    pub inputs: String,
}

impl Revision {
    /// The revision that these inputs make, by their paths in the specification.
    pub fn of(inputs: &BTreeMap<String, String>) -> Self {
        let inputs = json!(inputs).to_string();
        Self {
            hash: hash(&inputs),
            inputs,
        }
    }
}

/// What every engine's pods hold of a resource. A field that a later release adds must be left out while it is not set.
pub fn inputs(common: &Common, version: String) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::from([
        ("version".to_owned(), version),
        ("image".to_owned(), image(common)),
        ("cpu".to_owned(), format!("{}m", common.cpu_milli)),
        ("memory".to_owned(), quantity::of_bytes(common.memory).0),
    ]);
    if !common.image_pull_secrets.is_empty() {
        let names = common.image_pull_secrets.join(", ");
        inputs.insert("imagePullSecrets".to_owned(), names);
    }
    // By path, so that the text does not depend on the order in which fields are declared.
    if let Some(placement) = &common.placement {
        flatten("placement", &json!(placement), &mut inputs);
    }
    inputs
}

/// What pods hold with whom backups are made, besides: what is mounted. What is told by a file changes without new pods.
pub fn of_repository(inputs: &mut BTreeMap<String, String>, access: &Access) {
    let claim = access.claim.as_ref().map(|claim| format!("volume {claim}"));
    if let Some(mounted) = claim.or_else(|| access.credentials.clone()) {
        inputs.insert("backup".to_owned(), mounted);
    }
    if let Some(authority) = &access.authority {
        let (kind, name, key) = match authority {
            AuthorityRef::ConfigMap(name, key) => ("ConfigMap", name, key),
            AuthorityRef::Secret(name, key) => ("Secret", name, key),
        };
        inputs.insert(
            "backup.authority".to_owned(),
            format!("{kind} {name} {key}"),
        );
    }
}

/// The image that the user names. One from the catalogue counts by its source alone: a change of
/// the catalogue rolls no pod.
fn image(common: &Common) -> String {
    if common.image_is_named {
        common.image.clone()
    } else {
        "catalogue".to_owned()
    }
}

/// Adds the leaves of `value` to `all` by their paths, so that the text does not depend on the order in which fields
/// are declared.
pub fn flatten(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(&format!("{path}.{key}"), value, all);
            }
        }
        Value::String(text) => {
            all.insert(path.to_owned(), text.clone());
        }
        other => {
            all.insert(path.to_owned(), other.to_string());
        }
    }
}
