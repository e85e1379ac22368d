//! What belongs to the pod that removes copies of keys from a repository, and who it may talk to. Both belong to the
//! operation and go with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::operation::Operation;

use super::backup::{repository, repository_mount, store_secrets};
use super::parts::{container_security, pod_security, resources};
use super::store::Access;
use super::volumes::mount;
use crate::backups::container::settings::{MEMORY_MIB, REPOSITORY, SECRETS, SHRED};
use crate::backups::destroy::CONTAINER;
use crate::metadata::drill_app;
use crate::{names, network};

/// Volume with the store's credentials.
const CREDENTIALS: &str = "store";
/// Volume with the repository, where it is on one.
const VOLUME: &str = "repository";

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

/// The pod, of the add-on `app`, whose processes are this user's. No key is in it.
///
/// # Errors
/// When its settings cannot be written as JSON, which they always can.
pub fn pod(
    operation: &Operation,
    settings: &ShredSettings,
    access: &Access,
    operator_image: &str,
    (app, user): (&str, i64),
) -> Result<Pod, serde_json::Error> {
    let mut volumes = vec![store_secrets(CREDENTIALS, access)];
    volumes.extend(repository(VOLUME, access));
    let mut mounts = vec![mount(CREDENTIALS, SECRETS, true)];
    let claim = access.claim.as_ref();
    mounts.extend(claim.map(|claim| repository_mount(VOLUME, REPOSITORY, claim, false)));
    let (request, limit) = MEMORY_MIB;
    let mib = |n: u32| i64::from(n) << 20;
    let container = Container {
        name: CONTAINER.into(),
        image: Some(operator_image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec![CONTAINER.into()]),
        env: Some(vec![EnvVar {
            name: SHRED.into(),
            value: Some(serde_json::to_string(settings)?),
            value_from: None,
        }]),
        resources: Some(resources(50, mib(request), mib(limit))),
        security_context: Some(container_security()),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    Ok(Pod {
        metadata: of_pod(operation, app),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".into()),
            active_deadline_seconds: Some(operation.spec.timeout_seconds().into()),
            termination_grace_period_seconds: Some(15),
            security_context: Some(pod_security(user)),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    })
}
