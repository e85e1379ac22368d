//! What the API server checks, and what counts as a change.

use serde_json::{Map, Value};

use super::status::Refusal;
use super::store::Id;

/// Kinds without a generation.
pub fn has_generation(id: &Id) -> bool {
    !matches!(
        id.resource.as_str(),
        "configmaps"
            | "secrets"
            | "services"
            | "serviceaccounts"
            | "leases"
            | "events"
            | "persistentvolumeclaims"
            | "roles"
            | "rolebindings"
            | "namespaces"
            | "nodes"
    )
}

pub fn differs_beyond_metadata(a: &Value, b: &Value) -> bool {
    let rest = |value: &Value| {
        let mut map = value.as_object().cloned().unwrap_or_else(Map::new);
        map.remove("metadata");
        map.remove("status");
        map
    };
    rest(a) != rest(b)
}

pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect()
}

/// Kind and version must be there, name and namespace those of the path.
pub fn check_place(id: &Id, object: &Value) -> Result<(), Refusal> {
    if object["kind"].as_str().is_none_or(str::is_empty)
        || object["apiVersion"].as_str().is_none_or(str::is_empty)
    {
        return Err(Refusal::bad("Object 'Kind' and 'apiVersion' must be set"));
    }
    let meta = &object["metadata"];
    if let (Some(body), Some(path)) = (meta["namespace"].as_str(), &id.namespace)
        && body != path
    {
        {
            let message = format!(
                "the namespace of the provided object does not match the namespace sent on the request ({body}, {path})"
            );
            return Err(Refusal::bad(message));
        }
    }
    if let (Some(body), false) = (meta["name"].as_str(), id.name.is_empty())
        && body != id.name
    {
        {
            return Err(Refusal::bad(
                "the name of the object does not match the name on the URL",
            ));
        }
    }
    Ok(())
}

/// A uid or resource version in the request must be that of what stands.
pub fn check_preconditions(id: &Id, live: Option<&Value>, wanted: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        let Some(wanted) = wanted[field].as_str().filter(|text| !text.is_empty()) else {
            continue;
        };
        let stands = live
            .and_then(|live| live["metadata"][field].as_str())
            .unwrap_or_default();
        if stands != wanted {
            let why = match field {
                "uid" => format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {stands}"),
                _ => "the object has been modified; please apply your changes to the latest version and try again".into(),
            };
            return Err(Refusal::conflict(id, &why));
        }
    }
    Ok(())
}

/// The same for a patch, where another uid is an attempt to change it.
pub fn check_patched(id: &Id, live: Option<&Value>, wanted: &Value) -> Result<(), Refusal> {
    let uid = |meta: &Value| meta["uid"].as_str().map(str::to_owned);
    let stands = live.and_then(|live| uid(&live["metadata"]));
    if let (Some(wanted), Some(stands)) = (uid(wanted), stands)
        && wanted != stands
    {
        let name = &id.name;
        let message = format!(
            "{name:?} is invalid: metadata.uid: Invalid value: {wanted:?}: field is immutable"
        );
        return Err(Refusal::invalid(message));
    }
    check_preconditions(id, live, wanted)
}

/// What cannot be changed, of what operators meet.
pub fn check_immutable(id: &Id, live: &Value, next: &Value) -> Result<(), Refusal> {
    let paths: &[&str] = match id.resource.as_str() {
        "services" => &["/spec/clusterIP"],
        "rolebindings" => &["/roleRef"],
        "persistentvolumeclaims" => &[
            "/spec/storageClassName",
            "/spec/accessModes",
            "/spec/volumeMode",
        ],
        "pods" => &[
            "/spec/volumes",
            "/spec/securityContext",
            "/spec/affinity",
            "/spec/hostname",
            "/spec/subdomain",
        ],
        "endpointslices" => &["/addressType"],
        _ => &[],
    };
    for path in paths {
        let (old, new) = (live.pointer(path), next.pointer(path));
        let cleared = new.is_none_or(Value::is_null) && *path == "/spec/clusterIP";
        if old.is_some() && old != new && !cleared {
            let message = format!(
                "{} {:?} is invalid: {path}: field is immutable",
                id.resource, id.name
            );
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}

/// `stringData` of a Secret is written as data.
pub fn encode_text(object: &mut Value) {
    use base64::Engine as _;
    if object["kind"] != "Secret" {
        return;
    }
    let Some(text) = object
        .as_object_mut()
        .and_then(|map| map.remove("stringData"))
    else {
        return;
    };
    for (key, value) in text.as_object().into_iter().flatten() {
        let plain = value.as_str().unwrap_or_default();
        object["data"][key] = base64::engine::general_purpose::STANDARD
            .encode(plain)
            .into();
    }
}

/// Only the parts of a patch that are null, so that they are removed.
pub fn nulls(patch: &Value) -> Value {
    match patch {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| v.is_null() || v.is_object());
            Value::Object(
                kept.map(|(key, value)| (key.clone(), nulls(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}
