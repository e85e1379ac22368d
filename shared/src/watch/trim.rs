//! What of an object is kept: what somebody reads, without noise that would cause passes.

use serde_json::Value;

use crate::names;

/// Versions of our own API begin so.
const OURS: &str = "mainstay.dev/";

/// Cut an object down, in place.
///
/// Guarantees: two versions of an object that differ only in what nobody acts on (managed fields,
/// renewals of a Lease, heartbeat times) are the same afterwards, but for the resource version,
/// which [`super::Cache`] keeps apart.
pub fn trim(kind: &str, object: &mut Value) {
    let version = object.get("apiVersion").and_then(Value::as_str);
    let ours = version.is_some_and(|v| v.starts_with(OURS));
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "selfLink", "generateName"] {
            meta.remove(field);
        }
        // Operations, backups and restores are done in the order in which they were made; and what is made of a repository is made
        // of what was there when it was asked for.
        if !ours && !matches!(kind, "Operation" | "Backup" | "Restore") {
            meta.remove("creationTimestamp");
        }
        if let Some(notes) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    match kind {
        "Pod" => pod(object),
        "Lease" => drop_fields(object, "/spec", &["renewTime"]),
        // The state of what we apply; nobody here reads it, and it changes with every pod.
        "PodDisruptionBudget" | "NetworkPolicy" => {
            if let Some(map) = object.as_object_mut() {
                map.remove("status");
            }
        }
        "Deployment" => keep_fields(
            object,
            "/status",
            &[
                "observedGeneration",
                "readyReplicas",
                "replicas",
                "updatedReplicas",
            ],
        ),
        _ => {}
    }
}

fn drop_fields(object: &mut Value, at: &str, fields: &[&str]) {
    if let Some(map) = object.pointer_mut(at).and_then(Value::as_object_mut) {
        for field in fields {
            map.remove(*field);
        }
    }
}

fn keep_fields(object: &mut Value, at: &str, fields: &[&str]) {
    if let Some(map) = object.pointer_mut(at).and_then(Value::as_object_mut) {
        map.retain(|key, _| fields.contains(&key.as_str()));
    }
}

/// Of a pod that runs to its end everything about that end is kept.
fn ends(object: &Value) -> bool {
    object
        .pointer("/metadata/labels")
        .and_then(|l| l.get(names::COMPONENT)?.as_str())
        == Some(names::DRILL)
}

/// A pod is pinned: its spec is never compared, so only where it runs and what is kept.
fn pod(object: &mut Value) {
    let ends = ends(object);
    keep_fields(object, "/spec", &["nodeName", "containers"]);
    for container in list(object, "/spec/containers") {
        keep_fields(container, "", &["name", "image"]);
    }
    let mut kept = vec![
        "phase",
        "podIP",
        "conditions",
        "containerStatuses",
        "initContainerStatuses",
        "startTime",
    ];
    if ends {
        kept.extend(["reason", "message"]);
    }
    keep_fields(object, "/status", &kept);
    for condition in list(object, "/status/conditions") {
        keep_fields(
            condition,
            "",
            &["type", "status", "reason", "message", "lastTransitionTime"],
        );
    }
    if let Some(conditions) = object
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    {
        conditions.retain(|c| match c["type"].as_str() {
            Some("Ready" | "PodScheduled") => true,
            Some("DisruptionTarget") => ends,
            _ => false,
        });
    }
    for at in ["/status/containerStatuses", "/status/initContainerStatuses"] {
        for container in list(object, at) {
            keep_fields(
                container,
                "",
                &[
                    "name",
                    "image",
                    "imageID",
                    "ready",
                    "restartCount",
                    "state",
                    "lastState",
                ],
            );
            // Only a reason to wait is read, and of what comes before the engine whether it runs and why it
            // ended; of one that brings data back also what it reached.
            let first = at == "/status/initContainerStatuses";
            let restores = container.get("name").and_then(Value::as_str) == Some(names::RESTORE);
            let states: &[&str] = if ends || (first && restores) {
                &["waiting", "running", "terminated"]
            } else if first {
                &["waiting", "running"]
            } else {
                &["waiting"]
            };
            keep_fields(container, "/state", states);
            keep_fields(container, "/state/running", &[]);
            keep_fields(
                container,
                "/state/terminated",
                &["exitCode", "message", "reason"],
            );
            let last: &[&str] = if first { &["terminated"] } else { &[] };
            keep_fields(container, "/lastState", last);
            keep_fields(container, "/lastState/terminated", &["exitCode", "message"]);
        }
    }
}

fn list<'a>(object: &'a mut Value, at: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .pointer_mut(at)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_renewal_of_a_lease_is_no_change() {
        let lease = |time: &str| {
            let mut value = json!({"metadata": {"name": "db", "managedFields": [time]},
                "spec": {"holderIdentity": "h", "renewTime": time}});
            trim("Lease", &mut value);
            value
        };
        assert_eq!(lease("1"), lease("2"));
        assert_eq!(lease("1")["spec"]["holderIdentity"], "h");
    }

    #[test]
    fn the_end_of_a_drill_is_kept() {
        let mut value = json!({"metadata": {"name": "d", "labels": {names::COMPONENT: names::DRILL}},
            "spec": {"containers": []},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "low on disk", "containerStatuses": [
                {"name": "drill", "image": "i", "imageID": "d", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 1, "message": "{}", "containerID": "x"}}}]}});
        let mut other = value.clone();
        trim("Pod", &mut value);
        assert_eq!(value["status"]["reason"], "Evicted");
        let end = &value["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(*end, json!({"exitCode": 1, "message": "{}"}));
        other["metadata"]["labels"] = json!({});
        trim("Pod", &mut other);
        assert!(other["status"]["reason"].is_null());
    }

    #[test]
    fn what_a_restore_reached_is_kept() {
        let ended = |name: &str| {
            let mut value = json!({"metadata": {"name": "db-4"}, "spec": {"containers": []},
                "status": {"phase": "Running", "initContainerStatuses": [
                    {"name": name, "image": "i", "imageID": "d", "ready": true, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "message": "{}", "containerID": "x"}}}]}});
            trim("Pod", &mut value);
            value["status"]["initContainerStatuses"][0]["state"]["terminated"].clone()
        };
        assert_eq!(
            ended(names::RESTORE),
            json!({"exitCode": 0, "message": "{}"})
        );
        assert!(ended("install").is_null());
    }

    #[test]
    fn what_is_done_in_its_order_keeps_its_time() {
        for (kind, kept) in [
            ("Operation", true),
            ("Backup", true),
            ("Restore", true),
            ("Pod", false),
        ] {
            let mut value = json!({"metadata": {"creationTimestamp": "2026-03-01T12:00:00Z"}});
            trim(kind, &mut value);
            assert_eq!(
                value["metadata"].get("creationTimestamp").is_some(),
                kept,
                "{kind}"
            );
        }
        let mut value = json!({"apiVersion": "mainstay.dev/v1alpha1",
            "metadata": {"creationTimestamp": "2026-03-01T12:00:00Z"}});
        trim("Postgres", &mut value);
        assert!(value["metadata"].get("creationTimestamp").is_some());
    }

    #[test]
    fn a_trimmed_pod_is_still_a_pod() {
        let mut value = json!({"metadata": {"name": "db-1"},
            "spec": {"nodeName": "n1", "containers": [{"name": "postgres", "image": "i", "env": []}], "volumes": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": null},
                {"type": "Initialized", "status": "True"}],
              "containerStatuses": [{"name": "postgres", "image": "i", "imageID": "d", "ready": true,
                "restartCount": 0, "state": {"waiting": {"reason": "X"}}, "lastState": {}}]}});
        trim("Pod", &mut value);
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(value).unwrap();
        let status = pod.status.unwrap();
        assert_eq!(status.conditions.unwrap().len(), 1);
        let container = &status.container_statuses.unwrap()[0];
        let waiting = container.state.clone().unwrap().waiting.unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("X"));
    }
}
