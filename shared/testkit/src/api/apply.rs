//! Server-side apply, as far as one manager per object and part of it needs.
//!
//! What each manager applied last stands beside the object. A field that it leaves out now is
//! removed, unless another manager applied it too. Lists are merged by the keys of the kinds that
//! operators apply, as published in their schemas; every other list is one value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What each manager applied last.
pub type Applied = BTreeMap<String, Value>;

/// Fields by which the elements of a list are told apart; none: the list is one value.
fn keys(parent: &str, name: &str, list: &[Value]) -> Option<&'static [&'static str]> {
    Some(match (parent, name) {
        (_, "ownerReferences") => &["uid"],
        (_, "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets")
        | ("status", "instances" | "certificates") => &["name"],
        (_, "volumeMounts") => &["mountPath"],
        (_, "conditions") => &["type"],
        (_, "ports") if list.iter().any(|e| e.get("containerPort").is_some()) => {
            &["containerPort", "protocol"]
        }
        // Of Services; those of network policies and endpoint slices are atomic and elsewhere.
        ("spec", "ports") => &["port", "protocol"],
        _ => return None,
    })
}

/// Maps that are one value.
const ATOMIC: &[&str] = &[
    "selector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "nodeSelector",
    "roleRef",
];

/// Merge what is applied into the object, and remove what the manager applied before and leaves out.
pub fn apply(live: &mut Value, before: Option<&Value>, now: &Value, others: &[&Value]) {
    if let Some(before) = before {
        retract("", live, before, now, others);
    }
    merge("", "", live, now);
}

fn merge(parent: &str, name: &str, live: &mut Value, now: &Value) {
    match (live, now) {
        (Value::Object(live), Value::Object(now)) if !ATOMIC.contains(&name) => {
            for (key, value) in now {
                match live.get_mut(key) {
                    Some(slot) => merge(name, key, slot, value),
                    None => drop(live.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(live), Value::Array(now)) if name == "finalizers" => {
            for value in now {
                if !live.contains(value) {
                    live.push(value.clone());
                }
            }
        }
        (Value::Array(live), Value::Array(now)) => match keys(parent, name, now) {
            Some(keys) => {
                for element in now {
                    match live.iter_mut().find(|have| same(keys, have, element)) {
                        Some(slot) => merge(name, "", slot, element),
                        None => live.push(element.clone()),
                    }
                }
            }
            None => live.clone_from(now),
        },
        (live, now) => *live = now.clone(),
    }
}

fn same(keys: &[&str], a: &Value, b: &Value) -> bool {
    let value = |element: &Value, key: &str| match element.get(key) {
        None if key == "protocol" => Value::from("TCP"),
        found => found.cloned().unwrap_or_default(),
    };
    keys.iter().all(|key| value(a, key) == value(b, key))
}

/// Remove from `live` what stands in `before` and neither in `now` nor with other managers.
fn retract(name: &str, live: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    match (live, before) {
        (Value::Object(live), Value::Object(before)) if !ATOMIC.contains(&name) => {
            for (key, was) in before {
                let theirs: Vec<&Value> = others.iter().filter_map(|o| o.get(key)).collect();
                match (now.get(key), live.get_mut(key)) {
                    (Some(now), Some(slot)) => retract_at(name, key, slot, was, now, &theirs),
                    (None, Some(slot)) => {
                        let empty = Value::Object(Map::new());
                        retract_at(name, key, slot, was, &empty, &theirs);
                        let gone = match slot {
                            Value::Object(map) => map.is_empty() || ATOMIC.contains(&key.as_str()),
                            Value::Array(list) => {
                                list.is_empty() || keys(name, key, list).is_none()
                            }
                            _ => true,
                        };
                        if gone && theirs.is_empty() {
                            live.remove(key);
                        }
                    }
                    (_, None) => {}
                }
            }
        }
        _ => {}
    }
}

fn retract_at(
    parent: &str,
    name: &str,
    live: &mut Value,
    was: &Value,
    now: &Value,
    others: &[&Value],
) {
    let (Value::Array(list), Value::Array(was)) = (&mut *live, was) else {
        return retract(name, live, was, now, others);
    };
    let none = vec![];
    let now = now.as_array().unwrap_or(&none);
    let owned_by_others = |element: &Value, keys: &[&str]| {
        others
            .iter()
            .filter_map(|o| o.as_array())
            .flatten()
            .any(|o| same(keys, o, element))
    };
    if name == "finalizers" {
        list.retain(|e| {
            !was.contains(e)
                || now.contains(e)
                || others
                    .iter()
                    .any(|o| o.as_array().is_some_and(|o| o.contains(e)))
        });
    } else if let Some(keys) = keys(parent, name, was) {
        list.retain(|e| {
            let mine = was.iter().any(|w| same(keys, w, e));
            !mine || now.iter().any(|n| same(keys, n, e)) || owned_by_others(e, keys)
        });
        for element in list.iter_mut() {
            let find = |from: &[Value]| from.iter().find(|x| same(keys, x, element)).cloned();
            if let (Some(was), Some(now)) = (find(was), find(now)) {
                retract(name, element, &was, &now, &[]);
            }
        }
    }
}

/// Managers other than `manager` that applied a different value to a field that is applied now.
pub fn conflicts(applied: &Applied, manager: &str, now: &Value) -> Vec<String> {
    applied
        .iter()
        .filter(|(name, theirs)| *name != manager && differs(theirs, now))
        .map(|(name, _)| name.clone())
        .collect()
}

/// By force: what another manager applied and is applied differently now is not theirs any more.
pub fn disown(theirs: &mut Value, now: &Value) {
    let (Value::Object(theirs), Value::Object(now)) = (theirs, now) else {
        return;
    };
    theirs.retain(|key, value| match (value, now.get(key)) {
        (Value::Object(_) | Value::Array(_), _) | (_, None) => true,
        (value, Some(now)) => value == now,
    });
    for (key, value) in theirs {
        if let Some(now) = now.get(key) {
            disown(value, now);
        }
    }
}

fn differs(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => theirs
            .iter()
            .filter(|(key, _)| {
                !matches!(
                    key.as_str(),
                    "apiVersion" | "kind" | "name" | "namespace" | "uid"
                )
            })
            .any(|(key, value)| ours.get(key).is_some_and(|ours| differs(value, ours))),
        (Value::Array(_), Value::Array(_)) => false,
        (theirs, ours) => theirs != ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_now_is_removed_and_what_others_set_stays() {
        let mut live = json!({"metadata": {"labels": {"a": "1", "b": "2", "theirs": "x"}}, "data": {"k": "v"}});
        let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "data": {"k": "v"}});
        apply(
            &mut live,
            Some(&before),
            &json!({"metadata": {"labels": {"a": "9"}}}),
            &[],
        );
        assert_eq!(
            live,
            json!({"metadata": {"labels": {"a": "9", "theirs": "x"}}})
        );
    }

    #[test]
    fn a_field_that_another_manager_applied_too_stays() {
        let mut live = json!({"data": {"k": "v", "l": "w"}});
        let before = json!({"data": {"k": "v", "l": "w"}});
        apply(
            &mut live,
            Some(&before),
            &json!({}),
            &[&json!({"data": {"k": "v"}})],
        );
        assert_eq!(live, json!({"data": {"k": "v"}}));
    }

    #[test]
    fn keyed_lists_are_merged_and_others_replaced() {
        let mut live = json!({"spec": {"containers": [{"name": "x", "image": "1", "tty": true}], "args": [1, 2]}});
        let now = json!({"spec": {"containers": [{"name": "x", "image": "2"}, {"name": "y"}], "args": [3]}});
        apply(&mut live, None, &now, &[]);
        assert_eq!(
            live,
            json!({"spec": {"containers": [{"name": "x", "image": "2", "tty": true}, {"name": "y"}], "args": [3]}})
        );
        let less = json!({"spec": {"containers": [{"name": "x"}]}});
        apply(&mut live, Some(&now), &less, &[]);
        assert_eq!(
            live,
            json!({"spec": {"containers": [{"name": "x", "tty": true}]}})
        );
    }

    #[test]
    fn a_selector_is_one_value() {
        let mut live = json!({"spec": {"selector": {"a": "b", "added": "x"}}});
        apply(
            &mut live,
            None,
            &json!({"spec": {"selector": {"a": "b"}}}),
            &[],
        );
        assert_eq!(live, json!({"spec": {"selector": {"a": "b"}}}));
    }
}
