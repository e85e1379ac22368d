//! Merge patches and JSON patches.

use serde_json::Value;

use super::status::Refusal;

/// `patch` merged into `target` as a JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The parts of RFC 6902 that controllers use: test, add, replace, remove.
pub fn json(target: &mut Value, operations: &Value) -> Result<(), Refusal> {
    for operation in operations.as_array().into_iter().flatten() {
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        let (path, value) = (text("path"), &operation["value"]);
        let failed = || {
            Refusal::invalid(format!(
                "the server rejected our request due to an error in our request: {operation}"
            ))
        };
        let (parent, key) = path.rsplit_once('/').ok_or_else(failed)?;
        let key = key.replace("~1", "/").replace("~0", "~");
        match text("op") {
            "test" => {
                if target.pointer(path).unwrap_or(&Value::Null) != value {
                    return Err(failed());
                }
            }
            op @ ("add" | "replace" | "remove") => {
                change(
                    target.pointer_mut(parent).ok_or_else(failed)?,
                    op,
                    &key,
                    value,
                )
                .ok_or_else(failed)?;
            }
            _ => return Err(failed()),
        }
    }
    Ok(())
}

fn change(parent: &mut Value, op: &str, key: &str, value: &Value) -> Option<()> {
    match parent {
        Value::Object(map) => match op {
            "add" => drop(map.insert(key.to_owned(), value.clone())),
            "replace" => *map.get_mut(key)? = value.clone(),
            _ => drop(map.remove(key)?),
        },
        Value::Array(list) => {
            let index = if key == "-" {
                list.len()
            } else {
                key.parse().ok()?
            };
            match op {
                "add" if index <= list.len() => list.insert(index, value.clone()),
                "replace" => *list.get_mut(index)? = value.clone(),
                "remove" if index < list.len() => drop(list.remove(index)),
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as j;

    #[test]
    fn a_merge_patch_removes_by_null_and_replaces_lists() {
        let mut object = j!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        merge(&mut object, &j!({"a": {"b": null, "d": 3}, "l": [9]}));
        assert_eq!(object, j!({"a": {"c": 2, "d": 3}, "l": [9]}));
    }

    #[test]
    fn a_json_patch_stops_at_a_failed_test() {
        let mut object = j!({"metadata": {"finalizers": ["a", "b"]}});
        let good = j!([{"op": "test", "path": "/metadata/finalizers/0", "value": "a"},
            {"op": "remove", "path": "/metadata/finalizers/0"}]);
        json(&mut object, &good).unwrap();
        assert_eq!(object, j!({"metadata": {"finalizers": ["b"]}}));
        assert_eq!(json(&mut object, &good).unwrap_err().code, 422);
        json(
            &mut object,
            &j!([{"op": "add", "path": "/metadata/finalizers/-", "value": "c"}]),
        )
        .unwrap();
        assert_eq!(object, j!({"metadata": {"finalizers": ["b", "c"]}}));
    }
}
