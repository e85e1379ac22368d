//! From Kubernetes' objects to what the planners judge by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PersistentVolumeClaim, Pod};
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
        ready: condition("Ready").is_some_and(|c| {
            // What runs beside the engine is counted as well, and must not make it unready.
            let beside =
                || c.reason.as_deref() == Some("ContainersNotReady") && is_ready(pod, engine);
            c.status == "True" || beside()
        }),
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
        users_hash: annotation(names::USERS_HASH),
        waiting: unschedulable(pod).or_else(|| held_back(pod)),
        restoring: restoring(pod),
        restored: restored(pod),
    }
}

/// Whether the container is ready by itself.
fn is_ready(pod: &Pod, container: &str) -> bool {
    let status = pod.status.as_ref();
    let mut all = status
        .into_iter()
        .flat_map(|s| s.container_statuses.iter().flatten());
    all.any(|c| c.name == container && c.ready)
}

fn restoring(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut first = status
        .into_iter()
        .flat_map(|s| s.init_container_statuses.iter().flatten());
    first.any(|c| {
        let runs = c.state.as_ref().is_some_and(|s| s.running.is_some());
        c.name == names::RESTORE && runs
    })
}

/// What a container that has brought data back said at its end.
fn restored(pod: &Pod) -> Option<String> {
    let first = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let container = first.iter().find(|c| c.name == names::RESTORE)?;
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    words(ended.message.as_deref()?).filter(|_| ended.exit_code == 0)
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
    // Once the engine's container runs, only what runs beside it is left of those that come first: it may
    // be in trouble by itself.
    let runs = status.phase.as_deref() == Some("Running");
    let init = status.init_container_statuses.iter().flatten();
    let init = init.filter(|_| !runs);
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
            let message = last_words(container)
                .or_else(|| waiting.message.clone())
                .unwrap_or_else(|| reason.clone());
            return Some(Waiting {
                message: format!("container {}: {message}", container.name),
                reason,
                since: status.start_time.as_ref().map(|t| t.0),
            });
        }
    }
    None
}

/// Why a container ended last, in its own words: a text, or the `message` of what is JSON.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    words(ended.message.as_deref()?)
}

fn words(text: &str) -> Option<String> {
    let text = text.trim();
    let told = serde_json::from_str::<serde_json::Value>(text).ok();
    let told = told.and_then(|v| Some(v.get("message")?.as_str()?.to_owned()));
    let words = told.unwrap_or_else(|| text.to_owned());
    (!words.is_empty()).then_some(words)
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
        ran: annotation(meta, names::RAN),
        set_uid: label(meta, names::SET_UID),
        set_aside: label(meta, names::SET_ASIDE),
    }
}

fn label(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.labels.as_ref()?.get(key).cloned()
}

fn annotation(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(key).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::Phase;
    use serde_json::{Value, json};

    fn seen(status: &Value) -> PodSeen {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "db-1"}, "status": status}))
                .unwrap();
        pod_of(&pod)
    }

    fn pod_of(read: &Pod) -> PodSeen {
        pod(read, "postgres", |_| NodeSeen::default())
    }

    #[test]
    fn what_runs_beside_the_engine_makes_no_instance_unready() {
        let status = |phase: &str, reason: &str, ready: bool| {
            json!({
                "phase": phase,
                "conditions": [{"type": "Ready", "status": "False", "reason": reason}],
                "containerStatuses": [{"name": "postgres", "ready": ready, "image": "", "imageID": "",
                    "restartCount": 0}],
                "initContainerStatuses": [{"name": "backup", "ready": false, "image": "", "imageID": "",
                    "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
            })
        };
        let pod = seen(&status("Running", "ContainersNotReady", true));
        assert!(pod.ready && pod.waiting.is_none());
        assert!(!seen(&status("Running", "ContainersNotReady", false)).ready);
        // The node is gone: what it said last does not count.
        assert!(!seen(&status("Running", "NodeNotReady", true)).ready);
        // Nothing has come up yet: that is what it waits for.
        let pod = seen(&status("Pending", "ContainersNotReady", false));
        assert_eq!(pod.waiting.unwrap().reason, "CrashLoopBackOff");
    }

    #[test]
    fn a_restore_is_told_while_it_runs_and_by_its_last_words() {
        let status = |state: Value, last: Value| {
            json!({
                "phase": "Pending",
                "initContainerStatuses": [{"name": names::RESTORE, "ready": false, "image": "", "imageID": "",
                    "restartCount": 1, "state": state, "lastState": last}],
            })
        };
        let pod = seen(&status(json!({"running": {}}), json!({})));
        assert!(pod.restoring && pod.phase == Phase::Pending);
        let words =
            json!({"step": "Failed", "message": "no backup leads to that time"}).to_string();
        let pod = seen(&status(
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            json!({"terminated": {"exitCode": 1, "message": words}}),
        ));
        assert!(!pod.restoring);
        let message = pod.waiting.unwrap().message;
        assert_eq!(message, "container restore: no backup leads to that time");
        let ended = |code: i32| {
            let words = json!({"step": "Done", "message": "restored to 0/3000148"}).to_string();
            let state = json!({"terminated": {"exitCode": code, "message": words}});
            seen(&status(state, json!({}))).restored
        };
        assert_eq!(ended(0).as_deref(), Some("restored to 0/3000148"));
        assert_eq!(ended(1), None);
    }
}
