//! What belongs to the pod that removes copies of keys from a repository, and who it may talk to. Both belong to the
//! operation and go with it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use mainstay_crds::operation::Operation;

use super::store::Access;
use crate::backups::destroy::CONTAINER;
use crate::metadata::drill_app;
use crate::{names, network};

/// Name of the pod and of its policy.
pub fn name(operation: &Operation) -> String {
    format!("{CONTAINER}-{}", operation.uid().unwrap_or_default())
}

fn metadata(operation: &Operation, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name(operation)),
        namespace: operation.namespace(),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            controller: Some(true),
            block_owner_deletion: None,
            ..operation.controller_owner_ref(&()).unwrap_or_default()
        }]),
        ..ObjectMeta::default()
    }
}

/// By what the policy knows the pod.
fn mark(operation: &Operation) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::MANAGED_BY.to_owned(), names::MANAGER.to_owned()),
        (names::COMPONENT.to_owned(), name(operation)),
    ])
}

/// Nothing reaches it, and it reaches names and the store.
pub fn policy(operation: &Operation, access: &Access) -> NetworkPolicy {
    let mark = mark(operation);
    network::aside(metadata(operation, mark.clone()), mark, access.port)
}

/// Metadata of the pod. Its labels are those of a drill's of the add-on `app`, which nothing of a set means, so that it
/// is watched.
pub fn of_pod(operation: &Operation, app: &str) -> ObjectMeta {
    let mut labels = mark(operation);
    labels.insert(names::APP_NAME.to_owned(), drill_app(app));
    labels.insert(
        names::APP_INSTANCE.to_owned(),
        operation.spec.target.name.clone(),
    );
    metadata(operation, labels)
}
