//! Which objects of a set are not wanted any more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Key, Object};
use crate::names::{MANAGED_BY, MANAGER, PART, SET_UID};
use kube::core::ApiResource;

/// An object as it was seen when the decision to delete it was made.
///
/// A delete of it carries uid and resource version as preconditions, so that it never meets
/// another object of the same name, nor one that changed since.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The kind.
    pub resource: ApiResource,
    /// Kind, namespace and name.
    pub key: Key,
    /// Uid when seen.
    pub uid: String,
    /// Resource version when seen.
    pub resource_version: String,
}

impl Seen {
    /// What a delete needs of an object that was read. None if it was not read from an API server.
    pub fn of(object: &Object) -> Option<Self> {
        Some(Self {
            resource: object.resource.clone(),
            key: object.key(),
            uid: object.meta("uid")?.to_owned(),
            resource_version: object.meta("resourceVersion")?.to_owned(),
        })
    }
}

/// Live objects of the set with uid `set_uid` that no desired object stands for.
///
/// An object is the set's when we manage it (label) and it names the set's uid, as controller or
/// by the label for objects without owner reference.
///
/// Guarantee: never a volume claim, an authority, credentials or a certificate, that is, nothing
/// with the label `mainstay.dev/part`: their end is decided for each by its own rule, not by absence
/// from a list.
pub fn prune(set_uid: &str, live: &[Object], desired: &[Object]) -> Vec<Seen> {
    let wanted: BTreeSet<Key> = desired.iter().map(Object::key).collect();
    live.iter()
        .filter(|object| belongs(object, set_uid))
        .filter(|object| object.label(PART).is_none() && !object.is_terminating())
        .filter(|object| !wanted.contains(&object.key()))
        .filter_map(Seen::of)
        .collect()
}

/// Whether an object is managed by us and belongs to the set with that uid.
pub fn belongs(object: &Object, set_uid: &str) -> bool {
    object.label(MANAGED_BY) == Some(MANAGER)
        && (object.label(SET_UID) == Some(set_uid) || is_controlled(object, set_uid))
}

fn is_controlled(object: &Object, uid: &str) -> bool {
    object
        .value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == uid && owner["controller"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str, meta: &Value) -> Object {
        let mut value = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": "7"}});
        for (key, entry) in meta.as_object().unwrap() {
            value["metadata"][key] = entry.clone();
        }
        Object {
            resource: ApiResource::erase::<ConfigMap>(&()),
            value,
        }
    }

    fn owned(name: &str) -> Object {
        object(
            name,
            &json!({"labels": {MANAGED_BY: MANAGER},
                "ownerReferences": [{"uid": "set", "controller": true}]}),
        )
    }

    fn names(seen: &[Seen]) -> Vec<&str> {
        seen.iter().map(|s| s.key.name.as_str()).collect()
    }

    #[test]
    fn what_is_owned_and_not_desired_is_pruned_with_what_a_safe_delete_needs() {
        let labelled = object(
            "b",
            &json!({"labels": {MANAGED_BY: MANAGER, SET_UID: "set"}}),
        );
        let found = prune("set", &[owned("a"), labelled, owned("c")], &[owned("c")]);
        assert_eq!(names(&found), ["a", "b"]);
        assert_eq!(
            (found[0].uid.as_str(), found[0].resource_version.as_str()),
            ("u-a", "7")
        );
    }

    #[test]
    fn strangers_parts_and_what_is_already_going_are_left_alone() {
        let live = [
            object(
                "other-set",
                &json!({"labels": {MANAGED_BY: MANAGER, SET_UID: "other"}}),
            ),
            object("not-ours", &json!({"labels": {SET_UID: "set"}})),
            object(
                "data",
                &json!({"labels": {MANAGED_BY: MANAGER, SET_UID: "set", PART: "data"}}),
            ),
            object(
                "not-controlled",
                &json!({"labels": {MANAGED_BY: MANAGER}, "ownerReferences": [{"uid": "set"}]}),
            ),
            object(
                "going",
                &json!({"labels": {MANAGED_BY: MANAGER, SET_UID: "set"},
                    "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            ),
        ];
        assert_eq!(names(&prune("set", &live, &[])), [] as [&str; 0]);
    }

    #[test]
    fn the_same_name_in_another_kind_or_namespace_is_another_object() {
        let mut elsewhere = owned("a");
        elsewhere.value["metadata"]["namespace"] = "other".into();
        assert_eq!(names(&prune("set", &[owned("a")], &[elsewhere])), ["a"]);
    }
}
