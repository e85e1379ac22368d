//! Whether every desired field still stands in the live object.
//!
//! A comparison as server-side apply would see it: what others added to maps and keyed lists is
//! theirs and left alone; atomic lists and maps are one value, so an addition to them is drift.
//! What the API server leaves out (empty values) or fills in (defaults) is no drift. The rules
//! below are those of the kinds that Mainstay applies, read off their published schemas.

use serde_json::{Map, Value};

use super::quantity;

/// How the elements of a list are matched.
enum List {
    /// One value: same length, same order.
    Atomic,
    /// Desired elements must be there, order and further ones do not matter.
    Set,
    /// Elements are objects matched by these fields.
    Keyed(&'static [&'static str]),
}

/// Lists that are not atomic: name of the list, what it is in (any if empty), how it is matched.
const LISTS: &[(&str, &str, List)] = &[
    ("finalizers", "metadata", List::Set),
    ("ownerReferences", "metadata", List::Keyed(&["uid"])),
    ("containers", "", List::Keyed(&["name"])),
    ("initContainers", "", List::Keyed(&["name"])),
    ("env", "", List::Keyed(&["name"])),
    ("volumes", "", List::Keyed(&["name"])),
    ("volumeMounts", "", List::Keyed(&["mountPath"])),
    ("imagePullSecrets", "", List::Keyed(&["name"])),
    (
        "topologySpreadConstraints",
        "",
        List::Keyed(&["topologyKey", "whenUnsatisfiable"]),
    ),
    (
        "ports",
        "containers",
        List::Keyed(&["containerPort", "protocol"]),
    ),
    ("conditions", "status", List::Keyed(&["type"])),
];

/// Maps that are one value: an entry that someone else added changes the meaning.
const ATOMIC_MAPS: &[&str] = &[
    "selector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "nodeSelector",
    "roleRef",
    "ipBlock",
];

/// What the API server fills in inside atomic values.
const DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP"), ("apiVersion", "v1"), ("apiGroup", "")];

/// Fields that hold amounts, or maps of amounts.
const QUANTITIES: &[&str] = &[
    "requests",
    "limits",
    "storage",
    "sizeLimit",
    "hard",
    "divisor",
];

/// Booleans that the API server leaves out when they are false.
const FALSE_IS_ABSENT: &[&str] = &[
    "publishNotReadyAddresses",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "readOnly",
    "stdin",
    "tty",
];

/// Path of the first desired field that does not stand in `live`, for example
/// `spec.ports[0].port`. None when all stand.
pub fn first_difference(kind: &str, desired: &Value, live: &Value) -> Option<String> {
    let (Value::Object(desired), Value::Object(live)) = (desired, live) else {
        return (desired != live).then(String::new);
    };
    for (name, want) in desired {
        // Lists leave kind and version out of their items; the status is its own subresource.
        if matches!(name.as_str(), "apiVersion" | "kind" | "status") {
            continue;
        }
        let have = live.get(name).unwrap_or(&Value::Null);
        let found = match (kind, name.as_str()) {
            ("Pod", "spec") => pod_images(want, have),
            _ => walk(
                &Place {
                    kind,
                    path: name.clone(),
                    name,
                    parent: "",
                    strict: false,
                },
                want,
                have,
            ),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The one part of a pod's specification that can be changed in place and that we decide.
/// Everything else in it is immutable, or filled in at admission. Containers that are not in
/// `live` were left out by whoever read it: a pod never loses one.
fn pod_images(desired: &Value, live: &Value) -> Option<String> {
    ["containers", "initContainers"]
        .into_iter()
        .find_map(|list| {
            elements(desired.get(list)).iter().find_map(|want| {
                let name = want.get("name");
                let have = elements(live.get(list))
                    .iter()
                    .find(|have| have.get("name") == name)?;
                let name = name.and_then(Value::as_str).unwrap_or_default();
                (have.get("image") != want.get("image"))
                    .then(|| format!("spec.{list}[{name}].image"))
            })
        })
}

/// Where in the object a comparison is.
struct Place<'a> {
    kind: &'a str,
    path: String,
    /// Name of the field.
    name: &'a str,
    /// Name of the field around it.
    parent: &'a str,
    /// Inside an atomic value: additions are drift.
    strict: bool,
}

impl<'a> Place<'a> {
    fn field(&self, name: &'a str) -> Self {
        Self {
            kind: self.kind,
            path: format!("{}.{name}", self.path),
            name,
            parent: self.name,
            strict: self.strict || ATOMIC_MAPS.contains(&name),
        }
    }

    fn element(&self, index: usize, strict: bool) -> Self {
        Self {
            kind: self.kind,
            path: format!("{}[{index}]", self.path),
            // An element's fields are found in the list.
            name: self.name,
            parent: self.parent,
            strict: self.strict || strict,
        }
    }

    fn list(&self) -> &'static List {
        if (self.kind, self.name, self.parent) == ("Service", "ports", "spec") {
            return &List::Keyed(&["port", "protocol"]);
        }
        LISTS
            .iter()
            .find(|(name, parent, _)| *name == self.name && [self.parent, ""].contains(parent))
            .map_or(&List::Atomic, |(_, _, list)| list)
    }

    fn is_quantity(&self) -> bool {
        QUANTITIES.contains(&self.name) || QUANTITIES.contains(&self.parent)
    }
}

fn walk(at: &Place<'_>, want: &Value, have: &Value) -> Option<String> {
    match (want, have) {
        (Value::Object(want), have) => {
            let empty = Map::new();
            let have = have.as_object().unwrap_or(&empty);
            maps(at, want, have)
        }
        (Value::Array(want), have) => lists(at, want, elements(Some(have))),
        (want, Value::Null) if is_absent(at, want) => None,
        (Value::String(want), Value::String(have)) if at.is_quantity() => {
            (!quantity::same(want, have)).then(|| at.path.clone())
        }
        (want, have) => (want != have).then(|| at.path.clone()),
    }
}

fn maps(at: &Place<'_>, want: &Map<String, Value>, have: &Map<String, Value>) -> Option<String> {
    let missing = want.iter().find_map(|(name, want)| {
        walk(
            &at.field(name),
            want,
            have.get(name).unwrap_or(&Value::Null),
        )
    });
    missing.or_else(|| {
        let added = have.iter().find(|(name, value)| {
            at.strict && !want.contains_key(*name) && !is_empty(value) && !is_default(name, value)
        });
        added.map(|(name, _)| at.field(name).path)
    })
}

fn lists(at: &Place<'_>, want: &[Value], have: &[Value]) -> Option<String> {
    let kind = at.list();
    if matches!(kind, List::Atomic) && want.len() != have.len() {
        return Some(at.path.clone());
    }
    want.iter().enumerate().find_map(|(index, want)| {
        let place = at.element(index, matches!(kind, List::Atomic));
        match kind {
            List::Atomic => walk(&place, want, &have[index]),
            List::Set => (!have.contains(want)).then_some(place.path),
            List::Keyed(keys) => {
                match have
                    .iter()
                    .find(|have| keys.iter().all(|key| same_key(key, want, have)))
                {
                    Some(have) => walk(&place, want, have),
                    None => Some(place.path),
                }
            }
        }
    })
}

fn same_key(key: &str, want: &Value, have: &Value) -> bool {
    let value = |element: &Value| -> Option<Value> {
        element.get(key).cloned().or_else(|| {
            DEFAULTS
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| Value::from(*value))
        })
    };
    value(want) == value(have)
}

fn elements(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the API server leaves such a value out.
fn is_absent(at: &Place<'_>, value: &Value) -> bool {
    match value {
        Value::Bool(false) => FALSE_IS_ABSENT.contains(&at.name),
        other => is_empty(other),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}

fn is_default(name: &str, value: &Value) -> bool {
    DEFAULTS
        .iter()
        .any(|(field, default)| *field == name && value.as_str() == Some(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value)] // literals read best
    fn difference(kind: &str, desired: Value, live: Value) -> Option<String> {
        first_difference(kind, &desired, &live)
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_drift() {
        let desired =
            json!({"spec": {"ports": [{"name": "sql", "port": 5432}], "selector": {"a": "b"}}});
        let live = json!({"spec": {
            "clusterIP": "10.0.0.1", "type": "ClusterIP",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP", "targetPort": 5432}],
            "selector": {"a": "b"},
        }, "status": {"loadBalancer": {}}});
        assert_eq!(difference("Service", desired, live), None);
    }

    #[test]
    fn an_added_selector_label_is_drift() {
        let desired = json!({"spec": {"selector": {"a": "b"}}});
        let live = json!({"spec": {"selector": {"a": "b", "c": "d"}}});
        assert_eq!(
            difference("Service", desired, live),
            Some("spec.selector.c".into())
        );
    }

    #[test]
    fn a_widened_network_policy_is_drift_and_its_defaults_are_not() {
        let peer = json!({"podSelector": {"matchLabels": {"x": "y"}}});
        let desired = json!({"spec": {"podSelector": {}, "ingress": [
            {"from": [peer], "ports": [{"port": 5432}]}]}});
        let mut live = json!({"spec": {"podSelector": {}, "ingress": [
            {"from": [peer], "ports": [{"port": 5432, "protocol": "TCP"}]}]}});
        assert_eq!(first_difference("NetworkPolicy", &desired, &live), None);
        let wider = json!({"podSelector": {"matchLabels": {"x": "y"}}, "namespaceSelector": {"matchLabels": {"z": "z"}}});
        live["spec"]["ingress"][0]["from"] = json!([wider]);
        assert_eq!(
            first_difference("NetworkPolicy", &desired, &live).as_deref(),
            Some("spec.ingress[0].from[0].namespaceSelector")
        );
        live["spec"]["ingress"][0]["from"] = json!([peer, {}]);
        assert_eq!(
            first_difference("NetworkPolicy", &desired, &live).as_deref(),
            Some("spec.ingress[0].from")
        );
        let closed = json!({"spec": {"ingress": []}});
        assert_eq!(
            first_difference("NetworkPolicy", &closed, &live).as_deref(),
            Some("spec.ingress")
        );
    }

    #[test]
    fn an_added_rule_of_a_role_is_drift() {
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let more = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
        assert_eq!(
            difference("Role", json!({"rules": [rule]}), json!({"rules": [more]})),
            Some("rules[0].verbs".into())
        );
        assert_eq!(
            difference(
                "Role",
                json!({"rules": [rule]}),
                json!({"rules": [rule, more]})
            ),
            Some("rules".into())
        );
    }

    #[test]
    fn what_others_add_to_granular_maps_and_keyed_lists_is_theirs() {
        let desired = json!({"metadata": {"labels": {"a": "b"}, "ownerReferences": [{"uid": "1", "name": "x"}]}});
        let live = json!({"metadata": {"labels": {"a": "b", "team": "t"},
            "ownerReferences": [{"uid": "9", "name": "y"}, {"uid": "1", "name": "x"}]}});
        assert_eq!(difference("ConfigMap", desired, live), None);
    }

    #[test]
    fn empty_values_are_as_absent() {
        let desired = json!({"metadata": {"annotations": {}, "creationTimestamp": null},
            "spec": {"publishNotReadyAddresses": false, "externalName": "", "ports": []}});
        assert_eq!(
            difference("Service", desired, json!({"metadata": {}, "spec": {}})),
            None
        );
        // But a default of true makes a removed `false` matter.
        let sa = json!({"automountServiceAccountToken": false});
        assert_eq!(
            difference("ServiceAccount", sa, json!({})),
            Some("automountServiceAccountToken".into())
        );
    }

    #[test]
    fn amounts_are_compared_as_amounts() {
        let of = |size| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(
            difference("PersistentVolumeClaim", of("1Gi"), of("1024Mi")),
            None
        );
        assert!(difference("PersistentVolumeClaim", of("1Gi"), of("2Gi")).is_some());
    }

    #[test]
    fn of_a_pod_only_metadata_and_images_are_compared() {
        let desired = json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"tolerations": [], "containers": [{"name": "x", "image": "i:1"}]}});
        let mut live = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "n",
            "tolerations": [{"key": "k"}], "containers": [{"name": "x", "image": "i:1"}]}});
        assert_eq!(first_difference("Pod", &desired, &live), None);
        live["spec"]["containers"][0]["image"] = "i:2".into();
        assert_eq!(
            first_difference("Pod", &desired, &live),
            Some("spec.containers[x].image".into())
        );
    }
}
