//! The definitions (CRDs) that are installed in a cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::access::Access;
use crate::backup::Backup;
use crate::operation::Operation;
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::restore::Restore;

/// Longest text in a status that sets no bound of its own: nothing that an operator says is longer.
const STATUS_TEXT: u64 = 32_768;
/// Longest point in time as text.
const TIME_TEXT: u64 = 64;

/// Every definition, by the plural name of its kind.
///
/// Guarantees: structural, bounded (every list, map and text has a maximum, so that the cost of
/// each rule is bounded as well), no `nullable`, so that `has()` in a rule means what it says.
///
/// # Errors
/// When a definition cannot be written as JSON, which a unit test excludes.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    let all = [
        Access::crd(),
        Backup::crd(),
        Operation::crd(),
        Postgres::crd(),
        Redis::crd(),
        Restore::crd(),
    ];
    all.into_iter().map(finish).collect()
}

fn finish(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    if let Some(versions) = value
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else {
                continue;
            };
            walk(schema, &mut tidy);
            if let Some(status) = schema.pointer_mut("/properties/status") {
                walk(status, &mut bound);
            }
        }
    }
    serde_json::from_value(value)
}

/// Calls `f` on `schema` and on every schema in it.
pub(crate) fn walk(schema: &mut Value, f: &mut impl FnMut(&mut Value)) {
    f(schema);
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(name).filter(|s| s.is_object()) {
            walk(inner, f);
        }
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|inner| walk(inner, f));
    }
}

/// What the derived schema says and the API server need not know.
fn tidy(schema: &mut Value) {
    if let Some(map) = schema.as_object_mut() {
        map.remove("nullable");
        // The API server knows no such default; a list that may be absent is not required anyway.
        map.remove("default");
    }
}

/// Bounds texts of a status that have none.
fn bound(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    let is_text = map.get("type").and_then(Value::as_str) == Some("string");
    if is_text && !map.contains_key("maxLength") && !map.contains_key("enum") {
        let is_time = map.contains_key("format");
        map.insert(
            "maxLength".into(),
            if is_time { TIME_TEXT } else { STATUS_TEXT }.into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<Value> {
        definitions()
            .unwrap()
            .into_iter()
            .flat_map(|crd| crd.spec.versions)
            .map(|v| serde_json::to_value(v.schema.unwrap().open_api_v3_schema.unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn every_list_map_and_text_has_a_maximum() {
        for mut schema in schemas() {
            let mut unbounded = Vec::new();
            walk(&mut schema, &mut |s| {
                let has = |key: &str| s.get(key).is_some();
                let bounded = match s.get("type").and_then(Value::as_str) {
                    Some("string") => has("maxLength") || has("enum"),
                    Some("array") => has("maxItems"),
                    Some("object") => !has("additionalProperties") || has("maxProperties"),
                    Some(_) => true,
                    None => !has("x-kubernetes-int-or-string") || has("maxLength"),
                };
                if !bounded {
                    unbounded.push(s.clone());
                }
            });
            assert_eq!(unbounded, Vec::<Value>::new());
        }
    }

    #[test]
    fn every_field_is_documented() {
        for mut schema in schemas() {
            let mut bare = Vec::new();
            walk(&mut schema, &mut |s| {
                for (name, field) in s
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    if field.get("description").is_none() && name != "metadata" {
                        bare.push(name.clone());
                    }
                }
            });
            assert_eq!(bare, Vec::<String>::new());
        }
    }

    #[test]
    fn no_format_is_unsigned_or_unknown_to_the_api_server() {
        for mut schema in schemas() {
            walk(&mut schema, &mut |s| {
                if let Some(format) = s.get("format").and_then(Value::as_str) {
                    assert!(
                        ["int32", "int64", "date-time"].contains(&format),
                        "{format}"
                    );
                }
            });
        }
    }

    #[test]
    fn definitions_stay_small() {
        for crd in definitions().unwrap() {
            let size = serde_json::to_vec(&crd).unwrap().len();
            assert!(size < 200_000, "{:?}: {size} bytes", crd.metadata.name);
        }
    }
}
