//! From Kubernetes' objects to what the planners judge by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::observed::{ClaimSeen, NodeSeen, Phase, PodSeen, Waiting};
use crate::names;
use mainstay_crds::common::quantity;

/// Reasons for which the kubelet holds a container back and that do not pass by themselves soon.
const HELD_BACK: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Read a pod. `nodes` tells of a node, `engine` is the name of the engine's container.
pub fn pod(pod: &Pod, engine: &str, nodes: impl Fn(&str) -> NodeSeen) -> PodSeen {
    let annotation = |key: &str| annotation(&pod.metadata, key);
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let node = spec.and_then(|s| s.node_name.clone());
    let of_node = node.as_deref().map(nodes).unwrap_or_default();
    let condition = |kind: &str| {
        let conditions = status.and_then(|s| s.conditions.as_ref());
        conditions.and_then(|all| all.iter().find(|c| c.type_ == kind))
    };
    PodSeen {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
        phase: match status.and_then(|s| s.phase.as_deref()) {
            Some("Running") => Phase::Running,
            Some("Succeeded" | "Failed") => Phase::Ended,
            Some("Unknown") => Phase::Unknown,
            _ => Phase::Pending,
        },
        ready: condition("Ready").is_some_and(|c| c.status == "True"),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        zone: of_node.zone,
        cordoned: of_node.cordoned,
        node,
        ip: status.and_then(|s| s.pod_ip.clone()),
        image: spec
            .and_then(|s| s.containers.iter().find(|c| c.name == engine))
            .and_then(|c| c.image.clone()),
        role: label(&pod.metadata, names::ROLE),
        revision: annotation(names::REVISION),
        template: annotation(names::TEMPLATE),
        config_hash: annotation(names::CONFIG_HASH),
        waiting: unschedulable(pod).or_else(|| held_back(pod)),
    }
}

fn unschedulable(pod: &Pod) -> Option<Waiting> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    (condition.reason.as_deref() == Some("Unschedulable")).then(|| Waiting {
        reason: "Unschedulable".to_owned(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.as_ref().map(|t| t.0),
    })
}

fn held_back(pod: &Pod) -> Option<Waiting> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    for container in all {
        let Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) = &container.state
        else {
            continue;
        };
        let reason = waiting.reason.clone().unwrap_or_default();
        if HELD_BACK.contains(&reason.as_str()) {
            let message = waiting.message.clone().unwrap_or_else(|| reason.clone());
            return Some(Waiting {
                message: format!("container {}: {message}", container.name),
                reason,
                since: status.start_time.as_ref().map(|t| t.0),
            });
        }
    }
    None
}

/// Read a claim.
pub fn claim(claim: &PersistentVolumeClaim) -> ClaimSeen {
    let meta = &claim.metadata;
    let status = claim.status.as_ref();
    let storage = |map: Option<&BTreeMap<String, _>>| {
        map.and_then(|m| m.get("storage"))
            .and_then(|q| quantity::whole(q).ok())
    };
    let asked = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    let resize = status.and_then(|s| s.conditions.as_ref()).and_then(|all| {
        let stuck = ["ControllerResizeError", "NodeResizeError"];
        all.iter()
            .find(|c| stuck.contains(&c.type_.as_str()) && c.status == "True")
            .map(|c| c.message.clone().unwrap_or_else(|| c.type_.clone()))
    });
    ClaimSeen {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        bound: status.and_then(|s| s.phase.as_deref()) == Some("Bound"),
        lost: status.and_then(|s| s.phase.as_deref()) == Some("Lost"),
        deleting: meta.deletion_timestamp.is_some(),
        asked: storage(asked.and_then(|r| r.requests.as_ref())).unwrap_or_default(),
        got: storage(status.and_then(|s| s.capacity.as_ref())),
        resize,
        system_identifier: annotation(meta, names::SYSTEM_IDENTIFIER),
        last_role: annotation(meta, names::LAST_ROLE),
        epoch: annotation(meta, names::NOTED_EPOCH).and_then(|e| e.parse().ok()),
        set_uid: label(meta, names::SET_UID),
    }
}

fn label(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.labels.as_ref()?.get(key).cloned()
}

fn annotation(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(key).cloned()
}
