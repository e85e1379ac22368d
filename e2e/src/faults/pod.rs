//! Pods that are deleted.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::FaultError;

/// How a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// As `kubectl delete` does: it gets its grace period.
    Graceful,
    /// The object goes at once, whatever its processes do.
    Forced,
}

/// Deletes exactly this pod, not one that has its name by now.
///
/// # Errors
/// It is gone, or another has its name.
pub async fn delete(client: &Client, pod: &Pod, how: Deletion) -> Result<(), FaultError> {
    let namespace = pod.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut parameters = DeleteParams::default().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    if how == Deletion::Forced {
        parameters.grace_period_seconds = Some(0);
    }
    pods.delete(&pod.name_any(), &parameters).await?;
    Ok(())
}
